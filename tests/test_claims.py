"""Claim checks in S3: written before the event is sent, and followed by who receives it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Cli
from pipeline import Pipeline, clear_error
from test_conformance import SimulatedBusHarness

from ddbrelay.aws.claims import (
    AT_ONCE,
    MAX_FETCHED,
    ClaimChecks,
    ClaimingSink,
    NotWrittenError,
    fetch,
)
from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.offloading import Claim, Reference, offload
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import Receipt, Sink
from ddbrelay.testing.builders import item
from ddbrelay.testing.contracts import SinkContract

BODY = b'{"id":"a"}'


def claim(key: str = "relay/a.json", body: bytes = BODY, bucket: str = "claims") -> Claim:
    return Claim(bucket, key, body, hashlib.sha256(body).hexdigest())


def reference(of: Claim) -> Reference:
    return Reference(of.bucket, of.key, len(of.body), of.sha256)


def offloaded(key: str = "a") -> Item:
    """An item whose event is sent as a reference."""
    made = item(key)
    made.event, made.claim = offload(made.event, "s3://claims/relay", made.change.event_id)
    return made


def silent(words: str) -> None:
    pytest.fail(f"nothing is wrong, yet it said: {words}")


# S3 on a bad day


@dataclass
class FakeS3:
    """Takes every object; `answer` is a status and a code to give instead, or a cut connection."""

    port: int = 0
    answer: tuple[int, str] | None = None
    cut: bool = False
    together: int = 1
    """Requests that must be there before any is answered."""
    calls: Counter[str] = field(default_factory=Counter)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    peak: int = 0
    _now: int = 0
    _change: threading.Condition = field(default_factory=threading.Condition)

    def enter(self) -> None:
        with self._change:
            self._now += 1
            self.peak = max(self.peak, self._now)
            self._change.notify_all()
            self._change.wait_for(lambda: self.peak >= self.together, 20)

    def leave(self) -> None:
        with self._change:
            self._now -= 1

    def aws(self, host: str = "127.0.0.1") -> Aws:
        return Aws(Settings(local=True, endpoint_url=f"http://{host}:{self.port}"))


def _handler(s3: FakeS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        # boto3 asks whether to go on before it sends a body, and waits a second for HTTP/1.0.
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            s3.calls[self.command] += 1
            s3.paths.append(self.path)
            s3.headers.append({k.lower(): v for k, v in self.headers.items()})
            s3.enter()
            try:
                self.reply(body)
            finally:
                s3.leave()

        def reply(self, body: bytes) -> None:
            if s3.cut:
                self.close_connection = True
                return
            status, said = 200, b""
            if s3.answer is not None:
                status, code = s3.answer
                said = f"<Error><Code>{code}</Code><Message>S3 says no</Message></Error>".encode()
            elif self.command == "PUT":
                s3.objects[self.path] = body
            elif self.command == "GET":
                said = s3.objects[self.path]
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(said)

        do_PUT = do_GET = do_HEAD = handle_one  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


@pytest.fixture
def s3() -> Iterator[FakeS3]:
    fake = FakeS3()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def write(aws: Aws, *claims: Claim) -> None:
    async def main() -> None:
        checks = ClaimChecks(aws, "s3://claims/relay")
        await asyncio.gather(*(checks.write(one) for one in claims))

    asyncio.run(main())


def check(aws: Aws, trouble: Callable[[str], None] = silent) -> None:
    asyncio.run(ClaimChecks(aws, "s3://claims/relay").check(trouble))


# On the emulators


def test_what_was_written_is_read_again(aws: Aws) -> None:
    client = aws.client("s3")
    client.create_bucket(Bucket="claims")
    check(aws)
    one, other = claim(), claim("relay/ü b.json", b'{"big":"' + b"x" * 1_500_000 + b'"}')
    write(aws, one, other)
    write(aws, one)
    for written in (one, other):
        assert fetch(aws, reference(written)) == written.body
        head = client.head_object(Bucket="claims", Key=written.key)
        assert head["ContentType"] == "application/json"
    assert len(client.list_objects_v2(Bucket="claims")["Contents"]) == 2


def test_a_missing_bucket_is_found_before_and_while_writing(aws: Aws) -> None:
    for act in (lambda: check(aws), lambda: write(aws, claim())):
        with pytest.raises(
            AwsRefused, match='bucket "claims" for claim checks does not exist'
        ) as no:
            act()
        assert no.value.hint == "aws s3 mb s3://claims, or another --claim-check"
    with pytest.raises(
        AwsRefused, match=r"read the claim check s3://claims/.*s3:GetObject.*NoSuch"
    ):
        fetch(aws, reference(claim()))


# What is sent, and what an answer means


def test_s3_is_given_the_sha_256_to_check_and_the_body_as_it_is(s3: FakeS3) -> None:
    write(s3.aws(), claim())
    assert s3.objects == {"/claims/relay/a.json": BODY}
    (headers,) = s3.headers
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    assert headers["x-amz-checksum-sha256"] == digest
    assert headers["content-type"] == "application/json"
    assert "x-amz-trailer" not in headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_bucket_never_becomes_part_of_the_host_name(s3: FakeS3, host: str) -> None:
    write(s3.aws(host), claim())
    assert s3.paths == ["/claims/relay/a.json"]
    assert s3.headers[0]["host"] == f"{host}:{s3.port}"


def test_an_endpoint_of_the_environment_does_not_lead_local_away(
    s3: FakeS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example.com")
    write(s3.aws(), claim())
    assert s3.calls == {"PUT": 1}


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (503, "SlowDown"),
        (500, "InternalError"),
        (502, "Anything"),
        (400, "RequestTimeout"),
        (400, "BadDigest"),
        (409, "OperationAborted"),
    ],
)
def test_what_may_pass_is_left_to_the_engine_to_try_again(
    s3: FakeS3, status: int, code: str
) -> None:
    s3.answer = (status, code)
    with pytest.raises(NotWrittenError, match=f"S3 answers {code}.*s3:PutObject"):
        write(s3.aws(), claim())
    assert s3.calls == {"PUT": 1}


def test_no_answer_is_left_to_the_engine_too(s3: FakeS3) -> None:
    s3.cut = True
    with pytest.raises(NotWrittenError, match="no answer from AWS, to write a claim check"):
        write(s3.aws(), claim())
    assert s3.calls == {"PUT": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", r'not allowed to write .* bucket "claims" \(s3:PutObject\)'),
        (400, "ExpiredToken", "AWS refused the credentials"),
        (403, "SignatureDoesNotMatch", "AWS refused the credentials"),
        (403, "InvalidAccessKeyId", "AWS refused the credentials"),
        (404, "NoSuchBucket", 'bucket "claims" for claim checks does not exist'),
        (400, "KeyTooLongError", "KeyTooLongError"),
    ],
)
def test_what_cannot_pass_is_one_clear_line(s3: FakeS3, status: int, code: str, said: str) -> None:
    s3.answer = (status, code)
    with pytest.raises(AwsRefused, match=said) as refused:
        write(s3.aws(), claim())
    assert refused.value.code == code
    assert "\n" not in refused.value.message
    assert s3.calls == {"PUT": 1}


def test_no_more_than_eight_are_written_at_once(s3: FakeS3) -> None:
    s3.together = AT_ONCE
    write(s3.aws(), *(claim(f"relay/{n}.json") for n in range(20)))
    assert len(s3.objects) == 20
    assert s3.peak == AT_ONCE


@pytest.mark.parametrize(("status", "said"), [(403, "not allowed"), (503, "S3 answers 503")])
def test_a_bucket_that_cannot_be_asked_may_still_be_written(
    s3: FakeS3, status: int, said: str
) -> None:
    s3.answer = (status, "")
    troubles: list[str] = []
    check(s3.aws(), troubles.append)
    (trouble,) = troubles
    assert trouble.startswith('cannot look at bucket "claims" for claim checks (s3:ListBucket)')
    assert trouble.endswith(f"{said}; going on, writing may succeed")


def test_a_bucket_that_is_not_there_or_does_not_answer_ends_the_run(s3: FakeS3) -> None:
    s3.answer = (404, "")
    with pytest.raises(AwsRefused, match='bucket "claims" for claim checks does not exist'):
        check(s3.aws(), silent)
    s3.answer = (400, "")
    with pytest.raises(AwsRefused, match="cannot look at bucket"):
        check(s3.aws(), silent)
    s3.cut = True
    with pytest.raises(AwsRefused, match="no answer from AWS, to look at bucket"):
        check(s3.aws(), silent)


@pytest.mark.parametrize("address", ["claims", "s3://claims/../other", "s3://claims/" + "x" * 900])
def test_an_address_under_which_nothing_can_be_kept_is_refused(s3: FakeS3, address: str) -> None:
    with pytest.raises(ConfigError) as refused:
        ClaimChecks(s3.aws(), address)
    assert refused.value.hint == "--claim-check s3://bucket/prefix"


# Following a reference


def test_only_what_was_written_is_taken_for_it(s3: FakeS3) -> None:
    aws = s3.aws()
    write(aws, claim())
    right = reference(claim())
    assert fetch(aws, right) == BODY
    with pytest.raises(DdbrelayError, match="has 10 bytes, the event says 9"):
        fetch(aws, replace(right, size=9))
    with pytest.raises(DdbrelayError, match="has another SHA-256"):
        fetch(aws, replace(right, sha256="0" * 64))
    before = s3.calls["GET"]
    with pytest.raises(DdbrelayError, match="more than 67,108,864"):
        fetch(aws, replace(right, size=MAX_FETCHED + 1))
    assert s3.calls["GET"] == before


def test_a_detail_that_may_not_be_read_is_named_with_the_permission(s3: FakeS3) -> None:
    s3.answer = (403, "AccessDenied")
    with pytest.raises(AwsRefused, match=r"not allowed to read .*a\.json \(s3:GetObject\)"):
        fetch(s3.aws(), reference(claim()))


# The sink


class Bucket:
    """A `ClaimWriter` in memory; `fails` has what the next writes raise, None for none."""

    def __init__(self, *fails: Exception | None) -> None:
        self.fails = list(fails)
        self.attempts: list[str] = []
        self.keys: set[str] = set()

    async def write(self, claim: Claim) -> None:
        self.attempts.append(claim.key)
        failure = self.fails.pop(0) if self.fails else None
        await asyncio.sleep(0)
        if failure is not None:
            raise failure
        self.keys.add(claim.key)


class Bus:
    """A `Sink` that takes an event only when its object is in the bucket, and as it is told."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.requests: list[list[Item]] = []
        self.answers: list[Callable[[list[Item]], Receipt]] = []

    async def send(self, items: Sequence[Item]) -> Receipt:
        assert 1 <= len(items) <= 10
        assert all(i.claim is None or i.claim.key in self.bucket.keys for i in items)
        self.requests.append(list(items))
        if self.answers:
            return self.answers.pop(0)(list(items))
        return Receipt(accepted=[(i, "e") for i in items])


