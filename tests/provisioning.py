"""What the tests of provision and teardown share."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.infra.calls import listing
from ddbrelay.infra.plan import Step


def states(steps: tuple[Step, ...]) -> dict[str, str]:
    return {step.kind: step.state for step in steps}


def everything(aws: Aws, name: str) -> dict[str, Any]:
    """All that carries the name, as AWS describes it."""
    dynamodb, events, sqs = (aws.client(s) for s in ("dynamodb", "events", "sqs"))
    pages = dynamodb.get_paginator("list_tables").paginate()
    tables = [t for page in pages for t in page["TableNames"] if name in t]
    buses = [*listing(events, "list_event_buses", "list", "EventBuses")]
    rules = [
        rule
        for bus in buses
        for rule in listing(events, "list_rules", "list", "Rules", EventBusName=bus["Name"])
        if name in rule["Name"]
    ]
    archives = listing(events, "list_archives", "list", "Archives")
    queues = sqs.get_paginator("list_queues").paginate()
    return {
        "tables": [dynamodb.describe_table(TableName=t)["Table"] for t in tables],
        "buses": [bus for bus in buses if name in bus["Name"]],
        "rules": rules,
        "targets": [
            events.list_targets_by_rule(Rule=r["Name"], EventBusName=r["EventBusName"])["Targets"]
            for r in rules
        ],
        "queues": [
            sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            for page in queues
            for url in page.get("QueueUrls", [])
            if name in url
        ],
        "archives": [archive for archive in archives if name in archive["ArchiveName"]],
    }


def denied(code: str = "AccessDeniedException") -> Callable[..., Any]:
    """A handler that answers for AWS."""
    answer = {"Error": {"Code": code, "Message": "User x is not authorized"}}
    return lambda **_: (SimpleNamespace(status_code=400, content=b"{}", headers={}), answer)


def on_call(aws: Aws, service: str, operation: str, handler: Callable[..., Any]) -> None:
    client = aws.client(service)
    model = client.meta.service_model.service_id.hyphenize()
    client.meta.events.register(f"before-call.{model}.{operation}", handler)


def another(aws: Aws) -> Aws:
    """A session of its own, without the handlers of the first."""
    return Aws(Settings(local=True, endpoint_url=aws.endpoint_url))
