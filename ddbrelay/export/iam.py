"""Least-privilege policies: what each part of ddbrelay calls, and on what.

Actions and their resources: https://docs.aws.amazon.com/service-authorization/latest/reference/
list_amazondynamodb.html, list_amazoneventbridge.html, list_amazonsqs.html and list_amazons3.html;
`events:source` of PutEvents: eb-use-conditions.html of EventBridge's user guide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ddbrelay.flow.offloading import place_of
from ddbrelay.infra.plan import DEFAULT_BUS
from ddbrelay.sources import Source

_READ = ("DescribeStream", "GetRecords", "GetShardIterator")
_QUEUE_URL = re.compile(r"https://sqs\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(\d{12})/[^/]+/?")
_ITEM = {"delete": "DeleteItem", "expire": "UpdateItem"}

Statement = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """The part of an ARN that names partition, region and account; `*` where it is not known."""

    partition: str = "aws"
    region: str = "*"
    account: str = "*"

    @classmethod
    def of(cls, region: str | None, account: str | None) -> Scope:
        """From what is known of them; the partition follows from the region."""
        special = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
        found = [special[head] for head in special if (region or "").startswith(head)]
        return cls(found[0] if found else "aws", region or "*", account or "*")

    def arn(self, service: str, resource: str) -> str:
        """The ARN of something in this scope."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def table(self, name: str) -> str:
        """The ARN of a table, which may be given as one."""
        return name if name.startswith("arn:") else self.arn("dynamodb", f"table/{name}")

    def bus(self, name: str) -> str:
        """The ARN of a bus, which may be given as one."""
        return name if name.startswith("arn:") else self.arn("events", f"event-bus/{name}")


