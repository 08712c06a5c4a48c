"""What a command printed under `--output json`, held against the schema that it ships with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import click
import jsonschema_rs

from ddbrelay import outputs

NO_JSON = {
    "completion": "prints a script, which a shell reads",
}
"""The commands without JSON output, and why they have none."""


def commands() -> Iterator[str]:
    """Every command by its name in `ddbrelay.outputs`."""
    from ddbrelay.cli.main import cli

    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from (f"{name}.{inner}" for inner in command.list_commands(context))
        else:
            yield name


def command_of(words: Sequence[str]) -> str:
    """`positions.list` of `--table t positions -q list`, as far as the words name a command."""
    from ddbrelay.cli.main import cli

    command: click.Command = cli
    context, path, rest = click.Context(cli), [], iter(words)
    for word in rest:
        if word.startswith("-"):
            flag = word.partition("=")[0]
            option = next((one for one in command.params if flag in one.opts), None)
            if isinstance(option, click.Option) and not (
                option.is_flag or option.count or "=" in word
            ):
                next(rest, None)
        elif isinstance(command, click.Group):
            inner = command.get_command(context, word)
            if inner is None:
                break
            path.append(word)
            command = inner
        else:
            break
    return ".".join(path)


def asks_json(words: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a run with these words prints JSON; the last --output counts."""
    pairs = zip(words, [*words[1:], ""], strict=False)
    chosen = [
        value if word == "--output" else word.removeprefix("--output=")
        for word, value in pairs
        if word == "--output" or word.startswith("--output=")
    ]
    return [environment.get("DDBRELAY_OUTPUT"), *chosen][-1] == "json"


@cache
def _schema(name: str) -> tuple[dict[str, Any], jsonschema_rs.Draft202012Validator]:
    document = json.loads(outputs.schema_of(name))
    return document, jsonschema_rs.Draft202012Validator(document, validate_formats=True)


def check(words: Sequence[str], printed: str) -> list[Any]:
    """The objects that a run printed; fails unless each line is one, as its schema says."""
    name = command_of(words)
    if name in NO_JSON or not printed:
        return []
    assert printed.endswith("\n"), f"{name} printed half a line: {printed[-200:]!r}"
    # Texts of items may have characters at which `splitlines` would break a line.
    found = [json.loads(line) for line in printed.split("\n")[:-1]]
    document, validator = _schema(name)
    for one in found:
        if not validator.is_valid(one):
            raise AssertionError(f"{name}: {_mistakes(document, one)}\n{json.dumps(one)[:2000]}")
    return found


def _mistakes(document: dict[str, Any], one: Any) -> str:
    """What does not fit the shapes that have this type."""
    kind = one.get("type") if isinstance(one, dict) else None
    said = []
    for name, shape in document["$defs"].items():
        types = shape.get("properties", {}).get("type", {})
        if kind is not None and kind in (types.get("const"), *types.get("enum", ())):
            alone = jsonschema_rs.Draft202012Validator(
                {"$ref": f"#/$defs/{name}", "$defs": document["$defs"]}, validate_formats=True
            )
            said += [
                f"{name}{error.instance_path}: {error.message[:300]}"
                for error in alone.iter_errors(one)
            ]
    return "\n".join(said) or f"no shape has the type {kind!r}"
