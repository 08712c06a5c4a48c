"""How far a run is behind: the oldest record of each shard that is not read, or not settled.

A stream keeps a record for 24 hours, so its age also says how long it has until it is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ddbrelay.flow.capture import ShardReader
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.tracking import Frontier


@dataclass(frozen=True, slots=True)
class Unread:
    """A shard that holds records which are not read, or not settled.

    `since` is the write time of the oldest of them, or a time before it, in epoch seconds; None
    where it is not known.
    """

    shard_id: str
    since: float | None

    def age(self, now: float) -> float | None:
        """Seconds since its oldest unread record was written, at most."""
        return None if self.since is None else max(0.0, now - self.since)

    def left(self, now: float) -> float | None:
        """Seconds until its oldest unread record leaves the stream, at least."""
        return None if self.since is None else max(0.0, self.since + RETENTION - now)


@dataclass(frozen=True, slots=True)
class Backlog:
    """The shards that are not read to their tip, and how many wait for their parents."""

    unread: Sequence[Unread] = ()
    waiting: int = 0


def worst(unread: Iterable[Unread]) -> list[Unread]:
    """Those of which the age is known, the oldest first."""
    known = [(one.since, one.shard_id, one) for one in unread if one.since is not None]
    return [one for _, _, one in sorted(known, key=lambda each: each[:2])]


def unread_of(reader: ShardReader, frontier: Frontier) -> Unread | None:
    """What a running reader has not read, or has read and not settled; None when there is none."""
    settled = frontier.position.seen_at
    if len(frontier):
        return Unread(reader.position.shard_id, frontier.oldest or settled)
    if reader.caught_up or reader.ended:
        return None
    seen = [at for at in (reader.seen_at, settled) if at is not None]
    return Unread(reader.position.shard_id, max(seen, default=None))
