"""The engine between the simulated stream and the simulated bus: delivery, order, parking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import msgspec
import pytest

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Event, Reject, Skip
from ddbrelay.flow.offloading import claim_of
from ddbrelay.flow.packing import MAX_BYTES, Item
from ddbrelay.flow.sink import FINAL_CODES, Receipt
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing import clock
from ddbrelay.testing.faults import LOST_AFTER, LOST_BEFORE
from ddbrelay.testing.world import World, simulate, simulated


def keyed(key: str) -> bytes:
    return json.dumps({"id": {"S": key}}, separators=(",", ":")).encode()


def of(key: str) -> object:
    return lambda item: item.key == keyed(key)


def parked(world: World) -> list[tuple[str, str, bool, int]]:
    """Sequence, reason, behind and attempts of the dead letters, in the stream's order."""
    with world.database.reading() as cursor:
        rows = cursor.execute("SELECT sequence, reason, behind, attempts FROM dead_letters")
        return sorted(((s, r, bool(b), a) for s, r, b, a in rows), key=lambda row: int(row[0]))


@simulated("a b c")
async def test_every_change_is_published_once_and_in_order_per_item(world: World) -> None:
    world.fill("abcdefghij", 30)
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == tally.settled == 300
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    assert world.bus.violations == []


@simulated()
async def test_numbers_of_different_lengths_keep_their_order(world: World) -> None:
    numbers = world.fill("a", 30)
    assert {len(number) for number in numbers} == {21, 22}
    assert sorted(numbers) != numbers
    await world.run(max_records=15)
    await world.run()
    assert world.bus.by_key(repeats=True)[keyed("a")] == numbers


@simulated()
async def test_two_events_of_an_item_are_never_in_flight_together(world: World) -> None:
    world.bus.faults.latency = (0.5, 1.0)
    world.fill("ab", 10)
    await world.run()
    assert world.bus.most_in_flight == 2
    assert world.bus.violations == []
    assert world.bus.by_key(repeats=True) == world.written_by_key()


@simulated()
async def test_different_items_go_in_parallel(world: World) -> None:
    world.bus.faults.latency = (1.0, 1.0)
    world.fill([f"k{n}" for n in range(1000)])
    started = asyncio.get_running_loop().time()
    await world.run(until_idle=0.5)
    assert world.bus.most_in_flight > 300
    assert asyncio.get_running_loop().time() - started < 15
    assert len(world.bus.faults.calls_of("PutEvents")) == 100


@simulated()
async def test_only_the_failed_entries_of_a_request_are_sent_again(world: World) -> None:
    world.fill("abcde")
    world.bus.fail_entries("ThrottlingException", of("c"), times=3)
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 5
    assert tally.retried == 3
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    assert [call.arguments["entries"] for call in world.bus.faults.calls] == [5, 1, 1, 1]


@simulated()
async def test_failed_entries_are_sent_again_with_a_growing_pause(world: World) -> None:
    world.fill("a")
    world.bus.fail_entries("InternalFailure", times=8)
    await world.run()
    times = [call.at for call in world.bus.faults.calls]
    assert len(times) == 9
    assert times[-1] - times[-3] > 1.0
    assert any("trying again" in trouble for trouble in world.log.troubles)


@simulated()
async def test_a_failed_entry_holds_up_later_ones_of_its_item_only(world: World) -> None:
    world.fill("ab", 5)
    world.bus.fail_entries("ThrottlingException", of("a"), times=6)
    await world.run()
    assert world.bus.by_key(repeats=True) == world.written_by_key()
    order = [delivered.item_key for delivered in world.bus.delivered]
    assert order[:5] == [keyed("b")] * 5


@pytest.mark.parametrize("lost", [LOST_BEFORE, LOST_AFTER])
def test_a_lost_answer_is_sent_again(lost: str) -> None:
    async def scene(world: World) -> None:
        world.fill("abc", 2)
        world.bus.fail_next(lost, times=2)
        tally = await world.run()
        assert tally[Fate.PUBLISHED] == 6
        assert world.bus.by_key() == world.written_by_key()
        repeats = len(world.bus.delivered) - 6
        assert repeats > 0 if lost is LOST_AFTER else repeats == 0
        assert world.bus.violations == []

    simulate(scene)


@simulated()
async def test_a_throttled_request_is_sent_again_whole(world: World) -> None:
    world.fill("abc")
    world.bus.fail_next("ThrottlingException", times=4)
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 3
    assert tally.retried == 12
    assert [call.arguments["entries"] for call in world.bus.faults.calls] == [3] * 5


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_a_final_code_parks_the_record_and_is_not_tried_again(code: str) -> None:
    async def scene(world: World) -> None:
        (number,) = world.fill("a")
        world.bus.fail_entries(code)
        tally = await world.run()
        assert tally[Fate.PARKED] == tally.settled == 1
        assert parked(world) == [(number, f"{code}: simulated", False, 1)]
        assert len(world.bus.faults.calls) == 1

    simulate(scene)


