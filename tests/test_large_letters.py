"""Dead letters that are too large for their queue: what the message has, and where the rest is."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lambda_runtime import Context, Queue, event_of, lowest, took
from test_copies import ORIGIN, URL, FakeAws, FakeClient, letter
from wire import Request, Server, http, serving

from ddbrelay.aws.claims import NotWrittenError
from ddbrelay.aws.letter_queue import LEAST_BYTES, MAX_BYTES, LetterClaims, LetterQueue
from ddbrelay.aws_lambda import Function
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.offloading import KEY, Claim, claim_of
from ddbrelay.flow.tracking import DeadLetter, stored_events
from ddbrelay.relay.copies import Sent
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing.builders import record

ADDRESS = "s3://claims/letters"
LARGEST = 2 * 1024 * 1024
OTHER_FIELDS = len(
    """{"consumer":"default","table":"users","streamArn":"","shardId":"s1","sequenceNumber":"1",\
"eventID":"e1","itemKey":{"id":{"S":"a"}},"reason":"MalformedDetail: no","attempts":1,\
"parkedAt":"2026-01-01T00:00:00.250Z","behind":false,"truncated":true,"record":}"""
) + len(ORIGIN.stream_arn)
"""Bytes of a message beside its record."""


class FakeBucket:
    """A `ClaimWriter` that keeps objects; `fails` is raised instead."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.fails: Exception | None = None

    async def write(self, claim: Claim) -> None:
        if self.fails is not None:
            raise self.fails
        self.objects[claim.key] = claim.body


def large(sequence: int, record_size: int, event_size: int, key: str = "a") -> DeadLetter:
    """A letter whose record and event have about so many bytes."""
    image = {"eventID": f"e{sequence}", "dynamodb": {"new": "x" * record_size}}
    detail = json.dumps({"new": "y" * event_size}).encode()
    event = stored_events([Event("s", "t", detail)])
    return letter(sequence, key, record=json.dumps(image).encode(), event=event)


def send(
    client: FakeClient, letters: list[DeadLetter], bucket: FakeBucket | None, *, only_copy: bool
) -> Sent:
    """One request; a `bucket` takes what the queue cannot."""
    claims = None
    if bucket is not None:
        claims = LetterClaims(FakeAws(client), ADDRESS)  # type: ignore[arg-type]
        claims.writer = bucket
    queue = LetterQueue(
        client,  # type: ignore[arg-type]
        URL,
        client.limit,
        "default",
        ORIGIN,
        only_copy=only_copy,
        claims=claims,
    )
    return asyncio.run(queue.send(letters))


sizes = st.integers(1024, LARGEST)
limits = st.sampled_from([LEAST_BYTES, 256 * 1024, MAX_BYTES])


@settings(max_examples=15)
@given(sizes, sizes, limits, st.booleans())
@example(701 * 1024, 1_400_000, MAX_BYTES, False)
def test_no_letter_is_taken_by_its_only_queue_without_its_record_being_somewhere(
    record_size: int, event_size: int, limit: int, with_bucket: bool
) -> None:
    client, bucket = FakeClient(limit), FakeBucket() if with_bucket else None
    one = large(1, record_size, event_size)
    sent = send(client, [one], bucket, only_copy=True)
    assert sent.failed is None
    if not sent.copied:
        assert [refused for refused, _ in sent.refused] == [one]
        assert bucket is None
        assert len(one.record) + 200 > limit, "the record would have fitted"
        return
    assert (sent.copied, sent.refused) == ([one], [])
    (entry,) = client.requests[0]
    assert len(entry["MessageBody"].encode()) <= limit
    message = json.loads(entry["MessageBody"])
    if (reference := claim_of({KEY: message.get(KEY)})) is not None:
        assert bucket is not None
        stored = bucket.objects[reference.key]
        assert (len(stored), hashlib.sha256(stored).hexdigest()) == (
            reference.size,
            reference.sha256,
        )
        message = json.loads(stored)
        assert len(message["event"]["detail"]["new"]) == event_size
    assert message["record"] == json.loads(one.record)
    assert ("event" in message) != message.get("truncated", False)


@settings(max_examples=15)
@given(sizes, sizes, limits)
def test_a_copy_may_be_short_and_the_state_file_has_the_letter_whole(
    record_size: int, event_size: int, limit: int
) -> None:
    client, one = FakeClient(limit), large(1, record_size, event_size)

    async def parked() -> list[DeadLetter]:
        store = SqliteStore(database, "default", ORIGIN.stream_arn)
        await store.claim()
        await store.park([one])
        uncopied = await store.uncopied(10)
        await store.release()
        return uncopied

    with closing(Database(":memory:")) as database:
        assert asyncio.run(parked()) == [one]
    assert send(client, [one], None, only_copy=False).copied == [one]
    (entry,) = client.requests[0]
    assert len(entry["MessageBody"].encode()) <= limit
    message = json.loads(entry["MessageBody"])
    if message.get("truncated"):
        assert ("record" in message) == (len(one.record) + OTHER_FIELDS <= limit)


def test_a_letter_drops_its_event_before_its_record() -> None:
    for only_copy in (False, True):
        client = FakeClient()
        one = large(1, 701 * 1024, 1_400_000)
        assert send(client, [one], None, only_copy=only_copy).copied == [one]
        (message,) = client.bodies()
        assert (message["truncated"], "event" in message) == (True, False)
        assert message["record"] == json.loads(one.record)