def policy(statements: Iterable[Statement]) -> dict[str, Any]:
    """A policy document."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def trust(service: str) -> dict[str, Any]:
    """Who may take a role: one service of AWS."""
    return policy(
        [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]
    )


def allow(sid: str, actions: Sequence[str], resources: Any, **more: Any) -> Statement:
    """One statement."""
    return {"Sid": sid, "Effect": "Allow", "Action": list(actions), "Resource": resources, **more}


def read_stream(stream: Any, siblings: Any) -> list[Statement]:
    """What reading one stream takes; `siblings` are all streams of the table, to be listed."""
    return [
        allow("ReadTheStream", [f"dynamodb:{action}" for action in _READ], stream),
        allow("ListTheStreams", ["dynamodb:ListStreams"], siblings),
    ]


def siblings_of(stream_arn: str) -> str:
    """Every stream of the table that this one is of."""
    return stream_arn.partition("/stream/")[0] + "/stream/*"


def publish(buses: Sequence[Any], sources: Sequence[Source]) -> Statement:
    """PutEvents on these buses, for these sources where they are known."""
    allowed = [source.condition for source in sources]
    more: dict[str, Any] = {}
    if allowed and "*" not in allowed:
        operator = "StringEquals" if all(source.exact for source in sources) else "StringLike"
        more = {"Condition": {operator: {"events:source": allowed}}}
    return allow("PublishTheEvents", ["events:PutEvents"], list(buses), **more)


def send(sid: str, queue: Any, *also: str) -> Statement:
    """Send to one queue."""
    return allow(sid, ["sqs:SendMessage", *(f"sqs:{action}" for action in also)], queue)


def copy_letters(queue: str, scope: Scope) -> Statement:
    """Send dead letters to a queue that is given by its name or URL, and look at it."""
    if (match := _QUEUE_URL.fullmatch(queue)) is not None:
        scope = replace(scope, region=match[1], account=match[2])
    arn = scope.arn("sqs", queue.rstrip("/").rpartition("/")[2])
    return send("CopyDeadLetters", arn, "GetQueueUrl", "GetQueueAttributes")


def write_claims(
    address: str,
    partition: str = "aws",
    *,
    look: bool = True,
    quoted: Callable[[str], str] = str,
) -> list[Statement]:
    """Write under one prefix, and with `look` see that the bucket is there.

    `quoted` keeps what looks like a template in the prefix a text, where the partition is one.
    """
    bucket, prefix = place_of(address)
    arn = f"arn:{partition}:s3:::{bucket}"
    # In a policy, too, ${…} and the wildcards count: iam/latest/UserGuide/
    # reference_policies_variables.html.
    plain = re.sub(r"\$(?=\{)|[*?]", lambda found: f"${{{found[0]}}}", prefix)
    statements = [allow("WriteClaimChecks", ["s3:PutObject"], f"{arn}/{quoted(plain)}*")]
    if look:
        statements.append(allow("LookAtTheBucket", ["s3:ListBucket"], arn))
    return statements


def settle_items(after: str, table: Any) -> list[Statement]:
    """What an outbox does with an item whose event was accepted."""
    action = _ITEM.get(after)
    return [allow("SettleItems", [f"dynamodb:{action}"], table)] if action else []


def write_log(group_streams: Any) -> Statement:
    """Write to one log group, which is there."""
    return allow("WriteTheLog", ["logs:CreateLogStream", "logs:PutLogEvents"], group_streams)


def sending_rule(queue: Any, rule: Any) -> dict[str, Any]:
    """The policy of a queue that takes messages from one rule and from nobody else."""
    return policy(
        [
            {
                "Sid": "FromTheRule",
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue,
                "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
            }
        ]
    )


def relay_policy(
    scope: Scope,
    *,
    table: str,
    buses: Sequence[str],
    sources: Sequence[Source],
    queue: str | None,
    claim_check: str | None,
    after: str,
) -> dict[str, Any]:
    """For `ddbrelay tail --forward` and `replay`; `queue` is where dead letters go."""
    table_arn = scope.table(table)
    bus_arns = [scope.bus(bus) for bus in buses]
    statements = [
        allow("LookAtTheTable", ["dynamodb:DescribeTable"], table_arn),
        *read_stream(f"{table_arn}/stream/*", f"{table_arn}/stream/*"),
        publish(bus_arns, sources),
        allow("LookAtTheBus", ["events:DescribeEventBus"], bus_arns),
    ]
    if queue is not None:
        statements.append(copy_letters(queue, scope))
    if claim_check is not None:
        statements += write_claims(claim_check, scope.partition)
    return policy([*statements, *settle_items(after, table_arn)])


def provision_policy(
    scope: Scope,
    *,
    table: str,
    bus: str,
    other_buses: Sequence[str],
    rule: str,
    queue: str,
    archive: str,
    expires: bool,
) -> dict[str, Any]:
    """For `ddbrelay provision`; `expires`: the table has an attribute by which items expire."""
    tables = ["CreateTable", "DescribeTable", "UpdateTable", "TagResource"]
    if expires:
        tables += ["DescribeTimeToLive", "UpdateTimeToLive", "ListTagsOfResource"]
    return policy(
        [
            *_tables(scope, table, *tables),
            allow(
                "LookAtTheStream",
                ["dynamodb:DescribeStream"],
                scope.arn("dynamodb", f"table/{table}/stream/*"),
            ),
            *_buses(scope, "Bus", [bus], "CreateArchive"),
            *_buses(scope, "OtherBuses", other_buses),
            allow(
                "Rule",
                _events("DescribeRule", "PutRule", "PutTargets", "ListTargetsByRule")
                + _events("ListTagsForResource", "TagResource", "DeleteRule"),
                _rule(scope, bus, rule),
            ),
            allow(
                "Queue",
                [
                    f"sqs:{action}"
                    for action in (
                        *("CreateQueue", "GetQueueUrl", "GetQueueAttributes"),
                        *("SetQueueAttributes", "TagQueue"),
                    )
                ],
                scope.arn("sqs", queue),
            ),
            allow(
                "Archive",
                _events("DescribeArchive", "CreateArchive", "UpdateArchive"),
                scope.arn("events", f"archive/{archive}"),
            ),
        ]
    )


def _events(*actions: str) -> list[str]:
    return [f"events:{action}" for action in actions]


def _tables(scope: Scope, table: str, *actions: str) -> list[Statement]:
    arn = scope.arn("dynamodb", f"table/{table}")
    return [allow("Table", [f"dynamodb:{action}" for action in actions], arn)]


def _buses(scope: Scope, sid: str, buses: Sequence[str], *also: str) -> list[Statement]:
    """Look at the buses, and make those that not every account has."""
    own = [scope.bus(bus) for bus in buses if bus != DEFAULT_BUS]
    actions = ["DescribeEventBus", "CreateEventBus", "TagResource", *also]
    statements = [allow(sid, _events(*actions), own)] if own else []
    if len(own) < len(buses):
        sid = f"{sid}OfTheAccount" if own else sid
        statements.append(allow(sid, _events("DescribeEventBus"), scope.bus(DEFAULT_BUS)))
    return statements


def _rule(scope: Scope, bus: str, rule: str) -> str:
    path = rule if bus == DEFAULT_BUS else f"{bus}/{rule}"
    return scope.arn("events", f"rule/{path}")
