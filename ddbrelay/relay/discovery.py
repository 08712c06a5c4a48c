"""Which shards there are, which may be read now, and what was lost with those that are gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from ddbrelay.errors import AwsRefused, DataLost
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
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.change import Origin
from ddbrelay.flow.sink import retry_delay
from ddbrelay.flow.tracking import Account, Store
from ddbrelay.logs import fields
from ddbrelay.relay.listing import BROKEN, Listing
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Observer, Options
from ddbrelay.text import counted

_log = logging.getLogger(__name__)

_FIRST_PATIENCE = 1.0
"""Seconds until a shard that ended is looked at again for its children; then twice as long."""


class StreamGone(Exception):
    """DescribeStream does not know the stream, or not any more."""


class Discovery:
    """The first part of the engine: it lists shards and gives out those that are ready.

    `fresh` is set while the shards of the very first start are given out; `saves` says whether
    positions are stored. `lost` is called with every gap that a listing reveals; it may raise.
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
        self._store, self._origin = store, origin
        self._observer, self._options = observer, options
        self._now, self._rng = now, rng
        self._lost, self._saves = lost, saves
        self._listing = Listing(source, options.listing_pause)
        self._listed_at = 0.0
        self._listed_time = 0.0
        self._lineage = Lineage()
        self._positions: dict[str, Position] = {}
        self._met: set[str] = set()
        self._childless: list[str] = []
        self._asked: dict[str, asyncio.Future[bool]] = {}
        self._patience = _FIRST_PATIENCE
        self._failures = 0
        self._look_now = asyncio.Event()
        self._woken = self._said_broken = False
        self.fresh = False

    @property
    def exhausted(self) -> bool:
        """Whether every listed shard is read to its end."""
        return self._lineage.exhausted

    @property
    def ended(self) -> bool:
        """Whether the stream is disabled and all of it is read."""
        return self._lineage.disabled and self._lineage.exhausted

    @property
    def waiting(self) -> int:
        """Shards that are known and not read yet: their parents are not finished."""
        return self._lineage.waiting

    async def begin(self) -> None:
        """List all shards and find where each starts: its stored position, or the first start."""
        stored = await self._store.load() if self._options.resume else {}
        if all(position.untouched for position in stored.values()):
            stored = {}
        self._positions = dict(stored)
        self._met = set(stored)
        self._lineage = Lineage(stored.values())
        listed = await self._list()
        while not listed:
            await asyncio.sleep(self._retry_delay())
            listed = await self._list()
        accounts: list[Account] = []
        if stored:
            self._reopen()
            accounts = self._meet()[1] + self._drop_unlisted()[1]
        else:
            self.fresh = True
            self._positions = first_positions(
                self._lineage.shards.values(),
                self._options.start,
                self._now(),
                self._options.since,
                disabled=self._lineage.disabled,
            )
            self._met = set(self._positions)
            for position in self._positions.values():
                if position.finished:
                    self._lineage.finish(position.shard_id)
        shards = self._lineage.shards
        closed = sum(shard.closed for shard in shards.values())
        _log.info(
            "stream %s: %d shards are listed, %d of them closed, %d positions are stored%s",
            self._origin.stream_arn,
            len(shards),
            closed,
            len(stored),
            "; it is disabled" if self._lineage.disabled else "",
            extra=fields(
                streamArn=self._origin.stream_arn,
                shards=len(shards),
                closed=closed,
                stored=len(stored),
                disabled=self._lineage.disabled,
            ),
        )
        if self._saves:
            await self._store.begin(self._positions.values(), accounts)
        self._listed_time = self._now()
        if not self.fresh:
            # The run before may have ended between the end of a shard and the sight of its child.
            finished = [p.shard_id for p in self._positions.values() if p.finished]
            self._childless = self._without_children(finished)

    def ready(self) -> list[tuple[Shard, Position]]:
        """Shards to read from now on, each given out once."""
        found = []
        for shard in self._lineage.ready():
            self._positions[shard.id] = self._position_of(shard)
            found.append((shard, self._positions[shard.id]))
        return found

    def _position_of(self, shard: Shard) -> Position:
        """Where a shard stands; what was never read cannot be older than what its parent held."""
        position = self._positions.get(shard.id)
        opened_after = self._seen_before(shard)
        if position is None:
            # An endpoint may count a shard from its first record that is not trimmed; a shard that
            # a listing of the last day did not have is whole.
            horizon = self._now() - RETENTION
            whole = max(opened_after or 0.0, self._listed_time) > horizon
            starting = shard.starting if whole else None
            position = Position(shard.id, shard.parent_id, starting=starting)
        if position.sequence is None and opened_after is not None:
            return replace(position, seen_at=max(position.seen_at or 0.0, opened_after))
        return position

    def _seen_before(self, shard: Shard) -> float | None:
        """A time at which a shard did not exist yet: its nearest known ancestor was read then.

        Where none is known, it is younger than the very first listing, which did not have it.
        """
        parent_id = shard.parent_id
        while parent_id is not None:
            ancestor = self._positions.get(parent_id)
            if ancestor is not None and ancestor.seen_at is not None:
                return ancestor.seen_at
            listed = self._lineage.shards.get(parent_id)
            parent_id = None if listed is None else listed.parent_id
        known = [p.start_time or p.seen_at for p in self._positions.values()]
        times = (time for time in known if time is not None)
        return None if self.fresh else min(times, default=None)

    def finish(self, position: Position) -> None:
        """A shard was read to its end, all of it is settled, and that is stored."""
        self._positions[position.shard_id] = position
        self._lineage.finish(position.shard_id)
        self._childless += self._without_children([position.shard_id])
        self._look_now.set()

    async def nothing_follows(self, shard_id: str) -> bool:
        """Whether a shard that seems to be at its end is: the listing must say so.

        Where what is known of it does not, the answer comes with the next look.
        """
        if self._lineage.nothing_follows(shard_id):
            return True
        self._asked[shard_id] = asyncio.get_running_loop().create_future()
        self._look_now.set()
        return await self._asked[shard_id]

    def _answer(self, asked: Iterable[str], *, listed: bool) -> None:
        """Answer what is known; when all shards were `listed`, that is everything."""
        for shard_id in asked:
            ended = self._lineage.nothing_follows(shard_id)
            if (ended or listed) and shard_id in self._asked:
                answer = self._asked.pop(shard_id)
                if not answer.done():
                    answer.set_result(ended)

    async def wait(self) -> None:
        """Return when it is time to look again: after an end, or when the interval is over."""
        self.fresh = False
        pause = self._options.discovery_interval
        if self._failures:
            pause = self._retry_delay()
        elif self._childless:
            # A shard may end before its child is listed.
            self._patience = min(self._patience * 2, pause)
            pause = self._patience
        else:
            self._patience = _FIRST_PATIENCE
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._look_now.wait()
        self._woken = self._look_now.is_set()
        self._look_now.clear()

    async def look(self) -> None:
        """Learn of new shards: the children of those that ended, or the whole listing.

        Returns early, with what it has learned, when a page fails; the next call goes on there.
        """
        asked = list(self._asked)
        ended = [*asked, *self._childless]
        if len(ended) <= self._listing.pages:
            await self._look_for_children(ended)
        # More may have ended meanwhile; they are looked for the next time.
        self._childless = self._without_children(self._childless)
        self._answer(asked, listed=False)
        missing = not set(ended).isdisjoint([*self._asked, *self._childless])
        due = _loop_time() - self._listed_at >= self._options.discovery_interval
        if (missing or due or not self._woken) and await self._list():
            self._answer(asked, listed=True)
            met, missed = self._meet()
            met += self._reopen()
            gone, lost = self._drop_unlisted()
            self._listed_time = self._now()
            if self._saves:
                if met or missed or lost:
                    await self._store.save(met, missed + lost)
                if gone:
                    await self._store.forget(gone)
            self._childless = self._without_children(self._childless)

    async def _look_for_children(self, parents: Iterable[str]) -> None:
        for parent in parents:
            try:
                children = await self._listing.children_of(parent)
            except (StreamFault, AwsRefused):
                # Not every endpoint knows the filter; the full listing says what is wrong.
                return
            # An endpoint that ignores the filter may list a shard here without its parent.
            self._lineage.learn(s for s in children.shards if s.parent_id == parent)

    def _without_children(self, shard_ids: Iterable[str]) -> list[str]:
        """Those of the shards whose children may still come."""
        parents = {shard.parent_id for shard in self._lineage.shards.values()}
        return [s for s in shard_ids if s not in parents and s in self._lineage.shards]

    async def _list(self) -> bool:
        """Go through the whole listing; False when a page failed, and the next call goes on."""
        while True:
            if self._listing.at_start:
                self._lineage.listing_begins()
            try:
                page, listed = await self._listing.next()
            except StreamFault as fault:
                if fault.fault is Fault.NOT_FOUND:
                    raise StreamGone from fault
                self._failures += 1
                _log.info(
                    "cannot list the shards: %s; %d failures in a row",
                    fault,
                    self._failures,
                    extra=fields(fault=fault.fault.value, failures=self._failures),
                )
                if self._failures % RETRIES_BEFORE_WORD == 0:
                    self._observer.trouble(f"cannot list the shards, trying again: {fault}")
                return False
            self._failures = 0
            self._lineage.learn(page.shards)
            self._lineage.disabled = page.disabled
            if listed is not None:
                if self._listing.broken:
                    # What is on the other pages is not gone.
                    self._say_broken()
                    listed = set(self._lineage.shards)
                atomic = self._listing.pages == 1 and not self._listing.broken
                self._lineage.listing_complete(listed, atomic=atomic)
                if not self._lineage.unsure:
                    self._listed_at = _loop_time()
                    return True

    def _say_broken(self) -> None:
        if not self._said_broken:
            self._said_broken = True
            known = counted(len(self._lineage.shards), "shard")
            self._observer.trouble(f"{BROKEN}: only what it lists is read, {known}")

    def _retry_delay(self) -> float:
        return retry_delay(self._failures, self._rng, base=0.5)

    async def account_for_all(self, reached: Iterable[Position]) -> None:
        """The stream is gone: what was not settled of its shards is lost.

        `reached` is where the shards stand that were being read. Raises DataLost where the options
        say so, and keeps the positions then.
        """
        self._positions |= {position.shard_id: position for position in reached}
        unread = [position for position in self._positions.values() if not position.finished]
        if self._options.stop_on_gap and unread:
            raise DataLost(
                f"the stream {self._origin.stream_arn} no longer exists, nor what followed the "
                "position",
                "to go on with the table's new stream: tail --on-gap continue",
            )
        accounts = [self._lost_with(position, self._now()) for position in unread]
        if self._saves:
            await self._store.save((), accounts)
            await self._store.forget(list(self._positions))

    def _meet(self) -> tuple[list[Position], list[Account]]:
        """Positions for newly listed shards; a parent that came and went unseen is lost."""
        new = [s for s in self._lineage.shards.values() if s.id not in self._met]
        self._met.update(shard.id for shard in new)
        for shard in new:
            _log.info(
                "shard %s is new, %s",
                shard.id,
                f"a child of {shard.parent_id}" if shard.parent_id else "without a parent",
                extra=fields(shardId=shard.id, parentShardId=shard.parent_id),
            )
        lost = []
        for parent in sorted({s.parent_id for s in new if s.parent_id is not None}):
            if parent not in self._lineage.shards and parent not in self._positions:
                lost.append(self._lost_with(Position(parent), self._now()))
        met = [self._position_of(shard) for shard in new if shard.id not in self._positions]
        self._positions.update({position.shard_id: position for position in met})
        return met, lost

    def _reopen(self) -> list[Position]:
        """Do not believe that an open shard is finished; the positions from which it is read on."""
        found = []
        for shard_id in self._lineage.reopen():
            position = replace(self._positions[shard_id], finished=False)
            self._positions[shard_id] = position
            found.append(position)
            after = position.sequence
            self._observer.trouble(
                f"shard {shard_id} is open, although it was stored as read to its end: it is read "
                f"on {f'behind {after}' if after else 'from its beginning'}"
            )
        return found

    def _drop_unlisted(self) -> tuple[list[str], list[Account]]:
        """Drop the positions of shards that AWS no longer lists; what was not read is lost."""
        listed = self._positions if self._listing.broken else self._lineage.shards
        gone = [
            position for position in self._positions.values() if position.shard_id not in listed
        ]
        lost = []
        for position in gone:
            if not position.finished:
                lost.append(self._lost_with(position, self._now()))
            del self._positions[position.shard_id]
        return [position.shard_id for position in gone], lost

    def _lost_with(self, position: Position, until: float) -> Account:
        shard_id, reason = position.shard_id, Fault.NOT_FOUND.value
        gap = Gap(shard_id, position.sequence, reason, position.seen_at, until)
        self._lost(gap)
        return Account(shard_id, gaps=[gap])


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
