from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.capture import Page, Position
from ddbrelay.flow.tracking import Fate, Frontier, Tally
from ddbrelay.testing.builders import record
from ddbrelay.testing.clock import EPOCH


def page(*numbers: int, then: str | None = "next") -> Page:
    return Page([record("a", number) for number in numbers], then)


def read(frontier: Frontier, *numbers: int, then: str | None = "next", now: float = 1.0) -> list:
    records = page(*numbers, then=then)
    return frontier.read(records.records, records, now)


def test_an_unsettled_record_holds_the_position_before_it() -> None:
    frontier = Frontier(Position("s"))
    one, two, three = read(frontier, 1, 2, 3)
    three.settle()
    two.settle()
    assert frontier.position.sequence is None
    assert not frontier.dirty
    one.settle()
    assert frontier.position.sequence == "3"
    assert frontier.dirty
    assert len(frontier) == 0


def test_the_iterator_behind_a_page_is_kept_only_when_the_whole_page_is_settled() -> None:
    frontier = Frontier(Position("s", iterator="old", iterator_at=0.5))
    one, two = read(frontier, 1, 2, then="behind", now=7.0)
    one.settle()
    assert frontier.position == Position("s", sequence="1", seen_at=EPOCH)
    two.settle()
    assert frontier.position == Position(
        "s", sequence="2", iterator="behind", iterator_at=7.0, seen_at=EPOCH
    )


def test_an_empty_page_renews_the_iterator_only_when_nothing_is_unsettled() -> None:
    frontier = Frontier(Position("s"))
    read(frontier, then="e1", now=1.0)
    assert (frontier.position.iterator, frontier.position.iterator_at) == ("e1", 1.0)
    assert not frontier.dirty
    (one,) = read(frontier, 1, then="behind", now=2.0)
    read(frontier, then="e2", now=3.0)
    assert frontier.position.iterator == "e1"
    one.settle()
    assert frontier.position.iterator == "behind"


def test_who_waits_for_the_last_record_is_told_once_it_is_settled() -> None:
    told = []
    frontier = Frontier(Position("s"), on_empty=lambda: told.append(True))
    one, two = read(frontier, 1, 2)
    two.settle()
    assert not told
    one.settle()
    assert told == [True]


def test_a_shard_is_not_finished_while_a_record_is_unsettled() -> None:
    frontier = Frontier(Position("s"))
    (one,) = read(frontier, 1)
    with pytest.raises(AssertionError):
        frontier.finish()
    one.settle()
    frontier.finish()
    assert frontier.position == Position("s", sequence="1", seen_at=EPOCH, finished=True)


@given(st.lists(st.integers(0, 5), max_size=12), st.integers(0, 2**32))
def test_the_frontier_is_exactly_the_longest_settled_prefix(pages: list[int], seed: int) -> None:
    rng = random.Random(seed)
    frontier = Frontier(Position("s"))
    tickets: list = []
    unsettled: list[int] = []
    behind: dict[int, str] = {}
    sizes = list(pages)
    while sizes or unsettled:
        if sizes and (not unsettled or rng.random() < 0.5):
            start = len(tickets)
            size = sizes.pop(0)
            numbers = range(start, start + size)
            tickets += read(frontier, *numbers, then=f"it{start + size}")
            unsettled += numbers
            if size:
                behind[start + size] = f"it{start + size}"
        else:
            tickets[unsettled.pop(rng.randrange(len(unsettled)))].settle()
        settled = next((n for n, t in enumerate(tickets) if not t.settled), len(tickets))
        assert frontier.position.sequence == (str(settled - 1) if settled else None)
        assert len(frontier) == len(tickets) - settled
        if len(frontier) and settled:
            assert frontier.position.iterator == behind.get(settled)


def test_a_tally_counts_each_fate() -> None:
    tally = Tally()
    tally.fates.update([Fate.PUBLISHED, Fate.PUBLISHED, Fate.PARKED])
    assert (tally[Fate.PUBLISHED], tally[Fate.PARKED], tally[Fate.SKIPPED]) == (2, 1, 0)
    assert tally.settled == 3
