"""What every `Store` does."""

from __future__ import annotations

from ddbrelay.flow.capture import Position, Start
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.testing.contracts.harness import Feature, StoreHarness, need

_POSITIONS = [
    Position("fresh"),
    Position("latest", None, Start.LATEST, 1_767_225_600.123456),
    Position("at", None, Start.AT_SEQUENCE, start_sequence="9" * 21),
    Position("child", "at", Start.TIME, 1.5, None, "1" + "0" * 39, "iterator/+=|", 1_767_225_600.5),
    Position("done", "child", sequence="5" * 30, finished=True),
]


def _letter(sequence: str, attempts: int = 1) -> DeadLetter:
    return DeadLetter(
        shard_id="a",
        sequence=sequence,
        item_key=f"key-{sequence}".encode(),
        reason="MalformedDetail",
        record=b"{}",
        event=None,
        attempts=attempts,
        parked_at=1_767_225_600.0,
    )


class StoreContract:
    """What every `Store` does."""

    def test_a_new_consumer_has_nothing(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            assert await store.load() == {}
            assert await store.parked_keys() == set()

        harness.run(test)

    def test_a_position_comes_back_as_it_was_saved(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            await store.begin(_POSITIONS)
            assert await store.load() == {p.shard_id: p for p in _POSITIONS}

        harness.run(test)

    def test_saving_replaces_the_named_shards_and_leaves_the_others(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            store = harness.open()
            await store.begin([Position("a"), Position("b")])
            moved = Position("b", sequence="200000000000000000001")
            await store.save([moved, Position("c", "b")])
            assert await store.load() == {
                "a": Position("a"),
                "b": moved,
                "c": Position("c", "b"),
            }

        harness.run(test)

    def test_a_run_that_begins_anew_leaves_no_position_of_the_run_before(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            store = harness.open()
            await store.begin([Position("a", sequence="100000000000000000001"), Position("b")])
            await store.begin([Position("b"), Position("c")])
            assert await store.load() == {"b": Position("b"), "c": Position("c")}

        harness.run(test)

    def test_a_forgotten_shard_is_gone(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            await store.begin([Position("a"), Position("b")])
            await store.forget(["a", "never known"])
            assert await store.load() == {"b": Position("b")}

        harness.run(test)

    def test_consumers_and_streams_with_the_same_shard_ids_keep_apart(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            one, other = harness.open("one"), harness.open("other")
            elsewhere = harness.open("one", "arn:other-stream")
            await one.begin([Position("a", sequence="1")])
            await other.begin([Position("a", sequence="2")])
            await elsewhere.begin([Position("a", sequence="3")])
            await other.forget(["a"])
            await one.park([_letter("1")])
            assert (await one.load())["a"].sequence == "1"
            assert await other.load() == {}
            assert (await elsewhere.load())["a"].sequence == "3"
            assert await one.parked_keys() == {b"key-1"}
            assert await other.parked_keys() == await elsewhere.parked_keys() == set()

        harness.run(test)

    def test_dead_letters_name_the_items_that_are_held_up(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            await store.park([_letter("1"), _letter("2")])
            await store.park([_letter("2", attempts=7)])
            assert await store.parked_keys() == {b"key-1", b"key-2"}

        harness.run(test)

    def test_a_thousand_shards_are_saved_at_once(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            many = [Position(f"shard-{n}", sequence=str(10**20 + n)) for n in range(1000)]
            await store.begin([])
            await store.save(many)
            assert await store.load() == {p.shard_id: p for p in many}

        harness.run(test)

    def test_all_of_it_outlives_the_process(self, harness: StoreHarness) -> None:
        async def test() -> None:
            need(harness, Feature.DURABILITY)
            store = harness.open()
            await store.begin(_POSITIONS)
            await store.save([Position("late", finished=True)])
            await store.park([_letter("1")])
            harness.reopen()
            again = harness.open()
            assert set(await again.load()) == {*(p.shard_id for p in _POSITIONS), "late"}
            assert await again.parked_keys() == {b"key-1"}

        harness.run(test)
