"""The engine: discovers and reads shards, hands the records on, checkpoints.

One event loop, no threads. Time comes from the loop and from `now`, chance from `rng`, so that a
loop with a virtual clock and a seed gives the same run every time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from ddbrelay.errors import AwsRefused, DataLost, StateError
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
from ddbrelay.flow.mapping import Mapper
from ddbrelay.flow.sink import Sink
from ddbrelay.flow.tracking import Frontier, Store, Tally
from ddbrelay.relay.backlog import Backlog, unread_of
from ddbrelay.relay.delivery import Delivery
from ddbrelay.relay.discovery import Discovery, StreamGone
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Observer, Options
from ddbrelay.relay.tasks import Tasks, cancel


@dataclass(slots=True)
class _Open:
    """A shard that is being read; `last_time` is the write time of the last record read.

    `passed` is set when only later records follow than were asked for.
    """

    shard: Shard
    reader: ShardReader
    frontier: Frontier
    last_time: float | None = None
    passed: bool = False


class Relay:
    """One run over one stream; `sink` None looks at what would be sent, and moves no checkpoint."""

    def __init__(
        self,
        source: StreamSource,
        mapper: Mapper,
        sink: Sink | None,
        store: Store,
        origin: Origin,
        observer: Observer,
        options: Options | None = None,
        *,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._source, self._store = source, store
        self._origin, self._observer = origin, observer
        self._options = options or Options()
        self._now, self._rng = now, rng or random.Random()
        self._saves = sink is not None
        self._tasks = Tasks(self._fail)
        self._delivery = Delivery(
            mapper, sink, store, observer, self._options, now, self._rng, self._tasks
        )
        self._discovery = Discovery(
            source, store, origin, observer, self._options, now, self._rng, self._lost, self._saves
        )
        self._open: dict[str, _Open] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._saving = asyncio.Lock()
        self._slots = asyncio.Semaphore(self._options.max_reading)
        self._saved_all_at = 0.0
        self._moved = asyncio.Event()
        self._end = asyncio.Event()
        self._error: BaseException | None = None
        self._last_read = 0.0
        self.read = 0
        self.end_reason = ""

    @property
    def tally(self) -> Tally:
        """What became of the records so far."""
        return self._delivery.tally

    @property
    def preview(self) -> bool:
        """Whether this run sends nothing."""
        return not self._saves

    @property
    def in_flight(self) -> int:
        """Events that were sent and not answered yet."""
        return self._delivery.in_flight

    @property
    def shards(self) -> int:
        """Shards that are being read."""
        return len(self._open)

    @property
    def lag(self) -> float:
        """Seconds since the oldest write that is not behind us yet; 0 when caught up."""
        behind = [
            self._now() - opened.last_time
            for opened in self._open.values()
            if opened.last_time is not None
            and (len(opened.frontier) or not opened.reader.caught_up)
        ]
        return max(behind, default=0.0)

    @property
    def backlog(self) -> Backlog:
        """What of the shards is not read, or not settled."""
        unread = [
            unread_of(opened.reader, opened.frontier)
            for opened in self._open.values()
            if len(opened.frontier) or not opened.passed
        ]
        return Backlog([one for one in unread if one is not None], self._discovery.waiting)

    async def run(self, stop: asyncio.Event) -> Tally:
        """Relay until `stop` is set, a bound of the options is reached, or the stream has ended.

        `end_reason` says which: stopped, timeout, idle, max-records, ended, or gone when there is
        no such stream (any more). Raises the DdbrelayError that ended the run early, after
        everything that was settled has been saved.
        """
        self._last_read = self._saved_all_at = _loop_time()
        spawn, options = self._tasks.spawn, self._options
        watchers = [spawn(self._until(stop)), spawn(self._follow())]
        if options.timeout is not None:
            watchers.append(spawn(self._until_elapsed(options.timeout)))
        if options.until_idle is not None:
            watchers.append(spawn(self._until_idle(options.until_idle)))
        if self._saves:
            watchers.append(spawn(self._checkpoint()))
        try:
            await self._end.wait()
        finally:
            await cancel([*watchers, *self._readers])
            await self._delivery.drain()
            # A store that has failed would fail again, after its time-out.
            if self._saves and not isinstance(self._error, StateError):
                await self._save([opened.frontier for opened in self._open.values()])
            if self.end_reason == "gone":
                await self._discovery.account_for_all(self._reached())
            if self._saves and not isinstance(self._error, StateError):
                await self._store.release()
        if self._error is not None:
            raise self._error
        return self.tally

    # Ends

    def _finish(self, reason: str) -> None:
        if not self._end.is_set():
            self.end_reason = reason
            self._end.set()

    def _fail(self, error: BaseException) -> None:
        self._error = error
        self._finish("error")

    async def _until(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._finish("stopped")

    async def _until_elapsed(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._finish("timeout")

    async def _until_idle(self, idle: float) -> None:
        while True:
            last = max(self._last_read, self._delivery.last_receipt)
            left = idle - (_loop_time() - last)
            shards = self._open.values()
            caught_up = all(opened.passed or opened.reader.caught_up for opened in shards)
            seen = caught_up if shards else self._discovery.exhausted
            if left <= 0 and seen and not self._delivery.pending:
                self._finish("idle")
            await asyncio.sleep(max(left, 0.05))

    # Shards

    async def _follow(self) -> None:
        """List the shards, start those that are ready; again and again."""
        if self._saves:
            await self._store.claim()
        try:
            await self._discovery.begin()
            await self._delivery.begin()
            while True:
                for shard, position in self._discovery.ready():
                    self._start(shard, position)
                if self._discovery.ended:
                    self._finish("ended")
                await self._discovery.wait()
                await self._discovery.look()
        except StreamGone:
            self._finish("gone")

    def _start(self, shard: Shard, position: Position) -> None:
        reader = ShardReader(
            position,
            self._options.pace,
            self._rng,
            fresh=self._discovery.fresh,
            closed=shard.closed,
        )
        frontier = Frontier(
            position, on_advance=self._moved.set, on_gap_closed=self.tally.close_gap
        )
        opened = _Open(shard, reader, frontier)
        self._open[shard.id] = opened
        gap = reader.unseen(self._now())
        if gap is not None:
            self._lose(opened, gap)
        task = self._tasks.spawn(self._read(opened))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    # Reading

    async def _read(self, opened: _Open) -> None:
        reader, failures = opened.reader, 0
        while True:
            await self._delivery.room()
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
                        continue
                    case NeedRecords(iterator):
                        async with self._slots:
                            # The readers before this one may have filled what room there was.
                            await self._delivery.room()
                            await self._take(opened, await self._source.records(iterator))
                        if opened.passed:
                            return
                    case Ended():
                        await self._finish_shard(opened)
                        return
                failures = 0
            except (StreamFault, AwsRefused) as error:
                if isinstance(error, StreamFault):
                    fault = error
                elif reader.proving:
                    # Whether an endpoint takes a shard's first number is not for sure.
                    fault = StreamFault(Fault.REFUSED, str(error))
                else:
                    raise
                failures += 1
                if failures % RETRIES_BEFORE_WORD == 0:
                    self._observer.trouble(
                        f"cannot read shard {opened.shard.id}, trying again: {fault}"
                    )
                if failures == self._options.max_failures:
                    raise AwsRefused(f"cannot read shard {opened.shard.id}: {fault}") from error
                gap = reader.failed(fault.fault, self._now())
                if gap is not None:
                    self._lose(opened, gap)

    async def _take(self, opened: _Open, page: Page) -> None:
        kept = self._asked_for(opened, page)
        bound = self._options.max_records
        left = len(kept.records) + 1 if bound is None else bound - self.read
        if len(kept.records) >= left:
            # The iterator behind the page would jump over the records that are left out.
            await self._hand_on(opened, Page(kept.records[:left], None))
            await self._delivery.settled()
            self._finish("max-records")
            await asyncio.get_running_loop().create_future()
        # Records first: the last page of a closed shard has some, and no next iterator.
        await self._hand_on(opened, kept)
        opened.reader.got_page(page, self._now())

    def _asked_for(self, opened: _Open, page: Page) -> Page:
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

    async def _hand_on(self, opened: _Open, page: Page) -> None:
        self.read += len(page.records)
        tickets = opened.frontier.read(page.records, page, self._now(), opened.reader.seen_at)
        self._delivery.hold(tickets, page.size)
        for record, ticket in zip(page.records, tickets, strict=True):
            self._delivery.route(Change(record, opened.shard.id, self._origin), ticket)
        if page.records:
            self._last_read = _loop_time()
            opened.last_time = page.records[-1].dynamodb.created_at
            await self._delivery.flush()

    async def _finish_shard(self, opened: _Open) -> None:
        """Children wait until all records of their parent are settled, and that is stored."""
        if len(opened.frontier):
            settled = asyncio.Event()
            opened.frontier.on_empty = settled.set
            await settled.wait()
        opened.frontier.finish()
        if self._saves:
            await self._save([opened.frontier])
        del self._open[opened.shard.id]
        # Its children are still to be found: the stream is not idle yet.
        self._last_read = _loop_time()
        self._discovery.finish(opened.frontier.position)

    def _reached(self) -> list[Position]:
        """Where the shards stand that were being read when the stream went."""
        for opened in self._open.values():
            # Its own gap was told when its reader met the end.
            if opened.reader.ended and not len(opened.frontier):
                opened.frontier.finish()
        return [opened.frontier.position for opened in self._open.values()]

    def _lose(self, opened: _Open, gap: Gap) -> None:
        self._lost(gap)
        opened.frontier.lose(gap)

    def _lost(self, gap: Gap) -> None:
        self.tally.gaps.append(gap)
        if not self._options.stop_on_gap:
            self._observer.gap(gap)
        else:
            after = f" after {gap.after}" if gap.after else ""
            raise DataLost(
                f"the records of shard {gap.shard_id}{after} cannot be read any more: {gap.reason}",
                "to go on behind them: tail --on-gap continue, or replay --since TIME",
            )

    # Checkpoints

    async def _checkpoint(self) -> None:
        beat = self._options.beat_interval
        while True:
            left = self._saved_all_at + beat - _loop_time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left, 0.0)):
                    await self._moved.wait()
            self._moved.clear()
            began = _loop_time()
            everything = began - self._saved_all_at >= beat
            moved = [
                opened.frontier
                for opened in self._open.values()
                if opened.frontier.dirty or (everything and opened.frontier.stale)
            ]
            if everything:
                self._saved_all_at = began
            if moved or everything:
                await self._save(moved)
            # A thousand shards take a while to be saved: it must not be all that is done.
            elapsed = _loop_time() - began
            await asyncio.sleep(max(self._options.checkpoint_interval, 9 * elapsed))

    async def _save(self, frontiers: list[Frontier]) -> None:
        """Save to the end even when the caller is cancelled: the ledger counts each record once."""
        await asyncio.shield(self._tasks.spawn(self._save_drafts(frontiers)))

    async def _save_drafts(self, frontiers: list[Frontier]) -> None:
        async with self._saving:
            drafts = [frontier.draft() for frontier in frontiers]
            await self._store.save(
                [position for position, _ in drafts], [account for _, account in drafts]
            )


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
