"""What a running relay knows to be unread or unsettled, on the simulated stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.relay import Relay
from ddbrelay.relay.backlog import Backlog, Unread, worst
from ddbrelay.testing import clock
from ddbrelay.testing.world import World, simulated

HOUR = 3600.0
NONE = Backlog([])


@asynccontextmanager
async def running(world: World, **options: object) -> AsyncIterator[Relay]:
    """A run that goes on until the block is left."""
    stop = asyncio.Event()
    relay = world.relay(until_idle=None, **options)
    task = asyncio.create_task(relay.run(stop))
    try:
        yield relay
    finally:
        stop.set()
        await task


def ages(backlog: Backlog) -> dict[str, float | None]:
    return {one.shard_id: one.age(clock.now()) for one in backlog.unread}


def test_the_age_and_the_time_left_of_a_record_make_up_what_the_stream_keeps() -> None:
    unread = Unread("a", 1000.0)
    assert (unread.age(1000.0 + HOUR), unread.left(1000.0 + HOUR)) == (HOUR, 23 * HOUR)
    assert (unread.age(900.0), unread.left(1000.0 + RETENTION + 1)) == (0.0, 0.0)
    assert (Unread("a", None).age(5.0), Unread("a", None).left(5.0)) == (None, None)


def test_the_worst_is_the_oldest_and_what_is_not_known_is_left_out() -> None:
    known = [Unread("b", 7.0), Unread("a", 7.0), Unread("c", 3.0)]
    assert [one.shard_id for one in worst([*known, Unread("d", None)])] == ["c", "a", "b"]


@simulated("a b")
async def test_what_was_never_read_has_no_known_age_and_what_is_read_is_no_backlog(
    world: World,
) -> None:
    world.fill("xyz")
    world.source.faults.latency = (1.0, 1.0)
    async with running(world) as relay:
        await asyncio.sleep(5)
        assert ages(relay.backlog) == {"a": None, "b": None}
        await asyncio.sleep(30)
        assert relay.backlog == NONE


@pytest.mark.slow
@simulated("a b")
async def test_the_oldest_unsettled_record_counts_however_far_the_reader_is(world: World) -> None:
    async with running(world) as relay:
        await asyncio.sleep(30)
        world.bus.fail_entries("ThrottlingException")
        world.fill("x", shard="a")
        await asyncio.sleep(HOUR)
        world.fill("y", shard="a")
        await asyncio.sleep(HOUR)
        assert ages(relay.backlog) == {"a": pytest.approx(2 * HOUR, abs=3)}
        world.bus.recover()
        await asyncio.sleep(60)
        assert relay.backlog == NONE


@simulated()
async def test_a_reader_that_gets_no_answer_is_as_far_behind_as_what_it_saw_last(
    world: World,
) -> None:
    world.fill("x")
    await asyncio.sleep(HOUR)
    world.fill("y")
    await world.run()
    await asyncio.sleep(2 * HOUR)
    world.source.faults.fail_next("GetRecords", "LimitExceededException", times=10_000)
    async with running(world) as relay:
        await asyncio.sleep(60)
        (unread,) = relay.backlog.unread
        assert unread.age(clock.now()) == pytest.approx(2 * HOUR, abs=120)


@simulated("a -> b c, b -> d")
async def test_shards_that_wait_for_their_parents_are_counted(world: World) -> None:
    world.fill("x", shard="a")
    world.bus.fail_entries("ThrottlingException")
    async with running(world) as relay:
        await asyncio.sleep(60)
        assert relay.backlog.waiting == 3
        world.bus.recover()
        await asyncio.sleep(60)
        assert relay.backlog == NONE


@simulated("a|")
async def test_a_shard_that_is_read_to_its_end_has_only_what_is_unsettled(world: World) -> None:
    world.fill("x", shard="a")
    world.bus.fail_entries("ThrottlingException")
    async with running(world) as relay:
        await asyncio.sleep(60)
        assert ages(relay.backlog) == {"a": pytest.approx(60, abs=2)}
        world.bus.recover()
        await asyncio.sleep(60)
        assert relay.backlog == NONE


@simulated()
async def test_a_shard_that_is_left_at_the_end_of_a_time_range_is_all_read(world: World) -> None:
    world.fill("x")
    until = clock.now() + 1
    await asyncio.sleep(10)
    world.fill("y")
    async with running(world, until_time=until) as relay:
        await asyncio.sleep(30)
        assert relay.backlog == NONE


@simulated()
async def test_after_a_bound_on_records_the_last_one_read_says_how_far_it_is_behind(
    world: World,
) -> None:
    world.fill("xy")
    await asyncio.sleep(HOUR)
    relay = world.relay(max_records=1)
    await relay.run(asyncio.Event())
    assert ages(relay.backlog) == {"a": pytest.approx(HOUR, abs=3)}
