"""What the tests of the transport share: a server that answers anything, a proxy, certificates."""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
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
Request = tuple[str, str, dict[str, str], bytes]
"""Method, target, headers with lower-case names, body."""


@dataclass
class Server:
    """Answers every request with the same bytes, and keeps what it was asked.

    `respond`, where given, makes the answer to each request instead; b"" hangs up. Connections stay
    open with `keep_alive`; `peers` has the port at the other end for each request.
    """

    url: str = ""
    answer: bytes = b""
    keep_alive: bool = False
    respond: Callable[[Request], bytes] | None = None
    requests: list[Request] = field(default_factory=list)
    peers: list[int] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


def http(status: int, body: bytes, *headers: str) -> bytes:
    """A whole answer."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def operation_of(request: Request) -> str:
    return request[2].get("x-amz-target", "").rpartition(".")[2]


def key_of(request: Request) -> str:
    """The access key that a request is signed with."""
    return request[2]["authorization"].partition("Credential=")[2].partition("/")[0]


def _handler(served: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = (self.command, self.path, headers, body)
            served.requests.append(request)
            served.peers.append(self.client_address[1])
            answer = served.answer if served.respond is None else served.respond(request)
            self.wfile.write(answer)
            self.close_connection = not (served.keep_alive and answer)

        def do_GET(self) -> None:
            self.do_POST()

        def do_PUT(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        # Clients that do not trust the certificate hang up in the middle of the handshake.
        return


@contextmanager
def _running(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def serving(tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Iterator[Server]:
    """Run a server until the block is left; `host` is what its URL says."""
    served = Server(answer=http(200, b"{}"))
    listening = _QuietServer(("127.0.0.1", 0), _handler(served))
    if tls is not None:
        listening.socket = tls.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
    served.url = f"http{'s' if tls else ''}://{host}:{listening.server_port}"
    with _running(listening):
        yield served


@dataclass
class Proxy:
    """A proxy whose tunnels all end at one server, whatever address was asked for."""

    url: str = ""
    status: int = 200
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Host and port that a tunnel was asked for, and the Proxy-Authorization header."""


@contextmanager
def proxying(port: int) -> Iterator[Proxy]:
    """Run a proxy to a port of this machine until the block is left."""
    proxy = Proxy()

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            proxy.asked.append((self.path, self.headers.get("Proxy-Authorization")))
            self.close_connection = True
            self.wfile.write(f"HTTP/1.1 {proxy.status} Whatever\r\n\r\n".encode())
            if proxy.status != 200:
                return
            with socket.create_connection(("127.0.0.1", port)) as upstream:
                back = threading.Thread(target=_pump, args=(upstream, self.connection))
                back.start()
                _pump(self.connection, upstream)
                back.join()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = _QuietServer(("127.0.0.1", 0), Handler)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    with _running(server):
        yield proxy


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


def certified(directory: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """What a server of these names needs, and the file of the authority that vouches for it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    found: list[x509.GeneralName] = [
        x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
        for name in names
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(found), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    authority, both = directory / "authority.pem", directory / "server.pem"
    authority.write_bytes(public)
    both.write_bytes(public + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return context, authority


def call(aws: Aws, operation: str = "PutEvents", body: bytes = b"{}") -> bytes:
    """One call through a transport of its own."""
    return calls(aws, operation, body)[0]


def calls(aws: Aws, operation: str, *bodies: bytes) -> list[bytes]:
    """Calls one after the other through one transport."""

    async def main() -> list[bytes]:
        async with Transport(aws) as transport:
            name, parameters = OPERATIONS[operation]
            service = await transport.service(name)
            await service.resolve(operation, **parameters)
            return [await service.call(operation, body, bytes) for body in bodies]

    return asyncio.run(main())


def at(server: Server) -> Aws:
    return Aws(Settings(local=True, endpoint_url=server.url))


def remote(url: str) -> Aws:
    """As in an account: credentials, proxies and certificates are those of the environment."""
    return Aws(Settings(region="eu-west-1", endpoint_url=url))
