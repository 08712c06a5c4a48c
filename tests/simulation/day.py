"""One simulated day: a writer, the stream, the weather, and runs of the relay that come and go."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ddbrelay.flow.capture import StreamSource
from ddbrelay.flow.sink import Sink
from ddbrelay.flow.tracking import Store
from ddbrelay.relay import Observer
from ddbrelay.stores.database import Database
from ddbrelay.testing import clock
from ddbrelay.testing.builders import stream as drawn
from ddbrelay.testing.faults import Faults, Rates
from ddbrelay.testing.limits import Limits
from ddbrelay.testing.simulator import SimulatedSource

from .follower import Follower
from .invariants import Violation, Written
from .plan import HOUR, RECORDS, Burst, Oddity, Weather, draw

_TICKS = 40
_HEALTHY = 0.8
"""How many of the items never get a poison record: what is parked never flows again."""
_CALLS_KEPT = 100
_LONGER = 2 * clock.DAY
"""Beyond its plan no day goes on."""
_BLOBS = ["x" * size for size in (30_000, 120_000, 380_000)]


@dataclass(slots=True)
class Result:
    """How a day went; `failure` says what did not hold, None when all did.

    `counts` has the records written and, over all consumers, published, skipped, parked, lost and
    exempt (written before a start at `latest`), repeats, gaps, idle gaps (behind which nothing was
    lost), needless gaps (of shards that were not trimmed at all), runs, crashes and calls.
    """

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    digest: str = ""
    failure: str | None = None


class Day:
    """The day of a seed; `tell` hears a line for everything that happens.

    A subclass may put something between the engine and its watched ports.
    """

    def __init__(
        self, seed: int, records: int = RECORDS, tell: Callable[[str], None] | None = None
    ) -> None:
        self.plan = draw(seed, records)
        self._tell = tell
        self._digest = hashlib.blake2b(digest_size=16)
        self._rng = random.Random(f"nature {seed}")
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()
        self._keys = [f"k{n}" for n in range(self.plan.keys)]
        self.violations: list[str] = []
        self.written = Written()
        self.refusals = 0
        self.over = asyncio.Event()

    def play(self) -> Result:
        """From midnight to the end; the failure is in the result."""
        result = Result(self.plan.seed)
        try:
            clock.run(
                lambda _: self._main(result), self.plan.seed, limit=self.plan.length + _LONGER
            )
        except Exception as error:
            # Whatever ends a day early is a finding, and the other seeds go on.
            cause = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            result.failure = self._failure(cause)
        if self.violations and result.failure is None:
            result.failure = self.violations[0]
        result.digest = self._digest.hexdigest()
        return result

    def _failure(self, error: Exception) -> str:
        if self.violations:
            return self.violations[0]
        return f"{type(error).__name__}: {error}"

    def source(self, source: StreamSource) -> StreamSource:
        """The source as the engine sees it."""
        return source

    def sink(self, sink: Sink) -> Sink:
        """The sink as the engine sees it."""
        return sink

    def store(self, store: Store) -> Store:
        """The store as the engine sees it."""
        return store

    def observer(self, observer: Observer) -> Observer:
        """The observer as the engine sees it."""
        return observer

    def say(self, text: str) -> None:
        """Something happened; it counts for the digest."""
        if text.startswith("VIOLATION "):
            self.violations.append(text.removeprefix("VIOLATION "))
        line = f"{_clock()} {text}"
        self._digest.update(line.encode())
        if self._tell is not None:
            self._tell(line)

    def seal(self, fact: bytes) -> None:
        """It counts for the digest, and is not worth a line."""
        self._digest.update(fact)

    async def _main(self, result: Result) -> None:
        plan, rng = self.plan, self._rng
        self.stream = drawn(
            plan.tree,
            rng=random.Random(f"stream {plan.seed}"),
            knows_timestamps=plan.knows_timestamps,
            extra_last_page=plan.extra_last_page,
            limits=Limits.of_aws(),
        )
        self.faults = Faults(clock.now, random.Random(f"faults {plan.seed}"), keep=_CALLS_KEPT)
        self.reality = SimulatedSource(self.stream, self.faults)
        self.database = Database(":memory:")
        self.followers = [Follower(self, consumer) for consumer in plan.consumers]
        self._schedule(rng)
        self.say(f"{plan}")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._nature())
                for follower in self.followers:
                    group.create_task(follower.live())
            for follower in self.followers:
                result.counts.update(follower.close())
        finally:
            self.database.close()
            result.counts["written"] = len(self.stream.written)
            result.seconds = clock.now() - clock.EPOCH

    # What happens by itself

    def _schedule(self, rng: random.Random) -> None:
        plan = self.plan
        for burst in plan.bursts:
            self._plan_burst(burst)
        for weather in plan.weather:
            self._at(weather.at, lambda weather=weather: self._set(weather))
        for oddity in plan.oddities:
            self._at(oddity.at, lambda oddity=oddity: self._happens(oddity))
        for shard in self._open_shards():
            self._at(rng.uniform(0, 4 * HOUR), lambda shard=shard: self._roll(shard))

    def _plan_burst(self, burst: Burst) -> None:
        ticks = min(burst.writes, _TICKS if burst.lasts else 1)
        for tick in range(ticks):
            share = burst.writes * (tick + 1) // ticks - burst.writes * tick // ticks
            at = burst.at + burst.lasts * tick / ticks
            self._at(at, lambda share=share: self._write(share))

    def _at(self, at: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (at, next(self._number), action))

    async def _nature(self) -> None:
        loop = asyncio.get_running_loop()
        while self._due and self._due[0][0] < self.plan.length:
            at, _, action = heapq.heappop(self._due)
            if at > loop.time():
                await asyncio.sleep(at - loop.time())
            action()
        await asyncio.sleep(max(0.0, self.plan.length - loop.time()))
        calm = Weather(loop.time(), Rates(), Rates(), (0.001, 0.005), (0.001, 0.005), "calm")
        self._set(calm)
        if self.plan.disabled:
            self.say("the stream is disabled")
            self.stream.disable()
        self.over.set()

    def _set(self, weather: Weather) -> None:
        self.say(f"weather: {weather.name}")
        self.faults.rates, self.faults.latency = weather.stream, weather.stream_latency
        for follower in self.followers:
            follower.bus.faults.rates = weather.bus
            follower.bus.faults.latency = weather.bus_latency

    def _write(self, count: int) -> None:
        plan, rng, stream = self.plan, self._rng, self.stream
        last = len(self._keys)
        for _ in range(count):
            place = int(last * rng.random() ** plan.skew)
            key = self._keys[place]
            if plan.deletes and rng.random() < plan.deletes:
                removed = stream.delete(key, ttl=rng.random() < 0.4)
                if removed is not None:
                    self.written.add(removed, skipped=False)
                continue
            attributes: dict[str, object] = {"n": len(stream.written)}
            if plan.skips and rng.random() < plan.skips:
                attributes["skip"] = True
            elif place >= last * _HEALTHY and rng.random() < plan.poison:
                attributes[rng.choice(["reject", "malformed", "malformed", "oversize"])] = True
            elif plan.big and rng.random() < plan.big:
                attributes["blob"] = rng.choice(_BLOBS)
            events = 1
            if plan.several and rng.random() < plan.several:
                events = rng.choice([2, 2, 3])
                attributes[f"several{events}"] = True
            made = stream.put(key, **attributes)
            assert made is not None, "every write has another number"
            self.written.add(made, skipped="skip" in attributes, events=events)

    def _open_shards(self) -> list[str]:
        return [shard.id for shard in self.stream.shards.values() if shard.closed_at is None]

    def _roll(self, shard_id: str) -> None:
        shard = self.stream.shards.get(shard_id)
        if shard is not None and shard.closed_at is None:
            self._succeed(shard_id, self.stream.roll)

    def _succeed(self, shard_id: str, how: Callable[..., str | list[str]]) -> None:
        rng, plan = self._rng, self.plan
        late = rng.uniform(0.0, plan.late)
        if plan.disabled:
            # A leaf of a disabled stream is final: whether a child is still to be listed, nobody
            # can tell.
            late = min(late, plan.length - asyncio.get_running_loop().time())
        made = how(
            shard_id,
            listed_after=late,
            looks_open=rng.random() < plan.looks_open,
        )
        children = [made] if isinstance(made, str) else made
        self.say(f"{shard_id} -> {' '.join(children)}")
        for child in children:
            at = asyncio.get_running_loop().time() + rng.uniform(3, 5) * HOUR
            self._at(at, lambda child=child: self._roll(child))

    def _happens(self, oddity: Oddity) -> None:
        rng, stream, times = self._rng, self.stream, int(oddity.amount)
        self.say(f"{oddity.kind} {oddity.amount:g}")
        match oddity.kind:
            case "splits" | "rolls":
                for _ in range(times):
                    open_shards = self._open_shards()
                    splits = oddity.kind == "splits" and len(open_shards) < self.plan.most_open
                    # The youngest at times, so that generations follow each other at once.
                    shard = open_shards[-1] if rng.random() < 0.5 else rng.choice(open_shards)
                    self._succeed(shard, stream.split if splits else stream.roll)
            case "listing fault":
                code = rng.choice(["LimitExceededException", "InternalServerError"])
                self.faults.fail_next("DescribeStream", code, times)
            case "records fault":
                code = rng.choice(["LimitExceededException", "InternalServerError"])
                self.faults.fail_next(rng.choice(["GetRecords", "GetShardIterator"]), code, times)
            case "expired":
                self.faults.fail_next("GetRecords", "ExpiredIteratorException", times)
            case "refusal of the stream":
                self.refusals += 1
                operation = rng.choice(["DescribeStream", "GetShardIterator"])
                self.faults.fail_next(operation, "AccessDeniedException")
            case "refusal of the bus":
                for follower in self.followers:
                    self.refusals += 1
                    follower.bus.fail_next("AccessDeniedException")
            case "trim":
                # Of a shard that nobody has begun to read only the clock could tell it.
                begun = [name for name in stream.shards if self._begun(name)]
                if begun:
                    shard = stream.shards[rng.choice(begun)]
                    stream.trim(shard.id, min(times, len(shard.readable)))
            case "removal":
                # The oldest go first: a shard never goes before the one that it came from.
                closed = [
                    shard.id
                    for shard in stream.shards.values()
                    if shard.closed_at is not None and shard.parent_id not in stream.shards
                ]
                if closed:
                    stream.remove(rng.choice(closed))
            case "clock":
                follower = rng.choice(self.followers)
                follower.set_clock(oddity.amount * rng.uniform(0.5, 1.0))
            case _:
                raise Violation(f"nobody knows how {oddity.kind} happens")

    def _begun(self, shard_id: str) -> bool:
        stored = [follower.account.stored.get(shard_id) for follower in self.followers]
        return all(position is not None and position.sequence for position in stored)


def _clock() -> str:
    seconds = asyncio.get_running_loop().time()
    hours, rest = divmod(seconds, 3600)
    return f"{int(hours):02}:{int(rest // 60):02}:{rest % 60:06.3f}"
