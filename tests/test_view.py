"""What the live view says of the backlog, and that it stays calm and within the width."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ddbrelay.cli import view
from ddbrelay.cli.view import LiveView, alarm, flow, short_shard, unread_lines, unread_words, whole
from ddbrelay.flow.tracking import Tally
from ddbrelay.relay.backlog import Backlog, Unread

NOW, HOUR = 1_767_225_600.0, 3600.0


def shard(number: int, age: float | None = None) -> Unread:
    name = f"shardId-0000000179543986{number:04}-{number:08x}"
    return Unread(name, None if age is None else NOW - age)


def plain(texts: list[Text]) -> list[str]:
    return [text.plain for text in texts]


def styles(text: Text) -> set[str]:
    return {str(span.style) for span in text.spans} | ({str(text.style)} - {""})


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0, "0 s"), (2.9, "2 s"), (59.9, "59 s"), (119.7, "1 m 59 s"), (86399, "23 h 59 m")],
)
def test_what_is_known_to_the_second_is_told_in_whole_ones(seconds: float, says: str) -> None:
    assert whole(seconds) == says


def test_a_shard_is_told_by_the_end_of_its_id() -> None:
    assert short_shard("shardId-00000001795439861487-f55eea83") == "…f55eea83"
    assert short_shard("shard-1") == "shard-1"
    assert short_shard("a\x1bb") == "a\N{REPLACEMENT CHARACTER}b"


@pytest.mark.parametrize(
    ("left", "style"),
    [(0, "red"), (HOUR - 1, "red"), (HOUR, "yellow"), (6 * HOUR - 1, "yellow"), (6 * HOUR, "dim")],
)
def test_the_last_hours_are_yellow_and_the_last_one_red(left: float, style: str) -> None:
    assert alarm(left) == style


def test_nothing_unread_is_all_read() -> None:
    assert plain(unread_words(Backlog(), NOW)) == ["all read"]
    assert unread_lines(Backlog(), NOW) == []


def test_the_worst_shard_stands_for_all_of_them() -> None:
    words = unread_words(Backlog([shard(1, 2), shard(2, 2 * HOUR), shard(3, HOUR)]), NOW)
    assert plain(words) == ["oldest unread 2 h 0 m, trimmed in 22 h 0 m"]
    assert styles(words[0]) == {"dim"}


@pytest.mark.parametrize(
    ("hours", "says", "style"),
    [
        (20, "trimmed in 4 h 0 m", "yellow"),
        (23.9, "trimmed in 6 m 0 s", "red"),
        (24, "trimmed now", "red"),
    ],
)
def test_only_the_time_that_is_left_is_coloured(hours: float, says: str, style: str) -> None:
    (words,) = unread_words(Backlog([shard(1, hours * HOUR)]), NOW)
    assert words.plain.endswith(says)
    (span,) = [span for span in words.spans if span.style == style]
    assert words.plain[span.start : span.end] == says


def test_shards_that_wait_and_shards_of_which_nothing_is_known_are_counted() -> None:
    backlog = Backlog([shard(1), shard(2)], 1200)
    assert plain(unread_words(backlog, NOW)) == [
        "2 not read yet",
        "1,200 waiting for their parents",
    ]
    assert plain(unread_words(Backlog((), 1), NOW)) == ["1 waiting for its parent"]
    assert unread_lines(backlog, NOW) == []


def test_the_four_worst_have_a_line_each_and_the_others_are_counted() -> None:
    backlog = Backlog([shard(n, n * 60.0) for n in range(100)])
    lines = plain(unread_lines(backlog, NOW))
    assert lines[0] == "  …00000063   oldest unread 1 h 39 m, trimmed in 22 h 21 m"
    assert [line.split()[0] for line in lines] == [
        "…00000063",
        "…00000062",
        "…00000061",
        "…00000060",
        "and",
    ]
    # The one that was written to just now keeps up.
    assert lines[-1] == "  and 95 more"


def test_shards_that_keep_up_have_no_line() -> None:
    assert unread_lines(Backlog([shard(n, 4.9) for n in range(9)]), NOW) == []


def test_parts_go_on_another_line_where_they_do_not_fit() -> None:
    parts = [Text("a" * 10), Text("b" * 10, style="red"), Text("c" * 10)]
    assert plain(flow(parts, 23)) == ["a" * 10 + "   " + "b" * 10, "c" * 10]
    assert plain(flow(parts, 22)) == ["a" * 10, "b" * 10, "c" * 10]
    (line,) = flow(parts, 80)
    assert line.plain == "   ".join(part.plain for part in parts)
    (span,) = line.spans
    assert line.plain[span.start : span.end] == "b" * 10


@dataclass
class Run:
    """What the view asks of a relay."""

    shards: int = 3
    in_flight: int = 0
    lag: float = 0.0
    read: int = 0
    preview: bool = False
    backlog: Backlog = field(default_factory=Backlog)
    tally: Tally = field(default_factory=Tally)


class Stage:
    """A live view whose clock and terminal are the test's."""

    def __init__(self, patch: pytest.MonkeyPatch, width: int) -> None:
        self.now = 50.0
        self.run = Run()
        self._terminal = io.StringIO()

        def console(**settings: Any) -> Console:
            return Console(
                file=self._terminal, width=width, height=40, force_terminal=True, **settings
            )

        patch.setattr(view, "RichConsole", console)
        patch.setattr(view.time, "monotonic", lambda: self.now)
        patch.setattr(view.time, "time", lambda: NOW + self.now)
        self.view = LiveView(Text("users"))

    def behind(self, *ages: float) -> None:
        """The oldest unread records of so many shards have these ages now."""
        since = NOW + self.now
        unread = [Unread(shard(n).shard_id, since - age) for n, age in enumerate(ages)]
        self.run.backlog = Backlog(unread)

    def lines(self, seconds: float = 1.0, *, last: bool = False) -> list[str]:
        """The status lines so many seconds later."""
        self.now += seconds
        status: Text = self.view._status(self.run, last)  # type: ignore[arg-type]
        return status.plain.split("\n")[2:]


