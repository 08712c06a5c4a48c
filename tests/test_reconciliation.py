"""A shard's records held against what the ledger says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ddbrelay.flow.capture import Gap, Position, Start
from ddbrelay.flow.tracking import Block
from ddbrelay.flow.tracking.reconciliation import Books, Finding, Reconciliation, Verdict
from ddbrelay.testing.builders import record
from ddbrelay.testing.clock import EPOCH

UNACCOUNTED, MISCOUNTED, READABLE = Verdict
NINES = 10**21 - 60
"""Numbers from here on grow longer: compared as text they would be out of order."""


def block(*numbers: int, after: int | None = None) -> Block:
    made = Block(None if after is None else str(after), str(numbers[0]), str(numbers[0]))
    for number in numbers:
        made.add(str(number))
    return made


def blocks_of(numbers: Sequence[int], cuts: Sequence[int] = ()) -> list[Block]:
    """Blocks of a run of records, cut before the indexes."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(numbers)}), len(numbers)]
    return [
        block(*numbers[begin:end], after=numbers[begin - 1] if begin else None)
        for begin, end in pairwise(edges)
        if end > begin
    ]


def compared(
    books: Books, *numbers: int, missed_before: int | None = None, at: float = EPOCH
) -> Reconciliation:
    made = Reconciliation("s", books)
    for number in numbers:
        if number == missed_before:
            made.missed()
        made.see([record("a", number, at=at)])
    made.finish()
    return made


def found(made: Reconciliation) -> list[tuple[Verdict, int, str, str]]:
    return [(one.verdict, one.count, one.first, one.last) for one in made.findings]


def at(sequence: int | None, **more: object) -> Position:
    number = None if sequence is None else str(sequence)
    return replace(Position("s", sequence=number), **more)


# One record too many or too few


def test_a_record_that_was_left_out_of_a_block_is_named_by_the_difference_of_the_sums() -> None:
    made = compared(Books(at(5), [block(1, 2, 4, 5)]), 1, 2, 3, 4, 5)
    assert made.findings == [
        Finding(
            "s",
            UNACCOUNTED,
            "not counted",
            1,
            "3",
            "3",
            record("a", 3).event_id,
            EPOCH,
            EPOCH,
        )
    ]
    assert (made.verified, made.accounted) == (5, 4)


def test_a_number_is_named_as_the_stream_writes_it() -> None:
    books = Books(Position("s", sequence="005"), [Block(None, "001", "005", 2, 6)])
    made = Reconciliation("s", books)
    made.see(record("a", number) for number in ("001", "003", "005"))
    made.finish()
    assert found(made) == [(UNACCOUNTED, 1, "003", "003")]


def test_of_several_records_left_out_of_a_block_the_range_and_their_number_are_known() -> None:
    made = compared(Books(at(6), [block(1, 4, 6)]), 1, 2, 3, 4, 5, 6)
    assert found(made) == [(UNACCOUNTED, 3, "1", "6")]
    assert made.accounted == 3


def test_a_difference_that_is_no_record_of_the_stream_is_not_named() -> None:
    wrong = replace(block(1, 2, 4, 5), total=4)
    assert found(compared(Books(at(5), [wrong]), 1, 2, 3, 4, 5)) == [(UNACCOUNTED, 1, "1", "5")]


def test_a_record_that_was_counted_twice_is_named() -> None:
    made = compared(Books(at(5), [block(1, 2, 3, 3, 5)]), 1, 2, 3, 5)
    assert found(made) == [(MISCOUNTED, 1, "3", "3")]
    assert made.findings[0].reason == "counted twice"
    assert made.findings[0].event_id is not None
    assert made.accounted == 4


def test_a_counted_record_that_the_stream_does_not_hold_is_named() -> None:
    made = compared(Books(at(5), [block(1, 3, 4, 5)]), 1, 3, 5)
    assert found(made) == [(MISCOUNTED, 1, "4", "4")]
    assert made.findings[0].reason == "counted, and not in the stream"


def test_several_counted_too_many_are_told_with_their_range() -> None:
    assert found(compared(Books(at(5), [block(1, 2, 2, 2, 5)]), 1, 2, 5)) == [
        (MISCOUNTED, 2, "1", "5")
    ]


