"""The engine between the simulated stream and the simulated bus: shards, starts, iterators."""

from __future__ import annotations

import asyncio

import pytest
from scenes import MINUTE, asked, delivered, during_a_run

from ddbrelay.flow.capture import IteratorType, Pace, Start
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing import clock
from ddbrelay.testing.clock import DAY, EPOCH
from ddbrelay.testing.faults import LOST_AFTER, LOST_BEFORE
from ddbrelay.testing.process import Killed, Process
from ddbrelay.testing.stream import SimulatedStream
from ddbrelay.testing.world import World, simulate, simulated

# Parents and children


@simulated("a -> b c, b -> d")
async def test_a_parent_is_published_before_its_children(world: World) -> None:
    world.bus.faults.latency = (0.2, 1.0)
    order = {shard: world.fill("xyz", 4, shard=shard) for shard in "abcd"}
    await world.run()
    shards = [event.shard_id for event in world.bus.delivered]
    assert len(shards) == 48
    for parent, child in (("a", "b"), ("a", "c"), ("b", "d")):
        last = max(n for n, shard in enumerate(shards) if shard == parent)
        assert last < shards.index(child)
    assert order["a"] == delivered(world)[:12]


@simulated("a -> b")
async def test_a_child_is_not_read_while_a_record_of_its_parent_is_unsettled(
    world: World,
) -> None:
    world.fill("xy", 1, shard="a")
    world.fill("z", 1, shard="b")
    world.bus.fail_entries("InternalFailure", lambda item: item.key == b'{"id":{"S":"y"}}')
    task, stop = await during_a_run(world)
    assert asked(world, "b") == []
    positions = await world.positions()
    assert not positions["a"].finished
    world.bus.recover()
    await asyncio.sleep(60)
    assert asked(world, "b") == [IteratorType.TRIM_HORIZON]
    stop.set()
    await task
    assert len(world.bus.delivered) == 3


@simulated("a -> b")
async def test_the_last_page_of_a_closed_shard_has_records_and_they_are_published(
    world: World,
) -> None:
    world.fill("xy", 3, shard="a")
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 6
    positions = await world.positions()
    assert positions["a"].finished
    assert positions["a"].sequence == delivered(world)[-1]


@simulated("a -> b", extra_last_page=True)
async def test_an_empty_last_page_ends_a_shard_too(world: World) -> None:
    world.fill("xy", 3, shard="a")
    world.fill("z", shard="b")
    assert (await world.run())[Fate.PUBLISHED] == 7


@simulated()
async def test_a_shard_that_splits_and_rolls_while_it_is_read_keeps_every_order(
    world: World,
) -> None:
    task, stop = await during_a_run(world)
    for _ in range(6):
        world.fill("abcdefgh", 3)
        shard = world.rng.choice([s for s in world.stream.shards.values() if s.closed_at is None])
        world.stream.split(shard.id)
        world.fill("abcdefgh", 2)
        shard = world.rng.choice([s for s in world.stream.shards.values() if s.closed_at is None])
        world.stream.roll(shard.id)
        await asyncio.sleep(world.rng.uniform(0, 3))
    await asyncio.sleep(60)
    stop.set()
    await task
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    assert world.log.gaps == []


@simulated()
async def test_a_child_that_is_listed_late_is_found_and_read_from_its_beginning(
    world: World,
) -> None:
    task, stop = await during_a_run(world)
    (parent,) = world.stream.shards
    child = world.stream.roll(parent, listed_after=20.0)
    world.fill("ab", 2)
    await asyncio.sleep(60)
    stop.set()
    await task
    assert world.bus.by_key() == world.written_by_key()
    assert asked(world, child) == [IteratorType.TRIM_HORIZON]


@simulated()
async def test_children_start_at_the_trim_horizon_also_when_the_run_started_at_latest(
    world: World,
) -> None:
    world.fill("abc")
    task, stop = await during_a_run(world, start=Start.LATEST)
    (parent,) = world.stream.shards
    children = world.stream.split(parent)
    written = world.fill("defg")
    await asyncio.sleep(30)
    stop.set()
    await task
    assert sorted(delivered(world)) == sorted(written)
    assert asked(world, parent) == [IteratorType.LATEST]
    assert {kind for c in children for kind in asked(world, c)} == {IteratorType.TRIM_HORIZON}


@simulated("a b")
async def test_a_shard_found_by_a_later_run_from_latest_starts_at_the_trim_horizon(
    world: World,
) -> None:
    await world.run(start=Start.LATEST)
    children = world.stream.split("a")
    written = world.fill("xyz", 2, shard=children[0]) + world.fill("uvw", 2, shard=children[1])
    await asyncio.sleep(60)
    await world.run(start=Start.LATEST)
    assert sorted(delivered(world)) == sorted(written)
    assert {kind for c in children for kind in asked(world, c)} == {IteratorType.TRIM_HORIZON}


