"""What SQLite runs per record or per letter: it finds its rows by an index, however many there are.

Such statements are told apart by how often they run: more often the more records there are.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import pytest

from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.relay.copies import Copies, Sent
from ddbrelay.relay.letters import Preparation, Result
from ddbrelay.relay.redrive import Plan, Redrive
from ddbrelay.stores.letters import Letters
from ddbrelay.stores.parking import How
from ddbrelay.testing import clock
from ddbrelay.testing.world import World, simulate

Act = Callable[[World], Awaitable[None]]
_VALUE = re.compile(r"[xX]?'(?:[^']|'')*'|\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")


class Queue:
    """A `LetterSink` that takes everything."""

    async def send(self, letters: Sequence[DeadLetter]) -> Sent:
        return Sent(copied=list(letters))


class Silent:
    def result(self, result: Result) -> None: ...

    def trouble(self, message: str) -> None: ...


async def park(world: World) -> None:
    """The relay parks every other item, with two changes each, and copies the letters."""
    keys = {f"k{number}" for number in range(0, len(world.stream.written), 2)}
    world.bus.fail_entries("MalformedDetail", lambda item: item.change.keys["id"] in keys)
    async with Copies(world.store_of("default"), Queue(), pytest.fail, rng=world.rng) as store:
        world.store = store
        await world.run()
    world.bus.recover()


async def redrive(world: World) -> None:
    letters = Letters(world.database, "default", [world.stream.arn], clock.now)
    preparation = Preparation(world.stream.table)
    run = Redrive(letters, preparation, world.bus, Plan(), Silent(), random.Random(0))
    assert (await run.run(letters.items(), asyncio.Event())).failed == 0


async def refuse(world: World) -> None:
    """No letter is taken, so that each one gets a new reason."""
    world.bus.fail_entries("NotAuthorizedForDetailType")
    letters = Letters(world.database, "default", [world.stream.arn], clock.now)
    preparation = Preparation(world.stream.table)
    run = Redrive(letters, preparation, world.bus, Plan(), Silent(), random.Random(0))
    assert (await run.run(letters.items(), asyncio.Event())).redriven == 0


async def drop(world: World) -> None:
    letters = Letters(world.database, "default", [world.stream.arn], clock.now)
    for queue in letters.queues():
        letters.count_of([queue.head.item])
        letters.resolve(queue.letters, How.DROPPED)


async def show(world: World) -> None:
    """Each letter is looked up by its place."""
    letters = Letters(world.database, "default", [world.stream.arn], clock.now)
    for queue in letters.queues():
        for letter in queue.letters:
            assert letters.find(letter.place) == [letter]


def statements(items: int, before: Sequence[Act], act: Act) -> tuple[Counter[str], dict[str, str]]:
    """How often each statement of `act` ran, and the plan of each."""
    counts: Counter[str] = Counter()
    examples: dict[str, str] = {}

    def seen(text: str) -> None:
        shape = _VALUE.sub("?", text)
        counts[shape] += 1
        examples[shape] = text

    async def scene(world: World) -> None:
        world.fill([f"k{number}" for number in range(items)], 2)
        for earlier in before:
            await earlier(world)
        connection = world.database._connection
        connection.set_trace_callback(seen)
        await act(world)
        connection.set_trace_callback(None)
        for shape, text in examples.items():
            rows = connection.execute(f"EXPLAIN QUERY PLAN {text}")
            plans[shape] = "; ".join(row[3] for row in rows)

    plans: dict[str, str] = {}
    simulate(scene)
    return counts, plans


@pytest.mark.parametrize(
    ("before", "act", "least"),
    [
        ([], park, 3),
        ([park], redrive, 4),
        ([park], refuse, 4),
        ([park], drop, 4),
        ([park], show, 2),
    ],
    ids=["park", "redrive", "refuse", "drop", "show"],
)
def test_what_runs_for_each_record_searches_an_index(
    before: Sequence[Act], act: Act, least: int
) -> None:
    few, _ = statements(10, before, act)
    many, plans = statements(60, before, act)
    each = [shape for shape in many if many[shape] - few[shape] >= 4 and plans[shape]]
    assert len(each) >= least, many
    assert {shape: plans[shape] for shape in each if not sound(shape, plans[shape])} == {}


@pytest.mark.parametrize(("act", "left"), [(redrive, 0), (drop, 0), (show, 1)])
def test_what_sqlite_does_for_a_letter_is_the_same_however_many_there_are(
    act: Act, left: int
) -> None:
    few, many = work(200, act, left), work(2_000, act, left)
    # Sorting the items takes a few steps more of each.
    assert many / few < 10 * 1.2, (few, many)


def work(letters: int, act: Act, left: int) -> int:
    """How many hundred steps SQLite's virtual machine takes for so many letters."""
    steps = 0

    def hundred_more() -> int:
        nonlocal steps
        steps += 1
        return 0

    async def scene(world: World) -> None:
        # Every other item is parked, with two letters.
        world.fill([f"k{number}" for number in range(letters)], 2)
        await park(world)
        stored = Letters(world.database, "default", [world.stream.arn], clock.now)
        assert stored.count() == letters
        world.database._connection.set_progress_handler(hundred_more, 100)
        await act(world)
        world.database._connection.set_progress_handler(None, 0)
        assert stored.count() == letters * left

    simulate(scene)
    return steps


def sound(statement: str, plan: str) -> bool:
    """Whether an index leads to the rows of one record or item, or in order to the first few."""
    keys = 2 if "LIMIT" in statement else 3
    return all(
        re.match(r"SEARCH \w+ USING (COVERING INDEX|INDEX|PRIMARY KEY) ", step)
        and step.count("=?") >= keys
        for step in plan.split("; ")
    )