def sent(sink: Sink, *items: Item) -> Receipt:
    return asyncio.run(sink.send(items))  # type: ignore[arg-type]


def test_an_event_follows_its_object() -> None:
    bucket = Bucket()
    bus = Bus(bucket)
    sink = ClaimingSink(bus, bucket)
    small, large, larger = item("a"), offloaded("b"), offloaded("c")
    receipt = sent(sink, small, large, larger)
    assert [one for one, _ in receipt.accepted] == [small, large, larger]
    assert bus.requests == [[small, large, larger]]
    assert sink.puts == 2
    assert sent(sink, item("d")).accepted
    assert sink.puts == len(bucket.attempts) == 2


def test_what_could_not_be_written_waits_and_the_others_go() -> None:
    bucket = Bucket(None, NotWrittenError("S3 answers SlowDown"))
    bus = Bus(bucket)
    sink = ClaimingSink(bus, bucket)
    first, second, small = offloaded("a"), offloaded("b"), item("c")
    receipt = sent(sink, first, second, small)
    assert receipt.retry == [(second, "S3 answers SlowDown")]
    assert [one for one, _ in receipt.accepted] == [first, small]
    assert not receipt.rejected
    assert sink.puts == 1
    assert [one for one, _ in sent(sink, second).accepted] == [second]
    assert sink.puts == 2


