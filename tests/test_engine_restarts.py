"""An endpoint that starts anew, whose iterators are places in a list that is another one then."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from scenes import MINUTE, asked, delivered, during_a_run

from ddbrelay.flow.capture import Fault, IteratorType, Page, StreamFault
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing.simulator import SimulatedSource
from ddbrelay.testing.world import World, simulated


class Emulator(SimulatedSource):
    """Iterators that were given before its restart read nothing of what comes after it."""

    def __init__(self, like: SimulatedSource) -> None:
        super().__init__(like.stream, like.faults)
        self._given: set[str] = set()
        self.refuses = self.reconnects = False

    def restart(self, *, noticed: bool) -> None:
        """Forget all iterators; `noticed` by a connection that is refused meanwhile."""
        self._given.clear()
        self.refuses, self.reconnects = noticed, not noticed

    async def iterator(self, *arguments: Any, **named: Any) -> str:
        iterator = await super().iterator(*arguments, **named)
        self._given.add(iterator)
        return iterator

    async def records(self, iterator: str) -> Page:
        refuses, self.refuses = self.refuses, False
        if refuses:
            raise StreamFault(Fault.NO_ANSWER)
        reconnected, self.reconnects = self.reconnects, False
        if iterator not in self._given:
            return Page([], iterator, 2, reconnected=reconnected)
        page = await super().records(iterator)
        self._given.add(page.next_iterator or "")
        return replace(page, reconnected=reconnected)


@simulated("a")
async def test_an_endpoint_that_started_anew_between_two_runs_hides_nothing(world: World) -> None:
    world.source = emulator = Emulator(world.source)
    world.fill("xyz")
    await world.run()
    emulator.restart(noticed=False)
    emulator.reconnects = False
    world.fill("abcdefg")
    assert (await world.run())[Fate.PUBLISHED] == 7


@pytest.mark.parametrize("noticed", [True, False])
def test_an_endpoint_that_starts_anew_under_a_run_hides_nothing(noticed: bool) -> None:
    @simulated("a")
    async def scene(world: World) -> None:
        world.source = emulator = Emulator(world.source)
        world.fill("xyz")
        task, stop = await during_a_run(world)
        emulator.restart(noticed=noticed)
        numbers = world.fill("abcdefg")
        await asyncio.sleep(MINUTE)
        assert delivered(world)[3:] == numbers
        assert asked(world)[1:] == [IteratorType.AFTER_SEQUENCE_NUMBER]
        stop.set()
        await task

    scene()
