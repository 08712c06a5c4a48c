"""The signed asyncio client of the hot path: AWS's JSON protocol on aiohttp.

Credentials and endpoints come from botocore, and so do the headers that name an operation; the
signature and the wire are ours.
https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import msgspec
from botocore.httpsession import ProxyConfiguration
from botocore.utils import get_environ_proxies
from multidict import CIMultiDict
from yarl import URL

from ddbrelay import __version__
from ddbrelay.aws.credentials import Credentials
from ddbrelay.aws.errors import FOREIGN_HINT, PROXY_HINT, SKEWED, THROTTLED, without_frames
from ddbrelay.aws.prepared import prepared
from ddbrelay.aws.refusals import ForeignError, WireError, refusal_of
from ddbrelay.aws.session import Aws, is_loopback, log_request
from ddbrelay.aws.signing import Signer
from ddbrelay.aws.threads import off_loop
from ddbrelay.aws.unanswered import NoAnswerError, no_answer
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.flow.retrying import RetryBudget
from ddbrelay.logs import Seldom, fields

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

__all__ = [
    "MAX_CONNECTIONS",
    "ForeignError",
    "NoAnswerError",
    "Route",
    "Service",
    "Transport",
    "WireError",
]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
MAX_CONNECTIONS = 128
"""To one host; a wide stream has more shards than a process has file descriptors."""
_READ_BUFFER = 2**20
"""A whole page of records; with less, reading pauses in the middle of it."""
_THREAD = "ddbrelay-boto3"
_THROTTLES_EVERY = 30.0
"""Seconds between two log lines about an operation that is throttled."""
FOREIGN_FOR = 60.0
"""Seconds that something else may answer in AWS's place before the run ends."""
_FOREIGN_GAP = 45.0
"""Seconds between two such answers that are still of one fault: two of the longest pauses between
tries, since a proxy may answer every other time that it is busy."""
_SKEW = 240.0
"""Seconds that our clock may be off: AWS refuses signatures from five minutes on."""
_UNSIGNED = {
    "Accept": "*/*",
    # As boto3 has it: unpacking costs more than the bytes that it saves.
    "Accept-Encoding": "identity",
    "User-Agent": f"ddbrelay/{__version__}",
}

_opened: ContextVar[bool] = ContextVar("opened")
"""Whether the request of this task had to open a connection."""


def reconnected() -> bool:
    """Whether the last request of this task had to open a connection."""
    return _opened.get(False)


@dataclass(frozen=True, slots=True)
class Route:
    """An address, prepared once for many requests, and the proxy on the way to it."""

    url: URL
    proxy: URL | None
    local: bool
    """Whether the address is on this machine."""

    @classmethod
    def to(cls, address: str, *, proxies: bool) -> Route:
        """By the proxy variables as botocore reads them; ConfigError when those make no sense."""
        url = URL(address, encoded=True)
        # aiohttp would send them beside the signature; boto3 leaves them out.
        url = url.with_user(None) if url.raw_user is not None else url
        found = get_environ_proxies(address) if proxies else {}
        proxy = ProxyConfiguration(found).proxy_url_for(address)
        return cls(url, _proxy(proxy) if proxy else None, is_loopback(address))


@dataclass(slots=True)
class _Answer:
    status: int
    body: bytes
    request_id: str | None = None
    """AWS's name of the request; looked for only where requests are logged."""
    date: str | None = None
    """The Date header of an answer that is no success."""
    media_type: str = ""
    """Its Content-Type header."""

    @property
    def good(self) -> bool:
        """Whether it is a success, with the JSON object that each operation answers with."""
        return self.status == 200 and self.body.startswith(b"{")


