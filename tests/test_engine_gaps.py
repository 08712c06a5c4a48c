"""The engine between the simulated stream and the simulated bus: what can no longer be read."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from scenes import MINUTE, asked, delivered, during_a_run

from ddbrelay.errors import DataLost
from ddbrelay.flow.capture import Fault, Pace, ShardPage
from ddbrelay.flow.tracking import Fate
from ddbrelay.stores.ledger import ShardLedger, of_consumer
from ddbrelay.testing import clock
from ddbrelay.testing.clock import DAY
from ddbrelay.testing.world import World, simulated

HOUR = 3600.0


def ledger(world: World) -> dict[str, ShardLedger]:
    return of_consumer(world.database, "default", world.stream.arn)


@simulated("a")
async def test_a_trimmed_position_is_reported_as_a_gap_and_reading_goes_on(world: World) -> None:
    first = world.fill("abc")
    await world.run()
    later = world.fill("def")
    await asyncio.sleep(16 * MINUTE)
    at = clock.now()
    world.stream.trim("a", 5)
    tally = await world.run()
    (gap,) = world.log.gaps
    assert (gap.shard_id, gap.after, gap.reason) == ("a", first[-1], Fault.TRIMMED.value)
    assert gap.since <= at - 16 * MINUTE
    # Where it ends is known as soon as a record behind it was read.
    assert tally.gaps == [replace(gap, before=later[-1], until=tally.gaps[0].until)]
    assert tally.gaps[0].until <= at - 16 * MINUTE
    assert tally[Fate.PUBLISHED] == 1
    assert delivered(world)[-1] == world.stream.written[-1].sequence_number


@simulated("a")
async def test_a_gap_can_stop_the_run_before_anything_moves(world: World) -> None:
    world.fill("abc")
    await world.run()
    world.fill("def")
    await asyncio.sleep(16 * MINUTE)
    world.stream.trim("a", 5)
    before = await world.positions()
    with pytest.raises(DataLost, match="shard a after"):
        await world.run(stop_on_gap=True)
    assert await world.positions() == before
    assert len(world.bus.delivered) == 3


@simulated()
async def test_data_that_was_trimmed_while_nobody_read_is_a_gap(world: World) -> None:
    world.fill("abc")
    await world.run(max_records=2)
    await asyncio.sleep(25 * 3600)
    written = world.fill("x")
    await world.run()
    assert len(world.log.gaps) == 1
    assert delivered(world)[2:] == written


@pytest.mark.slow
@simulated()
async def test_data_that_is_trimmed_under_a_reader_that_is_held_up_is_a_gap(
    world: World,
) -> None:
    world.bus.faults.latency = (DAY + MINUTE, DAY + MINUTE)
    for n in range(3000):
        world.stream.put(f"k{n}")
    task, stop = await during_a_run(world, max_pending=100)
    world.bus.faults.latency = (0.0, 0.01)
    await asyncio.sleep(DAY + MINUTE)
    written = world.fill("x")
    await asyncio.sleep(10 * MINUTE)
    stop.set()
    await task
    (gap,) = world.log.gaps
    assert gap.after == world.stream.written[999].sequence_number
    read = [record.sequence_number for record in world.stream.written[:1000]]
    assert sorted(delivered(world), key=int) == read + written


@simulated("a b")
async def test_a_shard_deleted_under_its_reader_is_reported_and_not_tried_for_ever(
    world: World,
) -> None:
    world.fill("x", 2, shard="a")
    task, stop = await during_a_run(world)
    world.stream.remove("a")
    await asyncio.sleep(10 * MINUTE)
    calls = len(asked(world, "a"))
    written = world.fill("y", 2, shard="b")
    await asyncio.sleep(MINUTE)
    stop.set()
    await task
    (gap,) = world.log.gaps
    assert (gap.shard_id, gap.reason) == ("a", Fault.NOT_FOUND.value)
    assert calls <= 2
    assert delivered(world)[2:] == written


@simulated("a -> b")
async def test_a_shard_that_is_no_longer_listed_with_an_unread_position_is_a_gap(
    world: World,
) -> None:
    world.fill("x", 5, shard="a")
    await world.run(max_records=3)
    world.stream.remove("a")
    written = world.fill("x", 1, shard="b")
    await world.run()
    (gap,) = world.log.gaps
    assert (gap.shard_id, gap.after) == ("a", world.stream.written[2].sequence_number)
    assert delivered(world)[3:] == written
    assert set(await world.positions()) == {"b"}


@simulated("a -> b")
async def test_a_finished_shard_that_is_no_longer_listed_is_no_gap_and_is_forgotten(
    world: World,
) -> None:
    world.fill("x", 2, shard="a")
    await world.run()
    world.stream.remove("a")
    await world.run()
    assert world.log.gaps == []
    assert set(await world.positions()) == {"b"}


@simulated()
async def test_a_shard_that_came_and_went_between_two_runs_is_a_gap(world: World) -> None:
    """The parent was finished, its child was trimmed away unread, its grandchild is listed."""
    world.fill("x", 2)
    (first,) = world.stream.shards
    await world.run()
    second = world.stream.roll(first)
    await world.run()
    third = world.stream.roll(second)
    world.fill("x", 2)
    fourth = world.stream.roll(third)
    written = world.fill("x", 2)
    for gone in (first, second, third):
        world.stream.remove(gone)
    await world.run()
    assert {gap.shard_id for gap in world.log.gaps} >= {third}
    assert delivered(world)[2:] == written
    assert fourth in await world.positions()


@simulated("a b")
async def test_a_deleted_stream_ends_the_run(world: World) -> None:
    world.fill("x", 2, shard="a")
    relay = world.relay(until_idle=None)
    task = asyncio.create_task(relay.run(asyncio.Event()))
    await asyncio.sleep(5)
    world.stream.shards.clear()
    world.source.faults.fail_next("DescribeStream", "ResourceNotFoundException", times=50)
    await task
    assert relay.end_reason == "gone"
    # What may have been written since the last look is lost, once for each shard.
    assert sorted(gap.shard_id for gap in world.log.gaps) == ["a", "b"]
    assert await world.positions() == {}


# What the ledger says of it


@simulated("a")
async def test_a_gap_and_what_came_before_and_after_it_stand_in_the_ledger(world: World) -> None:
    world.fill("abc")
    await world.run()
    world.fill("def")
    await asyncio.sleep(16 * MINUTE)
    world.stream.trim("a", 5)
    tally = await world.run()
    found = ledger(world)["a"]
    numbers = [record.sequence_number for record in world.stream.written]
    assert found.count(Fate.PUBLISHED) == 4
    assert found.gaps == tally.gaps
    assert (found.gaps[0].after, found.gaps[0].before) == (numbers[2], numbers[5])
    assert [(b.after, b.first, b.last, b.count) for b in found.blocks] == [
        (None, numbers[0], numbers[2], 3),
        (None, numbers[5], numbers[5], 1),
    ]


@simulated("a")
async def test_a_gap_is_reported_once_also_when_nothing_comes_behind_it(world: World) -> None:
    world.fill("abc")
    await world.run(max_records=1)
    await asyncio.sleep(25 * HOUR)
    for expected in (1, 1, 1):
        await world.run()
        assert len(world.log.gaps) == expected
    written = world.fill("x")
    tally = await world.run()
    assert tally.gaps == []
    assert delivered(world)[1:] == written
    assert len(ledger(world)["a"].gaps) == 1


@simulated("a b")
async def test_what_a_stream_that_is_gone_still_held_stands_in_the_ledger(world: World) -> None:
    world.fill("x", 5, shard="a")
    await world.run(max_records=2)
    second = world.stream.written[1].sequence_number
    seen_at = (await world.positions())["a"].seen_at
    world.stream.shards.clear()
    world.source.faults.fail_next("DescribeStream", "ResourceNotFoundException", times=2)
    relay = world.relay()
    await relay.run(asyncio.Event())
    assert relay.end_reason == "gone"
    (gap,) = ledger(world)["a"].gaps
    assert (gap.after, gap.since, gap.reason) == (second, seen_at, Fault.NOT_FOUND.value)
    assert sorted(one.shard_id for one in world.log.gaps) == ["a", "b"]
    # It is accounted for: the next run has nothing more to say.
    again = world.relay()
    await again.run(asyncio.Event())
    assert (again.end_reason, again.tally.gaps) == ("gone", [])


@simulated("a")
async def test_what_was_read_and_not_acknowledged_when_the_stream_went_is_lost_too(
    world: World,
) -> None:
    numbers = world.fill("xy", 2)
    world.bus.fail_entries("InternalFailure", lambda item: b"y" in item.key)
    relay = world.relay(until_idle=None, grace=1.0)
    task = asyncio.create_task(relay.run(asyncio.Event()))
    await asyncio.sleep(5)
    world.source.faults.fail_next("DescribeStream", "ResourceNotFoundException", times=5)
    await task
    assert relay.end_reason == "gone"
    (gap,) = world.log.gaps
    assert gap.after == numbers[0]


@simulated("a")
async def test_a_stream_that_is_gone_can_stop_the_run_before_anything_moves(world: World) -> None:
    world.fill("abc")
    await world.run(max_records=1)
    before = await world.positions()
    world.source.faults.fail_next("DescribeStream", "ResourceNotFoundException", times=5)
    with pytest.raises(DataLost, match="no longer exists"):
        await world.run(stop_on_gap=True)
    assert await world.positions() == before


# A shard of which nothing was ever read


async def unread_child(world: World) -> str:
    """A run that ended when its shard rolled over: the child is known and was never read."""
    world.fill("abc")
    task, stop = await during_a_run(world, discovery_interval=5.0)
    child = world.stream.roll("a")
    await asyncio.sleep(30)
    stop.set()
    await task
    assert (await world.positions())[child].sequence is None
    return child


@simulated("a")
async def test_a_child_that_nobody_read_for_a_day_has_lost_what_was_trimmed(world: World) -> None:
    child = await unread_child(world)
    seen_at = (await world.positions())[child].seen_at
    lost = world.fill("x", 3)
    await asyncio.sleep(25 * HOUR)
    later = world.fill("y", 2)
    tally = await world.run()
    assert delivered(world)[3:] == later
    (gap,) = [gap for gap in tally.gaps if gap.shard_id == child]
    assert (gap.after, gap.before, gap.since) == (None, later[0], seen_at)
    lost_at = world.stream.history[child].written_at[: len(lost)]
    assert all(gap.since <= at for at in lost_at)


@simulated("a")
async def test_a_child_that_nobody_read_for_a_day_but_that_is_whole_has_lost_nothing(
    world: World,
) -> None:
    child = await unread_child(world)
    await asyncio.sleep(25 * HOUR)
    later = world.fill("y", 2)
    tally = await world.run()
    assert delivered(world)[3:] == later
    assert [gap for gap in tally.gaps if gap.shard_id == child] == []
    assert "AT_SEQUENCE_NUMBER" in {kind.name for kind in asked(world, child)}


@simulated("a", knows_timestamps=False)
async def test_a_first_run_that_read_nothing_may_start_again_whenever_it_likes(
    world: World,
) -> None:
    """It promised nothing yet: what left the stream since then was never its own."""
    world.fill("abc")
    world.source.faults.fail_next("GetShardIterator", "AccessDeniedException")
    with pytest.raises(Exception, match="AccessDenied"):
        await world.run()
    await asyncio.sleep(30 * HOUR)
    written = world.fill("x")
    tally = await world.run()
    assert tally.gaps == []
    assert delivered(world) == written


@pytest.mark.slow
@simulated("a b")
async def test_idle_shards_are_known_to_be_read_without_a_record(world: World) -> None:
    task, stop = await during_a_run(world)
    await asyncio.sleep(5 * HOUR)
    world.log.gaps.clear()
    before = clock.now()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stop.set()
    seen = [position.seen_at for position in (await world.positions()).values()]
    assert all(at is not None and before - 90 < at <= before - 60 for at in seen)


@simulated("a")
async def test_a_first_number_that_moves_with_the_horizon_proves_nothing(world: World) -> None:
    """ministack counts a shard from its first record that is not trimmed."""
    world.fill("abc")
    await world.run()
    child = world.stream.roll("a")
    world.fill("x", 3)
    await asyncio.sleep(25 * HOUR)
    later = world.fill("y", 2)
    real = world.source.shards

    async def moving(after: str | None = None, children_of: str | None = None) -> ShardPage:
        page = await real(after, children_of)
        firsts = {s.id: s.readable[:1] for s in world.stream.shards.values()}
        return replace(
            page,
            shards=[
                replace(s, starting=firsts[s.id][0].sequence_number if firsts[s.id] else None)
                for s in page.shards
            ],
        )

    world.source.shards = moving  # type: ignore[method-assign]
    tally = await world.run()
    assert delivered(world)[3:] == later
    assert [gap.before for gap in tally.gaps if gap.shard_id == child] == [later[0]]


@simulated("a b")
async def test_throttling_is_no_proof_that_a_shard_was_trimmed(world: World) -> None:
    world.fill("x", shard="b")
    await world.run(until_idle=0.1)
    await asyncio.sleep(16 * MINUTE)
    world.fill("y", shard="a")
    world.source.faults.fail_next("GetShardIterator", "ThrottlingException", times=12)
    await world.run(until_idle=30.0)
    assert world.log.gaps == []
    assert len(world.bus.delivered) == 2


@simulated("a")
async def test_what_was_trimmed_of_a_shard_that_was_never_listed_before_is_a_gap(
    world: World,
) -> None:
    world.fill("x", 2)
    await world.run()
    await asyncio.sleep(1 * HOUR)
    second = world.stream.roll("a")
    await asyncio.sleep(1 * HOUR)
    third = world.stream.roll(second)
    lost = world.fill("x", 2)
    await asyncio.sleep(25 * HOUR)
    written = world.fill("x", 1)
    await world.run()
    assert not set(lost) & world.bus.sequences()
    assert set(written) <= world.bus.sequences()
    assert {gap.shard_id for gap in world.log.gaps} >= {second, third}


@pytest.mark.slow
@simulated("a")
async def test_a_gap_that_grows_until_it_can_be_read_over_says_so(world: World) -> None:
    world.fill("x", 2)
    await world.run(until_idle=1.0)
    written = world.fill("x", 2)
    await asyncio.sleep(12 * HOUR)
    later = world.fill("x", 2)
    await asyncio.sleep(12.5 * HOUR)
    world.source.faults.fail_next("GetRecords", "InternalServerError", times=10**6)
    task = asyncio.create_task(world.run(until_idle=60.0))
    await asyncio.sleep(13 * HOUR)
    end = world.fill("y", 1)
    world.source.faults.recover()
    tally = await task
    assert not set(written + later) & world.bus.sequences()
    assert set(end) <= world.bus.sequences()
    (gap,) = tally.gaps
    assert gap.before == end[0]
    assert gap.until is not None
    assert gap.until >= clock.EPOCH + 12 * HOUR


@simulated("a b")
async def test_a_first_run_that_stopped_early_knows_that_later_shards_are_younger(
    world: World,
) -> None:
    """Of one line of shards no record was read, nor was a shard known to be at its tip."""
    world.fill("z", shard="b")
    task, stop = await during_a_run(world, pace=Pace(after_records=60.0, idle=60.0))
    second = world.stream.roll("a")
    await asyncio.sleep(2.0)
    stop.set()
    await task
    assert (await world.positions())["a"].seen_at is None
    third = world.stream.roll(second)
    lost = world.fill("x", 2, shard=third)
    await asyncio.sleep(25 * HOUR)
    later = world.fill("y", 1, shard=third)
    tally = await world.run()
    assert delivered(world)[1:] == later
    (gap,) = [gap for gap in tally.gaps if gap.shard_id == third]
    assert gap.before == later[0]
    assert len(lost) == 2