def test_a_letter_that_cannot_be_kept_holds_only_its_own_item_back() -> None:
    client = FakeClient()
    letters = [large(1, LARGEST, 10), letter(2, "a"), letter(3, "b")]
    sent = send(client, letters, None, only_copy=True)
    assert (sent.copied, sent.failed) == ([letters[2]], None)
    ((refused, reason),) = sent.refused
    assert refused is letters[0]
    assert re.fullmatch(
        r"with its record the message has 2,097,\d{3} bytes, the queue takes 1,048,576; "
        r"with relay\.claim_check such letters go to S3",
        reason,
    )


@pytest.mark.parametrize(
    ("failure", "refused", "failed"),
    [
        (NotWrittenError("S3 answers SlowDown"), [], "S3 answers SlowDown"),
        (AwsRefused("not allowed to write"), ["not allowed to write"], None),
    ],
)
def test_a_letter_waits_for_a_bucket_that_fails_and_not_for_one_that_refuses(
    failure: Exception, refused: list[str], failed: str | None
) -> None:
    client, bucket = FakeClient(), FakeBucket()
    bucket.fails = failure
    letters = [large(1, LARGEST, 10), letter(2, "a"), letter(3, "b")]
    sent = send(client, letters, bucket, only_copy=True)
    assert ([reason for _, reason in sent.refused], sent.failed) == (refused, failed)
    assert sent.copied == [letters[2]]
    bucket.fails = None
    assert send(client, letters, bucket, only_copy=True).copied == letters
    assert len(bucket.objects) == 1


def test_a_request_without_a_letter_that_can_go_is_not_made() -> None:
    client = FakeClient()
    sent = send(client, [large(1, LARGEST, 10)], None, only_copy=True)
    assert (client.requests, len(sent.refused)) == ([], 1)


# The function


def broken(key: str, sequence: int, size: int) -> Any:
    """A record of so many bytes that no mapping can read."""
    image = {"id": {"S": key}, "data": {"X": "x" * size}}
    return record(key, sequence, new=json.dumps(image).encode())


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Function]:
    with serving() as bus:
        bus.respond = took
        for variable, value in {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_EVENTBRIDGE": bus.url,
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "DDBRELAY_BUS": "default",
        }.items():
            monkeypatch.setenv(variable, value)
        made = Function()
        yield made
        made.close()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    made = Queue()
    with serving() as server:
        server.respond = made.respond
        monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", server.url)
        monkeypatch.setenv("DDBRELAY_DEAD_LETTER_QUEUE", "letters")
        yield made


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with serving() as server:
        server.respond = lambda request: http(200, b"")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        monkeypatch.setenv("DDBRELAY_CLAIM_CHECK", ADDRESS)
        yield server


def test_on_lambda_a_change_whose_event_the_bus_cannot_take_keeps_its_record_in_the_queue(
    function: Function, queue: Queue, tmp_path: Path
) -> None:
    (tmp_path / "ddbrelay.toml").write_text(
        '[[rule]]\ndetail_type = "Doubled"\ndetail = "{first: new.data, second: new.data}"\n'
    )
    one = record("a", 1, new={"id": "a", "data": "x" * 701_000})
    assert function(event_of(one), Context()) == {"batchItemFailures": []}
    (message,) = queue.letters
    assert message["record"]["dynamodb"]["NewImage"]["data"] == {"S": "x" * 701_000}
    assert (message["truncated"], "event" in message) == (True, False)


def test_on_lambda_a_record_that_fits_nowhere_stays_unsettled_with_one_line(
    function: Function, queue: Queue, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [broken("a", 1, 10), broken("b", 2, 1_100_000), broken("c", 3, 10)]
    assert lowest(function(event_of(*records), Context())) == "2"
    assert queue.parked() == [("1", False), ("3", False)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (error,) = [line for line in lines if line["level"] == "ERROR"]
    assert error["sequenceNumber"] == "2"
    assert error["message"].startswith("not settled, since the dead-letter queue cannot have it (")
    assert "relay.claim_check" in error["message"]
    assert lines[-1]["unsettled"] == 1


def test_on_lambda_a_record_that_the_queue_cannot_hold_goes_to_s3(
    function: Function, queue: Queue, s3: Server
) -> None:
    one = broken("b", 2, 1_100_000)
    assert function(event_of(one), Context()) == {"batchItemFailures": []}
    (message,) = queue.letters
    reference = claim_of({KEY: message[KEY]})
    assert reference is not None
    (put,) = [request for request in s3.requests if request[0] == "PUT"]
    assert put[1] == f"/{reference.bucket}/{reference.key}"
    assert hashlib.sha256(_body(put)).hexdigest() == reference.sha256
    whole = json.loads(_body(put))
    assert whole["record"]["dynamodb"]["NewImage"] == json.loads(bytes(one.dynamodb.new_image))
    assert {name: whole[name] for name in ("sequenceNumber", "itemKey")} == {
        name: message[name] for name in ("sequenceNumber", "itemKey")
    }


def test_on_lambda_a_record_that_s3_does_not_take_stays_unsettled(
    function: Function, queue: Queue, s3: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    denied = b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>"
    s3.respond = lambda request: http(*((403, denied) if request[0] == "PUT" else (200, b"")))
    records = [broken("b", 2, 1_100_000), broken("c", 3, 10)]
    assert lowest(function(event_of(*records), Context())) == "2"
    assert queue.parked() == [("3", False)]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (error,) = [line for line in lines if line["level"] == "ERROR"]
    assert "s3:PutObject" in error["message"]


def _body(request: Request) -> bytes:
    """What an upload holds: boto3 sends it in chunks with a checksum behind them, or as it is."""
    body = request[3]
    if "aws-chunked" not in request[2].get("content-encoding", ""):
        return body
    size, _, rest = body.partition(b"\r\n")
    return rest[: int(size, 16)]
