"""Several events of one record: in order, all or none, and never half forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import pytest
from test_redrive import Seen, redrive, until

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event, Mapped, Reject, Several, Skip
from ddbrelay.flow.offloading import claim_of
from ddbrelay.flow.packing import MAX_BYTES, Item
from ddbrelay.flow.tracking import DeadLetter, Fate, events_of
from ddbrelay.relay.letters import NO_EVENT
from ddbrelay.relay.redrive import Summary
from ddbrelay.stores.ledger import snapshot
from ddbrelay.testing.builders import record, several
from ddbrelay.testing.faults import LOST_AFTER
from ddbrelay.testing.process import Killed, Process
from ddbrelay.testing.world import World, simulate, simulated

KEY_A = b'{"id":{"S":"a"}}'
NAMES = ("one", "two", "three")


def three(change: Change) -> Mapped:
    return several(change, *NAMES)


def named(*names: str) -> Callable[[Item], bool]:
    return lambda item: item.event.detail_type in names


def large(change: Change) -> Mapped:
    """Three events, of which no request can hold the second."""
    first, second, third = several(change, *NAMES).events
    detail = b'{"x":"' + b"y" * MAX_BYTES + b'"}'
    return Several((first, msgspec.structs.replace(second, detail=detail), third))


async def stored(world: World) -> list[DeadLetter]:
    """The dead letters in the order of their changes."""
    found = await world.store_of("default").uncopied(100)
    return sorted(found, key=lambda one: int(one.sequence))


def types(letter: DeadLetter) -> list[str | None]:
    """The detail types of the events of a letter, None for one that is not to be sent."""
    assert letter.event is not None
    return [None if one is None else one.detail_type for one in events_of(letter.event)]


def ledger_of(world: World) -> list[tuple[Fate, str, int]]:
    """Fate, rule and number of records of each line of the one shard."""
    (shard,) = snapshot(world.database, "default", world.stream.arn).ledgers.values()
    return [(line.fate, line.rule, line.count) for line in shard.lines]


def all_of(*numbers: str) -> list[tuple[str, str]]:
    return [(number, name) for number in numbers for name in NAMES]


@simulated("a b")
async def test_the_events_of_a_record_go_in_order_and_before_the_next_record_of_its_item(
    world: World,
) -> None:
    world.mapper = three
    world.fill("abcdefgh", 6)
    await world.run()
    assert world.bus.violations == []
    assert world.told_by_key() == {
        key: all_of(*numbers) for key, numbers in world.written_by_key().items()
    }


@simulated()
async def test_the_fate_of_a_record_counts_once_and_each_of_its_events_is_told(
    world: World,
) -> None:
    world.mapper = three
    (number,) = world.fill("a")
    relay = world.relay()
    tally = await relay.run(asyncio.Event())
    assert (tally[Fate.PUBLISHED], tally.settled) == (1, 1)
    assert (relay.usage.events, relay.usage.chunks, relay.usage.requests) == (3, 3, 3)
    ids = [one.event_id for one in world.bus.delivered]
    assert [
        (one.event and one.event.detail_type, one.fate, one.event_id, one.attempts, one.more)
        for one in world.log.outcomes
    ] == [
        (name, Fate.PUBLISHED, event_id, 1, more)
        for name, event_id, more in zip(NAMES, ids, (2, 1, 0), strict=True)
    ]
    assert ledger_of(world) == [(Fate.PUBLISHED, "one + two + three", 1)]
    (position,) = (await world.positions()).values()
    assert position.sequence == number


@simulated()
async def test_an_event_that_fails_for_a_while_holds_up_the_later_ones_of_its_record(
    world: World,
) -> None:
    world.mapper = three
    numbers = world.fill("a", 2)
    world.bus.fail_entries("InternalFailure", named("two"), times=4)
    world.bus.fail_next(LOST_AFTER)
    await world.run()
    assert world.told_by_key()[KEY_A] == [(numbers[0], "one"), *all_of(*numbers)]
    assert [one.attempts for one in world.log.outcomes] == [2, 5, 1, 1, 1, 1]


@simulated()
async def test_a_refused_event_parks_its_record_with_the_events_that_were_not_sent(
    world: World,
) -> None:
    world.mapper = three
    numbers = world.fill("a", 2)
    world.bus.fail_entries("MalformedDetail", named("two"), times=1)
    tally = await world.run()
    assert dict(tally.fates) == {Fate.PARKED: 2}
    assert world.told_by_key() == {KEY_A: [(numbers[0], "one")]}
    first, second = await stored(world)
    assert (first.reason, first.attempts, first.behind) == ("MalformedDetail: simulated", 1, False)
    assert types(first) == [None, "two", "three"]
    assert (types(second), second.behind) == ([*NAMES], True)
    assert ledger_of(world) == [(Fate.PARKED, "one + two + three", 2)]
    assert [(one.fate, one.more) for one in world.log.outcomes] == [
        (Fate.PUBLISHED, 2),
        (Fate.PARKED, 0),
        (Fate.PARKED, 0),
    ]


@simulated()
async def test_a_redrive_sends_exactly_what_was_not_sent_and_in_order(world: World) -> None:
    world.mapper = three
    numbers = world.fill("a", 2)
    world.bus.fail_entries("MalformedDetail", named("two"), times=1)
    await world.run()
    seen = Seen()
    assert await redrive(world, seen) == Summary(redriven=2)
    assert world.told_by_key() == {KEY_A: all_of(*numbers)}
    assert world.bus.violations == []
    assert await stored(world) == []
    first, second = seen.results
    assert [event.detail_type for event in first.events] == ["two", "three"]
    assert (len(first.event_ids), first.attempts) == (2, 2)
    assert (len(second.events), len(second.event_ids)) == (3, 3)


@simulated()
async def test_a_redrive_that_fails_in_the_middle_keeps_only_what_is_left(world: World) -> None:
    world.mapper = three
    numbers = world.fill("a", 2)
    world.bus.fail_entries("MalformedDetail", named("one"), times=1)
    await world.run()
    world.bus.fail_entries("InvalidArgument", named("three"))
    seen = Seen()
    assert await redrive(world, seen) == Summary(failed=1)
    first, second = await stored(world)
    assert (types(first), first.reason) == ([None, None, "three"], "InvalidArgument: simulated")
    assert (types(second), second.behind) == ([*NAMES], True)
    (result,) = seen.results
    assert (result.how, len(result.event_ids), result.attempts) == (None, 2, 3)
    world.bus.recover()
    assert await redrive(world) == Summary(redriven=2)
    assert world.told_by_key() == {KEY_A: all_of(*numbers)}


@simulated()
async def test_a_redrive_that_is_killed_in_the_middle_goes_on_where_it_was(world: World) -> None:
    world.mapper = three
    numbers = world.fill("a")
    world.bus.fail_entries("MalformedDetail", named("one"), times=1)
    await world.run()
    with pytest.raises(Killed):
        await redrive(world, process=Process(dies_at=2))
    (left,) = await stored(world)
    assert types(left) == [None, "two", "three"]
    await redrive(world)
    assert world.told_by_key() == {KEY_A: all_of(*numbers)}


@simulated()
async def test_a_record_that_is_mapped_again_goes_with_all_its_events(world: World) -> None:
    world.mapper = lambda change: Reject("old")
    numbers = world.fill("a", 2)
    await world.run()
    seen = Seen()
    assert await redrive(world, seen) == Summary(failed=1)
    assert seen.kept() == [NO_EVENT]
    world.bus.fail_entries("MalformedDetail", named("two"), times=1)
    assert (await redrive(world, preparation={"mapper": three})).failed == 1
    assert types((await stored(world))[0]) == [None, "two", "three"]
    assert await redrive(world) == Summary(redriven=1, failed=1)
    assert await redrive(world, preparation={"mapper": three}) == Summary(redriven=1)
    assert world.told_by_key() == {KEY_A: all_of(*numbers)}


@simulated()
async def test_a_mapping_that_makes_less_of_a_parked_record_sends_or_skips_as_it_says(
    world: World,
) -> None:
    world.mapper = three
    (first, _) = world.fill("a", 2)
    world.bus.fail_entries("MalformedDetail", named("one"), times=1)
    await world.run()

    def today(change: Change) -> Mapped:
        event = several(change, "only").events[0]
        return event if change.sequence_number == first else Skip("noise")

    summary = await redrive(world, preparation={"mapper": today})
    assert summary == Summary(redriven=1, skipped=1)
    assert world.told_by_key() == {KEY_A: [(first, "only")]}


# Ends


@simulated()
async def test_a_kill_between_two_events_sends_the_record_again_from_its_first(
    world: World,
) -> None:
    world.mapper = three
    numbers = world.fill("a", 2)
    process = Process()
    run = asyncio.create_task(world.run(process=process))
    await until(lambda: len(world.bus.delivered) >= 2)
    process.kill()
    with pytest.raises(Killed):
        await run
    assert all(one.sequence is None for one in (await world.positions()).values())
    assert 2 <= (before := len(world.bus.delivered)) <= 3
    world.store = world.store_of("default")
    with world.database.transaction() as cursor:
        cursor.execute("DELETE FROM owners")
    await world.run()
    assert world.told_by_key()[KEY_A] == [*all_of(numbers[0])[:before], *all_of(*numbers)]


@simulated()
async def test_a_stop_after_the_grace_time_leaves_the_record_unsettled(world: World) -> None:
    world.mapper = three
    (number,) = world.fill("a")
    world.bus.fail_entries("InternalFailure", named("two"))
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(5.0, stop.set)
    tally = await world.run(stop=stop, until_idle=None)
    assert tally.settled == 0
    assert world.told_by_key() == {KEY_A: [(number, "one")]}
    assert all(one.sequence is None for one in (await world.positions()).values())
    assert any("1 event was not acknowledged" in trouble for trouble in world.log.troubles)
    world.bus.recover()
    assert (await world.run())[Fate.PUBLISHED] == 1
    assert world.told_by_key()[KEY_A] == [(number, "one"), *all_of(number)]


@simulated()
async def test_a_stop_within_the_grace_time_finishes_the_record(world: World) -> None:
    world.mapper = three
    world.bus.faults.latency = (0.5, 0.5)
    (number,) = world.fill("a")
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None))
    await until(lambda: bool(world.bus.delivered))
    stop.set()
    assert (await run)[Fate.PUBLISHED] == 1
    assert world.told_by_key() == {KEY_A: all_of(number)}


# Size


@simulated()
async def test_a_record_with_one_event_that_is_too_large_parks_before_anything_is_sent(
    world: World,
) -> None:
    world.mapper = large
    world.fill("a", 2)
    tally = await world.run()
    assert tally[Fate.PARKED] == 2
    assert world.bus.faults.calls == []
    first, second = await stored(world)
    assert first.reason.startswith("two: the entry has 1,048,")
    assert first.reason.endswith("PutEvents takes less than 1 MB, and there is no --claim-check")
    assert types(first) == types(second) == [*NAMES]
    seen = Seen()
    assert await redrive(world, seen) == Summary(failed=1)
    assert seen.kept()[0].startswith("two: the entry has")
    assert world.bus.delivered == []
    summary = await redrive(world, preparation={"claim_check": "s3://claims"})
    assert summary == Summary(redriven=2)
    assert [one.event.detail_type for one in world.bus.delivered] == [*NAMES, *NAMES]
    assert world.bus.violations == []


def both_large(change: Change) -> Mapped:
    """Two events with the same detail, which no request can hold."""
    detail = b'{"x":"' + b"y" * MAX_BYTES + b'"}'
    events = several(change, "one", "two").events
    return Several(tuple(msgspec.structs.replace(event, detail=detail) for event in events))


@simulated()
async def test_each_event_of_a_record_has_a_claim_check_of_its_own(world: World) -> None:
    world.mapper = both_large
    world.stream.put("a")
    relay = world.relay(claim_check="s3://claims")
    await relay.run(asyncio.Event())
    (written,) = world.stream.written
    claims = [claim_of(msgspec.json.decode(one.event.detail)) for one in world.bus.delivered]
    stems = [claim.key.rpartition("-")[0] for claim in claims if claim]
    assert stems == [written.event_id, f"{written.event_id}-two"]
    assert relay.usage.puts == 2


@simulated()
async def test_a_claim_check_goes_to_the_same_object_when_its_event_is_redriven(
    world: World,
) -> None:
    world.mapper = both_large
    world.stream.put("a")
    tried: list[str] = []

    def keys(item: Item) -> bool:
        assert item.claim is not None
        tried.append(item.claim.key)
        return item.event.detail_type == "two"

    world.bus.fail_entries("MalformedDetail", keys)
    await world.run(claim_check="s3://claims")
    (letter,) = await stored(world)
    assert letter.event is not None
    (_, left) = events_of(letter.event)
    assert left is not None
    assert left.size > MAX_BYTES
    world.bus.recover()
    world.bus.fail_entries("never", lambda item: not keys(item))
    await redrive(world, preparation={"claim_check": "s3://claims"})
    assert len(tried) == 3
    assert tried[1] == tried[2] != tried[0]


# What is shown, and what is asked for


@simulated()
async def test_a_preview_shows_each_event(world: World) -> None:
    world.mapper = three
    world.fill("a", 2)
    tally = await world.run(preview=True)
    assert (tally.previewed, tally.settled) == (6, 0)
    told = [(one.event and one.event.detail_type, one.more) for one in world.log.outcomes]
    assert told == [("one", 2), ("two", 1), ("three", 0)] * 2
    assert world.bus.faults.calls == []


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"two"}, ["two"]),
        ({"three", "one"}, ["one", "three"]),
        (set(), []),
    ],
)
def test_of_several_events_only_those_that_are_asked_for_go(
    asked: set[str], sent: list[str]
) -> None:
    def wanted(change: Change, result: Event | Skip | Reject) -> bool:
        return isinstance(result, Event) and result.detail_type in asked

    async def scene(world: World) -> None:
        world.mapper = three
        world.fill("a")
        tally = await world.run(wanted=wanted)
        assert [one.event.detail_type for one in world.bus.delivered] == sent
        assert tally[Fate.PUBLISHED] == bool(sent)
        (position,) = (await world.positions()).values()
        assert position.sequence is not None

    simulate(scene)


@simulated()
async def test_what_was_not_asked_for_does_not_go_with_a_redrive_either(world: World) -> None:
    world.mapper = three
    world.fill("a")
    world.bus.fail_entries("MalformedDetail", named("three"))
    await world.run(wanted=lambda change, event: event.detail_type != "one")
    (letter,) = await stored(world)
    assert types(letter) == [None, None, "three"]
    world.bus.recover()
    await redrive(world)
    assert [one.event.detail_type for one in world.bus.delivered] == ["two", "three"]


@simulated()
async def test_the_mapping_sees_a_change_before_anything_of_it_is_stored(world: World) -> None:
    world.stream.put("a", ssn="219-09-9999")
    shard = next(iter(world.stream.shards.values()))
    number = world.stream._next_sequence()
    shard.records.append(record("bad", number, keys=b"[]", new={"ssn": "078-05-1120"}))
    shard.sequences.append(number)
    shard.written_at.append(shard.written_at[-1])
    seen: list[str] = []

    def mapper(change: Change) -> Mapped:
        change.redact([("ssn",)])
        seen.append(change.sequence_number)
        return Reject("it cannot be mapped")

    world.mapper = mapper
    await world.run()
    letters = await stored(world)
    assert [letter.sequence for letter in letters] == seen
    assert all(b'{"S":"[redacted]"}' in letter.record for letter in letters)
    assert all(outcome.change.new["ssn"] == "[redacted]" for outcome in world.log.outcomes)


# Other buses


def to_other_bus(change: Change) -> Mapped:
    """`a` goes to the bus of the run, `b` to another one, `c` to both."""
    own, other = several(change, "own", "other").events
    other = msgspec.structs.replace(other, bus="other-bus")
    both: dict[str, Mapped] = {"a": own, "b": other, "c": Several((own, other))}
    return both[change.keys["id"]]


@simulated()
async def test_events_of_a_bus_that_is_missing_wait_and_the_others_go_on(world: World) -> None:
    world.mapper = to_other_bus
    numbers = world.fill("abc", 2)
    world.bus.missing_buses = {"other-bus"}
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.call_later(60.0, world.bus.missing_buses.clear)
    loop.call_later(120.0, stop.set)
    relay = world.relay(until_idle=None)
    run = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(50.0)
    world.stream.put("a", later=True)
    await asyncio.sleep(5.0)
    assert [one.event.bus for one in world.bus.delivered] == [None] * 4
    assert relay.held is None
    words = [one for one in world.log.troubles if "does not exist" in one]
    assert len(words) == 2
    tally = await run
    assert tally[Fate.PUBLISHED] == 7
    assert tally[Fate.PARKED] == 0
    c = b'{"id":{"S":"c"}}'
    assert world.told_by_key()[c] == [
        (number, name) for number in (numbers[2], numbers[5]) for name in ("own", "other")
    ]


@simulated()
async def test_without_the_bus_of_the_run_nothing_is_sent_to_others_either(world: World) -> None:
    world.mapper = to_other_bus
    world.fill("abc", 2)
    world.bus.missing = True
    relay = world.relay(until_idle=None)
    stop = asyncio.Event()
    run = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(30.0)
    assert world.bus.delivered == []
    assert relay.held == "the bus does not exist"
    world.bus.missing = False
    await asyncio.sleep(30.0)
    stop.set()
    assert (await run)[Fate.PUBLISHED] == 6
    assert relay.held is None
    assert world.log.troubles == [
        "the bus does not exist: nothing is sent until it takes events again",
        "the bus takes events again",
    ]


@simulated()
async def test_a_redrive_sends_to_the_bus_that_the_event_names(world: World) -> None:
    world.mapper = to_other_bus
    world.fill("c")
    world.bus.fail_entries("MalformedDetail", times=1)
    await world.run()
    world.bus.missing_buses = {"other-bus"}
    seen = Seen()
    assert await redrive(world, seen) == Summary(failed=1)
    assert seen.kept() == ["the bus does not exist"]
    assert [one.event.bus for one in world.bus.delivered] == [None]
    world.bus.missing_buses = set()
    assert await redrive(world) == Summary(redriven=1)
    assert [one.event.bus for one in world.bus.delivered] == [None, "other-bus"]
