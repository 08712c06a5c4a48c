"""`ddbrelay export`: the same configuration as a project to deploy, and as IAM policies."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.console import out
from ddbrelay.cli.export_options import (
    Folder,
    folder_options,
    function_options,
    mapping_options,
    no_stdout_option,
    reading_options,
    source_options,
    stdout_option,
)
from ddbrelay.cli.groups import Group
from ddbrelay.cli.options import Run, pass_run, setting_options
from ddbrelay.export.choices import DEFAULT_LIMIT, ROLES, Choices
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.export.model import Project

_EPILOG = """\b
Examples:
  ddbrelay export sam
  ddbrelay export terraform --existing-table --parallelization 4 --dir deploy
  ddbrelay export pipes --attribute email:S --stdout
  ddbrelay export iam-policy --for relay --account 123456789012

\b
Every project has the table (or reads the stream of yours), the bus, a rule with a queue behind it
for the consumer, alarms and least-privilege roles; its README.md says how to deploy it.
"""


@click.group("export", cls=Group, epilog=_EPILOG)
def command() -> None:
    """Write projects that deploy this mapping on AWS, and the policies that it needs."""


@command.command("sam")
@folder_options
@stdout_option
@source_options
@function_options
@reading_options
@mapping_options
@pass_run
def sam(run: Run, /, folder: Path | None, force: bool, stdout: bool, **options: Any) -> None:
    """Write a project for the AWS SAM CLI: sam build, sam deploy.

    \b
    Examples:
      ddbrelay export sam
      ddbrelay export sam --batch-size 500 --window 2s --parallelization 10
      ddbrelay export sam --existing-table --existing-bus --stdout
    """
    from ddbrelay.export.sam import sam_project, sam_template

    project = _project(run, options)
    if stdout:
        _print(run, "template.yaml", sam_template(project), _notes(project))
        return
    made = sam_project(project)
    _write(run, "sam", folder, made, force, _notes(project), "sam build && sam deploy")


@command.command("cdk")
@folder_options
@no_stdout_option
@source_options
@function_options
@reading_options
@mapping_options
@pass_run
def cdk(run: Run, /, folder: Path | None, force: bool, **options: Any) -> None:
    """Write a project for the AWS CDK, in Python: cdk deploy.

    \b
    Examples:
      ddbrelay export cdk
      ddbrelay export cdk --architecture x86_64 --dir infrastructure
    """
    from ddbrelay.export.cdk import cdk_project

    project = _project(run, options)
    made = cdk_project(project)
    todo = "pip install -r requirements.txt && python3 bundle.py && cdk deploy"
    _write(run, "cdk", folder, made, force, _notes(project), todo)


@command.command("terraform")
@folder_options
@no_stdout_option
@source_options
@function_options
@reading_options
@mapping_options
@pass_run
def terraform(run: Run, /, folder: Path | None, force: bool, **options: Any) -> None:
    """Write a project for Terraform or OpenTofu: terraform apply.

    \b
    Examples:
      ddbrelay export terraform
      ddbrelay export terraform --stream-arn arn:aws:dynamodb:… --alarm-topic arn:aws:sns:…
    """
    from ddbrelay.export.terraform import terraform_project

    project = _project(run, options)
    made = terraform_project(project)
    todo = "python3 bundle.py && terraform init && terraform apply"
    _write(run, "terraform", folder, made, force, _notes(project), todo)


@command.command("pipes")
@folder_options
@stdout_option
@source_options
@reading_options
@click.option("--strict-export", is_flag=True, help="fail where a rule cannot be a pipe")
@setting_options("entity", "source", "preset", "mapper")
@pass_run
def pipes(
    run: Run,
    /,
    folder: Path | None,
    force: bool,
    stdout: bool,
    strict_export: bool,
    **options: Any,
) -> None:
    """Write a CloudFormation template with an EventBridge pipe for each rule.

    A pipe has a filter and a template, and no code: it can hand on named attributes whose type is
    given with --attribute. Rules that take more are left out, and named with the reason.

    \b
    Examples:
      ddbrelay export pipes --attribute email:S --attribute address.city:S
      ddbrelay export pipes --existing-table --strict-export --stdout
    """
    from ddbrelay.errors import ConfigError
    from ddbrelay.export.pipes import (
        MOST_EVENTS,
        NoPipesError,
        deploy_command,
        pipes_of,
        pipes_project,
        pipes_template,
    )

    options["batch_size"] = min(options["batch_size"], MOST_EVENTS)
    try:
        found = pipes_of(run.config, _project(run, options))
    except NoPipesError as error:
        _say(run, _left_out(error.others))
        raise
    others = _left_out(found.others)
    if strict_export and others:
        _say(run, others)
        raise ConfigError(
            f"{counted(len(others), 'rule')} cannot be exported as pipes",
            "ddbrelay export sam makes a function of all of them",
        )
    notes = [*others, *found.project.notes, *found.notes]
    if stdout:
        _print(run, "template.yaml", pipes_template(found), notes)
        return
    made = pipes_project(found)
    _write(run, "pipes", folder, made, force, notes, deploy_command(found.project))


@command.command("iam-policy")
@click.option(
    "--for",
    "role",
    type=click.Choice(ROLES),
    default=ROLES[0],
    metavar="|".join(ROLES),
    show_default=True,
    help="who gets the policy: the relay (tail, replay), the function, or provision",
)
@click.option("--account", metavar="ID", help="AWS account, in which alone it counts")
@click.option(
    "--config-at",
    metavar="ADDRESS",
    help="where the function reads its file: s3://bucket/key or ssm:/name, by default its package",
)
@click.option(
    "--dir",
    "folder",
    metavar="DIR",
    type=Folder(),
    help="write policy-ROLE.json there instead of printing it",
)
@click.option("--force", is_flag=True, help="replace a file that differs")
@setting_options("entity", "source", "preset", "mapper", "claim_check", "dead_letter_queue")
@pass_run
def iam_policy(
    run: Run,
    role: str,
    account: str | None,
    config_at: str | None,
    folder: Path | None,
    force: bool,
) -> None:
    """Print the least-privilege policy for this configuration, as JSON.

    The region is --region or AWS_REGION; without region or account, the policy counts in all.
    A parameter or object that a key of yours encrypts takes kms:Decrypt of that key as well.

    \b
    Examples:
      ddbrelay export iam-policy > policy.json
      ddbrelay export iam-policy --for provision --region eu-west-1 --account 123456789012
    """
    import json
    import os

    from ddbrelay.cli.in_force import check_table
    from ddbrelay.errors import ConfigError
    from ddbrelay.export.iam import Scope
    from ddbrelay.export.model import region_of
    from ddbrelay.export.policies import policy_for

    if account is not None and not (account.isascii() and account.isdigit() and len(account) == 12):
        raise ConfigError(f'"{account}" is not an AWS account', "--account with its twelve digits")
    scope = Scope.of(region_of(run.settings, os.environ), account)
    if config_at is not None and role != "lambda":
        raise ConfigError(f"--config-at is about the function, not {role}", "--for lambda")
    table = run.require("table")
    check_table(run, writes=True)
    document = policy_for(role, run.config, table, scope, config_at=config_at)
    if folder is not None:
        made = {f"policy-{role}.json": (json.dumps(document, indent=2) + "\n").encode()}
        _write(run, "iam-policy", folder, made, force, [], None)
    elif run.console.json:
        run.console.object(document)
    else:
        # Under -q too: it is what was asked for.
        out(json.dumps(document, indent=2, ensure_ascii=False))


def _project(run: Run, options: Mapping[str, Any]) -> Project:
    from ddbrelay.cli.in_force import check_table
    from ddbrelay.errors import ConfigError
    from ddbrelay.export.model import project_of, types_of

    chosen = dict(options)
    existing, attributes = chosen.pop("existing_table"), chosen.pop("attributes")
    table = run.require("table")
    check_table(run, writes=True)
    if existing and chosen["stream_arn"] is not None:
        raise ConfigError(
            "--existing-table and --stream-arn are given", "one of them says which stream it is"
        )
    if run.settings.table_arn is not None and not existing and chosen["stream_arn"] is None:
        raise ConfigError(
            "the project would make a table, and an ARN names one that is there",
            "--existing-table, or --stream-arn; or the name of a table to make",
        )
    if chosen.get("filter_limit") == 0:
        chosen |= {"filtered": False, "filter_limit": DEFAULT_LIMIT}
    choices = Choices(**chosen, types=types_of(attributes))
    if not existing:
        return project_of(run.config, choices)
    # What is wrong here needs no answer of AWS.
    project_of(run.config, choices)
    from ddbrelay.export.existing import of_table, refuse_emulator

    refuse_emulator(run.settings, lambda: run.aws, table)
    return project_of(run.config, of_table(run.aws, table, choices))


def _notes(project: Project) -> list[str]:
    return [
        *project.notes,
        *project.function_notes,
        *(f"filters: {note}" for note in project.filters.notes),
    ]


def _left_out(others: Sequence[tuple[str, str]]) -> list[str]:
    return [f'rule "{name}" is left out: {why}' for name, why in others]


def _print(run: Run, name: str, text: str, notes: Sequence[str]) -> None:
    if run.console.json:
        run.console.object({"type": "file", "path": name, "content": text})
    else:
        out(text, end="")
    _say(run, notes)


def _write(
    run: Run,
    kind: str,
    folder: Path | None,
    files: Mapping[str, bytes],
    force: bool,
    notes: Sequence[str],
    todo: str | None,
) -> None:
    from ddbrelay.export.store import write

    target = folder or Path(f"ddbrelay-{kind}")
    states = write(target, files, force=force)
    console = run.console
    for name, state in states.items():
        if console.json:
            console.object({"type": "file", "path": str(target / name), "state": state})
        else:
            shown = f"  {state:<9}  {target / name}"
            dim = console.colour and state == "unchanged"
            console.data(click.style(shown, dim=True) if dim else shown)
    _say(run, notes)
    if console.json:
        console.object(
            {
                "type": "summary",
                "format": kind,
                "directory": str(target),
                "written": list(states.values()).count("written"),
            }
        )
    elif todo is not None:
        console.next_step(f"cd {shlex.quote(str(target))} && {todo}")


def _say(run: Run, notes: Sequence[str]) -> None:
    for note in notes:
        if run.console.json:
            run.console.object({"type": "note", "text": note})
        else:
            run.console.words(f"note: {note}")
