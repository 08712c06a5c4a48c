"""The live view of `listen`: rows, status lines and table, at widths that people have."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from picture import final_screen, written_to
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ddbrelay.cli.listening import LiveView, Recorder, Status, detail, row, summary_table
from ddbrelay.cli.received import Bounds, Session, Tally, age_words, searched
from ddbrelay.cli.recording import Recording
from ddbrelay.cli.view.clock import Clock
from ddbrelay.cli.view.filters import Filter
from ddbrelay.infra.listener import Received

SCREENS = Path(__file__).parent / "screens"
NOW = 1_796_034_669.0
"""2026-11-30T10:31:09Z."""
HEADER = Text.assemble(
    ("users-bus ─▶ ddbrelay-listen-1a2b3c4d", "bold"),
    ("   source ddbrelay.users   temporary rule and queue, removed at the end", "dim"),
    ("   Ctrl-C stops", "dim"),
)
Waiter = Callable[[Callable[[], bool], float], None]


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def message(
    number: int,
    kind: str = "UserCreated",
    *,
    age: float = 0.0,
    event_id: str | None = None,
    **event: Any,
) -> Received:
    body = {
        "id": event_id or f"{0x6B1E0C9F + number * 0x01234567 & 0xFFFFFFFF:08x}-{number:04}",
        "detail-type": kind,
        "source": "ddbrelay.users",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - age)),
        "detail": {"id": f"{0x7F3A91C2 + number * 77:08x}"},
        **event,
    }
    return Received(body, json.dumps(body, ensure_ascii=False), f"m{number}", "h", NOW)


def no_event(body: str) -> Received:
    return Received({}, body, "m", "h", NOW)


MESSAGES = [
    message(1),
    message(2, "UserUpdated", age=2),
    message(2, "UserUpdated", age=4),
    message(3, "UserExpired", age=200),
    message(4, "OrderPlacedByACustomerOfLongStanding", detail={"pk": "order#" + "7" * 60}),
    message(5, "注文が確定しました" * 4, detail={"keys": {"id": "長い鍵" * 9}}, source="見" * 40),
    no_event("no event \x1b[2J at all, " * 9),
    message(6, "UserDeleted", age=-3),
    message(7, "", time="soon", source=None, detail="text"),
]


def session(
    *messages: Received, bounds: Bounds | None = None, show: Sequence[str] = (), **more: Any
) -> Session:
    made = Session(
        queue="ddbrelay-listen-1a2b3c4d",
        temporary=True,
        bounds=bounds or Bounds(),
        chosen=Filter(show, None),
        detail=more.get("detail", False),
        stopping=more.get("stopping", lambda: False),
    )
    for one in messages:
        made.tally.add(one)
    return made


class Ticking:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.clock = Clock(monotonic=lambda: self.seconds, now=lambda: NOW)


def terminal(width: int, file: Any = None, *, colour: bool = False) -> Console:
    return Console(
        file=io.StringIO() if file is None else file,
        width=width,
        height=30,
        force_terminal=True,
        color_system="standard" if colour else None,
        highlight=False,
        _environ={},
    )


def plain(status: Status, width: int = 80, *, last: bool = False) -> list[str]:
    return [line.plain for line in status.lines(width, last=last)]


def styled(lines: Sequence[Text], words: str) -> str:
    """The style of the words where they stand."""
    (line,) = [line for line in lines if words in line.plain]
    at = line.plain.index(words)
    found = [str(span.style) for span in line.spans if span.start <= at < span.end]
    return found[-1] if found else str(line.style)


# --- screens


def check(name: str, lines: Sequence[str]) -> None:
    """As kept in tests/screens; UPDATE_SCREENS=1 keeps what is shown now."""
    kept = SCREENS / f"{name}.txt"
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    if os.environ.get("UPDATE_SCREENS"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_while_it_listens_and_after_the_end(width: int) -> None:
    ticking, console = Ticking(), terminal(width)
    made = session(bounds=Bounds(expected=37, deadline=160.0))
    status = Status(made, ticking.clock)
    view = LiveView(HEADER, made, status, gone=pytest.fail, console=console, refresh=3600)
    with view:
        for number, one in enumerate(MESSAGES):
            view.message(one, made.tally.add(one))
            ticking.seconds += 0.5
            if number == 5:
                view.note("event 02ad77e1 keeps its claim check: access to S3 is denied " * 2)
            view.draw()
        view.draw()
        running = final_screen(written_to(console))
        ticking.seconds += 0.5
    console.print()
    console.print(summary_table(made.tally, width))
    ended = final_screen(written_to(console))
    assert max(map(cell_len, [*running, *ended])) <= width
    check(f"listen-{width}", running)
    check(f"listen-ended-{width}", ended)


@pytest.mark.parametrize("width", [20, 47, 73, 79, 80, 100, 120, 240])
def test_no_row_is_wider_than_its_terminal(width: int) -> None:
    console = terminal(width)
    for one in MESSAGES:
        for repeated in (False, True):
            shown = row(one, repeated, width)
            if width >= 73 and one.event:
                assert shown.cell_len <= width
            console.print(shown, overflow="ellipsis", no_wrap=True)
        assert all(line.cell_len <= max(width, 30) for line in detail(one, width))
    assert max(map(cell_len, written_to(console).splitlines())) <= width


def test_a_narrow_row_lacks_the_bus_event_id_and_marks_a_repeat_all_the_same() -> None:
    one = message(1)
    assert one.event["id"][:8] in row(one, False, 80).plain
    assert one.event["id"][:8] not in row(one, False, 79).plain
    assert row(one, True, 80).plain.endswith("  ↻ repeat")
    assert row(one, True, 79).plain.endswith("  ↻")
    assert styled([row(one, True, 79)], "↻") == "yellow"
    assert "id=7f3a920f" in row(one, False, 79).plain


def test_an_event_type_has_a_hue_of_its_own_everywhere() -> None:
    first, second = (styled([row(message(1, kind), False, 80)], kind) for kind in ("A1", "A2"))
    assert first != second
    assert not {first, second} & {"green", "yellow", "red", ""}


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (None, "–"),
        (0, "0 s"),
        (59.9, "59 s"),
        (61, "1 m"),
        (7300, "2 h"),
        (9e6, "104 d"),
        (-3.2, "-3 s"),
        (-0.4, "0 s"),
    ],
)
def test_an_age_is_told_in_five_cells(seconds: float | None, says: str) -> None:
    assert age_words(seconds) == says


# --- status lines


def test_the_status_says_what_came_and_how_fast() -> None:
    ticking, made = Ticking(), session(*MESSAGES)
    status = Status(made, ticking.clock)
    for came in (10, 40, 20):
        for number in range(came):
            made.tally.add(message(1000 + number, event_id=f"{came}-{number}"))
        ticking.seconds += 1.0
        shown = plain(status, 100)
    assert shown == [
        "▄█▄         20/s   received 78   distinct 77   ↻ repeated 1   not events 1",
        "temporary queue ddbrelay-listen-1a2b3c4d   up 3 s",
    ]
    assert plain(status, 100, last=True)[0].startswith("▄█▄         26/s")
    assert max(map(cell_len, plain(status, 40))) <= 40


def test_the_status_says_until_when_and_how_far() -> None:
    ticking, stopping = Ticking(), threading.Event()
    bounds = Bounds(expected=2, most=9, deadline=130.0)
    made = session(message(1), bounds=bounds, stopping=stopping.is_set)
    status = Status(made, ticking.clock)
    ticking.seconds += 5.2
    assert plain(status, 120)[1].endswith("up 5 s   1 of 2 expected   1 of 9   24 s left")
    assert styled(status.lines(80), "1 of 2 expected") == "yellow"
    assert styled(status.lines(80, last=True), "1 of 2 expected") == "red"
    assert "left" not in plain(status, last=True)[1]
    made.tally.add(message(2))
    assert styled(status.lines(80), "2 of 2 expected") == "green"
    stopping.set()
    assert plain(status, 120)[1].endswith("stopping …")


def test_what_a_filter_hides_is_counted_in_the_status() -> None:
    made = session(show=["User*"])
    shown = [one for one in MESSAGES if made.chosen.shows(*searched(one))]
    assert [one.event["detail-type"] for one in shown] == (
        ["UserCreated", "UserUpdated", "UserUpdated", "UserExpired", "UserDeleted"]
    )
    assert plain(Status(made, Ticking().clock))[1].endswith("up 0 s   hidden 4")


# --- what is shown of an event


def test_grep_looks_at_key_type_source_and_detail_and_at_what_is_no_event() -> None:
    one = message(1, detail={"id": "a1", "name": "Zoë", "n": [1, 2]})
    for grep in ("id=a1", "usercreated", "ddbrelay\\.users", '"name":"Zoë"', r"\[1,2\]"):
        assert Filter((), grep).shows(*searched(one)), grep
    assert not Filter((), "6b1e").shows(*searched(one))
    assert Filter((), "at all").shows(*searched(MESSAGES[6]))
    assert not Filter(("*",), None).shows(*searched(MESSAGES[6]))


def test_detail_shows_every_digit_and_every_letter_as_it_came() -> None:
    body = '{"detail":{"n":12345678901234567890.10,"e":1E400,"name":"Zo\\u00eb","s":"\\u001b[2J"}}'
    shown = "\n".join(line.plain for line in detail(Received({"a": 1}, body, "m", "h", NOW), 80))
    for part in ("12345678901234567890.10", "1E400", "Zoë", r"\u001b[2J"):
        assert part in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("body", [r'{"a":"\ud800"}', '{"a":' + "[" * 90 + "]" * 90 + "}"])
def test_detail_of_what_cannot_be_laid_out_is_one_line(body: str) -> None:
    lines = detail(Received({"a": 1}, body, "m", "h", NOW), 80)
    assert lines
    assert lines[0].plain.strip()


def test_detail_of_what_is_no_event_is_all_of_it() -> None:
    lines = detail(MESSAGES[6], 60)
    assert " ".join(line.plain.strip() for line in lines).count("at all,") == 9
    assert "\x1b" not in "".join(line.plain for line in lines)


# --- counting


def test_the_table_has_the_most_frequent_types_first_and_the_rest_together() -> None:
    tally = Tally()
    for kind in range(15):
        for number in range(20 - kind):
            tally.add(message(number, f"Type{kind:02}", event_id=f"{kind}-{number}", age=kind))
    tally.add(message(0, "Type01", event_id="1-0", age=500))
    console = terminal(60)
    console.print(summary_table(tally, 60))
    heads, *lines = written_to(console).splitlines()
    assert heads.split() == ["received", "repeated", "oldest"]
    assert [line.split()[0] for line in lines] == [
        *(f"Type{kind:02}" for kind in range(12)),
        "3",
        "all",
    ]
    assert lines[1].split() == ["Type01", "20", "1", "8", "m"]
    assert lines[12].split() == ["3", "more", "types", "21", "0", "14", "s"]
    assert lines[13].split() == ["all", "196", "1", "8", "m"]


def test_event_types_without_end_do_not_fill_the_memory() -> None:
    tally = Tally()
    for number in range(1000):
        tally.add(message(number, f"Type{number}", event_id=str(number)))
    assert len(tally.types) <= 201
    assert sum(of.received for of in tally.types.values()) == tally.events == 1000


# --- drawing


def drawn(console: Console) -> str:
    return "\n".join(final_screen(written_to(console)))


@pytest.mark.parametrize(("in_full", "most"), [(False, 40), (True, 4)])
def test_of_more_than_anybody_reads_the_number_is_told(in_full: bool, most: int) -> None:
    console, made = terminal(80), session(detail=in_full)
    status = Status(made, Ticking().clock)
    with LiveView(HEADER, made, status, gone=pytest.fail, console=console, refresh=3600) as view:
        for number in range(30 * most + 50):
            one = message(number)
            view.message(one, made.tally.add(one))
        view.note("never left out")
        view.draw()
        first = drawn(console)
        view.draw()
        second = drawn(console)
    assert first.count("UserCreated  ") == most
    assert "never left out" in first
    assert second.count("UserCreated  ") == 2 * most
    assert "too fast" not in second
    last = drawn(console)
    assert last.count("UserCreated  ") == 30 * most
    assert last.count("… 50 more, too fast to show; --output lines has them all") == 1
    assert made.tally.dropped == 50


def test_the_status_goes_on_while_the_owner_waits(wait_until: Waiter) -> None:
    ticking, console, made = Ticking(), terminal(80), session()
    status = Status(made, ticking.clock)
    with LiveView(HEADER, made, status, gone=pytest.fail, console=console, refresh=0.001):
        ticking.seconds += 41
        wait_until(lambda: "up 41 s" in written_to(console), 10)


def test_a_terminal_that_became_narrower_keeps_no_piece_of_the_status() -> None:
    console, made = terminal(100), session(message(1))
    ticking = Ticking()
    status = Status(made, ticking.clock)
    with LiveView(HEADER, made, status, gone=pytest.fail, console=console, refresh=3600) as view:
        view.draw()
        ticking.seconds += 1
        console.width = 30
        before = len(written_to(console))
        view.draw()
        wrote = written_to(console)[before:]
    wrapped = 2
    assert wrote.count("\x1b[1A") >= 2 + wrapped
    assert "up 1 s" in wrote


class GoneAway(io.StringIO):
    """A terminal whose other side closes when it is told to."""

    gone = False

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_terminal_that_went_away_stops_the_run_without_an_error(wait_until: Waiter) -> None:
    file, stopped, made = GoneAway(), threading.Event(), session()
    console = terminal(80, file)
    status = Status(made, Ticking().clock)
    with LiveView(HEADER, made, status, gone=stopped.set, console=console, refresh=0.001) as view:
        file.gone = True
        view.message(message(1), False)
        wait_until(stopped.is_set, 10)
    assert "UserCreated" not in file.getvalue()


# --- recordings


def test_a_recording_has_what_the_view_shows(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    made = session(bounds=Bounds(expected=2), detail=True)
    recording = Recording(path, title="ddbrelay listen")
    status = Status(made, Ticking().clock)
    with recording, Recorder(recording, HEADER, made, status) as recorder:
        for one in (MESSAGES[0], MESSAGES[0], MESSAGES[6]):
            recorder.message(one, made.tally.add(one))
        recorder.note("a claim check was not followed")
    page = path.read_text()
    for part in ("─▶", "UserCreated", "↻ repeat<", "not an event", "a claim check was not"):
        assert part in page
    assert "1 of 2 expected" in page
    assert "&quot;detail-type&quot;: " in page
    assert "\x1b" not in page
    assert page.index("1 of 2 expected") < page.index("oldest")
