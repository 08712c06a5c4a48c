"""How far a shard is settled without a hole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from ddbrelay.flow.capture import Gap, Page, Position, Record, Start
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.tracking.ledger import Account, Block, Fate, Kind, Line, Passed

_MOST_RULES = 200
"""A shard's ledger names so many rules and reasons; those of a mapping without end share a line."""
_OTHER_RULES = "(others)"


class Ticket(msgspec.Struct, eq=False):
    """One record between its reading and its settling; a gap has a ticket of its own."""

    frontier: Frontier
    sequence: str = ""
    """The record's sequence number; empty for a gap."""
    time: float | None = None
    """Epoch seconds of the write; None where the record does not say."""
    gap: Gap | None = None
    """The gap that this ticket stands for; None for a record."""
    settled: bool = False

    # Set when the record is settled.
    fate: Fate | None = None
    """None for a record that only had to be passed, and for a gap."""
    rule: str = ""
    """The rule's name, or the reason of a skip."""
    kind: Kind = ""

    # Set on the last ticket of a page.
    iterator: str | None = None
    """The iterator that GetRecords returned behind the page."""
    iterator_at: float | None = None
    """Epoch seconds of that answer."""

    page: Any = None
    """What the engine holds in memory as long as a record of this page is unsettled."""

    def settle(self, fate: Fate | None = None, rule: str = "", kind: Kind = "") -> None:
        """Its fate is durable; None for a record that only had to be passed.

        `kind` is the detail type of its event, or those of its events; empty where there is none.
        """
        self.mark(fate, rule, kind)
        self.frontier.advance()

    def mark(self, fate: Fate | None, rule: str, kind: Kind = "") -> None:
        """Settle it as one of many, behind which `advance` of their frontiers must follow."""
        self.fate, self.rule, self.kind, self.settled = fate, rule, kind, True


