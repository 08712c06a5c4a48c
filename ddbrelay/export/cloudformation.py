"""The parts of a deployment as CloudFormation resources, for SAM templates.

Resources: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/
aws-template-resource-type-ref.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ddbrelay.export import iam
from ddbrelay.export.model import RETENTION_DAYS, Project
from ddbrelay.infra.names import short_hash
from ddbrelay.infra.plan import DEFAULT_BUS

Resources = dict[str, dict[str, Any]]

_DAY = 86400
_FOURTEEN_DAYS = 14 * _DAY


def ref(name: str) -> dict[str, Any]:
    """`!Ref name`."""
    return {"Ref": name}


def att(name: str, attribute: str = "Arn") -> dict[str, Any]:
    """`!GetAtt name.attribute`."""
    return {"Fn::GetAtt": [name, attribute]}


def sub(text: str) -> dict[str, Any]:
    """`!Sub text`."""
    return {"Fn::Sub": text}


def literal(text: str) -> str:
    """A text in a `!Sub` whose `${…}` do not count."""
    return text.replace("${", "${!")


def stream(project: Project) -> Any:
    """The ARN of the stream."""
    return project.stream_arn or att("Table", "StreamArn")


def siblings(project: Project) -> Any:
    """The ARNs of all streams of the table."""
    if project.stream_arn is not None:
        return iam.siblings_of(project.stream_arn)
    return sub("${Table.Arn}/stream/*")


def table_arn(project: Project) -> Any:
    """The ARN of the table."""
    if project.stream_arn is not None:
        return project.stream_arn.partition("/stream/")[0]
    return att("Table")


def bus_arn(project: Project, name: str) -> Any:
    """The ARN of a bus, given as its name or ARN."""
    if name.startswith("arn:"):
        return name
    if name == project.bus and project.create_bus:
        return att("Bus")
    if name in project.new_buses:
        return att(_bus_id(project, name))
    return sub(
        f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:event-bus/{name}"
    )


def buses(project: Project) -> list[Any]:
    """The ARNs of all buses that events go to; the one of the run comes first."""
    return [bus_arn(project, bus) for bus in (project.bus, *project.other_buses)]


def _bus_id(project: Project, name: str) -> str:
    """`BusAudit` for `audit`: another order of the rules must not replace buses."""
    ids = [_pascal(bus) for bus in project.new_buses]
    found = _pascal(name)
    return f"Bus{found}" if found and ids.count(found) == 1 else f"Bus{found}{short_hash(name)}"


def _pascal(name: str) -> str:
    words = re.split(r"[^A-Za-z0-9]+", name)
    return "".join(word[:1].upper() + word[1:] for word in words)


def base(project: Project) -> Resources:
    """Table, buses, rule and the consumer's queues."""
    found: Resources = {}
    if project.stream_arn is None:
        found["Table"] = _table(project)
    if project.create_bus:
        found["Bus"] = _bus(project.bus)
    found |= {_bus_id(project, name): _bus(name) for name in project.new_buses}
    found["ConsumerDeadLetters"] = queue(project.queue_dead, _FOURTEEN_DAYS)
    found["ConsumerQueue"] = queue(
        project.queue,
        _FOURTEEN_DAYS,
        RedrivePolicy={"deadLetterTargetArn": att("ConsumerDeadLetters"), "maxReceiveCount": 5},
    )
    bus: dict[str, Any] = {"EventBusName": ref("Bus")} if project.create_bus else {}
    if not project.create_bus and project.bus != DEFAULT_BUS:
        bus = {"EventBusName": project.bus}
    found["Rule"] = {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "Name": project.rule,
            "Description": f"Events of the table {project.table}, for its consumer",
            **bus,
            "EventPattern": project.pattern,
            "Targets": [
                {
                    "Id": "consumer",
                    "Arn": att("ConsumerQueue"),
                    "DeadLetterConfig": {"Arn": att("ConsumerDeadLetters")},
                }
            ],
        },
    }
    for name in ("ConsumerQueue", "ConsumerDeadLetters"):
        found[f"{name}Policy"] = {
            "Type": "AWS::SQS::QueuePolicy",
            "Properties": {
                "Queues": [ref(name)],
                "PolicyDocument": iam.sending_rule(att(name), att("Rule")),
            },
        }
    return found


def _bus(name: str) -> dict[str, Any]:
    return {"Type": "AWS::Events::EventBus", "Properties": {"Name": name}}