class _Connector(aiohttp.TCPConnector):
    """Tells a new connection from one that had served before."""

    async def _create_connection(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (the name is aiohttp's)
    ) -> ResponseHandler:
        _opened.set(True)
        return await super()._create_connection(req, traces, timeout)


class Transport:
    """One pool of connections for the services of a run; an async context manager.

    `budget` pays for every request of the run that is made again. `now` is the time that requests
    are signed with, in epoch seconds; `clock` measures how long something lasts.
    """

    def __init__(
        self,
        aws: Aws,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._aws = aws
        self._http: aiohttp.ClientSession | None = None
        self._patience = 0.0
        self.now, self.clock = now, clock
        self.credentials = Credentials(aws.credentials, now)
        self.budget = RetryBudget()

    async def __aenter__(self) -> Transport:
        self._patience = READ_TIMEOUT
        self._http = aiohttp.ClientSession(
            connector=_Connector(limit=0, limit_per_host=MAX_CONNECTIONS, ssl=self._aws.tls()),
            timeout=aiohttp.ClientTimeout(total=READ_TIMEOUT, sock_connect=CONNECT_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
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
        self.credentials.close()
        if self._http is not None:
            await self._http.close()

    def address_of(self, table: str) -> str:
        """As `Aws.address_of`."""
        return self._aws.address_of(table)

    async def service(self, name: str) -> Service:
        """A service by boto3's name; raises what `Aws.client` and `Credentials.renewed` do."""
        client = await off_loop(lambda: self._aws.client(name), _THREAD)
        if self.credentials.valid(self.now()) is None:
            await self.credentials.renewed()
        return Service(self, self._aws, client)

    async def post(self, route: Route, body: bytes, headers: CIMultiDict[str]) -> _Answer:
        """The answer, whatever its status; NoAnswerError when there is none."""
        http = self._http
        assert http is not None, "the transport is not open"
        if self._aws.local and not route.local:
            raise ConfigError(f"--local must not reach {route.url}")
        _opened.set(False)
        try:
            # A redirect would carry the signature elsewhere, and under --local off this machine.
            response = await http.post(
                route.url, data=body, headers=headers, proxy=route.proxy, allow_redirects=False
            )
            answer = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise no_answer(
                without_frames(error),
                route.url,
                route.proxy,
                self._patience,
                reused=not _opened.get(),
            ) from error
        request_id = None
        if _log.isEnabledFor(logging.DEBUG):
            request_id = response.headers.get("x-amzn-RequestId")
        given = _Answer(response.status, answer, request_id)
        if not given.good:
            given.date = response.headers.get("Date")
            given.media_type = response.headers.get("Content-Type", "")
        return given


@dataclass(frozen=True, slots=True)
class _Operation:
    route: Route
    signer: Signer


class Service:
    """Signed calls of one service."""

    def __init__(self, transport: Transport, aws: Aws, client: Any) -> None:
        self._transport, self._aws, self._client = transport, aws, client
        self._operations: dict[str, _Operation] = {}
        self._skew = 0.0
        self._throttles = Seldom(_THROTTLES_EVERY)
        self._foreign: dict[str, tuple[float, float]] = {}

    async def resolve(self, operation: str, **parameters: Any) -> None:
        """Ask boto3 where it would send this call, and send ours there from now on.

        Raises ConfigError when the proxy of the environment is no address.
        """
        theirs = await off_loop(lambda: prepared(self._client, operation, parameters), _THREAD)
        # Proxy variables are for the way to AWS, not for an emulator on this machine.
        route = Route.to(theirs.url, proxies=not self._aws.local)
        signer = Signer(theirs.url, theirs.region, theirs.service, theirs.headers, _UNSIGNED)
        self._operations[operation] = _Operation(route, signer)

    def url(self, operation: str) -> str:
        """Where a resolved call goes."""
        return str(self._operations[operation].route.url)

    async def call(self, operation: str, body: bytes, decode: Callable[[bytes], _T]) -> _T:
        """What `decode` makes of the answer's body.

        Raises WireError when AWS refuses and NoAnswerError when nothing comes back. Raises a
        ForeignError when something else answers in AWS's place: what `decode` refuses, since it
        lacks a member that the operation always returns, proves nothing. Raises AwsRefused when
        that lasts for a minute, and when the credentials have ended and there are no new ones. Sent
        again, at once and only once, is what broke on a connection that had been idle, and what was
        refused for the time of our clock; everything else is left to the caller.
        """
        prepared, transport = self._operations[operation], self._transport
        resent = signed_again = False
        tries, detailed = 0, _log.isEnabledFor(logging.DEBUG)
        while True:
            now = transport.now()
            keys = transport.credentials.valid(now)
            if keys is None:
                keys = await transport.credentials.renewed()
                now = transport.now()
            signed_at = now + self._skew
            headers = prepared.signer.sign(body, keys, signed_at)
            began = time.monotonic()
            try:
                answer = await transport.post(prepared.route, body, headers)
            except NoAnswerError as error:
                if detailed:
                    log_request(_log, operation, type(error).__name__, None, began, tries)
                tries += 1
                if error.unsent:
                    continue
                if resent or not error.idle or not transport.budget.take():
                    raise
                resent = True
                continue
            if answer.good:
                try:
                    output = decode(answer.body)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    # It is judged below, as every answer that is not AWS's.
                    pass
                else:
                    if detailed:
                        log_request(_log, operation, 200, answer.request_id, began, tries)
                    transport.budget.succeeded()
                    if self._foreign:
                        self._foreign.pop(operation, None)
                    return output
            refusal = refusal_of(answer.status, answer.body, answer.media_type, len(body))
            if detailed:
                status = f"{answer.status} {refusal.code}"
                log_request(_log, operation, status, answer.request_id, began, tries)
            tries += 1
            if refusal.code in THROTTLED and (times := self._throttles.count(operation)):
                _log.info(
                    "%s is throttled (%s), backing off; %d times since the last word",
                    operation,
                    refusal.code,
                    times,
                    extra=fields(operation=operation, code=refusal.code, times=times),
                )
            self._check_origin(operation, refusal)
            if signed_again or not self._clock_was_wrong(refusal, answer.date, signed_at):
                try:
                    raise refusal
                finally:
                    # In a variable of this frame the error would keep itself, and the body.
                    del refusal
            signed_again = True

    def _check_origin(self, operation: str, refusal: WireError) -> None:
        """Raise AwsRefused when something else has answered this operation for too long.

        Only what has AWS's form ends that: a status alone may be the proxy's, and no answer is
        nobody's.
        """
        if not isinstance(refusal, ForeignError):
            if not refusal.bare:
                self._foreign.pop(operation, None)
            return
        now = self._transport.clock()
        first, last = self._foreign.get(operation, (now, now))
        if now - last > _FOREIGN_GAP:
            first = now
        self._foreign[operation] = first, now
        if now - first >= FOREIGN_FOR:
            raise AwsRefused(
                f"{self._operations[operation].route.url.host} does not answer {operation} as AWS "
                f"does: {refusal}",
                FOREIGN_HINT,
                code=refusal.code,
            ) from refusal

    def _clock_was_wrong(self, refusal: WireError, date: str | None, signed_at: float) -> bool:
        """Take AWS's time from now on, if it is that which was refused."""
        theirs = epoch_of_date(date)
        if refusal.code not in SKEWED or theirs is None:
            return False
        if abs(theirs - signed_at) <= _SKEW:
            return False
        self._skew = theirs - self._transport.now()
        return True


def epoch_of_date(date: str | None) -> float | None:
    """Epoch seconds of an HTTP Date header; None for none, or one that is not a date."""
    if not date:
        return None
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _proxy(address: str) -> URL:
    try:
        url = URL(address)
        # To an address of another scheme botocore adds one of its own.
        usable = address.count("://") == 1 and bool(url.host) and bool(url.port)
    except ValueError:
        usable = False
    if not usable:
        shown = address.removeprefix("http://").rpartition("@")[2]
        raise ConfigError(f'the proxy "{shown}" is no address of http or https', PROXY_HINT)
    return url
