"""Where a shard starts, and which shards may be read: parents before their children."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum

from ddbrelay.flow.capture.port import RETENTION, Shard

_SURE = 2
"""So many listings without its parent make a shard an orphan."""


class Start(Enum):
    """Where a shard without a sequence number starts."""

    TRIM_HORIZON = "trim-horizon"
    LATEST = "latest"
    TIME = "time"
    ITERATOR = "iterator"
    AT_SEQUENCE = "at-sequence"


@dataclass(frozen=True, slots=True)
class Position:
    """How far one shard is settled.

    `sequence` is the last settled sequence number, `iterator` the one that followed it and
    `iterator_at` when AWS gave it. `start` is the original start, `start_time` its time (for
    LATEST and TRIM_HORIZON the moment of the very first start), `start_sequence` its number for
    AT_SEQUENCE. `written_at` is when the record with `sequence` was written. Nothing that was
    written to the shard before `seen_at` is unread; what was written before `lost_until` and not
    read was reported as lost. `starting` is the shard's first sequence number as it was listed when
    it cannot have been trimmed yet.
    """

    shard_id: str
    parent_id: str | None = None
    start: Start = Start.TRIM_HORIZON
    start_time: float | None = None
    start_sequence: str | None = None
    sequence: str | None = None
    written_at: float | None = None
    iterator: str | None = None
    iterator_at: float | None = None
    seen_at: float | None = None
    lost_until: float | None = None
    starting: str | None = None
    finished: bool = False

    @property
    def untouched(self) -> bool:
        """Whether the very first run ended before anything of this shard was read."""
        return (
            self.start is Start.TRIM_HORIZON
            and self.start_time is not None
            and self.sequence is None
            and self.seen_at is None
            and not self.finished
        )


def first_positions(
    shards: Iterable[Shard],
    start: Start,
    now: float,
    since: float | None = None,
    *,
    disabled: bool = False,
) -> dict[str, Position]:
    """The position of every listed shard at the very first start, by shard id.

    `latest` covers only the shards that are open now: a parent with children is closed even where
    the listing still calls it open, and so is every leaf of a disabled stream. Shards discovered
    later start at the trim horizon.
    """
    listed = list(shards)
    parents = {shard.parent_id for shard in listed}
    positions = {}
    for shard in listed:
        position = Position(shard.id, shard.parent_id, start, now, starting=shard.starting)
        if start is Start.LATEST:
            closed = shard.closed or disabled or shard.id in parents
            position = replace(position, seen_at=now, finished=closed)
        elif start is Start.TIME and since is not None:
            # What is older than the horizon was asked for, but is not promised.
            seen_at = since if since > now - RETENTION else None
            position = replace(position, start_time=since, seen_at=seen_at)
        positions[shard.id] = position
    return positions


class Lineage:
    """The tree of shards: a child is ready only after its parent was read and settled.

    A listing of several pages is no picture of one moment: a shard may appear on a page that was
    read already, and its child on one that was not. So a parent that is not listed counts as
    trimmed only when a second listing does not have it either.
    """

    def __init__(self, positions: Iterable[Position] = ()) -> None:
        self._shards: dict[str, Shard] = {}
        self._taken: set[str] = set()
        self._finished = {position.shard_id for position in positions if position.finished}
        self._orphaned: dict[str, int] = {}
        self._unlisted: set[str] = set()
        self.disabled = False
        self._known_before: set[str] | None = None
        self._complete = False

    @property
    def shards(self) -> dict[str, Shard]:
        """Every shard that is listed, was learned since, or is being read, by id."""
        return self._shards

    @property
    def waiting(self) -> int:
        """Shards that were not given out yet."""
        return len(self._shards.keys() - self._taken - self._finished)

    @property
    def unsure(self) -> bool:
        """Whether another listing must say that some parents are really gone."""
        return any(times < _SURE for times in self._orphaned.values())

    def learn(self, shards: Iterable[Shard]) -> None:
        """Take in one page of a listing; what an earlier page said stays.

        A shard that was closed once is closed.
        """
        for shard in shards:
            known = self._shards.get(shard.id)
            if known is not None and known.closed:
                shard = replace(shard, closed=True)
            self._shards[shard.id] = shard

    def listing_begins(self) -> None:
        """The first page is asked for; what is learned from now on may be missing in it."""
        self._known_before = set(self._shards)

    def listing_complete(self, listed: set[str], *, atomic: bool = True) -> None:
        """All pages were read: what is no longer listed was trimmed away, and holds nobody up.

        `atomic` when there was only one page.
        """
        self._complete = True
        before = self._shards.keys() if self._known_before is None else self._known_before
        self._unlisted = (before & self._taken) - listed
        for shard_id in before - listed - self._taken:
            self._shards.pop(shard_id, None)
            self._finished.discard(shard_id)
        orphaned = {}
        for shard in self._shards.values():
            if shard.parent_id is not None and shard.parent_id not in self._shards:
                seen = self._orphaned.get(shard.id, 0) + 1
                orphaned[shard.id] = _SURE if atomic else min(seen, _SURE)
        self._orphaned = orphaned

    def ready(self) -> list[Shard]:
        """Shards to start now, each given out once."""
        found = [
            shard
            for shard in self._shards.values()
            if shard.id not in self._taken
            and shard.id not in self._finished
            and self._parent_is_done(shard)
        ]
        self._taken.update(shard.id for shard in found)
        return found

    def _parent_is_done(self, shard: Shard) -> bool:
        if shard.parent_id is None or shard.parent_id in self._finished:
            return True
        gone = self._orphaned.get(shard.id, 0) >= _SURE
        return gone and shard.parent_id not in self._shards

    def nothing_follows(self, shard_id: str) -> bool:
        """Whether the listing says that a shard is closed, or does not have it any more.

        An open parent that has children is closed, and so is every leaf of a disabled stream.
        """
        shard = self._shards.get(shard_id)
        if shard is None or shard_id in self._unlisted or shard.closed or self.disabled:
            return True
        return any(child.parent_id == shard_id for child in self._shards.values())

    def reopen(self) -> list[str]:
        """Take back the ends of shards that are listed open; the ids of these shards."""
        parents = {shard.parent_id for shard in self._shards.values()}
        found = [
            shard.id
            for shard in self._shards.values()
            if shard.id in self._finished
            and not (shard.closed or self.disabled or shard.id in parents)
        ]
        self._finished.difference_update(found)
        return found

    def finish(self, shard_id: str) -> None:
        """The shard was read to its end and all its records are settled."""
        self._finished.add(shard_id)
        self._taken.discard(shard_id)

    def is_finished(self, shard_id: str) -> bool:
        """Whether nothing more will come of this shard."""
        return shard_id in self._finished

    @property
    def exhausted(self) -> bool:
        """Whether every listed shard is finished."""
        return self._complete and all(shard in self._finished for shard in self._shards)
