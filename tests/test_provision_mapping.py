"""Provision for a mapping: the buses that its rules name, and the expiry of an outbox."""

from __future__ import annotations

import dataclasses
import json
import threading
from typing import Any

import pytest
from conftest import Cli
from pipeline import ON_MOTO
from provisioning import another, denied, everything, on_call, states

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.infra.plan import Differs, Step, Wanted
from ddbrelay.infra.provision import provision
from ddbrelay.infra.teardown import teardown

pytestmark = pytest.mark.moto_first

RULES = """
[[rule]]
when = { eventName = ["INSERT"] }
detail_type = "Made"
detail = "{id: keys.orderId}"
bus = "NAME-shipping"

[[rule]]
when = { eventName = ["REMOVE"] }
detail_type = "Gone"
bus = "arn:aws:events:eu-west-1:444455556666:event-bus/theirs"
"""
OUTBOX = 'preset = "outbox"\n[outbox]\nafter = "expire"\n'


@pytest.fixture
def wanted(name: str) -> Wanted:
    return Wanted(
        table=name, bus=f"{name}-bus", source=f"ddbrelay.{name}", other_buses=(f"{name}-more",)
    )


@pytest.fixture
def expiring(wanted: Wanted) -> Wanted:
    return dataclasses.replace(wanted, other_buses=(), ttl_attribute="expiresAt")


def ttl(aws: Aws, table: str) -> str | None:
    described = aws.client("dynamodb").describe_time_to_live(TableName=table)
    found = described["TimeToLiveDescription"]
    return found["AttributeName"] if found["TimeToLiveStatus"] == "ENABLED" else None


def expire(aws: Aws, table: str, attribute: str) -> None:
    aws.client("dynamodb").update_time_to_live(
        TableName=table,
        TimeToLiveSpecification={"Enabled": True, "AttributeName": attribute},
    )


def make_table(aws: Aws, name: str) -> None:
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


# Buses


