"""The Terraform project: static files that make of the JSON what SAM makes of its template."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from exporting import RULES, STREAM_ARN, TOPIC, lay_out, project
from terraform_values import ENVIRONMENT, evaluated, needs_terraform, resources

from ddbrelay.export.cloudformation import function_statements
from ddbrelay.export.model import Choices, Project
from ddbrelay.export.sam import sam_document
from ddbrelay.export.terraform import terraform_project

FULL = Choices(
    sort_key="at:N",
    batch_size=500,
    window=3,
    retries=7,
    max_age=-1,
    parallelization=10,
    runtime="python3.12",
    architecture="x86_64",
    memory=512,
    timeout=30,
    alarm_age=1800,
    alarm_topic=TOPIC,
)
EXISTING = Choices(stream_arn=STREAM_ARN, existing_bus=True)
TABLE_ARN = STREAM_ARN.partition("/stream/")[0]
OUTBOX = 'preset = "outbox"\n[source]\ntable = "users"\n[outbox]\nafter = "{}"\n'
BUS_ARN = "arn:aws:events:eu-west-1:210987654321:event-bus/shared"
CASES: dict[str, tuple[str, Choices, dict[str, Any]]] = {
    "the least": (RULES, Choices(), {}),
    "everything": (
        RULES,
        FULL,
        {"claim_check": "s3://bucket-x/${a}%{b}*", "dead_letter_queue": "letters"},
    ),
    "an existing table and buses": (RULES, EXISTING, {}),
    "a bus of another account": (RULES.replace("audit-bus", BUS_ARN), Choices(), {}),
    "the default bus": (RULES, Choices(), {"bus": "default"}),
    "no filters": (RULES, Choices(filtered=False), {}),
    "items that expire": (OUTBOX.format("expire"), Choices(), {}),
    "items that are deleted": (OUTBOX.format("delete"), EXISTING, {}),
    "letters by a URL": (
        RULES,
        Choices(),
        {"dead_letter_queue": "https://sqs.us-east-1.amazonaws.com/210987654321/letters"},
    ),
    "a prefix that looks like a placeholder": (
        RULES,
        Choices(),
        {"claim_check": "s3://bucket-x/{partition}/${region}"},
    ),
}
SAM_NAMES = {
    "Table": "aws_dynamodb_table.this",
    "Bus": "aws_cloudwatch_event_bus.this",
    "BusAuditBus": "aws_cloudwatch_event_bus.other/audit-bus",
    "ConsumerQueue": "aws_sqs_queue.consumer",
    "ConsumerDeadLetters": "aws_sqs_queue.consumer_dead",
    "FailedQueue": "aws_sqs_queue.failed",
    "FunctionLog": "aws_cloudwatch_log_group.function",
    "Rule": "aws_cloudwatch_event_rule.consumer",
}
"""Logical ids of the template, and the addresses of the same resources."""
ATTRIBUTES = {"Arn": "arn", "StreamArn": "stream_arn"}
PSEUDO = {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012"}


def case(tmp_path: Path, name: str) -> tuple[Project, dict[str, Any]]:
    text, choices, flags = CASES[name]
    made = project(tmp_path, text, choices=choices, **flags)
    return made, evaluated(tmp_path / "terraform", terraform_project(made))


def resolved(value: Any) -> Any:
    """A value of the SAM template, with the names that the Terraform project has for the same."""
    match value:
        case {"Ref": name}:
            queue = name in ("ConsumerQueue", "ConsumerDeadLetters", "FailedQueue")
            return f"{SAM_NAMES[name]}:url" if queue else f"{SAM_NAMES[name]}:name"
        case {"Fn::GetAtt": ["FunctionLog", "Arn"]}:
            # CloudFormation's ARN of a log group ends in what stands for its streams.
            return f"{SAM_NAMES['FunctionLog']}:arn:*"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"{SAM_NAMES[name]}:{ATTRIBUTES[attribute]}"
        case {"Fn::Sub": text}:
            text = text.replace("${Table.Arn}", f"{SAM_NAMES['Table']}:arn")
            for name, known in PSEUDO.items():
                text = text.replace(f"${{{name}}}", known)
            return text.replace("${!", "${")
        case dict():
            return {name: resolved(part) for name, part in value.items()}
        case list():
            return [resolved(part) for part in value]
    return value


def listed(statement: dict[str, Any]) -> dict[str, Any]:
    resource = statement["Resource"]
    return statement | {"Resource": resource if isinstance(resource, list) else [resource]}


# What every file is


@pytest.mark.slow
def test_every_file_is_hcl_and_every_part_is_there(tmp_path: Path) -> None:
    assert resources(terraform_project(project(tmp_path))).keys() == {
        "aws_dynamodb_table.this",
        "aws_cloudwatch_event_bus.this",
        "aws_cloudwatch_event_bus.other",
        "aws_sqs_queue.consumer",
        "aws_sqs_queue.consumer_dead",
        "aws_sqs_queue.failed",
        "aws_cloudwatch_event_rule.consumer",
        "aws_cloudwatch_event_target.consumer",
        "aws_sqs_queue_policy.consumer",
        "aws_sqs_queue_policy.consumer_dead",
        "aws_cloudwatch_log_group.function",
        "aws_iam_role.function",
        "aws_iam_role_policy.function",
        "aws_lambda_function.this",
        "aws_lambda_event_source_mapping.stream",
        "aws_cloudwatch_metric_alarm.iterator_age",
        "aws_cloudwatch_metric_alarm.errors",
        "aws_cloudwatch_metric_alarm.failed",
        "aws_cloudwatch_metric_alarm.consumer_dead",
    }


@needs_terraform
def test_terraform_would_format_nothing_in_another_way(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "out", terraform_project(project(tmp_path)))
    done = subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_another_relay_has_the_same_files_and_another_description(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    least = terraform_project(project(tmp_path))
    most = terraform_project(project(tmp_path / "other", OUTBOX.format("expire"), choices=EXISTING))
    differing = {name for name in least if least[name] != most.get(name)}
    assert differing == {"README.md", "relay.auto.tfvars.json", "function/ddbrelay.toml"}


def values_read(files: dict[str, bytes]) -> set[str]:
    text = "".join(files[name].decode() for name in files if name.endswith(".tf"))
    return set(re.findall(r"var\.relay\.(\w+(?:\.\w+)?)", text))


def test_the_files_read_all_of_the_description_and_nothing_else(tmp_path: Path) -> None:
    files = terraform_project(project(tmp_path))
    relay = json.loads(files["relay.auto.tfvars.json"])["relay"]
    names = {name for name, value in relay.items() if not isinstance(value, dict)}
    names |= {f"{name}.{key}" for name in relay.keys() - names for key in relay[name]}
    unread = {"name", "mapping.filterNotes"}
    assert values_read(files) == names - unread


# What Terraform makes of them


@needs_terraform
@pytest.mark.parametrize("name", CASES)
def test_the_function_may_do_what_it_may_with_sam(tmp_path: Path, name: str) -> None:
    made, found = case(tmp_path, name)
    policy = json.loads(found["aws_iam_role_policy.function"]["policy"])
    assert policy["Version"] == "2012-10-17"
    assert policy["Statement"] == [
        listed(statement) for statement in resolved(function_statements(made))
    ]


@needs_terraform
@pytest.mark.parametrize("name", CASES)
def test_function_and_mapping_are_those_of_sam(tmp_path: Path, name: str) -> None:
    made, found = case(tmp_path, name)
    sam = resolved(sam_document(made)["Resources"]["Function"]["Properties"] | {"Role": None})
    function = found["aws_lambda_function.this"]
    assert {
        "FunctionName": function["function_name"],
        "Description": function["description"],
        "Handler": function["handler"],
        "Runtime": function["runtime"],
        "Architectures": function["architectures"],
        "MemorySize": function["memory_size"],
        "Timeout": function["timeout"],
        "Environment": {"Variables": function["environment"][0]["variables"]},
    } == {key: value for key, value in sam.items() if key not in ("Role", "CodeUri", "Events")}
    stream = sam["Events"]["Stream"]["Properties"]
    mapping = found["aws_lambda_event_source_mapping.stream"]
    assert {
        "Stream": mapping["event_source_arn"],
        "StartingPosition": mapping["starting_position"],
        "BatchSize": mapping["batch_size"],
        "MaximumBatchingWindowInSeconds": mapping["maximum_batching_window_in_seconds"],
        "ParallelizationFactor": mapping["parallelization_factor"],
        "BisectBatchOnFunctionError": mapping["bisect_batch_on_function_error"],
        "MaximumRetryAttempts": mapping["maximum_retry_attempts"],
        "MaximumRecordAgeInSeconds": mapping["maximum_record_age_in_seconds"],
        "FunctionResponseTypes": mapping["function_response_types"],
    } == {
        key: value
        for key, value in stream.items()
        if key not in ("DestinationConfig", "FilterCriteria")
    }
    [destination] = mapping["destination_config"]
    assert destination["on_failure"] == [{"destination_arn": "aws_sqs_queue.failed:arn"}]
    filters = [
        part["pattern"] for criteria in mapping["filter_criteria"] for part in criteria["filter"]
    ]
    expected = stream.get("FilterCriteria", {}).get("Filters", [])
    assert filters == [part["Pattern"] for part in expected]
    assert len(mapping["filter_criteria"]) == bool(expected)


@needs_terraform
@pytest.mark.parametrize("name", CASES)
def test_rule_buses_and_table_are_those_of_sam(tmp_path: Path, name: str) -> None:
    made, found = case(tmp_path, name)
    parts = sam_document(made)["Resources"]
    rule, expected = found["aws_cloudwatch_event_rule.consumer"], parts["Rule"]["Properties"]
    assert json.loads(rule["event_pattern"]) == expected["EventPattern"]
    assert (rule["name"], rule["description"]) == (expected["Name"], expected["Description"])
    assert rule["event_bus_name"] == made.bus
    target = found["aws_cloudwatch_event_target.consumer"]
    assert (target["rule"], target["event_bus_name"]) == (rule["name"], made.bus)
    assert target["arn"] == "aws_sqs_queue.consumer:arn"
    assert target["dead_letter_config"] == [{"arn": "aws_sqs_queue.consumer_dead:arn"}]
    buses = [part for part in parts.values() if part["Type"] == "AWS::Events::EventBus"]
    created = [
        *found["aws_cloudwatch_event_bus.this"],
        *found["aws_cloudwatch_event_bus.other"].values(),
    ]
    assert [bus["name"] for bus in created] == [bus["Properties"]["Name"] for bus in buses]
    tables = [part["Properties"] for part in parts.values() if part["Type"].endswith("Table")]
    assert len(found["aws_dynamodb_table.this"]) == len(tables)
    for table, wanted in zip(found["aws_dynamodb_table.this"], tables, strict=True):
        assert table["name"] == wanted["TableName"]
        assert table["billing_mode"] == wanted["BillingMode"]
        keys = [table["hash_key"], *([table["range_key"]] if table["range_key"] else [])]
        assert keys == [key["AttributeName"] for key in wanted["KeySchema"]]
        assert table["attribute"] == [
            {"name": key["AttributeName"], "type": key["AttributeType"]}
            for key in wanted["AttributeDefinitions"]
        ]
        assert (table["stream_enabled"], table["stream_view_type"]) == (True, "NEW_AND_OLD_IMAGES")
        assert table["point_in_time_recovery"] == [{"enabled": True}]
        expiry = wanted.get("TimeToLiveSpecification")
        names = [] if expiry is None else [expiry["AttributeName"]]
        assert table["ttl"] == [{"attribute_name": name, "enabled": True} for name in names]
        assert table["lifecycle"] == [{"prevent_destroy": True}]


@needs_terraform
def test_queues_log_role_and_outputs_are_those_of_sam(tmp_path: Path) -> None:
    made, found = case(tmp_path, "everything")
    parts = sam_document(made)["Resources"]
    for name in ("ConsumerQueue", "ConsumerDeadLetters", "FailedQueue"):
        queue, expected = found[SAM_NAMES[name]], resolved(parts[name]["Properties"])
        assert {
            "QueueName": queue["name"],
            "MessageRetentionPeriod": queue["message_retention_seconds"],
            "SqsManagedSseEnabled": queue["sqs_managed_sse_enabled"],
        } == {key: value for key, value in expected.items() if key != "RedrivePolicy"}
        redrive = json.loads(queue.get("redrive_policy", "null"))
        assert redrive == expected.get("RedrivePolicy")
    for name in ("consumer", "consumer_dead"):
        policy = found[f"aws_sqs_queue_policy.{name}"]
        sam = {"consumer": "ConsumerQueuePolicy", "consumer_dead": "ConsumerDeadLettersPolicy"}
        expected = resolved(parts[sam[name]]["Properties"]["PolicyDocument"])
        assert json.loads(policy["policy"]) == expected
        assert policy["queue_url"] == f"aws_sqs_queue.{name}:id"
    log, expected = found["aws_cloudwatch_log_group.function"], parts["FunctionLog"]["Properties"]
    assert log["name"] == expected["LogGroupName"]
    assert log["retention_in_days"] == expected["RetentionInDays"]
    trust = json.loads(found["aws_iam_role.function"]["assume_role_policy"])
    assert trust == parts["FunctionRole"]["Properties"]["AssumeRolePolicyDocument"]
    outputs = {name: value for name, value in found.items() if name.startswith("output.")}
    assert outputs == {
        "output.stream_arn": "aws_dynamodb_table.this:stream_arn",
        "output.consumer_queue_url": "aws_sqs_queue.consumer:url",
        "output.failed_queue_url": "aws_sqs_queue.failed:url",
        "output.function_name": made.function,
    }


@needs_terraform
@pytest.mark.parametrize("name", ["the least", "everything"])
def test_the_alarms_are_those_of_sam(tmp_path: Path, name: str) -> None:
    made, found = case(tmp_path, name)
    parts = sam_document(made)["Resources"]
    names = {
        "iterator_age": ("IteratorAgeAlarm", {"FunctionName": made.function}),
        "errors": ("ErrorsAlarm", {"FunctionName": made.function}),
        "failed": ("FailedQueueAlarm", {"QueueName": made.failed}),
        "consumer_dead": ("ConsumerDeadLettersAlarm", {"QueueName": made.queue_dead}),
    }
    for address, (sam, dimensions) in names.items():
        alarm, expected = (
            found[f"aws_cloudwatch_metric_alarm.{address}"],
            dict(parts[sam]["Properties"]),
        )
        assert alarm["alarm_name"] == f"{made.function}-{address.replace('_', '-')}"
        assert alarm["dimensions"] == dimensions
        del expected["Dimensions"]
        assert {
            "AlarmDescription": alarm["alarm_description"],
            "Namespace": alarm["namespace"],
            "MetricName": alarm["metric_name"],
            "Statistic": alarm["statistic"],
            "Period": alarm["period"],
            "EvaluationPeriods": alarm["evaluation_periods"],
            "Threshold": alarm["threshold"],
            "ComparisonOperator": alarm["comparison_operator"],
            "TreatMissingData": alarm["treat_missing_data"],
            "AlarmActions": alarm["alarm_actions"],
            "OKActions": alarm["ok_actions"],
        } == {"AlarmActions": [], "OKActions": []} | expected
