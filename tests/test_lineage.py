"""Where a shard starts, and in which order shards are read."""

from __future__ import annotations

import random

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.capture import (
    Lineage,
    Position,
    Shard,
    Start,
    first_positions,
)
from ddbrelay.testing.builders import shards
from ddbrelay.testing.clock import EPOCH

NOW = EPOCH + 100.75


def lineage(tree: str, *finished: str) -> Lineage:
    made = Lineage(Position(shard_id, finished=True) for shard_id in finished)
    listed = shards(tree)
    made.learn(listed)
    made.listing_complete({shard.id for shard in listed})
    return made


def ready(tree: Lineage) -> set[str]:
    return {shard.id for shard in tree.ready()}


# Lineage


def test_a_child_waits_for_its_parent() -> None:
    tree = lineage("a -> b c, c -> d")
    assert ready(tree) == {"a"}
    assert ready(tree) == set()
    tree.finish("a")
    assert ready(tree) == {"b", "c"}
    tree.finish("b")
    assert ready(tree) == set()
    tree.finish("c")
    assert ready(tree) == {"d"}


def test_a_parent_that_is_no_longer_listed_counts_as_finished() -> None:
    assert ready(lineage("(a) -> b, b -> c")) == {"b"}


def test_an_unlisted_parent_may_stand_on_another_page_until_all_pages_were_seen() -> None:
    tree = Lineage()
    tree.learn(shards("(a) -> b"))
    assert ready(tree) == set()
    tree.learn(shards("a"))
    tree.listing_complete({"a", "b"})
    assert ready(tree) == {"a"}


def test_a_parent_finished_in_an_earlier_run_lets_its_children_go() -> None:
    assert ready(lineage("a -> b c", "a")) == {"b", "c"}


def test_a_finished_shard_is_not_read_again() -> None:
    tree = lineage("a b", "a")
    assert ready(tree) == {"b"}
    assert tree.is_finished("a")
    assert not tree.exhausted
    tree.finish("b")
    assert tree.exhausted


def test_nothing_is_exhausted_before_the_whole_listing_was_seen() -> None:
    assert not Lineage().exhausted


def test_a_shard_that_is_being_read_holds_up_its_children_even_when_no_longer_listed() -> None:
    tree = lineage("a -> b")
    assert ready(tree) == {"a"}
    tree.learn(shards("(a) -> b"))
    tree.listing_complete({"b"})
    assert ready(tree) == set()
    tree.finish("a")
    assert ready(tree) == {"b"}


class Growing:
    """A stream whose shards come and go while its listing is read page by page.

    `order` is that of the listing. A shard may appear anywhere in it, also on a page that was read
    already, and may still be listed as open when it has children. `read` is what the reader holds.
    """

    def __init__(self, draw: random.Random, roots: int) -> None:
        self.draw = draw
        self.order: list[str] = []
        self.parent: dict[str, str | None] = {}
        self.closed: set[str] = set()
        self.odd: set[str] = set()
        self.trimmed: set[str] = set()
        self.tree = Lineage()
        self.listed: set[str] = set()
        self.after: str | None = None
        self.pages = 0
        self.reading: list[str] = []
        self.given_out: list[str] = []
        self.finished: set[str] = set()
        for _ in range(roots):
            self.open(None)

    def open(self, parent: str | None) -> None:
        name = f"s{len(self.parent)}"
        self.parent[name] = parent
        self.order.insert(self.draw.randint(0, len(self.order)), name)

    def grow(self) -> None:
        """One shard rolls over or splits."""
        open_shards = [name for name in self.order if name not in self.closed]
        if open_shards:
            name = self.draw.choice(open_shards)
            self.closed.add(name)
            if self.draw.random() < 0.3:
                self.odd.add(name)
            for _ in range(self.draw.randint(1, 2)):
                self.open(name)

    def trim(self) -> None:
        """The oldest shard of a line is trimmed away, read or not."""
        ripe = [n for n in self.order if n in self.closed and self.parent[n] not in self.order]
        if ripe:
            gone = self.draw.choice(ripe)
            self.order.remove(gone)
            self.trimmed.add(gone)

    def page(self, size: int) -> None:
        """The reader takes in one page; the listing begins anew where its cursor is gone."""
        if self.after is None or self.after not in self.order:
            self.after, self.listed, self.pages = None, set(), 0
            self.tree.listing_begins()
        start = 0 if self.after is None else self.order.index(self.after) + 1
        names = self.order[start : start + size]
        self.tree.learn(
            Shard(n, self.parent[n], n in self.closed and n not in self.odd) for n in names
        )
        self.listed.update(names)
        self.pages += 1
        if start + size < len(self.order):
            self.after = names[-1]
        else:
            self.after = None
            self.tree.listing_complete(self.listed, atomic=self.pages == 1)
        self.start()

    def start(self) -> None:
        for shard in self.tree.ready():
            parent = self.parent[shard.id]
            assert parent is None or parent in self.finished | self.trimmed, shard
            self.reading.append(shard.id)
            self.given_out.append(shard.id)

    def finish(self) -> None:
        """A closed shard, or one that is gone, is read to its end."""
        done = [name for name in self.reading if name in self.closed | self.trimmed]
        if done:
            name = self.draw.choice(done)
            self.reading.remove(name)
            self.finished.add(name)
            self.tree.finish(name)
            self.start()