def test_the_buses_of_rules_are_made_with_nothing_behind_them(aws: Aws, wanted: Wanted) -> None:
    done = provision(aws, wanted)
    assert [(step.kind, step.name, step.state) for step in done.steps[1:3]] == [
        ("bus", f"{wanted.table}-bus", "created"),
        ("bus", f"{wanted.table}-more", "created"),
    ]
    assert done.bus_arn.endswith(f"/{wanted.table}-bus")
    events = aws.client("events")
    more = events.describe_event_bus(Name=f"{wanted.table}-more")["Arn"]
    tags = events.list_tags_for_resource(ResourceARN=more)["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == wanted.tags
    stands = everything(aws, wanted.table)
    assert len(stands["buses"]) == 2
    assert [rule["EventBusName"] for rule in stands["rules"]] == [wanted.bus]
    assert not provision(aws, wanted).changed


def test_teardown_deletes_the_buses_that_provision_made_and_leaves_the_others(
    aws: Aws, wanted: Wanted
) -> None:
    theirs = f"{wanted.table}-theirs"
    aws.client("events").create_event_bus(Name=theirs)
    wanted = dataclasses.replace(wanted, other_buses=(*wanted.other_buses, theirs))
    provision(aws, wanted)
    steps = {step.name: (step.state, step.detail) for step in teardown(aws, wanted)}
    assert steps[f"{wanted.table}-more"][0] == "deleted"
    assert steps[theirs] == ("left", "not made by ddbrelay")
    assert [bus["Name"] for bus in everything(aws, wanted.table)["buses"]] == [theirs]


def test_a_bus_of_rules_that_somebody_else_listens_to_is_left(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    aws.client("events").put_rule(
        Name=f"{wanted.table}-consumer",
        EventBusName=f"{wanted.table}-more",
        EventPattern='{"source": ["x"]}',
    )
    steps = {step.name: (step.state, step.detail) for step in teardown(aws, wanted)}
    assert steps[f"{wanted.table}-more"] == (
        "left",
        f"still in use: rule {wanted.table}-consumer",
    )


def test_a_bus_that_is_no_name_is_refused(wanted: Wanted) -> None:
    with pytest.raises(ConfigError, match='"a b" is not a name of a bus'):
        dataclasses.replace(wanted, other_buses=("a b",))


@pytest.mark.slow
def test_each_bus_of_the_file_has_its_row_in_one_column_and_none_of_somebody_elses(
    cli: Cli, name: str
) -> None:
    (cli.directory / "ddbrelay.toml").write_text(RULES.replace("NAME", name))
    done = cli.ok("provision", "--key", "orderId")
    rows = [line for line in done.stdout.splitlines() if " created" in line]
    assert [row.split()[:2] for row in rows] == [
        ["table", name],
        ["bus", f"{name}-bus"],
        ["bus", f"{name}-shipping"],
        ["queue", f"ddbrelay-{name}"],
        ["rule", f"{name}-bus/ddbrelay-{name}"],
    ]
    assert len({row.index(" created") for row in rows}) == 1
    assert "note:" not in done.stderr
    deleted = cli.ok("teardown", "--yes").stdout.splitlines()
    rows = [line for line in deleted if " deleted" in line]
    assert f"{name}-shipping" in {row.split()[1] for row in rows}
    assert len({row.index(" deleted") for row in rows}) == 1


@pytest.mark.slow
@ON_MOTO
def test_rules_that_read_another_key_are_said_and_a_dry_run_knows_when_all_of_it_stands(
    cli: Cli, name: str
) -> None:
    (cli.directory / "ddbrelay.toml").write_text(RULES.replace("NAME", name))
    done = cli.ok("provision")
    assert done.stderr.startswith(
        "note: rules read keys.orderId, the table's key is id (--key orderId:S)\n"
    )
    dry = cli.ok("provision", "--dry-run").stderr.splitlines()
    assert dry[1] == (
        "nothing to do: all of it stands as wanted · next: ddbrelay --local seed --count 100"
    )


# Expiry


def test_a_new_outbox_gets_its_expiry(aws: Aws, expiring: Wanted) -> None:
    [table, *_] = provision(aws, expiring).steps
    assert (table.state, table.detail) == ("created", "stream NEW_AND_OLD_IMAGES, TTL expiresAt")
    assert ttl(aws, expiring.table) == "expiresAt"
    again = provision(aws, expiring)
    assert not again.changed
    assert again.steps[0].detail == "stream NEW_AND_OLD_IMAGES, TTL expiresAt"


def test_another_expiry_is_told_and_refused(aws: Aws, expiring: Wanted) -> None:
    provision(aws, dataclasses.replace(expiring, ttl_attribute="until"))
    before = everything(aws, expiring.table)
    for apply_changes in (False, True):
        with pytest.raises(Differs, match="TTL until, wanted expiresAt; nothing was") as refused:
            provision(aws, expiring, apply_changes=apply_changes)
        assert 'ttl_attribute = "until" below [outbox]' in (refused.value.hint or "")
    assert everything(aws, expiring.table) == before
    assert ttl(aws, expiring.table) == "until"


def test_a_table_of_somebody_elses_gets_its_expiry_when_asked(aws: Aws, expiring: Wanted) -> None:
    make_table(aws, expiring.table)
    with pytest.raises(Differs, match="TTL off, wanted expiresAt") as refused:
        provision(aws, expiring)
    assert "items whose expiresAt has passed are deleted" in (refused.value.hint or "")
    [table, *_] = provision(aws, expiring, apply_changes=True).steps
    assert (table.state, table.detail) == ("updated", "TTL expiresAt turned on")
    assert ttl(aws, expiring.table) == "expiresAt"
    assert not provision(aws, expiring).changed


def test_what_a_run_that_was_interrupted_left_out_is_done_by_the_next_one(
    aws: Aws, expiring: Wanted
) -> None:
    broken = another(aws)
    on_call(broken, "dynamodb", "UpdateTimeToLive", denied())
    with pytest.raises(AwsRefused, match=r"not allowed to turn on the TTL .*UpdateTimeToLive"):
        provision(broken, expiring)
    plan: list[Step] = []
    provision(aws, expiring, dry_run=True, on_step=plan.append)
    assert (plan[0].state, plan[0].detail) == ("would-update", "TTL off, wanted expiresAt")
    [table, *_] = provision(aws, expiring).steps
    assert (table.state, table.detail) == ("updated", "TTL expiresAt turned on")
    assert ttl(aws, expiring.table) == "expiresAt"


def test_an_expiry_that_another_run_turned_on_a_moment_earlier_is_on(
    aws: Aws, expiring: Wanted
) -> None:
    other, late = another(aws), threading.Event()

    def first(**_: Any) -> Any:
        if late.is_set():
            return None
        late.set()
        expire(other, expiring.table, "expiresAt")
        return denied("ValidationException")()

    on_call(aws, "dynamodb", "UpdateTimeToLive", first)
    assert states(provision(aws, expiring).steps)["table"] == "created"
    assert late.is_set()


def test_an_expiry_that_aws_does_not_take_is_an_error(aws: Aws, expiring: Wanted) -> None:
    on_call(aws, "dynamodb", "UpdateTimeToLive", denied("ValidationException"))
    with pytest.raises(AwsRefused, match="turn on the TTL of the table"):
        provision(aws, expiring)


@pytest.mark.slow
def test_the_preset_outbox_expires_its_items_where_the_file_says_so(
    cli: Cli, aws: Aws, name: str
) -> None:
    (cli.directory / "ddbrelay.toml").write_text(OUTBOX)
    [table, *_] = cli.json("provision")
    assert table["detail"] == "stream NEW_AND_OLD_IMAGES, TTL expiresAt"
    assert ttl(aws, name) == "expiresAt"
    refused = cli.run("provision", "--output", "json", "--key", "pk")
    assert json.loads(refused.stdout.splitlines()[0])["state"] == "differs"
