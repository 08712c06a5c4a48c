from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.capture import Gap, Page, Position, Start
from ddbrelay.flow.tracking import Account, Block, Fate, Frontier, Line, Tally
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
    assert frontier.position == Position("s", sequence="1", written_at=EPOCH, seen_at=EPOCH)
    two.settle()
    assert frontier.position == Position(
        "s",
        sequence="2",
        written_at=EPOCH,
        iterator="behind",
        iterator_at=7.0,
        seen_at=EPOCH,
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
    assert frontier.position == Position(
        "s", sequence="1", written_at=EPOCH, seen_at=EPOCH, finished=True
    )


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


# The ledger


def test_a_save_gets_what_was_passed_since_the_last_one_by_fate_and_rule() -> None:
    frontier = Frontier(Position("s", sequence="9"))
    first = read(frontier, 10, 11, 12)
    first[0].settle(Fate.PUBLISHED, "created")
    first[2].settle(Fate.PUBLISHED, "created")
    _, account = frontier.draft()
    assert account.lines == [Line(Fate.PUBLISHED, "created", 1, "10", "10", EPOCH, EPOCH)]
    assert account.blocks == [Block("9", "10", "10", 1, 10)]
    first[1].settle(Fate.SKIPPED, "noise")
    position, account = frontier.draft()
    assert position.sequence == "12"
    assert account.lines == [
        Line(Fate.SKIPPED, "noise", 1, "11", "11", EPOCH, EPOCH),
        Line(Fate.PUBLISHED, "created", 1, "12", "12", EPOCH, EPOCH),
    ]
    assert account.blocks == [Block("10", "11", "12", 2, 23)]
    assert frontier.draft()[1] == Account("s", [], [], [])


def test_a_gap_counts_once_all_before_it_is_settled_and_is_closed_by_the_next_record() -> None:
    closed = []
    frontier = Frontier(
        Position("s", start=Start.LATEST, start_time=1.0),
        on_gap_closed=lambda *gaps: closed.append(gaps),
    )
    gap = Gap("s", "2", "trimmed", EPOCH, EPOCH + 50)
    one, two = read(frontier, 1, 2)
    frontier.lose(gap)
    two.settle(Fate.PUBLISHED)
    assert frontier.draft()[1] == Account("s", [], [], [])
    one.settle(Fate.PUBLISHED)
    position, account = frontier.draft()
    assert (position.sequence, position.start, position.lost_until) == (
        None,
        Start.TRIM_HORIZON,
        EPOCH + 50,
    )
    assert account.gaps == [gap]
    (seven,) = read(frontier, 7)
    seven.settle(Fate.PUBLISHED)
    position, account = frontier.draft()
    whole = Gap("s", "2", "trimmed", EPOCH, EPOCH, before="7")
    assert account.gaps == [whole]
    assert account.blocks == [Block(None, "7", "7", 1, 7)]
    assert closed == [(gap, whole)]


def test_a_mapping_without_end_of_reasons_fills_no_ledger() -> None:
    frontier = Frontier(Position("s"))
    for number, ticket in enumerate(read(frontier, *range(1, 501))):
        ticket.settle(Fate.SKIPPED, f"too old by {number} days")
    lines = frontier.draft()[1].lines
    assert len(lines) == 201
    assert sum(line.count for line in lines) == 500


@given(st.lists(st.sampled_from(["settle", "draft", "gap"]), max_size=60), st.integers(0, 2**32))
def test_whatever_happens_every_passed_record_stands_in_one_line_and_one_block(
    steps: list[str], seed: int
) -> None:
    rng = random.Random(seed)
    frontier = Frontier(Position("s"))
    tickets = []
    unsettled: list[int] = []
    accounts = []
    for step in [*steps, "draft"]:
        if step == "settle":
            numbers = range(len(tickets) + 1, len(tickets) + rng.randint(1, 4))
            tickets += read(frontier, *numbers)
            unsettled += numbers
            while unsettled and rng.random() < 0.8:
                number = unsettled.pop(rng.randrange(len(unsettled)))
                fate = rng.choice(list(Fate))
                tickets[number - 1].settle(fate, rng.choice(["a", "b"]))
        elif step == "gap":
            frontier.lose(Gap("s", str(len(tickets)) if tickets else None, "trimmed"))
        else:
            accounts.append(frontier.draft()[1])
    passed = next((n for n, t in enumerate(tickets) if not t.settled), len(tickets))
    assert sum(line.count for account in accounts for line in account.lines) == passed
    blocks = [block for account in accounts for block in account.blocks]
    assert sum(block.count for block in blocks) == passed
    assert sum(block.total for block in blocks) == sum(range(1, passed + 1))
    for before, block in itertools.pairwise(blocks):
        assert block.after in {None, before.last}
    by_fate = {
        fate: sum(x.count for a in accounts for x in a.lines if x.fate is fate) for fate in Fate
    }
    for fate, count in by_fate.items():
        assert count == sum(ticket.fate is fate for ticket in tickets[:passed])