def test_a_request_of_which_nothing_could_be_written_is_not_sent() -> None:
    bucket = Bucket(NotWrittenError("no"))
    bus = Bus(bucket)
    large = offloaded()
    assert sent(ClaimingSink(bus, bucket), large) == Receipt(retry=[(large, "no")])
    assert bus.requests == []


@pytest.mark.parametrize("end", ["accepted", "rejected"])
def test_an_object_is_written_once_however_often_its_event_is_sent(end: str) -> None:
    bucket = Bucket()
    bus = Bus(bucket)
    sink = ClaimingSink(bus, bucket)
    large = offloaded()
    bus.answers = [lambda items: Receipt(retry=[(i, "again") for i in items])] * 3
    bus.answers.append(lambda items: Receipt(**{end: [(i, "x") for i in items]}))
    for _ in range(3):
        assert sent(sink, large).retry
    assert getattr(sent(sink, large), end) == [(large, "x")]
    assert len(bucket.attempts) == sink.puts == 1
    # A record that is read again later is another matter: its object may be gone by then.
    sent(sink, large)
    assert len(bucket.attempts) == 2


def test_a_refusal_sends_nothing_and_lets_the_other_writes_end() -> None:
    bucket = Bucket(AwsRefused("not allowed"), NotWrittenError("later"), None)
    bus = Bus(bucket)
    with pytest.raises(AwsRefused, match="not allowed"):
        sent(ClaimingSink(bus, bucket), offloaded("a"), offloaded("b"), offloaded("c"), item("d"))
    assert len(bucket.attempts) == 3
    assert len(bucket.keys) == 1
    assert bus.requests == []


