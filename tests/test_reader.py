"""One shard's iterator as a state machine."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ddbrelay.flow.capture import (
    ITERATOR_LIFETIME,
    Ended,
    Fault,
    Gap,
    IteratorType,
    NeedIterator,
    NeedRecords,
    Page,
    Position,
    Record,
    ShardReader,
    Start,
    Wait,
)
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.testing.builders import record
from ddbrelay.testing.clock import EPOCH

NOW = EPOCH + 100.75


def reader(position: Position | None = None, **settings: object) -> ShardReader:
    return ShardReader(position or Position("s"), rng=random.Random(0), **settings)  # type: ignore[arg-type]


def page(*records: Record, then: str | None = "next") -> Page:
    return Page(records, then)


def at_iterator(made: ShardReader, now: float = NOW) -> ShardReader:
    assert isinstance(made.step(now), NeedIterator)
    made.got_iterator("first", now)
    return made


def asks(made: ShardReader, now: float = NOW) -> tuple[IteratorType, str | float | None]:
    step = made.step(now)
    assert isinstance(step, NeedIterator), step
    return step.kind, step.sequence or step.timestamp


@pytest.mark.parametrize(
    ("position", "fresh", "asked"),
    [
        (Position("s"), True, (IteratorType.TRIM_HORIZON, None)),
        (Position("s"), False, (IteratorType.TRIM_HORIZON, None)),
        (Position("s", start=Start.LATEST, start_time=EPOCH), True, (IteratorType.LATEST, None)),
        (
            Position("s", start=Start.LATEST, start_time=EPOCH),
            False,
            (IteratorType.AT_TIMESTAMP, EPOCH),
        ),
        (
            Position("s", start=Start.TIME, start_time=EPOCH),
            True,
            (IteratorType.AT_TIMESTAMP, EPOCH),
        ),
        (
            Position("s", start=Start.AT_SEQUENCE, start_sequence="100"),
            True,
            (IteratorType.AT_SEQUENCE_NUMBER, "100"),
        ),
        (
            Position("s", start=Start.LATEST, start_time=EPOCH, sequence="200"),
            True,
            (IteratorType.AFTER_SEQUENCE_NUMBER, "200"),
        ),
    ],
)
def test_a_shard_starts_where_its_position_says(
    position: Position, fresh: bool, asked: tuple[IteratorType, str | float | None]
) -> None:
    assert asks(reader(position, fresh=fresh)) == asked


def test_a_time_is_asked_for_from_its_whole_second_since_records_carry_no_more() -> None:
    for position in (
        Position("s", start=Start.LATEST, start_time=EPOCH + 0.7),
        Position("s", start=Start.TIME, start_time=EPOCH + 0.7),
    ):
        made = reader(position)
        assert asks(made) == (IteratorType.AT_TIMESTAMP, EPOCH)
        assert made.wants(record(at=EPOCH + 0.1))


def test_a_stored_iterator_is_used_while_no_number_is_known() -> None:
    stored = Position("s", iterator="stored", iterator_at=NOW - 60)
    assert reader(stored).step(NOW) == NeedRecords("stored")


def test_a_stored_iterator_gives_way_to_the_sequence_number_before_it() -> None:
    stored = Position("s", sequence="100", iterator="stored", iterator_at=NOW - 60)
    assert asks(reader(stored)) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")


def test_a_stored_iterator_past_15_minutes_gives_way_to_the_original_start() -> None:
    stored = Position("s", iterator="stored", iterator_at=NOW - ITERATOR_LIFETIME)
    assert asks(reader(stored)) == (IteratorType.TRIM_HORIZON, None)


@pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.TRANSIENT, Fault.TRIMMED, Fault.REFUSED])
def test_a_stored_iterator_that_fails_gives_way_to_the_original_start(fault: Fault) -> None:
    made = reader(Position("s", iterator="stored", iterator_at=NOW))
    assert made.step(NOW) == NeedRecords("stored")
    assert made.failed(fault, NOW) is None
    assert asks(made) == (IteratorType.TRIM_HORIZON, None)


def test_after_a_call_without_an_answer_a_fresh_iterator_is_asked_for_behind_the_number() -> None:
    made = at_iterator(reader())
    made.got_page(page(record("a", 100)), NOW)
    assert made.failed(Fault.NO_ANSWER, NOW + 1) is None
    assert asks(made, NOW + 60) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")


@pytest.mark.parametrize("start", [Start.TRIM_HORIZON, Start.ITERATOR])
def test_without_a_number_an_iterator_outlives_a_call_without_an_answer(start: Start) -> None:
    made = reader(Position("s", start=start, iterator="stored", iterator_at=NOW))
    assert made.failed(Fault.NO_ANSWER, NOW) is None
    assert made.step(NOW + 60) == NeedRecords("stored")


def test_a_page_over_a_new_connection_is_read_again_behind_the_number() -> None:
    made = at_iterator(reader())
    again = replace(page(record("b", 200)), reconnected=True)
    assert not made.doubts(again)
    made.got_page(page(record("a", 100)), NOW)
    assert made.doubts(again)
    assert asks(made, NOW + 1) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")
    made.got_iterator("fresh", NOW + 1)
    assert not made.doubts(again)


def test_a_raw_iterator_is_never_replaced_by_a_number() -> None:
    made = reader(Position("s", start=Start.ITERATOR, iterator="raw", iterator_at=NOW))
    made.got_page(page(record("a", 100)), NOW)
    assert not made.doubts(replace(page(), reconnected=True))
    made.failed(Fault.NO_ANSWER, NOW + 1)
    assert isinstance(made.step(NOW + 60), NeedRecords)


def test_a_raw_iterator_without_a_number_that_fails_is_a_gap_and_not_a_new_start() -> None:
    made = reader(Position("s", start=Start.ITERATOR, iterator="raw", iterator_at=NOW))
    gap = made.failed(Fault.EXPIRED, NOW)
    assert gap is not None
    assert (gap.shard_id, gap.after) == ("s", None)
    assert made.step(NOW) == Ended()


def test_an_expired_iterator_is_renewed_after_the_last_number() -> None:
    made = at_iterator(reader())
    made.got_page(page(record("a", 100), record("b", 200)), NOW)
    assert made.failed(Fault.EXPIRED, NOW + 1) is None
    assert asks(made, NOW + 1) == (IteratorType.AFTER_SEQUENCE_NUMBER, "200")


@pytest.mark.parametrize(
    ("position", "again"),
    [
        (Position("s"), (IteratorType.TRIM_HORIZON, None)),
        (Position("s", start=Start.LATEST, start_time=EPOCH), (IteratorType.AT_TIMESTAMP, EPOCH)),
        (Position("s", start=Start.TIME, start_time=EPOCH), (IteratorType.AT_TIMESTAMP, EPOCH)),
    ],
)
def test_an_expired_iterator_without_a_number_is_renewed_at_the_original_start_never_latest(
    position: Position, again: tuple[IteratorType, float | None]
) -> None:
    made = at_iterator(reader(position, fresh=True))
    made.got_page(page(), NOW)
    made.failed(Fault.EXPIRED, NOW + 1)
    assert asks(made, NOW + 1) == again


@pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.THROTTLED])
def test_latest_is_asked_for_once_even_when_the_answer_is_lost(fault: Fault) -> None:
    made = reader(Position("s", start=Start.LATEST, start_time=EPOCH), fresh=True)
    assert asks(made) == (IteratorType.LATEST, None)
    made.failed(fault, NOW)
    assert asks(made, NOW + 60) == (IteratorType.AT_TIMESTAMP, EPOCH)


def test_an_iterator_is_renewed_before_it_is_used_too_late() -> None:
    made = at_iterator(reader())
    made.got_page(page(record("a", 100)), NOW)
    late = NOW + ITERATOR_LIFETIME
    assert asks(made, late) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")


def test_the_last_page_has_records_and_no_iterator_and_its_records_count() -> None:
    made = at_iterator(reader())
    made.got_page(page(record("a", 100), then=None), NOW)
    assert made.sequence == "100"
    assert made.step(NOW) == Ended()


def test_empty_pages_before_records_are_followed() -> None:
    made = at_iterator(reader(closed=True))
    for number in range(5):
        made.got_page(page(then=f"n{number}"), NOW)
        assert made.step(NOW + 10) == NeedRecords(f"n{number}")
    made.got_page(page(record("a", 100), then=None), NOW)
    assert made.sequence == "100"


def test_a_closed_shard_is_not_caught_up_before_its_end() -> None:
    made = at_iterator(reader(closed=True))
    made.got_page(page(), NOW)
    assert not made.caught_up
    open_one = at_iterator(reader())
    open_one.got_page(page(), NOW)
    assert open_one.caught_up


def test_the_pace_is_at_once_after_a_full_page_then_slower_the_longer_nothing_comes() -> None:
    made = at_iterator(reader())
    made.got_page(page(*(record("a") for _ in range(1000))), NOW)
    assert made.step(NOW) == NeedRecords("next")
    pauses = []
    for records in ([record("a")], [], [], [], []):
        made.got_page(page(*records), NOW)
        step = made.step(NOW)
        assert isinstance(step, Wait)
        pauses.append(step.until - NOW)
    assert pauses == [0.25, 0.5, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("size", [1024 * 1024, 820_000, 410_000, 200_000])
def test_no_pause_follows_a_page_that_the_limit_of_1_mb_may_have_cut(size: int) -> None:
    made = at_iterator(reader())
    made.got_page(replace(page(record("a")), size=size), NOW)
    assert made.step(NOW) == NeedRecords("next")


def test_a_pause_follows_a_page_that_had_room_for_the_largest_record() -> None:
    made = at_iterator(reader())
    made.got_page(replace(page(record("a")), size=150_000), NOW)
    assert made.step(NOW) == Wait(NOW + 0.25)


def test_a_trimmed_iterator_is_tried_again_by_its_number_before_anything_is_lost() -> None:
    made = at_iterator(reader())
    made.got_page(page(record("a", 100)), NOW)
    assert made.failed(Fault.TRIMMED, NOW + 1) is None
    assert asks(made, NOW + 1) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")


def test_a_trimmed_position_is_a_gap_and_reading_goes_on_at_the_trim_horizon() -> None:
    made = reader(Position("s", sequence="100"))
    assert asks(made) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")
    assert made.failed(Fault.TRIMMED, NOW) == Gap(
        "s", "100", Fault.TRIMMED.value, until=NOW - RETENTION
    )
    assert asks(made) == (IteratorType.TRIM_HORIZON, None)


def test_a_deleted_shard_is_ended_and_what_was_unread_is_a_gap() -> None:
    made = reader(Position("s", sequence="100"))
    assert made.failed(Fault.NOT_FOUND, NOW) == Gap("s", "100", Fault.NOT_FOUND.value, until=NOW)
    assert made.step(NOW) == Ended()


def test_a_shard_that_was_seen_to_be_read_within_a_day_has_no_gap() -> None:
    position = Position("s", seen_at=NOW - RETENTION + 1)
    assert reader(position).unseen(NOW) is None
    gap = reader(position).unseen(NOW + 2)
    assert gap is not None
    assert (gap.after, gap.since, gap.until) == (None, position.seen_at, NOW + 2 - RETENTION)


def test_nothing_is_called_lost_as_long_as_the_shards_first_number_can_be_read() -> None:
    made = reader(Position("s", seen_at=NOW - 2 * RETENTION, starting="100"))
    assert made.unseen(NOW) is None
    assert asks(made) == (IteratorType.AT_SEQUENCE_NUMBER, "100")
    made.got_iterator("i", NOW)
    made.got_page(page(record("a", 100)), NOW)
    assert not made.proving


@pytest.mark.parametrize("fault", [Fault.TRIMMED, Fault.REFUSED])
def test_a_shard_whose_first_number_is_gone_has_lost_its_beginning(fault: Fault) -> None:
    made = reader(Position("s", seen_at=NOW - 2 * RETENTION, starting="100"))
    made.unseen(NOW)
    asks(made)
    gap = made.failed(fault, NOW)
    assert gap is not None
    assert (gap.after, gap.since, gap.until) == (None, NOW - 2 * RETENTION, NOW - RETENTION)
    assert asks(made) == (IteratorType.TRIM_HORIZON, None)


def test_a_very_first_start_may_be_interrupted_for_a_while_before_it_is_too_late() -> None:
    position = Position("s", start_time=NOW)
    assert reader(position).unseen(NOW + 10 * 60) is None
    gap = reader(position).unseen(NOW + 16 * 60)
    assert gap is not None
    assert (gap.since, gap.until) == (None, NOW + 16 * 60 - RETENTION)
    assert reader(position, fresh=True).unseen(NOW + RETENTION) is None


def test_a_horizon_that_moves_under_the_first_steps_of_a_first_run_loses_nothing() -> None:
    made = reader(Position("s", start_time=NOW), fresh=True)
    asks(made)
    made.got_iterator("i", NOW)
    assert made.failed(Fault.TRIMMED, NOW) is None
    assert made.step(NOW + 60) == NeedIterator(IteratorType.TRIM_HORIZON)
    made.got_iterator("i", NOW + RETENTION)
    assert made.failed(Fault.TRIMMED, NOW + RETENTION) is not None


def test_a_seen_time_that_is_still_to_come_was_noted_by_a_clock_that_was_wrong() -> None:
    assert reader(Position("s", seen_at=NOW + 3600)).unseen(NOW) is not None


def test_a_reader_that_has_read_waits_for_no_horizon_to_come_to_rest() -> None:
    made = at_iterator(reader(Position("s", start_time=NOW), fresh=True))
    made.got_page(page(record("a", 100, at=NOW)), NOW)
    made.failed(Fault.TRIMMED, NOW + 1)
    assert asks(made, NOW + 1) == (IteratorType.AFTER_SEQUENCE_NUMBER, "100")
    assert made.failed(Fault.TRIMMED, NOW + 1) is not None


def test_a_trimmed_record_that_was_read_is_no_gap_when_nothing_came_behind_it_for_a_day() -> None:
    quiet = Position("s", sequence="100", written_at=NOW - RETENTION - 1, seen_at=NOW - 3600)
    made = reader(quiet)
    asks(made)
    assert made.failed(Fault.TRIMMED, NOW) is None
    assert asks(made) == (IteratorType.TRIM_HORIZON, None)


@pytest.mark.parametrize(
    ("written_at", "seen_at"),
    [
        # Our clock is behind: the record cannot have been trimmed by what it says.
        (NOW - 60, NOW - 30),
        # Nobody looked for a day.
        (NOW - RETENTION - 7200, NOW - RETENTION - 3600),
        # Our clock was ahead when it was noted.
        (NOW - RETENTION - 1, NOW + 3600),
        (None, NOW - 3600),
        (NOW - RETENTION - 1, None),
    ],
)
def test_a_trimmed_record_is_a_gap_unless_both_times_say_that_nothing_came_behind_it(
    written_at: float | None, seen_at: float | None
) -> None:
    made = reader(Position("s", sequence="100", written_at=written_at, seen_at=seen_at))
    asks(made)
    assert made.failed(Fault.TRIMMED, NOW) is not None


def test_three_empty_pages_in_a_row_say_that_all_was_read_up_to_a_minute_ago() -> None:
    made = at_iterator(reader())
    for seconds in range(2):
        made.got_page(page(), NOW + seconds)
        assert made.seen_at is None
    made.got_page(page(), NOW + 2)
    assert made.seen_at == NOW + 2 - 60
    made.got_page(page(record("a", 1, at=NOW + 3)), NOW + 4)
    assert made.seen_at == int(NOW + 3)


def test_empty_pages_of_a_closed_shard_say_nothing() -> None:
    made = at_iterator(reader(closed=True))
    for seconds in range(5):
        made.got_page(page(), NOW + seconds)
    assert made.seen_at is None


def test_a_refused_time_becomes_the_trim_horizon_with_a_filter() -> None:
    made = reader(Position("s", start=Start.TIME, start_time=EPOCH + 0.5))
    assert asks(made)[0] is IteratorType.AT_TIMESTAMP
    assert made.failed(Fault.REFUSED, NOW) is None
    assert asks(made) == (IteratorType.TRIM_HORIZON, None)
    assert not made.wants(record(at=EPOCH - 1))
    assert made.wants(record(at=EPOCH))
    assert made.wants(record(at=None))


def test_a_start_by_time_whose_iterator_breaks_every_page_becomes_a_filter() -> None:
    made = at_iterator(reader(Position("s", start=Start.TIME, start_time=EPOCH)))
    assert made.failed(Fault.TRANSIENT, NOW) is None
    assert made.step(NOW + 60) == NeedRecords("first")
    assert made.failed(Fault.TRANSIENT, NOW + 60) is None
    assert asks(made, NOW + 60) == (IteratorType.TRIM_HORIZON, None)
    assert not made.wants(record(at=EPOCH - 1))


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.TRANSIENT])
def test_a_call_that_fails_is_made_again_later_and_later(fault: Fault) -> None:
    made = at_iterator(reader())
    pauses = []
    for _ in range(10):
        assert made.failed(fault, NOW) is None
        step = made.step(NOW)
        assert isinstance(step, Wait)
        assert made.step(step.until) == NeedRecords("first")
        pauses.append(step.until - NOW)
    assert all(0.2 <= pause <= 10.0 for pause in pauses)
    assert pauses[-1] >= 5.0 > pauses[0]


def test_an_iterator_that_expires_at_once_again_and_again_is_not_a_busy_loop() -> None:
    made = reader(Position("s", sequence="100"))
    waited = 0
    for _ in range(10):
        step = made.step(NOW)
        if isinstance(step, Wait):
            waited += 1
            step = made.step(step.until)
        assert isinstance(step, NeedIterator)
        made.got_iterator("again", NOW)
        made.failed(Fault.EXPIRED, NOW)
    assert waited >= 8
