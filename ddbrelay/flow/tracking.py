"""Receipts -> each shard's contiguous frontier -> its checkpoint; what became of every record."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Protocol

from ddbrelay.flow.capture import Gap, Page, Position


class Fate(Enum):
    """What became of a record; every record gets exactly one."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    PARKED = "parked"


@dataclass(slots=True, eq=False)
class Ticket:
    """One record between its reading and its settling."""

    frontier: Frontier
    sequence: str
    settled: bool = False
    iterator: str | None = None
    iterator_at: float | None = None

    def settle(self) -> None:
        """Its fate is durable."""
        self.settled = True
        self.frontier.advance()


@dataclass(slots=True)
class Frontier:
    """How far one shard is settled without a hole.

    Records settle in any order; the position moves only over those that have no unsettled one
    before them.
    """

    position: Position
    dirty: bool = False
    on_advance: Callable[[], None] = lambda: None
    on_empty: Callable[[], None] = lambda: None
    _open: deque[Ticket] = field(default_factory=deque)

    def __len__(self) -> int:
        """Records that were read and are not passed yet."""
        return len(self._open)

    def read(self, sequences: Sequence[str], page: Page, now: float) -> list[Ticket]:
        """Take in the records of a page; the last ticket carries the iterator behind it."""
        tickets = [Ticket(self, sequence) for sequence in sequences]
        if tickets:
            tickets[-1].iterator, tickets[-1].iterator_at = page.next_iterator, now
            self._open.extend(tickets)
        elif not self._open:
            # Not worth a write of its own: it is saved with the next record that settles.
            self.position = replace(self.position, iterator=page.next_iterator, iterator_at=now)
        return tickets

    def advance(self) -> None:
        """Pass every settled record that has no unsettled one before it."""
        last: Ticket | None = None
        while self._open and self._open[0].settled:
            last = self._open.popleft()
        if last is not None:
            self.position = replace(
                self.position,
                sequence=last.sequence,
                iterator=last.iterator,
                iterator_at=last.iterator_at,
            )
            self.dirty = True
            self.on_advance()
            if not self._open:
                self.on_empty()

    def finish(self) -> None:
        """The shard ended and every record of it is settled."""
        assert not self._open, "records of the shard are unsettled"
        self.position = replace(self.position, iterator=None, iterator_at=None, finished=True)
        self.dirty = True


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that is parked, whole, with why.

    `behind` is set for a record that waits only because an earlier one of its item is parked.
    `record` is the stream record as JSON, `event` the event's JSON where there is one.
    """

    shard_id: str
    sequence: str
    item_key: bytes
    reason: str
    record: bytes
    event: bytes | None
    attempts: int
    parked_at: float
    behind: bool = False


class Store(Protocol):
    """Keeps positions and dead letters of one consumer on one stream.

    Every method is atomic and durable when it returns: after a crash all of it is there or nothing.
    StateError is raised when it cannot be kept; the caller must then not go on.
    """

    async def load(self) -> dict[str, Position]:
        """The positions by shard id; empty before the very first start."""

    async def begin(self, positions: Iterable[Position]) -> None:
        """A run starts from these, and no others; keep a copy of them under a name of its own."""

    async def save(self, positions: Iterable[Position]) -> None:
        """Replace the positions of these shards; the others stay."""

    async def forget(self, shard_ids: Iterable[str]) -> None:
        """Drop shards that are finished and no longer listed."""

    async def park(self, letters: Iterable[DeadLetter]) -> None:
        """Keep dead letters; one that is there already (same shard and sequence) is replaced."""

    async def parked_keys(self) -> set[bytes]:
        """The item keys that have dead letters."""


@dataclass(slots=True)
class Tally:
    """What became of the records of one run."""

    fates: Counter[Fate] = field(default_factory=Counter)
    skipped_by: Counter[str] = field(default_factory=Counter)
    previewed: int = 0
    retried: int = 0
    gaps: list[Gap] = field(default_factory=list)

    @property
    def settled(self) -> int:
        """Records with a fate."""
        return sum(self.fates.values())

    def __getitem__(self, fate: Fate) -> int:
        return self.fates[fate]
