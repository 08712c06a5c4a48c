"""One consumer over the day: runs that are started, stopped, killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import AwsRefused, DataLost, StateError
from ddbrelay.flow.change import Origin
from ddbrelay.flow.tracking import Tally
from ddbrelay.relay import Options, Relay
from ddbrelay.testing import clock
from ddbrelay.testing.faults import Faults
from ddbrelay.testing.process import Killed, Process
from ddbrelay.testing.simulator import SimulatedBus

from .invariants import Account
from .plan import HOUR, MINUTE
from .ports import (
    LISTINGS_A_SECOND,
    Limit,
    Load,
    Mapping,
    WatchedLog,
    WatchedSink,
    WatchedSource,
    WatchedStore,
)

if TYPE_CHECKING:
    from .day import Day

_PROMPT = 5.0
"""Seconds beyond the grace time within which a run must have ended when it is told to."""
_NEVER = 12 * HOUR
_RESTS = 0.3
"""How many runs are followed by a rest, and not just by a pause."""
_AGAIN = 20.0
_TAKEOVER = HOUR
"""Seconds within which the claim of a dead owner must have ended."""


class Follower:
    """A consumer with a bus and a clock of its own."""

    def __init__(self, day: Day, consumer: str) -> None:
        self._day, self._plan, self.consumer = day, day.plan, consumer
        self._rng = random.Random(f"runs {day.plan.seed} {consumer}")
        self._chance = random.Random(f"engine {day.plan.seed} {consumer}")
        self.bus = SimulatedBus(
            Faults(clock.now, random.Random(f"bus {day.plan.seed} {consumer}"), keep=100)
        )
        self.bus.fail_entries("MalformedDetail", lambda item: b'"malformed"' in item.event.detail)
        self.account = Account(consumer, day.stream, day.written, self.bus, self._say, day.seal)
        self.account.losses.tip_is_unsure = any(w.stream.empty_page for w in day.plan.weather)
        self._clock_error = 0.0
        self._listings = Limit(LISTINGS_A_SECOND)
        self._shard_of: dict[str, str] = {}
        self._load: Load | None = None
        self._left_out = 0.0
        self.counts: Counter[str] = Counter()

    def now(self) -> float:
        """The clock of the machine that the consumer runs on."""
        return clock.now() + self._clock_error

    def set_clock(self, by: float) -> None:
        """Somebody corrects that clock, or spoils it."""
        self._clock_error += by
        self.account.losses.clock_was_wrong = True

    def _say(self, text: str) -> None:
        self._day.say(text if text.startswith("VIOLATION") else f"{self.consumer}: {text}")

    async def live(self) -> None:
        """Runs until the day is over, and then until all is done."""
        if self._rng.random() < 0.4:
            await asyncio.sleep(self._rng.uniform(0.0, 3 * HOUR))
        long_pause_at = self._rng.uniform(0.0, 0.7) * self._day.plan.length
        long_pause = self._plan.long_pause
        while not self._day.over.is_set():
            await self._some_run()
            if long_pause is not None and _elapsed() > long_pause_at:
                pause, long_pause = long_pause, None
            else:
                rests = self._rng.random() < _RESTS
                pause = self._rng.uniform(0.0, self._plan.rest if rests else self._plan.pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._day.over.wait()
        await self._last_runs()

    # Runs

    async def _some_run(self) -> None:
        """A run as they are on this day, with an end as it comes."""
        rng, plan = self._rng, self._plan
        process = Process(after_effect=rng.random() < 0.5)
        options: dict[str, Any] = {"stop_on_gap": rng.random() < 0.05}
        lasts: float | None = None
        ends = {
            "steady": ["stop", "kill", "stay", "timeout"],
            "crashing": ["kill", "call", "call", "call", "stop", "idle"],
            "schedule": ["idle", "idle", "idle", "bound", "timeout", "call"],
        }
        end = rng.choice(ends[plan.style])
        longest = 8 * HOUR if plan.style == "steady" else 40 * MINUTE
        match end:
            case "stop" | "kill":
                lasts = math.exp(rng.uniform(math.log(0.01), math.log(longest)))
            case "call":
                process.dies_at = int(math.exp(rng.uniform(0.0, math.log(600))))
            case "timeout":
                options["timeout"] = rng.uniform(1.0, longest)
            case "idle":
                options["until_idle"] = rng.choice([0.5, 5.0, MINUTE])
            case "bound":
                options["max_records"] = int(math.exp(rng.uniform(0.0, math.log(2000))))
        await self._run(process, end, lasts, **options)

    async def _run(self, process: Process, end: str, lasts: float | None, **settings: Any) -> bool:
        """One run; whether it ended as it should, and not by a crash or a refusal."""
        options = self._options(**settings)
        load = Load(self.account, options, self._tasks_of_others)
        relay = self._relay(process, options, load)
        self._say(f"run {self.counts['runs']} ({end}, {_given(process, lasts, settings)})")
        self.counts["runs"] += 1
        self.account.new_run()
        self._load = load
        stop = asyncio.Event()
        task = asyncio.create_task(relay.run(stop))
        try:
            await self._watch(task, process, end, lasts)
            if not task.done():
                await self._tell_to_stop(task, stop, options.grace)
            self._ended(await task, relay, load)
        except (Killed, asyncio.CancelledError):
            this = asyncio.current_task()
            if not process.dead or (this is not None and this.cancelling()):
                raise
            self.counts["crashes"] += 1
            self._say(f"crash at call {process.calls}")
        except AwsRefused as refused:
            if not self._day.refusals:
                raise self.account.fail(f"the run gave up: {refused}") from refused
            self._day.refusals -= 1
            self._say(f"refused: {refused}")
        except DataLost as lost:
            if not options.stop_on_gap:
                raise self.account.fail(f"the run gave up: {lost}") from lost
            self._say(f"stopped at a gap: {lost}")
        except StateError as refused:
            # Its words name a process and a machine, which are not the same on every day.
            self._say("refused: there is an owner")
            self._left_out = self._left_out or clock.now()
            if clock.now() - self._left_out > _TAKEOVER:
                raise self.account.fail(
                    f"no dead owner was taken over in {_TAKEOVER:.0f} s"
                ) from refused
            await asyncio.sleep(_AGAIN)
            return False
        else:
            self._say(f"ended: {relay.end_reason}, read {relay.read}")
            self._left_out = 0.0
            return True
        finally:
            self._load = None
            task.cancel()
            self.account.absorb()
        self._left_out = 0.0
        return False

    def _options(self, **settings: Any) -> Options:
        plan, rng = self._plan, self._rng
        return Options(
            **{
                "start": plan.start,
                "pace": plan.pace,
                "discovery_interval": plan.discovery_interval,
                "checkpoint_interval": plan.checkpoint_interval,
                "beat_interval": plan.beat_interval,
                "max_pending": plan.max_pending,
                "max_in_flight": plan.max_in_flight,
                "grace": rng.choice([0.0, 1.0, 5.0]),
                **settings,
            }
        )

    def _relay(self, process: Process, options: Options, load: Load) -> Relay:
        day = self._day
        source = WatchedSource(day.reality, self.account, load, self._listings, self._shard_of)
        # Each run is a process of its own, which has to claim its positions.
        store = WatchedStore(
            day.database, self.account, day.stream.arn, self.now, self._rng, day.plan.start
        )
        return Relay(
            process.source(day.source(source)),
            Mapping(),
            process.sink(day.sink(WatchedSink(self.bus, load))),
            process.store(day.store(store)),
            Origin(day.stream.table, day.stream.arn),
            day.observer(WatchedLog(self.account, load, self._say)),
            options,
            now=self.now,
            rng=self._chance,
        )

    def _tasks_of_others(self) -> int:
        others = [f for f in self._day.followers if f is not self and f._load is not None]
        return 2 + 2 * len(self._day.followers) + sum(f._load.most_tasks for f in others)

    async def _watch(
        self, task: asyncio.Task[Tally], process: Process, end: str, lasts: float | None
    ) -> None:
        """Let it run as long as it may; on return it has ended, or is to be stopped."""
        if self._day.over.is_set():
            await self._gets_through(task)
            await asyncio.wait({task}, timeout=_NEVER)
            self._must_have_ended(task, "all is done")
            return
        left = self._plan.length - _elapsed()
        await asyncio.wait({task}, timeout=left if lasts is None else min(left, lasts))
        if task.done():
            return
        if lasts is not None and lasts < left:
            if end == "kill":
                process.kill()
                task.cancel()
                await asyncio.wait({task}, timeout=self._patience(5.0))
                self._must_have_ended(task, "a kill")
            return
        await self._day.over.wait()
        process.dies_at = None
        await self._gets_through(task)

    async def _gets_through(self, task: asyncio.Task[Tally]) -> None:
        """In calm weather a run that goes on must account for everything, step by step."""
        plan = self._plan
        step = 2 * (plan.pace.longest + plan.discovery_interval) + plan.late + 15 * MINUTE
        missing = self.account.missing()
        while missing and not task.done():
            before = self.account.settled
            await asyncio.wait({task}, timeout=step)
            missing = self.account.missing()
            if not task.done() and missing and self.account.settled == before:
                shard, number = missing[0]
                raise self.account.fail(
                    f"the run is stuck: in {step:,.0f} calm seconds no record got a fate, "
                    f"{number} of shard {shard.id} waits"
                )

    async def _tell_to_stop(
        self, task: asyncio.Task[Tally], stop: asyncio.Event, grace: float
    ) -> None:
        stop.set()
        await asyncio.wait({task}, timeout=self._patience(grace))
        self._must_have_ended(task, "a stop")

    @staticmethod
    def _patience(grace: float) -> float:
        return grace + _PROMPT

    def _must_have_ended(self, task: asyncio.Task[Tally], after: str) -> None:
        if not task.done():
            raise self.account.fail(f"the run goes on long after {after}")

    def _ended(self, tally: Tally, relay: Relay, load: Load) -> None:
        if dict(tally.fates) != {fate: n for fate, n in load.fates.items() if n}:
            raise self.account.fail(f"the run counts {tally.fates}, its observer {load.fates}")
        if len(tally.gaps) != load.gaps:
            raise self.account.fail(f"the run counts {len(tally.gaps)} gaps, told {load.gaps}")
        self.account.losses.keep(tally.gaps)

    async def _last_runs(self) -> None:
        """In calm weather: one run finishes everything, the next one has nothing to do."""
        plan = self._plan
        idle = 2 * plan.pace.longest + plan.discovery_interval + plan.late + MINUTE
        ended = False
        while not ended:
            ended = await self._run(Process(), "last", None, until_idle=idle)
        if self.account.twice:
            raise self.account.fail(
                f"the last run, of which nothing went wrong, sent {self.account.twice} events twice"
            )
        sent, ended = self.account.deliveries, False
        while not ended:
            ended = await self._run(Process(), "nothing to do", None, until_idle=idle)
        if self.account.deliveries > sent:
            raise self.account.fail(
                f"a run that had nothing to do sent {self.account.deliveries - sent} events again"
            )

    def close(self) -> Counter[str]:
        """The whole account of the consumer."""
        self.counts.update(self.account.close())
        self.counts["repeats"] = self.account.repeats
        self.counts["gaps"] = self.account.losses.count
        self.counts["idle gaps"] = self.account.losses.idle
        self.counts["needless gaps"] = self.account.losses.needless
        return self.counts


def _elapsed() -> float:
    return asyncio.get_running_loop().time()


def _given(process: Process, lasts: float | None, settings: dict[str, Any]) -> str:
    told = {**settings}
    if lasts is not None:
        told["lasts"] = round(lasts, 3)
    if process.dies_at is not None:
        told["dies_at"] = process.dies_at
    return ", ".join(f"{name}={value}" for name, value in told.items())
