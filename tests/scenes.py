"""What the tests of the engine ask of a simulated world again and again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from ddbrelay.flow.capture import IteratorType
from ddbrelay.testing.world import World

MINUTE = 60.0


def mostly_slow(seeds: Iterable[int], quick: int = 2) -> list[Any]:
    """Parameters of which only the first few are played by default."""
    found = list(seeds)
    return [*found[:quick], *(pytest.param(one, marks=pytest.mark.slow) for one in found[quick:])]


def asked(world: World, shard_id: str | None = None) -> list[IteratorType]:
    """The kinds of iterators asked for, of all shards or one."""
    calls = world.source.faults.calls_of("GetShardIterator")
    return [
        call.arguments["kind"]
        for call in calls
        if shard_id is None or call.arguments["shard_id"] == shard_id
    ]


def delivered(world: World) -> list[str]:
    return [event.sequence for event in world.bus.delivered]


async def during_a_run(world: World, **settings: object) -> tuple[asyncio.Task, asyncio.Event]:
    """Start a run that goes on until it is stopped, and let it catch up."""
    stop = asyncio.Event()
    options = {"until_idle": None, **settings}
    task = asyncio.create_task(world.run(stop=stop, **options))
    await asyncio.sleep(5)
    return task, stop
