"""The shards of a simulated stream: which there are, which takes a key, how they come and go."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Any

from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.testing.shard import SimulatedShard

_HASHES = 2**32
_FIRST_SEQUENCE = 10**21 - 10_000
"""Close below a power of ten, so that the numbers grow longer while a test runs."""


class ShardTree:
    """Shards that divide the hashes of all partition keys, 0 to 2**32.

    `skew` is how many seconds the stream's clock is ahead of `now`; it may change. For `enabling`
    seconds no shard is listed yet.
    """

    def __init__(
        self,
        shard_ids: Sequence[str] | int,
        now: Callable[[], float],
        rng: random.Random,
        skew: float = 0.0,
        enabling: float = 0.0,
    ) -> None:
        self._clock, self._rng, self.skew = now, rng, skew
        self.shards: dict[str, SimulatedShard] = {}
        """Those that exist now; `history` has the removed ones too."""
        self.history: dict[str, SimulatedShard] = {}
        self.created_at = self._now()
        self.enabled_at = self.created_at + enabling
        self.disabled_at: float | None = None
        self._open_shards: list[SimulatedShard] = []
        self._sequence = _FIRST_SEQUENCE
        ids: Sequence[str | None] = (
            [None] * shard_ids if isinstance(shard_ids, int) else list(shard_ids)
        )
        for shard_id, hashes in zip(ids, _divided(range(_HASHES), len(ids)), strict=True):
            self._open(shard_id, None, hashes, enabling)

    def _now(self) -> float:
        return self._clock() + self.skew

    def _owner(self, position: int) -> SimulatedShard:
        index = bisect_right(self._open_shards, position, key=lambda shard: shard.hashes.start)
        if index and position in self._open_shards[index - 1].hashes:
            return self._open_shards[index - 1]
        raise LookupError("no open shard takes this key")

    def _next_sequence(self) -> int:
        self._sequence += self._rng.randint(1, 2000)
        return self._sequence

    @property
    def status(self) -> str:
        """`StreamStatus`."""
        if self.disabled_at is not None:
            return "DISABLED"
        return "ENABLING" if self._now() < self.enabled_at else "ENABLED"

    def roll(self, shard_id: str, **oddities: Any) -> str:
        """Close a shard and open its only child; oddities as in `succeed`."""
        return self.succeed(shard_id, None, **oddities)[0]

    def split(self, shard_id: str, **oddities: Any) -> list[str]:
        """Close a shard and open two children, each with half of its keys."""
        return self.succeed(shard_id, None, None, **oddities)

    def succeed(
        self,
        shard_id: str,
        *children: str | None,
        listed_after: float = 0.0,
        looks_open: bool = False,
    ) -> list[str]:
        """Close a shard and open these children (None makes up an id), which divide its keys.

        They are listed only `listed_after` seconds later, though never before their parent; with
        `looks_open` the parent is still listed without an ending number.
        """
        parent = self.shards[shard_id]
        self.close(shard_id)
        parent.looks_open = looks_open
        parts = _divided(parent.hashes, len(children))
        return [
            self._open(child, parent.id, part, listed_after)
            for child, part in zip(children, parts, strict=True)
        ]

    def close(self, shard_id: str) -> None:
        """Close a shard; it has no child yet, and nobody takes its keys."""
        shard = self.shards[shard_id]
        shard.closed_at, shard.closed_with = self._now(), self._sequence
        self._takes_no_more(shard)

    def _takes_no_more(self, shard: SimulatedShard) -> None:
        if shard in self._open_shards:
            self._open_shards.remove(shard)

    def _open(
        self,
        shard_id: str | None,
        parent_id: str | None,
        hashes: range,
        listed_after: float = 0.0,
    ) -> str:
        at, starting = self._now(), self._next_sequence()
        made = shard_id or f"shardId-{int(at * 1000):020d}-{self._rng.getrandbits(32):08x}"
        listed_at = at + listed_after
        if parent_id is not None:
            listed_at = max(listed_at, self.shards[parent_id].listed_at)
        shard = SimulatedShard(made, parent_id, hashes, listed_at, starting, len(self.history))
        self.shards[made] = self.history[made] = shard
        index = bisect_left(self._open_shards, hashes.start, key=lambda shard: shard.hashes.start)
        self._open_shards.insert(index, shard)
        return made

    def disable(self) -> None:
        """The table's stream is switched off, or the table deleted: all shards close.

        What is in them stays readable, then the stream is gone.
        """
        self.disabled_at = self._now()
        for shard in self.shards.values():
            if shard.closed_at is None:
                self.close(shard.id)

    def trim(self, shard_id: str, records: int | None = None) -> None:
        """Trim the oldest readable records of a shard now; None trims all."""
        self.shards[shard_id].trim(records)

    def remove(self, shard_id: str) -> None:
        """The shard is gone with all that was in it."""
        self._takes_no_more(self.shards.pop(shard_id))

    @property
    def gone(self) -> bool:
        """Whether it was disabled more than 24 hours ago."""
        return self.disabled_at is not None and self.disabled_at < self._now() - RETENTION


def outlived(shard: SimulatedShard, now: float) -> bool:
    """Whether it was closed more than 24 hours ago, and all that was in it is trimmed."""
    return shard.closed_at is not None and shard.closed_at < now - RETENTION


def _divided(hashes: range, parts: int) -> list[range]:
    edges = [hashes.start + len(hashes) * part // parts for part in range(parts + 1)]
    return [range(edges[part], edges[part + 1]) for part in range(parts)]
