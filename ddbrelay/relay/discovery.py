"""Which shards there are, which may be read now, and what was lost with those that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection

from ddbrelay.errors import AwsRefused, DataLost, DdbrelayError
from ddbrelay.flow.capture import (
    Fault,
    Gap,
    Lineage,
    Position,
    Shard,
    StreamFault,
    StreamSource,
    first_positions,
)
from ddbrelay.flow.change import Origin
from ddbrelay.flow.sink import retry_delay
from ddbrelay.flow.tracking import Store
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Observer, Options

_FIRST_PATIENCE = 1.0
"""Seconds until a shard that ended is looked at again for its children; then twice as long."""


class Discovery:
    """The first part of the engine: it lists shards and gives out those that are ready.

    `fresh` is set while the shards of the very first start are given out; `saves` says whether
    positions are stored. `lost` is called with every gap that a listing reveals.
    """

    def __init__(
        self,
        source: StreamSource,
        store: Store,
        origin: Origin,
        observer: Observer,
        options: Options,
        now: Callable[[], float],
        rng: random.Random,
        lost: Callable[[Gap], None],
        saves: bool,
    ) -> None:
        self._source, self._store, self._origin = source, store, origin
        self._observer, self._options = observer, options
        self._now, self._rng = now, rng
        self._lost, self._saves = lost, saves
        self._lineage = Lineage()
        self._positions: dict[str, Position] = {}
        self._childless: list[str] = []
        self._patience = _FIRST_PATIENCE
        self._look_now = asyncio.Event()
        self._disabled = False
        self.fresh = False

    @property
    def exhausted(self) -> bool:
        """Whether every listed shard is read to its end."""
        return self._lineage.exhausted

    @property
    def ended(self) -> bool:
        """Whether the stream is disabled and all of it is read."""
        return self._disabled and self._lineage.exhausted

    async def begin(self) -> None:
        """List all shards and find where each starts: its stored position, or the first start."""
        listed = await self._list_all()
        shards = list(self._lineage.shards.values())
        stored = await self._store.load()
        if stored and self._options.resume:
            self._positions = stored
            self._meet(listed)
            self._account_for_unlisted(listed, ())
        else:
            self.fresh = True
            self._positions = first_positions(
                shards,
                self._options.start,
                self._now(),
                self._options.since,
                disabled=self._disabled,
            )
        if self._saves:
            await self._store.begin(self._positions.values())
        self._lineage = Lineage(self._positions.values())
        self._lineage.learn(shards)
        self._lineage.listing_complete(listed)
        if not self.fresh:
            # The run before may have ended between the end of a shard and the sight of its child.
            self._childless = [p.shard_id for p in self._positions.values() if p.finished]
            self._childless = self._still_childless()

    def ready(self) -> list[tuple[Shard, Position]]:
        """Shards to read from now on, each given out once."""
        found = []
        for shard in self._lineage.ready():
            position = self._positions.get(shard.id) or Position(shard.id, shard.parent_id)
            self._positions[shard.id] = position
            found.append((shard, position))
        return found

    def finish(self, position: Position) -> None:
        """A shard was read to its end, all of it is settled, and that is stored."""
        self._positions[position.shard_id] = position
        self._lineage.finish(position.shard_id)
        self._childless.append(position.shard_id)
        self._look_now.set()

    async def wait(self) -> None:
        """Return when it is time to look again: after an end, or when the interval is over."""
        self.fresh = False
        pause = self._options.discovery_interval
        if self._childless:
            # A shard may end before its child is listed.
            self._patience = min(self._patience * 2, pause)
            pause = self._patience
        else:
            self._patience = _FIRST_PATIENCE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._look_now.wait()
        self._look_now.clear()

    async def look(self, being_read: Collection[str]) -> None:
        """Learn of new shards: the children of those that ended, or the whole listing."""
        for parent in self._childless:
            try:
                children = await self._source.shards(children_of=parent)
            except (StreamFault, AwsRefused):
                # Not every endpoint knows the filter; the full listing says what is wrong.
                break
            # An endpoint that ignores the filter may list a shard here without its parent.
            self._lineage.learn(s for s in children.shards if s.parent_id == parent)
        if not self._childless or self._still_childless():
            listed = await self._list_all()
            met = self._meet(listed)
            gone = self._account_for_unlisted(listed, being_read)
            if met and self._saves:
                await self._store.save(met)
            if gone and self._saves:
                await self._store.forget(gone)
        self._childless = self._still_childless()

    def _still_childless(self) -> list[str]:
        parents = {shard.parent_id for shard in self._lineage.shards.values()}
        return [shard_id for shard_id in self._childless if shard_id not in parents]

    async def _list_all(self) -> set[str]:
        """Learn all pages of the listing; a page that fails is asked for again."""
        listed: set[str] = set()
        after: str | None = None
        failures = 0
        while True:
            try:
                page = await self._source.shards(after)
            except StreamFault as fault:
                if fault.fault is Fault.NOT_FOUND:
                    raise self._gone() from fault
                failures += 1
                if failures % RETRIES_BEFORE_WORD == 0:
                    self._observer.trouble(f"cannot list the shards, trying again: {fault}")
                await asyncio.sleep(retry_delay(failures, self._rng, base=0.5))
                continue
            failures = 0
            self._lineage.learn(page.shards)
            self._disabled = page.disabled
            listed.update(shard.id for shard in page.shards)
            after = page.last_id
            if after is None:
                self._lineage.listing_complete(listed)
                return listed

    def _gone(self) -> DdbrelayError:
        message = f"the stream {self._origin.stream_arn} no longer exists"
        if self._options.stop_on_gap:
            return DataLost(f"{message}, nor what followed the position", "--since TIME")
        return AwsRefused(
            message, "was its table deleted? A new run follows the stream of a new table"
        )

    def _meet(self, listed: set[str]) -> list[Position]:
        """Positions for newly listed shards; a parent that came and went unseen is lost."""
        new = [s for s in self._lineage.shards.values() if s.id not in self._positions]
        for parent in sorted({s.parent_id for s in new if s.parent_id is not None}):
            if parent not in listed and parent not in self._positions:
                self._lost(Gap(parent, None, Fault.NOT_FOUND.value))
        met = [Position(shard.id, shard.parent_id) for shard in new]
        self._positions.update({position.shard_id: position for position in met})
        return met

    def _account_for_unlisted(self, listed: set[str], being_read: Collection[str]) -> list[str]:
        """Drop the positions of shards that AWS no longer lists; what was not read is lost."""
        gone = [
            position
            for position in self._positions.values()
            if position.shard_id not in listed and position.shard_id not in being_read
        ]
        for position in gone:
            if not position.finished:
                self._lost(Gap(position.shard_id, position.sequence, Fault.NOT_FOUND.value))
            del self._positions[position.shard_id]
        return [position.shard_id for position in gone]
