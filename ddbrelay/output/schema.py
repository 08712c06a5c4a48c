"""The JSON Schema of what a command prints under `--output json`, made of its Structs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.output import (
    config,
    doctor,
    expect,
    help,
    inference,
    ledger,
    letters,
    listen,
    local,
    map,
    positions,
    report,
    rules,
    run,
    seed,
    status,
)
from ddbrelay.output.outcome import Lost, Outcome

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Lines:
    """The lines of one command: a Struct for each shape that a line can have."""

    shapes: tuple[type[msgspec.Struct], ...]
    about: str | None = None
    """The order of the lines, and what else no single shape says."""


_FILTERED = "--show and --grep leave out lines of type event, and change nothing else."

COMMANDS = {
    "config.show": Lines((config.Settings,)),
    "demo": Lines((Outcome, Lost, run.DemoSummary)),
    "dead-letters.drop": Lines((letters.DroppedLetter, letters.DropSummary)),
    "dead-letters.export": Lines(
        (letters.ExportedLetter,),
        "One line for each letter, in the order of sending, with and without --output json.",
    ),
    "dead-letters.list": Lines((letters.ListedLetter, letters.ListSummary)),
    "dead-letters.show": Lines((letters.ShownLetter,)),
    "doctor": Lines((doctor.Finding, doctor.DoctorSummary)),
    "expect": Lines(
        (expect.Step, expect.Met, expect.Unmet, expect.Forbidden, expect.ExpectSummary),
        "One line for each step when it is done, one for each expectation at the end of its "
        "scenario, and a summary last. An expectation has one verdict: that an event came too "
        "often, or in the wrong order, is known only when all have come.",
    ),
    "help": Lines((help.Topic, help.Schema)),
    "init": Lines((config.Written,)),
    "ledger": Lines(
        (
            ledger.Shard,
            ledger.LedgerSummary,
            ledger.Finding,
            ledger.LetterWarning,
            ledger.Verification,
        )
    ),
    "listen": Lines(
        (listen.ReceivedEvent, listen.Message, listen.ListenSummary),
        "One line for each message as it is received, and a summary last. --show and --grep leave "
        "out lines of type event and message, and change nothing else.",
    ),
    "local.run": Lines((local.Engine,), "One line, as soon as it answers."),
    "local.start": Lines((local.Started,)),
    "local.status": Lines((local.Engine, local.NotRunning)),
    "local.stop": Lines((local.Stopped,)),
    "map": Lines(
        (map.Event, map.Skipped, map.Parked, map.Explanation, map.MapSummary),
        "What becomes of each record, in the order of the records. There is no summary without "
        "--expect: the output is what --expect compares with, and nothing in it depends on the "
        "machine.",
    ),
    "positions.delete": Lines((positions.Deleted,)),
    "positions.import": Lines((positions.Imported,)),
    "positions.list": Lines(
        (positions.Checkpoint, positions.Bookmark),
        "The checkpoints, then the bookmarks, first those that were named by hand.",
    ),
    "positions.save": Lines((positions.Bookmark,)),
    "positions.show": Lines((positions.Positions,)),
    "replay": Lines(
        (Outcome, Lost, run.ReplaySummary),
        f"One line for each event and a summary last. {_FILTERED} A replay never moves the "
        "checkpoint.",
    ),
    "report": Lines(
        (
            report.Stretch,
            report.Name,
            report.ParkedLetters,
            report.LostRecords,
            report.OpenShard,
            report.RunCosts,
            report.ReportSummary,
        )
    ),
    "rules": Lines((rules.Rule,)),
    "schema": Lines(
        (inference.InferredSchema, inference.Mismatch, inference.CheckSummary),
        "Without --check one line for each detail type; with it one for each mismatch and a "
        "summary.",
    ),
    "seed": Lines((seed.SeedSummary,)),
    "status": Lines(
        (status.Shard, Lost, status.StatusSummary),
        "A line for each shard that is not finished, one for each gap that no run has reported, "
        "and the summary.",
    ),
    "tail": Lines(
        (Outcome, Lost, run.TailSummary),
        "One line for each event, in the order in which its fate was sealed, and a summary last. "
        + _FILTERED,
    ),
}
"""Command -> its lines; a command of a group is `positions.list`."""


def schema_of(name: str) -> dict[str, Any]:
    """The schema of one line of a command, draft 2020-12; KeyError where it has none."""
    lines = COMMANDS[name]
    roots, shapes = msgspec.json.schema_components(lines.shapes, ref_template="{name}")
    names = {key: key[:1].lower() + key[1:] for key in shapes}
    tags = {shape.__name__: shape.__struct_config__.tag for shape in lines.shapes}
    if len(set(tags.values())) == len(tags):
        # A line's shape has the name of its type: those of its class are ours.
        names |= {key: str(tag) for key, tag in tags.items() if tag is not None}
    return {
        "$schema": _DIALECT,
        "title": f"ddbrelay {name.replace('.', ' ')} --output json",
        **({} if lines.about is None else {"description": lines.about}),
        "oneOf": [_plain(root, names) for root in roots],
        "$defs": {names[key]: _plain(shape, names) for key, shape in shapes.items()},
    }


def _plain(schema: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A schema as a person would write it: `const`, `["string", "null"]`, closed objects.

    msgspec refers to a shape by its class, which `names` has another name for, and writes `anyOf`
    for all that may be null.
    """
    plain = {key: value for key, value in schema.items() if key != "title"}
    if "description" in plain:
        plain["description"] = " ".join(plain["description"].split())
    match plain:
        case {"$ref": str(key)}:
            plain["$ref"] = f"#/$defs/{names[key]}"
        case {"enum": [value]}:
            del plain["enum"]
            plain = {"const": value, **plain}
        case {"anyOf": [*choices]}:
            del plain["anyOf"]
            plain.pop("discriminator", None)
            plain = {**_either([_plain(choice, names) for choice in choices]), **plain}
        case {"type": "array", "items": dict(items)}:
            plain["items"] = _plain(items, names)
        case {"type": "object"}:
            inner = plain.get("additionalProperties", True)
            if isinstance(inner, dict):
                inner = _plain(inner, names)
            plain["additionalProperties"] = inner
            if "properties" in plain:
                fields = plain["properties"].items()
                plain["properties"] = {name: _plain(field, names) for name, field in fields}
    return plain


def _either(choices: list[dict[str, Any]]) -> dict[str, Any]:
    """One of several; as one schema with several types where their other words do not clash."""
    if any("type" not in choice for choice in choices):
        # msgspec has several Structs as one choice beside null.
        return {"oneOf": [inner for choice in choices for inner in choice.get("oneOf", [choice])]}
    # msgspec has null first or last; it reads best behind what the value is otherwise.
    choices = sorted(choices, key=lambda choice: choice["type"] == "null")
    merged: dict[str, Any] = {"type": [choice["type"] for choice in choices]}
    for choice in choices:
        merged |= {key: value for key, value in choice.items() if key != "type"}
    return merged