@given(
    st.integers(1, 4),
    st.lists(st.sampled_from(["grow", "trim", "page", "page", "finish"]), max_size=80),
    st.integers(1, 6),
    st.integers(0, 2**32),
)
def test_no_child_is_given_out_before_its_parent_and_none_is_forgotten(
    roots: int, steps: list[str], size: int, seed: int
) -> None:
    world = Growing(random.Random(seed), roots)
    for step in steps:
        if step == "page":
            world.page(size)
        else:
            getattr(world, step)()
    # Nothing changes any more: what is there is given out, the parents first, each once.
    for _ in range(4 * len(world.parent) + 4):
        world.page(size)
        world.finish()
    assert sorted(world.given_out) == sorted(set(world.given_out))
    assert set(world.order) <= set(world.given_out)
    leaves = {name for name in world.order if name not in world.closed}
    assert set(world.reading) == leaves


@given(st.integers(1, 4), st.integers(0, 30), st.booleans(), st.integers(0, 2**32))
def test_latest_covers_exactly_the_open_leaves_of_any_tree(
    roots: int, growth: int, disabled: bool, seed: int
) -> None:
    world = Growing(random.Random(seed), roots)
    for _ in range(growth):
        world.grow()
        if world.draw.random() < 0.2:
            world.trim()
    if disabled:
        world.closed.update(world.order)
    listed = [
        Shard(n, world.parent[n], n in world.closed and n not in world.odd) for n in world.order
    ]
    positions = first_positions(listed, Start.LATEST, NOW, disabled=disabled)
    parents = set(world.parent.values())
    for name, position in positions.items():
        leaf = name not in parents
        assert position.finished == (disabled or not leaf)


def test_a_parent_that_a_listing_of_several_pages_missed_is_waited_for() -> None:
    """It appeared on a page that had been read already, its child on one that had not."""
    tree = Lineage()
    old, parent, child = shards("old, parent -> child")
    tree.listing_begins()
    tree.learn([old])
    tree.learn([child])
    tree.listing_complete({"old", "child"}, atomic=False)
    assert ready(tree) == {"old"}
    assert tree.unsure
    tree.listing_begins()
    tree.learn([old, parent, child])
    tree.listing_complete({"old", "parent", "child"}, atomic=False)
    assert ready(tree) == {"parent"}
    assert not tree.unsure


def test_a_parent_that_two_listings_do_not_have_is_trimmed() -> None:
    tree = Lineage()
    for _ in range(2):
        assert ready(tree) == set()
        tree.listing_begins()
        tree.learn(shards("(parent) -> child"))
        tree.listing_complete({"child"}, atomic=False)
    assert ready(tree) == {"child"}


def test_a_shard_that_was_learned_while_a_listing_went_on_is_not_taken_for_trimmed() -> None:
    tree = lineage("a -> b", "a")
    tree.listing_begins()
    tree.learn([Shard("c", "b")])
    tree.listing_complete({"a", "b"}, atomic=False)
    assert set(tree.shards) == {"a", "b", "c"}


# The very first start


def test_latest_covers_only_the_shards_that_are_open_now() -> None:
    positions = first_positions(shards("a -> b c, d|"), Start.LATEST, NOW)
    assert {s for s, p in positions.items() if not p.finished} == {"b", "c"}
    assert positions["b"].start is Start.LATEST
    assert positions["b"].start_time == NOW


def test_an_open_parent_with_children_is_closed() -> None:
    odd = [Shard("a"), Shard("b", "a")]
    positions = first_positions(odd, Start.LATEST, NOW)
    assert {s for s, p in positions.items() if not p.finished} == {"b"}


def test_a_leaf_of_a_disabled_stream_is_final() -> None:
    positions = first_positions(shards("a -> b"), Start.LATEST, NOW, disabled=True)
    assert all(position.finished for position in positions.values())


def test_the_trim_horizon_and_a_time_cover_every_listed_shard() -> None:
    for start in (Start.TRIM_HORIZON, Start.TIME):
        positions = first_positions(shards("a -> b c"), start, NOW, since=EPOCH)
        assert not any(position.finished for position in positions.values())
        assert {p.start for p in positions.values()} == {start}


sequence_numbers = st.integers(10**20, 10**40 - 1).map(str)
positions = st.builds(
    Position,
    shard_id=st.text(min_size=1),
    parent_id=st.none() | st.text(),
    start=st.sampled_from(Start),
    start_time=st.none() | st.floats(0, 4e9),
    start_sequence=st.none() | sequence_numbers,
    sequence=st.none() | sequence_numbers,
    iterator=st.none() | st.text(),
    iterator_at=st.none() | st.floats(0, 4e9),
    seen_at=st.none() | st.floats(0, 4e9),
    written_at=st.none() | st.floats(0, 4e9),
    lost_until=st.none() | st.floats(0, 4e9),
    starting=st.none() | sequence_numbers,
    finished=st.booleans(),
)


@given(positions)
def test_a_position_survives_json(position: Position) -> None:
    assert msgspec.json.decode(msgspec.json.encode(position), type=Position) == position
