"""A CloudFormation template with one EventBridge pipe for each rule that a pipe can carry out.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-dynamodb.html; batches: an event
bus takes ten events at once (eb-pipes-batching-concurrency.html).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ddbrelay import __version__
from ddbrelay.errors import ConfigError
from ddbrelay.export import cloudformation as cfn
from ddbrelay.export import iam
from ddbrelay.export.expressible import PipeRule, pipe_rules
from ddbrelay.export.filters import text_of
from ddbrelay.export.model import PIPE_LIMIT, Project, name_of, stack_name
from ddbrelay.export.sam import to_yaml
from ddbrelay.export.sample import sample_of
from ddbrelay.export.texts import block, comment, trial
from ddbrelay.infra.names import short_hash

if TYPE_CHECKING:
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule

MOST_EVENTS = 10
READERS = 2
"""Of one shard at the same time; a third is throttled, and so are the others."""


@dataclass(frozen=True)
class Pipes:
    """What can be exported, and what cannot: names of rules with the reasons, and other words."""

    project: Project
    rules: tuple[PipeRule, ...]
    others: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


class NoPipesError(ConfigError):
    """No rule can be a pipe; `others` are their names with the reasons."""

    def __init__(self, others: Sequence[tuple[str, str]]) -> None:
        super().__init__(
            "no rule can be exported as a pipe", "ddbrelay export sam makes a function of them"
        )
        self.others = tuple(others)


def pipes_of(config: Config, project: Project) -> Pipes:
    """The pipes of a configuration; NoPipesError, a ConfigError, where there is not one.

    The project is given back with the buses, and an item to try, of the rules that are pipes.
    """
    settings = config.settings
    if settings.mapper is not None or not project.rules:
        what = f"the mapper {settings.mapper}" if settings.mapper else "a mapping without rules"
        raise ConfigError(
            f"{what} cannot be exported as pipes, which have filters and templates only",
            "ddbrelay export sam makes a function of it",
        )
    found, others = pipe_rules(
        project.rules,
        table=project.table,
        source=settings.event_source,
        envelope=settings.envelope,
        redact=settings.redact,
        types=project.types,
    )
    if not found:
        raise NoPipesError(others)
    names = {rule.name for rule in found}
    rules = [rule for rule in project.rules if rule.name in names]
    buses = {rule.bus for rule in found}
    kept = replace(
        project,
        other_buses=tuple(bus for bus in project.other_buses if bus in buses),
        sample=sample_of(
            config, rules, project.keys, keys_known=project.choices.keys_known, by_rules=True
        ),
    )
    return Pipes(kept, tuple(found), tuple(others), tuple(_notes(config, project.failed, rules)))


def _notes(config: Config, failed: str, found: Sequence[Rule]) -> list[str]:
    notes, settings = [], config.settings
    if any(rule.goes_on for rule in found):
        notes.append(
            "where a rule continues, each pipe sends its own event of a change: in any order, and "
            "one of them may fail"
        )
    if len(found) > READERS:
        notes.append(
            f"{len(found)} pipes read one stream, and AWS allows {READERS} readers for each of its "
            "shards: more are throttled, and late"
        )
    if settings.preset is not None:
        notes.append(f"the preset {settings.preset} behind the rules is not exported")
    if settings.dead_letter_queue is not None:
        notes.append(
            f"{settings.dead_letter_queue} gets no dead letters: a pipe reports what it gave up on "
            f"to {failed}"
        )
    if settings.claim_check is not None:
        notes.append(
            f"a pipe writes no claim checks to {settings.claim_check}: what is too large for an "
            "event fails"
        )
    if settings.strict:
        notes.append("strict: a pipe parks nothing, what no filter matches is gone")
    return notes


def pipes_project(pipes: Pipes) -> dict[str, bytes]:
    """The files of the project, by their paths."""
    return {
        "template.yaml": pipes_template(pipes).encode(),
        "README.md": _readme(pipes).encode(),
    }


def pipes_template(pipes: Pipes) -> str:
    """The template, with what it leaves out as a comment."""
    lines = [
        "A DynamoDB stream relayed to EventBridge by pipes",
        f"Written by ddbrelay {__version__} for the table {pipes.project.table}.",
    ]
    if pipes.others:
        lines += ["", "Rules that no pipe can carry out:"]
        lines += [f'- rule "{name}": {why}' for name, why in pipes.others]
    if pipes.notes:
        lines += ["", *(f"- {note}" for note in pipes.notes)]
    return comment(lines) + to_yaml(pipes_document(pipes))


def pipes_document(pipes: Pipes) -> dict[str, Any]:
    """The template as data."""
    project = pipes.project
    resources = cfn.base(project)
    resources["FailedQueue"] = cfn.failed_queue(project)
    statements = [
        *iam.read_stream(cfn.stream(project), cfn.siblings(project)),
        iam.publish(_targets(pipes), project.sources),
        iam.send("ReportFailures", cfn.att("FailedQueue")),
    ]
    resources["PipeRole"] = cfn.role("pipes.amazonaws.com", statements)
    names: dict[str, Any] = {}
    for number, rule in enumerate(pipes.rules, 1):
        resources[f"Pipe{number}"] = _pipe(project, rule)
        names[f"Pipe{number}Name"] = (f"Pipe of the rule {rule.name}", cfn.ref(f"Pipe{number}"))
    for number, rule in enumerate(pipes.rules, 1):
        metric = (
            "AWS/EventBridge/Pipes",
            "ExecutionFailed",
            {"PipeName": cfn.ref(f"Pipe{number}")},
        )
        resources[f"Pipe{number}Alarm"] = cfn.alarm(
            project, f"The pipe of the rule {rule.name} fails", metric, statistic="Sum"
        )
    resources["FailedQueueAlarm"] = cfn.depth_alarm(
        project, "FailedQueue", f"Changes of {project.table} could not be relayed"
    )
    resources["ConsumerDeadLettersAlarm"] = cfn.depth_alarm(
        project, "ConsumerDeadLetters", f"The consumer of {project.table} failed on an event"
    )
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Relays the changes of the table {project.table} to EventBridge by pipes",
        "Resources": resources,
        "Outputs": cfn.outputs(project, names),
    }


def _targets(pipes: Pipes) -> list[Any]:
    found: list[Any] = []
    for rule in pipes.rules:
        target = _target(pipes.project, rule)
        found += [] if target in found else [target]
    return found


def _target(project: Project, rule: PipeRule) -> Any:
    return cfn.bus_arn(project, rule.bus or project.bus)


def _pipe(project: Project, rule: PipeRule) -> dict[str, Any]:
    choices = project.choices
    filters = [{"Pattern": text_of(pattern)} for pattern in rule.filters]
    return {
        "Type": "AWS::Pipes::Pipe",
        "Properties": {
            "Name": pipe_name(project.table, rule.name),
            "Description": f"Rule {rule.name} of the table {project.table}",
            "RoleArn": cfn.att("PipeRole"),
            "Source": cfn.stream(project),
            "SourceParameters": {
                **({"FilterCriteria": {"Filters": filters}} if filters else {}),
                "DynamoDBStreamParameters": {
                    "StartingPosition": "TRIM_HORIZON",
                    "BatchSize": min(choices.batch_size, MOST_EVENTS),
                    "MaximumBatchingWindowInSeconds": choices.window,
                    "ParallelizationFactor": choices.parallelization,
                    "OnPartialBatchItemFailure": "AUTOMATIC_BISECT",
                    "MaximumRetryAttempts": choices.retries,
                    "MaximumRecordAgeInSeconds": choices.max_age,
                    "DeadLetterConfig": {"Arn": cfn.att("FailedQueue")},
                },
            },
            "Target": _target(project, rule),
            "TargetParameters": {
                "EventBridgeEventBusParameters": {
                    "Source": rule.source,
                    "DetailType": rule.detail_type,
                    "Resources": list(rule.resources),
                },
                "InputTemplate": rule.template,
            },
        },
    }


def pipe_name(table: str, rule: str) -> str:
    """`ddbrelay-<table>-<rule>`, cut with a hash where it is too long or has other characters."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", rule).strip("-")
    name = f"{name_of(table, '', PIPE_LIMIT)}-{plain}"
    if plain == rule and len(name) <= PIPE_LIMIT:
        return name
    return f"{name[: PIPE_LIMIT - 9]}-{short_hash(rule)}"


