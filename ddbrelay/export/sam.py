"""A project for the AWS SAM CLI.

https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
sam-resource-function.html and sam-property-function-dynamodb.html
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from ddbrelay.export import cloudformation as cfn
from ddbrelay.export.filters import text_of
from ddbrelay.export.model import HANDLER, Project
from ddbrelay.export.texts import block, duration, heading, readme

_FOLDER = "function"
_WITH_A_WHEEL = (
    "pip wheel --no-deps --wheel-dir wheels ../ddbrelay",
    'PIP_FIND_LINKS="$PWD/wheels" sam build',
)


def sam_project(project: Project) -> dict[str, bytes]:
    """The files of the project, by their paths."""
    return {
        "template.yaml": sam_template(project).encode(),
        "samconfig.toml": samconfig(project.stack, build=True).encode(),
        "README.md": _readme(project).encode(),
        **{f"{_FOLDER}/{name}": content for name, content in project.files.items()},
    }


def sam_template(project: Project) -> str:
    """The template, with what its filters leave out as a comment."""
    return heading(project, "A DynamoDB stream relayed to EventBridge by AWS Lambda") + to_yaml(
        sam_document(project)
    )


def sam_document(project: Project) -> dict[str, Any]:
    """The template as data."""
    resources = cfn.base(project)
    resources["FailedQueue"] = cfn.failed_queue(project)
    resources["FunctionLog"] = cfn.log_group(f"/aws/lambda/{project.function}")
    resources["FunctionRole"] = cfn.role("lambda.amazonaws.com", cfn.function_statements(project))
    resources["Function"] = _function(project)
    resources |= _alarms(project)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"Relays the changes of the table {project.table} to EventBridge",
        "Resources": resources,
        "Outputs": cfn.outputs(
            project,
            {
                "FunctionName": ("Function that relays", cfn.ref("Function")),
                "FailedQueueUrl": ("Queue of what could not be relayed", cfn.ref("FailedQueue")),
            },
        ),
    }


def to_yaml(document: dict[str, Any]) -> str:
    """A document as YAML, its keys in their order and no anchors."""
    return yaml.dump(
        document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
    )


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # Lists stand further in than their key, as in AWS's own templates.
        super().increase_indent(flow, False)


def samconfig(stack: str, *, build: bool) -> str:
    """The settings of `sam build` and `sam deploy`."""
    lines = ["version = 0.1", ""]
    if build:
        lines += ["[default.build.parameters]", "cached = true", ""]
    lines += [
        "[default.deploy.parameters]",
        f"stack_name = {json.dumps(stack)}",
        "resolve_s3 = true",
        'capabilities = "CAPABILITY_IAM"',
        "confirm_changeset = true",
    ]
    return "\n".join(lines) + "\n"


def _function(project: Project) -> dict[str, Any]:
    choices = project.choices
    return {
        "Type": "AWS::Serverless::Function",
        # The log must be there before the first line of it.
        "DependsOn": "FunctionLog",
        "Properties": {
            "FunctionName": project.function,
            "Description": f"Relays the changes of the table {project.table} to EventBridge",
            "CodeUri": f"{_FOLDER}/",
            "Handler": HANDLER,
            "Runtime": choices.runtime,
            "Architectures": [choices.architecture],
            "MemorySize": choices.memory,
            "Timeout": choices.timeout,
            # With a role of its own SAM adds no managed policies.
            "Role": cfn.att("FunctionRole"),
            "Environment": {
                "Variables": {
                    **project.variables,
                    "DDBRELAY_DEAD_LETTER_QUEUE": project.letters or cfn.ref("FailedQueue"),
                }
            },
            "Events": {"Stream": {"Type": "DynamoDB", "Properties": _mapping(project)}},
        },
    }


def _mapping(project: Project) -> dict[str, Any]:
    choices = project.choices
    filters = [{"Pattern": text_of(pattern)} for pattern in project.filters.patterns]
    return {
        "Stream": cfn.stream(project),
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": choices.batch_size,
        "MaximumBatchingWindowInSeconds": choices.window,
        "ParallelizationFactor": choices.parallelization,
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": choices.retries,
        "MaximumRecordAgeInSeconds": choices.max_age,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "DestinationConfig": {
            "OnFailure": {"Type": "SQS", "Destination": cfn.att("FailedQueue")},
        },
        **({"FilterCriteria": {"Filters": filters}} if filters else {}),
    }


def _alarms(project: Project) -> cfn.Resources:
    function = {"FunctionName": cfn.ref("Function")}
    return {
        "IteratorAgeAlarm": cfn.alarm(
            project,
            f"Records of {project.table} wait for more than {duration(project.choices.alarm_age)}",
            ("AWS/Lambda", "IteratorAge", function),
            threshold=project.choices.alarm_age * 1000,
            periods=3,
        ),
        "ErrorsAlarm": cfn.alarm(
            project,
            f"The function that relays {project.table} fails",
            ("AWS/Lambda", "Errors", function),
            statistic="Sum",
        ),
        "FailedQueueAlarm": cfn.depth_alarm(
            project, "FailedQueue", f"Changes of {project.table} could not be relayed"
        ),
        "ConsumerDeadLettersAlarm": cfn.depth_alarm(
            project, "ConsumerDeadLetters", f"The consumer of {project.table} failed on an event"
        ),
    }


def _readme(project: Project) -> str:
    return readme(
        project,
        "ddbrelay on AWS Lambda, with SAM",
        local="Where that version is not there, or another one is meant, make a wheel of a "
        "checkout of it, and let pip look there too:\n\n" + block(_WITH_A_WHEEL),
        before="It takes the AWS SAM CLI, and for `sam build` "
        f"{project.choices.runtime.replace('python', 'Python ')} with pip; where that is not on "
        "this machine, `sam build --use-container` takes it from Docker.",
        deploy=["sam validate --lint", "sam build", "sam deploy"],
        remove=["sam delete"],
    )
