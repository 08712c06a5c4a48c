"""One shard of a simulated stream: its records, what of them is trimmed, and pages of the rest."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ddbrelay.flow.capture import Record
from ddbrelay.flow.capture.port import PAGE_BYTES, PAGE_RECORDS

_ENVELOPE = 300
"""Bytes of a record in the answer of GetRecords beside its keys and images, about."""


@dataclass(slots=True, eq=False)
class SimulatedShard:
    """A shard and all that was ever written to it; the first `trimmed` records are gone.

    `looks_open` is the oddity of a closed shard that is listed without an ending number;
    `listed_at` is the time from which the shard is listed; `empty_pages` says how many pages
    without records come next. `number` counts the shards of the stream. `written_at` is by the
    stream's clock and never goes back, even where the clock does.
    """

    id: str
    parent_id: str | None
    hashes: range
    listed_at: float
    starting: int
    number: int = 0
    closed_at: float | None = None
    closed_with: int = 0
    looks_open: bool = False
    empty_pages: int = 0
    trimmed: int = 0
    records: list[Record] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    written_at: list[float] = field(default_factory=list)
    _ends: list[int] = field(default_factory=list)

    @property
    def listed_as_closed(self) -> bool:
        """Whether DescribeStream gives it an ending sequence number."""
        return self.closed_at is not None and not self.looks_open

    @property
    def ending(self) -> int | None:
        """The ending sequence number, None where none is listed."""
        if not self.listed_as_closed:
            return None
        return max(self.closed_with, self.starting, *self.sequences[-1:])

    @property
    def horizon(self) -> int:
        """The lowest sequence number that can still be asked for."""
        return self.sequences[self.trimmed - 1] + 1 if self.trimmed else 0

    @property
    def latest(self) -> int:
        """The sequence number behind the last record."""
        return self.sequences[-1] + 1 if self.sequences else self.starting

    @property
    def readable(self) -> list[Record]:
        """The records that are not trimmed."""
        return self.records[self.trimmed :]

    def add(self, record: Record, number: int, at: float) -> None:
        """A record was written at epoch seconds `at`."""
        self.records.append(record)
        self.sequences.append(number)
        last = self.written_at[-1] if self.written_at else at
        self.written_at.append(at if at > last else last)

    def trim(self, records: int | None = None) -> None:
        """Trim the oldest readable records, None for all."""
        left = len(self.records) - self.trimmed
        self.trimmed += left if records is None else min(records, left)

    def age(self, limit: float) -> None:
        """Trim what was written before `limit`."""
        written = self.written_at
        if self.trimmed < len(written) and written[self.trimmed] < limit:
            self.trimmed = bisect_left(written, limit, lo=self.trimmed)

    def page(self, at: int, limit: int = PAGE_RECORDS) -> tuple[Sequence[Record], int, bool]:
        """Records from the sequence number `at`, their bytes, and whether they are the last."""
        ends = self._ends
        if len(ends) < len(self.records):
            total = ends[-1] if ends else 0
            for record in self.records[len(ends) :]:
                total += _size(record)
                ends.append(total)
        start = bisect_left(self.sequences, at)
        before = ends[start - 1] if start else 0
        most = min(start + limit, len(ends))
        stop = bisect_right(ends, before + PAGE_BYTES, start, most)
        if stop == start < len(ends):
            stop += 1
        size = ends[stop - 1] - before if stop > start else 0
        return self.records[start:stop], size, stop == len(ends)


def _size(record: Record) -> int:
    said = record.dynamodb
    if said.size is not None:
        return _ENVELOPE + said.size
    images = (said.keys, said.new_image, said.old_image)
    return _ENVELOPE + sum(len(bytes(image)) for image in images if isinstance(image, msgspec.Raw))
