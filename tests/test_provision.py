"""Provision as a library: what it creates, repeats, refuses and survives."""

from __future__ import annotations

import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from pipeline import ON_MOTO
from provisioning import another, denied, everything, on_call, states

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused
from ddbrelay.infra.plan import Differs, Key, Step, Wanted
from ddbrelay.infra.provision import provision

TAGS = {"ddbrelay:managed-by": "ddbrelay"}


@pytest.fixture
def wanted(name: str) -> Wanted:
    return Wanted(table=name, bus=f"{name}-bus", source=f"ddbrelay.{name}")


def test_the_first_run_creates_everything_and_names_each_arn(aws: Aws, wanted: Wanted) -> None:
    heard: list[Step] = []
    done = provision(aws, dataclasses.replace(wanted, archive_days=3), on_step=heard.append)
    assert states(done.steps) == dict.fromkeys(
        ("table", "bus", "queue", "rule", "archive"), "created"
    )
    assert tuple(heard) == done.steps
    assert done.changed
    table = aws.client("dynamodb").describe_table(TableName=wanted.table)["Table"]
    assert (done.table_arn, done.stream_arn) == (table["TableArn"], table["LatestStreamArn"])
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["KeySchema"] == [{"AttributeName": "id", "KeyType": "HASH"}]
    assert table["StreamSpecification"] == {
        "StreamEnabled": True,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    events = aws.client("events")
    rule = events.describe_rule(Name=f"ddbrelay-{wanted.table}", EventBusName=wanted.bus)
    assert (rule["Arn"], rule["State"]) == (done.rule_arn, "ENABLED")
    assert json.loads(rule["EventPattern"]) == {"source": [wanted.source]}
    assert events.describe_event_bus(Name=wanted.bus)["Arn"] == done.bus_arn
    targets = events.list_targets_by_rule(Rule=rule["Name"], EventBusName=wanted.bus)["Targets"]
    assert [target["Arn"] for target in targets] == [done.queue_arn]
    archive = events.describe_archive(ArchiveName=f"ddbrelay-{wanted.table}")
    assert (archive["ArchiveArn"], archive["RetentionDays"]) == (done.archive_arn, 3)
    assert archive["EventSourceArn"] == done.bus_arn
    assert json.loads(archive["EventPattern"]) == {"source": [wanted.source]}


def test_the_queue_lets_only_this_rule_send(aws: Aws, wanted: Wanted) -> None:
    done = provision(aws, wanted)
    attributes = aws.client("sqs").get_queue_attributes(
        QueueUrl=done.queue_url, AttributeNames=["QueueArn", "Policy"]
    )["Attributes"]
    assert attributes["QueueArn"] == done.queue_arn
    [statement] = json.loads(attributes["Policy"])["Statement"]
    assert statement.pop("Sid").isalnum()
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": done.queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": done.rule_arn}},
    }


def test_whatever_is_created_carries_the_tags(aws: Aws, wanted: Wanted) -> None:
    done = provision(aws, dataclasses.replace(wanted, archive_days=1))
    tags = TAGS | {"ddbrelay:table": wanted.table}
    pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
    dynamodb, events, sqs = (aws.client(s) for s in ("dynamodb", "events", "sqs"))
    assert dynamodb.list_tags_of_resource(ResourceArn=done.table_arn)["Tags"] == pairs
    assert events.list_tags_for_resource(ResourceARN=done.bus_arn)["Tags"] == pairs
    assert events.list_tags_for_resource(ResourceARN=done.rule_arn)["Tags"] == pairs
    assert sqs.list_queue_tags(QueueUrl=done.queue_url)["Tags"] == tags
    archive = events.describe_archive(ArchiveName=f"ddbrelay-{wanted.table}")
    assert archive["Description"] == f"managed by ddbrelay for table {wanted.table}"


def test_a_second_run_changes_nothing(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, archive_days=3)
    first = provision(aws, wanted)
    before = everything(aws, wanted.table)
    second = provision(aws, wanted)
    assert set(states(second.steps).values()) == {"exists"}
    assert not second.changed
    assert everything(aws, wanted.table) == before
    assert dataclasses.replace(second, steps=first.steps) == first


def test_an_event_of_the_source_reaches_the_queue_and_no_other(aws: Aws, wanted: Wanted) -> None:
    done = provision(aws, wanted)
    sqs = aws.client("sqs")
    entries = [
        {"Source": source, "DetailType": "T", "Detail": "{}", "EventBusName": wanted.bus}
        for source in ("elsewhere", wanted.source, f"{wanted.source}.more")
    ]
    assert aws.client("events").put_events(Entries=entries)["FailedEntryCount"] == 0
    received = []
    while messages := sqs.receive_message(
        QueueUrl=done.queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=0 if received else 5
    ).get("Messages"):
        received += [json.loads(message["Body"])["source"] for message in messages]
    assert received == [wanted.source]


