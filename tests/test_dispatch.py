"""When requests are sent, how full they are, and what happens while the bus takes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
import pytest

from ddbrelay.flow.capture import Page
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import Receipt
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing.faults import LOST_AFTER
from ddbrelay.testing.simulator import SimulatedBus
from ddbrelay.testing.world import World, simulate, simulated


def now() -> float:
    return asyncio.get_running_loop().time()


async def until(happened: Callable[[], object]) -> None:
    """Let the scene go on until this holds."""
    while not happened():  # noqa: ASYNC110 - the clock is virtual, and nobody else tells
        await asyncio.sleep(0.001)


def requests(world: World) -> list[int]:
    """Entries of each request, in the order of sending."""
    return [call.arguments["entries"] for call in world.bus.faults.calls_of("PutEvents")]


@simulated()
async def test_a_reason_that_many_events_wait_for_is_not_told_for_each_of_them(
    world: World,
) -> None:
    world.fill([f"k{n}" for n in range(300)])
    world.bus.fail_entries("InternalFailure")
    await world.run(timeout=100.0, until_idle=None, grace=0.0)
    failure = "trying again: InternalFailure: simulated"
    told = [one for one in world.log.troubles if one.endswith(failure)]
    assert 3 <= len(told) <= 4


# A code that nobody knows


@simulated()
async def test_an_event_with_an_unknown_code_parks_after_a_while_with_what_aws_said(
    world: World,
) -> None:
    world.fill("ab", times=2)
    world.bus.fail_entries("FromTheFuture", lambda item: b'"a"' in item.key)
    began = now()
    tally = await world.run(until_idle=60.0, refusal_timeout=100.0)
    assert (tally[Fate.PUBLISHED], tally[Fate.PARKED]) == (2, 2)
    parked = [one for one in world.log.outcomes if one.fate is Fate.PARKED]
    assert parked[0].reason == "FromTheFuture: simulated (and again for 100 s)"
    assert parked[0].attempts > 5
    assert "an earlier event" in str(parked[1].reason)
    assert now() - began == pytest.approx(100.0 + 60.0, abs=5.0)
    told = [word for word in world.log.troubles if word.endswith("FromTheFuture: simulated")]
    assert told


@simulated()
async def test_an_unknown_code_that_passes_parks_nothing(world: World) -> None:
    world.fill("a", times=3)
    world.bus.fail_entries("FromTheFuture", times=5)
    tally = await world.run(refusal_timeout=100.0)
    assert (tally[Fate.PUBLISHED], tally[Fate.PARKED]) == (3, 0)


@simulated()
async def test_a_reason_with_words_for_each_event_is_told_once(world: World) -> None:
    world.fill([f"k{n}" for n in range(50)])

    class Wordy(SimulatedBus):
        async def send(self, items: Sequence[Item]) -> Receipt:
            return Receipt(retry=[(one, f"InternalFailure: {one.key!r}") for one in items])

    world.bus = Wordy(world.bus.faults)
    await world.run(timeout=25.0, until_idle=None, grace=0.0)
    assert sum("InternalFailure" in one for one in world.log.troubles) == 1


# Linger


@simulated("a b c d e")
async def test_a_request_is_filled_across_shards(world: World) -> None:
    for shard in "abcde":
        world.fill([f"{shard}1", f"{shard}2"], shard=shard)
    await world.run(until_idle=1.0, linger=0.5)
    assert requests(world) == [10]


@simulated("a b c d e")
async def test_without_a_linger_nothing_waits_for_company(world: World) -> None:
    for shard in "abcde":
        world.fill([f"{shard}1", f"{shard}2"], shard=shard)
    await world.run(until_idle=1.0, linger=0.0)
    assert len(requests(world)) == 5


@simulated()
async def test_a_lonely_event_goes_after_the_linger(world: World) -> None:
    world.fill("a")
    world.bus.faults.latency = (0.0, 0.0)
    began = now()
    task = asyncio.create_task(world.run(until_idle=3.0, linger=0.25))
    await until(lambda: world.bus.delivered)
    alone = now() - began
    await task
    assert 0.25 <= alone < 1.0


@simulated()
async def test_full_requests_do_not_linger(world: World) -> None:
    world.fill([f"k{n}" for n in range(40)])
    world.bus.faults.latency = (0.0, 0.0)
    began = now()
    task = asyncio.create_task(world.run(until_idle=20.0, linger=10.0))
    await until(lambda: len(world.bus.delivered) == 40)
    assert now() - began < 5.0
    await task


@simulated()
async def test_an_item_that_changes_often_does_not_linger_between_its_events(
    world: World,
) -> None:
    world.fill("a", times=40)
    world.bus.faults.latency = (0.0, 0.0)
    began = now()
    await world.run(until_idle=0.1, linger=1.0)
    assert len(requests(world)) == 40
    # The last nine wait for company, the ones before have enough of it behind them.
    assert now() - began < 12.0


# Throttling


@simulated()
async def test_throttling_makes_fewer_requests_fly_together_and_nothing_is_parked(
    world: World,
) -> None:
    world.fill([f"k{n}" for n in range(2000)])
    world.bus.faults.latency = (0.1, 0.1)
    world.bus.requests_per_second = 20
    relay = world.relay(until_idle=40.0)
    most = 0

    def look(seconds: float) -> None:
        nonlocal most
        most = max(most, dispatch.requests)

    dispatch = relay.dispatch
    assert dispatch is not None
    dispatch.on_answer = look
    tally = await relay.run(asyncio.Event())
    assert tally[Fate.PUBLISHED] == 2000
    assert tally[Fate.PARKED] == 0
    assert most < 64
    assert dispatch.window < 16


@simulated()
async def test_answers_are_timed(world: World) -> None:
    world.fill("abc")
    world.bus.faults.latency = (0.4, 0.4)
    relay = world.relay(linger=0.0)
    seconds: list[float] = []
    assert relay.dispatch is not None
    relay.dispatch.on_answer = seconds.append
    await relay.run(asyncio.Event())
    assert seconds == [pytest.approx(2 * 0.4)], "there and back"


# A bus that is gone


@simulated("a b")
async def test_a_bus_deleted_in_the_middle_pauses_the_run_and_parks_nothing(
    world: World,
) -> None:
    world.fill([f"k{n}" for n in range(300)], times=3)
    world.bus.faults.latency = (0.05, 0.05)
    relay = world.relay(until_idle=30.0)
    run = asyncio.create_task(relay.run(asyncio.Event()))
    await until(lambda: len(world.bus.delivered) >= 100)
    world.bus.missing = True
    before = len(requests(world))
    await asyncio.sleep(120.0)
    assert relay.held == "the bus does not exist"
    asked = len(requests(world)) - before
    assert asked < 64 + 20, "one look now and then, not a request for each event"
    told = [word for word in world.log.troubles if "does not exist" in word]
    assert told == ["the bus does not exist: nothing is sent until it takes events again"]
    world.bus.missing = False
    tally = await run
    assert relay.held is None
    assert world.log.troubles[-1] == "the bus takes events again"
    assert (tally[Fate.PUBLISHED], tally[Fate.PARKED]) == (900, 0)
    assert world.bus.by_key() == world.written_by_key()
    assert not world.bus.violations


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("fault", "reason"), [(LOST_AFTER, LOST_AFTER), ("ThrottlingException", "simulated")]
)
def test_a_bus_that_takes_nothing_for_a_minute_is_an_error_of_the_log(
    fault: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: World) -> None:
        world.fill([f"k{n}" for n in range(30)])
        world.bus.fail_next(fault, times=10_000)
        relay = world.relay(until_idle=5.0)
        run = asyncio.create_task(relay.run(asyncio.Event()))
        dispatch = relay.dispatch
        assert dispatch is not None
        await asyncio.sleep(55.0)
        assert not errors(caplog)
        await asyncio.sleep(10.0)
        (error,) = errors(caplog)
        assert error.startswith("the bus has taken no event for 1 m 0 s: ")
        assert error.endswith(reason)
        refusing = dispatch.refusing
        assert refusing is not None
        assert refusing.seconds == pytest.approx(65.0, abs=2.0)
        await asyncio.sleep(600.0)
        assert len(errors(caplog)) == 2
        world.bus.faults.recover()
        assert (await run)[Fate.PUBLISHED] == 30
        assert dispatch.refusing is None
        assert len(errors(caplog)) == 2

    simulate(scene)


def test_a_bus_that_takes_some_events_now_and_then_is_not_held(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(world: World) -> None:
        world.bus.fail_entries("InternalFailure", lambda item: b"bad" in item.key)
        relay = world.relay(until_idle=None)
        stop = asyncio.Event()
        run = asyncio.create_task(relay.run(stop))
        world.fill(["bad"])
        for turn in range(20):
            world.fill([f"k{turn}"])
            await asyncio.sleep(10.0)
        stop.set()
        await run
        assert not errors(caplog)

    simulate(scene)


def test_a_bus_that_knows_only_an_unknown_code_is_held_until_the_events_park(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(world: World) -> None:
        world.fill(["a", "b"])
        world.bus.fail_entries("FromTheFuture")
        relay = world.relay(until_idle=None, refusal_timeout=100.0)
        stop = asyncio.Event()
        run = asyncio.create_task(relay.run(stop))
        dispatch = relay.dispatch
        assert dispatch is not None
        await asyncio.sleep(90.0)
        assert errors(caplog) == [
            "the bus has taken no event for 1 m 0 s: FromTheFuture: simulated"
        ]
        assert dispatch.refusing is not None
        assert dispatch.refusing.lasts
        await asyncio.sleep(1500.0)
        assert dispatch.refusing is None
        assert len(errors(caplog)) == 1
        stop.set()
        assert (await run)[Fate.PARKED] == 2

    simulate(scene)


def test_a_single_event_with_an_unknown_code_says_nothing_of_the_bus(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scene(world: World) -> None:
        world.fill(["bad"])
        world.bus.fail_entries("FromTheFuture", lambda item: b"bad" in item.key)
        relay = world.relay(until_idle=None, refusal_timeout=200.0)
        stop = asyncio.Event()
        run = asyncio.create_task(relay.run(stop))
        dispatch = relay.dispatch
        assert dispatch is not None
        for _ in range(15):
            await asyncio.sleep(10.0)
            assert dispatch.refusing is None
        # A second one that is refused, and nothing that is taken: it is the bus.
        world.fill(["bad too"])
        await asyncio.sleep(10.0)
        assert dispatch.refusing is not None
        assert dispatch.refusing.lasts
        await asyncio.sleep(600.0)
        assert dispatch.refusing is None
        assert len(errors(caplog)) == 1
        stop.set()
        assert (await run)[Fate.PARKED] == 2

    simulate(scene)


@pytest.mark.parametrize("code", ["FromTheFuture", "InternalFailure"])
def test_a_bus_that_only_a_rule_names_is_held_although_the_bus_of_the_run_takes_events(
    code: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: World) -> None:
        def mapper(change: Change) -> Event:
            bus = "audit" if change.keys["id"].startswith("audited") else None
            return Event("s", "T", b"{}", (change.event_id,), bus=bus)

        world.mapper = mapper
        world.bus.fail_entries(code, lambda item: item.event.bus == "audit")
        relay = world.relay(until_idle=None, refusal_timeout=10_000.0)
        stop = asyncio.Event()
        run = asyncio.create_task(relay.run(stop))
        dispatch = relay.dispatch
        assert dispatch is not None
        world.fill(["audited 1", "audited 2"])
        for turn in range(9):
            world.fill([f"k{turn}"])
            await asyncio.sleep(10.0)
        (error,) = errors(caplog)
        assert error.startswith('bus "audit" has taken no event for 1 m 0 s: ')
        assert dispatch.refusing is not None
        assert dispatch.refusing.lasts
        world.bus.recover()
        await asyncio.sleep(60.0)
        assert dispatch.refusing is None
        stop.set()
        assert (await run)[Fate.PUBLISHED] == 11

    simulate(scene)


@simulated()
async def test_what_another_bus_takes_says_nothing_of_the_one_that_is_gone(world: World) -> None:
    def mapper(change: Change) -> Event:
        bus = None if change.keys["id"] == "own" else "other"
        return Event("s", "T", b"{}", (change.event_id,), bus=bus)

    world.mapper = mapper
    world.fill([*(f"k{n}" for n in range(10)), "own"])
    world.bus.missing = True
    # They come back before the first look at the bus that is gone, and fill its request.
    world.bus.fail_entries("InternalFailure", times=10)
    stop = asyncio.Event()
    relay = world.relay(until_idle=None)
    run = asyncio.create_task(relay.run(stop))
    await until(lambda: len(world.bus.delivered) == 10)
    await asyncio.sleep(60.0)
    gone = "the bus does not exist"
    assert relay.held == gone
    assert world.log.troubles == [f"{gone}: nothing is sent until it takes events again"]
    world.bus.missing = False
    await until(lambda: len(world.bus.delivered) == 11)
    stop.set()
    assert (await run)[Fate.PUBLISHED] == 11


@simulated()
async def test_a_run_that_is_stopped_while_the_bus_is_gone_ends_at_once_and_loses_nothing(
    world: World,
) -> None:
    world.fill([f"k{n}" for n in range(30)])
    world.bus.missing = True
    stop = asyncio.Event()
    relay = world.relay(until_idle=None)
    run = asyncio.create_task(relay.run(stop))
    await until(lambda: relay.held)
    await asyncio.sleep(60.0)
    began = now()
    stop.set()
    await run
    assert now() - began < 1.0
    assert any("30 events were not acknowledged" in word for word in world.log.troubles)
    world.bus.missing = False
    tally = await world.run()
    assert tally[Fate.PUBLISHED] == 30


@simulated()
async def test_what_waits_for_a_retry_is_not_forgotten_when_the_bus_goes_meanwhile(
    world: World,
) -> None:
    world.fill("abc")
    world.bus.fail_next(LOST_AFTER)
    relay = world.relay(until_idle=30.0)
    run = asyncio.create_task(relay.run(asyncio.Event()))
    await until(lambda: requests(world))
    world.bus.missing = True
    await asyncio.sleep(60.0)
    world.bus.missing = False
    tally = await run
    assert tally[Fate.PUBLISHED] == 3


@simulated()
async def test_a_run_is_not_idle_while_the_bus_is_gone(world: World) -> None:
    world.fill("a")
    world.bus.missing = True
    relay = world.relay(until_idle=1.0, timeout=300.0)
    await relay.run(asyncio.Event())
    assert relay.end_reason == "timeout"
    assert relay.held is not None


# Memory


class Endless:
    """A million records behind: each page is made when it is asked for."""

    RECORDS = 1_000_000

    def __init__(self, world: World, shards: int) -> None:
        self._inner, self._shards = world.source, shards
        world.fill("x", shard=None)
        self._one = world.stream.written[0]
        self.handed_out = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    async def records(self, iterator: str) -> Page:
        await asyncio.sleep(0.01)
        records = []
        for n in range(self.handed_out, self.handed_out + 1000):
            change = msgspec.structs.replace(
                self._one.dynamodb,
                sequence_number=str(10**20 + n),
                keys=msgspec.Raw(b'{"id":{"S":"k%d"}}' % n),
            )
            records.append(msgspec.structs.replace(self._one, dynamodb=change))
        self.handed_out += 1000
        return Page(records, "more" if self.handed_out < self.RECORDS else None, 900_000)


@simulated("a b c d e f g h")
async def test_a_slow_bus_with_a_million_records_behind_fills_no_memory(world: World) -> None:
    world.bus.faults.latency = (2.0, 2.0)
    bound = 8 * 1024 * 1024
    stop = asyncio.Event()
    relay = world.relay(until_idle=None, max_held=bound, max_in_flight=4)
    source = Endless(world, 8)
    relay._reading._source = source  # type: ignore[assignment]
    run = asyncio.create_task(relay.run(stop))
    most_held = most_pending = 0
    for _ in range(300):
        await asyncio.sleep(0.2)
        most_held = max(most_held, relay._delivery._held)
        most_pending = max(most_pending, relay._delivery.pending)
    stop.set()
    await run
    # A page of a megabyte, or two kilobytes a record, may come for each that was asked for.
    page = 1000 * 2048
    assert bound / 2 < most_held <= bound + 2 * page
    assert most_pending <= relay._options.max_pending + 1000
    assert source.handed_out < 20_000