def test_as_many_records_as_were_counted_need_not_be_the_same_ones() -> None:
    made = compared(Books(at(5), [block(1, 3, 5)]), 1, 2, 5)
    assert found(made) == [(UNACCOUNTED, 1, "1", "5")]
    assert made.accounted == 2


def test_runs_of_the_ledger_that_overlap_count_twice_what_stands_in_both() -> None:
    books = Books(at(5), [block(1, 2, 3), block(2, 3, 4, 5)])
    made = compared(books, 1, 2, 3, 4, 5)
    assert found(made) == [(MISCOUNTED, 2, "2", "3")]
    assert made.accounted == 5


def test_a_whole_block_that_the_stream_jumps_over_is_reported() -> None:
    made = compared(Books(at(9), blocks_of([1, 2, 3, 8, 9], [1, 3])), 1, 8, 9)
    assert found(made) == [(MISCOUNTED, 2, "2", "3")]
    made = compared(Books(at(3), blocks_of([1, 2, 3], [1])), 1)
    assert found(made) == [(MISCOUNTED, 2, "2", "3")]


# What was trimmed away


def test_a_block_that_lost_its_beginning_is_only_known_to_hold_not_too_many() -> None:
    books = Books(at(5), [block(1, 2, 3, 4, 5)])
    assert compared(books, 3, 4, 5).findings == []
    assert compared(Books(at(5), [block(1, 2, 5)]), 3, 4, 5).findings != []
    assert found(compared(Books(at(5), [block(1, 5)]), 2, 5)) == [(UNACCOUNTED, 1, "1", "5")]


def test_blocks_that_are_trimmed_away_are_not_compared() -> None:
    books = Books(at(6), blocks_of([1, 2, 3, 4, 5, 6], [2, 4]))
    made = compared(books, 5, 6)
    assert (made.findings, made.accounted) == ([], 2)
    assert compared(books).findings == []


def test_records_that_went_by_unseen_are_not_taken_for_missing() -> None:
    books = Books(at(9), blocks_of([1, 2, 3, 4, 5, 6, 7, 8, 9], [3, 5, 7]))
    made = compared(books, 1, 2, 7, 8, 9, missed_before=7)
    assert (made.findings, made.accounted) == ([], 5)


def test_a_beginning_that_was_seen_counts_also_where_the_middle_was_not() -> None:
    books = Books(at(9), [block(1, 2, 9)])
    assert compared(books, 1, 8, 9, missed_before=8).findings == []
    assert found(compared(books, 1, 2, 8, 9, missed_before=8)) == [(UNACCOUNTED, 1, "1", "9")]


# Between, before and behind the blocks


def test_records_between_two_blocks_are_unaccounted_for_as_one_range() -> None:
    books = Books(at(9), [block(1, 2), block(8, 9, after=2)])
    made = compared(books, 1, 2, 4, 5, 6, 8, 9)
    assert found(made) == [(UNACCOUNTED, 3, "4", "6")]
    assert made.findings[0].event_id is None


@pytest.mark.parametrize("before", [8, None])
def test_records_in_a_gap_were_reported_and_are_told_to_be_readable(before: int | None) -> None:
    gap = Gap("s", "2", "trimmed", before=None if before is None else str(before))
    books = Books(at(9), [block(1, 2), block(8, 9)], [gap])
    made = compared(books, 1, 2, 4, 5, 8, 9)
    assert found(made) == [(READABLE, 2, "4", "5")]


def test_a_gap_before_the_first_record_covers_what_stands_before_it() -> None:
    gap = Gap("s", None, "trimmed", before="8")
    assert found(compared(Books(at(9), [block(8, 9)], [gap]), 3, 8, 9)) == [(READABLE, 1, "3", "3")]


def test_a_gap_reaches_back_to_the_last_record_that_was_counted_and_no_further() -> None:
    gap = Gap("s", None, "trimmed", before="20")
    books = Books(at(21), [block(1, 2), block(5, 6, after=2), block(20, 21)], [gap])
    made = compared(books, 1, 2, 3, 5, 6, 10, 20, 21)
    assert found(made) == [(UNACCOUNTED, 1, "3", "3"), (READABLE, 1, "10", "10")]


