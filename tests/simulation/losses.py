"""What cannot be read any more, and what the engine says about it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable

from ddbrelay.flow.capture import Gap, Page
from ddbrelay.testing import clock
from ddbrelay.testing.shard import SimulatedShard
from ddbrelay.testing.stream import RETENTION, SimulatedStream

_DOUBT = 8 * 3600.0
"""Seconds before records are trimmed from which on it may be believed that they are.

Of a shard that came while nobody ran it is only known that it is younger than what was read of its
ancestors, which may be older than the absence by two lives of a shard.
"""
_WHOLE_SECOND = 1.0


class Losses:
    """The gaps of one consumer, compared with what was really trimmed.

    A gap reaches from its number up to what could not be read when it was told, or to the first
    record that was read behind it; what could still be read is lost by nobody's leave. `needless`
    counts gaps of shards of which nothing was trimmed, `idle` these and the ones behind which no
    record was. `clock_was_wrong` and `tip_is_unsure` (there are empty pages before records) say
    what the engine cannot know.
    """

    def __init__(self, stream: SimulatedStream) -> None:
        self._stream = stream
        self._ranges: dict[str, list[tuple[int, int]]] = {}
        self._open: set[str] = set()
        self._told: dict[str, list[Gap]] = {}
        self._read_at = 0.0
        self._longest_absence = 0.0
        self.count = self.idle = self.needless = 0
        self.clock_was_wrong = self.tip_is_unsure = False

    def begin(self) -> None:
        """The very first run starts."""
        self._read_at = clock.now()

    def __contains__(self, shard_id: str) -> bool:
        return shard_id in self._ranges

    def covers(self, shard_id: str, number: int) -> bool:
        """Whether a record lies in a gap."""
        return any(after < number < before for after, before in self._ranges.get(shard_id, ()))

    def trimmed(self, shard: SimulatedShard) -> int:
        """How many records of a shard nobody can read any more."""
        if shard.id not in self._stream.shards:
            return len(shard.sequences)
        aged = bisect_left(shard.written_at, clock.now() - RETENTION)
        return max(aged, bisect_left(shard.sequences, shard.horizon))

    def add(self, gap: Gap, stored: Collection[str]) -> str | None:
        """A gap is told, while there are positions of the shards `stored`; why it must not be."""
        self.count += 1
        shard = self._stream.history[gap.shard_id]
        trimmed = self.trimmed(shard)
        if trimmed == 0 and gap.shard_id in self._stream.shards:
            if not self._may_doubt and not self._descends_from_lost(shard):
                return f"shard {gap.shard_id} has a gap, but nothing of it was trimmed"
            self.needless += 1
        after = -1 if gap.after is None else int(gap.after)
        if bisect_right(shard.sequences, after) >= trimmed:
            self.idle += 1
        self._ranges.setdefault(gap.shard_id, []).append((after, _behind(shard, trimmed)))
        self._open.add(gap.shard_id)
        self.keep([gap])
        if gap.after is None:
            self._lose_unknown(shard.parent_id, stored)
        return None

    def _descends_from_lost(self, shard: SimulatedShard) -> bool:
        """Whether an ancestor went unread: then nobody knows when its descendants came."""
        parent_id = shard.parent_id
        while parent_id is not None and parent_id not in self._ranges:
            parent_id = self._stream.history[parent_id].parent_id
        return parent_id is not None

    def _lose_unknown(self, shard_id: str | None, stored: Collection[str]) -> None:
        """Nobody can name a shard that came and went unseen; the gap of its descendant counts."""
        while shard_id is not None and shard_id not in {*self._stream.shards, *stored}:
            shard = self._stream.history[shard_id]
            everything = (-1, _behind(shard, len(shard.records)))
            self._ranges.setdefault(shard_id, []).append(everything)
            shard_id = shard.parent_id

    def read(self, shard_id: str, page: Page) -> None:
        """A page was read: a gap before it reaches up to its first record, and not further."""
        self._longest_absence = max(self._longest_absence, clock.now() - self._read_at)
        self._read_at = clock.now()
        shard = self._stream.history[shard_id]
        at_the_end = page.next_iterator is None and shard.closed_at is not None
        if shard_id in self._open and (page.records or at_the_end):
            before = _behind(shard, self.trimmed(shard))
            if page.records:
                before = min(before, int(page.records[0].sequence_number))
            after, told = self._ranges[shard_id][-1]
            self._ranges[shard_id][-1] = after, max(told, before)
            self._open.discard(shard_id)

    @property
    def _may_doubt(self) -> bool:
        """Whether a careful reader may take old records for lost that are still there.

        It may where its clock cannot be trusted, and where it has not read anything for about as
        long as records are kept.
        """
        absence = max(self._longest_absence, clock.now() - self._read_at)
        return self.clock_was_wrong or absence > RETENTION - _DOUBT

    # Times

    def keep(self, gaps: Iterable[Gap]) -> None:
        """As they are told, or put into the ledger."""
        for gap in gaps:
            self._told.setdefault(gap.shard_id, []).append(gap)

    def wrong_times(self, shard: SimulatedShard, at: int) -> str | None:
        """What is wrong with the times of the gaps around a lost record."""
        if self.clock_was_wrong or shard.id not in self._told:
            # A shard that came and went unseen has no gap of its own.
            return None
        number, time = shard.sequences[at], shard.written_at[at]
        if any(self._says(gap, number, time) for gap in self._told[shard.id]):
            return None
        ranges = sorted({(gap.since or 0.0, gap.until or 0.0) for gap in self._told[shard.id]})
        return (
            f"record {number} of shard {shard.id}, written at {time:.0f}, is lost, but the times "
            f"of the gaps are {ranges}"
        )

    def _says(self, gap: Gap, number: int, time: float) -> bool:
        return (
            (gap.after is None or int(gap.after) < number)
            and (gap.before is None or number < int(gap.before))
            and (self.tip_is_unsure or gap.since is None or gap.since - _WHOLE_SECOND <= time)
            and (gap.until is None or time <= gap.until + _WHOLE_SECOND)
        )


def _behind(shard: SimulatedShard, records: int) -> int:
    """The sequence number behind so many records."""
    return shard.sequences[records - 1] + 1 if records else 0
