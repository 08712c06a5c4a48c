from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ddbrelay.own
from ddbrelay.config import load
from ddbrelay.errors import ConfigError
from ddbrelay.flow.mapping import Event, MapFunction, Reject, Several, Skip
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.mappings import mapper_of
from ddbrelay.own import OwnMapper, function_of
from ddbrelay.testing.builders import ORIGIN, change
from ddbrelay.testing.clock import EPOCH

OWN = """
import asyncio
import re
import signal
import time
from typing import Any

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event, OwnFunction, Reject, Skip, event_of


def to_event(change: Change) -> Event | list[Event] | Skip | Reject | None:
    kind = change.keys["id"]
    if kind == "one":
        n = (change.new or {})["n"]
        return event_of("Made", {"n": n, "double": 2 * n})
    if kind == "two":
        return [event_of("A", {}), event_of("B", {}, source="own.source", time=5.0)]
    if kind == "skip":
        return Skip("not this one")
    if kind == "reject":
        return Reject("never")
    if kind == "none":
        return None
    if kind == "empty":
        return []
    if kind == "wrong":
        return 5  # type: ignore[return-value]
    if kind == "long":
        return event_of("x" * 129, {})
    if kind == "exit":
        raise SystemExit(3)
    if kind == "cancel":
        raise asyncio.CancelledError
    if kind == "close":
        raise GeneratorExit
    if kind == "interrupt":
        raise KeyboardInterrupt
    if kind.startswith("signal"):
        signal.raise_signal(int(kind.split()[1]))
    if kind == "python":
        while True:
            try:
                for n in range(1000):
                    pass
            except Exception:
                pass
    if kind == "re":
        re.match(r"(a+)+$", "a" * 64 + "b")
    if kind == "sleep":
        time.sleep(60)
    if kind == "endless":
        return Endless([E("s", "A", b"{}")])
    if kind == "hide":
        change.redact([["n"]])
        return Reject("hidden")
    if kind == "mute":
        raise Mute
    if kind == "half":
        raise ValueError("x\\ud800y")
    if kind in BAD:
        bad: Event = BAD[kind]
        return bad
    raise LookupError("no such kind")


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


class Endless(list[Any]):
    def __iter__(self) -> Any:
        while True:
            pass


class Lazy(list[Any]):
    def __iter__(self) -> Any:
        raise LookupError("not yet")


E = Event
BAD: dict[str, Any] = {
    "text": E("s", "A", "{}"),  # type: ignore[arg-type]
    "json": E("s", "A", b"{no"),
    "array": E("s", "A", b"[1]"),
    "time": E("s", "A", b"{}", time="x"),  # type: ignore[arg-type]
    "bus": E("s", "A", b"{}", bus=5),  # type: ignore[arg-type]
    "resources": E("s", "A", b"{}", resources="abc"),  # type: ignore[arg-type]
    "joint": E("s", "A", b"{}", rule="a + b"),
    "twice": [E("s", "A", b"{}"), E("s", "A", b"{}", rule="r"), E("s", "A", b"{}", rule="r")],
    "one of two": [E("s", "A", b"{}"), E("s", "B", b'{"a": 01}')],
    "reason": Skip(5),  # type: ignore[arg-type]
    "half skip": Skip("x\\ud800"),
    "half reject": Reject("x\\ud800"),
    "half type": E("s", "A\\ud800", b"{}"),
    "half resource": E("s", "A", b"{}", ("\\ud800",)),
    "turned rule": E("s", "A", b"{}", rule="a\\nb"),
    "typed rule": Reject("never", 5),  # type: ignore[arg-type]
    "lazy": Lazy([E("s", "A", b"{}")]),
    "far": E("s", "A", b"{}", time=1e300),
    "nan": E("s", "A", b"{}", time=float("nan")),
    "early": E("s", "A", b"{}", time=-5e11),
    "bad bus": E("s", "A", b"{}", bus="bad bus!"),
}


checked: OwnFunction = to_event
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The mapping of a file beside `own_mapping.py`."""

    def made(text: str = "") -> MapFunction:
        (tmp_path / "own_mapping.py").write_text(OWN)
        (tmp_path / "ddbrelay.toml").write_text(f'mapper = "own_mapping:to_event"\n{text}')
        return mapper_of(load({}, {}, tmp_path), "users")

    monkeypatch.setattr(sys, "path", list(sys.path))
    yield made
    sys.modules.pop("own_mapping", None)