@pytest.fixture(params=[80, 120])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch, request.param)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch, 120)


def test_before_anything_is_read_nothing_is_claimed(wide: Stage) -> None:
    wide.run.shards = 0
    assert wide.lines() == ["in flight 0   lag 0.0 s   0 shards"]
    wide.run.shards = 3
    assert wide.lines() == ["in flight 0   lag 0.0 s   3 shards   all read"]


def test_the_status_line_has_the_oldest_unread_record(wide: Stage) -> None:
    wide.behind(2)
    assert wide.lines(0) == [
        "in flight 0   lag 0.0 s   3 shards   oldest unread 2 s, trimmed in 23 h 59 m"
    ]


def test_a_trickle_does_not_flicker_between_all_read_and_unread(wide: Stage) -> None:
    said = set()
    for _ in range(20):
        wide.behind(1)
        said.add(wide.lines()[0].split("   ")[3])
        wide.behind()
        said |= {wide.lines(0.6)[0].split("   ")[3] for _ in range(3)}
    assert said == {"oldest unread 2 s, trimmed in 23 h 59 m"}
    assert wide.lines(3.0)[0].endswith("   all read")


def test_the_last_lines_say_how_it_is(wide: Stage) -> None:
    wide.behind(1)
    wide.lines()
    wide.behind()
    assert wide.lines(0.1, last=True)[0].endswith("   all read")
    wide.run.shards = 0
    assert wide.lines(0.1, last=True)[0].endswith("   0 shards   all read")


def test_with_one_shard_the_status_line_says_it_all(wide: Stage) -> None:
    wide.run.shards = 1
    wide.behind(2 * HOUR)
    assert len(wide.lines()) == 1


def test_nothing_is_wider_than_the_terminal_whatever_the_numbers(stage: Stage) -> None:
    width = stage.view._console.width
    stage.run = Run(shards=1000, in_flight=1600, lag=86399.0)
    for ages in ([], [2], [HOUR], [23 * HOUR + 59 * 60, *[20 * HOUR] * 900]):
        stage.behind(*ages)
        stage.run.backlog = Backlog([*stage.run.backlog.unread, shard(9)], 1234)
        lines = stage.lines()
        assert max(map(cell_len, lines)) <= width


def test_the_lines_do_not_jump_with_a_digit_more_or_less(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = Stage(monkeypatch, 80)
    narrow.behind(2)
    counts = []
    for in_flight in (1, 10, 100, 1000, 1, 1000, 1):
        narrow.run.in_flight = in_flight
        counts.append(len(narrow.lines()))
    assert counts == sorted(counts)
    assert counts[-1] == 2
