"""Teardown: what provision made, known by its tags, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Cli
from outputs import check
from pipeline import ON_MOTO, running
from provisioning import another, denied, everything, on_call

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused
from ddbrelay.infra.plan import Step, Wanted
from ddbrelay.infra.provision import provision
from ddbrelay.infra.teardown import teardown

pytestmark = pytest.mark.moto_first

Waiter = Callable[[Callable[[], bool], float], None]
OURS = [("archive", "deleted"), ("rule", "deleted"), ("queue", "deleted")]
ALL = [*OURS, ("bus", "deleted"), ("table", "deleted")]


@pytest.fixture
def wanted(name: str) -> Wanted:
    return Wanted(table=name, bus=f"{name}-bus", source=f"ddbrelay.{name}", archive_days=3)


def said(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.kind, step.state) for step in steps]


@pytest.mark.slow
@ON_MOTO
def test_a_relay_that_still_runs_is_named_and_leaves_no_checkpoint_behind(
    cli: Cli, wait_until: Waiter
) -> None:
    cli.ok("provision")
    cli.ok("seed", "--count", "2")
    with running(cli, "tail", "--forward") as relay:
        wait_until(lambda: len(relay.lines) == 2, 30)
        done = cli.ok("teardown", "--yes")
        assert f'consumer "default" is relaying the table now, pid {relay.process.pid} on ' in (
            done.stderr
        )
        relay.signal(signal.SIGINT)
        code, said = relay.wait()
    assert (code, "was taken away from this run" in said) == (7, True)
    cli.ok("provision")
    cli.ok("seed", "--count", "1")
    assert "Relayed 1 event " in cli.ok("tail", "--forward", "--until-idle", "1s").stderr


def nothing(aws: Aws, name: str) -> bool:
    return not any(everything(aws, name).values())


def make_table(aws: Aws, name: str) -> None:
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


def at_a_terminal(cli: Cli, answer: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run with a terminal as stdin, at which someone types the answer."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        return subprocess.run(
            cli.arguments(*words),
            cwd=cli.directory,
            env=cli.env(),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)


def test_it_deletes_all_that_provision_made_and_a_second_run_finds_nothing(
    aws: Aws, wanted: Wanted
) -> None:
    provision(aws, wanted)
    heard: list[Step] = []
    steps = teardown(aws, wanted, on_step=heard.append)
    assert said(steps) == ALL
    assert tuple(heard) == steps
    assert all(step.arn for step in steps)
    assert nothing(aws, wanted.table)
    assert teardown(aws, wanted) == ()


def test_what_it_removed_can_be_provisioned_again(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    teardown(aws, wanted)
    assert {step.state for step in provision(aws, wanted).steps} == {"created"}


def test_a_dry_run_deletes_nothing(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    before = everything(aws, wanted.table)
    steps = teardown(aws, wanted, dry_run=True)
    assert said(steps) == [(kind, "would-delete") for kind, _ in ALL]
    assert everything(aws, wanted.table) == before


def test_what_was_there_before_is_left_and_said_so(aws: Aws, wanted: Wanted) -> None:
    make_table(aws, wanted.table)
    aws.client("events").create_event_bus(Name=wanted.bus)
    provision(aws, wanted)
    steps = teardown(aws, wanted)
    assert said(steps) == [*OURS, ("bus", "left"), ("table", "left")]
    assert {step.detail for step in steps[-2:]} == {"not made by ddbrelay"}
    left = everything(aws, wanted.table)
    assert [len(left[kind]) for kind in ("tables", "buses")] == [1, 1]
    assert said(teardown(aws, wanted)) == [("bus", "left"), ("table", "left")]


def test_a_queue_a_rule_and_an_archive_of_the_same_name_but_not_ours_are_left(
    aws: Aws, wanted: Wanted
) -> None:
    events = aws.client("events")
    bus = events.create_event_bus(Name=wanted.bus)["EventBusArn"]
    ours = f"ddbrelay-{wanted.table}"
    events.put_rule(Name=ours, EventBusName=wanted.bus, EventPattern=json.dumps(wanted.pattern))
    events.create_archive(ArchiveName=ours, EventSourceArn=bus)
    aws.client("sqs").create_queue(QueueName=ours)
    assert said(teardown(aws, wanted)) == [
        ("archive", "left"),
        ("rule", "left"),
        ("queue", "left"),
        ("bus", "left"),
    ]
    assert len(everything(aws, wanted.table)["queues"]) == 1


def test_a_table_that_is_tagged_for_another_table_is_left(aws: Aws, wanted: Wanted) -> None:
    done = provision(aws, wanted)
    aws.client("dynamodb").tag_resource(
        ResourceArn=done.table_arn, Tags=[{"Key": "ddbrelay:table", "Value": "orders"}]
    )
    steps = teardown(aws, wanted)
    assert said(steps)[-1] == ("table", "left")
    assert steps[-1].detail == "made for table orders"


def test_a_bus_that_another_table_uses_is_left_until_it_is_free(aws: Aws, wanted: Wanted) -> None:
    other = dataclasses.replace(wanted, table=f"{wanted.table}-two", source="two")
    provision(aws, wanted)
    provision(aws, other)
    steps = teardown(aws, wanted)
    [bus] = [step for step in steps if step.kind == "bus"]
    assert bus.state == "left"
    assert f"rule ddbrelay-{other.table}" in bus.detail
    assert f"archive ddbrelay-{other.table}" in bus.detail
    [bus] = [step for step in teardown(aws, other) if step.kind == "bus"]
    assert (bus.state, bus.detail) == ("left", f"made for table {wanted.table}")
    assert said(teardown(aws, wanted)) == [("bus", "deleted")]
    assert nothing(aws, wanted.table)


def test_the_default_bus_is_never_deleted(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, bus="default")
    events = aws.client("events")
    provision(aws, wanted)
    arn = events.describe_event_bus(Name="default")["Arn"]
    tags = [{"Key": key, "Value": value} for key, value in wanted.tags.items()]
    events.tag_resource(ResourceARN=arn, Tags=tags)
    try:
        steps = teardown(aws, wanted)
    finally:
        events.untag_resource(ResourceARN=arn, TagKeys=[*wanted.tags])
    assert said(steps) == [*OURS, ("bus", "left"), ("table", "deleted")]
    assert events.describe_event_bus(Name="default")["Arn"] == arn


def test_what_stands_on_a_bus_that_is_not_named_now_is_found_by_its_tags(
    aws: Aws, wanted: Wanted
) -> None:
    provision(aws, wanted)
    assert said(teardown(aws, dataclasses.replace(wanted, bus="another", archive_days=None))) == ALL
    assert nothing(aws, wanted.table)


def test_other_targets_and_waiting_messages_are_named_before_they_go(
    aws: Aws, wanted: Wanted
) -> None:
    done = provision(aws, wanted)
    aws.client("sqs").send_message(QueueUrl=done.queue_url, MessageBody="{}")
    aws.client("events").put_targets(
        Rule=f"ddbrelay-{wanted.table}",
        EventBusName=wanted.bus,
        Targets=[{"Id": "theirs", "Arn": f"{done.queue_arn}-theirs"}],
    )
    plan = {step.kind: step.detail for step in teardown(aws, wanted, dry_run=True)}
    assert f"ddbrelay-{wanted.table}-theirs" in plan["rule"]
    assert plan["queue"] == "with about 1 messages in it"
    assert said(teardown(aws, wanted)) == ALL


def test_it_asks_with_the_whole_plan_before_anything_is_deleted(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    before = everything(aws, wanted.table)

    class NoError(Exception):
        pass

    def no(plan: tuple[Step, ...]) -> None:
        assert said(plan) == [(kind, "would-delete") for kind, _ in ALL]
        raise NoError

    with pytest.raises(NoError):
        teardown(aws, wanted, confirm=no)
    assert everything(aws, wanted.table) == before


def test_nobody_is_asked_when_there_is_nothing_to_delete(aws: Aws, wanted: Wanted) -> None:
    make_table(aws, wanted.table)

    def never(plan: tuple[Step, ...]) -> None:
        pytest.fail(f"asked about {plan}")

    assert said(teardown(aws, wanted, confirm=never)) == [("table", "left")]


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("events", "DeleteArchive"),
        ("events", "RemoveTargets"),
        ("events", "DeleteRule"),
        ("sqs", "DeleteQueue"),
        ("events", "DeleteEventBus"),
        ("dynamodb", "DeleteTable"),
    ],
)
def test_after_a_failure_half_way_the_next_run_removes_the_rest(
    aws: Aws, wanted: Wanted, service: str, operation: str
) -> None:
    provision(aws, wanted)
    broken = another(aws)
    on_call(broken, service, operation, denied())
    prefix = {"events": "events", "sqs": "sqs", "dynamodb": "dynamodb"}[service]
    with pytest.raises(AwsRefused, match=f"not allowed to .*{prefix}:{operation}"):
        teardown(broken, wanted)
    assert all(step.state == "deleted" for step in teardown(aws, wanted))
    assert nothing(aws, wanted.table)


def test_a_target_that_eventbridge_does_not_remove_is_an_error(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    answer: dict[str, Any] = {
        "FailedEntryCount": 1,
        "FailedEntries": [{"ErrorCode": "Internal", "ErrorMessage": "try later"}],
    }
    broken = another(aws)
    on_call(
        broken,
        "events",
        "RemoveTargets",
        lambda **_: (SimpleNamespace(status_code=200, content=b"{}", headers={}), answer),
    )
    with pytest.raises(AwsRefused, match="Internal: try later"):
        teardown(broken, wanted)


def test_a_table_that_does_not_go_ends_in_a_clear_error(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    broken = another(aws)
    on_call(
        broken,
        "dynamodb",
        "DeleteTable",
        lambda **_: (SimpleNamespace(status_code=200, content=b"{}", headers={}), {}),
    )
    with pytest.raises(AwsRefused, match=r"still waiting for the table .* to be gone"):
        teardown(broken, wanted, timeout=0.2)


@pytest.mark.slow
def test_yes_deletes_without_asking(cli: Cli, aws: Aws, name: str) -> None:
    cli.ok("provision", "--archive-days", "3")
    done = cli.ok("teardown", "--yes")
    assert [line.split()[0::2] for line in done.stdout.splitlines() if "arn:" not in line] == [
        ["archive", "deleted", "the", "in"],
        ["rule", "deleted", f"ddbrelay-{name}"],
        ["queue", "deleted"],
        ["bus", "deleted"],
        ["table", "deleted", "all", "items", "its"],
    ]
    assert done.stdout.count("arn:aws:") == 5
    assert done.stderr.startswith("deleted 5 in ")
    assert nothing(aws, name)
    again = cli.ok("teardown", "--yes")
    assert again.stdout == ""
    assert again.stderr == f"nothing is left of what provision made for {name}\n"


@ON_MOTO
def test_without_a_terminal_it_wants_yes(cli: Cli, aws: Aws, name: str) -> None:
    cli.ok("provision")
    done = cli.run("teardown")
    assert done.returncode == 2
    assert "there is no terminal to ask at" in done.stderr
    assert "--yes" in done.stderr
    assert len(everything(aws, name)["tables"]) == 1


@ON_MOTO
def test_it_lists_what_goes_with_arns_and_takes_a_no(cli: Cli, aws: Aws, name: str) -> None:
    cli.ok("provision")
    words = ("teardown", "-q", "--output", "json")
    done = at_a_terminal(cli, "n", *words)
    assert done.returncode == 0
    [summary] = check(words, done.stdout)
    assert summary["counts"] == {"would-delete": 4}
    assert done.stderr.count("would-delete") == 4
    assert done.stderr.count("arn:aws:") == 4
    assert "Delete these 4, with the data in them?" in done.stderr
    assert len(everything(aws, name)["tables"]) == 1


@ON_MOTO
def test_it_takes_a_yes_at_the_terminal(cli: Cli, aws: Aws, name: str) -> None:
    cli.ok("provision")
    done = at_a_terminal(cli, "y", "teardown", "--output", "json")
    assert done.returncode == 0, done.stderr
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    assert [o["state"] for o in objects[:-1]] == ["deleted"] * 4
    assert nothing(aws, name)


@ON_MOTO
def test_a_dry_run_asks_nothing_and_deletes_nothing(cli: Cli, aws: Aws, name: str) -> None:
    cli.ok("provision")
    before = everything(aws, name)
    done = cli.ok("teardown", "--dry-run")
    assert done.stdout.count("would-delete") == 4
    assert done.stderr.startswith("nothing was deleted: 4 to delete")
    assert everything(aws, name) == before


def test_json_has_an_object_for_each_thing_and_a_summary(cli: Cli, aws: Aws, name: str) -> None:
    make_table(aws, name)
    cli.ok("provision")
    *resources, summary = cli.json("teardown", "--yes")
    assert [(r["type"], r["kind"], r["state"]) for r in resources] == [
        ("resource", "rule", "deleted"),
        ("resource", "queue", "deleted"),
        ("resource", "bus", "deleted"),
        ("resource", "table", "left"),
    ]
    assert all(set(r) == {"type", "kind", "name", "state", "arn", "detail"} for r in resources)
    assert summary.pop("seconds") > 0
    assert summary == {
        "type": "summary",
        "dryRun": False,
        "counts": {"deleted": 3, "left": 1},
    }
