"""The engine between the simulated stream and the simulated bus: how runs end, and crashes."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable

import pytest
from scenes import mostly_slow

from ddbrelay.errors import AwsRefused, DdbrelayError, StateError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import Account, DeadLetter, Fate, Store, Usage
from ddbrelay.stores.ledger import of_consumer
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing import clock
from ddbrelay.testing.faults import Rates
from ddbrelay.testing.process import Killed, Process
from ddbrelay.testing.world import World, simulate, simulated


def elapsed() -> float:
    return asyncio.get_running_loop().time()


# Bounds


@pytest.mark.parametrize("bound", [1, 7, 1000, 1001, 2500])
def test_a_bounded_run_relays_exactly_so_many_records_and_the_next_goes_on(bound: int) -> None:
    async def scene(world: World) -> None:
        for n in range(2600):
            world.stream.put(f"k{n % 50}", n=n)
        relay = world.relay(max_records=bound)
        tally = await relay.run(asyncio.Event())
        assert relay.end_reason == "max-records"
        assert tally[Fate.PUBLISHED] == bound
        (position,) = (await world.positions()).values()
        assert position.sequence == world.stream.written[bound - 1].sequence_number
        await world.run()
        assert len(world.bus.delivered) == 2600
        assert world.bus.by_key(repeats=True) == world.written_by_key()

    simulate(scene)


@simulated("a b c")
async def test_the_bound_counts_the_records_of_all_shards_together(world: World) -> None:
    world.fill([f"k{n}" for n in range(60)], 5)
    tally = await world.run(max_records=100)
    assert tally[Fate.PUBLISHED] == len(world.bus.delivered) == 100
    await world.run()
    assert world.bus.by_key(repeats=True) == world.written_by_key()


@simulated()
async def test_a_bounded_run_waits_for_the_bus(world: World) -> None:
    world.bus.faults.latency = (10.0, 10.0)
    world.fill("ab", 3)
    tally = await world.run(max_records=6)
    assert tally[Fate.PUBLISHED] == 6


@simulated("a b")
async def test_an_idle_run_ends_so_many_seconds_after_the_last_record(world: World) -> None:
    world.fill("ab")
    relay = world.relay(until_idle=3.0)
    await relay.run(asyncio.Event())
    assert relay.end_reason == "idle"
    assert 3.0 <= elapsed() < 6.0


@simulated()
async def test_an_idle_run_does_not_end_while_an_event_is_unacknowledged(world: World) -> None:
    world.bus.fail_entries("InternalFailure", times=8)
    world.fill("a")
    tally = await world.run(until_idle=0.1)
    assert tally[Fate.PUBLISHED] == 1


@simulated()
async def test_an_idle_run_does_not_end_while_its_shard_cannot_be_read(world: World) -> None:
    world.fill("a")

    def outage() -> None:
        world.source.faults.fail_next("GetRecords", "InternalServerError", times=12)
        world.fill("b")

    loop = asyncio.get_running_loop()
    loop.call_later(2.0, outage)
    tally = await world.run(until_idle=3.0)
    assert tally[Fate.PUBLISHED] == 2


@simulated()
async def test_a_run_ends_when_its_time_is_over(world: World) -> None:
    relay = world.relay(timeout=42.0, until_idle=None)
    await relay.run(asyncio.Event())
    assert relay.end_reason == "timeout"
    assert elapsed() == pytest.approx(42.0, abs=0.1)


# Stopping


@simulated()
async def test_a_stop_finishes_what_is_in_hand_and_saves_it(world: World) -> None:
    world.bus.faults.latency = (0.5, 0.5)
    world.fill("abcdefgh", 2)
    stop = asyncio.Event()
    relay = world.relay(until_idle=None)
    run = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(0.2)
    stop.set()
    tally = await run
    assert relay.end_reason == "stopped"
    assert tally[Fate.PUBLISHED] == 16
    (position,) = (await world.positions()).values()
    assert position.sequence == world.stream.written[-1].sequence_number
    assert elapsed() < 3


@simulated()
async def test_a_stop_takes_no_longer_than_the_grace_time_and_sends_nothing_after_it(
    world: World,
) -> None:
    world.bus.faults.latency = (60.0, 60.0)
    world.fill([f"k{n}" for n in range(500)])
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None, grace=5.0))
    await asyncio.sleep(10)
    stop.set()
    stopped_at = elapsed()
    tally = await run
    assert elapsed() - stopped_at == pytest.approx(5.0, abs=0.1)
    assert tally[Fate.PUBLISHED] == 0
    calls = len(world.bus.faults.calls)
    assert all(call.at - clock.EPOCH < stopped_at + 5.0 for call in world.bus.faults.calls)
    await asyncio.sleep(300)
    assert len(world.bus.faults.calls) == calls
    assert world.bus.delivered == []
    assert any("500 events were not acknowledged" in trouble for trouble in world.log.troubles)
    assert len(asyncio.all_tasks()) == 1


@simulated()
async def test_what_was_not_acknowledged_at_the_stop_is_sent_again_by_the_next_run(
    world: World,
) -> None:
    world.fill("abc", 3)
    held = world.written_by_key()[b'{"id":{"S":"b"}}']
    world.bus.fail_entries("InternalFailure", lambda item: item.change.sequence_number == held[1])
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None))
    await asyncio.sleep(30)
    stop.set()
    await run
    (position,) = (await world.positions()).values()
    numbers = [record.sequence_number for record in world.stream.written]
    assert position.sequence == numbers[numbers.index(held[1]) - 1]
    world.bus.recover()
    await world.run()
    assert world.bus.by_key() == world.written_by_key()


@simulated()
async def test_a_stop_before_the_start_reads_nothing(world: World) -> None:
    world.fill("a")
    stop = asyncio.Event()
    stop.set()
    await world.run(stop=stop)
    assert world.bus.delivered == []


# Failures that end a run


@simulated("a b")
async def test_a_refusal_of_the_bus_ends_the_run_and_keeps_what_was_settled(
    world: World,
) -> None:
    world.fill([f"k{n}" for n in range(50)])
    world.bus.faults.latency = (0.01, 2.0)
    real = world.bus.send

    async def refusing(items: list) -> object:
        if len(world.bus.faults.calls) == 3:
            world.bus.fail_next("AccessDeniedException")
        return await real(items)

    world.bus.send = refusing  # type: ignore[method-assign,assignment]
    with pytest.raises(AwsRefused) as refused:
        await world.run()
    assert refused.value.exit_code == 5
    published = set(world.log.settled(Fate.PUBLISHED))
    assert published == world.bus.sequences()
    assert 0 < len(published) < 50
    assert_no_checkpoint_past(world, await world.positions(), published)
    calls = len(world.bus.faults.calls)
    await asyncio.sleep(300)
    assert len(world.bus.faults.calls) == calls
    await world.run()
    assert world.bus.by_key() == world.written_by_key()


@simulated()
async def test_a_refusal_of_the_stream_ends_the_run_in_seconds(world: World) -> None:
    world.fill("a")
    world.source.faults.fail_next("GetShardIterator", "AccessDeniedException")
    with pytest.raises(AwsRefused):
        await world.run(until_idle=None)
    assert elapsed() < 1


class FailingStore:
    """A `Store` whose disk is full for one kind of call."""

    def __init__(self, inner: Store, operation: str, good_calls: int = 0) -> None:
        self._inner, self._operation, self._good = inner, operation, good_calls

    def _check(self, operation: str) -> None:
        if operation == self._operation:
            if not self._good:
                raise StateError("the state file cannot be used: disk full")
            self._good -= 1

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[object]]:
        async def call(*arguments: object) -> object:
            self._check(operation)
            return await getattr(self._inner, operation)(*arguments)

        return call


@pytest.mark.parametrize("operation", ["claim", "load", "begin", "parked_keys"])
def test_a_store_that_fails_at_the_start_ends_the_run_before_anything_is_sent(
    operation: str,
) -> None:
    async def scene(world: World) -> None:
        world.fill("a")
        world.store = FailingStore(world.store, operation)
        with pytest.raises(StateError, match="disk full"):
            await world.run()
        assert world.bus.faults.calls == []

    simulate(scene)


@simulated()
async def test_a_checkpoint_that_cannot_be_saved_ends_the_run_and_nothing_more_is_settled(
    world: World,
) -> None:
    good = world.store
    world.store = FailingStore(good, "save", good_calls=2)
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None, checkpoint_interval=1.0))
    for n in range(30):
        world.fill([f"k{n}"])
        await asyncio.sleep(1)
        if run.done():
            break
    with pytest.raises(StateError, match="disk full"):
        await run
    assert elapsed() < 10
    settled = len(world.log.outcomes)
    await asyncio.sleep(60)
    assert len(world.log.outcomes) == settled
    assert_no_checkpoint_past(world, await good.load(), world.bus.sequences())
    world.store = good
    await world.run()
    assert world.bus.by_key() == world.written_by_key()


@simulated()
async def test_a_dead_letter_that_cannot_be_kept_ends_the_run_and_its_record_stays_unsettled(
    world: World,
) -> None:
    good = world.store
    world.store = FailingStore(good, "park")
    world.fill("abc")
    world.bus.fail_entries("MalformedDetail", lambda i: i.key == b'{"id":{"S":"b"}}')
    with pytest.raises(StateError, match="disk full"):
        await world.run()
    (position,) = (await good.load()).values()
    assert position.sequence in {None, world.stream.written[0].sequence_number}
    world.store = good
    world.bus.recover()
    await world.run()
    assert world.bus.by_key() == world.written_by_key()


class SlowStore(SqliteStore):
    """Takes a second for each save, as one on a network may."""

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        kept, counted = list(positions), list(accounts)
        await asyncio.sleep(1.0)
        await super().save(kept, counted, usage)


@simulated()
async def test_a_stop_in_the_middle_of_a_save_neither_forgets_nor_repeats_what_it_counts(
    world: World,
) -> None:
    world.store = SlowStore(world.database, "default", world.stream.arn, clock.now)
    world.fill("abcde")
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None))
    await asyncio.sleep(0.5)
    stop.set()
    await run
    (shard,) = of_consumer(world.database, "default", world.stream.arn).values()
    assert shard.count(Fate.PUBLISHED) == 5
    assert [block.count for block in shard.blocks] == [5]


@simulated()
async def test_a_clock_that_is_set_back_or_ahead_holds_nobody_up(world: World) -> None:
    offset = 0.0
    relay = world.relay(until_idle=None)
    relay._now = lambda: clock.now() + offset
    stop = asyncio.Event()
    run = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(5)
    for jump in (-3600.0, 7200.0, -30 * 3600.0, 60 * 3600.0):
        offset += jump
        written = world.fill([f"k{jump}"])
        await asyncio.sleep(20)
        assert set(written) <= world.bus.sequences()
    stop.set()
    await run
    assert world.log.gaps == []


# Crashes


def assert_no_checkpoint_past(
    world: World, positions: dict[str, Position], settled: set[str]
) -> None:
    """Every record up to a stored position is settled, and every record of a finished shard."""
    for position in positions.values():
        shard = world.stream.history[position.shard_id]
        reached = 0 if position.sequence is None else int(position.sequence)
        for number, record in zip(shard.sequences, shard.records, strict=True):
            if position.finished or number <= reached:
                assert record.sequence_number in settled, position


class AuditedStore(SqliteStore):
    """Checks every checkpoint against what the bus and the dead letters have."""

    def __init__(self, world: World) -> None:
        super().__init__(world.database, "default", world.stream.arn, clock.now)
        self._world = world
        self.parked: set[str] = set()

    def _audit(self, positions: Iterable[Position]) -> list[Position]:
        kept = list(positions)
        settled = self._world.bus.sequences() | self.parked
        assert_no_checkpoint_past(self._world, {p.shard_id: p for p in kept}, settled)
        return kept

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        await super().begin(self._audit(positions), accounts)

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        # As slow as a store on a network, so that saves and settling interleave.
        kept = self._audit(positions)
        await asyncio.sleep(self._world.rng.uniform(0.0, 0.05))
        await super().save(kept, accounts, usage)

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        kept = list(letters)
        await asyncio.sleep(self._world.rng.uniform(0.0, 0.05))
        returned = await super().park(kept)
        self.parked |= {letter.sequence for letter in kept if letter not in returned}
        return returned


def open_shards(world: World) -> list[str]:
    return [s.id for s in world.stream.shards.values() if s.closed_at is None]


async def write(world: World) -> None:
    """Two minutes of writes, splits and roll-overs."""
    rng = world.rng
    keys = [f"k{n}" for n in range(rng.randint(1, 12))]
    for turn in range(rng.randint(5, 25)):
        for _ in range(rng.randint(1, 6)):
            world.stream.put(rng.choice(keys), turn=turn, n=rng.random().hex())
        dice = rng.random()
        if dice < 0.08:
            world.stream.delete(rng.choice(keys), ttl=rng.random() < 0.5)
        elif dice < 0.2 and len(open_shards(world)) < 5:
            world.stream.split(rng.choice(open_shards(world)), listed_after=rng.uniform(0, 3))
        elif dice < 0.35:
            world.stream.roll(rng.choice(open_shards(world)), looks_open=rng.random() < 0.2)
        await asyncio.sleep(rng.uniform(0.0, 1.0))


async def crashing_relay(world: World) -> None:
    """Runs that die at a random call each, until one gets through; then all must be there."""
    rng = world.rng
    rates = Rates(0.03, 0.02, 0.02, 0.02, 0.05, entry_throttled=0.03, entry_failed=0.02)
    world.source.faults.rates = world.bus.faults.rates = rates
    world.bus.faults.latency = (0.001, rng.choice([0.01, 0.5]))
    poison = re.compile(rb"k7" if rng.random() < 0.3 else rb"$^")
    world.bus.fail_entries("MalformedDetail", lambda item: bool(poison.search(item.key)))
    store = AuditedStore(world)
    world.store = store
    writer = asyncio.create_task(write(world))
    for _ in range(rng.randint(1, 5)):
        process = Process(dies_at=rng.randint(1, 150), after_effect=rng.random() < 0.5)
        try:
            await world.run(process=process, grace=rng.choice([0.0, 1.0]), checkpoint_interval=0.5)
        except Killed:
            await asyncio.sleep(rng.uniform(0, 5))
    await writer
    world.bus.faults.rates = world.source.faults.rates = Rates()
    # Longer than the pause between two listings: a child may still be listed late.
    await world.run(until_idle=35.0)

    assert world.bus.violations == []
    assert world.log.gaps == []
    written = world.written_by_key()
    published = world.bus.by_key()
    for key, numbers in written.items():
        if poison.search(key):
            assert store.parked >= set(numbers) - world.bus.sequences()
        else:
            assert published[key] == numbers
    assert_no_checkpoint_past(world, await world.positions(), world.bus.sequences() | store.parked)


SEEDS, SHARE = 240, 20


@pytest.mark.parametrize("first", mostly_slow(range(0, SEEDS, SHARE)))
def test_after_crashes_at_random_points_everything_was_published_in_order(first: int) -> None:
    for seed in range(first, first + SHARE):
        tree = random.Random(seed).choice(["a", "a b", "a -> b c"])
        try:
            simulate(crashing_relay, tree, seed, extra_last_page=seed % 2 == 0)
        except (AssertionError, DdbrelayError, RuntimeError, TimeoutError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error
