"""The live view as it stands on the screen, at 80 and at 120 columns.

The screens are kept as texts in tests/screens and compared exactly. After a change that was meant:

    UPDATE_SCREENS=1 pytest tests/test_view_screens.py; git diff tests/screens
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from rich.cells import cell_len
from stage import HOUR, Stage, check, outcome, shard_id, styled

from ddbrelay.cli.console import Console
from ddbrelay.cli.view.detail import changed_lines
from ddbrelay.cli.view.rows import Shown, below, row, row_lines
from ddbrelay.cli.view.sampling import Sample
from ddbrelay.cli.view.view import View
from ddbrelay.flow.capture import Gap
from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome

LONG = (
    "a rule needs new.address.country, which this item does not have; nothing of it was sent, and "
    "what follows of the item waits behind it until ddbrelay dead-letters redrive"
)
UPDATE = outcome(
    "90be22aa",
    "MODIFY",
    old={
        "id": "90be22aa",
        "email": "kaylee@serenity.example",
        "address": {"city": "Rome", "zip": "00118"},
        "tags": ["a", "b"],
    },
    new={
        "id": "90be22aa",
        "email": "kaylee.frye@serenity.example",
        "address": {"city": "Oslo", "zip": "00118"},
        "nickname": "Kay",
        "tags": ["a", "b"],
    },
)


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture(params=[80, 120])
def stage(request: pytest.FixtureRequest) -> Stage:
    stage = Stage(request.param)
    stage.run.shards = 1
    return stage


def usual() -> list[Outcome]:
    return [
        outcome("7f3a91c2", new={"id": "7f3a91c2", "username": "kaylee.frye"}),
        outcome("7f3a91c2", "MODIFY", new={"email": "n"}, old={"email": "o"}, age=41),
        outcome("11d04b7e", "REMOVE", ttl=True, detail_type="UserExpired", age=200),
        outcome("90be22aa", "MODIFY", Fate.SKIPPED, reason="deletes are no events", mapped=False),
        outcome("長い鍵" * 5, detail_type="注文が確定しました" * 4, new={"name": "見" * 60}),
        outcome("5c6d7e8f", detail_type="OrderPlacedByACustomerOfLongStanding", age=7300),
        outcome("5c6d7e8f", fate=Fate.PARKED, reason="the detail is larger than 1 MB"),
    ]


def show(stage: Stage, *outcomes: Outcome) -> None:
    with stage.view:
        for one in outcomes:
            stage.happen(one)
            stage.draw(0.5)
        stage.draw()


def test_each_event_has_its_row_and_the_status_stays_below(stage: Stage) -> None:
    show(stage, *usual())
    check(f"tail-{stage.console.width}", stage.screen)


def test_several_shards_say_where_they_stand(stage: Stage) -> None:
    stage.run.shards = 9
    stage.behind(2, 23.2 * HOUR, 19 * HOUR, 600, 61, 3, 40)
    stage.run.lag = 23.2 * HOUR
    show(stage, *usual()[:2])
    check(f"tail-shards-{stage.console.width}", stage.screen)


def test_a_long_reason_stands_below_its_row(stage: Stage) -> None:
    show(
        stage,
        outcome("a", fate=Fate.PARKED, reason=LONG),
        outcome("b", fate=Fate.PARKED, reason=f"{LONG}. " * 3, age=90),
        outcome("c", fate=Fate.PARKED, reason="no keys", mapped=False),
        outcome("d", fate=Fate.PARKED, reason="x" * 300, mapped=False),
    )
    check(f"tail-parked-{stage.console.width}", stage.screen)


@pytest.mark.parametrize("width", [80, 120])
def test_detail_shows_the_event_and_what_an_update_changed(width: int) -> None:
    stage = Stage(width, detail=True)
    show(stage, UPDATE, outcome("gone", "REMOVE", Fate.SKIPPED, reason="no rule", mapped=False))
    check(f"tail-detail-{width}", stage.screen)


def test_a_flood_is_sampled_which_is_said(stage: Stage) -> None:
    with stage.view:
        stage.happen(*[outcome(f"flood-{number:04}") for number in range(1500)])
        stage.happen(outcome("the one", fate=Fate.PARKED, reason="refused"))
        stage.draw()
        check(f"tail-flood-{stage.console.width}", stage.screen)
        for _ in range(30):
            stage.draw()
    lines = stage.screen
    assert any("the one" in line for line in lines)
    assert lines[-4] == "  … all of them again"
    assert lines[-2].split("   ")[-4:] == ["published 1,500", "skipped 0", "parked 1", "lost 0"]
    assert "showing" not in lines[-1]


def test_at_the_end_the_last_lines_stay_and_a_table_sums_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    view = View(Console("rich"))
    view.live = True
    with stage.view:
        for one in usual():
            view.counts.add(one)
            stage.happen(one)
        view.counts.lost = 1
        gap = Gap(shard_id(2), "1" * 21, reason="they were trimmed")
        stage.run.tally.gaps.append(gap)
        stage.view.gap(gap)
        stage.view.trouble("the bus did not take an event, trying again: \x1b[2JThrottled")
        stage.draw(0.5)
        stage.draw(0.5, last=True)
    view.sum_up(stage.console)
    check(f"tail-ended-{stage.console.width}", stage.screen)


# --- rows


@pytest.mark.parametrize("width", [20, 47, 60, 79, 80, 89, 90, 99, 100, 120, 240])
def test_no_row_is_wider_than_its_terminal(width: int) -> None:
    for one in [*usual(), outcome(fate=Fate.PARKED, reason=LONG), UPDATE]:
        for age in (None, 0.2, 7.0, 90_000.0):
            shown = Shown.of(one, detail=True)
            lines = row_lines(shown, width, age)
            if width >= 47:
                lines += below(shown, width)
            assert max(line.cell_len for line in lines) <= width


def test_an_age_has_a_place_where_there_is_room_or_when_it_is_high() -> None:
    one = usual()[0]
    assert row(one, 80, 0.4).plain.endswith("✔")
    assert row(one, 80, 12.0).plain.endswith("✔      12 s")
    number = (one.event_id or "")[:8]
    assert row(one, 90, 0.4).plain.endswith(f"✔ {number}")
    assert row(one, 90, 12.0).plain.endswith("✔      12 s")
    assert row(one, 90, 737.0).plain.endswith("✔ 12 m 17 s")
    assert row(one, 100, 0.4).plain.endswith(f"✔ {number}     0.4 s")
    assert row(one, 100, None).plain.endswith(f"✔ {number}")
    assert styled([row(one, 80, 12.0)], "12 s") == "dim"
    assert styled([row(one, 80, 120.0)], "2 m") == "yellow"


def test_the_age_of_a_row_with_a_reason_stands_where_the_others_have_theirs() -> None:
    published, skipped = usual()[0], usual()[3]
    ages = [row(one, 120, 737.0).plain for one in (published, skipped)]
    assert {one.index("12 m 17 s") for one in ages} == {ages[0].index("12 m 17 s")}
    assert "12 m" not in row(skipped, 70, 737.0).plain, "the reason has taken its room"


def test_of_long_values_that_begin_alike_the_difference_is_shown() -> None:
    alike = "the quick brown fox jumps over the lazy dog " * 5
    (line,) = changed_lines({"note": {"before": f"{alike}once", "after": f"{alike}twice"}}, 80)
    assert line.plain.strip().startswith("note: …")
    assert 'once" → …' in line.plain
    assert line.plain.endswith('twice"')


def test_the_state_has_its_colour_and_the_type_a_hue_of_its_own() -> None:
    published, *_, parked = usual()
    skipped = usual()[3]
    assert styled([row(published, 80)], "✔") == "green"
    assert styled([row(skipped, 80)], "– skipped") == "yellow"
    assert styled([row(parked, 100)], "✖ parked") == "red"
    hues = {styled([row(one, 120)], one.event.detail_type[:9]) for one in usual() if one.event}
    assert len(hues) > 2
    assert not hues & {"green", "yellow", "red", ""}


def test_the_reason_of_a_skip_takes_the_room_of_what_it_has_not() -> None:
    (line,) = row_lines(Shown.of(usual()[3]), 80)
    assert line.plain.endswith("–  – skipped: deletes are no events")


# --- sampling


def wanted(sample: Sample, number: int, fate: Fate = Fate.PUBLISHED) -> None:
    one = outcome(fate=fate)
    shown = Shown.of(one)
    for _ in range(number):
        if sample.wants(one):
            sample.keep(shown, 0.0)


def test_a_burst_that_can_be_shown_soon_is_shown_whole() -> None:
    sample = Sample(20)
    wanted(sample, 600)
    assert [len(sample.take()) for _ in range(31)] == [*[20] * 30, 0]
    assert (sample.every, sample.dropped) == (1, 0)


def test_a_flood_is_thinned_to_what_can_be_drawn_and_the_number_does_not_go_to_and_fro() -> None:
    sample, shown, every = Sample(20), 0, []
    for _ in range(100):
        wanted(sample, 2000)
        shown += len(sample.take())
        every.append(sample.every)
    assert every == sorted(every)
    assert every[-1] == 128
    assert shown + sample.dropped + len(sample) == 200_000
    assert 1000 < shown <= 2000
    for _ in range(60):
        wanted(sample, 3)
        sample.take()
    assert (sample.every, len(sample)) == (1, 0)


def test_what_is_parked_is_shown_in_a_flood_unless_it_is_the_flood() -> None:
    sample = Sample(20)
    wanted(sample, 100_000)
    sample.take(last=True)
    wanted(sample, 3, Fate.PARKED)
    assert len(sample.take()) >= 2
    every = []
    for _ in range(50):
        wanted(sample, 2000, Fate.PARKED)
        assert len(sample.take()) <= 20
        every.append(sample.every)
    assert max(every) <= 512


def test_the_last_drawing_shows_all_that_wait() -> None:
    sample = Sample(4)
    wanted(sample, 50)
    assert len(sample.take(last=True)) == 50


# --- drawing


def test_what_has_not_changed_is_not_drawn_again() -> None:
    stage = Stage(80)
    with stage.view:
        stage.draw()
        before = len(stage.written)
        for _ in range(5):
            stage.draw(0.01)
        assert len(stage.written) == before
        stage.draw(1.0)
        assert len(stage.written) > before


def test_rows_and_status_lines_fit_a_terminal_that_is_resized() -> None:
    stage = Stage(120)
    with stage.view:
        for width in (120, 80, 60, 140, 100):
            stage.console.width = width
            start = len(stage.written)
            stage.happen(*usual())
            stage.draw()
            shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stage.written[start:])
            assert max(map(cell_len, re.split(r"[\r\n]", shown))) <= width


def test_a_terminal_that_became_narrower_keeps_no_piece_of_the_status() -> None:
    stage = Stage(120)
    stage.run.shards = 1
    with stage.view:
        stage.draw()
        status = stage.screen[-2:]
        stage.console.width = 40
        start = len(stage.written)
        stage.draw()
        # Each of the two lines of 41 to 80 cells stands on two lines now.
        assert [40 < cell_len(line) <= 80 for line in status] == [True, True]
        assert stage.written[start:].count("\x1b[1A") == 2 + len(status)
