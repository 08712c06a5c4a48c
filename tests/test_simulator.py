"""The doubles themselves: the virtual clock, the builders, the rules of the simulated stream."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import botocore.session
import pytest

from ddbrelay.flow.capture import Fault, Shard, StreamFault
from ddbrelay.testing import clock
from ddbrelay.testing.builders import attribute, item, shards, stream
from ddbrelay.testing.faults import (
    LOST_AFTER,
    LOST_BEFORE,
    SLOW,
    ApiError,
    Faults,
    NoAnswer,
    Rates,
)
from ddbrelay.testing.limits import Limits, Throttle
from ddbrelay.testing.simulator import TOO_LARGE, SimulatedBus, SimulatedSource
from ddbrelay.testing.stream import RETENTION, SimulatedStream


def on_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run a coroutine as a test on a virtual loop."""

    def run() -> None:
        clock.run(lambda _: test())

    run.__name__, run.__module__, run.__doc__ = test.__name__, test.__module__, test.__doc__
    return run


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


def test_a_disabled_stream_is_gone_after_a_day(
    simulated_stream: SimulatedStream, hands: Clock
) -> None:
    simulated_stream.put("x")
    iterator = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    simulated_stream.disable()
    hands.time += RETENTION
    assert simulated_stream.describe_stream().shards
    hands.time += 1
    for call in (
        simulated_stream.describe_stream,
        lambda: simulated_stream.get_shard_iterator("a", "TRIM_HORIZON"),
    ):
        assert code_of(call) == "ResourceNotFoundException"
    assert code_of(lambda: simulated_stream.get_records(iterator)) == "ExpiredIteratorException"


def test_a_stream_that_is_enabling_has_no_shards_yet(hands: Clock) -> None:
    made = SimulatedStream(2, now=hands, enabling=30.0)
    assert (made.describe_stream().status, made.describe_stream().shards) == ("ENABLING", [])
    hands.time += 30
    assert made.describe_stream().status == "ENABLED"
    assert len(made.describe_stream().shards) == 2


def test_a_listing_cannot_go_on_behind_a_shard_that_is_gone_unless_it_forgets_no_start(
    hands: Clock,
) -> None:
    for forgets_no_start in (False, True):
        made = SimulatedStream(150, now=hands, forgets_no_start=forgets_no_start)
        after = made.describe_stream().last_id
        assert after is not None
        made.remove(after)
        if forgets_no_start:
            assert len(made.describe_stream(after).shards) == 50
        else:
            assert code_of(lambda: made.describe_stream(after)) == "ResourceNotFoundException"  # noqa: B023
        assert code_of(lambda: made.describe_stream("other")) == "ResourceNotFoundException"  # noqa: B023


def test_a_listing_and_a_page_can_be_asked_to_be_shorter(
    simulated_stream: SimulatedStream, hands: Clock
) -> None:
    made = SimulatedStream(5, now=hands)
    first = made.describe_stream(limit=2)
    assert (len(first.shards), first.last_id) == (2, first.shards[1].id)
    assert made.describe_stream(first.last_id, limit=3).last_id is None
    for n in range(5):
        simulated_stream.put(f"k{n}")
    start = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    page = simulated_stream.get_records(start, limit=2)
    assert len(page.records) == 2
    assert page.next_iterator is not None
    assert len(simulated_stream.get_records(page.next_iterator).records) == 3


def test_a_closed_shard_ends_at_or_after_its_last_record(hands: Clock) -> None:
    made = stream("a", now=hands)
    for n in range(20):
        made.put(f"k{n}")
    shard = made.shards["a"]
    assert shard.ending is None
    made.split("a")
    made.put("late", "a")
    assert shard.ending is not None
    assert shard.ending >= shard.sequences[-1] > shard.starting
    made.shards[made.roll(made.split(made.roll("a"))[0], looks_open=True)].looks_open = True
    assert all(s.ending is None or s.ending >= s.starting for s in made.shards.values())


@pytest.mark.parametrize(
    ("view_type", "images"),
    [
        ("KEYS_ONLY", {}),
        ("NEW_IMAGE", {"INSERT": "new", "MODIFY": "new"}),
        ("OLD_IMAGE", {"MODIFY": "old", "REMOVE": "old"}),
        ("NEW_AND_OLD_IMAGES", {"INSERT": "new", "MODIFY": "both", "REMOVE": "old"}),
    ],
)
def test_records_have_the_images_of_the_view_type(
    hands: Clock, view_type: str, images: dict[str, str]
) -> None:
    made = SimulatedStream(now=hands, view_type=view_type)
    for write in (made.put("x", n=1), made.put("x", n=2), made.delete("x")):
        assert write is not None
        said = write.dynamodb
        assert said.view_type == view_type
        has = {(True, False): "new", (False, True): "old", (True, True): "both"}
        shown = has.get((bool(said.new_image), bool(said.old_image)))
        assert shown == images.get(write.event_name)