def test_behind_a_gap_without_an_end_the_records_are_still_to_be_read() -> None:
    gap = Gap("s", "2", "trimmed")
    made = compared(Books(at(None), [block(1, 2)], [gap]), 1, 2, 4, 5)
    assert (made.findings, made.waiting) == ([], 2)
    made = compared(Books(at(None, finished=True), [block(1, 2)], [gap]), 1, 2, 4, 5)
    assert found(made) == [(READABLE, 2, "4", "5")]


def test_what_lies_behind_the_number_at_which_the_ledger_began_is_before_it() -> None:
    books = Books(at(5), [block(4, 5, after=2)])
    made = compared(books, 1, 2, 4, 5)
    assert (made.findings, made.before, made.accounted) == ([], 2, 2)
    made = compared(books, 1, 2, 3, 4, 5)
    assert found(made) == [(UNACCOUNTED, 1, "3", "3")]


def test_before_a_first_block_at_the_trim_horizon_nothing_can_be() -> None:
    made = compared(Books(at(5), [block(4, 5)]), 3, 4, 5)
    assert found(made) == [(UNACCOUNTED, 1, "3", "3")]


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (Start.LATEST, {}),
        (Start.ITERATOR, {}),
        (Start.AT_SEQUENCE, {"start_sequence": "4"}),
        (Start.TIME, {"start_time": EPOCH + 10.5}),
    ],
)
def test_what_lies_before_the_start_is_before_the_ledger(start: Start, more: dict) -> None:
    books = Books(at(5, start=start, **more), [block(4, 5)])
    made = Reconciliation("s", books)
    made.see([record("a", 3, at=EPOCH + 9)])
    made.see(record("a", number, at=EPOCH + 10) for number in (4, 5))
    made.finish()
    assert (made.findings, made.before, made.accounted) == ([], 1, 2)
    assert made.since == EPOCH + 10


def test_a_record_at_or_behind_the_start_must_be_counted() -> None:
    timed = Books(at(5, start=Start.TIME, start_time=EPOCH + 10.5), [block(4, 5)])
    assert found(compared(timed, 3, 4, 5, at=EPOCH + 10)) == [(UNACCOUNTED, 1, "3", "3")]
    numbered = Books(at(5, start=Start.AT_SEQUENCE, start_sequence="3"), [block(4, 5)])
    assert found(compared(numbered, 3, 4, 5)) == [(UNACCOUNTED, 1, "3", "3")]


def test_a_shard_closed_before_a_start_at_latest_is_before_the_ledger() -> None:
    made = compared(Books(at(None, start=Start.LATEST, finished=True)), 1, 2)
    assert (made.findings, made.before) == ([], 2)


def test_of_an_open_shard_without_a_record_since_latest_the_time_decides() -> None:
    made = Reconciliation("s", Books(at(None, start=Start.LATEST, start_time=EPOCH)))
    made.see([record("a", 1, at=EPOCH - 1), record("a", 2, at=EPOCH + 1)])
    assert (made.before, made.waiting) == (1, 1)


def test_a_position_without_blocks_is_older_than_the_ledger() -> None:
    made = compared(Books(at(2)), 1, 2, 3)
    assert (made.findings, made.before, made.waiting) == ([], 2, 1)


def test_a_shard_that_is_not_begun_is_not_read_yet() -> None:
    assert compared(Books(), 1, 2).waiting == 2
    assert compared(Books(at(None)), 1, 2).waiting == 2
    assert compared(Books(), 1, 2).since is None


def test_behind_the_checkpoint_records_are_not_read_yet_unless_the_shard_is_finished() -> None:
    made = compared(Books(at(2), [block(1, 2)]), 1, 2, 3)
    assert (made.findings, made.waiting) == ([], 1)
    made = compared(Books(at(2, finished=True), [block(1, 2)]), 1, 2, 3)
    assert found(made) == [(UNACCOUNTED, 1, "3", "3")]
    made = compared(Books(at(None, finished=True)), 1)
    assert found(made) == [(UNACCOUNTED, 1, "1", "1")]


def test_what_the_checkpoint_passed_must_be_counted() -> None:
    assert found(compared(Books(at(4), [block(1, 2)]), 1, 2, 3, 4, 5)) == [
        (UNACCOUNTED, 2, "3", "4")
    ]


