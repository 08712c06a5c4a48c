"""The walk that holds the ledger against its stream, on the simulated one, and what it reads."""

from __future__ import annotations

import asyncio
from contextlib import closing, suppress

import pytest

from ddbrelay.errors import AwsRefused, StateError
from ddbrelay.flow.capture import Gap, Position, Start
from ddbrelay.flow.tracking import Account, Block, DeadLetter, Fate, Line
from ddbrelay.flow.tracking.reconciliation import Books, Verdict
from ddbrelay.relay.audit import Audit, Report
from ddbrelay.stores.database import Database
from ddbrelay.stores.ledger import EARLIER, ShardLedger, consumers, of_consumer, snapshot
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing import clock
from ddbrelay.testing.clock import EPOCH
from ddbrelay.testing.faults import Rates
from ddbrelay.testing.process import Killed, Process
from ddbrelay.testing.world import World, simulate, simulated

BLOCKS = "SELECT shard_id, last, count, total FROM blocks ORDER BY shard_id, length(first), first"


class Watching:
    """A `Watcher` that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int, int]] = []
        self.troubles: list[str] = []

    def progress(self, done: int, shards: int, records: int) -> None:
        self.told.append((done, shards, records))

    def trouble(self, message: str) -> None:
        self.troubles.append(message)


def kept_books(world: World) -> dict[str, Books]:
    kept = snapshot(world.database, "default", world.stream.arn)
    return {
        shard_id: Books(
            kept.positions.get(shard_id),
            kept.ledgers[shard_id].blocks if shard_id in kept.ledgers else (),
            kept.ledgers[shard_id].gaps if shard_id in kept.ledgers else (),
        )
        for shard_id in (kept.positions.keys() | kept.ledgers.keys()) - {EARLIER}
    }


async def verified(
    world: World, watching: Watching | None = None, books: dict[str, Books] | None = None
) -> Report:
    watcher = watching or Watching()
    held = kept_books(world) if books is None else books
    audit = Audit(world.source, world.stream.arn, held, watcher, now=clock.now, rng=world.rng)
    return await audit.run()


def found(report: Report) -> list[tuple[Verdict, str, int, str, str]]:
    return [(x.verdict, x.shard_id, x.count, x.first, x.last) for x in report.findings]


def tamper(world: World, statement: str, *values: object) -> None:
    with world.database.transaction() as cursor:
        cursor.execute(statement, values)
        assert cursor.rowcount == 1


def first_block(world: World) -> tuple[str, str, int, int]:
    with world.database.reading() as cursor:
        shard_id, last, count, total = cursor.execute(BLOCKS).fetchone()
    return shard_id, last, count, int(total)


def leave_out(world: World, shard_id: str, last: str, number: int) -> None:
    """Let a block not have counted one of its records."""
    with world.database.reading() as cursor:
        (total,) = cursor.execute("SELECT total FROM blocks WHERE last = ?", (last,)).fetchone()
    tamper(
        world,
        "UPDATE blocks SET count = count - 1, total = ? WHERE shard_id = ? AND last = ?",
        str(int(total) - number),
        shard_id,
        last,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_after_splits_crashes_and_restarts_every_record_is_accounted_for(seed: int) -> None:
    async def scene(world: World) -> None:
        rng = world.rng
        world.bus.faults.rates = Rates(throttled=0.02, lost_after=0.02, entry_failed=0.03)
        world.source.faults.rates = Rates(throttled=0.05, internal=0.02, lost_before=0.02)
        for _ in range(12):
            world.fill([f"k{n}" for n in range(40)], 2)
            open_shards = [s for s in world.stream.shards.values() if s.closed_at is None]
            grow = rng.choice([world.stream.split, world.stream.roll, lambda shard_id: None])
            grow(rng.choice(open_shards).id)
            with suppress(Killed):
                await world.run(process=Process(dies_at=rng.randint(1, 120)), until_idle=3.0)
            await asyncio.sleep(rng.uniform(0, 600))
        await world.run(until_idle=60.0)
        report = await verified(world)
        assert report.findings == []
        assert report.accounted == report.verified == len(world.stream.written)
        assert (report.waiting, report.before, report.gone) == (0, 0, 0)
        assert report.since == EPOCH
        # A ledger that did not count one of them cannot hide it.
        victims = [
            (shard_id, record.sequence_number)
            for shard_id, shard in world.stream.shards.items()
            for record in shard.records[1:-1]
        ]
        shard_id, victim = rng.choice(victims)
        ledger = of_consumer(world.database, "default", world.stream.arn)[shard_id]
        (block,) = [x for x in ledger.blocks if int(x.first) <= int(victim) <= int(x.last)]
        leave_out(world, shard_id, block.last, int(victim))
        report = await verified(world)
        assert found(report) == [(Verdict.UNACCOUNTED, shard_id, 1, victim, victim)]
        (one,) = [r for r in world.stream.written if r.sequence_number == victim]
        assert report.findings[0].event_id == one.event_id

    simulate(scene, seed=seed)


@simulated("a")
async def test_what_is_not_read_yet_is_counted_and_no_fault(world: World) -> None:
    world.fill("abc", 10)
    await world.run()
    world.fill("de", 10)
    world.stream.roll("a")
    world.fill("fg", 10)
    report = await verified(world)
    assert (report.accounted, report.waiting, report.findings) == (30, 40, [])


@simulated("a")
async def test_a_relay_that_goes_on_meanwhile_is_no_fault(world: World) -> None:
    world.fill("abc", 400)
    stop = asyncio.Event()
    relay = asyncio.create_task(world.run(stop=stop, until_idle=None))
    writing = asyncio.create_task(_write(world, stop, rolls=0.02))
    await asyncio.sleep(2)
    for _ in range(5):
        began = len(world.stream.written)
        report = await asyncio.wait_for(verified(world), 60)
        assert report.findings == []
        assert report.seen >= 1200
        assert report.verified <= began
        await asyncio.sleep(1)
    stop.set()
    await relay
    await writing


@simulated("a")
async def test_a_shard_that_is_always_written_to_is_read_to_where_it_was(world: World) -> None:
    world.fill("abc")
    stop = asyncio.Event()
    writing = asyncio.create_task(_write(world, stop))
    await asyncio.sleep(10)
    written = len(world.stream.written)
    report = await asyncio.wait_for(verified(world), 10)
    assert written <= report.waiting == report.seen
    stop.set()
    await writing


async def _write(world: World, stop: asyncio.Event, rolls: float = 0.0) -> None:
    while not stop.is_set():
        world.fill("xyz", 2)
        if world.rng.random() < rolls:
            shard = next(s for s in world.stream.shards.values() if s.closed_at is None)
            world.stream.roll(shard.id)
        await asyncio.sleep(0.1)


@simulated("a")
async def test_a_record_that_was_counted_twice_is_named(world: World) -> None:
    numbers = world.fill("abc", 10)
    await world.run()
    shard_id, last, count, total = first_block(world)
    tamper(
        world,
        "UPDATE blocks SET count = ?, total = ? WHERE shard_id = ? AND last = ?",
        count + 1,
        str(total + int(numbers[7])),
        shard_id,
        last,
    )
    report = await verified(world)
    assert found(report) == [(Verdict.MISCOUNTED, "a", 1, numbers[7], numbers[7])]


@simulated("a")
async def test_a_block_that_is_gone_from_the_ledger_leaves_its_range_unaccounted_for(
    world: World,
) -> None:
    world.fill("a")
    await world.run()
    numbers = world.fill("bc", 5)
    await world.run()
    world.fill("d")
    await world.run()
    tamper(world, "UPDATE blocks SET last = first, count = 1, total = first")
    report = await verified(world)
    assert [one[:3] for one in found(report)] == [(Verdict.UNACCOUNTED, "a", 11)]
    assert report.findings[0].first == numbers[0]


@simulated("a b")
async def test_a_finished_shard_must_have_been_read_to_its_end(world: World) -> None:
    world.fill("x", 5, shard="a")
    world.stream.close("a")
    await world.run()
    (late,) = world.fill("y", shard="a")
    report = await verified(world)
    assert found(report) == [(Verdict.UNACCOUNTED, "a", 1, late, late)]


@simulated("a")
async def test_a_start_at_latest_leaves_what_came_before_out_of_the_account(world: World) -> None:
    world.fill("abc", 10)
    await asyncio.sleep(60)
    stop = asyncio.Event()
    relay = asyncio.create_task(world.run(stop=stop, until_idle=None, start=Start.LATEST))
    await asyncio.sleep(5)
    world.fill("de", 10)
    await asyncio.sleep(5)
    stop.set()
    await relay
    report = await verified(world)
    assert (report.before, report.accounted, report.findings) == (30, 20, [])


@simulated("a")
async def test_what_is_trimmed_is_neither_verified_nor_missing(world: World) -> None:
    for _ in range(4):
        world.fill("abc", 100)
        await world.run()
    world.stream.trim("a", 500)
    report = await verified(world)
    assert (report.accounted, report.findings) == (700, [])
    world.stream.trim("a")
    report = await asyncio.wait_for(verified(world), 60)
    assert (report.verified, report.findings) == (0, [])


@simulated("a b")
async def test_what_is_trimmed_while_the_walk_goes_on_is_not_taken_for_missing(
    world: World,
) -> None:
    for turn in range(3):
        numbers = world.fill([f"k{turn}-{n}" for n in range(2000)], shard="a")
        await world.run()
    second = f"|a|{int(world.stream.shards['a'].records[999].sequence_number) + 1}|"
    world.source.faults.before_next(
        "GetRecords", lambda: world.stream.trim("a", 4500), lambda call: second in call["iterator"]
    )
    report = await verified(world)
    assert (report.accounted, report.findings) == (1000 + 1500, [])
    assert report.since is not None
    tamper(world, "UPDATE blocks SET count = 10 WHERE last = ?", numbers[-1])
    assert [one[:3] for one in found(await verified(world))] == [(Verdict.UNACCOUNTED, "a", 1491)]


@simulated("a -> b", limits=None)
async def test_a_shard_that_goes_away_under_the_walk_is_not_taken_for_missing(
    world: World,
) -> None:
    world.fill([f"k{n}" for n in range(1500)], shard="a")
    world.fill("xyz", shard="b")
    await world.run()
    world.source.faults.before_next(
        "GetRecords", lambda: world.stream.remove("a"), when=lambda call: "|a|" in call["iterator"]
    )
    report = await verified(world)
    assert (report.findings, report.accounted) == ([], 3)


@pytest.mark.parametrize("reached", [True, False])
def test_an_open_shard_without_next_iterators_is_walked_for_a_while_only(reached: bool) -> None:
    @simulated("a")
    async def scene(world: World) -> None:
        world.fill("xyz", 3)
        await world.run()
        if not reached:
            shard_id, last, *_ = first_block(world)
            tamper(
                world,
                "UPDATE blocks SET last = ? WHERE shard_id = ? AND last = ?",
                f"9{last}",
                shard_id,
                last,
            )
        world.source.faults.rates = Rates(no_next=1.0)
        asked = len(world.source.faults.calls_of("GetRecords"))
        async with asyncio.timeout(60):
            report = await verified(world)
        assert report.seen == 9
        asked = len(world.source.faults.calls_of("GetRecords")) - asked
        assert asked == (4 if reached else 101)

    scene()


@simulated("a")
async def test_throttles_expired_iterators_and_empty_pages_are_passed(world: World) -> None:
    world.fill([f"k{n}" for n in range(3000)])
    await world.run()
    world.stream.shards["a"].empty_pages = 40
    faults, watching = world.source.faults, Watching()
    faults.fail_next("DescribeStream", "ThrottlingException", 4)
    faults.fail_next("GetShardIterator", "InternalServerError", 2)
    faults.fail_next("GetRecords", "ExpiredIteratorException", 1)
    faults.fail_next("GetRecords", "LimitExceededException", 4)
    report = await verified(world, watching)
    assert (report.accounted, report.findings) == (3000, [])
    assert [text.split(",")[0] for text in watching.troubles] == [
        "cannot list the shards",
        "cannot read shard a",
        "cannot read shard a",
    ]
    assert watching.told[-1] == (1, 1, 3000)


@pytest.mark.slow
@simulated(" ".join(f"s{n}" for n in range(250)))
async def test_all_pages_of_the_listing_are_walked_and_eight_shards_at_a_time(
    world: World,
) -> None:
    for shard in world.stream.shards:
        world.stream.put(f"key-{shard}", shard)
    await world.run()
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, world.source.faults.open_calls["GetRecords"])
            await asyncio.sleep(0.001)

    watcher = asyncio.create_task(watch())
    report = await verified(world)
    watcher.cancel()
    assert (report.accounted, report.shards) == (250, 250)
    assert 4 <= most <= 8


@simulated("a")
async def test_an_endpoint_that_never_answers_ends_the_walk(world: World) -> None:
    world.fill("a")
    world.source.faults.fail_next("GetRecords", "InternalServerError", 1000)
    with pytest.raises(AwsRefused, match="cannot read shard a"):
        await verified(world)
    world.source.faults.recover()
    world.source.faults.fail_next("DescribeStream", "ThrottlingException", 1000)
    with pytest.raises(AwsRefused, match="cannot list the shards"):
        await verified(world)


@simulated("a")
async def test_a_stream_that_is_gone_cannot_be_verified(world: World) -> None:
    world.fill("a")
    await world.run()
    world.source.faults.fail_next("DescribeStream", "ResourceNotFoundException")
    with pytest.raises(AwsRefused, match="no longer exists"):
        await verified(world)


@simulated("a")
async def test_a_gap_is_reported_and_the_rest_is_accounted_for(world: World) -> None:
    world.fill("abc")
    await world.run()
    world.fill("def")
    await asyncio.sleep(20 * 60)
    world.stream.trim("a", 5)
    await world.run()
    report = await verified(world)
    assert (report.accounted, report.findings) == (1, [])


# What the store keeps


@simulated("a -> b")
async def test_a_shard_whose_position_was_taken_away_is_counted_anew(world: World) -> None:
    """As when a bookmark from before a split becomes the checkpoint: both shards are read again."""
    world.fill("xy", 3, shard="a")
    await world.run(max_records=4)
    earlier = (await world.positions())["a"]
    world.fill("z", 8, shard="b")
    await world.run(max_records=5)
    assert isinstance(world.store, SqliteStore)
    await world.store.replace([earlier])
    await world.run(max_records=6)
    await world.run()
    report = await verified(world)
    assert (report.before, report.accounted, report.findings) == (4, 10, [])


def test_the_counts_of_shards_long_gone_keep_the_whole_time_that_they_cover() -> None:
    with closing(Database(":memory:")) as database:
        now = [EPOCH]
        store = SqliteStore(database, "default", "arn", lambda: now[0])

        async def live(shard_id: str, at: float | None) -> None:
            lines = [Line(Fate.PUBLISHED, "", 1, "1", "1", at, at)]
            await store.save([Position(shard_id)], [Account(shard_id, lines)])
            await store.forget([shard_id])
            now[0] += 8 * clock.DAY
            await store.forget(["none"])

        for shard_id, at in (("a", None), ("b", 500.0), ("c", 100.0), ("d", 900.0)):
            asyncio.run(live(shard_id, at))
        (kept,) = of_consumer(database, "default", "arn").values()
        assert kept == ShardLedger(
            EARLIER, [Line(Fate.PUBLISHED, "", 4, "", "", 100.0, 900.0)], [], []
        )


def test_a_consumer_with_a_ledger_only_is_known() -> None:
    with closing(Database(":memory:")) as database:
        now = [EPOCH]
        store = SqliteStore(database, "default", "arn", lambda: now[0])
        gap = Gap("a", None, "gone")
        asyncio.run(store.save([Position("a")], [Account("a", gaps=[gap])]))
        asyncio.run(store.forget(["a"]))
        assert [(one.name, one.stream_arn) for one in consumers(database)] == [("default", "arn")]
        kept = snapshot(database, "default", "arn")
        assert (kept.positions, kept.ledgers) == ({}, {"a": ShardLedger("a", gaps=[gap])})


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE ledger SET fate = 'vanished'",
        "UPDATE blocks SET total = 'x'",
        "UPDATE blocks SET first = 'x'",
        "UPDATE positions SET position = '{'",
    ],
)
def test_a_damaged_ledger_is_one_clear_line(damage: str) -> None:
    with closing(Database(":memory:")) as database:
        store = SqliteStore(database, "default", "arn", lambda: EPOCH)
        account = Account(
            "a", [Line(Fate.PUBLISHED, "", 1, "1", "1")], [Block(None, "1", "1", 1, 1)]
        )
        asyncio.run(store.save([Position("a", sequence="1")], [account]))
        with database.transaction() as cursor:
            cursor.execute(damage)
        with pytest.raises(StateError, match="is damaged"):
            snapshot(database, "default", "arn")


def test_parked_records_are_held_against_the_dead_letters_that_are_kept() -> None:
    with closing(Database(":memory:")) as database:
        store = SqliteStore(database, "default", "arn", lambda: EPOCH)
        parked = [Line(Fate.PARKED, "", 2, "1", "2")]
        positions = [Position(s, sequence="5") for s in "abc"]
        accounts = [Account("a", parked), Account("b", parked), Account(EARLIER, parked)]
        asyncio.run(store.save(positions, accounts))
        letters = [("a", "1"), ("a", "2"), ("a", "9"), ("b", "1"), ("z", "1"), ("z", "2")]
        asyncio.run(
            store.park(DeadLetter(s, n, b"k", "bad", b"{}", None, 1, EPOCH) for s, n in letters)
        )
        assert snapshot(database, "default", "arn").parked_and_kept() == {"b": (2, 1)}
