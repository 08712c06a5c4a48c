"""The signed asyncio client of the hot path: AWS's JSON protocol on aiohttp.

Credentials, endpoint, region and signature come from botocore; only the wire is ours.
https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.utils import get_environ_proxies

from ddbrelay import __version__
from ddbrelay.aws.session import Aws, is_loopback
from ddbrelay.errors import ConfigError

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
MAX_CONNECTIONS = 128
"""To one host; a wide stream has more shards than a process has file descriptors."""


class WireError(Exception):
    """AWS answered with an error; `code` is its error code, else the HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.status = status
        self.code = code
        self.message = message


class NoAnswerError(Exception):
    """The request, or its answer, was lost on the way; AWS may have acted on it."""


class _ErrorBody(msgspec.Struct):
    type: str = msgspec.field(name="__type", default="")
    lower: str | None = msgspec.field(name="message", default=None)
    upper: str | None = msgspec.field(name="Message", default=None)


class Transport:
    """One pool of connections for the services of a run; an async context manager."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Transport:
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=MAX_CONNECTIONS,
                ssl=ssl.create_default_context(cafile=self._aws.ca_bundle),
            ),
            timeout=aiohttp.ClientTimeout(
                total=READ_TIMEOUT + CONNECT_TIMEOUT, sock_connect=CONNECT_TIMEOUT
            ),
            # It would also read ~/.netrc, and send what stands there beside our signature.
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            await self._http.close()

    async def service(self, name: str) -> Service:
        """A service by boto3's name; raises botocore's errors where boto3 would."""
        client = await asyncio.to_thread(self._aws.client, name)
        return Service(self, self._aws, client)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], proxy: str | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer; NoAnswerError when there is none."""
        assert self._http is not None, "the transport is not open"
        if self._aws.local and not is_loopback(url):
            raise ConfigError(f"--local must not reach {url}")
        try:
            # A redirect would carry the signature elsewhere, and under --local off this machine.
            async with self._http.post(
                url, data=body, headers=headers, proxy=proxy, allow_redirects=False
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}".rstrip(": ")) from error


class Service:
    """Signed calls of one service."""

    def __init__(self, transport: Transport, aws: Aws, client: Any) -> None:
        self._transport, self._aws, self._client = transport, aws, client
        model = client.meta.service_model
        self._signing_name: str = model.signing_name
        self._target: str = model.metadata["targetPrefix"]
        self._content_type = f"application/x-amz-json-{model.metadata['jsonVersion']}"
        self._urls: dict[str, str] = {}
        self._proxies: dict[str, str | None] = {}

    async def resolve(self, operation: str, **parameters: Any) -> None:
        """Ask boto3 where it would send this call, and send ours there from now on."""
        url = await asyncio.to_thread(_endpoint, self._client, operation, parameters)
        self._urls[operation] = url
        # Proxy variables are for the way to AWS, not for an emulator on this machine.
        proxies = {} if self._aws.local else get_environ_proxies(url)
        self._proxies[operation] = proxies.get(urlsplit(url).scheme)

    async def call(self, operation: str, body: bytes) -> bytes:
        """The body of the answer.

        Raises WireError when AWS refuses and NoAnswerError when nothing comes back.
        """
        url = self._urls[operation]
        request = AWSRequest(
            "POST",
            url,
            headers={
                "Content-Type": self._content_type,
                "X-Amz-Target": f"{self._target}.{operation}",
                "User-Agent": f"ddbrelay/{__version__}",
            },
            data=body,
        )
        credentials = self._aws.credentials()
        if getattr(credentials, "refresh_needed", bool)():
            # A refresh goes over the network, which must not stop the loop.
            frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
        else:
            frozen = credentials.get_frozen_credentials()
        SigV4Auth(frozen, self._signing_name, self._aws.region).add_auth(request)
        headers = dict(request.headers.items())
        status, answer = await self._transport.post(url, body, headers, self._proxies[operation])
        if status != 200:
            raise _refusal(status, answer)
        return answer


def _refusal(status: int, body: bytes) -> WireError:
    try:
        said = msgspec.json.decode(body, type=_ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return WireError(status, f"HTTP {status}", "")
    code = said.type.partition(":")[0].rpartition("#")[2] or f"HTTP {status}"
    return WireError(status, code, said.lower or said.upper or "")


def _endpoint(client: Any, operation: str, parameters: Mapping[str, Any]) -> str:
    """The address that boto3 computes for a call, which is prepared and signed but never sent."""
    seen: list[str] = []

    def intercept(**event: Any) -> AWSResponse:
        seen.append(event["request"].url)
        return AWSResponse(event["request"].url, 200, HTTPHeaders(), _Empty())

    events = client.meta.events
    service = client.meta.service_model.service_id.hyphenize()
    event_name = f"before-send.{service}.{operation}"
    events.register_first(event_name, intercept, unique_id="ddbrelay-endpoint")
    try:
        method = next(
            m for m, name in client.meta.method_to_api_mapping.items() if name == operation
        )
        getattr(client, method)(**parameters)
    finally:
        events.unregister(event_name, unique_id="ddbrelay-endpoint")
    return seen[0]


class _Empty:
    """The body of an answer that boto3 reads as an empty object."""

    def stream(self, *_: Any, **__: Any) -> list[bytes]:
        return [b"{}"]
