"""The second copy of a dead letter: what goes to the queue, when, and what a queue may do to it."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError
from pipeline import ARN

from ddbrelay.aws.letter_queue import LEAST_BYTES, MAX_BYTES, LetterQueue
from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused, ConfigError, StateError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.change import Origin
from ddbrelay.flow.mapping import Event, Reject
from ddbrelay.flow.tracking import Account, DeadLetter, Usage, stored_events
from ddbrelay.relay.copies import AT_ONCE, Copies, Sent
from ddbrelay.testing import clock
from ddbrelay.testing.world import World, simulated

ORIGIN = Origin("users", ARN)
PARKED_AT = 1_767_225_600.25
EVENT = Event(
    "ddbrelay.users", "UserCreated", b'{"id":"a","big":12345678901234567890}', (ARN, "e1")
)


def letter(sequence: int, key: str = "a", **more: Any) -> DeadLetter:
    record = {"eventID": f"e{sequence}", "dynamodb": {"Keys": {"id": {"S": key}}}}
    return replace(
        DeadLetter(
            shard_id="s1",
            sequence=str(sequence),
            item_key=json.dumps({"id": {"S": key}}).encode(),
            reason="MalformedDetail: no",
            record=json.dumps(record).encode(),
            event=msgspec.json.encode(EVENT),
            attempts=1,
            parked_at=PARKED_AT,
        ),
        **more,
    )


class FakeStore:
    """Keeps dead letters in memory, in the order of their parking."""

    def __init__(self, *parked: DeadLetter) -> None:
        self.letters = list(parked)
        self.marked: list[str] = []
        self.calls: list[str] = []
        self.broken: StateError | None = None

    async def claim(self) -> None:
        self.calls.append("claim")

    async def release(self) -> None:
        self.calls.append("release")

    async def load(self) -> dict[str, Position]:
        return {"s1": Position("s1")}

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        self.calls.append("begin")

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        self.calls.append("save")

    async def forget(self, shard_ids: Iterable[str]) -> None:
        self.calls.append("forget")

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        given = list(letters)
        self.letters += [one for one in given if not one.behind]
        return [one for one in given if one.behind]

    async def parked_keys(self) -> set[bytes]:
        return {one.item_key for one in self.letters}

    async def uncopied(self, limit: int) -> list[DeadLetter]:
        if self.broken:
            raise self.broken
        return [one for one in self.letters if one.sequence not in self.marked][:limit]

    async def copied(self, letters: Iterable[DeadLetter]) -> None:
        self.marked += [one.sequence for one in letters]


class FakeQueue:
    """Takes `room` letters a request, `latency` seconds each; `fails` says what goes wrong."""

    def __init__(self, room: int = 3, latency: float = 0.02) -> None:
        self.room, self.latency = room, latency
        self.taken: list[str] = []
        self.asked: list[float] = []
        self.fails: Callable[[], str | None] = lambda: None
        self.refuses: set[str] = set()

    async def send(self, letters: Sequence[DeadLetter]) -> Sent:
        self.asked.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.latency)
        if why := self.fails():
            raise AwsRefused(why)
        some = letters[: self.room]
        self.taken += [one.sequence for one in some if one.sequence not in self.refuses]
        return Sent(
            [one for one in some if one.sequence not in self.refuses],
            [(one, "InvalidMessageContents") for one in some if one.sequence in self.refuses],
        )


@dataclass
class Scene:
    """One run: its store, its queue, and what was said."""

    store: FakeStore = field(default_factory=FakeStore)
    queue: FakeQueue = field(default_factory=FakeQueue)
    words: list[str] = field(default_factory=list)
    grace: float = 5.0

    def copies(self) -> Copies:
        rng = random.Random(1)
        return Copies(self.store, self.queue, self.words.append, grace=self.grace, rng=rng)


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    clock.run(lambda rng: test(), limit=clock.DAY)


def numbers(*letters: int) -> list[str]:
    return [str(one) for one in letters]


def test_what_is_parked_is_copied_and_marked_while_the_run_goes_on() -> None:
    scene = Scene()

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            assert await store.park([letter(1), letter(2)]) == []
            await asyncio.sleep(1)
            assert scene.store.marked == numbers(1, 2)
            await store.park([letter(3)])
            await asyncio.sleep(1)
            assert scene.store.marked == numbers(1, 2, 3)
            await store.release()
        assert scene.words == []

    virtual(test)


def test_everything_else_passes_through_to_the_store_inside() -> None:
    scene = Scene()

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await store.begin([])
            await store.save([], (), Usage())
            await store.forget(["s1"])
            await store.release()
            assert scene.store.calls == ["claim", "begin", "save", "forget", "release"]
            assert await store.load() == {"s1": Position("s1")}
            waits = letter(2, behind=True)
            assert await store.park([letter(1), waits]) == [waits]
            assert await store.parked_keys() == {letter(1).item_key}

    virtual(test)


def test_letters_of_earlier_runs_go_out_once_the_run_owns_its_store() -> None:
    scene = Scene(FakeStore(*(letter(number) for number in range(1, 26))))

    async def test() -> None:
        async with scene.copies() as store:
            await asyncio.sleep(10)
            assert scene.queue.taken == []
            await store.claim()
            await asyncio.sleep(10)
            assert scene.queue.taken == numbers(*range(1, 26))
            await store.release()

    virtual(test)


def test_a_run_without_dead_letters_asks_the_queue_nothing() -> None:
    scene = Scene()

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(3600)
            await store.release()
        assert scene.queue.asked == []
        assert asyncio.get_running_loop().time() == 3600

    virtual(test)


def test_what_is_left_at_the_end_is_copied_before_the_store_is_released() -> None:
    scene = Scene(FakeStore(*(letter(number) for number in range(30))))
    scene.queue.latency = 0.4

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await store.park([letter(99)])
            await store.release()
            assert len(scene.store.marked) == 31
        assert scene.words == []

    virtual(test)


@pytest.mark.parametrize(
    ("parked", "said"),
    [
        (1, "1 dead letter has no copy in the queue yet, the next run copies them"),
        (AT_ONCE, "10 dead letters have no copy in the queue yet, the next run copies them"),
        (25, "more than 10 dead letters have no copy in the queue yet, the next run copies them"),
    ],
)
def test_a_queue_that_hangs_costs_the_grace_time_and_the_next_run_copies(
    parked: int, said: str
) -> None:
    scene = Scene(FakeStore(*(letter(number) for number in range(parked))), grace=2.0)
    scene.queue.latency = 3600

    async def test() -> None:
        loop = asyncio.get_running_loop()
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(10)
            await store.release()
        assert (loop.time(), scene.words) == (12.0, [said])
        assert scene.store.calls[-1] == "release"
        following = Scene(scene.store)
        async with following.copies() as store:
            await store.claim()
            await store.release()
        assert len(following.queue.taken) == parked

    virtual(test)


def test_a_failing_queue_is_asked_again_ever_more_slowly_and_holds_nothing_back() -> None:
    scene = Scene(FakeStore(letter(1)))

    async def test() -> None:
        scene.queue.fails = lambda: "no answer from AWS"
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(3600)
            await store.park([letter(2)])
            tries = len(scene.queue.asked)
            assert 60 < tries < 300
            said = "dead letters are not copied to the queue, trying again: no answer from AWS"
            assert scene.words == [said] * (tries // 3)
            scene.queue.fails = lambda: None
            await asyncio.sleep(60.1)
            assert scene.store.marked == numbers(1, 2)
            await store.release()

    virtual(test)


def test_the_end_of_the_run_does_not_wait_for_the_next_try() -> None:
    scene = Scene(FakeStore(letter(1)))

    async def test() -> None:
        scene.queue.fails = lambda: "no answer from AWS"
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(3600)
            left = iter(["once more"])
            scene.queue.fails = lambda: next(left, None)
            await store.release()
            assert scene.store.marked == numbers(1)
            assert asyncio.get_running_loop().time() < 3602

    virtual(test)


def test_a_letter_that_the_queue_refuses_holds_no_other_back() -> None:
    scene = Scene(FakeStore(*(letter(number) for number in range(1, 30))))
    scene.queue.refuses = set(numbers(1, 2, 3, 20))

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(60)
            assert set(scene.store.marked) == set(numbers(*range(1, 30))) - scene.queue.refuses
            assert len(scene.words) == 4
            assert "refused the copy of dead letter 20 of shard s1" in scene.words[-1]
            await store.release()
        assert scene.words[-1].startswith("4 dead letters have no copy")

    virtual(test)


def test_some_that_failed_are_sent_again_and_those_that_were_taken_are_not() -> None:
    scene = Scene(FakeStore(letter(1), letter(2), letter(3)))

    class Partial(FakeQueue):
        async def send(self, letters: Sequence[DeadLetter]) -> Sent:
            self.asked.append(0.0)
            first, *others = letters
            self.taken += [one.sequence for one in others]
            if len(self.asked) > 2:
                return Sent([first])
            return Sent(others, failed="InternalError")

    scene.queue = Partial()

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(60)
            assert scene.queue.taken == numbers(2, 3)
            assert scene.store.marked == numbers(2, 3, 1)
            await store.release()

    virtual(test)


def test_a_store_that_fails_ends_the_copying_and_the_block() -> None:
    scene = Scene(FakeStore(letter(1)))

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(1)
            scene.store.broken = StateError("disk full")
            await store.park([letter(2)])
            await asyncio.sleep(1)
            assert scene.words == ["dead letters are no longer copied to the queue: disk full"]
            await store.release()
            assert scene.store.calls[-1] == "release"

    with pytest.raises(StateError, match="disk full"):
        virtual(test)


def test_the_error_of_the_run_itself_comes_first() -> None:
    scene = Scene(FakeStore(letter(1)))
    scene.store.broken = StateError("disk full")

    async def test() -> None:
        async with scene.copies() as store:
            await store.claim()
            await asyncio.sleep(1)
            raise AwsRefused("denied")

    with pytest.raises(AwsRefused, match="denied"):
        virtual(test)


def test_a_second_interrupt_leaves_at_once() -> None:
    scene = Scene(FakeStore(letter(1)), grace=3600)
    scene.queue.latency = 7200

    async def test() -> None:
        async def run() -> None:
            async with scene.copies() as store:
                await store.claim()
                await store.release()

        task = asyncio.create_task(run())
        await asyncio.sleep(1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert asyncio.get_running_loop().time() == 1.0
        assert scene.store.calls == ["claim", "release"]
        assert len(asyncio.all_tasks()) == 1

    virtual(test)


@simulated("a")
async def test_each_record_that_a_run_parks_is_copied_once_over_two_runs(world: World) -> None:
    mapper = world.mapper
    world.mapper = lambda change: (
        Reject("not this one") if change.keys["id"] == "x" else mapper(change)
    )
    inside = world.store_of("default")
    queue = FakeQueue()
    words: list[str] = []

    async def run() -> None:
        async with Copies(inside, queue, words.append, rng=world.rng) as world.store:
            await world.run()

    parked = world.fill("x", times=15)
    world.fill("y", times=3)
    queue.fails = lambda: "no answer from AWS"
    await run()
    assert queue.taken == []
    assert words[-1] == (
        "more than 10 dead letters have no copy in the queue yet, the next run copies them"
    )
    queue.fails = lambda: None
    parked += world.fill("x", times=2)
    await run()
    assert queue.taken == parked
    assert await inside.uncopied(1) == []


class FakeClient:
    """SQS as boto3 calls it; `answer` says what becomes of the entries."""

    def __init__(self, limit: int = MAX_BYTES) -> None:
        self.limit = limit
        self.requests: list[list[dict[str, Any]]] = []
        self.answer: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda entries: {
            "Successful": [{"Id": entry["Id"]} for entry in entries]
        }

    def get_queue_attributes(self, **parameters: Any) -> dict[str, Any]:
        return {"Attributes": {"MaximumMessageSize": str(self.limit)}}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.requests.append(Entries)
        return self.answer(Entries)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(one["MessageBody"]) for entries in self.requests for one in entries]


class FakeAws:
    """The session of a run, with that client."""

    where = region = "eu-west-1"

    def __init__(self, client: FakeClient) -> None:
        self._client = client

    def client(self, service: str) -> FakeClient:
        assert service == "sqs"
        return self._client

    def new_client(self, service: str, **config: Any) -> FakeClient:
        return self.client(service)


URL = "https://sqs.eu-west-1.amazonaws.com/444455556666/letters"


def sent(client: FakeClient, letters: list[DeadLetter], url: str = URL) -> Sent:
    """One request to a queue with that client."""

    async def send() -> Sent:
        queue = await LetterQueue.open(FakeAws(client), url, "default", ORIGIN)  # type: ignore[arg-type]
        return await queue.send(letters)

    return asyncio.run(send())


def test_a_message_says_all_that_is_known_of_a_letter() -> None:
    client = FakeClient()
    one = letter(1, attempts=3)
    assert sent(client, [one]) == Sent([one])
    assert client.bodies() == [
        {
            "consumer": "default",
            "table": "users",
            "streamArn": ARN,
            "shardId": "s1",
            "sequenceNumber": "1",
            "eventID": "e1",
            "itemKey": {"id": {"S": "a"}},
            "reason": "MalformedDetail: no",
            "attempts": 3,
            "parkedAt": "2026-01-01T00:00:00.250Z",
            "behind": False,
            "record": {"eventID": "e1", "dynamodb": {"Keys": {"id": {"S": "a"}}}},
            "event": {
                "bus": None,
                "source": "ddbrelay.users",
                "detailType": "UserCreated",
                "detail": {"id": "a", "big": 12345678901234567890},
                "resources": [ARN, "e1"],
                "time": None,
                "traceHeader": None,
                "rule": None,
            },
        }
    ]
    assert "MessageGroupId" not in client.requests[0][0]


def test_of_several_events_those_that_are_left_are_told_in_order() -> None:
    client = FakeClient()
    later = msgspec.structs.replace(EVENT, detail_type="UserNamed", bus="other")
    sent(client, [letter(1, event=stored_events((None, EVENT, later)))])
    (message,) = client.bodies()
    assert message["event"]["detailType"] == "UserCreated"
    assert [(one["detailType"], one["bus"]) for one in message["laterEvents"]] == [
        ("UserNamed", "other")
    ]


def test_what_is_no_json_goes_as_text_and_what_is_missing_as_null() -> None:
    client = FakeClient()
    odd = letter(1, item_key=b"", record=b'{"eventID":', event=b'{"other":1}')
    assert len(sent(client, [odd, replace(odd, event=None, sequence="2")]).copied) == 2
    first, second = client.bodies()
    assert (first["itemKey"], first["eventID"], first["record"]) == (None, None, '{"eventID":')
    assert (first["event"], second["event"]) == ({"other": 1}, None)
    garbled = Event("s", "t", b"\xff{")
    sent(client, [letter(3, event=msgspec.json.encode(garbled))])
    assert client.bodies()[-1]["event"]["detail"] == "\N{REPLACEMENT CHARACTER}{"


def test_characters_that_sqs_refuses_are_escaped() -> None:
    client = FakeClient()
    words = "\x00\x1f\x7f\ufffd\ufffe\uffff\N{GRINNING FACE}"
    sent(client, [letter(1, reason=words, record=msgspec.json.encode({"new": words}))])
    body = client.requests[0][0]["MessageBody"]
    assert not {c for c in body if ord(c) < 0x20 or c in "\ufffe\uffff"}
    assert (client.bodies()[0]["reason"], client.bodies()[0]["record"]["new"]) == (words, words)


def test_a_request_has_ten_messages_at_most() -> None:
    client = FakeClient()
    letters = [letter(number) for number in range(12)]
    assert sent(client, letters).copied == letters[:10]
    assert [entry["Id"] for entry in client.requests[0]] == numbers(*range(10))


def of_size(number: int, size: int) -> DeadLetter:
    return letter(number, record=json.dumps({"new": "x" * (size - 12)}).encode(), event=None)


def test_the_messages_of_a_request_stay_within_the_limit_of_the_queue_together() -> None:
    client = FakeClient()
    letters = [of_size(number, 400_000) for number in range(4)]
    assert sent(client, letters).copied == letters[:2]
    small = FakeClient(limit=256 * 1024)
    letters = [of_size(1, 100_000), of_size(2, 100_000), of_size(3, 100_000)]
    assert sent(small, letters).copied == letters[:2]
    assert sum(len(entry["MessageBody"]) for entry in small.requests[0]) <= small.limit


@pytest.mark.parametrize("limit", [LEAST_BYTES, 256 * 1024, MAX_BYTES])
def test_a_letter_that_no_message_can_hold_goes_without_its_record_and_event(limit: int) -> None:
    client = FakeClient(limit)
    sent(client, [of_size(1, 100)])
    body = len(client.requests[0][0]["MessageBody"])
    fits, over = of_size(2, 100 + limit - body), of_size(3, 101 + limit - body)
    client.requests.clear()
    assert sent(client, [fits, of_size(4, 20)]).copied == [fits]
    assert sent(client, [over]).copied == [over]
    assert len(client.requests[0][0]["MessageBody"].encode()) == limit
    whole, short = client.bodies()
    assert ("record" in whole, "truncated" in whole) == (True, False)
    assert ("record" in short, "event" in short, short["truncated"]) == (False, False, True)
    assert (short["sequenceNumber"], short["itemKey"]) == ("3", {"id": {"S": "a"}})


def test_the_longest_letter_fits_without_its_record_and_event() -> None:
    client = FakeClient(LEAST_BYTES)
    longest = letter(
        1,
        key="\x01" * 3072,
        reason="\x01" * 50_000,
        record=json.dumps({"new": "x" * 900_000}).encode(),
    )
    assert sent(client, [longest]).copied == [longest]
    assert len(client.requests[0][0]["MessageBody"].encode()) <= LEAST_BYTES


def test_of_a_batch_that_failed_in_part_each_entry_has_its_own_fate() -> None:
    client = FakeClient()
    client.answer = lambda entries: {
        "Successful": [{"Id": "0"}, {"Id": "3"}],
        "Failed": [
            {"Id": "1", "SenderFault": False, "Code": "InternalError", "Message": "try again"},
            {"Id": "2", "SenderFault": True, "Code": "InvalidMessageContents"},
        ],
    }
    letters = [letter(number) for number in range(4)]
    assert sent(client, letters) == Sent(
        [letters[0], letters[3]],
        [(letters[2], "InvalidMessageContents")],
        "InternalError: try again",
    )


def test_an_entry_without_an_answer_is_sent_again() -> None:
    client = FakeClient()
    client.answer = lambda entries: {}
    assert sent(client, [letter(1)]) == Sent(failed="no result")


def test_a_request_that_is_refused_whole_is_one_clear_error() -> None:
    client = FakeClient()

    def deny(entries: list[dict[str, Any]]) -> dict[str, Any]:
        body = {"Error": {"Code": "AccessDenied", "Message": "User x may not sqs:sendmessage"}}
        raise ClientError(body, "SendMessageBatch")  # type: ignore[arg-type]

    client.answer = deny
    with pytest.raises(AwsRefused, match="not allowed to copy dead letters to their queue"):
        sent(client, [letter(1)])


def test_in_a_fifo_queue_an_item_is_a_group_with_one_letter_a_request() -> None:
    client = FakeClient()
    letters = [letter(1, "a"), letter(2, "b"), letter(3, "a"), letter(4, "c")]
    assert sent(client, letters, f"{URL}.fifo").copied == [letters[0], letters[1], letters[3]]
    again = replace(letters[0], attempts=2)
    sent(client, [again], f"{URL}.fifo")
    sent(client, [letters[0]], f"{URL}.fifo")
    (first, other, _), (after_redrive,), (repeat,) = client.requests
    assert first["MessageGroupId"] == repeat["MessageGroupId"] == after_redrive["MessageGroupId"]
    assert first["MessageGroupId"] != other["MessageGroupId"]
    ids = [one["MessageDeduplicationId"] for one in (first, other, after_redrive)]
    assert len(set(ids)) == 3
    assert repeat["MessageDeduplicationId"] == first["MessageDeduplicationId"]
    assert all(len(one) <= 128 for one in ids)


def test_a_queue_that_takes_next_to_nothing_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigError, match="takes messages of 1,024 bytes at most"):
        sent(FakeClient(limit=1024), [letter(1)])


def test_a_call_without_an_answer_does_not_hold_up_the_end_of_the_run() -> None:
    client = FakeClient()
    asked, answered = threading.Event(), threading.Event()

    def hang(entries: list[dict[str, Any]]) -> dict[str, Any]:
        asked.set()
        answered.wait(30)
        return {}

    client.answer = hang

    async def test() -> None:
        queue = await LetterQueue.open(FakeAws(client), URL, "default", ORIGIN)  # type: ignore[arg-type]
        sending = asyncio.create_task(queue.send([letter(1)]))
        await asyncio.to_thread(asked.wait, 5)
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending

    # It returns while the call still hangs, and what comes of the call then disturbs nobody.
    asyncio.run(test())
    (thread,) = [one for one in threading.enumerate() if one.name == "ddbrelay-letters"]
    answered.set()
    thread.join(5)
    assert not thread.is_alive()


def received(aws: Aws, url: str) -> list[dict[str, Any]]:
    """The messages of a queue, taken out, each with its attributes."""
    found: list[dict[str, Any]] = []
    sqs = aws.client("sqs")
    while messages := sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=10, AttributeNames=["All"]
    ).get("Messages"):
        for message in messages:
            found.append(message)
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def everything_copied(aws: Aws, queue: str, letters: list[DeadLetter]) -> int:
    """Send all letters, request after request; how many requests it took."""

    async def send() -> int:
        opened = await LetterQueue.open(aws, queue, "default", ORIGIN)
        left, requests = list(letters), 0
        while left:
            answer = await opened.send(left)
            assert (answer.refused, answer.failed) == ([], None)
            left = [one for one in left if one not in answer.copied]
            requests += 1
        return requests

    return asyncio.run(send())


@pytest.mark.slow
@pytest.mark.parametrize("by_url", [False, True])
def test_letters_arrive_in_a_queue_of_the_embedded_aws(aws: Aws, name: str, by_url: bool) -> None:
    url = aws.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    letters = [letter(number, f"k{number}") for number in range(12)]
    huge = letter(12, record=json.dumps({"new": "x" * 1_100_000}).encode())
    odd = letter(13, reason="\x00\ufffe")
    queue = url if by_url else name
    assert everything_copied(aws, queue, [*letters, huge, odd]) == 2
    bodies = [json.loads(message["Body"]) for message in received(aws, url)]
    assert sorted(int(body["sequenceNumber"]) for body in bodies) == list(range(14))
    (short,) = [body for body in bodies if body.get("truncated")]
    assert short["sequenceNumber"] == "12"
    assert {body["reason"] for body in bodies} == {"MalformedDetail: no", "\x00\ufffe"}


@pytest.mark.slow
def test_a_fifo_queue_keeps_the_order_of_an_item_and_drops_repeats(aws: Aws, name: str) -> None:
    url = aws.client("sqs").create_queue(
        QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true"}
    )["QueueUrl"]
    letters = [letter(number, "ab"[number % 2]) for number in range(6)]
    assert everything_copied(aws, f"{name}.fifo", letters) == 3
    assert everything_copied(aws, f"{name}.fifo", letters) == 3
    found = received(aws, url)
    numbers_of = {
        key: [
            int(json.loads(one["Body"])["sequenceNumber"])
            for one in found
            if json.loads(one["Body"])["itemKey"] == {"id": {"S": key}}
        ]
        for key in "ab"
    }
    assert numbers_of == {"a": [0, 2, 4], "b": [1, 3, 5]}
    assert len({one["Attributes"]["MessageGroupId"] for one in found}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("by_url", [False, True])
def test_a_queue_that_does_not_exist_is_one_clear_error(aws: Aws, name: str, by_url: bool) -> None:
    sqs = aws.client("sqs")
    queue = name
    if by_url:
        queue = sqs.create_queue(QueueName=name)["QueueUrl"]
        sqs.delete_queue(QueueUrl=queue)

    async def test() -> None:
        await LetterQueue.open(aws, queue, "default", ORIGIN)

    with pytest.raises(AwsRefused) as caught:
        asyncio.run(test())
    assert caught.value.message == f'queue "{queue}" does not exist (us-east-1, embedded AWS)'
    assert caught.value.hint is not None
    assert "--dead-letter-queue" in caught.value.hint
