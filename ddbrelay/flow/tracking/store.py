"""Where positions, the ledger and dead letters are kept, and the counts of one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.tracking.ledger import Account, Fate
from ddbrelay.flow.tracking.letter import DeadLetter


@dataclass(slots=True)
class Usage:
    """What AWS bills a run for, and one more that it does not (`requests`).

    `reads` are calls of GetRecords, `requests` calls of PutEvents, `events` the entries that the
    bus took, `chunks` the 64 KB begun of each of these, `puts` the claim checks written to S3.
    https://aws.amazon.com/eventbridge/pricing/ and https://aws.amazon.com/dynamodb/pricing/
    """

    reads: int = 0
    requests: int = 0
    events: int = 0
    chunks: int = 0
    puts: int = 0


class Store(Protocol):
    """Keeps positions, ledger and dead letters of one consumer on one stream.

    Every method is atomic and durable when it returns: after a crash all of it is there or nothing.
    StateError is raised when it cannot be kept, StateUnavailable where that can pass; the caller
    must then not go on. One run at a time owns a consumer and stream: from the moment that another
    one has claimed them, whatever this one would write raises StateUnavailable and changes nothing.
    """

    async def claim(self) -> None:
        """Become the one owner; StateUnavailable, which says who, while another lives."""

    async def release(self) -> None:
        """The next run may claim; nothing happens where this one is not the owner."""

    async def load(self) -> dict[str, Position]:
        """The positions by shard id; empty before the very first start."""

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        """A run starts from these, and no others; keep a copy of them under a name of its own.

        A shard that starts elsewhere than where it stood begins its blocks anew.
        """

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        """Replace the positions of these shards, the others stay; add to their ledgers.

        A block that follows the last one of its shard is joined to it. A gap replaces an earlier
        one behind the same sequence number. Without anything to save it says that the owner lives.
        `usage` is that of the run so far, and takes the place of what was saved of it before.
        """

    async def forget(self, shard_ids: Iterable[str]) -> None:
        """Drop the positions of shards that are finished and no longer listed.

        Of their ledgers the counts and the gaps stay; nothing is left with which to compare blocks.
        """

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        """Keep dead letters; one that is there already (same shard and sequence) is replaced.

        Not by one that only waits behind another: its own reason would go. Returned, and not kept,
        are those that would wait behind nothing: the letters of their item are gone meanwhile.
        """

    async def parked_keys(self) -> set[bytes]:
        """The item keys that have dead letters."""


@dataclass(slots=True)
class Tally:
    """What became of the records of one run; `previewed` counts events that were only shown."""

    fates: Counter[Fate] = field(default_factory=Counter)
    skipped_by: Counter[str] = field(default_factory=Counter)
    previewed: int = 0
    retried: int = 0
    gaps: list[Gap] = field(default_factory=list)

    def close_gap(self, gap: Gap, closed: Gap) -> None:
        """A record behind a gap was read: now it is known where the gap ends."""
        self.gaps = [closed if one is gap else one for one in self.gaps]

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.fates + other.fates,
            self.skipped_by + other.skipped_by,
            self.previewed + other.previewed,
            self.retried + other.retried,
            self.gaps + other.gaps,
        )

    @property
    def settled(self) -> int:
        """Records with a fate."""
        return sum(self.fates.values())

    def __getitem__(self, fate: Fate) -> int:
        return self.fates[fate]