def test_a_clock_that_is_ahead_shows_in_times_and_in_what_counts_as_the_future(
    hands: Clock,
) -> None:
    made = stream("a", now=hands, skew=-120.0)
    written = made.put("x")
    assert written is not None
    assert written.dynamodb.created_at == hands.time - 120
    assert code_of(lambda: made.get_shard_iterator("a", "AT_TIMESTAMP", timestamp=hands.time)) == (
        "ValidationException"
    )
    iterator = made.get_shard_iterator("a", "TRIM_HORIZON")
    made.skew = 900.0
    assert code_of(lambda: made.get_records(iterator)) == "ExpiredIteratorException"


def test_a_time_finds_the_first_record_at_or_after_it_though_the_clock_went_back(
    hands: Clock,
) -> None:
    made = stream("a", now=hands)
    for n, skew in enumerate((0.0, 100.0, -50.0, 300.0)):
        made.skew = skew
        made.put(f"k{n}")
    made.skew = 300.0
    for asked, wanted in ((0.5, "k1"), (100.0, "k1"), (100.5, "k3"), (-50.0, "k0")):
        at = made.get_shard_iterator("a", "AT_TIMESTAMP", timestamp=clock.EPOCH + asked)
        first = made.get_records(at).records[0]
        assert bytes(first.dynamodb.keys) == f'{{"id":{{"S":"{wanted}"}}}}'.encode()


def test_describe_stream_takes_ten_calls_a_second_and_a_shard_two_readers(hands: Clock) -> None:
    made = stream("a b", now=hands, limits=Limits.of_aws())
    for _ in range(10):
        made.describe_stream()
    assert code_of(made.describe_stream) == "ThrottlingException"
    hands.time += 0.1
    made.describe_stream()
    assert code_of(made.describe_stream) == "ThrottlingException"

    def reading_for(seconds: int, readers: int, calls_a_second: int) -> int:
        """How many of the calls are throttled."""
        refused = 0
        iterator = made.get_shard_iterator("a", "LATEST")
        for _ in range(seconds * calls_a_second):
            for _ in range(readers):
                try:
                    made.get_records(iterator)
                except ApiError as error:
                    refused += error.code == "LimitExceededException"
            hands.time += 1 / calls_a_second
        return refused

    assert reading_for(seconds=60, readers=2, calls_a_second=5) == 0
    hands.time += 1
    assert reading_for(seconds=60, readers=3, calls_a_second=5) > 250
    made.get_records(made.get_shard_iterator("b", "LATEST"))


def test_a_throttle_lets_its_rate_pass_and_no_more_than_a_second_at_once() -> None:
    throttle = Throttle()
    passed = sum(throttle.admits("x", 10.0, clock.EPOCH + n / 1000) for n in range(60_000))
    assert passed == pytest.approx(600 + 10, abs=2)
    assert sum(throttle.admits("x", 10.0, clock.EPOCH + 1000.0) for _ in range(50)) == 10
    assert throttle.admits("x", None, clock.EPOCH)
    assert throttle.admits("x", 10.0, clock.EPOCH), "a clock that was set back closes nothing"


def test_a_foreign_or_damaged_iterator_is_refused(simulated_stream: SimulatedStream) -> None:
    good = simulated_stream.get_shard_iterator("a", "TRIM_HORIZON")
    arn = simulated_stream.arn
    for bad in ("", "x", f"{arn}|a|x|y|1", f"{arn}|a|1", good.replace("users", "others")):
        assert code_of(lambda it=bad: simulated_stream.get_records(it)) == "ValidationException"  # type: ignore[misc]


def test_a_key_whose_shard_is_closed_without_a_child_cannot_be_written(hands: Clock) -> None:
    made = stream("a b", now=hands)
    keys = [f"k{n}" for n in range(50)]
    for key in keys:
        made.put(key)
    closed = len(made.shards["a"].records)
    assert 0 < closed < 50
    made.close("a")
    refused = 0
    for key in keys:
        try:
            made.put(key, again=True)
        except LookupError:
            refused += 1
    assert refused == closed


