"""`dead-letters redrive` as a process that is killed and stopped, beside a relay that goes on."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from conftest import Cli
from gateway import gateway_to
from pipeline import Pipeline, clear_error, event_ids, objects, rows, running

from ddbrelay.aws.session import Aws
from ddbrelay.local import engine as engines

pytestmark = pytest.mark.slow

Waiter = Callable[[Callable[[], bool], float], None]
RELAY = ("tail", "--forward", "--output", "json")
REDRIVE = ("dead-letters", "redrive", "--all", "--output", "json")
ITEMS = 6
TIMES = 12


@pytest.fixture
def pipe(cli: Cli, engine: engines.Engine, aws: Aws, name: str) -> Pipeline:
    """A pipeline of which every change so far is parked: the bus took none of them."""
    made = Pipeline(aws, name)
    write(made, range(1, TIMES + 1))
    with gateway_to(engine) as gateway:
        gateway.answers["PutEvents"] = (400, "ValidationException")
        direct = cli.environment["DDBRELAY_ENDPOINT_URL"]
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        assert cli.run(*RELAY, "--until-idle", "0").returncode == 3
        cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
    assert letters(cli) == ITEMS * TIMES
    return made


def write(pipe: Pipeline, versions: range) -> None:
    for version in versions:
        for item in range(ITEMS):
            pipe.put(f"k{item}", version={"N": str(version)})


def letters(cli: Cli) -> int:
    ((count,),) = rows(cli, "SELECT count(*) FROM dead_letters")
    return int(count)


def assert_in_order(pipe: Pipeline, received: list[dict[str, Any]], versions: int) -> None:
    """Every version of every item arrived, for the first time in the order of writing."""
    assert set(event_ids(received)) == {record["eventID"] for record in pipe.records()}
    firsts: dict[str, list[int]] = {}
    for event in received:
        seen = firsts.setdefault(event["detail"]["id"], [])
        if event["detail"]["version"] not in seen:
            seen.append(event["detail"]["version"])
    assert firsts == {f"k{n}": list(range(1, versions + 1)) for n in range(ITEMS)}


def test_a_redrive_that_is_killed_again_and_again_beside_a_relay_loses_and_swaps_nothing(
    cli: Cli, pipe: Pipeline, engine: engines.Engine, wait_until: Waiter
) -> None:
    received: list[dict[str, Any]] = []
    direct = cli.environment["DDBRELAY_ENDPOINT_URL"]
    with running(cli, *RELAY) as relay:
        for turn, calls in enumerate((1, 2, 4)):
            write(pipe, range(TIMES + 1 + turn, TIMES + 2 + turn))
            with gateway_to(engine) as gateway:
                gateway.passing["PutEvents"] = calls
                cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
                with running(cli, *REDRIVE) as redrive:
                    wait_until(lambda on=gateway, n=calls: on.calls["PutEvents"] > n, 30)
                    redrive.signal(signal.SIGKILL)
                    assert redrive.wait()[0] == -signal.SIGKILL
            cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
            assert letters(cli) > 0
            received += pipe.received()
        assert len(set(event_ids(received))) >= ITEMS * (1 + 2 + 4)
        wait_until(lambda: len(pipe.records()) == ITEMS * (TIMES + 3), 10)
        *sent, summary = cli.json(*REDRIVE)
        assert {one["state"] for one in sent} <= {"redriven"}
        assert (summary["failed"], summary["end"]) == (0, "done")
        # The relay is done with what came last, through the store or past it.
        write(pipe, range(TIMES + 4, TIMES + 5))

        def all_there() -> bool:
            received.extend(pipe.received())
            return len(set(event_ids(received))) + letters(cli) >= ITEMS * (TIMES + 4)

        wait_until(all_there, 30)
        relay.signal(signal.SIGINT)
        relay.wait()
    cli.json(*REDRIVE)
    received += pipe.received()
    assert letters(cli) == 0
    assert_in_order(pipe, received, TIMES + 4)
    *warnings, report = cli.json("ledger", "--verify")
    assert (warnings, report["unaccounted"], report["miscounted"]) == ([], 0, 0)
    assert rows(cli, "PRAGMA integrity_check") == [("ok",)]


def test_what_the_bus_took_when_the_redrive_was_killed_is_sent_again_first(
    cli: Cli, pipe: Pipeline, engine: engines.Engine, wait_until: Waiter
) -> None:
    direct = cli.environment["DDBRELAY_ENDPOINT_URL"]
    with gateway_to(engine) as gateway:
        gateway.unanswered.add("PutEvents")
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        with running(cli, *REDRIVE) as redrive:
            wait_until(lambda: gateway.acted["PutEvents"] == 1, 30)
            redrive.signal(signal.SIGKILL)
            assert redrive.wait()[0] == -signal.SIGKILL
    cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
    taken = pipe.received()
    assert len(taken) == ITEMS
    assert letters(cli) == ITEMS * TIMES
    cli.json(*REDRIVE)
    again = pipe.received()
    assert event_ids(again)[:ITEMS] == event_ids(taken)
    assert_in_order(pipe, again, TIMES)


def test_an_interrupt_finishes_what_is_in_flight_and_ends_with_0(
    cli: Cli, pipe: Pipeline, engine: engines.Engine, wait_until: Waiter
) -> None:
    direct = cli.environment["DDBRELAY_ENDPOINT_URL"]
    with gateway_to(engine) as gateway:
        gateway.held.add("PutEvents")
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        with running(cli, *REDRIVE) as redrive:
            wait_until(lambda: gateway.calls["PutEvents"] == 1, 30)
            done = cli.run("dead-letters", "drop", "--all", "--yes")
            clear_error(done, 7, f"being sent or dropped by pid {redrive.process.pid}")
            redrive.signal(signal.SIGINT)
            gateway.release.set()
            code, words = redrive.wait()
    cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
    *sent, summary = objects("".join(redrive.lines))
    assert (code, words, summary["end"]) == (0, "", "stopped")
    assert (len(sent), summary["redriven"]) == (ITEMS, ITEMS)
    assert summary["remaining"] == letters(cli) == ITEMS * (TIMES - 1)
    done = cli.ok("dead-letters", "redrive", "--all")
    assert re.search(r"^Sent 66 dead letters in [\d.]+ s; 0 left\.$", done.stderr, re.MULTILINE)
    assert_in_order(pipe, pipe.received(), TIMES)


def test_a_bus_that_throttles_is_tried_again_and_one_that_goes_on_leaves_the_letters(
    cli: Cli, pipe: Pipeline, engine: engines.Engine
) -> None:
    direct = cli.environment["DDBRELAY_ENDPOINT_URL"]
    with gateway_to(engine) as gateway:
        gateway.answers["PutEvents"] = (400, "ThrottlingException")
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        done = cli.run(*REDRIVE, "--max-attempts", "2")
        assert done.returncode == 3
        gateway.answers["PutEvents"] = (400, "AccessDeniedException")
        clear_error(cli.run(*REDRIVE), 5, "publish to bus")
    cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
    *stayed, summary = objects(done.stdout)
    assert [(one["state"], one["attempts"]) for one in stayed] == [("parked", 2)] * ITEMS
    assert (summary["failed"], summary["remaining"]) == (ITEMS, ITEMS * TIMES)
    cli.json(*REDRIVE)
    assert_in_order(pipe, pipe.received(), TIMES)
