"""What seems to be the end of a shard is one only when the listing says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from scenes import MINUTE, asked, delivered, during_a_run

from ddbrelay.flow.capture import IteratorType, Start
from ddbrelay.flow.capture.lineage import Lineage
from ddbrelay.flow.capture.port import Shard
from ddbrelay.flow.tracking import Fate
from ddbrelay.metrics import Metrics
from ddbrelay.testing import clock
from ddbrelay.testing.faults import EMPTY, Rates
from ddbrelay.testing.world import World, simulated


async def end_too_early(world: World) -> None:
    """Store that every shard is read to its end."""
    await world.store.save([replace(p, finished=True) for p in (await world.positions()).values()])


@pytest.mark.parametrize("operation", ["GetRecords", "GetShardIterator", "DescribeStream"])
def test_after_an_empty_answer_an_open_shard_is_read_on(operation: str) -> None:
    @simulated("a")
    async def scene(world: World) -> None:
        task, stop = await during_a_run(world)
        world.source.faults.fail_next(operation, EMPTY, times=3)
        await asyncio.sleep(MINUTE)
        numbers = world.fill("xyz", 3)
        await asyncio.sleep(MINUTE)
        assert delivered(world) == numbers
        assert not (await world.positions())["a"].finished
        stop.set()
        await task

    scene()


@simulated("a")
async def test_a_page_without_a_next_iterator_is_no_end_while_the_shard_is_listed_open(
    world: World,
) -> None:
    first = world.fill("xyz", 3)
    world.source.faults.rates = Rates(no_next=1.0)
    task, stop = await during_a_run(world)
    later = world.fill("uvw", 2)
    await asyncio.sleep(MINUTE)
    assert delivered(world) == first + later
    assert set(asked(world)[1:]) == {IteratorType.AFTER_SEQUENCE_NUMBER}
    assert len(world.source.faults.calls_of("DescribeStream")) < 3 * MINUTE
    stop.set()
    await task
    assert not (await world.positions())["a"].finished


@simulated("a")
async def test_a_run_on_an_endpoint_that_gives_no_next_iterators_becomes_idle(
    world: World,
) -> None:
    world.fill("xyz", 3)
    world.source.faults.rates = Rates(no_next=1.0)
    assert (await world.run(timeout=MINUTE))[Fate.PUBLISHED] == 9
    assert (await world.run(timeout=MINUTE))[Fate.PUBLISHED] == 0


@simulated("a")
async def test_an_empty_shard_without_a_next_iterator_is_read_on_from_its_start(
    world: World,
) -> None:
    world.source.faults.rates = Rates(no_next=1.0)
    task, stop = await during_a_run(world, start=Start.LATEST)
    numbers = world.fill("xyz", 2)
    await asyncio.sleep(MINUTE)
    assert delivered(world) == numbers
    stop.set()
    await task


@simulated("a b")
async def test_a_stored_end_is_not_believed_of_a_shard_that_is_listed_open(world: World) -> None:
    world.fill("xyz", 3)
    await world.run()
    await end_too_early(world)
    later = world.fill("uvw", 2)
    tally = await world.run()
    assert (tally[Fate.PUBLISHED], tally.gaps) == (6, [])
    assert sorted(delivered(world)[9:]) == sorted(later)
    assert not any(position.finished for position in (await world.positions()).values())
    assert len(world.log.troubles) == 2
    assert world.log.troubles[0].startswith("shard a is open, although it was stored as read to")


@simulated("a")
async def test_what_was_trimmed_behind_an_end_that_was_none_is_reported(world: World) -> None:
    (first, _) = world.fill("xy")
    await world.run()
    await end_too_early(world)
    world.fill("uvw", 2)
    world.stream.trim("a", 4)
    tally = await world.run()
    assert [gap.after for gap in tally.gaps] == [delivered(world)[1]]
    assert tally[Fate.PUBLISHED] == 4
    assert first in delivered(world)


@simulated("a -> b")
async def test_a_closed_shard_ends_although_it_is_listed_as_open_once_it_has_a_child(
    world: World,
) -> None:
    world.stream.shards["a"].looks_open = True
    world.fill("xyz", 2, shard="a")
    world.fill("xyz", 2, shard="b")
    assert (await world.run())[Fate.PUBLISHED] == 12
    assert (await world.positions())["a"].finished
    await world.run()
    assert (await world.positions())["a"].finished
    assert world.log.troubles == []


@simulated("a")
async def test_a_shard_that_is_said_to_be_gone_while_it_is_listed_is_read_on(world: World) -> None:
    world.fill("xyz")
    task, stop = await during_a_run(world)
    world.source.faults.fail_next("GetRecords", "ResourceNotFoundException")
    await asyncio.sleep(MINUTE)
    numbers = world.fill("uvw", 2)
    await asyncio.sleep(MINUTE)
    assert delivered(world)[3:] == numbers
    assert world.log.gaps == []
    stop.set()
    await task


@simulated("a")
async def test_health_sees_a_shard_whose_end_nobody_can_confirm(world: World) -> None:
    over = Metrics({}, idle_interval=1.0, now=clock.now)
    stop = asyncio.Event()
    relay = world.relay(until_idle=None)
    over.follow(relay)
    task = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(5)
    world.source.faults.rates = Rates(no_next=1.0)
    world.source.faults.fail_next("DescribeStream", "InternalServerError", times=1000)
    await asyncio.sleep(5 * MINUTE)
    well, words = over.health()
    assert (well, words["status"], words["shards"]) == (False, "stalled", 1)
    stop.set()
    await task


@simulated("a")
async def test_health_counts_a_shard_whose_stored_end_was_none(world: World) -> None:
    over = Metrics({}, idle_interval=1.0, now=clock.now)
    world.fill("xyz")
    await world.run()
    await end_too_early(world)
    relay = world.relay(until_idle=None)
    over.follow(relay)
    stop = asyncio.Event()
    task = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(5)
    assert over.health() == (True, {"status": "ok", "shards": 1, "stalled": []})
    stop.set()
    await task


def test_a_shard_that_was_listed_as_closed_once_stays_closed() -> None:
    made = Lineage()
    made.learn([Shard("a", closed=True)])
    made.learn([Shard("a")])
    assert made.nothing_follows("a")


def test_a_shard_that_is_listed_no_more_has_come_to_its_end() -> None:
    made = Lineage()
    made.learn([Shard("a"), Shard("b")])
    made.listing_complete({"a", "b"})
    made.ready()
    made.listing_begins()
    made.listing_complete({"a"})
    assert (made.nothing_follows("a"), made.nothing_follows("b")) == (False, True)


def test_every_shard_of_a_disabled_stream_has_an_end() -> None:
    made = Lineage()
    made.learn([Shard("a")])
    assert not made.nothing_follows("a")
    made.disabled = True
    assert made.nothing_follows("a")
