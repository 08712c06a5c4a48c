"""What exists but differs: shown, refused before anything is written, changed when asked."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from provisioning import another, denied, everything, on_call, states

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused
from ddbrelay.infra import table as table_module
from ddbrelay.infra.plan import Differs, Key, Step, Wanted
from ddbrelay.infra.provision import provision
from ddbrelay.infra.queue import allows, sending_statement
from ddbrelay.local.engine import Engine

pytestmark = pytest.mark.moto_first

RULE_ARN = "arn:aws:events:eu-west-1:123456789012:rule/b/ddbrelay-users"
QUEUE_ARN = "arn:aws:sqs:eu-west-1:123456789012:ddbrelay-users"


@pytest.fixture
def wanted(name: str) -> Wanted:
    return Wanted(table=name, bus=f"{name}-bus", source=f"ddbrelay.{name}")


def refused(aws: Aws, wanted: Wanted, **options: Any) -> Differs:
    """The refusal, after a look that nothing was written."""
    before = everything(aws, wanted.table)
    heard: list[Step] = []
    with pytest.raises(Differs) as caught:
        provision(aws, wanted, on_step=heard.append, **options)
    assert caught.value.exit_code == 2
    assert everything(aws, wanted.table) == before
    assert tuple(heard) == caught.value.steps
    assert caught.value.message.endswith("nothing was written")
    return caught.value


def make_table(aws: Aws, name: str, **more: Any) -> None:
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        **more,
    )


def policy_of(aws: Aws, url: str) -> list[dict[str, Any]]:
    attributes = aws.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])
    return list(json.loads(attributes["Attributes"]["Policy"])["Statement"])


def test_a_stream_that_is_off_is_refused_and_turned_on_when_asked(aws: Aws, wanted: Wanted) -> None:
    make_table(aws, wanted.table)
    refusal = refused(aws, wanted)
    assert "stream off, wanted NEW_AND_OLD_IMAGES" in refusal.message
    assert "--apply-changes" in (refusal.hint or "")
    assert states(refusal.steps) == {
        "table": "differs",
        "bus": "would-create",
        "queue": "would-create",
        "rule": "would-create",
    }
    done = provision(aws, wanted, apply_changes=True)
    assert states(done.steps)["table"] == "updated"
    stream = aws.client("dynamodbstreams").describe_stream(StreamArn=done.stream_arn)
    assert stream["StreamDescription"]["StreamStatus"] == "ENABLED"
    assert not provision(aws, wanted).changed


def test_another_view_type_says_in_words_that_the_stream_is_replaced(
    engine: Engine, aws: Aws, wanted: Wanted
) -> None:
    first = provision(aws, dataclasses.replace(wanted, view_type="KEYS_ONLY"))
    refusal = refused(aws, wanted)
    assert "stream KEYS_ONLY, wanted NEW_AND_OLD_IMAGES" in refusal.message
    assert "a new stream with a new ARN; what was not read of the old one stays there" in (
        refusal.hint or ""
    )
    if engine.name == "moto":
        # moto never turns a stream on again once it was turned off.
        with pytest.raises(AwsRefused, match="could not be turned on again") as failed:
            provision(aws, wanted, apply_changes=True)
        assert "no change of the table is recorded now" in (failed.value.hint or "")
        return
    done = provision(aws, wanted, apply_changes=True)
    assert done.stream_arn != first.stream_arn
    table = done.steps[0]
    assert table.state == "updated"
    assert "KEYS_ONLY replaced by NEW_AND_OLD_IMAGES, with a new ARN" in table.detail
    assert first.stream_arn in table.detail
    assert not provision(aws, wanted).changed


def test_an_interrupt_while_the_stream_is_replaced_leaves_the_new_one_on(
    engine: Engine, aws: Aws, wanted: Wanted, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine.name == "moto":
        pytest.skip("moto never turns a stream on again once it was turned off")
    provision(aws, dataclasses.replace(wanted, view_type="KEYS_ONLY"))
    wait_for = table_module.wait_for

    def interrupted(look: Any, what: str, timeout: float) -> Any:
        if what.endswith("to be off"):
            raise KeyboardInterrupt
        return wait_for(look, what, timeout)

    monkeypatch.setattr(table_module, "wait_for", interrupted)
    with pytest.raises(KeyboardInterrupt):
        provision(aws, wanted, apply_changes=True)
    table = aws.client("dynamodb").describe_table(TableName=wanted.table)["Table"]
    assert table["StreamSpecification"]["StreamViewType"] == "NEW_AND_OLD_IMAGES"


def test_a_stream_that_may_not_be_turned_off_stays_on(aws: Aws, wanted: Wanted) -> None:
    first = provision(aws, dataclasses.replace(wanted, view_type="KEYS_ONLY"))
    other = another(aws)
    on_call(other, "dynamodb", "UpdateTable", denied())
    with pytest.raises(AwsRefused, match="not allowed to turn off the stream"):
        provision(other, wanted, apply_changes=True)
    table = aws.client("dynamodb").describe_table(TableName=wanted.table)["Table"]
    assert table["LatestStreamArn"] == first.stream_arn
    assert table["StreamSpecification"]["StreamEnabled"]


@pytest.mark.slow
@pytest.mark.parametrize("apply_changes", [False, True])
@pytest.mark.parametrize(
    "changed",
    [{"key": Key("pk")}, {"key": Key("id", "N")}, {"sort_key": Key("at", "N")}],
)
def test_another_key_is_always_refused_and_the_right_flags_are_named(
    aws: Aws, wanted: Wanted, changed: dict[str, Key], apply_changes: bool
) -> None:
    provision(aws, wanted)
    refusal = refused(aws, dataclasses.replace(wanted, **changed), apply_changes=apply_changes)
    assert "key id:S, wanted " in refusal.message
    assert "cannot be changed: --key id:S" in (refusal.hint or "")
    assert states(refusal.steps)["table"] == "differs"


def test_another_pattern_is_refused_and_corrected_when_asked(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    changed = dataclasses.replace(wanted, source="myapp.users")
    assert 'wanted {"source": ["myapp.users"]}' in refused(aws, changed).message
    done = provision(aws, changed, apply_changes=True)
    assert states(done.steps) == {
        "table": "exists",
        "bus": "exists",
        "queue": "exists",
        "rule": "updated",
    }
    assert not provision(aws, changed).changed


def test_a_disabled_rule_is_enabled_when_asked_and_keeps_the_rest(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    events = aws.client("events")
    rule = {"Name": f"ddbrelay-{wanted.table}", "EventBusName": wanted.bus}
    pattern = json.dumps(wanted.pattern)
    events.put_rule(**rule, EventPattern=pattern, Description="ours", State="DISABLED")
    assert "state DISABLED, wanted ENABLED" in refused(aws, wanted).message
    provision(aws, wanted, apply_changes=True)
    after = events.describe_rule(**rule)
    assert (after["State"], after["Description"]) == ("ENABLED", "ours")
    assert not provision(aws, wanted).changed


def test_a_missing_target_is_refused_and_added_beside_the_others(aws: Aws, wanted: Wanted) -> None:
    done = provision(aws, wanted)
    events, sqs = aws.client("events"), aws.client("sqs")
    other = sqs.create_queue(QueueName=f"{wanted.table}-other")["QueueUrl"]
    other_arn = sqs.get_queue_attributes(QueueUrl=other, AttributeNames=["QueueArn"])
    rule = {"Rule": f"ddbrelay-{wanted.table}", "EventBusName": wanted.bus}
    [ours] = events.list_targets_by_rule(**rule)["Targets"]
    events.remove_targets(**rule, Ids=[ours["Id"]])
    events.put_targets(
        **rule, Targets=[{"Id": "theirs", "Arn": other_arn["Attributes"]["QueueArn"]}]
    )
    assert "is not among its targets" in refused(aws, wanted).message
    provision(aws, wanted, apply_changes=True)
    assert {target["Arn"] for target in events.list_targets_by_rule(**rule)["Targets"]} == {
        done.queue_arn,
        other_arn["Attributes"]["QueueArn"],
    }
    assert not provision(aws, wanted).changed


@pytest.mark.slow
def test_a_rule_without_any_target_is_refused_too(aws: Aws, wanted: Wanted) -> None:
    provision(aws, wanted)
    events = aws.client("events")
    rule = {"Rule": f"ddbrelay-{wanted.table}", "EventBusName": wanted.bus}
    [ours] = events.list_targets_by_rule(**rule)["Targets"]
    events.remove_targets(**rule, Ids=[ours["Id"]])
    assert "is not among its targets" in refused(aws, wanted).message
    assert states(provision(aws, wanted, apply_changes=True).steps)["rule"] == "updated"


def test_a_policy_without_the_statement_is_refused_and_keeps_its_others(
    aws: Aws, wanted: Wanted
) -> None:
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=f"ddbrelay-{wanted.table}")["QueueUrl"]
    theirs = {
        "Sid": "theirs",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "sqs:ReceiveMessage",
        "Resource": "*",
    }
    policy = {"Version": "2012-10-17", "Id": "mine", "Statement": theirs}
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": json.dumps(policy)})
    assert "policy does not let events.amazonaws.com send" in refused(aws, wanted).message
    done = provision(aws, wanted, apply_changes=True)
    assert states(done.steps)["queue"] == "updated"
    assert policy_of(aws, url) == [theirs, sending_statement(done.queue_arn, done.rule_arn)]
    assert not provision(aws, wanted).changed


def test_a_queue_without_any_policy_gets_one_when_asked(aws: Aws, wanted: Wanted) -> None:
    url = aws.client("sqs").create_queue(QueueName=f"ddbrelay-{wanted.table}")["QueueUrl"]
    refused(aws, wanted)
    done = provision(aws, wanted, apply_changes=True)
    assert policy_of(aws, url) == [sending_statement(done.queue_arn, done.rule_arn)]


def test_the_same_table_behind_a_second_bus_keeps_the_statement_of_the_first(
    aws: Aws, wanted: Wanted
) -> None:
    first = provision(aws, wanted)
    second = dataclasses.replace(wanted, bus="default")
    refused(aws, second)
    done = provision(aws, second, apply_changes=True)
    assert policy_of(aws, done.queue_url) == [
        sending_statement(done.queue_arn, first.rule_arn),
        sending_statement(done.queue_arn, done.rule_arn),
    ]
    assert not provision(aws, wanted).changed


def test_another_retention_is_refused_and_changed_when_asked(aws: Aws, wanted: Wanted) -> None:
    provision(aws, dataclasses.replace(wanted, archive_days=3))
    longer = dataclasses.replace(wanted, archive_days=30)
    assert "events kept 3 days, wanted 30 days" in refused(aws, longer).message
    done = provision(aws, longer, apply_changes=True)
    assert states(done.steps)["archive"] == "updated"
    archive = aws.client("events").describe_archive(ArchiveName=f"ddbrelay-{wanted.table}")
    assert archive["RetentionDays"] == 30
    assert archive["Description"] == f"managed by ddbrelay for table {wanted.table}"
    assert not provision(aws, longer).changed
    assert not provision(aws, wanted).changed


@pytest.mark.parametrize("apply_changes", [False, True])
def test_an_archive_of_another_bus_is_always_refused(
    aws: Aws, wanted: Wanted, apply_changes: bool
) -> None:
    wanted = dataclasses.replace(wanted, archive_days=3)
    events = aws.client("events")
    default = events.describe_event_bus(Name="default")["Arn"]
    events.create_archive(ArchiveName=f"ddbrelay-{wanted.table}", EventSourceArn=default)
    refusal = refused(aws, wanted, apply_changes=apply_changes)
    assert f"archives {default}, wanted " in refusal.message
    assert "stays with its bus" in (refusal.hint or "")


def test_a_dry_run_is_refused_as_the_run_would_be(aws: Aws, wanted: Wanted) -> None:
    make_table(aws, wanted.table)
    refused(aws, wanted, dry_run=True)
    before = everything(aws, wanted.table)
    plan = provision(aws, wanted, dry_run=True, apply_changes=True)
    assert states(plan.steps)["table"] == "would-update"
    assert everything(aws, wanted.table) == before


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"Principal": "*"},
        {"Principal": {"Service": ["sns.amazonaws.com", "events.amazonaws.com"]}},
        {"Action": ["SQS:SendMessage", "sqs:ReceiveMessage"]},
        {"Action": "sqs:*"},
        {"Resource": "*"},
        {"Condition": None},
        {"Condition": {"ArnLike": {"AWS:SourceArn": "arn:aws:events:*:*:rule/b/*"}}},
        {"Condition": {"StringEquals": {"aws:SourceArn": ["x", RULE_ARN]}}},
    ],
)
def test_a_statement_in_another_spelling_lets_the_rule_send(changed: dict[str, Any]) -> None:
    assert allows(sending_statement(QUEUE_ARN, RULE_ARN) | changed, QUEUE_ARN, RULE_ARN)


@pytest.mark.parametrize(
    "changed",
    [
        {"Effect": "Deny"},
        {"Principal": {"Service": "sns.amazonaws.com"}},
        {"Principal": {"AWS": "123456789012"}},
        {"Principal": None},
        {"Action": "sqs:ReceiveMessage"},
        {"Resource": f"{QUEUE_ARN}-other"},
        {"Condition": {"ArnEquals": {"aws:SourceArn": f"{RULE_ARN}-other"}}},
        {"Condition": {"StringEquals": {"aws:SourceArn": "arn:aws:events:*"}}},
        {"Condition": {"ArnNotEquals": {"aws:SourceArn": RULE_ARN}}},
        {
            "Condition": {
                "ArnEquals": {"aws:SourceArn": RULE_ARN},
                "StringEquals": {"aws:SourceAccount": "123456789012"},
            }
        },
    ],
)
def test_a_statement_that_may_keep_the_rule_out_does_not_count(changed: dict[str, Any]) -> None:
    assert not allows(sending_statement(QUEUE_ARN, RULE_ARN) | changed, QUEUE_ARN, RULE_ARN)
