"""A deployment as JSON: what the CDK app and the Terraform files are given.

Both are static files. All that differs between two relays is in this description.
"""

from __future__ import annotations

from typing import Any

from ddbrelay.export import iam
from ddbrelay.export.filters import text_of
from ddbrelay.export.model import HANDLER, Project
from ddbrelay.export.texts import duration


def description(project: Project) -> dict[str, Any]:
    """The deployment, with placeholders where only AWS or the tool knows a value.

    A placeholder is written `${name}`. `iam.write_claims` lets no other `${` through, so whatever
    a configuration contains, none of it is taken for a placeholder.
    """
    choices = project.choices
    return {
        "name": project.stack,
        "description": f"Relays the changes of the table {project.table} to EventBridge",
        "table": project.table,
        "keys": [{"name": key.name, "type": key.type} for key in project.keys],
        "streamArn": project.stream_arn,
        "expiry": project.outbox_expiry if project.after == "expire" else None,
        "bus": {"name": project.bus, "create": project.create_bus},
        "otherBuses": list(project.new_buses),
        "rule": {"name": project.rule, "pattern": project.pattern},
        "queues": {
            "consumer": project.queue,
            "dead": project.queue_dead,
            "failed": project.failed,
        },
        "function": {
            "name": project.function,
            "handler": HANDLER,
            "runtime": choices.runtime,
            "architecture": choices.architecture,
            "memory": choices.memory,
            "timeout": choices.timeout,
            "variables": dict(project.variables),
            "deadLetterQueue": project.letters,
        },
        "mapping": {
            "batchSize": choices.batch_size,
            "window": choices.window,
            "parallelization": choices.parallelization,
            "retries": choices.retries,
            "maxAge": choices.max_age,
            "filters": [text_of(pattern) for pattern in project.filters.patterns],
            "filterNotes": list(project.filters.notes),
        },
        "statements": [_with_list(statement) for statement in _statements(project)],
        "alarms": {
            "age": choices.alarm_age,
            "ageText": duration(choices.alarm_age),
            "topic": choices.alarm_topic,
        },
    }


def _statements(project: Project) -> list[iam.Statement]:
    scope = iam.Scope("${partition}", "${region}", "${account}")
    claims = project.claim_check
    bus = "${bus}" if project.create_bus else scope.bus(project.bus)
    others = [
        f"${{otherBus:{name}}}" if name in project.new_buses else scope.bus(name)
        for name in project.other_buses
    ]
    return [
        *iam.read_stream("${stream}", "${streams}"),
        iam.publish([bus, *others], project.sources),
        iam.send("ReportFailures", "${failed}", "GetQueueAttributes"),
        iam.write_log("${log}"),
        *([] if project.letters is None else [iam.copy_letters(project.letters, scope)]),
        *(iam.write_claims(claims, scope.partition) if claims else []),
        *iam.settle_items(project.after, "${table}"),
    ]


def _with_list(statement: iam.Statement) -> iam.Statement:
    """The statement with a list of resources, also where there is only one."""
    resources = statement["Resource"]
    return statement | {"Resource": resources if isinstance(resources, list) else [resources]}
