"""The handler of the Lambda function: what it publishes, what it parks, and what it answers."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from lambda_runtime import Context, Queue, event_of, lowest, refused, took
from wire import serving

from ddbrelay.aws_lambda import Function
from ddbrelay.aws_lambda.environment import Memory
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.flow.capture import Record
from ddbrelay.testing.builders import ORIGIN, record
from ddbrelay.testing.face.mishaps import SlowDown
from ddbrelay.testing.server import SimulatorProcess

BUS = "default"
SETTLED: dict[str, Any] = {"batchItemFailures": []}
BROKEN = b'{"id":{"X":"no type of DynamoDB"}}'


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        yield started


@pytest.fixture
def bus(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    """A bus of a simulated account on which nothing goes wrong at first."""
    yield process
    process.recover()


@pytest.fixture
def account(
    bus: SimulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """The environment variables of a function whose code lies in an empty directory."""
    for variable, value in {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_EVENTBRIDGE": bus.url,
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "DDBRELAY_BUS": BUS,
    }.items():
        monkeypatch.setenv(variable, value)
    return monkeypatch


@pytest.fixture
def function(account: pytest.MonkeyPatch) -> Iterator[Function]:
    made = Function()
    yield made
    made.close()


@pytest.fixture
def queue(account: pytest.MonkeyPatch) -> Iterator[Queue]:
    """The queue that the function is configured with."""
    made = Queue()
    with serving() as server:
        server.respond = made.respond
        account.setenv("AWS_ENDPOINT_URL_SQS", server.url)
        account.setenv("DDBRELAY_DEAD_LETTER_QUEUE", "letters")
        yield made


@pytest.fixture
def taken(bus: SimulatorProcess) -> Callable[[], list[dict[str, Any]]]:
    """The details that the bus took since the test began, in order."""
    before = len(bus.events(BUS))
    return lambda: [json.loads(one.entry["Detail"]) for one in bus.events(BUS, before)]


def change(key: str, sequence: int, **attributes: Any) -> Record:
    return record(key, sequence, new={"id": key, "n": sequence, **attributes})


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """All but the one that names the mapping at a cold start."""
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in logged if not line["message"].startswith("mapping: ")]


Taken = Callable[[], list[dict[str, Any]]]


def test_the_records_of_an_event_are_published_in_order_per_item(
    function: Function, taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [change(f"k{n % 7}", n) for n in range(50)]
    context = Context()
    assert function(event_of(*records), context) == SETTLED
    by_item: dict[str, list[int]] = defaultdict(list)
    for detail in taken():
        by_item[detail["id"]].append(detail["n"])
    assert by_item == {f"k{i}": [n for n in range(50) if n % 7 == i] for i in range(7)}
    (line,) = lines(capsys)
    assert line["ms"] >= 0
    assert line["timestamp"].endswith("Z")
    assert {**line, "ms": 0, "timestamp": ""} == {
        "timestamp": "",
        "level": "INFO",
        "message": "relayed",
        "requestId": context.aws_request_id,
        "table": "users",
        "records": 50,
        "published": 50,
        "skipped": 0,
        "parked": 0,
        "unsettled": 0,
        "ms": 0,
    }


def test_a_cold_start_says_once_which_mapping_is_in_force(
    function: Function, taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        function(event_of(change("a", number)), Context())
    logged = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message"].partition(":")[0] for line in logged] == [
        "mapping",
        "relayed",
        "relayed",
    ]
    assert logged[0]["level"] == "INFO"


def test_an_event_without_records_is_settled(function: Function) -> None:
    assert function({"Records": []}, Context()) == SETTLED


def test_entries_that_the_bus_throttles_are_sent_again(
    function: Function, bus: SimulatorProcess, taken: Taken
) -> None:
    bus.fail_entries("ThrottlingException", times=3)
    assert function(event_of(*[change("a", n) for n in range(4)]), Context()) == SETTLED
    assert [detail["n"] for detail in taken()] == [0, 1, 2, 3]


def test_what_the_bus_never_takes_goes_to_the_queue_and_later_events_of_the_item_behind_it(
    function: Function,
    bus: SimulatorProcess,
    queue: Queue,
    taken: Taken,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert function(event_of(change("b", 1)), Context()) == SETTLED
    capsys.readouterr()
    bus.fail_entries("MalformedDetail", containing='"n":2')
    records = [change("a", 2), change("b", 3), change("a", 4), change("a", 5)]
    assert function(event_of(*records), Context()) == SETTLED
    assert [detail["n"] for detail in taken()] == [1, 3]
    assert queue.parked() == [("2", False), ("4", True), ("5", True)]
    letter = queue.letters[0]
    assert letter["table"] == "users"
    assert letter["streamArn"] == ORIGIN.stream_arn
    assert letter["record"]["dynamodb"]["NewImage"] == {"id": {"S": "a"}, "n": {"N": "2"}}
    assert letter["event"]["detail"] == {"id": "a", "n": 2}
    told = lines(capsys)
    assert [(one["level"], one["message"]) for one in told] == [
        *[("WARN", "parked in the dead-letter queue")] * 3,
        ("INFO", "relayed"),
    ]
    assert told[0]["sequenceNumber"] == "2"
    assert told[0]["reason"].startswith("MalformedDetail")
    assert (told[-1]["published"], told[-1]["parked"], told[-1]["unsettled"]) == (1, 3, 0)


def test_an_unknown_code_is_tried_for_a_share_of_the_invocation_and_then_parked(
    function: Function, bus: SimulatorProcess, queue: Queue, taken: Taken
) -> None:
    assert function(event_of(change("b", 1)), Context()) == SETTLED
    bus.fail_entries("FromTheFuture", containing='"n":2')
    records = [change("a", 2), change("b", 3), change("a", 4)]
    assert function(event_of(*records), Context(6.0)) == SETTLED
    assert [detail["n"] for detail in taken()] == [1, 3]
    assert queue.parked() == [("2", False), ("4", True)]
    assert queue.letters[0]["reason"].startswith("FromTheFuture: simulated (and again for ")


def test_a_record_that_cannot_be_mapped_is_parked_and_stops_nobody_else(
    function: Function, queue: Queue, taken: Taken
) -> None:
    records = [change("a", 1), record("b", 2, new=BROKEN), change("b", 3), change("c", 4)]
    assert function(event_of(*records), Context()) == SETTLED
    assert sorted(detail["n"] for detail in taken()) == [1, 4]
    assert queue.parked() == [("2", False), ("3", True)]


def test_without_a_queue_what_cannot_be_delivered_comes_again_and_the_others_are_published(
    function: Function, taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [change("a", 9), record("b", 10, new=BROKEN), change("b", 11), change("c", 12)]
    answer = function(event_of(*records), Context())
    assert answer == {"batchItemFailures": [{"itemIdentifier": "10"}]}
    assert sorted(detail["n"] for detail in taken()) == [9, 12]
    told = lines(capsys)
    assert [one.get("sequenceNumber") for one in told] == ["10", "11", None]
    assert "no dead_letter_queue is configured" in told[0]["message"]
    assert "on-failure destination" in told[0]["message"]
    assert (told[-1]["level"], told[-1]["unsettled"]) == ("WARN", 2)
    assert told[-1]["lowestUnsettled"] == "10"


def test_what_was_settled_behind_an_unsettled_record_is_not_published_twice(
    function: Function, taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [record("b", 10, new=BROKEN), change("c", 12), change("d", 13)]
    for _ in range(3):
        answer = function(event_of(*records), Context())
        assert lowest(answer) == "10"
    assert sorted(detail["n"] for detail in taken()) == [12, 13]
    last = lines(capsys)[-1]
    assert (last["records"], last["published"], last["unsettled"], last["repeated"]) == (3, 0, 1, 2)


def test_the_memory_of_settled_records_has_a_bound() -> None:
    memory = Memory(most=2)
    records = [change("a", n) for n in range(5)]
    memory.keep(ORIGIN, records, "1")
    assert [memory.settled(ORIGIN, one) for one in records] == [False, False, False, True, True]
    memory.keep(ORIGIN, records, None)
    assert not memory.settled(ORIGIN, records[0])


def test_sequence_numbers_are_compared_as_numbers(function: Function) -> None:
    records = [record("a", 99, new=BROKEN), record("b", 100, new=BROKEN)]
    for some in (records, records[::-1]):
        assert lowest(function(event_of(*some), Context())) == "99"


def test_a_bus_that_is_too_slow_leaves_its_records_to_the_next_invocation(
    function: Function, bus: SimulatorProcess, taken: Taken, capsys: pytest.CaptureFixture[str]
) -> None:
    assert function(event_of(change("warm", 1)), Context()) == SETTLED
    capsys.readouterr()
    bus.do(SlowDown("PutEvents", 60))
    began = time.monotonic()
    records = [change("a", 5), change("b", 6), change("a", 7)]
    answer = function(event_of(*records), Context(1.5))
    assert time.monotonic() - began < 30, "nobody waits for the bus"
    assert answer == {"batchItemFailures": [{"itemIdentifier": "5"}]}
    told = lines(capsys)
    assert told[0]["message"].startswith("3 events were not acknowledged in time")
    assert told[-1]["unsettled"] == 3
    bus.recover()
    assert function(event_of(*records), Context()) == SETTLED
    # The slow answer was of a request that the bus had taken: at least once, and in order.
    assert [one["n"] for one in taken() if one["id"] == "a"] == [5, 5, 7]


def test_no_time_at_all_settles_nothing(function: Function) -> None:
    with pytest.raises(AwsRefused, match="did not answer in the time of the invocation"):
        function(event_of(change("a", 5)), Context(0.0))
    assert function(event_of(change("a", 5)), Context()) == SETTLED
    assert lowest(function(event_of(change("a", 6)), Context(0.0))) == "6"


@pytest.mark.parametrize(
    "answer", [b"", refused("ServiceUnavailable", 503)], ids=["no answer", "503"]
)
def test_a_queue_that_is_down_holds_nothing_but_its_letters_back(
    function: Function, queue: Queue, taken: Taken, answer: bytes
) -> None:
    queue.says = lambda operation: answer
    # The first look at the queue is a part of the cold start.
    assert function(event_of(change("warm", 0)), Context()) == SETTLED
    records = [change("a", 1), record("b", 2, new=BROKEN), change("c", 3)]
    assert lowest(function(event_of(*records), Context(2.5))) == "2"
    assert sorted(detail["n"] for detail in taken()) == [0, 1, 3]
    queue.says = lambda operation: None
    assert function(event_of(*records[1:]), Context()) == SETTLED
    assert queue.parked() == [("2", False)]
    assert sorted(detail["n"] for detail in taken()) == [0, 1, 3]


@pytest.mark.parametrize(
    "code", ["AccessDeniedException", "AWS.SimpleQueueService.NonExistentQueue"]
)
def test_a_queue_that_cannot_be_used_is_told_at_once_and_not_waited_for(
    function: Function, queue: Queue, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    queue.says = lambda operation: refused(code)
    began = time.monotonic()
    assert lowest(function(event_of(record("b", 2, new=BROKEN)), Context(60))) == "2"
    assert time.monotonic() - began < 30, "it does not wait until the time is over"
    told = lines(capsys)
    assert told[0]["level"] == "ERROR"
    assert "letters" in told[0]["message"] or "sqs:" in told[0]["message"]


def test_a_letter_that_the_queue_never_takes_is_not_settled_nor_what_is_behind_it(
    function: Function, queue: Queue
) -> None:
    queue.refuses = {"2"}
    broken = [record("a", 1, new=BROKEN), *(record("b", n, new=BROKEN) for n in (2, 3))]
    assert lowest(function(event_of(*broken), Context())) == "2"
    # Both of the item were in the one request that failed in part.
    assert queue.parked() == [("1", False), ("3", True)]
    later = [record("b", 2, new=BROKEN), *(record("b", n, new=BROKEN) for n in range(4, 24))]
    assert lowest(function(event_of(*later), Context())) == "2"
    assert len(queue.letters) == 2 + 9


def test_a_refusal_that_concerns_all_is_raised_so_that_lambda_counts_it(
    function: Function, bus: SimulatorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.fail_next("PutEvents", "AccessDeniedException")
    with pytest.raises(AwsRefused, match="not allowed to publish to bus default"):
        function(event_of(change("a", 1)), Context())
    assert lines(capsys)[-1]["hint"]
    assert function(event_of(change("a", 1)), Context()) == SETTLED


def test_what_was_settled_before_a_refusal_does_not_come_again(
    function: Function, account: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = [took, lambda request: refused("AccessDeniedException")]
    with serving() as server:
        server.respond = lambda request: answers.pop(0)(request)
        account.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", server.url)
        # Eleven items make two requests, one after the other.
        account.setenv("DDBRELAY_MAX_IN_FLIGHT", "1")
        records = [change(f"k{n}", n) for n in range(1, 12)]
        assert lowest(function(event_of(*records), Context())) == "11"
        function.close()
    told = lines(capsys)
    assert [one["level"] for one in told] == ["WARN", "ERROR"]
    assert (told[0]["published"], told[0]["unsettled"]) == (10, 1)
    assert "not allowed to publish" in told[1]["message"]


def test_records_of_several_streams_are_kept_apart(
    function: Function, account: pytest.MonkeyPatch, bus: SimulatorProcess
) -> None:
    orders = ORIGIN.stream_arn.replace("table/users", "table/orders")
    first = event_of(change("a", 7), record("b", 8, new=BROKEN))
    second = event_of(record("a", 3, new=BROKEN), change("b", 4), arn=orders)
    before = len(bus.events(BUS))
    answer = function({"Records": first["Records"] + second["Records"]}, Context())
    assert answer["batchItemFailures"] == [{"itemIdentifier": "8"}, {"itemIdentifier": "3"}]
    sources = {one.entry["Source"]: one.entry["DetailType"] for one in bus.events(BUS, before)}
    assert sources == {"ddbrelay.users": "UserCreated", "ddbrelay.orders": "OrderCreated"}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"key1": "value1"}, "no list of Records"),
        ([], "no list of Records"),
        ({"Records": [{"messageId": "1", "body": "{}"}]}, "not one of a DynamoDB stream"),
        (
            {"Records": [{**event_of(change("a", 1))["Records"][0], "eventSourceARN": "arn:x"}]},
            "'arn:x', which is no stream of a table",
        ),
    ],
)
def test_an_event_of_another_source_is_a_clear_error(
    function: Function, event: Any, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        function(event, Context())


def test_log_lines_hold_nothing_of_an_item(
    function: Function, queue: Queue, bus: SimulatorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.fail_entries("MalformedDetail", containing="4111")
    records = [change("k-1", n, card="4111-1111") for n in range(3)]
    records += [record("k-2", 5, new=b'{"id":{"X":"4111"}}')]
    assert function(event_of(*records), Context()) == SETTLED
    assert len(queue.letters) == 4
    said = capsys.readouterr().out
    assert "4111" not in said
    assert "k-1" not in said


def test_half_of_a_surrogate_pair_parks_its_record_only(
    function: Function, queue: Queue, taken: Taken
) -> None:
    event = event_of(change("a", 1), change("b", 2))
    event["Records"][0]["dynamodb"]["NewImage"]["name"] = {"S": "\ud800"}
    assert function(event, Context()) == SETTLED
    assert [detail["n"] for detail in taken()] == [2]
    assert queue.parked() == [("1", False)]


def test_connections_stay_open_over_invocations(
    account: pytest.MonkeyPatch, function: Function
) -> None:
    with serving() as server:
        server.respond, server.keep_alive = took, True
        account.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", server.url)
        for number in range(3):
            assert function(event_of(change("a", number)), Context()) == SETTLED
        assert len(server.peers) == 3
        assert len(set(server.peers)) == 1
        function.close()


@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_and_nothing_swapped_whatever_goes_wrong(
    function: Function, bus: SimulatorProcess, queue: Queue, seed: int
) -> None:
    assert function(event_of(change("warm", 0)), Context()) == SETTLED
    bus.rates(
        "events", throttled=0.1, lost_after=0.1, lost_before=0.1, entry_throttled=0.2,
        entry_failed=0.1, internal=0.1,
    )  # fmt: skip
    before = len(bus.events(BUS))
    records = [
        record(f"{seed}-{n % 11}", 100 * seed + n, new=BROKEN if n % 29 == 28 else None)
        for n in range(80)
    ]
    left = list(records)
    for _ in range(60):
        behind = lowest(function(event_of(*left), Context(0.8)))
        left = [one for one in left if behind and int(one.sequence_number) >= int(behind)]
        if not left:
            break
    bus.recover()
    assert not left
    ids = [one.entry["Resources"][1] for one in bus.events(BUS, before)]
    first_seen = list(dict.fromkeys(ids))
    parked = {one["eventID"] for one in queue.letters}
    assert {one.event_id for one in records} == set(first_seen) | parked
    for item in {bytes(one.dynamodb.keys) for one in records}:
        wanted = [one.event_id for one in records if bytes(one.dynamodb.keys) == item]
        assert [one for one in first_seen if one in wanted] == [
            one for one in wanted if one in first_seen
        ]


def test_the_handler_loads_nothing_of_the_command_line() -> None:
    script = """
import sys
import ddbrelay.aws_lambda
print(*sorted(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "ddbrelay.aws_lambda.batch" in loaded
    assert not loaded & {"click", "rich", "faker", "prometheus_client", "sqlite3", "moto", "flask"}
    assert not [name for name in loaded if name.startswith("ddbrelay.cli")]


def test_records_stay_what_the_stream_gives(function: Function, queue: Queue) -> None:
    whole = record("b", 2, new=BROKEN, at=None, ttl=True)
    assert function(event_of(whole), Context()) == SETTLED
    kept = queue.letters[0]["record"]
    assert msgspec.json.decode(msgspec.json.encode(kept), type=Record).dynamodb.created_at is None
    assert kept["userIdentity"]["type"] == "Service"
