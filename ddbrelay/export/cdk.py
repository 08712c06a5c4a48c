"""A project for the AWS CDK in Python: constructs in code, and what they are given in JSON.

https://docs.aws.amazon.com/cdk/v2/guide/work-with-cdk-python.html
"""

from __future__ import annotations

import json
from typing import Any

from ddbrelay.export import iam
from ddbrelay.export.bundle import package_files, static
from ddbrelay.export.filters import text_of
from ddbrelay.export.model import HANDLER, Project
from ddbrelay.export.texts import bundled, readme

_REQUIREMENTS = "aws-cdk-lib>=2.180,<3\nconstructs>=10,<11\n"
_CDK = {"app": "python3 app.py", "requireApproval": "broadening"}


def cdk_project(project: Project) -> dict[str, bytes]:
    """The files of the project, by their paths."""
    texts = {
        "app.py": static("app.txt"),
        "stack.py": static("stack.txt"),
        "cdk.json": json.dumps(_CDK, indent=2) + "\n",
        "relay.json": json.dumps(relay(project), indent=2, ensure_ascii=False) + "\n",
        "requirements.txt": _REQUIREMENTS,
        "README.md": _readme(project),
    }
    return {
        **{name: text.encode() for name, text in texts.items()},
        **package_files(project),
    }


def relay(project: Project) -> dict[str, Any]:
    """What the stack is given."""
    choices = project.choices
    keys = project.keys
    return {
        "name": project.stack,
        "description": f"Relays the changes of the table {project.table} to EventBridge",
        "table": project.table,
        "keys": [{"name": key.name, "type": _KEY_TYPES[key.type]} for key in keys],
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
        "statements": [_listed(one) for one in _statements(project)],
        "alarms": {"age": choices.alarm_age, "topic": choices.alarm_topic},
    }


_KEY_TYPES = {"S": "STRING", "N": "NUMBER", "B": "BINARY"}


def _statements(project: Project) -> list[iam.Statement]:
    scope = iam.Scope("{partition}", "{region}", "{account}")
    claims = project.claim_check
    others = [
        f"{{otherBus:{bus}}}" if bus in project.new_buses else scope.bus(bus)
        for bus in project.other_buses
    ]
    return [
        *iam.read_stream("{stream}", "{streams}"),
        iam.publish(["{bus}", *others], project.sources),
        iam.send("ReportFailures", "{failed}", "GetQueueAttributes"),
        iam.write_log("{log}"),
        *([] if project.letters is None else [iam.copy_letters(project.letters, scope)]),
        *(iam.write_claims(claims, "{partition}") if claims else []),
        *iam.settle_items(project.after, "{table}"),
    ]


def _listed(statement: iam.Statement) -> iam.Statement:
    resources = statement["Resource"]
    return statement | {"Resource": resources if isinstance(resources, list) else [resources]}


def _readme(project: Project) -> str:
    return readme(
        project,
        "ddbrelay on AWS Lambda, with the CDK",
        before="It takes the AWS CDK CLI (`npm install -g aws-cdk`), Node.js, and Python with pip.",
        deploy=["pip install -r requirements.txt", "python3 bundle.py", "cdk deploy"],
        local=bundled(),
        also=[
            "`bundle.py` gathers the function's package in `build/`; run it again after a change "
            "in `function/`. What the stack consists of stands in `relay.json`."
        ],
        remove=["cdk destroy"],
    )
