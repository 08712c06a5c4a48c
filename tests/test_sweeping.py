"""What becomes of an outbox item once its event was accepted: deleted, expired, or left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from test_conformance import SimulatedBusHarness

from ddbrelay.aws.sweeping import (
    AT_ONCE,
    MOST_WAITING,
    NotSweptError,
    SweepingSink,
    UnsweepableError,
)
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.packing import Item, packed
from ddbrelay.flow.sink import Receipt, Sink
from ddbrelay.testing import clock
from ddbrelay.testing.builders import change
from ddbrelay.testing.contracts import SinkContract

EVENT = Event("shop", "OrderPlaced", b"{}", rule="outbox")
IMAGE = {"id": "a", "eventType": "OrderPlaced", "payload": {"total": 5}, "occurredAt": 17}


def on_its_way(of: str | Change = "a", event_name: str = "INSERT", **more: Any) -> Item:
    source = change(of, event_name=event_name, **more) if isinstance(of, str) else of
    made = packed(source, [EVENT], None)
    assert isinstance(made, Item)
    return made


class Bus:
    """Accepts everything, or what `answer` says of it."""

    def __init__(self) -> None:
        self.answer: Callable[[Sequence[Item]], Receipt] = lambda items: Receipt(
            accepted=[(item, "id") for item in items]
        )

    async def send(self, items: Sequence[Item]) -> Receipt:
        return self.answer(items)


class Table:
    """A sweeper that takes `latency` seconds; `ends` are what becomes of the next calls."""

    def __init__(self, *ends: bool | Exception, latency: float = 0.01) -> None:
        self.ends, self.latency = list(ends), latency
        self.asked: list[float] = []
        self.swept: list[str] = []
        self.now = self.peak = 0
        self.always: Exception | None = None

    def request(self, change: Change) -> bytes:
        if not change.keys:
            raise UndecodableError("there are no keys")
        return str(change.keys["id"]).encode()

    async def sweep(self, request: bytes) -> bool:
        self.asked.append(asyncio.get_running_loop().time())
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.now -= 1
        end = self.ends.pop(0) if self.ends else (self.always or True)
        if isinstance(end, Exception):
            raise end
        self.swept.append(request.decode())
        return end


class Told(list[str]):
    """What the person was told."""

    def __call__(self, words: str) -> None:
        self.append(words)


def virtually(test: Callable[[SweepingSink], Coroutine[Any, Any, None]], table: Table) -> Told:
    """Run a test within the block of a sink, on virtual time; what was told."""
    told = Told()

    async def main(rng: random.Random) -> None:
        async with SweepingSink(Bus(), table, told, rng=rng) as sink:
            await test(sink)

    clock.run(main)
    return told


# When


def test_an_item_is_swept_once_its_event_is_accepted() -> None:
    table = Table()

    async def test(sink: SweepingSink) -> None:
        receipt = await sink.send([on_its_way("a"), on_its_way("b")])
        assert len(receipt.accepted) == 2
        assert table.swept == []

    assert virtually(test, table) == []
    assert sorted(table.swept) == ["a", "b"]


@pytest.mark.parametrize("event_name", ["MODIFY", "REMOVE"])
def test_only_the_item_of_an_insert_is_swept(event_name: str) -> None:
    table = Table()

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way("a", event_name)])

    virtually(test, table)
    assert table.asked == []


def test_an_item_that_a_rule_took_before_the_preset_stays() -> None:
    table = Table()

    async def test(sink: SweepingSink) -> None:
        made = packed(change("a"), [Event("shop", "UserCreated", b"{}", rule="users")], None)
        assert isinstance(made, Item)
        await sink.send([made])

    virtually(test, table)
    assert table.asked == []


def test_an_item_is_swept_after_the_last_event_of_its_record() -> None:
    table = Table()

    async def test(sink: SweepingSink) -> None:
        item = packed(change("a"), [EVENT, EVENT], None)
        assert isinstance(item, Item)
        await sink.send([item])
        await asyncio.sleep(1)
        assert table.asked == []
        item.advance()
        await sink.send([item])

    virtually(test, table)
    assert table.swept == ["a"]


def test_what_was_not_accepted_stays() -> None:
    table, told = Table(), Told()

    async def main(rng: random.Random) -> None:
        bus = Bus()
        bus.answer = lambda items: Receipt(
            retry=[(items[0], "again")], rejected=[(items[1], "never")]
        )
        async with SweepingSink(bus, table, told) as sink:
            receipt = await sink.send([on_its_way("a"), on_its_way("b")])
            assert receipt.retry
            assert receipt.rejected

    clock.run(main)
    assert table.asked == []
    assert told == []


def test_sending_does_not_wait_for_the_sweeping_and_few_calls_run_at_once() -> None:
    table = Table(latency=1.0)

    async def test(sink: SweepingSink) -> None:
        before = asyncio.get_running_loop().time()
        for number in range(100):
            await sink.send([on_its_way(f"k{number}")])
        assert asyncio.get_running_loop().time() == before
        await asyncio.sleep(60)
        assert sink.swept == 100

    virtually(test, table)
    assert table.peak == AT_ONCE


# When it does not go well


def test_a_throttled_sweep_is_tried_again_and_said_only_when_it_goes_on() -> None:
    table = Table(NotSweptError("throttled"), latency=0)

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way()])
        await asyncio.sleep(30)
        assert (sink.swept, sink.left) == (1, 0)

    assert virtually(test, table) == []
    assert len(table.asked) == 2


def test_a_missing_permission_is_said_once_and_found_again_without_a_restart() -> None:
    table = Table()
    table.always = NotSweptError("not allowed to delete", lasting=True)

    async def test(sink: SweepingSink) -> None:
        for number in range(20):
            await sink.send([on_its_way(f"k{number}")])
        await asyncio.sleep(600)
        calls = len(table.asked)
        assert calls < AT_ONCE + 12
        table.always = None
        await asyncio.sleep(120)
        assert (sink.swept, sink.left) == (20, 0)

    assert virtually(test, table) == [
        "relayed items stay in the table, trying again: not allowed to delete",
        "relayed items are swept again",
    ]


def test_many_calls_that_fail_together_are_one_failure() -> None:
    table = Table(*[NotSweptError("throttled")] * AT_ONCE)

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way(f"k{number}") for number in range(AT_ONCE)])
        await asyncio.sleep(1)
        assert sink.swept == AT_ONCE

    assert virtually(test, table) == []


@pytest.mark.parametrize("end", [True, UnsweepableError("never")])
def test_after_any_answer_sweeping_is_as_fast_as_before(end: bool | Exception) -> None:
    table = Table(NotSweptError("throttled"), end)

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way("a")])
        await asyncio.sleep(30)
        table.peak = 0
        await sink.send([on_its_way(f"k{number}") for number in range(AT_ONCE)])
        await asyncio.sleep(1)
        assert table.peak == AT_ONCE

    virtually(test, table)


def test_each_outage_is_said_anew() -> None:
    table = Table()
    outage = NotSweptError("throttled")

    async def test(sink: SweepingSink) -> None:
        for _ in range(2):
            table.always = outage
            await sink.send([on_its_way()])
            await asyncio.sleep(300)
            table.always = None
            await asyncio.sleep(300)
        assert sink.swept == 2

    assert virtually(test, table) == 2 * [
        "relayed items stay in the table, trying again: throttled",
        "relayed items are swept again",
    ]


def test_an_item_that_cannot_be_swept_holds_up_no_other() -> None:
    table = Table(UnsweepableError("ValidationException"), UnsweepableError("another"))

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way(key) for key in "abc"])
        await asyncio.sleep(1)
        assert (sink.swept, sink.left) == (1, 2)

    assert virtually(test, table) == [
        "some items stay in the table: a relayed item cannot be swept: ValidationException",
        "2 relayed items stay in the table",
    ]


def test_an_item_that_somebody_else_took_is_neither_swept_nor_left() -> None:
    table = Table(False)

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way()])
        await asyncio.sleep(1)
        assert (sink.swept, sink.left, sink.passed) == (0, 0, 1)

    assert virtually(test, table) == []


def test_an_item_without_a_key_that_can_be_read_is_left() -> None:
    table = Table()

    async def test(sink: SweepingSink) -> None:
        await sink.send([on_its_way(keys={})])
        assert sink.left == 1

    assert virtually(test, table)[0] == (
        "some items stay in the table: a relayed item cannot be read: there are no keys"
    )


def test_more_items_than_memory_is_given_for_are_left() -> None:
    table = Table(latency=3600)

    async def test(sink: SweepingSink) -> None:
        for number in range(MOST_WAITING + 3):
            await sink.send([on_its_way(f"k{number}")])
            await asyncio.sleep(0)
        await sink.send([on_its_way(f"more{number}") for number in range(AT_ONCE)])
        assert sink.left == 3

    told = virtually(test, table)
    assert told[0] == "some items stay in the table: relayed items come faster than they are swept"
    assert told[1] == f"{MOST_WAITING + 3 + AT_ONCE:,} relayed items stay in the table"


# The end


def test_the_end_waits_for_what_is_left_no_longer_than_the_grace_time() -> None:
    table, told = Table(latency=3), Told()

    async def main(rng: random.Random) -> None:
        async with SweepingSink(Bus(), table, told, grace=5.0) as sink:
            await sink.send([on_its_way(f"k{number}") for number in range(AT_ONCE + 1)])
        assert asyncio.get_running_loop().time() == 5.0
        assert (sink.swept, sink.left) == (AT_ONCE, 1)

    clock.run(main)
    assert told == ["1 relayed item stays in the table"]


def test_the_end_hurries_what_rests_after_a_failure() -> None:
    table, told = Table(*[NotSweptError("throttled")] * 9, latency=0), Told()

    async def main(rng: random.Random) -> None:
        async with SweepingSink(Bus(), table, told, rng=rng) as sink:
            await sink.send([on_its_way()])
            await asyncio.sleep(0.01)
            table.ends.clear()
        assert sink.swept == 1
        assert asyncio.get_running_loop().time() < 0.1

    clock.run(main)


def test_the_end_does_not_wait_for_a_permission() -> None:
    table, told = Table(), Told()
    table.always = NotSweptError("not allowed", lasting=True)

    async def main(rng: random.Random) -> None:
        async with SweepingSink(Bus(), table, told) as sink:
            await sink.send([on_its_way("a"), on_its_way("b")])
        assert asyncio.get_running_loop().time() < 0.1
        assert sink.left == 2

    clock.run(main)
    assert told[-1] == "2 relayed items stay in the table"


def test_an_error_of_the_run_goes_through() -> None:
    async def main(rng: random.Random) -> None:
        async with SweepingSink(Bus(), Table(), Told()) as sink:
            await sink.send([on_its_way()])
            raise RuntimeError("the run ended early")

    with pytest.raises(RuntimeError, match="the run ended early"):
        clock.run(main)


class SweepingHarness(SimulatedBusHarness):
    """Every event of the suite is of an item that is swept."""

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        async with super().sink() as inner, SweepingSink(inner, Table(), Told()) as sink:
            yield sink


class TestSweepingSink(SinkContract):
    @pytest.fixture
    def harness(self) -> SweepingHarness:
        return SweepingHarness()
