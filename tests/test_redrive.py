"""Sending dead letters again, beside a relay that runs: simulated, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from scenes import mostly_slow

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Position, Record
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Event, Mapped, Reject, Skip
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules
from ddbrelay.flow.packing import MAX_BYTES, MAX_ENTRIES, Item
from ddbrelay.flow.tracking import DeadLetter, Fate, events_of
from ddbrelay.relay.letters import NO_EVENT, Preparation, Result
from ddbrelay.relay.redrive import Plan, Redrive, Summary
from ddbrelay.stores import parking
from ddbrelay.stores.ledger import snapshot
from ddbrelay.stores.letters import ItemOf, Letters
from ddbrelay.stores.parking import How
from ddbrelay.testing import clock
from ddbrelay.testing.builders import ORIGIN, several
from ddbrelay.testing.builders import change as changed
from ddbrelay.testing.faults import LOST_AFTER
from ddbrelay.testing.process import Killed, Process
from ddbrelay.testing.world import World, simulate, simulated


@dataclass
class Seen:
    """A `Watcher` that keeps what it is told."""

    results: list[Result] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def result(self, result: Result) -> None:
        self.results.append(result)

    def trouble(self, message: str) -> None:
        self.troubles.append(message)

    def kept(self) -> list[str]:
        return [one.reason or "" for one in self.results if one.how is None]


def letters_of(world: World) -> Letters:
    return Letters(world.database, "default", [world.stream.arn], clock.now)


async def redrive(
    world: World,
    seen: Seen | None = None,
    *,
    stop: asyncio.Event | None = None,
    process: Process | None = None,
    preparation: dict[str, Any] | None = None,
    **plan: Any,
) -> Summary:
    letters = letters_of(world)
    items = letters.items()
    run = Redrive(
        letters,
        Preparation(world.stream.table, **preparation or {}),
        (process or Process()).sink(world.bus),
        Plan(**plan),
        seen or Seen(),
        rng=world.rng,
    )
    return await run.run(items, stop or asyncio.Event())


def parked(world: World) -> dict[bytes, list[str]]:
    """The sequence numbers of the letters of each item in their order."""
    return {
        queue.head.item_key: [one.sequence for one in queue.letters]
        for queue in letters_of(world).queues()
    }


def put(world: World, keys: Iterable[str]) -> None:
    """Write each item, with something that it did not have before."""
    for key in keys:
        world.stream.put(key, again=len(world.stream.written))


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came true")


def of_keys(*keys: str) -> Callable[[Item], bool]:
    return lambda item: item.change.keys["id"] in keys


async def poisoned(world: World, times: int = 5) -> None:
    """A relay that parked all of a and b, with a head of its own, and published the rest."""
    world.bus.fail_entries("MalformedDetail", of_keys("a", "b"))
    world.fill("abcd", times)
    await world.run()
    world.bus.recover()
    assert {len(numbers) for numbers in parked(world).values()} == {times}


def assert_whole(world: World, *, repeats: bool = False) -> None:
    """Everything was delivered in the order of each item, and the books are even."""
    assert world.bus.by_key(repeats=not repeats) == world.written_by_key()
    assert world.bus.violations == []
    assert parked(world) == {}
    assert snapshot(world.database, "default", world.stream.arn).parked_and_kept() == {}


# Sending


@simulated()
async def test_what_is_mapped_again_and_refused_is_kept_without_what_is_redacted_now(
    world: World,
) -> None:
    world.bus.fail_entries("MalformedDetail")
    world.stream.put("a", card="4111-1111")
    await world.run()
    look = "SELECT record, event FROM dead_letters"
    with world.database.reading() as cursor:
        ((record, _),) = cursor.execute(look).fetchall()
    assert b"4111-1111" in record
    defaults, crud = Defaults("users", redact=("card",)), CrudMapper("users")
    rules = compile_rules([{"name": "pay", "detail_type": "Paid"}], defaults, crud)
    again = {"mapper": RuleMapper(rules, defaults), "redact": [("card",)]}
    assert (await redrive(world, preparation=again, max_attempts=1)).failed == 1
    with world.database.reading() as cursor:
        ((record, stored),) = cursor.execute(look).fetchall()
    [event] = events_of(stored)
    assert event is not None
    assert b"4111-1111" not in record + event.detail
    assert event.detail_type == "Paid"
    world.bus.recover()
    await redrive(world)
    [sent] = world.bus.delivered
    assert b"4111-1111" not in sent.event.detail


@simulated()
async def test_all_letters_of_an_item_are_sent_in_order_and_items_side_by_side(
    world: World,
) -> None:
    await poisoned(world)
    seen = Seen()
    assert await redrive(world, seen) == Summary(redriven=10)
    assert_whole(world)
    assert world.bus.most_in_flight >= 2
    assert {(one.how, one.attempts) for one in seen.results} == {(How.REDRIVEN, 1)}
    assert all(one.event_ids and one.events and one.change for one in seen.results)


@simulated()
async def test_different_items_share_requests(world: World) -> None:
    keys = [f"k{n}" for n in range(200)]
    world.bus.fail_entries("MalformedDetail")
    world.fill(keys)
    await world.run()
    world.bus.recover()
    before = len(world.bus.faults.calls_of("PutEvents"))
    assert (await redrive(world)).redriven == 200
    assert len(world.bus.faults.calls_of("PutEvents")) - before == 20
    assert_whole(world)


@simulated("z -> b -> a")
async def test_the_order_of_an_item_goes_through_its_shards(world: World) -> None:
    world.bus.fail_entries("MalformedDetail")
    for shard in "zba":
        world.fill("x", 3, shard)
    await world.run()
    world.bus.recover()
    assert (await redrive(world)).redriven == 9
    assert_whole(world)


def letter(shard: str, sequence: str, *, behind: bool = True, at: float = 100.0) -> DeadLetter:
    return DeadLetter(shard, sequence, b"k", "bad", b"{}", None, 1, at, behind)


@simulated()
async def test_numbers_of_different_lengths_and_a_clock_set_back_keep_the_order(
    world: World,
) -> None:
    placed = [("z", "999"), ("z", "1000"), ("z", "10000"), ("a", "0099"), ("a", "100"), ("m", "5")]
    await world.store.park([letter("z", "999", behind=False, at=5000.0)])
    for shard, sequence in placed[1:]:
        await world.store.park([letter(shard, sequence)])
    # A record that is read again keeps its place.
    await world.store.park([letter("z", "999", behind=False, at=9000.0)])
    (queue,) = letters_of(world).queues()
    assert [(one.shard_id, one.sequence) for one in queue.letters] == placed
    assert letters_of(world).of_item(ItemOf(world.stream.arn, b"k")) == list(queue.letters)


@simulated()
async def test_what_fails_again_stays_with_its_new_reason_and_holds_its_item(world: World) -> None:
    await poisoned(world)
    third = parked(world)[KEY_A][2]
    world.bus.fail_entries("InvalidArgument", lambda item: item.change.sequence_number == third)
    seen = Seen()
    assert await redrive(world, seen) == Summary(redriven=7, failed=1)
    assert {key: len(numbers) for key, numbers in parked(world).items()} == {KEY_A: 3}
    (queue,) = letters_of(world).queues()
    assert (queue.head.sequence, queue.head.attempts, queue.head.behind) == (third, 1, False)
    assert queue.head.reason == "InvalidArgument: simulated"
    assert seen.kept() == ["InvalidArgument: simulated"]
    await redrive(world)
    assert letters_of(world).of_item(ItemOf(world.stream.arn, KEY_A))[0].attempts == 2
    world.bus.recover()
    await redrive(world)
    assert_whole(world)


@simulated()
async def test_what_the_bus_may_take_later_is_tried_so_often_and_not_for_ever(world: World) -> None:
    await poisoned(world)
    world.bus.fail_entries("ThrottlingException", of_keys("a"), times=2)
    assert (await redrive(world, max_attempts=3)).failed == 0
    assert_whole(world)


@simulated()
async def test_a_letter_whose_event_has_an_unknown_code_stays_with_what_aws_said(
    world: World,
) -> None:
    await poisoned(world)
    world.bus.fail_entries("FromTheFuture", of_keys("a"))
    assert (await redrive(world, max_attempts=2)).failed == 1
    (queue,) = letters_of(world).queues()
    assert queue.head.reason == "FromTheFuture: simulated"


@simulated()
async def test_a_letter_that_is_throttled_every_time_stays(world: World) -> None:
    await poisoned(world)
    world.bus.fail_entries("ThrottlingException", of_keys("a"))
    began = clock.now()
    assert await redrive(world, max_attempts=4) == Summary(redriven=5, failed=1)
    assert 0 < clock.now() - began < 10
    (queue,) = letters_of(world).queues()
    assert (queue.head.reason, queue.head.attempts) == ("ThrottlingException: simulated", 5)
    assert len(queue.letters) == 5


@simulated()
async def test_a_lost_answer_is_sent_again_and_swaps_nothing(world: World) -> None:
    await poisoned(world)
    world.bus.fail_next(LOST_AFTER, 2)
    await redrive(world)
    assert_whole(world, repeats=True)
    assert len(world.bus.delivered) > len(world.bus.sequences())


@simulated()
async def test_no_bus_ends_it_and_everything_stays(world: World) -> None:
    await poisoned(world)
    before = parked(world)
    world.bus.missing = True
    with pytest.raises(AwsRefused, match="does not exist"):
        await redrive(world)
    assert parked(world) == before
    world.bus.missing = False
    await redrive(world)
    assert_whole(world)


@simulated()
async def test_a_refusal_in_the_middle_keeps_what_was_accepted_before(world: World) -> None:
    await poisoned(world)
    world.bus.faults.before_next("PutEvents", lambda: world.bus.fail_next("AccessDeniedException"))
    with pytest.raises(AwsRefused):
        await redrive(world)
    left = sum(map(len, parked(world).values()))
    assert 0 < left < 10
    await redrive(world)
    assert_whole(world)


# Ends


@simulated()
async def test_a_stop_finishes_what_is_in_flight_and_begins_nothing_new(world: World) -> None:
    await poisoned(world, 20)
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, stop.set)
    summary = await redrive(world, stop=stop)
    assert summary.end == "stopped"
    assert 0 < summary.redriven < 40
    assert sum(map(len, parked(world).values())) == 40 - summary.redriven
    assert len(world.bus.delivered) == len(world.bus.sequences())
    assert (await redrive(world)).end == "done"
    assert_whole(world)


@simulated()
async def test_a_time_out_leaves_the_rest(world: World) -> None:
    await poisoned(world)
    world.bus.fail_entries("InternalFailure")
    summary = await redrive(world, timeout=30.0, max_attempts=1000)
    assert (summary.end, summary.redriven, summary.failed) == ("timeout", 0, 0)
    assert sum(map(len, parked(world).values())) == 10


@simulated()
async def test_an_empty_store_is_done_at_once(world: World) -> None:
    assert await redrive(world) == Summary()


@pytest.mark.slow
@simulated()
async def test_what_is_held_in_memory_is_bounded(world: World) -> None:
    world.bus.fail_entries("MalformedDetail")
    body = "x" * 390_000
    for number in range(150):
        world.stream.put(f"k{number}", body=body)
    await world.run()
    world.bus.recover()
    letters = letters_of(world)
    most = 0

    class Watching(Preparation):
        def __call__(self, *args: Any) -> Any:
            nonlocal most
            most = max(most, run._held)
            return super().__call__(*args)

    items = letters.items()
    run = Redrive(
        letters, Watching(world.stream.table), world.bus, Plan(), Seen(), random.Random(0)
    )
    assert (await run.run(items, asyncio.Event())).redriven == 150
    assert 16 * 2**20 < most < 34 * 2**20
    assert run._held == run._active == 0
    assert_whole(world)


@simulated()
async def test_sending_begins_with_the_first_request_that_is_full(world: World) -> None:
    world.bus.fail_entries("MalformedDetail")
    world.fill([f"k{number}" for number in range(200)])
    await world.run()
    world.bus.recover()
    prepared = 0
    prepared_before: list[int] = []

    class Counting(Preparation):
        def __call__(self, *args: Any) -> Any:
            nonlocal prepared
            prepared += 1
            return super().__call__(*args)

    class First:
        async def send(self, items: Sequence[Item]) -> Any:
            prepared_before.append(prepared)
            return await world.bus.send(items)

    letters = letters_of(world)
    run = Redrive(letters, Counting(world.stream.table), First(), Plan(), Seen(), world.rng)
    assert (await run.run(letters.items(), asyncio.Event())).redriven == 200
    assert prepared_before[0] <= MAX_ENTRIES + 1


# The mapping


def one_by_one(results: dict[str, Event | Skip | Reject]) -> Callable[[Change], Any]:
    def mapper(change: Change) -> Event | Skip | Reject:
        return results.get(change.keys["id"]) or Event("s", "T", b"{}", (change.event_id,))

    return mapper


@simulated()
async def test_without_remap_a_letter_without_an_event_stays_as_it_is(world: World) -> None:
    world.mapper = one_by_one({"a": Reject("never seen such a thing")})
    world.fill("ab", 3)
    await world.run()
    seen = Seen()
    assert await redrive(world, seen) == Summary(failed=1)
    assert seen.kept() == [NO_EVENT]
    (queue,) = letters_of(world).queues()
    assert (queue.head.reason, queue.head.attempts) == ("never seen such a thing", 0)
    assert len(queue.letters) == 3


@simulated()
async def test_todays_mapping_sends_skips_or_keeps(world: World) -> None:
    world.mapper = one_by_one({key: Reject("old") for key in "abc"})
    world.fill("abcd", 3)
    await world.run()
    seen = Seen()
    today = one_by_one({"b": Skip("noise"), "c": Reject("still bad")})
    summary = await redrive(world, seen, preparation={"mapper": today})
    assert summary == Summary(redriven=3, skipped=3, failed=1)
    assert seen.kept() == ["still bad"]
    assert {one.reason for one in seen.results if one.how is How.SKIPPED} == {"noise"}
    (queue,) = letters_of(world).queues()
    assert (len(queue.letters), queue.head.reason) == (3, "still bad")
    assert snapshot(world.database, "default", world.stream.arn).parked_and_kept() == {}
    everything = await redrive(world, preparation={"mapper": one_by_one({})})
    assert everything.redriven == 3
    assert parked(world) == {}


@simulated()
async def test_an_event_that_is_too_large_stays_or_goes_by_claim_check(world: World) -> None:
    detail = b'{"x":"' + b"y" * MAX_BYTES + b'"}'
    world.mapper = one_by_one({"a": Event("s", "T", detail)})
    world.fill("ab", 2)
    await world.run()
    seen = Seen()
    assert await redrive(world, seen) == Summary(failed=1)
    assert "PutEvents takes less than 1 MB" in seen.kept()[0]
    sent: list[Item] = []

    class Claiming:
        async def send(self, items: Sequence[Item]) -> Any:
            sent.extend(items)
            return await world.bus.send(items)

    letters = letters_of(world)
    preparation = Preparation(world.stream.table, claim_check="s3://bucket/prefix")
    items = letters.items()
    run = Redrive(letters, preparation, Claiming(), Plan(), seen, world.rng)
    assert (await run.run(items, asyncio.Event())).redriven == 2
    assert [item.claim.body for item in sent if item.claim] == [detail, detail]
    assert parked(world) == {}
    assert world.bus.violations == []


@simulated()
async def test_a_letter_that_cannot_be_read_stays_and_holds_up_no_other_item(world: World) -> None:
    await poisoned(world, 1)
    with world.database.transaction() as cursor:
        cursor.execute("UPDATE dead_letters SET event = '{' WHERE item_key = ?", (KEY_A,))
    seen = Seen()
    assert await redrive(world, seen) == Summary(redriven=1, failed=1)
    assert "cannot be read" in seen.kept()[0]


# Beside a relay that runs


KEY_A = b'{"id":{"S":"a"}}'
EVENTS = ("first", "second", "third", "fourth")


@simulated()
async def test_a_running_relay_goes_on_with_the_item_when_its_letters_are_gone(
    world: World,
) -> None:
    stop = asyncio.Event()
    world.bus.fail_entries("MalformedDetail", of_keys("a"), times=1)
    relay = asyncio.create_task(world.run(stop=stop, until_idle=None))
    world.fill("a", 5)
    await asyncio.sleep(10)
    assert len(parked(world)[KEY_A]) == 5
    # Later changes come while the letters are on their way.
    again = asyncio.create_task(redrive(world))
    for _ in range(30):
        put(world, "ab")
        await asyncio.sleep(0.01)
    assert (await again).end == "done"
    put(world, "ababab")
    await asyncio.sleep(10)
    stop.set()
    await relay
    assert_whole(world)
    # What came last did not go through the store.
    assert world.log.outcomes[-1].fate is Fate.PUBLISHED


@simulated()
async def test_a_letter_waits_for_an_earlier_change_of_its_item_that_is_still_in_flight(
    world: World,
) -> None:
    inner = world.mapper
    bad = True

    def mapper(change: Change) -> Event | Skip | Reject:
        second = change.sequence_number == world.stream.written[1].sequence_number
        return Reject("for now") if second and bad else inner(change)

    world.mapper = mapper
    stop = asyncio.Event()
    world.bus.fail_entries("ThrottlingException", of_keys("a"), times=3)
    relay = asyncio.create_task(world.run(stop=stop, until_idle=None))
    world.fill("a", 3)
    await until(lambda: bool(parked(world)))
    bad = False
    assert world.bus.delivered == []
    summary = await redrive(world, preparation={"mapper": mapper})
    await asyncio.sleep(5)
    stop.set()
    await relay
    assert summary.end == "done"
    while parked(world):
        await redrive(world, preparation={"mapper": mapper})
    assert_whole(world)


@simulated()
async def test_letters_that_a_dead_relay_did_not_come_past_wait_for_the_next_run(
    world: World,
) -> None:
    world.mapper = one_by_one({"a": Reject("old")})
    put(world, "baa")
    world.bus.fail_entries("ThrottlingException", of_keys("b"))
    process = Process()
    run = asyncio.create_task(world.run(process=process))
    await until(lambda: bool(parked(world)))
    process.kill()
    with pytest.raises(Killed):
        await run
    today = {"mapper": one_by_one({})}
    seen = Seen()
    assert await redrive(world, seen, preparation=today) == Summary(failed=1)
    assert "may not be settled" in seen.kept()[0]
    world.bus.recover()
    await world.run()
    assert (await redrive(world, preparation=today)).redriven == 2
    assert_whole(world)


def numbered(sequence: str, *, behind: bool) -> DeadLetter:
    """A letter of the item a, in the one shard of the world."""
    change = changed("a", sequence)
    event = CrudMapper("users")(change)
    return DeadLetter(
        "a",
        sequence,
        change.item_key,
        "bad",
        msgspec.json.encode(change.record),
        msgspec.json.encode(event),
        1,
        clock.now(),
        behind,
    )


class Parking(Seen):
    """A relay that parks something as soon as a letter was accepted."""

    def __init__(self, world: World, after: str, *letters: DeadLetter) -> None:
        super().__init__()
        self._world, self._after, self._letters = world, after, letters

    def result(self, result: Result) -> None:
        super().result(result)
        if result.letter.sequence == self._after:
            with self._world.database.transaction() as cursor:
                parking.keep(cursor, ("default", self._world.stream.arn), self._letters)


@simulated()
async def test_what_a_new_run_reads_and_parks_again_is_not_sent_behind_its_successors(
    world: World,
) -> None:
    first, second, third = (numbered(n, behind=n > "10") for n in ("10", "11", "12"))
    await world.store.save([Position("a", sequence="10")])
    await world.store.park([first, second, third])
    # The run begins after the first was sent, so that nothing tells it of it.
    again = Parking(world, "11", numbered("10", behind=True), numbered("11", behind=True))
    assert await redrive(world, again) == Summary(redriven=3)
    assert [one.sequence for one in world.bus.delivered] == ["10", "11", "12"]
    assert parked(world) == {}


@simulated()
async def test_what_is_parked_after_the_item_was_handed_back_waits_for_what_is_before_it(
    world: World,
) -> None:
    await world.store.save([Position("a", sequence="10")])
    await world.store.park([numbered("10", behind=False)])
    # 11 is on its way through the relay when the mapping rejects 12.
    seen = Parking(world, "10", numbered("12", behind=False))
    assert await redrive(world, seen) == Summary(redriven=1, failed=1)
    assert parked(world) == {KEY_A: ["12"]}
    await world.store.save([Position("a", sequence="12")])
    assert await redrive(world) == Summary(redriven=1)


async def write(world: World, keys: str, seconds: float) -> None:
    rng = world.rng
    end = clock.now() + seconds
    while clock.now() < end:
        put(world, rng.choices(keys, k=rng.randint(1, 4)))
        await asyncio.sleep(rng.uniform(0.0, 0.3))


async def kills_and_redrives(world: World) -> None:
    """A relay and redrives, both killed again and again, while a bus refuses now and then."""
    rng = world.rng

    def good(change: Change) -> Mapped:
        names = EVENTS[: change.new["again"] % 5]
        return several(change, *names) if len(names) > 1 else CrudMapper("users")(change)

    def mapper(change: Change) -> Mapped:
        return Reject("a bad number") if change.new["again"] % 9 == 0 else good(change)

    world.mapper, today = mapper, {"mapper": good}
    writer = asyncio.create_task(write(world, "abc", 60.0))
    bad = asyncio.create_task(refuse_now_and_then(world))

    async def relays() -> None:
        while not writer.done():
            process = Process(rng.choice([None, rng.randint(5, 300)]), rng.random() < 0.5)
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(rng.uniform(2.0, 15.0), stop.set)
            try:
                await world.run(process=process, stop=stop, until_idle=None)
            except Killed:
                world.store = world.store_of("default")
                with world.database.transaction() as cursor:
                    cursor.execute("DELETE FROM owners")

    async def redrives() -> None:
        while not writer.done():
            await asyncio.sleep(rng.uniform(0.1, 3.0))
            process = Process(rng.choice([None, rng.randint(1, 8)]), rng.random() < 0.5)
            try:
                await redrive(world, process=process, preparation=today)
            except Killed:
                continue

    await asyncio.gather(writer, relays(), redrives())
    bad.cancel()
    world.bus.recover()
    await world.run()
    assert (await redrive(world, preparation=today)).failed == 0
    assert parked(world) == {}
    assert world.bus.violations == []
    assert_no_older_one_last(world)
    assert snapshot(world.database, "default", world.stream.arn).parked_and_kept() == {}


def _again(record: Record) -> int:
    return int(Change(record, "", ORIGIN).new["again"])


async def refuse_now_and_then(world: World) -> None:
    while True:
        world.bus.fail_entries("MalformedDetail", lambda _: world.rng.random() < 0.2, times=3)
        await asyncio.sleep(world.rng.uniform(0.5, 3.0))
        world.bus.recover()
        await asyncio.sleep(world.rng.uniform(0.5, 3.0))


def assert_no_older_one_last(world: World) -> None:
    """First deliveries stand in order, nothing is missing, and no item ends with an older state."""
    assert world.bus.by_key() == world.written_by_key()
    events = {one.sequence_number: EVENTS[: _again(one) % 5] for one in world.stream.written}
    for key, told in world.told_by_key().items():
        assert [name for name in dict.fromkeys(told) if name[1] in EVENTS] == [
            (number, name)
            for number in world.written_by_key()[key]
            for name in events[number]
            if len(events[number]) > 1
        ]
    for key, numbers in world.bus.by_key(repeats=True).items():
        assert numbers[-1] == world.written_by_key()[key][-1], key


@pytest.mark.parametrize("seed", mostly_slow(range(6)))
def test_relays_and_redrives_that_are_killed_again_and_again_lose_and_swap_nothing(
    seed: int,
) -> None:
    simulate(kills_and_redrives, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 60))
def test_many_relays_and_redrives_that_are_killed_again_and_again(seed: int) -> None:
    simulate(kills_and_redrives, seed=seed)
