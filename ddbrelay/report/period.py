"""A stretch of time in buckets of one width, and what was settled in each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ddbrelay.flow.tracking import Fate
from ddbrelay.stores.timeline import HOUR, MINUTE, Row, folded_before

_STEPS = [n * MINUTE for n in (1, 2, 5, 10, 15, 30)] + [n * HOUR for n in (1, 2, 3, 6, 12, 24)]
_MOST_BUCKETS = 150
_SHORTEST = 10 * MINUTE


@dataclass(frozen=True)
class Period:
    """Epoch seconds from `since` until `until`, in buckets of `step` seconds from `start` on.

    The first bucket begins at or before `since`; all of them are whole, so the last one may end
    after `until`.
    """

    start: int
    until: float
    step: int

    @classmethod
    def of(cls, since: float, until: float, first: float | None) -> Period:
        """From `since`, or from `first` where nothing is kept of the time before it.

        What began only now is shown in ten minutes, unless `since` asks for less.
        """
        began = since if first is None else max(since, min(first, until - _SHORTEST))
        length = until - began
        # What is older stands in the file by the hour only.
        finest = MINUTE if began >= folded_before(until) else HOUR
        step = next(
            (one for one in _STEPS if one >= finest and length / one <= _MOST_BUCKETS),
            math.ceil(length / _MOST_BUCKETS / _STEPS[-1]) * _STEPS[-1],
        )
        return cls(int(began // step) * step, until, step)

    @property
    def buckets(self) -> int:
        """How many there are."""
        return max(math.ceil((self.until - self.start) / self.step), 1)

    @property
    def end(self) -> int:
        """Where the last bucket ends."""
        return self.start + self.buckets * self.step

    def together(self, most: int) -> int:
        """How many buckets make a part of a round length, so that there are at most so many."""
        least = -(-self.buckets // most)
        lengths = (one for one in _STEPS if one % self.step == 0 and one >= least * self.step)
        return next(lengths, least * self.step) // self.step


@dataclass(slots=True)
class Bucket:
    """What was settled in the seconds from `start` on; `lag_max` is None where no lag is known.

    `published` counts events by detail type, `skipped` and `parked` count records. Lags are
    seconds.
    """

    start: int
    published: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    parked: int = 0
    timed: int = 0
    lag_sum: float = 0.0
    lag_max: int | None = None

    def add(self, row: Row) -> None:
        """Count what a row of the timeline says."""
        if row.fate is Fate.PUBLISHED:
            self.published[row.name] += row.count
        elif row.fate is Fate.SKIPPED:
            self.skipped += row.count
        else:
            self.parked += row.count
        if row.timed:
            self.timed += row.timed
            self.lag_sum += row.lag_sum
            self.lag_max = max(self.lag_max or 0, row.lag_max)

    @property
    def settled(self) -> int:
        """Events and records together."""
        return self.published.total() + self.skipped + self.parked

    @property
    def lag_mean(self) -> float | None:
        """The average lag."""
        return self.lag_sum / self.timed if self.timed else None


@dataclass(slots=True)
class Name:
    """What became of one detail type, rule or reason in the period."""

    name: str
    published: int = 0
    skipped: int = 0
    parked: int = 0

    @property
    def count(self) -> int:
        """Events and records together."""
        return self.published + self.skipped + self.parked


def buckets_of(period: Period, rows: Iterable[Row]) -> list[Bucket]:
    """Every bucket of the period, also those in which nothing was settled."""
    found = [Bucket(period.start + n * period.step) for n in range(period.buckets)]
    for row in within(period, rows):
        found[(row.start - period.start) // period.step].add(row)
    return found


def names_of(period: Period, rows: Iterable[Row]) -> list[Name]:
    """Every name of the period, the most frequent first."""
    found: dict[str, Name] = {}
    for row in within(period, rows):
        name = found.setdefault(row.name, Name(row.name))
        setattr(name, row.fate.value, getattr(name, row.fate.value) + row.count)
    return sorted(found.values(), key=lambda one: (-one.count, one.name))


def within(period: Period, rows: Iterable[Row]) -> list[Row]:
    """Those that begin in the period."""
    return [row for row in rows if period.start <= row.start < period.end]


def total(buckets: Sequence[Bucket]) -> Bucket:
    """All of them as one, which begins where the first one does."""
    found = Bucket(buckets[0].start)
    for bucket in buckets:
        found.published += bucket.published
        found.skipped += bucket.skipped
        found.parked += bucket.parked
        found.timed += bucket.timed
        found.lag_sum += bucket.lag_sum
        if bucket.lag_max is not None:
            found.lag_max = max(found.lag_max or 0, bucket.lag_max)
    return found
