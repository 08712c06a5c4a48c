"""What the topics of `ddbrelay help` claim is so."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from ddbrelay.cli import help as helps
from ddbrelay.flow.mapping import document
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing.world import World, simulated

TESTS = Path(__file__).parent

CLAIMS = [
    (
        "delivery",
        "When the bus is deleted under a run, the run is held",
        "test_dispatch.py::test_a_bus_deleted_in_the_middle_pauses_the_run_and_parks_nothing",
    ),
    (
        "delivery",
        "another bus that a rule names holds its own events only",
        "test_bus.py::test_a_missing_bus_that_is_not_the_runs_holds_up_its_own_events_only",
    ),
    (
        "delivery",
        "at the start, or denies access, ends the run with code 5",
        "test_bus.py::test_a_bus_that_takes_nothing_from_us_ends_the_run_instead_of_parking_everything",
    ),
    (
        "delivery",
        "so is one that is denied by a bus that took others in this run",
        "test_bus.py::test_once_the_bus_took_an_event_a_denied_one_is_the_fault_of_the_event",
    ),
    (
        "delivery",
        "saved as soon as it moves, at most every 100 ms and for at most a tenth of the time",
        "test_topics.py::test_a_checkpoint_is_a_tenth_of_a_second_old_at_most",
    ),
    (
        "delivery",
        "what was sent behind an event of its shard that is still being tried",
        "test_topics.py::test_what_was_sent_behind_an_event_that_is_still_tried_is_sent_again",
    ),
    (
        "delivery",
        "after an answer that never came, that one request",
        "test_engine.py::test_a_lost_answer_is_sent_again",
    ),
    (
        "positions",
        "Each forwarding run saves one when it starts, of which the last 20 are kept",
        "test_positions.py::test_the_bookmarks_of_the_last_runs_are_kept_and_those_of_users_always",
    ),
    (
        "mapping",
        "eventID, id, eventName, time, sequenceNumber",
        "test_topics.py::test_the_fields_of_a_change_are_those_that_a_mapping_can_read",
    ),
    (
        "output",
        'The last line is an object of type "summary"',
        "test_outputs.py::test_the_topic_names_the_commands_that_end_with_a_summary_and_no_other",
    ),
]


def words_of(topic: str) -> str:
    """A topic on one line."""
    return " ".join(helps.topic(topic).split())


@pytest.mark.parametrize(("topic", "claim", "test"), CLAIMS)
def test_a_claim_stands_in_its_topic_and_has_a_test(topic: str, claim: str, test: str) -> None:
    assert claim in words_of(topic)
    file, name = test.split("::")
    assert re.search(rf"^(async )?def {name}\(", (TESTS / file).read_text(), re.MULTILINE)


def test_the_fields_of_a_change_are_those_that_a_mapping_can_read() -> None:
    said = words_of("mapping").partition("WHAT A CHANGE OFFERS")[2].partition("The view type")[0]
    fields = re.findall(r"\w+", re.sub(r"\([^)]*\)", "", said.replace(" and ", " ")))
    assert sorted(fields) == sorted([*document._READERS, document.ID])


@simulated("a", seed=3)
async def test_a_checkpoint_is_a_tenth_of_a_second_old_at_most(world: World) -> None:
    world.bus.faults.latency = (0.01, 0.02)
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None))
    for turn in range(40):
        world.fill([f"{key}{turn}" for key in "abcde"])
        await asyncio.sleep(0.37)
        behind = len(world.log.settled(Fate.PUBLISHED))
        # Saving takes no time here; else it may be done a tenth of the time.
        await asyncio.sleep(0.11)
        (position,) = (await world.positions()).values()
        covered = world.log.settled(Fate.PUBLISHED)[:behind]
        assert behind
        assert int(position.sequence or "0") >= max(map(int, covered))
    stop.set()
    await run


@simulated("a")
async def test_what_was_sent_behind_an_event_that_is_still_tried_is_sent_again(
    world: World,
) -> None:
    first, second, third = world.fill("abc")
    world.bus.fail_entries("ThrottlingException", lambda item: item.ticket.sequence == first)
    stop = asyncio.Event()
    run = asyncio.create_task(world.run(stop=stop, until_idle=None, grace=0.0))
    await asyncio.sleep(30.0)
    assert sorted(one.sequence for one in world.bus.delivered) == sorted([second, third])
    stop.set()
    await run
    world.bus.recover()
    await world.run()
    delivered = [one.sequence for one in world.bus.delivered]
    assert {number: delivered.count(number) for number in delivered} == {
        first: 1,
        second: 2,
        third: 2,
    }
