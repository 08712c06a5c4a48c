"""What a consumer would find unread if it ran now, on the simulated stream."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Gap, Position, Start
from ddbrelay.flow.change import Origin
from ddbrelay.relay.backlog import worst
from ddbrelay.relay.survey import AT_ONCE, EMPTY_PAGES, ShardBacklog, State, Survey, survey
from ddbrelay.testing import clock
from ddbrelay.testing.faults import Rates
from ddbrelay.testing.world import World, simulate, simulated

MINUTE, HOUR = 60.0, 3600.0


async def look(world: World, troubles: list[str] | None = None) -> Survey:
    said = [] if troubles is None else troubles
    origin = Origin(world.stream.table, world.stream.arn)
    return await survey(
        world.source, origin, world.store, trouble=said.append, now=clock.now, rng=world.rng
    )


def by_id(found: Survey) -> dict[str, ShardBacklog]:
    return {shard.position.shard_id: shard for shard in found.shards}


def age(shard: ShardBacklog) -> float | None:
    return None if shard.unread is None else shard.unread.age(clock.now())


def left(shard: ShardBacklog) -> float | None:
    return None if shard.unread is None else shard.unread.left(clock.now())


@simulated("a b")
async def test_without_a_checkpoint_everything_in_the_stream_is_unread(world: World) -> None:
    world.fill("x", shard="a")
    await asyncio.sleep(2 * HOUR)
    world.fill("y", shard="a")
    found = by_id(await look(world))
    assert [found[shard].state for shard in "ab"] == [State.NOT_BEGUN, State.NOT_BEGUN]
    assert age(found["a"]) == pytest.approx(2 * HOUR, abs=2)
    assert left(found["a"]) == pytest.approx(22 * HOUR, abs=2)
    assert found["b"].unread is None


@simulated("a b")
async def test_a_consumer_that_read_everything_is_idle(world: World) -> None:
    world.fill("xyz", 3)
    await world.run()
    found = await look(world)
    assert {shard.state for shard in found.shards} == {State.IDLE}
    assert (found.unread, found.gaps, found.finished) == ([], [], 0)


@simulated("a b")
async def test_the_oldest_record_behind_the_checkpoint_counts_and_the_worst_comes_first(
    world: World,
) -> None:
    world.fill("x", shard="a")
    world.fill("y", shard="b")
    await world.run()
    world.stream.delete("y", shard="b")
    await asyncio.sleep(HOUR)
    world.stream.delete("x", shard="a")
    await asyncio.sleep(HOUR)
    found = await look(world)
    assert [shard.position.shard_id for shard in found.shards] == ["b", "a"]
    assert [age(shard) for shard in found.shards] == pytest.approx([2 * HOUR, HOUR], abs=2)
    assert {shard.state for shard in found.shards} == {State.BEHIND}
    assert [one.shard_id for one in worst(found.unread)] == ["b", "a"]


@simulated()
async def test_records_that_were_trimmed_unread_are_the_gap_that_the_next_run_reports(
    world: World,
) -> None:
    (read,) = world.fill("x")
    await world.run()
    world.fill("y")
    await asyncio.sleep(23 * HOUR)
    world.fill("z")
    await asyncio.sleep(2 * HOUR)
    found = await look(world)
    (shard,) = found.shards
    assert [(gap.shard_id, gap.after) for gap in found.gaps] == [("a", read)]
    assert shard.gap is found.gaps[0]
    # What is behind the gap is unread, and can still be read.
    assert age(shard) == pytest.approx(2 * HOUR, abs=2)
    tally = await world.run()
    assert [(gap.shard_id, gap.after) for gap in tally.gaps] == [("a", read)]
    assert (await look(world)).gaps == []


@simulated("a b")
async def test_a_shard_that_went_with_its_unread_records_is_a_gap(world: World) -> None:
    world.fill("x", shard="a")
    await world.run()
    world.stream.remove("a")
    found = await look(world)
    assert [gap.shard_id for gap in found.gaps] == ["a"]
    assert list(by_id(found)) == ["b"]


@simulated("a b")
async def test_a_shard_that_nobody_read_for_a_day_is_a_gap_only_if_it_held_something(
    world: World,
) -> None:
    await world.run(until_idle=60.0)
    world.fill("x", shard="b")
    await asyncio.sleep(25 * HOUR)
    assert lost((await look(world)).gaps) == {("b", None)}
    assert lost((await world.run()).gaps) == {("b", None)}


@simulated("a -> b c, b -> d")
async def test_a_shard_that_waits_for_its_parent_is_looked_at_too(world: World) -> None:
    world.fill("x", shard="a")
    world.fill("y", shard="b")
    await asyncio.sleep(HOUR)
    world.fill("z", shard="d")
    found = by_id(await look(world))
    states = {shard: one.state for shard, one in found.items()}
    assert states == {"a": State.NOT_BEGUN} | dict.fromkeys("bcd", State.WAITING)
    ages = {shard: age(one) for shard, one in found.items()}
    assert ages.pop("c") is None
    assert ages == pytest.approx({"a": HOUR, "b": HOUR, "d": 0}, abs=2)


@simulated()
async def test_records_of_a_child_are_behind_although_its_parent_is_all_read(world: World) -> None:
    world.fill("x")
    await world.run()
    child = world.stream.roll("a")
    world.fill("y", 2)
    await asyncio.sleep(18 * HOUR)
    found = by_id(await look(world))
    assert (found["a"].state, found["a"].unread) == (State.IDLE, None)
    assert found[child].state is State.WAITING
    assert age(found[child]) == pytest.approx(18 * HOUR, abs=2)


@simulated("a -> b")
async def test_finished_shards_are_counted_and_not_asked_for(world: World) -> None:
    world.fill("x", shard="a")
    world.fill("y", shard="b")
    await world.run()
    before = len(world.source.faults.calls)
    found = await look(world)
    assert found.finished == 1
    assert list(by_id(found)) == ["b"]
    asked = world.source.faults.calls[before:]
    assert not any(call.arguments.get("shard_id") == "a" for call in asked)


@simulated()
async def test_an_expired_iterator_is_renewed_behind_the_last_record(world: World) -> None:
    world.fill("x", 3)
    await world.run()
    await asyncio.sleep(16 * MINUTE)
    assert (await look(world)).unread == []
    world.fill("x", 2)
    await asyncio.sleep(MINUTE)
    (shard,) = (await look(world)).shards
    assert age(shard) == pytest.approx(MINUTE, abs=2)


@pytest.mark.parametrize("read", [False, True])
def test_an_open_shard_without_next_iterators_is_looked_at_for_a_while_only(read: bool) -> None:
    @simulated("a b")
    async def scene(world: World) -> None:
        world.fill("xyz", shard="a")
        if read:
            await world.run()
        world.source.faults.rates = Rates(no_next=1.0)
        asked = len(world.source.faults.calls_of("GetRecords"))
        async with asyncio.timeout(MINUTE):
            found = by_id(await look(world))
        assert (found["a"].unread is None, found["b"].unread) == (read, None)
        asked = len(world.source.faults.calls_of("GetRecords")) - asked
        assert asked == (2 * EMPTY_PAGES if read else EMPTY_PAGES + 1)

    scene()


@simulated()
async def test_empty_pages_before_records_are_followed(world: World) -> None:
    world.fill("x")
    await asyncio.sleep(HOUR)
    world.stream.shards["a"].empty_pages = EMPTY_PAGES - 1
    (shard,) = (await look(world)).shards
    assert age(shard) == pytest.approx(HOUR, abs=3)


@simulated("a|")
async def test_the_empty_pages_of_a_closed_shard_are_followed_to_its_end(world: World) -> None:
    world.fill("x", shard="a")
    world.stream.shards["a"].empty_pages = 4 * EMPTY_PAGES
    (shard,) = (await look(world)).shards
    assert shard.unread is not None


@simulated()
async def test_a_start_by_time_leaves_older_records_out_where_the_endpoint_cannot(
    world: World,
) -> None:
    world.stream.knows_timestamps = False
    world.fill("x", 2)
    await asyncio.sleep(HOUR)
    since = clock.now()
    await world.store.save([Position("a", start=Start.TIME, start_time=since, seen_at=since)])
    (shard,) = (await look(world)).shards
    assert shard.unread is None
    world.fill("x", 3)
    await asyncio.sleep(MINUTE)
    (shard,) = (await look(world)).shards
    assert age(shard) == pytest.approx(MINUTE, abs=3)


@pytest.mark.parametrize(
    "code", ["LimitExceededException", "ThrottlingException", "InternalServerError"]
)
@pytest.mark.parametrize("operation", ["DescribeStream", "GetShardIterator", "GetRecords"])
def test_a_call_that_fails_for_a_while_is_tried_again(operation: str, code: str) -> None:
    async def scene(world: World) -> None:
        world.fill("x")
        await asyncio.sleep(HOUR)
        world.source.faults.fail_next(operation, code, times=4)
        troubles: list[str] = []
        (shard,) = (await look(world, troubles)).shards
        assert shard.unread is not None
        assert len(troubles) == 1
        assert code in troubles[0]

    simulate(scene)


@pytest.mark.parametrize("operation", ["DescribeStream", "GetShardIterator", "GetRecords"])
def test_a_call_that_fails_for_good_ends_it_within_a_minute_or_two(operation: str) -> None:
    async def scene(world: World) -> None:
        world.fill("x")
        world.source.faults.fail_next(operation, "ThrottlingException", times=1000)
        with pytest.raises(AwsRefused, match=r"cannot (list the shards|read shard a)"):
            await look(world)
        assert clock.now() - clock.EPOCH < 120
        assert world.source.faults.open_calls.total() == 0

    simulate(scene)


@simulated("a b c d e f g h i j")
async def test_a_refusal_ends_it_at_once_and_leaves_no_call_behind(world: World) -> None:
    world.source.faults.fail_next("GetShardIterator", "AccessDeniedException")
    with pytest.raises(AwsRefused, match="AccessDenied"):
        await look(world)
    assert world.source.faults.open_calls.total() == 0


@simulated()
async def test_a_stream_that_is_gone_is_one_clear_line(world: World) -> None:
    world.stream.disable()
    await asyncio.sleep(25 * HOUR)
    with pytest.raises(AwsRefused, match="no longer exists"):
        await look(world)


@simulated()
async def test_a_disabled_stream_is_still_looked_at(world: World) -> None:
    world.fill("x")
    world.stream.disable()
    await asyncio.sleep(HOUR)
    (shard,) = (await look(world)).shards
    assert age(shard) == pytest.approx(HOUR, abs=2)


@simulated(" ".join(f"s{n}" for n in range(40)))
async def test_it_keeps_to_a_pace_beside_the_relay(world: World) -> None:
    world.source.faults.latency = (0.05, 0.1)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            calls = world.source.faults.open_calls
            most = max(most, calls["GetRecords"] + calls["GetShardIterator"])
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    await look(world)
    watching.cancel()
    assert AT_ONCE // 2 < most <= AT_ONCE
    calls = world.source.faults.calls_of("GetRecords")
    assert len(calls) == 40 * EMPTY_PAGES
    seconds = calls[-1].at - calls[0].at
    assert len(calls) / seconds <= AT_ONCE * 5


@simulated("a b")
async def test_nothing_is_stored_and_a_running_relay_is_not_in_the_way(world: World) -> None:
    world.fill("xyz")
    stop = asyncio.Event()
    running = asyncio.create_task(world.run(stop=stop, until_idle=None))
    await asyncio.sleep(30)
    before = dict(await world.positions())
    with world.database.reading() as cursor:
        marks = cursor.execute("SELECT count(*) FROM bookmarks").fetchone()
    found = await look(world)
    assert found.unread == []
    assert {s: p.sequence for s, p in (await world.positions()).items()} == {
        s: p.sequence for s, p in before.items()
    }
    with world.database.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM bookmarks").fetchone() == marks
    stop.set()
    await running


@pytest.mark.parametrize("seed", range(30))
def test_it_finds_the_record_that_the_next_run_reads_first(seed: int) -> None:
    """Whatever the tree and the faults: shard by shard what a run would take, and lose, next."""

    async def scene(world: World) -> None:
        dice = random.Random(seed)
        world.source.faults.rates.empty_page = 0.2
        world.source.faults.rates.throttled = world.source.faults.rates.internal = 0.05
        for _ in range(dice.randint(1, 3)):
            for _ in range(dice.randint(0, 10)):
                world.stream.put(f"k{dice.randrange(20)}", version=len(world.stream.written))
            await asyncio.sleep(dice.choice([1, MINUTE, HOUR, 13 * HOUR]))
            if dice.random() < 0.5:
                opened = [s.id for s in world.stream.shards.values() if s.closed_at is None]
                world.stream.split(dice.choice(opened))
            if dice.random() < 0.4:
                await world.run(until_idle=None, timeout=dice.uniform(1, 20))
            if dice.random() < 0.3:
                await world.run(until_idle=None, timeout=60.0, max_records=dice.randint(1, 5))
        found = await look(world)
        told = {s.position.shard_id: s.unread.since for s in found.shards if s.unread is not None}
        world.log.outcomes.clear()
        tally = await world.run(until_idle=30.0)
        first: dict[str, float | None] = {}
        for outcome in world.log.outcomes:
            first.setdefault(outcome.change.shard_id, outcome.change.time)
        assert told == first
        assert lost(found.gaps) == lost(tally.gaps)

    simulate(scene, "a b", seed)


def lost(gaps: Iterable[Gap]) -> set[tuple[str, str | None]]:
    return {(gap.shard_id, gap.after) for gap in gaps}
