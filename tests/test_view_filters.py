"""What of a run is shown, on which screen, and what is kept of it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Cli
from pipeline import clear_error
from rich.cells import cell_len
from rich.color import Color, ColorSystem
from stage import Run, outcome, plain

from ddbrelay.cli.console import Console
from ddbrelay.cli.recording import Recording
from ddbrelay.cli.screens import LineScreen
from ddbrelay.cli.view.counts import Counts
from ddbrelay.cli.view.detail import MOST_LINES, changed_lines, detail_lines
from ddbrelay.cli.view.filters import Filter
from ddbrelay.cli.view.table import summary_table
from ddbrelay.cli.view.types import PALETTE, type_style
from ddbrelay.cli.view.view import View
from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Gap
from ddbrelay.flow.tracking import Fate
from ddbrelay.output.words import searched
from ddbrelay.relay import Outcome

CREATED = outcome("ada", new={"id": "ada", "username": "Ada Lovelace"})
UPDATED = outcome(
    "ada", "MODIFY", old={"id": "ada", "email": "a@b.c"}, new={"id": "ada", "email": "d@e.f"}
)
DELETED = outcome("bob", "REMOVE")
SKIPPED = outcome("eve", fate=Fate.SKIPPED, reason="no rule", mapped=False)
PARKED = outcome("joe", fate=Fate.PARKED, reason="the detail is larger than 1 MB")
ALL = [CREATED, UPDATED, DELETED, SKIPPED, PARKED]


def kept(show: tuple[str, ...] = (), grep: str | None = None) -> list[str]:
    """The keys of those that a filter lets pass."""
    filter, shown = Filter(show, grep), []
    for one in ALL:
        kind = one.event and one.event.detail_type
        if filter.shows(kind, lambda one=one: searched(one)):  # type: ignore[misc]
            shown.append(f"{one.change.keys['id']}")
    assert filter.hidden == len(ALL) - len(shown)
    return shown


@pytest.mark.parametrize(
    ("show", "shown"),
    [
        ((), ["ada", "ada", "bob", "eve", "joe"]),
        (("UserUpdated",), ["ada"]),
        (("UserUpdated", "UserDeleted"), ["ada", "bob"]),
        (("User*",), ["ada", "ada", "bob", "joe"]),
        (("*[dt]ed",), ["ada", "ada", "bob", "joe"]),
        (("user*",), []),
        (("User",), []),
    ],
)
def test_show_takes_event_types_with_the_wildcards_of_a_shell(
    show: tuple[str, ...], shown: list[str]
) -> None:
    assert kept(show) == shown


@pytest.mark.parametrize(
    ("grep", "shown"),
    [
        ("lovelace", ["ada"]),
        ("Lovelace", ["ada"]),
        ("LOVELACE", []),
        (r"ada\S+Ada", ["ada"]),
        (r"\Wlovelace", ["ada"]),
        ("id=b", ["bob"]),
        ("userdeleted", ["bob"]),
        ("larger than 1 MB", ["joe"]),
        ("^id=(ada|joe)", ["ada", "ada", "joe"]),
        ('"email":"d@', ["ada"]),
        ("no rule", ["eve"]),
    ],
)
def test_grep_searches_key_type_reason_and_detail(grep: str, shown: list[str]) -> None:
    assert kept(grep=grep) == shown


def test_both_must_match() -> None:
    assert kept(("UserUpdated", "UserDeleted"), "ada") == ["ada"]


@pytest.mark.parametrize(
    ("grep", "where"), [("a(b", "column 2"), ("[z", "column 1"), ("a{9999999999}", "too large")]
)
def test_what_is_no_regular_expression_is_refused_with_its_place(grep: str, where: str) -> None:
    with pytest.raises(ConfigError, match=where) as caught:
        Filter((), grep)
    assert caught.value.message.startswith("--grep: ")


def test_a_grep_that_backtracks_without_end_is_left_out_after_a_few_events() -> None:
    told: list[str] = []
    filter = Filter((), "(a|aa)+$", told.append)
    # For `re` each of these takes longer than the universe has left.
    endless = "a" * 100 + "!"
    assert [filter.shows("UserCreated", lambda: endless) for _ in range(5)] == [True] * 5
    assert filter.shows("UserCreated", lambda: "which the expression does not match")
    assert filter.hidden == 0
    assert len(told) == 1
    assert told[0].startswith("--grep is left out from here on: ")


def test_types_without_end_do_not_fill_the_memory_of_a_filter() -> None:
    filter = Filter(("Odd1*",), None)
    assert sum(filter.shows(f"Odd{n}", str) for n in range(3000)) == 1 + 10 + 100 + 1000
    assert len(filter._verdicts) <= 1001


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tail", "--grep", "a("), "column 2"),
        (("replay", "--since", "1h", "--record", "run.png"), "neither .svg nor .html"),
    ],
)
def test_a_wrong_filter_or_file_is_refused_before_anything_starts(
    bare_cli: Cli, words: tuple[str, ...], said: str
) -> None:
    clear_error(bare_cli.run(*words, "--table", "users"), 2, said)


# --- screens


def lines_of(
    capfd: pytest.CaptureFixture[str],
    output: str = "lines",
    show: tuple[str, ...] = (),
    grep: str | None = None,
    **more: Any,
) -> tuple[list[str], list[str]]:
    """What goes to stdout and to stderr when all of them happen."""
    view = View(Console(output), Filter(show, grep), **more)
    with view:
        screen = view.screen("users ─▶ users-bus", "consumer default", "users-bus")
        for one in ALL:
            screen.outcome(one)
        screen.close(None)
    sys.stdout.flush()
    out, err = capfd.readouterr()
    return out.splitlines(), err.splitlines()


def test_lines_are_narrowed_and_it_is_said_how_many_are_hidden(
    capfd: pytest.CaptureFixture[str],
) -> None:
    out, err = lines_of(capfd, show=("UserUpdated",))
    assert [line.split()[3] for line in out] == ["UserUpdated"]
    assert err == ["hidden by --show/--grep: 4"]
    out, err = lines_of(capfd)
    assert (len(out), err) == (5, [])


def test_objects_are_narrowed_and_nothing_is_added(capfd: pytest.CaptureFixture[str]) -> None:
    out, err = lines_of(capfd, "json", grep="ada", detail=True)
    assert [json.loads(line)["event"]["detailType"] for line in out] == [
        "UserCreated",
        "UserUpdated",
    ]
    assert err == []


def test_lines_have_the_detail_below_them_in_plain_text(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = lines_of(capfd, detail=True, show=("UserUpdated",))
    assert out[1:4] == [
        '          email: "a@b.c" → "d@e.f"',
        "          {",
        '            "source": "ddbrelay.users",',
    ]
    assert json.loads("\n".join(out[2:]))["detail"] == {"id": "ada", "email": "d@e.f"}
    assert "\x1b" not in "\n".join(out)


def test_without_a_filter_or_a_recording_nothing_stands_between_engine_and_lines() -> None:
    assert isinstance(View(Console("lines")).screen("t", "d", None), LineScreen)
    assert isinstance(View(Console("json")).screen("t", "d", None), LineScreen)


@pytest.mark.parametrize(
    ("environment", "live"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, True),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
    ],
)
def test_the_live_view_is_for_terminals_that_can_be_redrawn_coloured_or_not(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], live: bool
) -> None:
    monkeypatch.setattr(Console, "live", True)
    for name, value in {"TERM": "xterm", "NO_COLOR": "", **environment}.items():
        monkeypatch.setenv(name, value)
    assert View(Console("rich")).live is live


# --- recording


@pytest.mark.parametrize("output", ["lines", "json"])
def test_a_recording_has_header_rows_notes_status_and_table_without_a_terminal(
    tmp_path: Path, output: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file, run = tmp_path / "run.html", Run(shards=1)

    async def go() -> None:
        recording = Recording(file, title="ddbrelay tail users")
        view = View(Console(output), Filter(("User*",), None), detail=True, recording=recording)
        with view:
            screen = view.screen("users ─▶ users-bus", "consumer default", "users-bus")
            following = asyncio.create_task(screen.follow(run, asyncio.Event()))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            for one in ALL:
                screen.outcome(one)
            screen.gap(Gap("shard-1", "1" * 21, reason="trimmed"))
            screen.trouble("throttled")
            following.cancel()
            with pytest.raises(asyncio.CancelledError):
                await following
            screen.close(run)  # type: ignore[arg-type]

    asyncio.run(go())
    page = file.read_text()
    for words in (
        "<title>ddbrelay tail users</title>",
        "users ─▶ users-bus",
        "id=ada",
        "UserUpdated",
        "parked: the detail is larger",
        "shard-1",
        "throttled",
        "in flight 0",
        "no event",
    ):
        assert words in page, words
    assert "id=eve" not in page
    out, _ = capfd.readouterr()
    assert out


def test_a_recording_is_written_when_the_run_fails(tmp_path: Path) -> None:
    file = tmp_path / "run.svg"
    recording = Recording(file, title="t")
    view = View(Console("json"), recording=recording)

    def fail() -> None:
        with view:
            view.screen("users", "consumer default", None).outcome(CREATED)
            raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        fail()
    assert "UserCreated" in file.read_text()


# --- an event in full


@pytest.mark.parametrize("width", [20, 47, 80, 120])
def test_an_event_in_full_is_never_wider_than_its_terminal_and_loses_nothing(width: int) -> None:
    event = {
        "detailType": "T",
        "detail": msgspec.Raw(
            b'{"n":12345678901234567890.10,"t":"' + b"x\\u2028\xe8\xa6\x8b" * 60 + b'"}'
        ),
        "long" * 20: [1, "two", None, {"three": ["a[1]", "{"]}],
        "none": None,
    }
    lines = plain(detail_lines(event, width))
    assert max(map(cell_len, lines)) <= width
    if width >= 80:
        text = "".join(line.strip() for line in lines)
        assert "12345678901234567890.10" in text
        assert text.count("見") == 60
        assert "none" not in text


def test_a_long_event_is_cut_and_says_by_how_much() -> None:
    lines = plain(detail_lines({"detail": {f"k{n}": n for n in range(1000)}}, 80))
    assert len(lines) == MOST_LINES + 1
    assert lines[-1].strip() == f"… {1004 - MOST_LINES} more lines; --output json has all of it"
    huge = plain(detail_lines({"detail": {"t": "x" * 100_000}}, 80))
    assert len(huge) < 20
    assert "(100,002 characters)" in "".join(line.strip() for line in huge)


def test_an_update_names_each_field_that_changed_with_both_values() -> None:
    diff = {
        "a": {"before": {"b": 1, "c": [1], "d": 0}, "after": {"b": 2, "c": [2], "d": 0}},
        "gone": {"before": None},
        "came": {"after": "x"},
        "whole": {"before": {}, "after": {"x": 1}},
        "long": {"before": "y" * 200, "after": "z"},
    }
    assert [line.strip() for line in plain(changed_lines(diff, 60))] == [
        "a.b: 1 → 2",
        "a.c: [1] → [2]",
        'came: – → "x"',
        "gone: null → –",
        f'long: "{"y" * 36}… → "z"',
        'whole: {} → {"x":1}',
    ]
    many = {f"f{n:02}": {"before": n, "after": -n} for n in range(50)}
    assert plain(changed_lines(many, 60))[-1].strip().startswith("… 30 more fields")


# --- types and counts


def test_an_event_type_keeps_a_hue_that_means_nothing_else() -> None:
    for noun in ("User", "OrderItem", "注文"):
        verbs = ("Created", "Updated", "Deleted", "Expired")
        assert len({type_style(noun + verb) for verb in verbs}) == 4
    taken = {Color.parse(name).number for name in ("red", "green", "yellow")}
    taken |= {number + 8 for number in taken if number is not None}
    for name in PALETTE:
        assert Color.parse(name).downgrade(ColorSystem.STANDARD).number not in taken


def counted(*outcomes: Outcome) -> Counts:
    counts = Counts()
    for one in outcomes:
        counts.add(one)
    return counts


def test_the_table_counts_by_type_and_fate() -> None:
    table = summary_table(counted(*ALL, CREATED), 80, preview=False)
    assert table is not None
    assert table.plain.splitlines() == [
        "              published   skipped   parked   lost",
        "UserCreated           2         0        1",
        "UserDeleted           1         0        0",
        "UserUpdated           1         0        0",
        "no event              0         1        0",
        "all                   4         1        1      0",
    ]


def test_a_single_type_needs_no_sum_and_nothing_needs_no_table() -> None:
    table = summary_table(counted(outcome(fate=None)), 80, preview=True)
    assert table is not None
    assert table.plain.splitlines() == [
        "              seen   skipped   parked   lost",
        "UserCreated      1         0        0      0",
    ]
    assert summary_table(Counts(), 80, preview=True) is None
    lost = Counts()
    lost.lost = 2
    table = summary_table(lost, 80, preview=False)
    assert table is not None
    assert table.plain.splitlines()[1].split() == ["all", "0", "0", "0", "2"]


def test_types_without_end_share_a_line() -> None:
    many = counted(*(outcome(detail_type=f"Type{n}") for n in range(1500)))
    assert many.total == 1500
    assert len(many.types) <= 1001
    table = summary_table(many, 80, preview=False)
    assert table is not None
    assert len(table.plain.splitlines()) == 15
    assert table.plain.splitlines()[-2].startswith("989 more types")
    assert table.plain.splitlines()[-1].split()[1] == "1,500"
