"""The names under which the relay counts: the detail types of its events."""

from __future__ import annotations

from test_several import NAMES, named, three

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Mapped, Reject, Skip
from ddbrelay.flow.tracking import Fate
from ddbrelay.stores.timeline import of_consumer
from ddbrelay.testing.world import World, simulated


def counts(world: World) -> dict[tuple[Fate, str], int]:
    found: dict[tuple[Fate, str], int] = {}
    for row in of_consumer(world.database, "default", (world.stream.arn,), 0.0):
        key = (row.fate, row.name)
        found[key] = found.get(key, 0) + row.count
    return found


def some(change: Change) -> Mapped:
    if change.item_key == b'{"id":{"S":"x"}}':
        return Skip("noise")
    if change.item_key == b'{"id":{"S":"y"}}':
        return Reject("of no use", "broken")
    return CrudMapper("users")(change)


@simulated("a b")
async def test_events_count_by_detail_type_and_changes_without_one_by_rule(world: World) -> None:
    world.mapper = some
    world.fill("abxy", 3)
    await world.run()
    assert counts(world) == {
        (Fate.PUBLISHED, "UserCreated"): 2,
        (Fate.PUBLISHED, "UserUpdated"): 4,
        (Fate.SKIPPED, "noise"): 3,
        (Fate.PARKED, "broken"): 3,
    }


@simulated()
async def test_each_of_several_events_counts_by_its_own_type(world: World) -> None:
    world.mapper = three
    world.bus.fail_entries(
        "MalformedDetail", lambda item: named("two")(item) and b'"b"' in item.key
    )
    world.fill("ab")
    await world.run()
    assert counts(world) == {
        **{(Fate.PUBLISHED, name): 1 for name in NAMES},
        (Fate.PARKED, "one"): 1,
    }
