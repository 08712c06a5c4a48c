"""What a failed call held is free at once: nothing waits for a collection of cyclic garbage.

While the relay runs these are rare, so that a cycle for each failed request would fill the memory
with bodies while a bus is down.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import socket
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from test_claims import claim
from test_copies import ORIGIN, FakeClient, letter
from wire import KEY, OPERATIONS, SECRET, Server, http, remote, serving

from ddbrelay.aws import transport
from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.claims import ClaimChecks, NotWrittenError
from ddbrelay.aws.letter_queue import LetterQueue
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.threads import off_loop
from ddbrelay.aws.transport import ForeignError, NoAnswerError, Transport, WireError
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Page
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing.builders import item
from ddbrelay.testing.world import World, simulate

ANSWERS: dict[str, bytes] = {
    "it hangs up": b"",
    "a cut answer": http(200, b"{}")[:-1],
    "no HTTP": b"no HTTP at all\r\n\r\n",
    "no HTML of AWS": http(200, b"<html>"),
    "no list": http(200, b"{}"),
    "HTTP 500": http(500, b"<html>"),
    "HTTP 503": http(503, b""),
    "throttling": http(400, b'{"__type":"ThrottlingException","message":"slow down"}'),
    "access denied": http(400, b'{"__type":"AccessDeniedException","message":"no"}'),
}
only_lists = msgspec.json.Decoder(list[int]).decode


@pytest.fixture(autouse=True)
def without_collections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("0.0.0.0", 0))
        yield bound.getsockname()[1]


def large() -> bytes:
    """Bytes that nothing else holds."""
    return b"{%s}" % (b" " * 100_000)


async def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it becomes so: connections and threads end a moment after their answer."""
    for _ in range(300):
        if is_so():
            return True
        await asyncio.sleep(0.01)
    return False


def is_free(url: str) -> bool:
    """Whether nothing refers to the body of a request that failed."""

    async def main() -> bool:
        async with Transport(remote(url)) as opened:
            service = await opened.service("events")
            await service.resolve("PutEvents", **OPERATIONS["PutEvents"][1])
            body = large()
            before = sys.getrefcount(body)
            with pytest.raises((NoAnswerError, WireError)) as raised:
                await service.call("PutEvents", body, only_lists)
            del raised
            return await soon(lambda: sys.getrefcount(body) == before)

    return asyncio.run(main())


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_request_that_fails_leaves_nothing_behind(server: Server, fault: str) -> None:
    server.answer = ANSWERS[fault]
    assert is_free(server.url)


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
def test_a_connection_that_is_refused_leaves_nothing_behind(
    nobody: int, addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, nobody)) for one in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert is_free(f"http://bus.example:{nobody}")


def test_a_request_that_times_out_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert is_free(f"http://127.0.0.1:{silent.getsockname()[1]}")


def test_a_tls_handshake_that_fails_leaves_nothing_behind(server: Server) -> None:
    assert is_free(server.url.replace("http:", "https:"))


class FailingService:
    """A `Service` whose calls raise `end`, or cannot read it; keeps the bodies of its requests."""

    def __init__(self, end: Exception | bytes) -> None:
        self.end = end
        self.bodies: list[bytes] = []

    async def call(self, operation: str, body: bytes, decode: Callable[[bytes], Any]) -> Any:
        self.bodies.append(body)
        if isinstance(self.end, bytes):
            with contextlib.suppress(msgspec.DecodeError):
                return decode(self.end)
            raise ForeignError(200, "HTTP 200", "")
        raise self.end.with_traceback(None)


