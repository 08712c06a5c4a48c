"""What every `StreamSource` does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec

from ddbrelay.flow.capture import Fault, IteratorType, Page, Record, StreamFault, StreamSource
from ddbrelay.testing.contracts.harness import Feature, StreamHarness, need


class StreamSourceContract:
    """What every `StreamSource` does."""

    def test_records_come_in_the_order_of_writing(self, harness: StreamHarness) -> None:
        async def test() -> None:
            async with harness.source() as source:
                await harness.write("a", "b", "c")
                records = await _read(source, await _only_shard(source), 3)
                assert [_key(record) for record in records] == ["a", "b", "c"]
                numbers = [int(record.sequence_number) for record in records]
                assert numbers == sorted(set(numbers))
                assert len({record.event_id for record in records}) == 3

        harness.run(test)

    def test_records_carry_name_keys_image_and_time(self, harness: StreamHarness) -> None:
        async def test() -> None:
            async with harness.source() as source:
                await harness.write("a")
                (record,) = await _read(source, await _only_shard(source), 1)
                assert record.event_name == "INSERT"
                assert bytes(record.dynamodb.keys).replace(b" ", b"") == b'{"id":{"S":"a"}}'
                assert record.dynamodb.new_image
                assert not record.dynamodb.old_image
                assert record.identity is None
                assert record.dynamodb.created_at is not None
                # The official local engine cuts times to the minute.
                assert abs(record.dynamodb.created_at - harness.now()) < 120

        harness.run(test)

    def test_an_iterator_follows_its_page_without_overlap(self, harness: StreamHarness) -> None:
        async def test() -> None:
            async with harness.source() as source:
                shard = await _only_shard(source)
                await harness.write("a")
                page = await _page(source, shard, IteratorType.TRIM_HORIZON)
                await harness.write("b")
                assert page.next_iterator is not None
                rest = await _follow(source, page.next_iterator, 1)
                assert [_key(record) for record in rest] == ["b"]

        harness.run(test)

    def test_after_a_sequence_number_excludes_it_and_at_includes_it(
        self, harness: StreamHarness
    ) -> None:
        async def test() -> None:
            async with harness.source() as source:
                await harness.write("a", "b", "c")
                shard = await _only_shard(source)
                number = (await _read(source, shard, 3))[1].sequence_number
                after = await source.iterator(
                    shard, IteratorType.AFTER_SEQUENCE_NUMBER, sequence=number
                )
                at = await source.iterator(shard, IteratorType.AT_SEQUENCE_NUMBER, sequence=number)
                assert [_key(r) for r in await _follow(source, after, 1)] == ["c"]
                assert [_key(r) for r in await _follow(source, at, 2)] == ["b", "c"]

        harness.run(test)

    def test_latest_gives_only_what_is_written_later(self, harness: StreamHarness) -> None:
        async def test() -> None:
            async with harness.source() as source:
                shard = await _only_shard(source)
                await harness.write("a")
                iterator = await source.iterator(shard, IteratorType.LATEST)
                await harness.write("b")
                assert [_key(r) for r in await _follow(source, iterator, 1)] == ["b"]

        harness.run(test)

    def test_a_time_starts_at_the_first_record_not_before_it(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.TIMESTAMPS)
            async with harness.source() as source:
                shard = await _only_shard(source)
                before = float(int(harness.now())) - 1
                await harness.write("a")
                iterator = await source.iterator(shard, IteratorType.AT_TIMESTAMP, timestamp=before)
                assert [_key(r) for r in await _follow(source, iterator, 1)] == ["a"]

        harness.run(test)

    def test_a_refused_time_is_a_fault_that_the_reader_can_answer(
        self, harness: StreamHarness
    ) -> None:
        async def test() -> None:
            async with harness.source() as source:
                shard = await _only_shard(source)
                future = harness.now() + 7 * 24 * 3600
                asked = source.iterator(shard, IteratorType.AT_TIMESTAMP, timestamp=future)
                try:
                    iterator = await asked
                except StreamFault as fault:
                    answer: Fault | None = fault.fault
                else:
                    # moto takes any time, and fails on the iterator that it gave.
                    answer = await _fault(source.records(iterator), or_none=True)
                assert answer in {None, Fault.REFUSED, Fault.TRANSIENT}

        harness.run(test)

    def test_a_shard_that_does_not_exist_is_not_found(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.UNKNOWN_SHARDS)
            async with harness.source() as source:
                missing = "shardId-00000000000000000000-00000000"
                fault = await _fault(source.iterator(missing, IteratorType.TRIM_HORIZON))
                assert fault is Fault.NOT_FOUND

        harness.run(test)

    def test_an_iterator_from_elsewhere_is_as_good_as_expired(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.UNKNOWN_ITERATORS)
            async with harness.source() as source:
                assert await _fault(source.records("from elsewhere")) is Fault.EXPIRED

        harness.run(test)

    def test_an_open_shard_is_listed_open_and_always_has_a_next_iterator(
        self, harness: StreamHarness
    ) -> None:
        async def test() -> None:
            async with harness.source() as source:
                page = await source.shards()
                (shard,) = page.shards
                assert not shard.closed
                assert page.last_id is None
                assert not page.disabled
                empty = await _page(source, shard.id, IteratorType.LATEST)
                assert not empty.records
                assert empty.next_iterator is not None

        harness.run(test)

    def test_the_last_page_of_a_closed_shard_has_no_next_iterator(
        self, harness: StreamHarness
    ) -> None:
        async def test() -> None:
            need(harness, Feature.SUCCESSION)
            async with harness.source() as source:
                shard = await _only_shard(source)
                await harness.write("a", "b")
                await harness.succeed()
                iterator: str | None = await source.iterator(shard, IteratorType.TRIM_HORIZON)
                records: list[Record] = []
                while iterator is not None:
                    page = await source.records(iterator)
                    records += page.records
                    iterator = page.next_iterator
                assert [_key(record) for record in records] == ["a", "b"]

        harness.run(test)

    def test_children_name_their_parent_and_can_be_asked_for(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.SUCCESSION)
            async with harness.source() as source:
                parent = await _only_shard(source)
                await harness.succeed()
                children = (await source.shards(children_of=parent)).shards
                assert children
                assert {child.parent_id for child in children} == {parent}
                listed = {shard.id: shard for shard in (await source.shards()).shards}
                assert listed[parent].closed
                assert listed.keys() == {parent, *(child.id for child in children)}

        harness.run(test)

    def test_a_listing_goes_on_behind_a_shard(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.SUCCESSION)
            async with harness.source() as source:
                await harness.succeed()
                everything = list((await source.shards()).shards)
                rest = (await source.shards(after=everything[0].id)).shards
                assert list(rest) == everything[1:]

        harness.run(test)

    def test_an_iterator_expires_after_15_minutes(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.EXPIRY)
            async with harness.source() as source:
                shard = await _only_shard(source)
                iterator = await source.iterator(shard, IteratorType.TRIM_HORIZON)
                await harness.expire()
                assert await _fault(source.records(iterator)) is Fault.EXPIRED

        harness.run(test)

    def test_a_trimmed_position_is_said_to_be_trimmed(self, harness: StreamHarness) -> None:
        async def test() -> None:
            need(harness, Feature.TRIMMING)
            async with harness.source() as source:
                shard = await _only_shard(source)
                await harness.write("a", "b")
                records = await _read(source, shard, 2)
                stale = await source.iterator(shard, IteratorType.TRIM_HORIZON)
                await harness.trim()
                number = records[0].sequence_number
                asked = source.iterator(shard, IteratorType.AFTER_SEQUENCE_NUMBER, sequence=number)
                assert await _fault(asked) is Fault.TRIMMED
                assert await _fault(source.records(stale)) is Fault.TRIMMED
                page = await _page(source, shard, IteratorType.TRIM_HORIZON)
                assert not page.records

        harness.run(test)


async def _only_shard(source: StreamSource) -> str:
    (shard,) = (await source.shards()).shards
    return shard.id


async def _page(source: StreamSource, shard_id: str, kind: IteratorType) -> Page:
    return await source.records(await source.iterator(shard_id, kind))


async def _read(source: StreamSource, shard_id: str, count: int) -> list[Record]:
    start = await source.iterator(shard_id, IteratorType.TRIM_HORIZON)
    return await _follow(source, start, count)


async def _follow(source: StreamSource, iterator: str, count: int) -> list[Record]:
    """At least `count` records; writes may show up in the stream a moment later."""
    found: list[Record] = []
    following: str | None = iterator
    async with asyncio.timeout(10):
        while len(found) < count and following is not None:
            page = await source.records(following)
            found += page.records
            following = page.next_iterator
            if not page.records:
                await asyncio.sleep(0.05)
    return found


async def _fault(call: Awaitable[Any], *, or_none: bool = False) -> Fault | None:
    try:
        answer = await call
    except StreamFault as fault:
        return fault.fault
    assert or_none, f"no fault, but {answer!r}"
    return None


def _key(record: Record) -> str:
    return str(msgspec.json.decode(record.dynamodb.keys)["id"]["S"])