def _table(project: Project) -> dict[str, Any]:
    keys = project.keys
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    return {
        "Type": "AWS::DynamoDB::Table",
        **kept,
        "Properties": {
            "TableName": project.table,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": key.name, "AttributeType": key.type} for key in keys
            ],
            "KeySchema": [
                {"AttributeName": key.name, "KeyType": role}
                for key, role in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
            "StreamSpecification": {"StreamViewType": "NEW_AND_OLD_IMAGES"},
            "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": True},
            **_expiry(project),
        },
    }


def _expiry(project: Project) -> dict[str, Any]:
    if project.after != "expire":
        return {}
    return {"TimeToLiveSpecification": {"AttributeName": project.outbox_expiry, "Enabled": True}}


def queue(name: str, retention: int, **more: Any) -> dict[str, Any]:
    """A queue that is encrypted with SQS's own keys."""
    return {
        "Type": "AWS::SQS::Queue",
        "Properties": {
            "QueueName": name,
            "MessageRetentionPeriod": retention,
            "SqsManagedSseEnabled": True,
            **more,
        },
    }


def failed_queue(project: Project) -> dict[str, Any]:
    """The queue for what could not be relayed."""
    return queue(project.failed, _FOURTEEN_DAYS)


def role(service: str, statements: Sequence[iam.Statement]) -> dict[str, Any]:
    """A role of one service with one policy."""
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": iam.trust(service),
            "Policies": [{"PolicyName": "ddbrelay", "PolicyDocument": iam.policy(statements)}],
        },
    }


def function_statements(project: Project) -> list[iam.Statement]:
    """What the function needs, and nothing else."""
    return [
        *iam.read_stream(stream(project), siblings(project)),
        iam.publish(buses(project), project.sources),
        iam.send("ReportFailures", att("FailedQueue"), "GetQueueAttributes"),
        iam.write_log(att("FunctionLog")),
        *_letters(project),
        *_claims(project),
        *iam.settle_items(project.after, table_arn(project)),
    ]


def _letters(project: Project) -> list[iam.Statement]:
    if project.letters is None:
        return []
    here = iam.Scope("${AWS::Partition}", "${AWS::Region}", "${AWS::AccountId}")
    statement = iam.copy_letters(project.letters, here)
    return [statement | {"Resource": sub(statement["Resource"])}]


def _claims(project: Project) -> list[iam.Statement]:
    if project.claim_check is None:
        return []
    statements = iam.write_claims(project.claim_check, "${AWS::Partition}", quoted=literal)
    return [one | {"Resource": sub(one["Resource"])} for one in statements]


def log_group(name: str) -> dict[str, Any]:
    """A log that does not grow without an end."""
    kept = {"DeletionPolicy": "Delete", "UpdateReplacePolicy": "Delete"}
    properties = {"LogGroupName": name, "RetentionInDays": RETENTION_DAYS}
    return {"Type": "AWS::Logs::LogGroup", **kept, "Properties": properties}


def alarm(
    project: Project,
    description: str,
    metric: tuple[str, str, Mapping[str, Any]],
    *,
    statistic: str = "Maximum",
    threshold: float = 0,
    periods: int = 1,
) -> dict[str, Any]:
    """An alarm on a metric (namespace, name, dimensions) above a threshold, over minutes."""
    namespace, name, dimensions = metric
    topic = project.choices.alarm_topic
    return {
        "Type": "AWS::CloudWatch::Alarm",
        "Properties": {
            "AlarmDescription": description,
            "Namespace": namespace,
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "Statistic": statistic,
            "Period": 60,
            "EvaluationPeriods": periods,
            "Threshold": threshold,
            "ComparisonOperator": "GreaterThanThreshold",
            "TreatMissingData": "notBreaching",
            **({"AlarmActions": [topic], "OKActions": [topic]} if topic else {}),
        },
    }


def depth_alarm(project: Project, name: str, what: str) -> dict[str, Any]:
    """An alarm as soon as something is in a queue."""
    metric = (
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
        {"QueueName": att(name, "QueueName")},
    )
    return alarm(project, what, metric)


def outputs(project: Project, more: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The outputs of a stack: what to look at next."""
    found = {
        "StreamArn": ("Stream that is relayed", stream(project)),
        "ConsumerQueueUrl": ("Queue of the consumer", ref("ConsumerQueue")),
        **more,
    }
    return {
        name: {"Description": description, "Value": value}
        for name, (description, value) in found.items()
    }