@simulated("a b")
async def test_a_poison_record_parks_its_item_queues_behind_it_and_the_others_flow(
    world: World,
) -> None:
    world.fill("abcd", 5)
    poison = world.written_by_key()[keyed("b")]
    world.bus.fail_entries("MalformedDetail", lambda i: i.change.sequence_number == poison[1])
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 16
    assert tally[Fate.PARKED] == 4
    delivered = world.bus.by_key(repeats=True)
    assert delivered.pop(keyed("b")) == poison[:1]
    written = world.written_by_key()
    del written[keyed("b")]
    assert delivered == written
    letters = parked(world)
    assert [sequence for sequence, *_ in letters] == poison[1:]
    assert [behind for *_, behind, _ in letters] == [False, True, True, True]
    assert all(p.finished or p.sequence for p in (await world.positions()).values())


@simulated()
async def test_an_item_with_dead_letters_stays_parked_in_the_next_run(world: World) -> None:
    world.fill("ab")
    world.bus.fail_entries("MalformedDetail", of("a"))
    await world.run()
    world.bus.recover()
    later = world.stream.put("a", changed=True)
    assert later is not None
    world.stream.put("b", changed=True)
    tally = await world.run()
    assert (tally[Fate.PARKED], tally[Fate.PUBLISHED]) == (1, 1)
    assert parked(world)[-1][0] == later.sequence_number
    assert parked(world)[-1][2]
    assert keyed("a") not in world.bus.by_key()


@simulated()
async def test_a_dead_letter_keeps_its_reason_when_its_record_is_read_again(world: World) -> None:
    world.fill("a", 2)
    world.bus.fail_entries("MalformedDetail")
    await world.run()
    before = parked(world)
    # What a kill between the parking and the checkpoint leaves.
    with world.database.transaction() as cursor:
        cursor.execute("DELETE FROM positions")
    await world.run()
    assert parked(world) == before
    assert [behind for *_, behind, _ in before] == [False, True]


@simulated()
async def test_consumers_do_not_see_each_others_positions_and_dead_letters(world: World) -> None:
    world.fill("a", 3)
    world.bus.fail_entries("MalformedDetail")
    await world.run()
    world.bus.recover()
    world.store = world.store_of("other")
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 3
    assert tally[Fate.PARKED] == 0


@simulated()
async def test_an_oversize_event_is_parked_without_being_sent_and_others_flow(
    world: World,
) -> None:
    world.stream.put("big", blob="x" * MAX_BYTES)
    world.stream.put("small")
    tally = await world.run()
    assert (tally[Fate.PARKED], tally[Fate.PUBLISHED]) == (1, 1)
    ((_, reason, behind, attempts),) = parked(world)
    assert "PutEvents takes less than 1 MB" in reason
    assert not behind
    assert attempts == 0
    assert world.bus.violations == []


@simulated()
async def test_ten_big_events_are_sent_in_requests_below_one_megabyte(world: World) -> None:
    for n in range(10):
        world.stream.put(f"k{n}", blob="x" * 300_000)
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 10
    assert world.bus.violations == []


@simulated()
async def test_what_the_mapping_rejects_is_parked_and_what_it_skips_is_counted_by_rule(
    world: World,
) -> None:
    crud = CrudMapper("users")

    def mapper(change: Change) -> Event | Skip | Reject:
        if change.keys["id"] == "skipped":
            return Skip("rule no-noise")
        if change.keys["id"] == "rejected":
            return Reject("no such template")
        return crud(change)

    world.mapper = mapper
    world.fill(["skipped", "rejected", "kept"], 2)
    tally = await world.run()
    assert tally.settled == 6
    assert tally.skipped_by == {"rule no-noise": 2}
    assert parked(world)[0][1] == "no such template"
    assert [behind for *_, behind, _ in parked(world)] == [False, True]
    assert list(world.bus.by_key()) == [keyed("kept")]


@simulated()
async def test_a_detail_type_over_128_characters_is_parked_before_it_is_sent(
    world: World,
) -> None:
    world.mapper = CrudMapper("users", entity="E" * 128)
    world.fill("a")
    tally = await world.run()
    assert tally[Fate.PARKED] == 1
    assert world.bus.faults.calls == []
    assert "128 characters" in parked(world)[0][1]


@simulated()
async def test_an_event_is_not_relayed_again_by_being_published(world: World) -> None:
    """Only the table's stream is read, so that nothing that the bus receives comes back."""
    world.fill("abc", 3)
    tally = await world.run(until_idle=120.0)
    assert tally.settled == len(world.bus.delivered) == 9


@simulated()
async def test_a_delete_by_time_to_live_is_an_event_of_its_own(world: World) -> None:
    world.fill("ab")
    world.stream.delete("a", ttl=True)
    world.stream.delete("b")
    await world.run()
    types = {d.item_key: d.event.detail_type for d in world.bus.delivered}
    assert types == {keyed("a"): "UserExpired", keyed("b"): "UserDeleted"}


