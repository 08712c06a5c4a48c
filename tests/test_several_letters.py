"""Dead letters with several events, as the command shows and sends them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import msgspec
from conftest import Cli
from pipeline import ON_MOTO, Pipeline
from test_dead_letters import keep, letter

from ddbrelay.aws.session import Aws
from ddbrelay.cli.console import Console
from ddbrelay.cli.letters import result_line
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.tracking import DeadLetter, Fate, stored_events
from ddbrelay.infra.names import rule_name
from ddbrelay.objects.letters import result_object
from ddbrelay.output import outcome as output
from ddbrelay.relay import Outcome
from ddbrelay.relay.letters import Result
from ddbrelay.stores.parking import How
from ddbrelay.testing.builders import change, several

EVENTS = several(change("ada", 1), "one", "two", "three", bus="other-bus").events


def of_several(events: Sequence[Event | None]) -> DeadLetter:
    return replace(letter("ada", 1, event_id="aaaa1111"), event=stored_events(events))


def test_a_letter_is_shown_with_the_events_that_are_left(bare_cli: Cli) -> None:
    keep(bare_cli, of_several([None, *EVENTS[1:]]))
    shown = bare_cli.ok("dead-letters", "show", "aaaa1111").stdout
    assert "\nevent 1 of 2\n" in shown
    assert "\nevent 2 of 2\n" in shown
    assert '"detailType": "one"' not in shown
    (found,) = bare_cli.json("dead-letters", "show", "aaaa1111")
    assert (found["event"]["detailType"], found["event"]["bus"]) == ("two", "other-bus")
    assert [one["detailType"] for one in found["laterEvents"]] == ["three"]
    exported = json.loads(bare_cli.ok("dead-letters", "export").stdout)
    assert exported["laterEvents"] == found["laterEvents"]


def test_a_last_event_is_shown_as_a_single_one_is(bare_cli: Cli) -> None:
    keep(bare_cli, of_several([None, None, EVENTS[2]]))
    assert "\nevent\n" in bare_cli.ok("dead-letters", "show", "aaaa1111").stdout
    (found,) = bare_cli.json("dead-letters", "show", "aaaa1111")
    assert found["event"]["detailType"] == "three"
    assert "laterEvents" not in found


def test_a_letter_of_which_no_event_is_left_is_damaged(bare_cli: Cli) -> None:
    keep(bare_cli, replace(letter("ada", 1, event_id="aaaa1111"), event=b"[null]"))
    done = bare_cli.run("dead-letters", "show", "aaaa1111", "--output", "json")
    assert done.returncode == 2
    assert "is damaged: there is no event" in done.stderr
    again = bare_cli.run("dead-letters", "redrive", "--all", "--dry-run")
    assert "cannot be read: there is no event" in again.stdout


def test_a_dry_run_names_all_events_of_a_letter(bare_cli: Cli) -> None:
    keep(bare_cli, of_several(EVENTS))
    assert " one,two,three would-send" in (
        bare_cli.ok("dead-letters", "redrive", "--all", "--dry-run").stdout
    )
    first, _ = bare_cli.json("dead-letters", "redrive", "--all", "--dry-run")
    assert (first["detailType"], first["eventId"]) == ("one", None)
    assert first["laterEvents"] == [
        {"detailType": "two", "eventId": None},
        {"detailType": "three", "eventId": None},
    ]


def test_a_result_tells_which_events_the_bus_took() -> None:
    from ddbrelay.objects import Of
    from ddbrelay.stores.letters import Parked

    parked = Parked("arn", "shard-1", "1", "e1", b"{}", "bad", 1, 0.0, behind=False, has_event=True)
    part = Result(parked, None, None, EVENTS, ("id-1", "id-2"), "InvalidArgument", 3)
    found = result_object(Of("default", "users", "arn"), part)
    assert (found["state"], found["eventId"], found["attempts"]) == ("parked", "id-1", 3)
    assert [one["eventId"] for one in found["laterEvents"]] == ["id-2", None]
    assert result_line(Console("lines"), part).endswith(
        "one,two,three parked id-1,id-2 (InvalidArgument)"
    )
    whole = Result(parked, How.REDRIVEN, None, EVENTS[:1], ("id-1",))
    assert "laterEvents" not in result_object(Of("default", "users", "arn"), whole)


def test_an_event_is_printed_with_the_bus_that_it_names() -> None:
    named = msgspec.structs.replace(EVENTS[0], trace_header="Root=1-5e1b4151")
    for event, bus in ((named, "other-bus"), (msgspec.structs.replace(named, bus=None), "own")):
        outcome = Outcome(change("ada", 1), event, Fate.PUBLISHED, "id")
        printed = output.Outcome.of(outcome, "own").event
        assert printed is not None
        assert (printed.bus, printed.trace_header) == (bus, "Root=1-5e1b4151")


def _also_to_the_queue(aws: Aws, pipe: Pipeline, source: str) -> str:
    """Another bus whose events of this source, and no others, reach the queue as well."""
    events, other, rule = aws.client("events"), f"{pipe.table}-other", rule_name(pipe.table)
    targets = events.list_targets_by_rule(Rule=rule, EventBusName=pipe.bus)["Targets"]
    events.create_event_bus(Name=other)
    pattern = json.dumps({"source": [source]})
    events.put_rule(Name="others", EventBusName=other, EventPattern=pattern)
    events.put_targets(Rule="others", EventBusName=other, Targets=targets)
    return other


@ON_MOTO
def test_a_redrive_sends_each_event_of_a_letter_to_its_bus(cli: Cli, aws: Aws, name: str) -> None:
    pipe = Pipeline(aws, name)
    other = _also_to_the_queue(aws, pipe, "elsewhere")
    first, second, third = several(change("ada", 1), "one", "two", "three").events
    events = [
        msgspec.structs.replace(first, source=f"ddbrelay.{name}"),
        msgspec.structs.replace(second, source="elsewhere", bus=other),
        msgspec.structs.replace(third, source=f"ddbrelay.{name}"),
    ]
    keep(cli, of_several(events), stream_arn=pipe.stream_arn)
    cli.ok("dead-letters", "redrive", "--all", "--table", name)
    assert [event["detail-type"] for event in pipe.received()] == ["one", "two", "three"]
