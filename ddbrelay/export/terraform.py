"""A project for Terraform (or OpenTofu) with the AWS provider.

https://registry.terraform.io/providers/hashicorp/aws/latest/docs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ddbrelay.export import iam
from ddbrelay.export.bundle import package_files
from ddbrelay.export.filters import text_of
from ddbrelay.export.hcl import Block, Call, Expression, Template, document, encoded, literal
from ddbrelay.export.model import HANDLER, RETENTION_DAYS, Project
from ddbrelay.export.terraform_alarms import alarms
from ddbrelay.export.texts import bundled, heading, readme
from ddbrelay.infra.plan import DEFAULT_BUS

_BUS = "aws_cloudwatch_event_bus"
_FOURTEEN_DAYS = 14 * 86400
_HERE = iam.Scope(
    "${data.aws_partition.current.partition}",
    "${data.aws_region.current.region}",
    "${data.aws_caller_identity.current.account_id}",
)
_KEPT = (
    "prevent_destroy keeps the data: `terraform destroy` refuses until it is taken out, or the "
    "table is taken out of the state (terraform state rm aws_dynamodb_table.this)."
)


def terraform_project(project: Project) -> dict[str, bytes]:
    """The files of the project, by their paths."""
    main = heading(project, "A DynamoDB stream relayed to EventBridge by AWS Lambda")
    function = document(_function(project))
    known = [
        Block("data", (kind, "current"), {})
        for kind in ("aws_caller_identity", "aws_partition", "aws_region")
        if f"data.{kind}.current" in function
    ]
    texts = {
        "main.tf": main + "\n" + document([*known, *_sources(project)]),
        "function.tf": function,
        "alarms.tf": document(alarms(project)),
        "outputs.tf": document(_outputs(project)),
        "versions.tf": document(_versions()),
        "README.md": _readme(project),
    }
    return {name: text.encode() for name, text in texts.items()} | package_files(project)


def _resource(kind: str, name: str, attributes: Mapping[str, Any], *blocks: Block) -> Block:
    return Block("resource", (kind, name), attributes, blocks)


def _inner(kind: str, attributes: Mapping[str, Any], *blocks: Block) -> Block:
    return Block(kind, (), attributes, blocks)


def _arn(address: str) -> Expression:
    return Expression(f"{address}.arn")


def _versions() -> list[Block]:
    providers = {
        "archive": {"source": "hashicorp/archive", "version": "~> 2.4"},
        "aws": {"source": "hashicorp/aws", "version": "~> 6.0"},
    }
    return [
        _inner("terraform", {"required_version": ">= 1.5"}, _inner("required_providers", providers))
    ]


def _sources(project: Project) -> list[Block]:
    blocks: list[Block] = []
    if project.stream_arn is None:
        blocks.append(_table(project))
    if project.create_bus:
        blocks.append(_resource(_BUS, "this", {"name": project.bus}))
    if project.new_buses:
        names = Call("toset", sorted(project.new_buses))
        each = {"for_each": names, "name": Expression("each.value")}
        blocks.append(_resource(_BUS, "other", each))
    blocks += [
        _queue("consumer_dead", project.queue_dead),
        _queue(
            "consumer",
            project.queue,
            redrive_policy=encoded(
                {"deadLetterTargetArn": _arn("aws_sqs_queue.consumer_dead"), "maxReceiveCount": 5}
            ),
        ),
        _queue("failed", project.failed),
        _resource(
            "aws_cloudwatch_event_rule",
            "consumer",
            {
                "name": project.rule,
                "description": f"Events of the table {project.table}, for its consumer",
                **_on_bus(project),
                "event_pattern": encoded(project.pattern),
            },
        ),
        _resource(
            "aws_cloudwatch_event_target",
            "consumer",
            {
                "rule": Expression("aws_cloudwatch_event_rule.consumer.name"),
                **_on_bus(project),
                "target_id": "consumer",
                "arn": _arn("aws_sqs_queue.consumer"),
            },
            _inner("dead_letter_config", {"arn": _arn("aws_sqs_queue.consumer_dead")}),
        ),
    ]
    for name in ("consumer", "consumer_dead"):
        queue = f"aws_sqs_queue.{name}"
        policy = iam.sending_rule(_arn(queue), _arn("aws_cloudwatch_event_rule.consumer"))
        blocks.append(
            _resource(
                "aws_sqs_queue_policy",
                name,
                {"queue_url": Expression(f"{queue}.id"), "policy": encoded(policy)},
            )
        )
    return blocks


def _table(project: Project) -> Block:
    keys = project.keys
    names = {role: key.name for role, key in zip(("hash_key", "range_key"), keys, strict=False)}
    expiry = (
        [_inner("ttl", {"attribute_name": project.outbox_expiry, "enabled": True})]
        if project.after == "expire"
        else []
    )
    return _resource(
        "aws_dynamodb_table",
        "this",
        {
            "name": project.table,
            "billing_mode": "PAY_PER_REQUEST",
            **names,
            "stream_enabled": True,
            "stream_view_type": "NEW_AND_OLD_IMAGES",
        },
        *(_inner("attribute", {"name": key.name, "type": key.type}) for key in keys),
        _inner("point_in_time_recovery", {"enabled": True}),
        *expiry,
        _inner("lifecycle", {"prevent_destroy": True}),
    )


def _queue(name: str, queue: str, **more: Any) -> Block:
    return _resource(
        "aws_sqs_queue",
        name,
        {
            "name": queue,
            "message_retention_seconds": _FOURTEEN_DAYS,
            "sqs_managed_sse_enabled": True,
            **more,
        },
    )


def _on_bus(project: Project) -> dict[str, Any]:
    if project.create_bus:
        return {"event_bus_name": Expression("aws_cloudwatch_event_bus.this.name")}
    return {} if project.bus == DEFAULT_BUS else {"event_bus_name": project.bus}


def _stream(project: Project) -> Any:
    return project.stream_arn or Expression("aws_dynamodb_table.this.stream_arn")


def _siblings(project: Project) -> Any:
    if project.stream_arn is not None:
        return iam.siblings_of(project.stream_arn)
    return Template("${aws_dynamodb_table.this.arn}/stream/*")


def _buses(project: Project) -> list[Any]:
    others = [
        _arn(f"{_BUS}.other[{json.dumps(bus)}]")
        if bus in project.new_buses
        else Template(_HERE.bus(bus))
        for bus in project.other_buses
    ]
    if project.create_bus:
        return [_arn(f"{_BUS}.this"), *others]
    return [Template(_HERE.bus(project.bus)), *others]


def _statements(project: Project) -> list[iam.Statement]:
    claims: list[iam.Statement] = []
    if project.claim_check is not None:
        claims = [
            one | {"Resource": Template(one["Resource"])}
            for one in iam.write_claims(project.claim_check, _HERE.partition, quoted=literal)
        ]
    letters: list[iam.Statement] = []
    if project.letters is not None:
        copies = iam.copy_letters(project.letters, _HERE)
        letters = [copies | {"Resource": Template(copies["Resource"])}]
    table: Any = _arn("aws_dynamodb_table.this")
    if project.stream_arn is not None:
        table = project.stream_arn.partition("/stream/")[0]
    return [
        *iam.read_stream(_stream(project), _siblings(project)),
        iam.publish(_buses(project), project.sources),
        iam.send("ReportFailures", _arn("aws_sqs_queue.failed"), "GetQueueAttributes"),
        iam.write_log(Template("${aws_cloudwatch_log_group.function.arn}:*")),
        *letters,
        *claims,
        *iam.settle_items(project.after, table),
    ]


def _function(project: Project) -> list[Block]:
    choices = project.choices
    archive = "data.archive_file.function"
    return [
        Block(
            "data",
            ("archive_file", "function"),
            {
                "type": "zip",
                "source_dir": Template("${path.module}/build"),
                "output_path": Template("${path.module}/function.zip"),
            },
        ),
        _resource(
            "aws_cloudwatch_log_group",
            "function",
            {"name": f"/aws/lambda/{project.function}", "retention_in_days": RETENTION_DAYS},
        ),
        _resource(
            "aws_iam_role",
            "function",
            {
                "name_prefix": "ddbrelay-",
                "assume_role_policy": encoded(iam.trust("lambda.amazonaws.com")),
            },
        ),
        _resource(
            "aws_iam_role_policy",
            "function",
            {
                "name": "ddbrelay",
                "role": Expression("aws_iam_role.function.id"),
                "policy": encoded(iam.policy(_statements(project))),
            },
        ),
        _resource(
            "aws_lambda_function",
            "this",
            {
                "function_name": project.function,
                "description": f"Relays the changes of the table {project.table} to EventBridge",
                "role": _arn("aws_iam_role.function"),
                "handler": HANDLER,
                "runtime": choices.runtime,
                "architectures": [choices.architecture],
                "memory_size": choices.memory,
                "timeout": choices.timeout,
                "filename": Expression(f"{archive}.output_path"),
                "source_code_hash": Expression(f"{archive}.output_base64sha256"),
                "depends_on": [
                    Expression("aws_cloudwatch_log_group.function"),
                    Expression("aws_iam_role_policy.function"),
                ],
            },
            _inner(
                "environment",
                {
                    "variables": {
                        **project.variables,
                        "DDBRELAY_DEAD_LETTER_QUEUE": project.letters
                        or Expression("aws_sqs_queue.failed.url"),
                    }
                },
            ),
        ),
        _mapping(project),
    ]


def _mapping(project: Project) -> Block:
    choices = project.choices
    filters = [_inner("filter", {"pattern": text_of(one)}) for one in project.filters.patterns]
    return _resource(
        "aws_lambda_event_source_mapping",
        "stream",
        {
            "event_source_arn": _stream(project),
            "function_name": _arn("aws_lambda_function.this"),
            "starting_position": "TRIM_HORIZON",
            "batch_size": choices.batch_size,
            "maximum_batching_window_in_seconds": choices.window,
            "parallelization_factor": choices.parallelization,
            "bisect_batch_on_function_error": True,
            "maximum_retry_attempts": choices.retries,
            "maximum_record_age_in_seconds": choices.max_age,
            "function_response_types": ["ReportBatchItemFailures"],
        },
        _inner(
            "destination_config",
            {},
            _inner("on_failure", {"destination_arn": _arn("aws_sqs_queue.failed")}),
        ),
        *([_inner("filter_criteria", {}, *filters)] if filters else []),
    )


def _outputs(project: Project) -> list[Block]:
    values = {
        "stream_arn": _stream(project),
        "consumer_queue_url": Expression("aws_sqs_queue.consumer.url"),
        "failed_queue_url": Expression("aws_sqs_queue.failed.url"),
        "function_name": Expression("aws_lambda_function.this.function_name"),
    }
    return [Block("output", (name,), {"value": value}) for name, value in values.items()]


def _readme(project: Project) -> str:
    return readme(
        project,
        "ddbrelay on AWS Lambda, with Terraform",
        before="It takes Terraform (or OpenTofu) 1.5 or later, and Python with pip.",
        deploy=["python3 bundle.py", "terraform init", "terraform apply"],
        local=bundled(),
        also=[
            "`bundle.py` gathers the function's package in `build/`; run it again after a change "
            "in `function/`.",
            *([_KEPT] if project.stream_arn is None else []),
        ],
        remove=["terraform destroy"],
    )