class ClaimingHarness(SimulatedBusHarness):
    """Every item of the suite has a detail that goes to the bucket first."""

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        async with super().sink() as inner:
            bucket = Bucket()
            claiming = ClaimingSink(inner, bucket)

            class Offloading:
                async def send(self, items: Sequence[Item]) -> Receipt:
                    for one in items:
                        one.event, one.claim = offload(
                            one.event, "s3://claims", one.change.event_id
                        )
                    return await claiming.send(items)

            yield Offloading()
            assert claiming.puts == len(bucket.keys) > 0


class TestClaimingSink(SinkContract):
    @pytest.fixture
    def harness(self) -> ClaimingHarness:
        return ClaimingHarness()


# From the table to the consumer

FORWARD = ("tail", "--forward", "--until-idle", "0")
LARGE = "\u0001" * 200_000
"""Six bytes each in JSON: an item that DynamoDB takes, and an event that the bus does not."""


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


@pytest.mark.slow
def test_an_oversize_event_reaches_the_consumer_through_s3(
    cli: Cli, pipe: Pipeline, name: str
) -> None:
    address = f"s3://{name}/relay"
    pipe.aws.client("s3").create_bucket(Bucket=name)
    pipe.put("a")
    pipe.put("b", text={"S": LARGE})
    pipe.put("c", n={"N": "12345678901234567890.123456789012345678"}, text={"S": LARGE})
    pipe.put("b")
    cli.ok(*FORWARD, "--claim-check", address)

    objects = pipe.aws.client("s3").list_objects_v2(Bucket=name)["Contents"]
    assert len(objects) == 2
    assert all(one["Key"].startswith("relay/") and one["Size"] > 2**20 for one in objects)
    usage = cli.json("status")[-1]["usage"]["run"]
    assert (usage["events"], usage["chunks"], usage["puts"]) == (4, 4, 2)
    assert usage["cost"] > 2 * 0.000005

    done = cli.ok("listen", "--follow-claims", name, "--expect", "4", "--output", "json")
    *lines, last = done.stdout.splitlines()
    found = [json.loads(line) for line in lines]
    claimed = {
        one["event"]["detail"]["id"]: one for one in found if one.get("claimCheck") is not None
    }
    assert claimed.keys() == {"b", "c"}
    for one in claimed.values():
        assert one["event"]["detail"]["text"] == LARGE
        assert one["claimCheck"]["key"] in {stored["Key"] for stored in objects}
    assert sorted(one["event"]["detail"]["id"] for one in found) == ["a", "b", "b", "c"]
    assert any("12345678901234567890.123456789012345678" in line for line in lines)
    summary = json.loads(last)
    assert (summary["claimChecks"], summary["claimErrors"]) == (2, 0)


@pytest.mark.slow
@pytest.mark.parametrize("shared_engine", ["moto"], indirect=True)
def test_a_missing_bucket_stops_the_run_and_the_next_one_goes_on(
    cli: Cli, pipe: Pipeline, name: str
) -> None:
    pipe.put("b", text={"S": LARGE})
    words = (*FORWARD, "--claim-check", f"s3://{name}/relay")
    clear_error(cli.run(*words), 5, f'bucket "{name}" for claim checks does not exist')
    assert pipe.received() == []
    pipe.aws.client("s3").create_bucket(Bucket=name)
    cli.ok(*words)
    (event,) = pipe.received()
    assert event["detail"].keys() == {"claimCheck"}


@pytest.mark.slow
@pytest.mark.parametrize("shared_engine", ["moto"], indirect=True)
def test_without_a_bucket_an_oversize_event_parks(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("b", text={"S": LARGE})
    done = cli.run(*FORWARD, "--output", "json")
    assert done.returncode == 3
    assert "less than 1 MB" in done.stdout
    assert pipe.received() == []
