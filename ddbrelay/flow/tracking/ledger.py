"""The ledger: what became of the records of a shard, in a few rows however many they are.

Lines count the records by fate and rule. Blocks prove that none is missing: a block stands for a
run of records that followed each other, with their number and the sum of their sequence numbers.
Who reads the same run again and finds one record more has its number as the difference of the sums.

What was passed between two saves is also summed up by detail type. When that was, and how late,
follows from the time of the save.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ddbrelay.flow.capture import Gap


class Fate(Enum):
    """What became of a record; every record gets exactly one."""

    PUBLISHED = "published"
    SKIPPED = "skipped"
    PARKED = "parked"

    # Enum's own is a function of Python's, which takes a while when every record is counted by it.
    __hash__ = object.__hash__


@dataclass(slots=True)
class Line:
    """So many records with one fate by one rule, their first and last sequence numbers and times.

    `rule` is the name of the mapping's rule, or the reason of a skip; empty where there is none. Of
    a record with several events it is the names of all their rules, with a plus sign between them.
    """

    fate: Fate
    rule: str
    count: int
    first: str
    last: str
    since: float | None = None
    until: float | None = None

    def add(self, number: str, time: float | None) -> None:
        """Count one more record, which follows the last one."""
        self.count += 1
        self.last = number
        if time is not None:
            self.since = time if self.since is None else min(self.since, time)
            self.until = time if self.until is None else max(self.until, time)


@dataclass(slots=True)
class Block:
    """A run of records that followed each other in their shard, from `first` to `last`.

    `after` is the sequence number behind which the run began, None at the beginning of what could
    be read. `total` is the sum of the sequence numbers.
    """

    after: str | None
    first: str
    last: str
    count: int = 0
    total: int = 0

    def add(self, number: str) -> None:
        """Count one more record, which follows the last one."""
        self.last = number
        self.count += 1
        self.total += int(number)


Kind = str | tuple[str, ...]
"""The detail type of a record's event, or those of its several events in their order."""


@dataclass(slots=True)
class Passed:
    """So many records with one fate and one kind that were passed since the last save.

    `kind` is the rule of the ledger where there is no event. Of `timed` records the write time is
    known: `written` is the sum of these times in epoch seconds, `oldest` the first of them.
    """

    fate: Fate
    kind: Kind
    count: int = 0
    timed: int = 0
    written: float = 0.0
    oldest: float | None = None

    def add(self, time: float | None) -> None:
        """Count one more record, written at this time."""
        self.count += 1
        if time is not None:
            self.timed += 1
            self.written += time
            if self.oldest is None or time < self.oldest:
                self.oldest = time

    @property
    def names(self) -> tuple[str, ...]:
        """What it counts under: published events each by type, other records once, by the first."""
        if isinstance(self.kind, str):
            return (self.kind,)
        return self.kind if self.fate is Fate.PUBLISHED else self.kind[:1]


@dataclass(frozen=True, slots=True)
class Account:
    """What one save adds to the ledger of a shard, and to the timeline of its stream."""

    shard_id: str
    lines: Sequence[Line] = ()
    blocks: Sequence[Block] = ()
    gaps: Sequence[Gap] = ()
    passed: Sequence[Passed] = ()