@simulated("a")
async def test_an_open_parent_that_already_has_children_is_read_to_its_end_first(
    world: World,
) -> None:
    world.fill("x", 2)
    world.stream.succeed("a", "b", looks_open=True)
    world.fill("x", 2)
    await world.run()
    assert world.bus.by_key(repeats=True) == world.written_by_key()


@simulated("a b")
async def test_a_disabled_stream_is_read_to_its_end_and_the_run_ends(world: World) -> None:
    world.fill("abcdef", 2)
    world.stream.disable()
    relay = world.relay(until_idle=None)
    tally = await relay.run(asyncio.Event())
    assert relay.end_reason == "ended"
    assert tally[Fate.PUBLISHED] == 12


@simulated()
async def test_an_idle_run_does_not_end_between_a_parent_and_its_child(world: World) -> None:
    world.options = world.relay(until_idle=2.0)._options
    task = asyncio.create_task(world.run())
    await asyncio.sleep(1.5)
    (parent,) = world.stream.shards
    world.stream.roll(parent)
    await asyncio.sleep(0.45)
    world.fill("a")
    tally = await task
    assert tally[Fate.PUBLISHED] == 1


@simulated("a -> b")
async def test_empty_pages_before_records_are_followed(world: World) -> None:
    world.fill("xy", 2, shard="a")
    world.stream.shards["a"].empty_pages = 25
    world.fill("z", shard="b")
    tally = await world.run(until_idle=2.0)
    assert tally[Fate.PUBLISHED] == 5


# The listing


@simulated(" ".join(f"s{n}" for n in range(250)))
async def test_all_pages_of_the_listing_are_read(world: World) -> None:
    for shard in world.stream.shards:
        world.stream.put(f"key-{shard}", shard)
    assert (await world.run())[Fate.PUBLISHED] == 250
    assert len(world.source.faults.calls_of("DescribeStream")) == 3


@simulated(" ".join(f"s{n}" for n in range(684)))
async def test_a_page_of_the_listing_that_fails_is_asked_for_again_and_the_others_are_kept(
    world: World,
) -> None:
    faults = world.source.faults
    real = world.source.shards

    async def flaky(after: str | None = None, children_of: str | None = None) -> object:
        if after == "s99" and len(faults.calls_of("DescribeStream")) < 6:
            faults.fail_next("DescribeStream", "ThrottlingException")
        return await real(after, children_of)

    world.source.shards = flaky  # type: ignore[method-assign,assignment]
    await world.run()
    pages = [call.arguments["after"] for call in faults.calls_of("DescribeStream")]
    assert pages == [None, *["s99"] * 6, "s199", "s299", "s399", "s499", "s599"]
    assert len(await world.positions()) == 684


@simulated("a")
async def test_shards_of_an_endpoint_that_ignores_the_filter_wait_for_their_parents(
    world: World,
) -> None:
    """DynamoDB Local answers ShardFilter with its first page, which may lack a shard's parent."""
    task, stop = await during_a_run(world)
    real = world.source.shards

    async def unfiltered(after: str | None = None, children_of: str | None = None) -> object:
        page = await real(after)
        if children_of is not None:
            hidden = {s.id for s in page.shards if s.id == "c"}
            page = type(page)([s for s in page.shards if s.id not in hidden], None)
        return page

    world.source.shards = unfiltered  # type: ignore[method-assign,assignment]
    world.fill("x", 2, shard="a")
    world.stream.succeed("a", "b")
    world.fill("x", 2, shard="b")
    world.stream.succeed("b", "c")
    world.fill("x", 2, shard="c")
    world.stream.succeed("c", "d")
    world.fill("x", 2, shard="d")
    await asyncio.sleep(120)
    stop.set()
    await task
    assert world.bus.by_key(repeats=True) == world.written_by_key()


@pytest.mark.slow
@simulated(" ".join(f"s{n}" for n in range(150)))
async def test_new_shards_that_were_listed_are_read_although_a_later_page_keeps_failing(
    world: World,
) -> None:
    task, stop = await during_a_run(world)
    real = world.source.shards

    async def broken(after: str | None = None, children_of: str | None = None) -> object:
        if after is not None:
            world.source.faults.fail_next("DescribeStream", "InternalServerError")
        return await real(after, children_of)

    world.source.shards = broken  # type: ignore[method-assign,assignment]
    world.stream.shards = {"new": world.stream.shards["s0"], **world.stream.shards}
    shard = SimulatedStream(["new"], now=clock.now).shards["new"]
    world.stream.shards["new"] = world.stream.history["new"] = shard
    world.fill("x", 2, shard="new")
    await asyncio.sleep(60)
    assert len(world.bus.delivered) == 2
    stop.set()
    await task


