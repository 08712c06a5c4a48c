"""Reads the shards of a run, each from its start to its end, and hands their records on."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import (
    Ended,
    Fault,
    Gap,
    NeedIterator,
    NeedRecords,
    Page,
    Position,
    Shard,
    ShardReader,
    StreamFault,
    StreamSource,
    Wait,
)
from ddbrelay.flow.change import Change, Origin
from ddbrelay.flow.tracking import Frontier
from ddbrelay.logs import fields
from ddbrelay.relay.backlog import Unread, unread_of
from ddbrelay.relay.checkpoints import Checkpoints
from ddbrelay.relay.delivery import Delivery
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Observer, Options, Progress
from ddbrelay.relay.tasks import Tasks

_log = logging.getLogger(__name__)

_FIRST_PAGE = 2 * 1024 * 1024
"""Bytes for which there must be room before the first page of a shard is asked for."""
_AT_ONCE = 100
"""Records that are mapped before others get a turn."""


@dataclass(slots=True)
class Open:
    """A shard that is being read; `last_time` is the write time of the last record read.

    `passed` is set when only later records follow than were asked for. `read_at` and `settled_at`
    are the loop's times of the last call that succeeded, and of the last record that was passed or
    began to wait; `page_size` is what the last page took, in bytes. `failing` says that no page was
    read since a call failed.
    """

    shard: Shard
    reader: ShardReader
    frontier: Frontier
    read_at: float
    settled_at: float
    last_time: float | None = None
    passed: bool = False
    no_room: bool = False
    page_size: int = _FIRST_PAGE
    failing: bool = False


class Reading:
    """The first half of the engine.

    `nothing_follows` says whether the listing has a shard as closed, or not any more. `on_lost` is
    told of records that are lost, and raises where the run must not go on behind them;
    `on_finished` of a shard that was read to its end and settled; `on_bound` when as many records
    were relayed as were asked for.
    """

    def __init__(
        self,
        source: StreamSource,
        delivery: Delivery,
        checkpoints: Checkpoints,
        origin: Origin,
        observer: Observer,
        options: Options,
        now: Callable[[], float],
        rng: random.Random,
        tasks: Tasks,
        *,
        nothing_follows: Callable[[str], Awaitable[bool]],
        on_lost: Callable[[Gap], None],
        on_finished: Callable[[Position], None],
        on_bound: Callable[[], None],
    ) -> None:
        self._source, self._delivery, self._checkpoints = source, delivery, checkpoints
        self._origin, self._observer, self._options = origin, observer, options
        self._now, self._rng, self._tasks = now, rng, tasks
        self._nothing_follows = nothing_follows
        self._on_lost, self._on_finished, self._on_bound = on_lost, on_finished, on_bound
        self._slots = asyncio.Semaphore(options.max_reading)
        self.open: dict[str, Open] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.last_read = 0.0
        self.read = 0
        self._noted: set[str] = set()

    @property
    def frontiers(self) -> list[Frontier]:
        """Of the shards that are being read."""
        return [opened.frontier for opened in self.open.values()]

    @property
    def caught_up(self) -> bool:
        """Whether every shard that is being read is read as far as it was asked for.

        One whose last call failed is not: nobody knows what was written since.
        """
        return all(
            opened.passed or (opened.reader.caught_up and not opened.failing)
            for opened in self.open.values()
        )

    @property
    def lag(self) -> float:
        """Seconds since the oldest write that is not behind us yet; 0 when caught up."""
        behind = [
            self._now() - opened.last_time
            for opened in self.open.values()
            if opened.last_time is not None
            and (len(opened.frontier) or not opened.reader.caught_up)
        ]
        return max(behind, default=0.0)

    @property
    def unread(self) -> list[Unread]:
        """What of each shard is not read, or not settled."""
        found = [
            unread_of(opened.reader, opened.frontier)
            for opened in self.open.values()
            if len(opened.frontier) or not opened.passed
        ]
        return [one for one in found if one is not None]

    def progress(self) -> list[Progress]:
        """How long ago each shard that is being read made progress."""
        now = _loop_time()
        receipt = self._delivery.last_receipt
        found = []
        for opened in self.open.values():
            # Where other shards fill all the room, their events must go before it is its turn.
            read_at = max(opened.read_at, receipt) if opened.no_room else opened.read_at
            moved_at = min(read_at, opened.settled_at) if len(opened.frontier) else read_at
            found.append(Progress(opened.shard.id, max(0.0, now - moved_at)))
        return found

    def reached(self) -> list[Position]:
        """Where the shards stand that were being read when the stream went."""
        for opened in self.open.values():
            # Its own gap was told when its reader met the end.
            if opened.reader.ended and not len(opened.frontier):
                opened.frontier.finish()
        return [opened.frontier.position for opened in self.open.values()]

    def start(self, shard: Shard, position: Position, *, fresh: bool) -> None:
        """Read a shard from a position; `fresh` marks the very first start."""
        reader = ShardReader(
            position,
            self._options.pace,
            self._rng,
            fresh=fresh,
            closed=shard.closed,
        )
        frontier = Frontier(position, on_gap_closed=self._delivery.tally.close_gap)
        opened = Open(shard, reader, frontier, _loop_time(), _loop_time())
        frontier.on_advance = lambda: self._settled(opened)
        self.open[shard.id] = opened
        start = position.start.value
        where = f"after {position.sequence}" if position.sequence else f"from {start}"
        _log.info(
            "shard %s: reading %s",
            shard.id,
            where,
            extra=fields(shardId=shard.id, start=start, after=position.sequence),
        )
        gap = reader.unseen(self._now())
        if gap is not None:
            self._lose(opened, gap)
        task = self._tasks.spawn(self._read(opened))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _settled(self, opened: Open) -> None:
        opened.settled_at = _loop_time()
        self._checkpoints.moved()

    async def _read(self, opened: Open) -> None:
        reader, failures = opened.reader, 0
        while True:
            await self._room(opened)
            step = reader.step(self._now())
            try:
                match step:
                    case Wait(until):
                        await asyncio.sleep(max(until - self._now(), 0.001))
                        continue
                    case NeedIterator(kind, sequence, timestamp):
                        async with self._slots:
                            iterator = await self._source.iterator(
                                opened.shard.id, kind, sequence=sequence, timestamp=timestamp
                            )
                        reader.got_iterator(iterator, self._now())
                        opened.read_at = _loop_time()
                        continue
                    case NeedRecords(iterator):
                        async with self._slots:
                            # The readers before this one may have filled what room there was.
                            await self._room(opened)
                            page = await self._page(opened, iterator)
                            if reader.doubts(page):
                                # Until it is asked for again, nobody knows what there is.
                                opened.failing = True
                                continue
                            await self._take(opened, page)
                        if opened.passed:
                            return
                    case Ended():
                        if reader.surely_ended:
                            await self._finish_shard(opened)
                            return
                        await self._reopen(opened)
                        continue
                failures, opened.failing = 0, False
            except (StreamFault, AwsRefused) as error:
                if isinstance(error, StreamFault):
                    fault = await self._believed(opened, error)
                elif reader.proving:
                    # Whether an endpoint takes a shard's first number is not for sure.
                    fault = StreamFault(Fault.REFUSED, str(error))
                else:
                    raise
                failures, opened.failing = failures + 1, True
                if failures & (failures - 1) == 0:
                    _log.info(
                        "shard %s: %s; backing off, failures in a row: %d",
                        opened.shard.id,
                        fault,
                        failures,
                        extra=fields(
                            shardId=opened.shard.id, fault=fault.fault.value, failures=failures
                        ),
                    )
                if failures % RETRIES_BEFORE_WORD == 0:
                    self._observer.trouble(
                        f"cannot read shard {opened.shard.id}, trying again: {fault}"
                    )
                if failures == self._options.max_failures:
                    raise AwsRefused(f"cannot read shard {opened.shard.id}: {fault}") from error
                gap = reader.failed(fault.fault, self._now())
                # Else the error, and the page that could not be read, would last through the pause.
                del fault
                if gap is not None:
                    self._lose(opened, gap)

    async def _reopen(self, opened: Open) -> None:
        """Read on: a page had no next iterator, which proves the end of a closed shard only."""
        reader, shard_id = opened.reader, opened.shard.id
        reader.reopen(closed=await self._nothing_follows(shard_id))
        if not reader.closed:
            _log.info(
                "shard %s: a page without a next iterator, but it is open; reading on after %s",
                shard_id,
                reader.sequence,
                extra=fields(shardId=shard_id, after=reader.sequence),
            )

    async def _believed(self, opened: Open, fault: StreamFault) -> StreamFault:
        """The same fault; of a shard that is listed open, only the iterator may be gone."""
        if fault.fault is not Fault.NOT_FOUND or await self._nothing_follows(opened.shard.id):
            return fault
        return StreamFault(Fault.EXPIRED, str(fault))

    async def _room(self, opened: Open) -> None:
        opened.no_room = True
        await self._delivery.room()
        opened.no_room = False

    async def _page(self, opened: Open, iterator: str) -> Page:
        # Many may be asked for before the first one comes.
        expected = opened.page_size
        self._delivery.reserve(expected)
        self._delivery.usage.reads += 1
        try:
            page = await self._source.records(iterator)
        finally:
            self._delivery.free(expected)
        opened.read_at = _loop_time()
        return page

    async def _take(self, opened: Open, page: Page) -> None:
        kept = self._asked_for(opened, page)
        bound = self._options.max_records
        left = len(kept.records) + 1 if bound is None else bound - self.read
        if len(kept.records) >= left:
            # The iterator behind the page would jump over the records that are left out.
            await self._hand_on(opened, Page(kept.records[:left], None))
            if self._delivery.dispatch is not None:
                await self._delivery.dispatch.settled()
            self._on_bound()
            await asyncio.get_running_loop().create_future()
        for note in page.notes:
            if note not in self._noted:
                self._noted.add(note)
                self._observer.trouble(f"shard {opened.shard.id}: {note}")
        # Records first: the last page of a closed shard has some, and no next iterator.
        await self._hand_on(opened, kept)
        opened.reader.got_page(page, self._now())

    def _asked_for(self, opened: Open, page: Page) -> Page:
        """Without the records before the start and after the end, where these are times."""
        until = self._options.until_time
        if until is None and not opened.reader.filters:
            return page
        records = [record for record in page.records if opened.reader.wants(record)]
        if until is not None:
            early = [r for r in records if (r.dynamodb.created_at or 0.0) <= until]
            opened.passed = len(early) < len(records)
            records = early
        return Page(records, None if opened.passed else page.next_iterator, page.size)

    async def _hand_on(self, opened: Open, page: Page) -> None:
        self.read += len(page.records)
        if not len(opened.frontier):
            opened.settled_at = _loop_time()
        tickets = opened.frontier.read(page.records, page, self._now(), opened.reader.seen_at)
        opened.page_size = self._delivery.hold(tickets, page.size)
        if not tickets:
            return
        self.last_read = _loop_time()
        opened.last_time = page.records[-1].dynamodb.created_at
        shard_id, origin, route = opened.shard.id, self._origin, self._delivery.route
        for first in range(0, len(tickets), _AT_ONCE):
            if first:
                await asyncio.sleep(0)
            some = slice(first, first + _AT_ONCE)
            for record, ticket in zip(page.records[some], tickets[some], strict=True):
                route(Change(record, shard_id, origin), ticket)
            await self._delivery.flush()

    async def _finish_shard(self, opened: Open) -> None:
        """Children wait until all records of their parent are settled, and that is stored."""
        if len(opened.frontier):
            settled = asyncio.Event()
            opened.frontier.on_empty = settled.set
            await settled.wait()
        opened.frontier.finish()
        await self._checkpoints.save([opened.frontier])
        _log.info(
            "shard %s is read to its end, and settled",
            opened.shard.id,
            extra=fields(shardId=opened.shard.id),
        )
        del self.open[opened.shard.id]
        # Its children are still to be found: the stream is not idle yet.
        self.last_read = _loop_time()
        self._on_finished(opened.frontier.position)

    def _lose(self, opened: Open, gap: Gap) -> None:
        _log.info(
            "shard %s: records were lost: %s",
            gap.shard_id,
            gap.reason,
            extra=fields(shardId=gap.shard_id, after=gap.after, reason=gap.reason),
        )
        self._on_lost(gap)
        opened.frontier.lose(gap)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
