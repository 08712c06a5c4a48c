"""What every `Sink` does."""

from __future__ import annotations

import asyncio

from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import Receipt
from ddbrelay.testing.builders import item
from ddbrelay.testing.contracts.harness import Feature, SinkHarness, need


class SinkContract:
    """What every `Sink` does."""

    def test_every_accepted_event_has_an_id_of_its_own(self, harness: SinkHarness) -> None:
        async def test() -> None:
            async with harness.sink() as sink:
                items = _items(10)
                receipt = await sink.send(items)
                assert [accepted for accepted, _ in receipt.accepted] == items
                assert len({event_id for _, event_id in receipt.accepted}) == 10
                assert not receipt.retry
                assert not receipt.rejected

        harness.run(test)

    def test_what_was_accepted_comes_out_behind_the_bus(self, harness: SinkHarness) -> None:
        async def test() -> None:
            async with harness.sink() as sink:
                items = _items(3)
                assert len((await sink.send(items)).accepted) == 3
                wanted = {sent.change.event_id for sent in items}
                assert set(await harness.delivered(3)) >= wanted

        harness.run(test)

    def test_requests_may_be_in_flight_together(self, harness: SinkHarness) -> None:
        async def test() -> None:
            async with harness.sink() as sink:
                requests = [_items(2) for _ in range(4)]
                receipts = await asyncio.gather(*(sink.send(items) for items in requests))
                assert [[i for i, _ in receipt.accepted] for receipt in receipts] == requests

        harness.run(test)

    def test_a_bus_that_does_not_exist_holds_everything(self, harness: SinkHarness) -> None:
        async def test() -> None:
            need(harness, Feature.MISSING_BUS)
            async with harness.missing() as sink:
                items = _items(2)
                receipt = await sink.send(items)
                assert "does not exist" in str(receipt.held)
                assert [again for again, _ in receipt.retry] == items

        harness.run(test)

    def test_a_lost_answer_is_to_be_sent_again(self, harness: SinkHarness) -> None:
        async def test() -> None:
            need(harness, Feature.LOST_ANSWERS)
            async with harness.deaf() as sink:
                items = _items(2)
                receipt: Receipt = await sink.send(items)
                assert [again for again, _ in receipt.retry] == items
                assert not receipt.accepted
                assert not receipt.rejected

        harness.run(test)


def _items(count: int) -> list[Item]:
    made = [item() for _ in range(count)]
    return [item(f"key-{one.change.sequence_number}") for one in made]
