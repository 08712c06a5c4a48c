"""The doubles themselves: the virtual clock, the builders, the rules of the simulated stream."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable
from decimal import Decimal

import botocore.session
import pytest

from ddbrelay.flow.capture import Shard
from ddbrelay.testing import clock
from ddbrelay.testing.builders import attribute, item, shards, stream
from ddbrelay.testing.faults import LOST_AFTER, LOST_BEFORE, ApiError, Faults, NoAnswer, Rates
from ddbrelay.testing.simulator import SimulatedBus
from ddbrelay.testing.stream import RETENTION, SimulatedStream
from ddbrelay.testing.world import World, simulated

# The clock


def test_a_virtual_day_passes_in_no_time() -> None:
    async def main(_: random.Random) -> float:
        await asyncio.sleep(clock.DAY)
        return clock.now() - clock.EPOCH

    started = time.monotonic()
    assert clock.run(main) == pytest.approx(clock.DAY)
    assert time.monotonic() - started < 1


def test_timers_fire_in_the_order_of_their_time() -> None:
    async def main(rng: random.Random) -> list[float]:
        fired: list[float] = []

        async def nap(seconds: float) -> None:
            await asyncio.sleep(seconds)
            fired.append(seconds)

        await asyncio.gather(*(nap(rng.uniform(0, 1000)) for _ in range(50)))
        return fired

    fired = clock.run(main, seed=3)
    assert fired == sorted(fired)
    assert fired == clock.run(main, seed=3)
    assert fired != clock.run(main, seed=4)


def test_a_deadlock_is_an_error_that_names_who_waits_where() -> None:
    async def waits_for_ever(_: random.Random) -> None:
        await asyncio.sleep(5)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(clock.DeadlockError, match=r"after 5\.000 virtual.*waits_for_ever:\d+"):
        clock.run(waits_for_ever)


def test_a_run_that_never_ends_is_cut_off() -> None:
    async def main(_: random.Random) -> None:
        for _ in itertools.count():
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError, match="still running after 3600 virtual seconds"):
        clock.run(main, limit=3600)


def test_real_sockets_live_in_the_virtual_loop() -> None:
    async def main(_: random.Random) -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return answer

    assert clock.run(main) == b"hello\n"


# The builders


def test_a_drawing_becomes_a_listing() -> None:
    assert shards("(r) -> a, a -> b c, d|") == [
        Shard("a", "r", True),
        Shard("b", "a"),
        Shard("c", "a"),
        Shard("d", None, True),
    ]
    assert shards("a -> b -> c") == [Shard("a", None, True), Shard("b", "a", True), Shard("c", "b")]


def test_plain_values_become_attribute_values() -> None:
    assert attribute({"a": [1, Decimal("1.50"), None, True, b"\0"]}) == {
        "M": {
            "a": {"L": [{"N": "1"}, {"N": "1.50"}, {"NULL": True}, {"BOOL": True}, {"B": "AA=="}]}
        }
    }
    assert attribute({"x", "y"}) == {"SS": ["x", "y"]}
    assert attribute({2, 1}) == {"NS": ["1", "2"]}
    with pytest.raises(TypeError, match="no type for"):
        attribute(1.5)


# The simulated stream


class Clock:
    def __init__(self) -> None:
        self.time = clock.EPOCH

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def hands() -> Clock:
    return Clock()


@pytest.fixture
def simulated_stream(hands: Clock) -> SimulatedStream:
    return stream("a", now=hands)


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(ApiError) as refused:
        call()
    return refused.value.code


def test_a_write_that_changes_nothing_makes_no_record(simulated_stream: SimulatedStream) -> None:
    assert simulated_stream.put("x", n=1)
    assert simulated_stream.put("x", n=1) is None
    assert simulated_stream.delete("x")
    assert simulated_stream.delete("x") is None
    assert [r.event_name for r in simulated_stream.written] == ["INSERT", "REMOVE"]


def test_all_changes_of_a_key_go_to_the_shard_that_owns_it_through_splits(hands: Clock) -> None:
    made = stream("a b", now=hands)
    for turn in range(50):
        for key in "xyz":
            made.put(key, turn=turn)
        open_shards = [s.id for s in made.shards.values() if s.closed_at is None]
        made.split(open_shards[turn % len(open_shards)])
    for key in "xyz":
        numbers = [
            int(r.sequence_number)
            for r in made.written
            if f'"{key}"'.encode() in bytes(r.dynamodb.keys)
        ]
        assert numbers == sorted(numbers)
        owners = [
            shard
            for shard in made.history.values()
            if any(f'"{key}"'.encode() in bytes(r.dynamodb.keys) for r in shard.records)
        ]
        for earlier, later in itertools.pairwise(owners):
            above, shard = set(), later
            while shard.parent_id is not None:
                above.add(shard.parent_id)
                shard = made.history[shard.parent_id]
            assert earlier.id in above


def test_a_page_has_at_most_1000_records_and_1_mb(simulated_stream: SimulatedStream) -> None:
    for n in range(1500):
        simulated_stream.put(f"k{n}")
    start = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    first = simulated_stream.get_records(start)
    assert len(first.records) == 1000
    assert first.next_iterator is not None
    assert len(simulated_stream.get_records(first.next_iterator).records) == 500
    for n in range(5):
        simulated_stream.put(f"big{n}", blob="x" * 300_000)
    after = simulated_stream.written[1499].sequence_number
    page = simulated_stream.get_records(
        simulated_stream.get_shard_iterator("a", "AFTER_SEQUENCE_NUMBER", after)
    )
    assert len(page.records) == 3


def test_an_iterator_lives_15_minutes(simulated_stream: SimulatedStream, hands: Clock) -> None:
    iterator = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    hands.time += 899.9
    simulated_stream.get_records(iterator)
    hands.time += 0.1
    assert code_of(lambda: simulated_stream.get_records(iterator)) == "ExpiredIteratorException"


def test_records_live_a_day_and_closed_shards_as_long(
    simulated_stream: SimulatedStream, hands: Clock
) -> None:
    old = simulated_stream.put("x")
    assert old is not None
    hands.time += RETENTION / 2
    child = simulated_stream.roll("a")
    hands.time += RETENTION / 2 + 1
    asked = ("a", "AFTER_SEQUENCE_NUMBER", old.sequence_number)
    assert code_of(lambda: simulated_stream.get_shard_iterator(*asked)) == (
        "TrimmedDataAccessException"
    )
    assert [s.id for s in simulated_stream.describe_stream().shards] == ["a", child]
    hands.time += RETENTION / 2
    assert [s.id for s in simulated_stream.describe_stream().shards] == [child]
    assert code_of(lambda: simulated_stream.get_shard_iterator(*asked)) == (
        "ResourceNotFoundException"
    )


def test_trimming_under_an_iterator_is_an_error_and_no_jump(
    simulated_stream: SimulatedStream,
) -> None:
    simulated_stream.put("x")
    simulated_stream.put("y")
    iterator = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    simulated_stream.trim("a", 1)
    assert code_of(lambda: simulated_stream.get_records(iterator)) == "TrimmedDataAccessException"
    again = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    assert len(simulated_stream.get_records(again).records) == 1


def test_a_future_time_is_refused(simulated_stream: SimulatedStream, hands: Clock) -> None:
    for asked in (hands.time + 1, None):
        assert (
            code_of(
                lambda at=asked: simulated_stream.get_shard_iterator(  # type: ignore[misc]
                    "a", "AT_TIMESTAMP", timestamp=at
                )
            )
            == "ValidationException"
        )


def test_a_listing_has_100_shards_a_page(hands: Clock) -> None:
    made = SimulatedStream(250, now=hands)
    sizes, after = [], None
    while True:
        page = made.describe_stream(after)
        sizes.append(len(page.shards))
        after = page.last_id
        if after is None:
            break
    assert sizes == [100, 100, 50]


def test_a_late_child_is_listed_late_and_never_before_its_parent(hands: Clock) -> None:
    made = stream("a", now=hands)
    child = made.roll("a", listed_after=5)
    grandchild = made.roll(child)
    assert [s.id for s in made.describe_stream().shards] == ["a"]
    assert made.describe_stream(children_of="a").shards == []
    hands.time += 5
    assert [s.id for s in made.describe_stream().shards] == ["a", child, grandchild]


def test_a_disabled_stream_has_no_open_shard(simulated_stream: SimulatedStream) -> None:
    simulated_stream.disable()
    assert simulated_stream.describe_stream().status == "DISABLED"
    iterator = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    assert simulated_stream.get_records(iterator).next_iterator is None


def test_error_codes_and_iterator_types_are_those_of_the_service_model() -> None:
    model = botocore.session.get_session().get_service_model("dynamodbstreams")
    errors = {
        operation: {shape.name for shape in model.operation_model(operation).error_shapes}
        for operation in ("DescribeStream", "GetShardIterator", "GetRecords")
    }
    assert {"ExpiredIteratorException", "TrimmedDataAccessException"} <= errors["GetRecords"]
    assert "TrimmedDataAccessException" in errors["GetShardIterator"]
    assert all("ResourceNotFoundException" in codes for codes in errors.values())


# Faults and the simulated bus


@simulated()
async def test_a_cut_connection_is_cut_before_or_after_the_effect(world: World) -> None:
    faults, effects = Faults(clock.now), []
    for lost in (LOST_BEFORE, LOST_AFTER):
        faults.fail_next("PutEvents", lost)
        with pytest.raises(NoAnswer):
            await faults.call("PutEvents", lambda lost=lost: effects.append(lost))  # type: ignore[misc]
    assert effects == [LOST_AFTER]


def test_chance_strikes_at_its_rate() -> None:
    rng = random.Random(1)
    rates = Rates(throttled=0.1, lost_after=0.2)
    found = [rates.fault(rng) for _ in range(5000)]
    assert found.count("ThrottlingException") == pytest.approx(500, rel=0.2)
    assert found.count(LOST_AFTER) == pytest.approx(1000, rel=0.2)
    assert set(found) == {None, "ThrottlingException", LOST_AFTER}


@simulated()
async def test_the_bus_records_what_a_correct_sender_never_does(world: World) -> None:
    bus = SimulatedBus(Faults(clock.now))
    await asyncio.gather(bus.send([item("a")]), bus.send([item("a")]))
    await bus.send([item("b"), item("b")])
    await bus.send([item(f"k{n}") for n in range(11)])
    await bus.send([])
    found = sorted({violation.split(" of ")[0] for violation in bus.violations})
    assert found == [
        "0 entries in a request",
        "11 entries in a request",
        "two events",
    ]