@simulated(" ".join(f"s{n}" for n in range(250)))
async def test_a_listing_whose_next_page_begins_behind_a_shard_that_is_gone_begins_anew(
    world: World,
) -> None:
    real = world.source.shards

    async def trimming(after: str | None = None, children_of: str | None = None) -> object:
        if after == "s99" and "s99" in world.stream.shards:
            world.stream.remove("s99")
        return await real(after, children_of)

    world.source.shards = trimming  # type: ignore[method-assign,assignment]
    await world.run()
    assert len(await world.positions()) == 249
    assert world.log.gaps == []


@pytest.mark.slow
@simulated(" ".join(f"s{n}" for n in range(120)))
async def test_a_shard_that_appears_behind_a_page_that_was_read_is_read_before_its_child(
    world: World,
) -> None:
    """Its child stands on the page that is still to come."""
    task, stop = await during_a_run(world)
    shards = world.stream.shards
    real = world.source.shards
    grown = False

    async def growing(after: str | None = None, children_of: str | None = None) -> object:
        nonlocal grown
        page = await real(after, children_of)
        if after is None and children_of is None and not grown:
            grown = True
            made = SimulatedStream(["up", "down"], now=clock.now).shards
            made["down"].parent_id, made["up"].closed_at = "up", clock.now()
            world.stream.history |= made
            first, *rest = shards.items()
            shards.clear()
            shards.update([first, ("up", made["up"]), *rest, ("down", made["down"])])
            world.fill("x", 2, shard="up")
            world.fill("x", 2, shard="down")
        return page

    world.source.shards = growing  # type: ignore[method-assign,assignment]
    await asyncio.sleep(120)
    stop.set()
    await task
    assert grown
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    assert world.log.gaps == []


# Where a run starts


@simulated("a -> b")
async def test_the_default_start_is_the_trim_horizon(world: World) -> None:
    world.fill("x", 3, shard="a")
    await world.run()
    assert len(world.bus.delivered) == 3


@simulated()
async def test_latest_gives_only_what_is_written_after_the_start(world: World) -> None:
    world.fill("abc")
    task, stop = await during_a_run(world, start=Start.LATEST)
    written = world.fill("de")
    await asyncio.sleep(5)
    stop.set()
    await task
    assert delivered(world) == written


@pytest.mark.parametrize("knows_timestamps", [True, False])
@pytest.mark.parametrize("dies_after", [0.0, 0.3, 2.0])
def test_a_run_from_latest_that_was_killed_before_its_first_checkpoint_jumps_over_nothing(
    knows_timestamps: bool, dies_after: float
) -> None:
    async def scene(world: World) -> None:
        world.fill("abc")
        await asyncio.sleep(30.4)
        process = Process()
        options = {"start": Start.LATEST, "until_idle": None, "checkpoint_interval": 3600.0}
        run = asyncio.create_task(world.run(process=process, **options))
        await asyncio.sleep(0.05 + dies_after)
        assert await world.positions()
        process.kill()
        with pytest.raises(Killed):
            await run
        missed = world.fill("def")
        await asyncio.sleep(10)
        await world.run(start=Start.LATEST)
        assert set(missed) <= set(delivered(world))
        before = {r.sequence_number for r in world.stream.written[:3]}
        assert not before & set(delivered(world))
        assert asked(world).count(IteratorType.LATEST) <= 1

    simulate(scene, knows_timestamps=knows_timestamps)


@simulated()
async def test_latest_is_asked_for_once_even_when_the_answer_is_lost(world: World) -> None:
    world.source.faults.fail_next("GetShardIterator", LOST_AFTER)
    world.source.faults.fail_next("GetShardIterator", "InternalServerError")
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, start=Start.LATEST, until_idle=None))
    await asyncio.sleep(0.1)
    written = world.fill("abc")
    await asyncio.sleep(30)
    stop.set()
    await run
    assert delivered(world) == written
    assert asked(world).count(IteratorType.LATEST) == 1


@pytest.mark.parametrize("knows_timestamps", [True, False])
def test_a_start_by_time_leaves_out_what_was_written_before(knows_timestamps: bool) -> None:
    async def scene(world: World) -> None:
        world.fill("abc")
        await asyncio.sleep(100)
        written = world.fill("de")
        tally = await world.run(start=Start.TIME, since=EPOCH + 50)
        assert delivered(world) == written
        assert tally[Fate.PUBLISHED] == 2
        expected = [IteratorType.AT_TIMESTAMP]
        if not knows_timestamps:
            expected.append(IteratorType.TRIM_HORIZON)
        assert asked(world) == expected

    simulate(scene, knows_timestamps=knows_timestamps)