class Frontier:
    """How far one shard is settled without a hole, and what became of the records up to there.

    Records settle in any order; the position moves only over those that have no unsettled one
    before them. `dirty` says that it moved; `stale` that the shard was seen to have nothing new.
    """

    def __init__(
        self,
        position: Position,
        *,
        on_advance: Callable[[], None] = lambda: None,
        on_empty: Callable[[], None] = lambda: None,
        on_gap_closed: Callable[[Gap, Gap], None] = lambda open_gap, closed: None,
    ) -> None:
        self.dirty = self.stale = False
        self.on_advance, self.on_empty, self.on_gap_closed = on_advance, on_empty, on_gap_closed
        self._position = position
        # The position is built when somebody asks, not for each record that is passed.
        self._passed: Ticket | None = None
        self._open: deque[Ticket] = deque()
        self._rules: set[str] = set()
        self._lines: dict[tuple[Fate, str], Line] = {}
        self._kinds: dict[tuple[Fate, Kind], Passed] = {}
        self._blocks: list[Block] = []
        self._gaps: list[Gap] = []
        self._last_gap: Gap | None = None
        self._read_at = 0.0

    @property
    def position(self) -> Position:
        """Behind the last record that has no unsettled one before it."""
        passed = self._passed
        if passed is not None:
            self._passed = None
            self._position = replace(
                self._position,
                sequence=passed.sequence,
                written_at=passed.time,
                iterator=passed.iterator,
                iterator_at=passed.iterator_at,
                seen_at=_later(self._position.seen_at, passed.time),
            )
        return self._position

    def __len__(self) -> int:
        """Records that were read and are not passed yet."""
        return len(self._open)

    @property
    def oldest(self) -> float | None:
        """Write time of the first record that is not passed yet; None where all are."""
        return self._open[0].time if self._open else None

    def read(
        self, records: Sequence[Record], page: Page, now: float, seen_at: float | None = None
    ) -> list[Ticket]:
        """Take in the records of a page; the last ticket carries the iterator behind it.

        `seen_at` is the time before which everything that was written has been read.
        """
        self._read_at = now
        tickets = [Ticket(self, r.sequence_number, r.dynamodb.created_at) for r in records]
        if tickets:
            tickets[-1].iterator, tickets[-1].iterator_at = page.next_iterator, now
            self._open.extend(tickets)
        elif not self._open:
            # Not worth a write of its own: it is saved with the next record that settles, or when
            # idle shards are.
            self._position = replace(
                self.position,
                iterator=page.next_iterator,
                iterator_at=now,
                seen_at=_later(self.position.seen_at, seen_at),
            )
            self.stale = True
        return tickets

    def lose(self, gap: Gap) -> None:
        """What follows the records read so far is lost; it counts once these are passed."""
        self._open.append(Ticket(self, gap=gap, settled=True))
        self.advance()

    def advance(self) -> None:
        """Pass every settled record that has no unsettled one before it."""
        waiting = self._open
        if not waiting or not waiting[0].settled:
            return
        while waiting and waiting[0].settled:
            ticket = waiting.popleft()
            if ticket.gap is None:
                self._count(ticket)
                self._passed = ticket
            else:
                self._move_over(ticket.gap)
        self.dirty = True
        self.on_advance()
        if not waiting:
            self.on_empty()

    def _move_over(self, gap: Gap) -> None:
        self._gaps.append(gap)
        self._last_gap = gap
        # The number before the gap can be of no use any more: the horizon is behind it.
        self._position = replace(
            self.position,
            start=Start.TRIM_HORIZON,
            start_time=None,
            sequence=None,
            written_at=None,
            iterator=None,
            iterator_at=None,
            lost_until=_later(self.position.lost_until, gap.until),
            starting=None,
        )

    def _count(self, ticket: Ticket) -> None:
        number = ticket.sequence
        if self._last_gap is not None:
            self._close(self._last_gap, ticket)
        before = self._passed
        after = self._position.sequence if before is None else before.sequence
        if not self._blocks or self._blocks[-1].last != after:
            self._blocks.append(Block(after, number, number))
        self._blocks[-1].add(number)
        fate = ticket.fate
        if fate is None:
            return
        line = self._lines.get((fate, ticket.rule))
        if line is None:
            line = self._line(fate, ticket)
        line.add(number, ticket.time)
        kind = ticket.kind or ticket.rule
        passed = self._kinds.get((fate, kind))
        if passed is None:
            passed = self._kinds[fate, kind] = Passed(fate, kind)
        passed.add(ticket.time)

    def _line(self, fate: Fate, ticket: Ticket) -> Line:
        rule = ticket.rule
        if rule not in self._rules:
            if len(self._rules) >= _MOST_RULES:
                rule = _OTHER_RULES
            self._rules.add(rule)
        return self._lines.setdefault(
            (fate, rule), Line(fate, rule, 0, ticket.sequence, ticket.sequence)
        )

    def _close(self, gap: Gap, ticket: Ticket) -> None:
        closed = replace(gap, before=ticket.sequence)
        if ticket.time is not None:
            # Until something could be read again, more may have been trimmed.
            horizon = max(gap.until, self._read_at - RETENTION) if gap.until else ticket.time
            closed = replace(closed, until=min(ticket.time, horizon))
        self._gaps = [one for one in self._gaps if one is not gap] + [closed]
        self._last_gap = None
        self.on_gap_closed(gap, closed)

    def draft(self) -> tuple[Position, Account]:
        """What is to be saved now: where the shard stands, and what came into its ledger since."""
        account = Account(
            self._position.shard_id,
            list(self._lines.values()),
            self._blocks,
            self._gaps,
            tuple(self._kinds.values()),
        )
        self._lines, self._blocks, self._gaps, self._kinds = {}, [], [], {}
        self.dirty = self.stale = False
        return self.position, account

    def finish(self) -> None:
        """The shard ended and every record of it is settled."""
        assert not self._open, "records of the shard are unsettled"
        self._position = replace(self.position, iterator=None, iterator_at=None, finished=True)
        self.dirty = True


def _later(one: float | None, other: float | None) -> float | None:
    return max((time for time in (one, other) if time is not None), default=None)
