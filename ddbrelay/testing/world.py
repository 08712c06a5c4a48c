"""One simulated world: a stream, a bus, a state store, and runs of the relay between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.change import Origin
from ddbrelay.flow.mapping import CrudMapper, MapFunction
from ddbrelay.flow.sink import Sink
from ddbrelay.flow.tracking import Fate, Store, Tally
from ddbrelay.relay import Options, Outcome, Relay
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing import clock
from ddbrelay.testing.builders import stream as drawn
from ddbrelay.testing.faults import Faults
from ddbrelay.testing.process import Process
from ddbrelay.testing.simulator import SimulatedBus, SimulatedSource

Scene = Callable[["World"], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Log:
    """An `Observer` that keeps what it is told."""

    outcomes: list[Outcome] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap)

    def trouble(self, message: str) -> None:
        self.troubles.append(message)

    def settled(self, *fates: Fate) -> list[str]:
        """Sequence numbers of the records with one of these fates, in the order of settling."""
        return [o.change.sequence_number for o in self.outcomes if o.fate in fates]


class World:
    """A context manager; `options` are what every run starts from.

    `tree` draws the shards as `builders.shards` reads it.
    """

    def __init__(self, tree: str = "a", *, rng: random.Random | None = None, **stream: Any) -> None:
        self.rng = rng or random.Random(0)
        self.stream = drawn(tree, rng=self.rng, **stream)
        self.source = SimulatedSource(self.stream, Faults(clock.now, self.rng))
        self.bus = SimulatedBus(Faults(clock.now, self.rng))
        self.database = Database(":memory:")
        self.store: Store = self.store_of("default")
        self.log = Log()
        self.mapper: MapFunction = CrudMapper(self.stream.table)
        self.options = Options(until_idle=5.0)

    def store_of(self, consumer: str) -> SqliteStore:
        """The store of a consumer in this world's state file."""
        return SqliteStore(self.database, consumer, self.stream.arn, clock.now)

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.database.close()

    def relay(
        self, *, process: Process | None = None, preview: bool = False, **options: Any
    ) -> Relay:
        """A run that was not started yet; `preview` leaves the sink out."""
        within = process or Process()
        sink: Sink | None = None if preview else within.sink(self.bus)
        return Relay(
            within.source(self.source),
            self.mapper,
            sink,
            within.store(self.store),
            Origin(self.stream.table, self.stream.arn),
            self.log,
            replace(self.options, **options),
            now=clock.now,
            rng=self.rng,
        )

    async def run(self, *, stop: asyncio.Event | None = None, **settings: Any) -> Tally:
        """One run to its end, idle by default; settings as of `relay`."""
        return await self.relay(**settings).run(stop or asyncio.Event())

    async def positions(self) -> dict[str, Position]:
        """What is stored now."""
        return await self.store.load()

    def fill(self, keys: Iterable[str], times: int = 1, shard: str | None = None) -> list[str]:
        """Write each item so many times, key by key; the sequence numbers in order of writing."""
        numbers = []
        for turn in range(times):
            for key in keys:
                record = self.stream.put(key, shard, turn=turn)
                assert record is not None
                numbers.append(record.sequence_number)
        return numbers

    def told_by_key(self) -> dict[bytes, list[tuple[str, str]]]:
        """Sequence number and detail type of what was delivered of each item, in that order."""
        found: dict[bytes, list[tuple[str, str]]] = {}
        for one in self.bus.delivered:
            found.setdefault(one.item_key, []).append((one.sequence, one.event.detail_type))
        return found

    def written_by_key(self) -> dict[bytes, list[str]]:
        """The sequence numbers of each item key in the order of writing."""
        from ddbrelay.flow.change import Change

        origin = Origin(self.stream.table, self.stream.arn)
        found: dict[bytes, list[str]] = {}
        for record in self.stream.written:
            key = Change(record, "", origin).item_key
            found.setdefault(key, []).append(record.sequence_number)
        return found


def simulate(scene: Scene, tree: str = "a", seed: int = 0, **stream: Any) -> None:
    """Play a scene in a world of its own, on a loop with virtual time."""

    async def main(rng: random.Random) -> None:
        with World(tree, rng=rng, **stream) as world:
            await scene(world)

    clock.run(main, seed)


def simulated(
    tree: str = "a", *, seed: int = 0, **stream: Any
) -> Callable[[Scene], Callable[[], None]]:
    """Make a test of a scene: `@simulated("a -> b c")`."""

    def decorate(scene: Scene) -> Callable[[], None]:
        def test() -> None:
            simulate(scene, tree, seed, **stream)

        # Not functools.wraps: pytest would take the scene's parameter for a fixture.
        test.__name__, test.__qualname__ = scene.__name__, scene.__qualname__
        test.__module__, test.__doc__ = scene.__module__, scene.__doc__
        return test

    return decorate