@simulated()
async def test_a_start_within_a_second_includes_the_whole_second(world: World) -> None:
    await asyncio.sleep(50.6)
    written = world.fill("ab")
    await asyncio.sleep(10)
    await world.run(start=Start.TIME, since=EPOCH + 50.5)
    assert delivered(world) == written


@simulated("a b")
async def test_a_second_run_goes_on_where_the_first_one_ended(world: World) -> None:
    world.fill("abcdef", 3)
    await world.run()
    world.bus.delivered.clear()
    written = world.fill("abcdef", 1)
    assert await world.run() is not None
    assert delivered(world) == [] or sorted(delivered(world)) == sorted(written)
    later = world.fill(["new"])
    await world.run()
    assert delivered(world)[-1:] == later


@simulated()
async def test_a_run_asks_for_fresh_iterators_behind_the_numbers_that_it_knows(
    world: World,
) -> None:
    world.fill("a")
    await world.run()
    world.source.faults.calls.clear()
    await asyncio.sleep(5 * MINUTE)
    world.fill("b")
    assert (await world.run())[Fate.PUBLISHED] == 1
    assert asked(world) == [IteratorType.AFTER_SEQUENCE_NUMBER]


# Iterators and trimming


@simulated()
async def test_an_iterator_that_expired_between_runs_is_renewed_after_the_last_number(
    world: World,
) -> None:
    world.fill("a", 2)
    await world.run()
    world.source.faults.calls.clear()
    await asyncio.sleep(16 * MINUTE)
    written = world.fill("b")
    await world.run()
    assert delivered(world)[2:] == written
    (call,) = world.source.faults.calls_of("GetShardIterator")
    assert call.arguments["kind"] is IteratorType.AFTER_SEQUENCE_NUMBER
    assert call.arguments["sequence"] == delivered(world)[1]


@simulated()
async def test_an_iterator_that_expires_under_a_reader_is_renewed_after_the_last_number(
    world: World,
) -> None:
    world.fill("a", 2)
    task, stop = await during_a_run(world)
    world.source.faults.fail_next("GetRecords", "ExpiredIteratorException", times=3)
    written = world.fill("b", 2)
    await asyncio.sleep(30)
    stop.set()
    await task
    assert delivered(world)[2:] == written
    kinds = asked(world)
    assert kinds[0] is IteratorType.TRIM_HORIZON
    assert set(kinds[1:]) == {IteratorType.AFTER_SEQUENCE_NUMBER}


@simulated()
async def test_readers_held_up_for_longer_than_an_iterator_lives_lose_nothing(
    world: World,
) -> None:
    world.bus.faults.latency = (20 * MINUTE, 20 * MINUTE)
    for n in range(3000):
        world.stream.put(f"k{n}")
    task, stop = await during_a_run(world, max_pending=100)
    world.bus.faults.latency = (0.0, 0.01)
    await asyncio.sleep(60 * MINUTE)
    stop.set()
    await task
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    assert asked(world)[1:] == [IteratorType.AFTER_SEQUENCE_NUMBER]


@pytest.mark.parametrize(
    "fault", ["ThrottlingException", "LimitExceededException", "InternalServerError", LOST_BEFORE]
)
def test_a_reader_outlasts_any_number_of_failed_calls(fault: str) -> None:
    async def scene(world: World) -> None:
        world.fill("abc", 3)
        for operation in ("DescribeStream", "GetShardIterator", "GetRecords"):
            world.source.faults.fail_next(operation, fault, times=20)
        tally = await world.run(until_idle=60.0)
        assert tally[Fate.PUBLISHED] == 9
        assert world.log.gaps == []
        assert any("trying again" in trouble for trouble in world.log.troubles)

    simulate(scene)


@simulated()
async def test_a_fault_that_lasts_for_hours_does_not_end_the_run(world: World) -> None:
    world.fill("abc")
    world.source.faults.fail_next("GetRecords", "ThrottlingException", times=1100)
    tally = await world.run(until_idle=DAY / 4, pace=Pace(idle=60.0))
    assert tally[Fate.PUBLISHED] == 3


@simulated()
async def test_after_a_restart_the_late_child_of_a_finished_shard_is_found_at_once(
    world: World,
) -> None:
    world.fill("x", shard="a")
    child = world.stream.roll("a", listed_after=600.0)
    listed_at = world.stream.shards[child].listed_at
    await world.run(until_idle=1.0)
    assert (await world.positions())["a"].finished
    late = world.fill("y", shard=child)
    await asyncio.sleep(listed_at - clock.now() - 5.0)
    await world.run(until_idle=None, max_records=1)
    assert set(late) <= world.bus.sequences()
    assert clock.now() - listed_at < 10.0