@pytest.mark.parametrize(
    "end",
    [
        NoAnswerError("broken"),
        WireError(503, "HTTP 503", ""),
        WireError(400, "ThrottlingException", ""),
        WireError(400, "ResourceNotFoundException", ""),
        WireError(413, "HTTP 413", ""),
        b'{"Entries":[{"EventId',
        b"{}",
    ],
)
def test_a_bus_that_takes_nothing_leaves_no_request_behind(end: Exception | bytes) -> None:
    service = FailingService(end)

    async def main() -> None:
        receipt = await AwsBus(service, "users-bus").send([item("a")])  # type: ignore[arg-type]
        assert not receipt.accepted

    asyncio.run(main())
    if isinstance(end, Exception):
        # The error itself lives on in this test, with the frames that it went through.
        end.__traceback__ = end.__context__ = None
    fresh = [large()]
    assert sys.getrefcount(service.bodies[0]) == sys.getrefcount(fresh[0])


@pytest.mark.parametrize("answer", [b'{"Records":[{"eventID":"1"', b"<html>", b"[]"])
def test_a_page_that_cannot_be_read_is_not_kept_while_its_reader_waits(answer: bytes) -> None:
    service = FailingService(answer + large())
    counts: list[int] = []

    async def scene(world: World) -> None:
        source = world.source
        broken = AwsStream(service, source.stream.arn)  # type: ignore[arg-type]
        real = source.records

        async def records(iterator: str) -> Page:
            counts.append(sys.getrefcount(service.end))
            return await (broken if len(counts) <= 3 else Real()).records(iterator)

        class Real:
            records = staticmethod(real)

        source.records = records  # type: ignore[method-assign]
        world.fill("abc")
        assert (await world.run())[Fate.PUBLISHED] == 3

    simulate(scene)
    # Counted by the call before the first failure, and by those after each pause.
    assert len(counts) > 3
    assert set(counts) == {counts[0]}


@pytest.mark.parametrize("answer", [b"", http(503, b"<Error><Code>SlowDown</Code></Error>"), None])
def test_a_claim_check_that_is_not_written_leaves_nothing_behind(
    server: Server, nobody: int, answer: bytes | None
) -> None:
    server.answer = answer or b""
    url = f"http://127.0.0.1:{nobody}" if answer is None else server.url

    async def main() -> bool:
        checks = ClaimChecks(remote(url), "s3://claims/relay")
        body = large()
        before = sys.getrefcount(body)
        with pytest.raises(NotWrittenError) as raised:
            await checks.write(claim(body=body))
        del raised
        return await soon(lambda: sys.getrefcount(body) == before)

    assert asyncio.run(main())


class Entries(list[Any]):
    """A list that can be referred to weakly."""


@pytest.mark.parametrize("answer", [b"", http(503, b"{}"), None])
def test_a_copy_that_the_queue_does_not_take_leaves_nothing_behind(
    server: Server, nobody: int, answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = answer or b""
    aws = remote(f"http://127.0.0.1:{nobody}" if answer is None else server.url)
    new_client = aws.new_client
    seen: list[weakref.ref[Entries]] = []

    def watch(params: dict[str, Any], **_: Any) -> None:
        watched = params["Entries"] = Entries(params["Entries"])
        seen.append(weakref.ref(watched))

    def watched_client(service: str, **config: Any) -> Any:
        client = new_client(service, **config)
        client.meta.events.register("before-parameter-build.sqs.SendMessageBatch", watch)
        return client

    # The queue is described by a client that answers; what sends is boto3's own.
    monkeypatch.setattr(aws, "client", lambda service: FakeClient())
    monkeypatch.setattr(aws, "new_client", watched_client)

    async def main() -> bool:
        queue = await LetterQueue.open(aws, f"{server.url}/1/letters", "default", ORIGIN)
        with pytest.raises(AwsRefused) as raised:
            await queue.send([letter(1)])
        del raised
        return await soon(lambda: [one() for one in seen] == [None])

    assert asyncio.run(main())


def test_work_that_fails_in_a_thread_leaves_nothing_behind() -> None:
    def work(body: bytes) -> None:
        raise AwsRefused(str(len(body)))

    async def main() -> bool:
        body = large()
        given = functools.partial(work, body)
        before = sys.getrefcount(body)
        with pytest.raises(AwsRefused) as raised:
            await off_loop(given, "a-test")
        del raised
        return await soon(lambda: sys.getrefcount(body) == before)

    assert asyncio.run(main())
