"""What the tests of the transport share: a server that answers anything, and one call to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline import ARN

from ddbrelay.aws.session import Aws
from ddbrelay.aws.transport import Transport
from ddbrelay.config import Settings

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "DescribeStream": ("dynamodbstreams", {"StreamArn": ARN}),
    "GetShardIterator": (
        "dynamodbstreams",
        {"StreamArn": ARN, "ShardId": "shardId-" + "0" * 20, "ShardIteratorType": "LATEST"},
    ),
    "GetRecords": ("dynamodbstreams", {"ShardIterator": f"{ARN}|1|AAAAAAAA"}),
    "PutEvents": ("events", {"Entries": [{"Source": "s", "DetailType": "t", "Detail": "{}"}]}),
}


@dataclass
class Server:
    """Answers every request with the same bytes, and keeps what it was asked."""

    url: str = ""
    answer: bytes = b""
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    """Method, target, headers with lower-case names, body."""


def http(status: int, body: bytes, *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def serving() -> Iterator[Server]:
    """Run a server until the block is left."""
    served = Server(answer=http(200, b"{}"))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            served.requests.append((self.command, self.path, headers, body))
            self.wfile.write(served.answer)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            return

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{listening.server_port}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield served
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def call(aws: Aws, operation: str = "PutEvents", body: bytes = b"{}") -> bytes:
    """One call through a transport of its own."""

    async def main() -> bytes:
        async with Transport(aws) as transport:
            name, parameters = OPERATIONS[operation]
            service = await transport.service(name)
            await service.resolve(operation, **parameters)
            return await service.call(operation, body)

    return asyncio.run(main())


def at(server: Server) -> Aws:
    return Aws(Settings(local=True, endpoint_url=server.url))