def deploy_command(project: Project) -> str:
    """What deploys the template, in the project's folder."""
    return (
        f"aws cloudformation deploy --template-file template.yaml --stack-name {_stack(project)} "
        "--capabilities CAPABILITY_IAM"
    )


def _stack(project: Project) -> str:
    return stack_name(project.table, "-pipes")


def _readme(pipes: Pipes) -> str:
    project = pipes.project
    table = "the stream of your table" if project.stream_arn else "a table with its stream"
    count = len(pipes.rules)
    parts = [
        f"# ddbrelay as EventBridge pipes: {project.table}",
        f"This template deploys {table}, {count} pipe{'s' * (count != 1)} to turn its changes "
        "into events, the bus for them, and a rule with a queue behind it for their consumer. "
        "There is no code to run.",
        "## Deploy",
        block([deploy_command(project)]),
        "## Try it",
        trial(project),
        "## How pipes differ from ddbrelay",
        _differences(pipes),
        "## Watch",
        "- The alarm of a pipe rises when an execution of it fails.\n"
        f"- The alarm on `{project.failed}` rises when a pipe gave up on records; what is in the "
        "queue is the range of their sequence numbers.\n"
        f"- The alarm on `{project.queue_dead}` rises when the consumer failed on a message five "
        "times.",
        "## What it costs",
        "Pipes cost $0.40 a million requests that pass the filter (64 KB begun each counts as one) "
        "and the events $1.00 a million; reading the stream is free of charge. Alarms are $0.10 "
        "each a month. Prices are those of us-east-1; "
        "https://aws.amazon.com/eventbridge/pricing/ has the others.",
        "## Remove",
        block([f"aws cloudformation delete-stack --stack-name {_stack(project)}"]),
    ]
    return "\n\n".join(parts) + "\n"


def _differences(pipes: Pipes) -> str:
    lines = [
        *(f'The rule "{name}" is not here: {why}.' for name, why in pipes.others),
        *(f"{note[0].upper()}{note[1:]}." for note in pipes.notes),
        "An attribute that a pattern compares with a text counts where it is a text; sets and "
        "lists are not looked into.",
        "An attribute that an item does not have is an empty text in the event, not null.",
        "Pipes do not wait for each other: events of two rules may come in another order, also "
        "where they are of one item.",
        "The time of an event is when the pipe sent it, not when the item was written.",
        "A record that a template cannot handle goes to no queue of dead letters as a whole.",
    ]
    return "\n".join(f"- {line}" for line in lines)
