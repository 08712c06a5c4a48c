"""How far a shard is settled without a hole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ddbrelay.flow.capture import Gap, Page, Position, Record, Start
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.tracking.ledger import Account, Block, Fate, Line

_MOST_RULES = 200
"""A shard's ledger names so many rules and reasons; those of a mapping without end share a line."""
_OTHER_RULES = "(others)"


@dataclass(slots=True, eq=False)
class Ticket:
    """One record between its reading and its settling; a gap has a ticket of its own."""

    frontier: Frontier
    sequence: str = ""
    time: float | None = None
    fate: Fate | None = None
    rule: str = ""
    settled: bool = False
    iterator: str | None = None
    iterator_at: float | None = None
    gap: Gap | None = None
    page: Any = None
    """What the engine holds in memory as long as a record of this page is unsettled."""

    def settle(self, fate: Fate | None = None, rule: str = "") -> None:
        """Its fate is durable; None for a record that only had to be passed."""
        self.fate, self.rule, self.settled = fate, rule, True
        self.frontier.advance()


@dataclass(slots=True)
class Frontier:
    """How far one shard is settled without a hole, and what became of the records up to there.

    Records settle in any order; the position moves only over those that have no unsettled one
    before them. `dirty` says that it moved; `stale` that the shard was seen to have nothing new.
    """

    position: Position
    dirty: bool = False
    stale: bool = False
    on_advance: Callable[[], None] = lambda: None
    on_empty: Callable[[], None] = lambda: None
    on_gap_closed: Callable[[Gap, Gap], None] = lambda open_gap, closed: None
    _open: deque[Ticket] = field(default_factory=deque)
    _rules: set[str] = field(default_factory=set)
    _lines: dict[tuple[Fate, str], Line] = field(default_factory=dict)
    _blocks: list[Block] = field(default_factory=list)
    _gaps: list[Gap] = field(default_factory=list)
    _last_gap: Gap | None = None
    _read_at: float = 0.0

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
            self.position = replace(
                self.position,
                iterator=page.next_iterator,
                iterator_at=now,
                seen_at=_later(self.position.seen_at, seen_at),
            )
            self.stale = True
        return tickets

    def lose(self, gap: Gap) -> None:
        """What follows the records read so far is lost; it counts once these are passed."""
        self._open.append(Ticket(self, settled=True, gap=gap))
        self.advance()

    def advance(self) -> None:
        """Pass every settled record that has no unsettled one before it."""
        passed: Ticket | None = None
        moved = False
        while self._open and self._open[0].settled:
            ticket, moved = self._open.popleft(), True
            if ticket.gap is None:
                self._count(ticket, passed)
                passed = ticket
            else:
                self._move_behind(passed)
                passed = None
                self._move_over(ticket.gap)
        self._move_behind(passed)
        if moved:
            self.dirty = True
            self.on_advance()
            if not self._open:
                self.on_empty()

    def _move_behind(self, ticket: Ticket | None) -> None:
        if ticket is not None:
            self.position = replace(
                self.position,
                sequence=ticket.sequence,
                written_at=ticket.time,
                iterator=ticket.iterator,
                iterator_at=ticket.iterator_at,
                seen_at=_later(self.position.seen_at, ticket.time),
            )

    def _move_over(self, gap: Gap) -> None:
        self._gaps.append(gap)
        self._last_gap = gap
        # The number before the gap can be of no use any more: the horizon is behind it.
        self.position = replace(
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

    def _count(self, ticket: Ticket, before: Ticket | None) -> None:
        number = ticket.sequence
        if self._last_gap is not None:
            self._close(self._last_gap, ticket)
        after = self.position.sequence if before is None else before.sequence
        if not self._blocks or self._blocks[-1].last != after:
            self._blocks.append(Block(after, number, number))
        self._blocks[-1].add(number)
        if ticket.fate is None:
            return
        rule = ticket.rule
        if rule not in self._rules:
            if len(self._rules) >= _MOST_RULES:
                rule = _OTHER_RULES
            self._rules.add(rule)
        line = self._lines.get((ticket.fate, rule))
        if line is None:
            line = Line(ticket.fate, rule, 0, number, number)
            self._lines[ticket.fate, rule] = line
        line.add(number, ticket.time)

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
            self.position.shard_id,
            list(self._lines.values()),
            self._blocks,
            self._gaps,
        )
        self._lines, self._blocks, self._gaps = {}, [], []
        self.dirty = self.stale = False
        return self.position, account

    def finish(self) -> None:
        """The shard ended and every record of it is settled."""
        assert not self._open, "records of the shard are unsettled"
        self.position = replace(self.position, iterator=None, iterator_at=None, finished=True)
        self.dirty = True


def _later(one: float | None, other: float | None) -> float | None:
    return max((time for time in (one, other) if time is not None), default=None)
