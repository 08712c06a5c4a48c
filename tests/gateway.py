"""A server before the embedded AWS that answers some calls itself, as AWS may do on a bad day."""

from __future__ import annotations

import http.client
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ddbrelay.local import engine as engines


@dataclass
class Gateway:
    """`answers` maps an operation to a status and an error code; `held` ones wait for `release`.

    So do `unanswered` ones, after the engine has acted on them, and those that come after the first
    few that `passing` lets through. `calls` counts what came in and
    `acted` what the engine has done, by operation.
    """

    port: int
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    unanswered: set[str] = field(default_factory=set)
    passing: dict[str, int] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)
    calls: Counter[str] = field(default_factory=Counter)
    acted: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return engines.url(self.port)


def _handler(gateway: Gateway, engine: engines.Engine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            gateway.calls[operation] += 1
            few = gateway.passing.get(operation, gateway.calls[operation])
            if operation in gateway.held or gateway.calls[operation] > few:
                gateway.release.wait(60)
            if operation in gateway.answers:
                status, code = gateway.answers[operation]
                said = {"__type": f"com.amazonaws#{code}", "message": f"the gateway says {code}"}
                self.answer(status, json.dumps(said).encode())
                return
            upstream = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=30)
            upstream.request("POST", self.path, body, dict(self.headers))
            reply = upstream.getresponse()
            text = reply.read()
            upstream.close()
            gateway.acted[operation] += 1
            if operation in gateway.unanswered:
                gateway.release.wait(60)
            self.answer(reply.status, text)

        def answer(self, status: int, body: bytes) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                # Whoever asked was ended by the test meanwhile.
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


@contextmanager
def gateway_to(engine: engines.Engine) -> Iterator[Gateway]:
    """Run it until the block is left."""
    gateway = Gateway(0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(gateway, engine))
    gateway.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield gateway
    finally:
        gateway.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
