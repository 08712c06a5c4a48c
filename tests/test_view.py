"""What the live view says of the backlog, and that it stays calm and within the width."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len
from rich.text import Text
from stage import HOUR, NOW, Run, Stage, plain, shard

from ddbrelay.cli.view.status import flow, unread_words
from ddbrelay.relay.backlog import Backlog
from ddbrelay.text import one_word, printable, short_shard
from ddbrelay.times import alarm, duration, whole


def styles(text: Text) -> set[str]:
    return {str(span.style) for span in text.spans} | ({str(text.style)} - {""})


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(0, "0 s"), (2.9, "2 s"), (59.9, "59 s"), (119.7, "1 m 59 s"), (86399, "23 h 59 m")],
)
def test_what_is_known_to_the_second_is_told_in_whole_ones(seconds: float, says: str) -> None:
    assert whole(seconds) == says


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 m 0 s"),
        (179.6, "3 m 0 s"),
        (3599.8, "1 h 0 m"),
        (7500, "2 h 5 m"),
    ],
)
def test_a_duration_has_no_sixtieth_second(seconds: float, says: str) -> None:
    assert duration(seconds) == says


@pytest.mark.parametrize(
    "text", ["山田\u3000太郎", "12\u202f345,00\u00a0€", "می\u200cخواهم", "👩\u200d💻"]
)
def test_ordinary_letters_and_spaces_of_every_language_stay(text: str) -> None:
    assert printable(text) == text
    word = one_word(text)
    assert text in {word, json.loads(word) if word.startswith('"') else None}


@pytest.mark.parametrize(
    "char", ["\x1b", "\n", "\u202e", "\u2066", "\ud800", "\u2028", "\x9b", "\u200b"]
)
def test_what_moves_the_cursor_or_turns_the_line_does_not(char: str) -> None:
    assert printable(f"a{char}b") == "a\N{REPLACEMENT CHARACTER}b"


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


def test_parts_go_on_another_line_where_they_do_not_fit() -> None:
    parts = [Text("a" * 10), Text("b" * 10, style="red"), Text("c" * 10)]
    assert plain(flow(parts, 23)) == ["a" * 10 + "   " + "b" * 10, "c" * 10]
    assert plain(flow(parts, 22)) == ["a" * 10, "b" * 10, "c" * 10]
    (line,) = flow(parts, 80)
    assert line.plain == "   ".join(part.plain for part in parts)
    (span,) = line.spans
    assert line.plain[span.start : span.end] == "b" * 10


@pytest.fixture(params=[80, 120])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


@pytest.fixture
def wide() -> Stage:
    stage = Stage(120)
    stage.run.shards = 1
    return stage


def test_before_anything_is_read_nothing_is_claimed(wide: Stage) -> None:
    wide.run.shards = 0
    assert wide.lines() == ["in flight 0   lag 0.0 s   0 shards   up 1 s"]
    wide.run.shards = 1
    assert wide.lines() == ["in flight 0   lag 0.0 s   1 shard   all read   up 2 s"]


def test_the_status_line_has_the_oldest_unread_record(wide: Stage) -> None:
    wide.behind(2)
    assert wide.lines(0) == [
        "in flight 0   lag 0.0 s   1 shard   oldest unread 2 s, trimmed in 23 h 59 m   up 0 s"
    ]


def test_a_trickle_does_not_flicker_between_all_read_and_unread(wide: Stage) -> None:
    said = set()
    for _ in range(20):
        wide.behind(1)
        said.add(wide.lines()[0].split("   ")[3])
        wide.behind()
        said |= {wide.lines(0.6)[0].split("   ")[3] for _ in range(3)}
    assert said == {"oldest unread 2 s, trimmed in 23 h 59 m"}
    assert "   all read   " in wide.lines(3.0)[0]


def test_the_last_lines_say_how_it_is(wide: Stage) -> None:
    wide.behind(1)
    wide.lines()
    wide.behind()
    assert "   all read   " in wide.lines(0.1, last=True)[0]
    wide.run.shards = 0
    assert "   0 shards   all read   " in wide.lines(0.1, last=True)[0]


def test_with_one_shard_the_status_line_says_it_all(wide: Stage) -> None:
    wide.behind(2 * HOUR)
    assert len(wide.lines()) == 1


def test_of_several_shards_each_has_its_position_its_lag_and_the_hours_it_has_left() -> None:
    stage = Stage(100)
    stage.behind(2, HOUR)
    assert stage.lines()[1:] == [
        "  …00000001                     oldest unread 1 h 0 m, trimmed in 22 h 59 m",
        "  …00000000   after …00000001   keeps up",
        "  …00000002   after …00000003   keeps up",
    ]


def test_the_four_worst_shards_have_a_line_each_and_the_others_are_counted() -> None:
    stage = Stage(100)
    stage.run.shards = 100
    stage.behind(*(number * 60.0 for number in range(50)))
    *lines, more = stage.lines(0)[1:]
    assert [line.split()[0] for line in lines] == [f"…{number:08x}" for number in (49, 48, 47, 46)]
    assert lines[0].endswith("after …00000050   oldest unread 49 m 0 s, trimmed in 23 h 11 m")
    # The one that was written to just now keeps up.
    assert more == "  and 96 more, 45 of them behind"


def test_shards_that_keep_up_stand_in_the_order_of_their_ids_and_do_not_jump() -> None:
    stage = Stage(100)
    stage.run.shards = 9
    shown = []
    for ages in ([1, 2, 3], [3.9, 0, 2], [], [0, 3]):
        stage.behind(*ages)
        shown.append(stage.lines()[1:])
    assert all(lines == shown[0] for lines in shown)
    assert shown[0][-1] == "  and 5 more"


def test_a_shard_that_nothing_is_known_of_comes_before_those_that_keep_up() -> None:
    stage = Stage(100)
    stage.run.backlog = Backlog([shard(2)])
    assert stage.lines()[1] == "  …00000002   after …00000003   not read yet"


def test_a_low_terminal_has_a_line_for_one_shard() -> None:
    stage = Stage(100)
    stage.behind(60, 70)
    stage.lines()
    lines = stage.status.lines(stage.run, 100, 19)  # type: ignore[arg-type]
    assert [line.plain.split()[0] for line in lines[2:]] == ["…00000001", "and"]


def test_nothing_is_wider_than_the_terminal_whatever_the_numbers(stage: Stage) -> None:
    width = stage.console.width
    stage.run = Run(shards=1000, in_flight=1600, lag=86399.0)
    for ages in ([], [2], [HOUR], [23 * HOUR + 59 * 60, *[20 * HOUR] * 900]):
        stage.behind(*ages)
        stage.run.backlog = Backlog([*stage.run.backlog.unread, shard(9)], 1234)
        lines = stage.lines()
        assert max(map(cell_len, lines)) <= width


def test_the_lines_do_not_jump_with_a_digit_more_or_less() -> None:
    narrow = Stage(80)
    narrow.run.shards = 1
    narrow.behind(2)
    counts = []
    for in_flight in (1, 10, 100, 1000, 1, 1000, 1):
        narrow.run.in_flight = in_flight
        counts.append(len(narrow.lines()))
    assert counts == sorted(counts)
    assert counts[-1] == 2
