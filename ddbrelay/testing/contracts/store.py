"""What every `Store` does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ddbrelay.errors import StateUnavailable
from ddbrelay.flow.capture import Gap, Position, Start
from ddbrelay.flow.tracking import Account, Block, DeadLetter, Fate, Line, Usage
from ddbrelay.testing.contracts.harness import Feature, StoreHarness, need

_POSITIONS = [
    Position("fresh"),
    Position("latest", None, Start.LATEST, 1_767_225_600.123456),
    Position("at", None, Start.AT_SEQUENCE, start_sequence="9" * 21),
    Position(
        "child",
        "at",
        Start.TIME,
        1.5,
        sequence="1" + "0" * 39,
        written_at=1_767_225_599.0,
        iterator="iterator/+=|",
        iterator_at=1_767_225_600.5,
        seen_at=1_767_225_600.25,
        starting="9" * 21,
    ),
    Position("done", "child", sequence="5" * 30, finished=True),
]


def _letter(
    sequence: str, attempts: int = 1, *, key: str | None = None, behind: bool = False
) -> DeadLetter:
    return DeadLetter(
        shard_id="a",
        sequence=sequence,
        item_key=f"key-{key or sequence}".encode(),
        reason="MalformedDetail",
        record=b"{}",
        event=None,
        attempts=attempts,
        parked_at=1_767_225_600.0,
        behind=behind,
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

    def test_a_letter_that_would_wait_behind_nothing_comes_back_and_so_do_those_after_it(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            store = harness.open()
            behind = [_letter(number, key="x", behind=True) for number in "123"]
            other = _letter("4", key="y")
            follows = _letter("5", key="y", behind=True)
            assert await store.park([behind[0], other, behind[1], follows, behind[2]]) == behind
            assert await store.parked_keys() == {b"key-y"}

        harness.run(test)

    def test_a_letter_is_kept_behind_one_of_the_same_item_that_is_there_or_comes_with_it(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            store = harness.open()
            head, second, third = (_letter(n, key="x", behind=n > "1") for n in "123")
            assert await store.park([head, second]) == []
            assert await store.park([second, third]) == []
            assert await store.park([replace(head, behind=True)]) == []
            assert await store.parked_keys() == {b"key-x"}

        harness.run(test)

    def test_a_letter_that_waits_in_another_store_holds_nothing_back(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            behind = _letter("2", key="x", behind=True)
            await harness.open("other").park([_letter("1", key="x")])
            await harness.open("default", "arn:other").park([_letter("1", key="x")])
            assert await harness.open().park([behind]) == [behind]

        harness.run(test)

    def test_usage_is_kept_with_a_save_that_keeps_nothing_else(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            await store.begin([Position("a")])
            await store.save([], usage=Usage(1, 2, 3, 4, 5))
            await store.save([Position("a", sequence="1")], usage=Usage(2, 3, 4, 5, 6))
            assert await store.load() == {"a": Position("a", sequence="1")}

        harness.run(test)

    def test_a_thousand_shards_are_saved_at_once(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            many = [Position(f"shard-{n}", sequence=str(10**20 + n)) for n in range(1000)]
            await store.begin([])
            await store.save(many)
            assert await store.load() == {p.shard_id: p for p in many}

        harness.run(test)

    def test_a_second_live_owner_is_refused_and_the_first_one_goes_on(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            first, second = harness.open(), harness.open()
            await first.claim()
            await first.claim()
            with pytest.raises(StateUnavailable, match=r'consumer "default" .* since ') as refused:
                await second.claim()
            assert refused.value.hint is not None
            assert "--consumer" in refused.value.hint
            await harness.open("other").claim()
            await first.begin([Position("a")])
            await first.save([Position("a", sequence="1")])
            await first.release()
            await second.claim()
            await second.save([Position("a", sequence="2")])
            await second.release()

        harness.run(test)

    def test_a_run_that_has_not_claimed_cannot_move_what_another_one_owns(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            owner, stranger = harness.open(), harness.open()
            await owner.claim()
            await owner.begin([Position("a")])
            with pytest.raises(StateUnavailable):
                await stranger.begin([])
            with pytest.raises(StateUnavailable):
                await stranger.save([Position("a", sequence="9")])
            with pytest.raises(StateUnavailable):
                await stranger.forget(["a"])
            assert await owner.load() == {"a": Position("a")}
            # Dead letters of a replay come beside those of the run that goes on.
            await stranger.park([_letter("1")])
            await owner.release()

        harness.run(test)

    def test_the_ledger_grows_with_the_checkpoint(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            await store.begin([Position("a")])
            for number in (1, 2, 3):
                text, at = str(number), 100.0 + number
                await store.save(
                    [Position("a", sequence=text)],
                    [
                        Account(
                            "a",
                            [Line(Fate.PUBLISHED, "created", 1, text, text, at, at)],
                            [Block(str(number - 1) if number > 1 else None, text, text, 1, number)],
                        )
                    ],
                )
            await store.save([], [Account("a", [Line(Fate.SKIPPED, "noise", 2, "4", "5")])])
            ledger = harness.ledger()["a"]
            assert ledger.lines == [
                Line(Fate.PUBLISHED, "created", 3, "1", "3", 101.0, 103.0),
                Line(Fate.SKIPPED, "noise", 2, "4", "5"),
            ]
            assert ledger.blocks == [Block(None, "1", "3", 3, 6)]

        harness.run(test)

    def test_a_block_that_does_not_follow_stands_for_itself(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            blocks = [Block(None, "1", "2", 2, 3), Block(None, "9", "9", 1, 9)]
            await store.begin([Position("a")])
            await store.save([], [Account("a", blocks=blocks[:1])])
            await store.save([], [Account("a", blocks=blocks[1:])])
            big = Block("9", "10", "9" * 30, 10_000, 10**40)
            await store.save([], [Account("a", blocks=[big])])
            assert harness.ledger()["a"].blocks == [*blocks, big]

        harness.run(test)

    def test_a_gap_replaces_what_was_known_of_it(self, harness: StoreHarness) -> None:
        async def test() -> None:
            store = harness.open()
            known = Gap("a", "5", "trimmed", 10.0, 20.0)
            closed = Gap("a", "5", "trimmed", 10.0, 19.0, "8")
            first = Gap("a", None, "never seen")
            await store.begin([Position("a")], [Account("a", gaps=[first])])
            await store.save([], [Account("a", gaps=[known])])
            await store.save([], [Account("a", gaps=[closed])])
            assert sorted(harness.ledger()["a"].gaps, key=str) == sorted([first, closed], key=str)

        harness.run(test)

    def test_a_shard_that_starts_elsewhere_begins_its_blocks_anew_and_keeps_its_counts(
        self, harness: StoreHarness
    ) -> None:
        async def test() -> None:
            store = harness.open()
            line = Line(Fate.PUBLISHED, "", 2, "1", "2")
            account = [Account(s, [line], [Block(None, "1", "2", 2, 3)]) for s in "ab"]
            await store.begin([Position("a"), Position("b")])
            await store.save([Position(s, sequence="2") for s in "ab"], account)
            await store.begin([Position("a", sequence="2"), Position("b")])
            found = harness.ledger()
            assert [len(found[s].blocks) for s in "ab"] == [1, 0]
            assert found["a"].lines == found["b"].lines == [line]
            await store.forget(["a"])
            assert (harness.ledger()["a"].blocks, harness.ledger()["a"].lines) == ([], [line])

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
