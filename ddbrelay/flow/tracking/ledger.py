"""The ledger: what became of the records of a shard, in a few rows however many they are.

Lines count the records by fate and rule. Blocks prove that none is missing: a block stands for a
run of records that followed each other, with their number and the sum of their sequence numbers.
Who reads the same run again and finds one record more has its number as the difference of the sums.
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


@dataclass(frozen=True, slots=True)
class Account:
    """What one save adds to the ledger of a shard."""

    shard_id: str
    lines: Sequence[Line] = ()
    blocks: Sequence[Block] = ()
    gaps: Sequence[Gap] = ()