def test_many_writes_to_many_shards_take_no_time_that_grows(hands: Clock) -> None:
    def seconds(writes: int, shards: int) -> float:
        made = SimulatedStream(shards, now=hands)
        started = time.process_time()
        for n in range(writes):
            hands.time += 0.01
            made.put(f"k{n % 100}", n=n)
            if n % 50 == 0:
                shard = next(reversed(made.shards))
                made.get_records(made.get_shard_iterator(shard, "AT_TIMESTAMP", timestamp=0.0))
        return time.process_time() - started

    few = min(seconds(4000, 1) for _ in range(3))
    assert min(seconds(4000, 400) for _ in range(3)) < 4 * few


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


@on_virtual_time
async def test_a_cut_connection_is_cut_before_or_after_the_effect() -> None:
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


@on_virtual_time
async def test_a_slow_answer_has_its_effect_and_comes_late() -> None:
    faults, effects = Faults(clock.now, slow_latency=(20.0, 20.0)), []
    faults.fail_next("GetRecords", SLOW)
    before = clock.now()
    await faults.call("GetRecords", lambda: effects.append(clock.now()))
    assert clock.now() - before > 20
    assert effects[0] - before < 1
    faults.rates = Rates(slow=0.1)
    started, slow = clock.now(), 0
    for _ in range(300):
        at = clock.now()
        await faults.call("GetRecords", lambda: None)
        slow += clock.now() - at > 1
    assert slow == pytest.approx(30, abs=15)
    assert clock.now() - started < 300 * 20


@on_virtual_time
async def test_shards_can_appear_between_two_pages_of_a_listing() -> None:
    made = SimulatedStream(101)
    source = SimulatedSource(made, Faults(clock.now))
    oldest = next(iter(made.shards))
    source.faults.before_next(
        "DescribeStream",
        lambda: made.split(oldest),
        when=lambda asked: asked["after"] is not None,
    )
    first = await source.shards()
    assert not next(shard for shard in first.shards if shard.id == oldest).closed
    second = await source.shards(first.last_id)
    assert [shard.parent_id for shard in second.shards] == [None, oldest, oldest]
    assert len((await source.shards(first.last_id)).shards) == 3


@on_virtual_time
async def test_a_shard_can_be_trimmed_or_go_right_before_it_is_read() -> None:
    made = stream("a")
    source = SimulatedSource(made, Faults(clock.now))
    for fault, action in (
        (Fault.TRIMMED, lambda: made.trim("a")),
        (Fault.NOT_FOUND, lambda: made.remove("a")),
    ):
        made.put("x", n=fault.name)
        iterator = made.get_shard_iterator("a", "TRIM_HORIZON")
        source.faults.before_next("GetRecords", action)
        # A call that never gets there changes nothing.
        source.faults.fail_next("GetRecords", "InternalServerError")
        with pytest.raises(StreamFault) as failed:
            await source.records(iterator)
        assert failed.value.fault is Fault.TRANSIENT
        with pytest.raises(StreamFault) as failed:
            await source.records(iterator)
        assert failed.value.fault is fault


@on_virtual_time
async def test_what_is_remembered_of_the_calls_can_be_bounded() -> None:
    faults = Faults(clock.now, latency=(0.0, 0.0), keep=10)
    for n in range(100):
        await faults.call("GetRecords", lambda: None, {"n": n})
    assert 10 <= len(faults.calls) <= 20
    assert faults.calls[-1].arguments == {"n": 99}


@on_virtual_time
async def test_a_request_of_1_mb_is_refused_whole_and_its_entries_go_one_by_one() -> None:
    bus = SimulatedBus(Faults(clock.now))
    items = [item(key, size=600_000) for key in "ab"]
    bus.fail_next(TOO_LARGE)
    receipt = await bus.send(items)
    assert [sent for sent, _ in receipt.accepted] == items
    sizes = [call.arguments["entries"] for call in bus.faults.calls]
    assert sizes == [2, 1, 1]
    bus.fail_next(TOO_LARGE)
    receipt = await bus.send(items[:1])
    assert [(sent, TOO_LARGE in why) for sent, why in receipt.rejected] == [(items[0], True)]


@on_virtual_time
async def test_requests_beyond_the_rate_are_throttled_whole() -> None:
    bus = SimulatedBus(Faults(clock.now, latency=(0.0, 0.0)), requests_per_second=5.0)
    receipts = [await bus.send([item(f"k{n}"), item(f"l{n}")]) for n in range(8)]
    assert [len(r.accepted) for r in receipts] == [2] * 5 + [0] * 3
    assert [len(r.retry) for r in receipts] == [0] * 5 + [2] * 3
    assert len(bus.delivered) == 10


@on_virtual_time
async def test_the_bus_records_what_a_correct_sender_never_does() -> None:
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
