"""Doing the steps of a scenario: items through DynamoDB, commands as processes.

PutItem, UpdateItem and DeleteItem:
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Operations_Amazon_DynamoDB.html
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import ConfigError
from ddbrelay.infra.calls import call
from ddbrelay.scenario.model import Command, Delete, Put, Scenario, Step, Update, in_seconds
from ddbrelay.scenario.ordering import Key
from ddbrelay.scenario.results import Fault

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.config import Settings

RUN_VARIABLE = "DDBRELAY_EXPECT_RUN"
_ENDPOINT = "AWS_ENDPOINT_URL"
_KINDS: Mapping[str, tuple[type, ...]] = {"S": (str,), "N": (int, Decimal), "B": ()}
_KIND_NAMES = {"S": "a text", "N": "a number", "B": "binary, which a scenario cannot write"}
_SHOWN_LINES, _LONGEST = 20, 500
"""Of what a failed command printed, in lines and in characters of a line."""
_LOOK = 0.05
_TERMINATION = 2.0


class StepFailed(Exception):
    """A command that did not end with 0; `lines` are the last ones of what it said."""

    def __init__(self, what: str, lines: Sequence[str], fault: Fault = "failed") -> None:
        super().__init__(what)
        self.lines, self.fault = lines, fault


class Writer:
    """Writes items to the table that DescribeTable says `described` about."""

    def __init__(self, aws: Aws, table: str, described: Mapping[str, Any]) -> None:
        self._aws, self._table = aws, aws.address_of(table)
        kinds = {
            str(one["AttributeName"]): str(one["AttributeType"])
            for one in described.get("AttributeDefinitions", ())
        }
        self.keys = {
            str(one["AttributeName"]): kinds.get(str(one["AttributeName"]), "S")
            for one in described.get("KeySchema", ())
        }
        """Names of the key attributes with their types, S, N or B."""
        self.home = ":{}:{}:".format(*str(described["TableArn"]).split(":")[3:5])
        """Region and account as they stand in the ARNs of both."""

    def check(self, scenario: Scenario) -> None:
        """ConfigError for a step whose key is not one of this table, before anything is written."""
        for step in scenario.steps:
            match step.action:
                case Put(item):
                    self._check_key(step, "put", item, exactly=False)
                case Delete(key):
                    self._check_key(step, "delete", key, exactly=True)
                case Update(key, changed, remove, add):
                    self._check_key(step, "update.key", key, exactly=True)
                    for name in (*changed, *remove, *add):
                        if name in self.keys:
                            raise ConfigError(
                                f'{step.paths["update"]}: "{name}" is a key attribute of the table '
                                f'"{self._table}", which no update can change',
                                "delete the item and put another one",
                            )

    def _check_key(self, step: Step, path: str, given: Mapping[str, Any], *, exactly: bool) -> None:
        wanted = ", ".join(f"{name} ({kind})" for name, kind in self.keys.items())
        hint = f'the key of the table "{self._table}" is {wanted}'
        where = step.paths[path]
        for name, kind in self.keys.items():
            if name not in given:
                raise ConfigError(f'{where}: the key attribute "{name}" is missing', hint)
            value = given[name]
            if isinstance(value, bool) or not isinstance(value, _KINDS[kind]):
                raise ConfigError(f'{where}: "{name}" must be {_KIND_NAMES[kind]}', hint)
        others = [name for name in given if name not in self.keys]
        if exactly and others:
            raise ConfigError(f'{where}: "{others[0]}" is no key attribute', hint)

    def key_of(self, step: Step) -> Key | None:
        """The key of the item that a step writes; None for a command."""
        match step.action:
            case Put(given) | Delete(given) | Update(given):
                return tuple((name, given[name]) for name in self.keys)
        return None

    def write(self, step: Step) -> None:
        """Do a step that writes an item; AwsRefused when DynamoDB does not take it."""
        from boto3.dynamodb.types import TypeSerializer

        typed = TypeSerializer().serialize
        client = self._aws.client("dynamodb")
        doing = f'{step.action.word} an item of the table "{self._table}"'

        def item(values: Mapping[str, Any]) -> dict[str, Any]:
            return {name: typed(value) for name, value in values.items()}

        match step.action:
            case Put(values):
                call(client, "put_item", doing, TableName=self._table, Item=item(values))
            case Delete(key):
                call(client, "delete_item", doing, TableName=self._table, Key=item(key))
            case Update() as update:
                call(
                    client,
                    "update_item",
                    doing,
                    TableName=self._table,
                    Key=item(update.key),
                    **_expressions(update, typed),
                )


def _expressions(update: Update, typed: Callable[[Any], Any]) -> dict[str, Any]:
    """The expression of UpdateItem, with every name and value behind a placeholder."""
    names: dict[str, str] = {}
    values: dict[str, Any] = {}

    def name(attribute: str) -> str:
        names[f"#n{len(names)}"] = attribute
        return f"#n{len(names) - 1}"

    def value(given: Any) -> str:
        values[f":v{len(values)}"] = typed(given)
        return f":v{len(values) - 1}"

    clauses = {
        "SET": [f"{name(one)} = {value(given)}" for one, given in update.set.items()],
        "REMOVE": [name(one) for one in update.remove],
        "ADD": [f"{name(one)} {value(given)}" for one, given in update.add.items()],
    }
    expression = " ".join(f"{word} {', '.join(parts)}" for word, parts in clauses.items() if parts)
    return {
        "UpdateExpression": expression,
        "ExpressionAttributeNames": names,
        **({"ExpressionAttributeValues": values} if values else {}),
    }


def environment(settings: Settings, aws: Aws, run: str) -> dict[str, str]:
    """What a command of a scenario finds: the AWS that expect itself works with, and the run."""
    made = os.environ | {RUN_VARIABLE: run, "AWS_REGION": aws.region}
    made["AWS_DEFAULT_REGION"] = aws.region
    if settings.table:
        made["DDBRELAY_TABLE"] = aws.address_of(settings.table)
    if aws.endpoint_url:
        # Those of single services would win over the one for all.
        made = {name: value for name, value in made.items() if not name.startswith(_ENDPOINT)}
        made[_ENDPOINT] = aws.endpoint_url
    if aws.local:
        # A profile, or the keys of an account, would take the command elsewhere.
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
            made.pop(name, None)
        made |= {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
    elif settings.profile:
        made["AWS_PROFILE"] = settings.profile
    return made


def run_command(
    command: Command,
    folder: Path,
    environ: Mapping[str, str],
    *,
    timeout: float,
    pause: Callable[[float], bool],
) -> None:
    """Run it to its end; StepFailed when that is not 0, or does not come within `timeout` seconds.

    `pause` waits for so many seconds, and says True when it is time to stop: the process and those
    that it started are ended then, and the step has failed as interrupted.
    """
    shell = isinstance(command.words, str)
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                command.words,
                shell=shell,
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise StepFailed(f"cannot be started: {error.strerror}", ()) from None
        deadline = time.monotonic() + timeout
        try:
            while process.poll() is None:
                if pause(_LOOK):
                    raise StepFailed("interrupted", _last_lines(said), "interrupted")
                if time.monotonic() >= deadline:
                    raise StepFailed(
                        f"did not end within {in_seconds(timeout)} s", _last_lines(said)
                    )
        finally:
            _end(process)
        if process.returncode:
            code = process.returncode
            how = f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
            raise StepFailed(how, _last_lines(said))


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TERMINATION)
    finally:
        # Whoever insists with a second signal wants no process to stay either.
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_lines(said: Any) -> list[str]:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - 8192))
    lines: list[str] = said.read().decode(errors="replace").splitlines()[-_SHOWN_LINES:]
    return [one if len(one) <= _LONGEST else f"{one[: _LONGEST - 1]}…" for one in lines]
