"""Schemas that are made of Structs say what the files that they take the place of said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ddbrelay.output.schema import COMMANDS, schema_of

FILES = Path(__file__).parent / "old_schemas"


def inlined(schema: Any, shapes: dict[str, Any]) -> Any:
    """The schema without references; of the order only that of an object's fields counts."""
    if isinstance(schema, list):
        return [inlined(item, shapes) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = shapes[schema["$ref"].removeprefix("#/$defs/")] | {
            key: value for key, value in schema.items() if key != "$ref"
        }
    plain = {key: inlined(value, shapes) for key, value in schema.items() if key != "$defs"}
    if isinstance(fields := plain.get("properties"), dict):
        plain["properties"] = list(fields.items())
    for key in ("required", "type", "enum"):
        if isinstance(plain.get(key), list):
            plain[key] = sorted(plain[key])
    return plain


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_made_schema_says_what_the_file_said(name: str) -> None:
    before = json.loads((FILES / f"{name}.json").read_bytes())
    now = schema_of(name)
    assert inlined(now, now["$defs"]) == inlined(before, before["$defs"])