def test_a_function_of_ones_own_makes_the_event_and_what_it_leaves_out_is_filled_in(
    own: Any,
) -> None:
    from decimal import Decimal

    event = own()(change("one", new={"id": "one", "n": Decimal("1.10")}, event_id="e1"))
    assert event == Event(
        "ddbrelay.users",
        "Made",
        b'{"n":1.10,"double":2.20}',
        (ORIGIN.stream_arn, "e1"),
        EPOCH,
        "own",
    )


def test_it_may_make_several_events(own: Any) -> None:
    result = own()(change("two", event_id="e1"))
    assert isinstance(result, Several)
    assert [(event.source, event.resources[1], event.time) for event in result.events] == [
        ("ddbrelay.users", "e1", EPOCH),
        ("own.source", "e1.own-2", 5.0),
    ]


@pytest.mark.parametrize(
    ("key", "result"),
    [
        ("skip", Skip("not this one")),
        ("reject", Reject("never")),
        ("none", Skip("own")),
        ("empty", Skip("own")),
    ],
)
def test_it_may_say_that_there_is_no_event(own: Any, key: str, result: Skip | Reject) -> None:
    assert own()(change(key)) == result


@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("wrong", "the mapper returned int, not an Event"),
        ("long", "longer than 128 characters"),
        ("raise", "LookupError in the mapper: no such kind"),
        ("exit", "SystemExit in the mapper: 3"),
        ("text", "its detail is of type str"),
        ("json", "its detail is no JSON object"),
        ("array", "its detail is no JSON object"),
        ("time", "its time is of type str"),
        ("bus", "its bus is of type int"),
        ("resources", "its resources is of type str"),
        ("joint", 'its rule has " + " in it'),
        ("twice", "two events of a change with the same rule"),
        ("reason", "a Skip without a text as its reason"),
        ("mute", "Mute in the mapper: its text cannot be made (RuntimeError)"),
        ("one of two", "its detail is no JSON object"),
        ("half", "ValueError in the mapper: x\\ud800y"),
        ("half skip", "the reason of a Skip with half a character"),
        ("half reject", "x\\ud800"),
        ("half type", "it has half a character, which no UTF-8 has"),
        ("half resource", "it has half a character, which no UTF-8 has"),
        ("turned rule", "its rule has characters that cannot be printed"),
        ("typed rule", "its rule is of type int"),
        ("lazy", "the mapper made what no event can be: not yet"),
        ("far", "its time: it lies before 1970 or after the year 9999"),
        ("nan", "its time: it lies before 1970 or after the year 9999"),
        ("early", "its time: it lies before 1970 or after the year 9999"),
        ("bad bus", "'bad bus!' is neither a name nor an ARN of a bus"),
    ],
)
def test_what_goes_wrong_in_it_parks_the_record(own: Any, key: str, says: str) -> None:
    result = own()(change(key))
    assert isinstance(result, Reject)
    assert says in result.reason
    assert msgspec.json.encode(result), "the store can keep it"


def test_an_exception_is_parked_with_its_traceback(own: Any) -> None:
    result = own()(change("raise"))
    assert isinstance(result, Reject)
    assert 'own_mapping.py", line' in result.reason
    assert "in to_event" in result.reason
    assert "mappings.py" not in result.reason


def test_it_never_sees_what_is_redacted(own: Any) -> None:
    mapper = own('redact = ["n"]')
    result = mapper(change("one", new={"id": "one", "n": 5}))
    assert isinstance(result, Event)
    assert result.detail == b'{"n":"[redacted]","double":"[redacted][redacted]"}'


def test_what_it_redacts_itself_is_hidden_everywhere(own: Any) -> None:
    source = change("hide", new={"id": "hide", "n": 5})
    assert own()(source) == Reject("hidden")
    assert source.new == {"id": "hide", "n": "[redacted]"}


def test_its_events_get_the_envelope_and_no_integer_that_putevents_refuses(own: Any) -> None:
    mapper = own('envelope = "metadata"')
    event = mapper(change("one", new={"id": "one", "n": 2**63 - 1}))
    assert isinstance(event, Event)
    detail = json.loads(event.detail)
    assert detail["data"] == {"n": 2**63 - 1, "double": str(2**64 - 2)}
    assert detail["metadata"]["table"] == "users"


def test_it_sees_every_integer_as_one_and_may_give_it_back(own: Any) -> None:
    mapper = own()
    event = mapper(change("one", new={"id": "one", "n": 10**37 + 1}))
    assert isinstance(event, Event)
    assert json.loads(event.detail) == {"n": str(10**37 + 1), "double": str(2 * 10**37 + 2)}


