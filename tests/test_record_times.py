"""The time of a record in every form in which it comes: read alike by every way, or left out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from lambda_runtime import Context, event_of, took
from test_copies import letter
from wire import Server, serving

from ddbrelay.aws_lambda import Function
from ddbrelay.flow.capture import Page
from ddbrelay.flow.change import Change, decode_lambda_event, decode_page
from ddbrelay.flow.mapping import CrudMapper, Event
from ddbrelay.flow.tracking import Fate
from ddbrelay.offline import records_of
from ddbrelay.relay.concealing import concealed
from ddbrelay.scenario.ordering import Arrival
from ddbrelay.testing.builders import ORIGIN, record
from ddbrelay.testing.clock import EPOCH
from ddbrelay.testing.world import World, simulated

LEFT_OUT = "the time of a record (ApproximateCreationDateTime) is left out: "
OUTSIDE = f"{LEFT_OUT}it lies before 1970 or after the year 9999"
NO_TIME = f"{LEFT_OUT}it is neither an ISO time nor a number of seconds"
FAR = f"{LEFT_OUT}it lies too far in the future"
PLACE = b'"ApproximateCreationDateTime":5'


def written(time: str, key: str = "a") -> bytes:
    """A record with this JSON as its time."""
    text = msgspec.json.encode(record(key, 10**20, at=5.0))
    return text.replace(PLACE + b".0", b'"ApproximateCreationDateTime":' + time.encode())


def read(time: str) -> list[tuple[float | None, list[str]]]:
    """The time, and what is noted, as each of the three ways has it."""
    body = b'{"Records":[' + written(time) + b"]}"
    page = decode_page(body)
    of_lambda: list[str] = []
    offline: list[str] = []
    return [
        (page.records[0].dynamodb.created_at, list(page.notes)),
        (decode_lambda_event(body, of_lambda.append)[0].dynamodb.created_at, of_lambda),
        (records_of(body, offline.append)[0].dynamodb.created_at, offline),
    ]


@pytest.mark.parametrize(
    ("time", "seconds", "note"),
    [
        ("1770000000", 1770000000.0, None),
        ("1.77E9", 1770000000.0, None),
        ("0", 0.0, None),
        ("null", None, None),
        ("1770000000123", 1770000000.123, None),
        ('"1770000000123"', 1770000000.123, None),
        ('"2026-02-02T02:40:00Z"', 1770000000.0, None),
        ('"2026-02-02T03:40:00+01:00"', 1770000000.0, None),
        ("1770000000123456", None, OUTSIDE),
        ("-5", None, OUTSIDE),
        ("1e300", None, OUTSIDE),
        ("1e400", None, OUTSIDE),
        ("200000000000000", None, FAR),
        ('"9000-01-01"', None, FAR),
        ("true", None, NO_TIME),
        ('"yesterday"', None, NO_TIME),
        ('""', None, NO_TIME),
        ("{}", None, NO_TIME),
        ("[1770000000]", None, NO_TIME),
    ],
)
def test_a_time_is_read_alike_by_every_way_and_left_out_where_it_can_be_none(
    time: str, seconds: float | None, note: str | None
) -> None:
    assert read(time) == [(seconds, [] if note is None else [note])] * 3


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)


@given(_JSON)
def test_no_time_keeps_a_change_from_being_mapped(time: Any) -> None:
    first, *others = read(json.dumps(time).replace("Infinity", "1e999"))
    assert others == [first] * 2
    seconds, notes = first
    assert (seconds is None) == bool(notes) or time is None
    body = b'{"Records":[' + written(json.dumps(time).replace("Infinity", "1e999")) + b"]}"
    event = CrudMapper("users")(Change(decode_page(body).records[0], "", ORIGIN))
    assert isinstance(event, Event)
    assert event.time == seconds
    # What is stored of it can be read again.
    stored = msgspec.json.encode(decode_page(body).records[0])
    assert decode_page(b'{"Records":[' + stored + b"]}").records[0].dynamodb.created_at == seconds


def test_an_odd_time_costs_no_other_record_of_its_page_anything() -> None:
    fine, milliseconds = written("1770000000", "a"), written("1770000000123", "b")
    body = b'{"Records":[' + b",".join([fine, milliseconds, written("-1"), written("-2")]) + b"]}"
    page = decode_page(body)
    assert [one.dynamodb.created_at for one in page.records] == [
        1770000000.0,
        1770000000.123,
        None,
        None,
    ]
    assert page.notes == (OUTSIDE,)
    assert [bytes(one.dynamodb.keys) for one in decode_page(b'{"Records":[' + fine + b"]}").records]


def test_a_time_that_is_no_json_is_no_answer() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_page(b'{"Records":[' + written("17700..0") + b"]}")


def test_a_letter_that_was_stored_with_milliseconds_can_be_read() -> None:
    stored = letter(1, record=written("1770000000123"))
    kept = concealed(stored, [["name"]])
    assert json.loads(kept.record)["dynamodb"]["ApproximateCreationDateTime"] == 1770000000.123


def test_the_order_of_events_is_judged_by_times_that_are_times() -> None:
    def arrival(time: Any) -> float | None:
        return Arrival({"time": time}, 0.0, 0).time

    assert arrival("2026-02-02T02:40:00Z") == 1770000000.0
    assert arrival("0001-01-01T00:00:00") is None
    assert arrival(None) is None


@simulated()
async def test_a_run_says_once_that_times_are_left_out_and_publishes_the_changes(
    world: World,
) -> None:
    class OddClock:
        """The same stream on an endpoint that counts microseconds."""

        def __getattr__(self, name: str) -> Any:
            return getattr(source, name)

        async def records(self, iterator: str) -> Page:
            page = await source.records(iterator)
            body = msgspec.json.encode({"Records": page.records}).replace(
                b'"ApproximateCreationDateTime":1', b'"ApproximateCreationDateTime":1000000000'
            )
            odd = decode_page(body)
            return replace(page, records=odd.records, notes=odd.notes)

    source = world.source
    world.source = OddClock()  # type: ignore[assignment]
    world.fill("abc", 5)
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 15
    assert {one.event.time for one in world.bus.delivered} == {None}
    assert [one for one in world.log.troubles if LEFT_OUT in one] == [
        f"shard {next(iter(world.stream.shards))}: {OUTSIDE}"
    ]


@pytest.fixture
def bus() -> Iterator[Server]:
    with serving() as server:
        server.respond = took
        yield server


def test_on_lambda_a_time_that_is_none_is_left_out_with_one_line_of_the_log(
    bus: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for variable, value in {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_EVENTBRIDGE": bus.url,
        "LAMBDA_TASK_ROOT": str(tmp_path),
        "DDBRELAY_BUS": "default",
    }.items():
        monkeypatch.setenv(variable, value)
    function = Function()
    event = event_of(*(record(f"k{n}", n, at=EPOCH) for n in range(4)))
    for one, time in zip(event["Records"], (1770000000123, -1, "x", -2), strict=True):
        one["dynamodb"]["ApproximateCreationDateTime"] = time
    for _ in range(2):
        assert function(event, Context()) == {"batchItemFailures": []}
    function.close()
    entries = [entry for one in bus.requests for entry in json.loads(one[3])["Entries"]]
    assert [entry.get("Time") for entry in entries] == [1770000000.123, None, None, None] * 2
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["message"] for one in said if one["level"] == "WARN"] == [OUTSIDE, NO_TIME]


def test_map_shows_a_change_whose_time_is_none_and_says_so_once(
    bare_cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "changes.json"
    file.write_bytes(b'{"Records":[' + b",".join([written("-1"), written("-2")]) + b"]}")
    done = bare_cli.ok("map", str(file), "--table", "users")
    assert done.stderr.count(f"{file}: {OUTSIDE}") == 1
    shown = bare_cli.json("map", str(file), "--table", "users")
    assert [one["entry"].get("Time") for one in shown] == [None, None]
