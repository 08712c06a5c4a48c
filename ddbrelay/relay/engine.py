"""The engine: discovers and reads shards, hands the records on, checkpoints.

One event loop, no threads. Time comes from the loop and from `now`, chance from `rng`, so that a
loop with a virtual clock and a seed gives the same run every time.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from ddbrelay.errors import DataLost, StateError
from ddbrelay.flow.capture import Gap, StreamSource
from ddbrelay.flow.change import Origin
from ddbrelay.flow.mapping import MapFunction
from ddbrelay.flow.sink import Sink
from ddbrelay.flow.tracking import Store, Tally, Usage
from ddbrelay.relay.backlog import Backlog
from ddbrelay.relay.checkpoints import Checkpoints
from ddbrelay.relay.delivery import Delivery
from ddbrelay.relay.discovery import Discovery, StreamGone
from ddbrelay.relay.dispatch import Dispatch
from ddbrelay.relay.outcome import Observer, Options, Progress
from ddbrelay.relay.reading import Reading
from ddbrelay.relay.tasks import Tasks, cancel


class Relay:
    """One run over one stream; `sink` None looks at what would be sent, and moves no checkpoint."""

    def __init__(
        self,
        source: StreamSource,
        mapper: MapFunction,
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
        self._checkpoints = Checkpoints(
            store if self._saves else None,
            self._options,
            self._tasks,
            self._delivery.usage,
            lambda: self._reading.frontiers,
        )
        self._reading = Reading(
            source,
            self._delivery,
            self._checkpoints,
            origin,
            observer,
            self._options,
            now,
            self._rng,
            self._tasks,
            nothing_follows=self._discovery.nothing_follows,
            on_lost=self._lost,
            on_finished=self._discovery.finish,
            on_bound=lambda: self._finish("max-records"),
        )
        self._end = asyncio.Event()
        self._error: BaseException | None = None
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
    def usage(self) -> Usage:
        """What AWS bills the run for, so far."""
        return self._delivery.usage

    @property
    def dispatch(self) -> Dispatch | None:
        """The requests of the run; None for one that sends nothing."""
        return self._delivery.dispatch

    @property
    def in_flight(self) -> int:
        """Events that were sent and not answered yet."""
        return 0 if self.dispatch is None else self.dispatch.in_flight

    @property
    def held(self) -> str | None:
        """Why the bus takes nothing at the moment; None when it does."""
        return None if self.dispatch is None else self.dispatch.held

    @property
    def shards(self) -> int:
        """Shards that are being read."""
        return len(self._reading.open)

    @property
    def open_shards(self) -> list[str]:
        """The ids of the shards that are being read."""
        return list(self._reading.open)

    def settled(self, shard_id: str) -> str | None:
        """The sequence number up to which a shard is settled; None before the first one."""
        opened = self._reading.open.get(shard_id)
        return None if opened is None else opened.frontier.position.sequence

    @property
    def read(self) -> int:
        """Records that were read."""
        return self._reading.read

    @property
    def lag(self) -> float:
        """Seconds since the oldest write that is not behind us yet; 0 when caught up."""
        return self._reading.lag

    @property
    def backlog(self) -> Backlog:
        """What of the shards is not read, or not settled."""
        return Backlog(self._reading.unread, self._discovery.waiting)

    def progress(self) -> list[Progress]:
        """How long ago each shard that is being read made progress."""
        return self._reading.progress()

    def pause(self) -> None:
        """Read no further page until `resume`: whoever is told of the records cannot keep up."""
        self._delivery.paused = True

    def resume(self) -> None:
        """Read on."""
        self._delivery.paused = False
        self._delivery.make_room()

    async def run(self, stop: asyncio.Event) -> Tally:
        """Relay until `stop` is set, a bound of the options is reached, or the stream has ended.

        `end_reason` says which: stopped, timeout, idle, max-records, ended, or gone when there is
        no such stream (any more). Raises the DdbrelayError that ended the run early, after
        everything that was settled has been saved.
        """
        self._reading.last_read = _loop_time()
        spawn, options = self._tasks.spawn, self._options
        watchers = [spawn(self._until(stop)), spawn(self._follow())]
        if options.timeout is not None:
            watchers.append(spawn(self._until_elapsed(options.timeout)))
        if options.until_idle is not None:
            watchers.append(spawn(self._until_idle(options.until_idle)))
        if self._saves:
            watchers.append(spawn(self._checkpoints.run()))
        try:
            await self._end.wait()
        finally:
            await cancel([*watchers, *self._reading.tasks])
            await self._delivery.drain()
            # A store that has failed would fail again, after its time-out.
            if self._saves and not isinstance(self._error, StateError):
                await self._checkpoints.save(self._reading.frontiers)
            if self.end_reason == "gone":
                await self._discovery.account_for_all(self._reading.reached())
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
            reading = self._reading
            last = max(reading.last_read, self._delivery.last_receipt)
            left = idle - (_loop_time() - last)
            seen = reading.caught_up if reading.open else self._discovery.exhausted
            busy = self._delivery.pending or self._delivery.paused
            if left <= 0 and seen and not busy:
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
                    self._reading.start(shard, position, fresh=self._discovery.fresh)
                if self._discovery.ended:
                    self._finish("ended")
                await self._discovery.wait()
                await self._discovery.look()
        except StreamGone:
            self._finish("gone")

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


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