@simulated()
async def test_every_event_carries_the_records_stable_id(world: World) -> None:
    world.fill("abc")
    world.bus.fail_next(LOST_AFTER)
    await world.run()
    ids = {(d.sequence, d.event.resources[1]) for d in world.bus.delivered}
    assert len(ids) == 3
    assert {event_id for _, event_id in ids} == {r.event_id for r in world.stream.written}


class Measured:
    """A sink that looks at how much the engine holds when it is called."""

    def __init__(self, world: World) -> None:
        self.bus, self.most = world.bus, 0
        self.pending = lambda: 0

    async def send(self, items: Sequence[Item]) -> Receipt:
        self.most = max(self.most, self.pending())
        return await self.bus.send(items)


@simulated("a b")
async def test_a_slow_bus_holds_the_readers_up_so_that_memory_stays_bounded(
    world: World,
) -> None:
    world.bus.faults.latency = (1.0, 2.0)
    for n in range(6000):
        world.stream.put(f"k{n}")
    relay = world.relay(max_pending=500, max_in_flight=4)
    measured = Measured(world)
    measured.pending = lambda: relay._delivery.pending
    assert relay.dispatch is not None
    relay.dispatch._sink = measured
    tally = await relay.run(asyncio.Event())
    assert tally[Fate.PUBLISHED] == 6000
    a_page_for_each_shard = 2 * 1000
    assert 500 < measured.most <= 500 + a_page_for_each_shard
    assert world.bus.most_in_flight <= 40


@simulated()
async def test_a_preview_sends_nothing_and_writes_nothing(world: World) -> None:
    world.fill("ab", 3)
    world.stream.put("big", blob="x" * MAX_BYTES)
    tally = await world.run(preview=True)
    assert len(world.log.outcomes) == 7
    assert tally[Fate.PUBLISHED] == 0
    assert world.bus.faults.calls == []
    assert await world.positions() == {}
    assert parked(world) == []
    with world.database.reading() as cursor:
        assert cursor.execute("SELECT count(*) FROM bookmarks").fetchone() == (0,)


@simulated()
async def test_outcomes_tell_event_id_and_attempts(world: World) -> None:
    world.fill("ab")
    world.bus.fail_entries("InternalFailure", of("b"), times=1)
    await world.run()
    told = {o.change.item_key: o for o in world.log.outcomes}
    ids = {d.item_key: d.event_id for d in world.bus.delivered}
    assert {key: outcome.event_id for key, outcome in told.items()} == ids
    assert told[keyed("a")].attempts == 1
    assert told[keyed("b")].attempts == 2


@simulated()
async def test_a_record_that_cannot_be_decoded_is_parked_and_others_flow(world: World) -> None:
    from ddbrelay.testing.builders import record

    world.fill("a")
    shard = next(iter(world.stream.shards.values()))
    for keys, new in ((b"[]", None), (None, b'{"id":{"M":[]}}')):
        number = world.stream._next_sequence()
        shard.records.append(record("bad", number, keys=keys, new=new))
        shard.sequences.append(number)
        shard.written_at.append(shard.written_at[-1])
    world.fill("b")
    tally = await world.run()
    assert (tally[Fate.PARKED], tally[Fate.PUBLISHED]) == (2, 2)


@simulated()
async def test_an_offloaded_event_that_is_refused_is_parked_with_its_whole_detail(
    world: World,
) -> None:
    world.stream.put("big", blob="\x01" * 190_000)
    world.bus.fail_entries("MalformedDetail")
    await world.run(claim_check="s3://claims")
    (letter,) = await world.store_of("default").uncopied(10)
    assert letter.event is not None
    event = msgspec.json.decode(letter.event, type=Event)
    assert event.size >= MAX_BYTES
    assert event.detail.count(b"u0001") == 190_000


@simulated()
async def test_an_offloaded_event_is_sent_with_its_detail_beside_it(world: World) -> None:
    world.stream.put("big", blob="\x01" * 190_000)
    tally = await world.run(claim_check="s3://claims/users")
    assert tally[Fate.PUBLISHED] == 1
    (delivered,) = world.bus.delivered
    reference = claim_of(msgspec.json.decode(delivered.event.detail))
    assert reference is not None
    assert reference.bucket == "claims"
    assert reference.key.startswith("users/")
    assert reference.size > MAX_BYTES


@simulated("a")
async def test_a_backlog_of_large_items_is_read_without_pauses(world: World) -> None:
    for turn in range(2):
        for key in "abcdefgh":
            world.stream.put(key, turn=turn, text="x" * 390_000)
    began = clock.now()
    tally = await world.run(until_idle=1.0)
    assert tally[Fate.PUBLISHED] == 16
    # A page has one or two of these records: with a pause after each, 3 s would pass.
    assert world.bus.delivered[-1].at - began < 1.0