def test_a_module_that_cannot_be_imported_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken_mapping.py").write_text("1 / 0\n")
    (tmp_path / "ddbrelay.toml").write_text('mapper = "broken_mapping:f"\n')
    with pytest.raises(ConfigError, match="cannot be imported: ZeroDivisionError"):
        mapper_of(load({}, {}, tmp_path), "users")


@pytest.mark.slow
def test_the_type_of_such_a_function_can_be_checked(tmp_path: Path) -> None:
    (tmp_path / "own_mapping.py").write_text(OWN)
    (tmp_path / "wrong_mapping.py").write_text(
        "from ddbrelay.flow.change import Change\n"
        "from ddbrelay.flow.mapping import OwnFunction\n\n\n"
        "def to_event(change: Change) -> str:\n"
        "    return change.event_id\n\n\n"
        "checked: OwnFunction = to_event\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    right, wrong = (
        subprocess.run([*command, name], cwd=tmp_path, capture_output=True, text=True, check=False)
        for name in ("own_mapping.py", "wrong_mapping.py")
    )
    assert right.returncode == 0, right.stdout
    assert "Incompatible types in assignment" in wrong.stdout


# What takes its time, and what would end more than a record


@pytest.mark.parametrize("kind", ["cancel", "close", "exit", "interrupt"])
def test_what_ends_a_task_or_a_process_parks_the_record(own: Any, kind: str) -> None:
    result = own()(change(kind))
    assert isinstance(result, Reject)
    assert "in the mapper" in result.reason


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("limit", ["0", '"5s"'])
def test_a_signal_during_the_mapper_is_not_parked(
    own: Any, number: signal.Signals, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            own(f"mapper_timeout = {limit}")(change(f"signal {number:d}"))
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_a_module_that_raises_an_interrupt_is_a_mistake_in_it(own: Any, tmp_path: Path) -> None:
    (tmp_path / "interrupting.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(ConfigError, match="cannot be imported: KeyboardInterrupt"):
        function_of("interrupting:function", tmp_path)


@pytest.mark.parametrize("kind", ["python", "re", "sleep", "endless"])
def test_a_mapper_that_takes_too_long_parks_the_record(own: Any, kind: str) -> None:
    before = signal.getsignal(signal.SIGALRM)
    mapper = own('mapper_timeout = "50ms"')
    result = mapper(change(kind))
    assert isinstance(result, Reject)
    assert result.reason.startswith("the mapper took longer than 0.05 s (mapper_timeout)\n")
    assert 'own_mapping.py", line' in result.reason
    assert "time_limit.py" not in result.reason
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) == before
    assert isinstance(mapper(change("two")), Several)


@pytest.mark.parametrize("kind", ["python", "endless"])
def test_in_a_thread_code_of_python_is_ended_too(own: Any, kind: str) -> None:
    mapper = own('mapper_timeout = "50ms"')
    threads = threading.active_count()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(mapper, change(kind)).result()
        fine = pool.submit(mapper, change("two")).result()
    assert isinstance(late, Reject)
    assert "took longer than 0.05 s" in late.reason
    assert isinstance(fine, Several)
    assert threading.active_count() == threads


def test_an_alarm_of_somebody_else_goes_on(own: Any) -> None:
    mapper = own()
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    signal.setitimer(signal.ITIMER_REAL, 60.0, 30.0)
    try:
        mapper(change("two"))
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 50.0 < left <= 60.0
        assert interval == pytest.approx(30.0, abs=0.01)
        signal.raise_signal(signal.SIGALRM)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_without_a_limit_there_is_no_alarm(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ddbrelay.own, "within", None)
    assert isinstance(own("mapper_timeout = 0")(change("two")), Several)


def test_a_mapper_leaves_half_of_the_time_that_lambda_gives(own: Any) -> None:
    mapper = own()
    assert isinstance(mapper, OwnMapper)
    mapper.bound(time.monotonic() + 0.4)
    late = mapper(change("python"))
    assert isinstance(late, Reject)
    assert "took longer than 0.2 s" in late.reason or "0.1" in late.reason


def test_what_a_mapper_prints_does_not_stand_among_the_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def printing(_: Any) -> None:
        print("seen")

    assert isinstance(OwnMapper(printing, Defaults("users"))(change()), Skip)
    assert capsys.readouterr() == ("", "seen\n")