def test_a_block_saved_after_the_checkpoint_was_read_still_counts_for_its_records() -> None:
    made = compared(Books(at(2), [block(1, 2, 3)]), 1, 2, 3, 4)
    assert (made.findings, made.accounted, made.waiting) == ([], 3, 1)


def test_a_record_that_comes_again_is_seen_once() -> None:
    made = compared(Books(at(2), [block(1, 2)]), 1, 2, 1, 2)
    assert (made.findings, made.seen) == ([], 2)


def test_everything_is_reached_at_the_checkpoint_or_the_end_of_the_last_block() -> None:
    assert Reconciliation("s", Books(at(None))).reached
    made = Reconciliation("s", Books(at(3), [block(1, 2)]))
    made.see([record("a", 2)])
    assert not made.reached
    made.see([record("a", 3)])
    assert made.reached


# Any stream


steps = st.lists(st.integers(1, 5), min_size=1, max_size=40)


def numbers_of(steps: list[int]) -> list[int]:
    numbers = []
    for step in steps:
        numbers.append((numbers[-1] if numbers else NINES) + step)
    return numbers


def without(numbers: list[int], cuts: list[int], lost: set[int]) -> list[Block]:
    """The blocks as they would be if some records had not been counted."""
    books = []
    for one in blocks_of(numbers, cuts):
        left = [n for n in numbers if int(one.first) <= n <= int(one.last) and n not in lost]
        if left:
            books.append(block(*left, after=None if one.after is None else int(one.after)))
    return books


@given(steps, st.lists(st.integers(1, 39), max_size=6), st.integers(0, 40), st.integers(0, 40))
def test_a_correct_ledger_is_clean_wherever_the_stream_is_trimmed(
    steps: list[int], cuts: list[int], settled: int, trimmed: int
) -> None:
    numbers = numbers_of(steps)
    passed, seen = numbers[:settled], numbers[trimmed:]
    position = at(passed[-1] if passed else None)
    made = compared(Books(position, blocks_of(passed, cuts)), *seen)
    assert made.findings == []
    assert made.accounted == made.verified == len([n for n in seen if n in passed])
    assert made.waiting == len(seen) - made.accounted


@given(steps, st.lists(st.integers(1, 39), max_size=6), st.data())
def test_one_record_taken_out_of_a_ledger_is_found_and_named(
    steps: list[int], cuts: list[int], data: st.DataObject
) -> None:
    numbers = numbers_of(steps)
    victim = data.draw(st.sampled_from(numbers))
    books = without(numbers, cuts, {victim})
    # A ledger without its whole first block looks like one that began behind it.
    assume(books and books[0].after is None)
    made = compared(Books(at(numbers[-1], finished=True), books), *numbers)
    assert found(made) == [(UNACCOUNTED, 1, str(victim), str(victim))]
    assert made.findings[0].event_id == record("a", victim).event_id
    assert made.accounted == len(numbers) - 1


@given(steps, st.lists(st.integers(1, 39), max_size=6), st.data())
def test_one_record_counted_twice_is_found_and_named(
    steps: list[int], cuts: list[int], data: st.DataObject
) -> None:
    numbers = numbers_of(steps)
    books = blocks_of(numbers, cuts)
    victim = data.draw(st.sampled_from(numbers))
    (hit,) = [one for one in books if int(one.first) <= victim <= int(one.last)]
    hit.count += 1
    hit.total += victim
    made = compared(Books(at(numbers[-1]), books), *numbers)
    assert found(made) == [(MISCOUNTED, 1, str(victim), str(victim))]
    assert made.accounted == len(numbers)


@given(steps, st.lists(st.integers(1, 39), max_size=6), st.sets(st.integers(0, 39)))
def test_however_many_are_taken_out_their_number_is_known(
    steps: list[int], cuts: list[int], victims: set[int]
) -> None:
    numbers = numbers_of(steps)
    lost = {numbers[index] for index in victims if index < len(numbers)}
    books = without(numbers, cuts, lost)
    assume(books and books[0].after is None)
    made = compared(Books(at(numbers[-1]), books), *numbers)
    assert sum(one.count for one in made.findings) == len(lost)
    assert made.accounted == len(numbers) - len(lost)
    assert {one.verdict for one in made.findings} <= {UNACCOUNTED}