def test_keys_and_view_type_are_as_asked(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(
        wanted, key=Key("customer"), sort_key=Key("at", "N"), view_type="NEW_IMAGE"
    )
    provision(aws, wanted)
    table = aws.client("dynamodb").describe_table(TableName=wanted.table)["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "customer", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ]
    assert {a["AttributeName"]: a["AttributeType"] for a in table["AttributeDefinitions"]} == {
        "customer": "S",
        "at": "N",
    }
    assert table["StreamSpecification"]["StreamViewType"] == "NEW_IMAGE"
    assert not provision(aws, wanted).changed


def test_the_default_bus_is_used_as_it_is(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, bus="default")
    done = provision(aws, wanted)
    assert states(done.steps)["bus"] == "exists"
    assert done.rule_arn.endswith(f":rule/ddbrelay-{wanted.table}")
    assert not provision(aws, wanted).changed


def test_names_that_are_too_long_are_shortened_everywhere(aws: Aws, wanted: Wanted) -> None:
    table = f"{wanted.table}.{'x' * 150}"
    wanted = dataclasses.replace(wanted, table=table, archive_days=1)
    assert set(states(provision(aws, wanted).steps).values()) == {"created"}
    assert not provision(aws, wanted).changed


def test_a_table_with_provisioned_capacity_is_left_as_it_is(aws: Aws, wanted: Wanted) -> None:
    aws.client("dynamodb").create_table(
        TableName=wanted.table,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        ProvisionedThroughput={"ReadCapacityUnits": 5, "WriteCapacityUnits": 5},
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    assert states(provision(aws, wanted).steps)["table"] == "exists"
    table = aws.client("dynamodb").describe_table(TableName=wanted.table)["Table"]
    assert table["ProvisionedThroughput"]["ReadCapacityUnits"] == 5


def test_a_dry_run_shows_the_plan_and_writes_nothing(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, archive_days=3)
    before = everything(aws, wanted.table)
    heard: list[Step] = []
    done = provision(aws, wanted, dry_run=True, on_step=heard.append)
    assert everything(aws, wanted.table) == before
    assert set(states(done.steps).values()) == {"would-create"}
    assert tuple(heard) == done.steps
    assert (done.table_arn, done.stream_arn, done.queue_url) == ("", "", "")
    provision(aws, wanted)
    again = provision(aws, wanted, dry_run=True)
    assert set(states(again.steps).values()) == {"exists"}
    assert again.stream_arn


def test_runs_at_the_same_time_end_with_one_of_each(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, archive_days=3)
    together = threading.Barrier(4)
    for service in ("dynamodb", "dynamodbstreams", "events", "sqs"):
        aws.client(service)

    def run(_: int) -> set[str]:
        together.wait()
        return set(states(provision(aws, wanted).steps).values())

    with ThreadPoolExecutor(4) as pool:
        outcomes = [*pool.map(run, range(4))]
    assert set.union(*outcomes) <= {"created", "exists"}
    assert not provision(aws, wanted).changed
    stands = everything(aws, wanted.table)
    # moto lists the managed rule of the archive as well; ministack has none.
    ours = [rule for rule in stands["rules"] if not rule.get("ManagedBy")]
    assert [len(stands[kind]) for kind in ("tables", "buses", "queues", "archives")] == [1] * 4
    assert len(ours) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("service", "operation", "kind"),
    [
        ("dynamodb", "CreateTable", "table"),
        ("events", "CreateEventBus", "bus"),
        ("sqs", "CreateQueue", "queue"),
        ("events", "CreateArchive", "archive"),
    ],
)
def test_what_another_run_created_a_moment_earlier_exists(
    aws: Aws, wanted: Wanted, service: str, operation: str, kind: str
) -> None:
    wanted = dataclasses.replace(wanted, archive_days=3)
    other = another(aws)
    done = threading.Event()

    def first(**_: Any) -> None:
        if not done.is_set():
            done.set()
            provision(other, wanted)

    on_call(aws, service, operation, first)
    outcome = states(provision(aws, wanted).steps)
    assert done.is_set()
    # CreateQueue does not tell a new queue from an old one with the same attributes.
    assert outcome[kind] == ("created" if kind == "queue" else "exists")
    assert set(outcome.values()) <= {"created", "exists"}


def test_what_another_run_created_otherwise_a_moment_earlier_is_refused(
    aws: Aws, wanted: Wanted
) -> None:
    other = another(aws)

    def first(**_: Any) -> None:
        provision(other, dataclasses.replace(wanted, key=Key("pk")))

    on_call(aws, "dynamodb", "CreateTable", first)
    with pytest.raises(Differs, match=r"key pk:S, wanted id:S$"):
        provision(aws, wanted)


def test_a_rule_that_another_run_just_made_gets_time_for_its_target(
    aws: Aws, wanted: Wanted
) -> None:
    done = provision(aws, wanted)
    events = aws.client("events")
    place = {"Rule": f"ddbrelay-{wanted.table}", "EventBusName": wanted.bus}
    [target] = events.list_targets_by_rule(**place)["Targets"]
    events.remove_targets(**place, Ids=[target["Id"]])
    late = threading.Timer(
        0.3, lambda: another(aws).client("events").put_targets(**place, Targets=[target])
    )
    late.start()
    assert set(states(provision(aws, wanted).steps).values()) == {"exists"}
    late.join()
    assert done.queue_arn == target["Arn"]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [KeyboardInterrupt, AwsRefused])
def test_a_rule_whose_target_failed_does_not_stay(
    aws: Aws, wanted: Wanted, stop: type[BaseException]
) -> None:
    def fail(**_: Any) -> Any:
        if stop is KeyboardInterrupt:
            raise KeyboardInterrupt
        return denied()()

    on_call(aws, "events", "PutTargets", fail)
    with pytest.raises(stop):
        provision(aws, wanted)
    assert everything(aws, wanted.table)["rules"] == []
    assert provision(another(aws), wanted).changed


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize(
    ("service", "operation", "named"),
    [
        ("dynamodb", "DescribeTable", "dynamodb:DescribeTable"),
        ("dynamodb", "CreateTable", "dynamodb:CreateTable"),
        ("dynamodbstreams", "DescribeStream", "dynamodb:DescribeStream"),
        ("events", "CreateEventBus", "events:CreateEventBus"),
        ("sqs", "CreateQueue", "sqs:CreateQueue"),
        ("events", "PutTargets", "events:PutTargets"),
    ],
)
def test_a_missing_permission_is_one_line_that_names_the_call(
    aws: Aws, wanted: Wanted, service: str, operation: str, named: str
) -> None:
    on_call(aws, service, operation, denied())
    with pytest.raises(AwsRefused) as refused:
        provision(aws, wanted)
    assert refused.value.exit_code == 5
    assert refused.value.message.startswith("not allowed to ")
    assert f"({named})" in refused.value.message
    assert "\n" not in refused.value.message


def test_a_target_that_eventbridge_does_not_take_is_an_error(aws: Aws, wanted: Wanted) -> None:
    answer = {
        "FailedEntryCount": 1,
        "FailedEntries": [{"ErrorCode": "LimitExceeded", "ErrorMessage": "five targets at most"}],
    }
    on_call(
        aws,
        "events",
        "PutTargets",
        lambda **_: (SimpleNamespace(status_code=200, content=b"{}", headers={}), answer),
    )
    with pytest.raises(AwsRefused, match="LimitExceeded: five targets at most"):
        provision(aws, wanted)


def test_a_concurrent_modification_is_tried_again(aws: Aws, wanted: Wanted) -> None:
    attempts: list[None] = []

    def twice(**_: Any) -> Any:
        attempts.append(None)
        return denied("ConcurrentModificationException")() if len(attempts) < 3 else None

    on_call(aws, "events", "PutRule", twice)
    assert states(provision(aws, wanted).steps)["rule"] == "created"


def test_a_queue_name_that_sqs_still_holds_says_to_wait_a_minute(aws: Aws, wanted: Wanted) -> None:
    code = "AWS.SimpleQueueService.QueueDeletedRecently"
    on_call(aws, "sqs", "CreateQueue", denied(code))
    with pytest.raises(AwsRefused, match="deleted less than 60 s ago") as refused:
        provision(aws, wanted)
    assert refused.value.hint == "run again in a minute"


@pytest.mark.parametrize(
    ("status", "message"),
    [("DELETING", "is being deleted"), ("ARCHIVED", "cannot be used: it is ARCHIVED")],
)
def test_a_table_that_cannot_be_used_is_refused(
    aws: Aws, wanted: Wanted, status: str, message: str
) -> None:
    arn = f"arn:aws:dynamodb:us-east-1:123456789012:table/{wanted.table}"
    answer = {"Table": {"TableName": wanted.table, "TableArn": arn, "TableStatus": status}}
    on_call(
        aws,
        "dynamodb",
        "DescribeTable",
        lambda **_: (SimpleNamespace(status_code=200, content=b"{}", headers={}), answer),
    )
    with pytest.raises(AwsRefused, match=message):
        provision(aws, wanted)


def test_a_stream_that_never_becomes_enabled_ends_in_a_clear_error(
    aws: Aws, wanted: Wanted
) -> None:
    answer = {"StreamDescription": {"StreamStatus": "ENABLING"}}
    on_call(
        aws,
        "dynamodbstreams",
        "DescribeStream",
        lambda **_: (SimpleNamespace(status_code=200, content=b"{}", headers={}), answer),
    )
    with pytest.raises(AwsRefused, match=r"still waiting for the table .* after 0.2 s"):
        provision(aws, wanted, timeout=0.2)


def test_an_archive_that_failed_says_why(aws: Aws, wanted: Wanted) -> None:
    wanted = dataclasses.replace(wanted, archive_days=1)
    done = provision(aws, wanted)
    answer = {
        "ArchiveArn": done.archive_arn,
        "EventSourceArn": done.bus_arn,
        "EventPattern": json.dumps(wanted.pattern),
        "RetentionDays": 1,
        "State": "CREATE_FAILED",
        "StateReason": "the key is gone",
    }
    on_call(
        aws,
        "events",
        "DescribeArchive",
        lambda **_: (SimpleNamespace(status_code=200, content=b"{}", headers={}), answer),
    )
    with pytest.raises(AwsRefused, match="CREATE_FAILED: the key is gone"):
        provision(aws, wanted)
