"""A stream with a thousand open shards: calls, memory and tasks stay within their bounds."""

from __future__ import annotations

import asyncio

import pytest

from ddbrelay.flow.tracking import Fate
from ddbrelay.testing.world import World, simulated

SHARDS = 1000
WIDE = " ".join(f"s{n}" for n in range(SHARDS))


def most_in_a_second(world: World, operation: str) -> int:
    """Calls of the operation in the busiest second, whichever way the seconds are cut."""
    times = sorted(call.at for call in world.source.faults.calls_of(operation))
    first = most = 0
    for number, at in enumerate(times):
        while times[first] <= at - 1.0:
            first += 1
        most = max(most, number - first + 1)
    return most


@pytest.mark.slow
@simulated(WIDE)
async def test_a_thousand_idle_shards_are_read_once_a_second_each_and_listed_in_peace(
    world: World,
) -> None:
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None))
    await asyncio.sleep(22)
    world.source.faults.calls.clear()
    await asyncio.sleep(15)
    reads = len(world.source.faults.calls_of("GetRecords"))
    assert 0.9 * 15 * SHARDS < reads < 1.01 * 15 * SHARDS
    assert most_in_a_second(world, "GetRecords") < 2.5 * SHARDS
    assert most_in_a_second(world, "DescribeStream") <= 10
    # Ten pages, once in this time.
    assert len(world.source.faults.calls_of("DescribeStream")) == 10
    assert world.source.faults.calls_of("GetShardIterator") == []
    assert len(asyncio.all_tasks()) < SHARDS + 20
    positions = (await world.positions()).values()
    assert all(p.seen_at is not None and p.sequence is None for p in positions)
    stop.set()
    await run


@pytest.mark.slow
@simulated(WIDE)
async def test_a_thousand_shards_that_roll_over_together_are_followed_at_aws_pace(
    world: World,
) -> None:
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None))
    await asyncio.sleep(20)
    for turn in range(2):
        for n in range(2000):
            world.stream.put(f"k{n}", turn=turn)
        if turn == 0:
            for shard in list(world.stream.shards):
                world.stream.roll(shard)
    await asyncio.sleep(20)
    stop.set()
    tally = await run
    assert tally[Fate.PUBLISHED] == 4000
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    assert most_in_a_second(world, "DescribeStream") <= 10


@pytest.mark.slow
@simulated(WIDE)
async def test_a_slow_bus_before_a_thousand_full_shards_holds_a_bounded_number_of_pages(
    world: World,
) -> None:
    for shard in world.stream.shards:
        world.fill((f"{shard}-{n}" for n in range(10)), shard=shard)
    world.bus.faults.latency = (0.5, 1.0)
    relay = world.relay(max_pending=1000, max_reading=16, max_in_flight=64)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, relay._delivery.pending)
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    tally = await relay.run(asyncio.Event())
    watcher.cancel()
    assert tally[Fate.PUBLISHED] == 10 * SHARDS
    assert 1000 < most <= 1000 + 16 * 10


@simulated("a b c d")
async def test_records_that_are_not_settled_hold_their_pages_and_readers_wait_for_them(
    world: World,
) -> None:
    """One record of each page waits: its nine hundred kilobytes stay in memory with it."""
    for shard in world.stream.shards:
        for turn in range(20):
            world.stream.put(f"stuck-{shard}-{turn}", shard, blob="x" * 700_000)
            world.stream.put(f"ok-{shard}-{turn}", shard, blob="x" * 200_000)
    world.bus.fail_entries("InternalFailure", lambda item: b"stuck" in item.key)
    relay = world.relay(max_held=20_000_000, until_idle=None)
    stop = asyncio.Event()
    run = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(300)
    assert 10 <= relay.read / 2 <= 10 + len(world.stream.shards) * 2
    world.bus.recover()
    await asyncio.sleep(120)
    stop.set()
    assert (await run)[Fate.PUBLISHED] == 160
