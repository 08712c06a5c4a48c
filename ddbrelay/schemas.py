"""JSON Schemas of events: checking a detail against one, and inferring one from examples.

https://json-schema.org/draft/2020-12/json-schema-core and json-schema-validation. Schemas of the
drafts 4, 6, 7 and 2019-09 that say so in `$schema` are checked by their own rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec

from ddbrelay.text import counted

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FORMATS = ("uuid", "date-time", "date", "email")
"""Formats that are inferred where every example has them."""
_LONGEST_LINE = 300
_LONGEST_NAME = 60
_LONGEST_FORMATTED = 254
"""Characters of an e-mail address, the longest of these formats."""
_MASK = "\ufffe"
"""Stands for the value in the validator's messages: no text of JSON's may hold it unescaped."""
_WHOLE = "the detail"
_DEEPEST = 100
"""Levels of an example, for which DynamoDB has 32; the validator takes a schema of 255."""
_ALTERNATIVES = frozenset({"anyOf", "oneOf"})
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
# A float would lose digits that DynamoDB keeps, and `multipleOf` would be wrong about 0.01.
_decode = msgspec.json.Decoder(float_hook=Decimal).decode
# Only the type of an example counts.
_decode_kinds = msgspec.json.Decoder(float_hook=lambda text: 0.5).decode
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError)


class SchemaError(ValueError):
    """No schema that can be used, or no example to infer one from; one line says why."""


def validator_of(schema: bytes | Mapping[str, Any]) -> Callable[[bytes], str | None]:
    """A check of details, compiled once: None for one that fits, else one line of what is wrong.

    The line names the first field that does not fit, and holds nothing of its value but its type
    and length. Formats (`email`) are checked, unknown ones are not. Nothing is fetched: a reference
    must stay within the schema. Raises SchemaError.
    """
    import jsonschema_rs

    content = _content_of(schema)
    try:
        compiled = jsonschema_rs.validator_for(
            content, validate_formats=True, mask=_MASK, offline=True
        )
    except jsonschema_rs.ValidationError as error:
        raise SchemaError(_fault_of_schema(error)) from None
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(_one_line(f"cannot be used: {_words(error)}")) from None

    def mismatch(detail: bytes) -> str | None:
        try:
            compiled.validate(_decode(detail))
        except jsonschema_rs.ValidationError as error:
            return _one_line(_mismatch(error))
        except _UNREADABLE as error:
            return _one_line(f"{_WHOLE}: cannot be read as JSON: {_words(error)}")
        except ValueError as error:
            return _one_line(f"{_WHOLE}: cannot be checked: {_words(error)}")
        return None

    return mismatch


class Inference:
    """A schema that grows with each example."""

    def __init__(self) -> None:
        self._builder = _builder()(schema_uri=None)
        self.examples = 0

    def add(self, detail: bytes) -> None:
        """Take a detail into account; SchemaError when it is no JSON object, or a very deep one."""
        try:
            example = _decode_kinds(detail)
        except _UNREADABLE as error:
            raise SchemaError(
                _one_line(f"{_WHOLE} cannot be read as JSON: {_words(error)}")
            ) from None
        if not isinstance(example, dict):
            raise SchemaError(f"{_WHOLE} is {_described(example)}, not an object")
        if _is_deep(example, _DEEPEST):
            raise SchemaError(f"{_WHOLE} is nested more than {_DEEPEST} levels deep")
        self._builder.add_object(example)
        self.examples += 1

    def schema(self, title: str | None = None) -> dict[str, Any]:
        """The schema that all examples satisfy, the same whatever their order.

        A field is required when every example has it; fields that none has are not forbidden.
        """
        head: dict[str, Any] = {"$schema": DIALECT}
        if title is not None:
            head["title"] = title
        found = self._builder.to_schema() if self.examples else {"type": "object"}
        return head | _tidy(found)


def inferred(details: Iterable[bytes], title: str | None = None) -> dict[str, Any]:
    """A JSON Schema (2020-12) that all of these details satisfy; see `Inference`.

    Raises what `Inference.add` does.
    """
    inference = Inference()
    for detail in details:
        inference.add(detail)
    return inference.schema(title)


def formatted(schema: Mapping[str, Any]) -> str:
    """The text of a schema file."""
    return json.dumps(schema, ensure_ascii=False, indent=2) + "\n"


# Schemas that are given


def _content_of(schema: bytes | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(schema, Mapping):
        return dict(schema)
    try:
        content = json.loads(schema.decode("utf-8-sig"), parse_float=Decimal)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise SchemaError(f"no JSON: {error.msg} ({where})") from None
    except UnicodeDecodeError as error:
        raise SchemaError(f"no UTF-8 (byte {error.start + 1})") from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise SchemaError(_one_line(f"no JSON: {_words(error)}")) from None
    if not isinstance(content, dict):
        raise SchemaError("a JSON Schema is an object")
    return content


def _fault_of_schema(error: Any) -> str:
    error = _nearest(error)
    if error.kind.name == "referencing" or hasattr(error.kind, "error"):
        said = str(getattr(error.kind.error, "message", error.kind.error))
        if said.startswith("Unknown meta-schema"):
            return _one_line(f"$schema: {said.partition('. ')[0]}")
        resource, elsewhere, _ = said.partition(" is not present in a registry")
        if elsewhere:
            said = f"{resource} is not part of the schema, and nothing is fetched"
        return _one_line(f"a reference leads nowhere: {said}")
    shown = json.dumps(error.instance, ensure_ascii=False, default=str)[:_LONGEST_NAME]
    return _one_line(f"{_path(error.instance_path) or 'the schema'}: {_said(error, shown)}")


# What does not fit


def _mismatch(error: Any) -> str:
    error = _nearest(error)
    path, kind = _path(error.instance_path), error.kind
    if kind.name == "required":
        return f"{_path([*error.instance_path, kind.property])} is missing"
    if kind.name in {"additionalProperties", "unevaluatedProperties"}:
        return f"{_path([*error.instance_path, kind.unexpected[0]])} is not in the schema"
    return f"{path or _WHOLE}: {_said(error, _described(error.instance))}"


def _said(error: Any, shown: str) -> str:
    if error.kind.name == "format":
        return f"{shown} is no {error.kind.format}"
    if error.kind.name == "falseSchema":
        return f"{shown} is not allowed"
    if type(error.kind).__name__ == "OneOfMultipleValid":
        return f"{shown} fits more than one of the alternatives (oneOf)"
    if error.kind.name in _ALTERNATIVES:
        return f"{shown} fits none of the alternatives ({error.kind.name})"
    return str(error.message).replace(_MASK, shown)


def _nearest(error: Any) -> Any:
    """Of the alternatives of `anyOf` and `oneOf`, what is wrong with the one that was meant."""
    while error.kind.name in _ALTERNATIVES:
        depth = len(error.instance_path)
        firsts = [branch[0] for branch in getattr(error.kind, "context", ()) if branch]
        # An alternative of another type altogether was not meant.
        meant = [one for one in firsts if one.kind.name != "type" or len(one.instance_path) > depth]
        if len(meant) != 1:
            return error
        error = meant[0]
    return error


def _path(parts: Iterable[str | int]) -> str:
    """`items[3].price`, names that are no plain words in quotes."""
    path = ""
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
            continue
        name = part if len(part) <= _LONGEST_NAME else part[: _LONGEST_NAME - 1] + "…"
        shown = name if _PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)
        path += f".{shown}" if path else shown
    return path


def _described(value: Any) -> str:
    """What a value is, and nothing of what it says."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float | Decimal):
        return "an integer" if isinstance(value, int) else "a number"
    if isinstance(value, str):
        return f"a text of {counted(len(value), 'character')}"
    if isinstance(value, list):
        return f"an array of {counted(len(value), 'element')}"
    return f"an object of {counted(len(value), 'field')}"


def _words(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, ArithmeticError):
        return "a number is out of range"
    return str(error)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + "…"


# Inference


@cache
def _builder() -> Any:
    """A builder of genson's that knows formats too."""
    from genson import SchemaBuilder  # type: ignore[import-untyped]
    from genson.schema.strategies import String  # type: ignore[import-untyped]

    class Text(String):  # type: ignore[misc]
        """A text, with the formats that all examples so far have."""

        def __init__(self, node_class: Any) -> None:
            super().__init__(node_class)
            self._formats = list(FORMATS)

        def add_object(self, obj: str) -> None:
            super().add_object(obj)
            self._formats = [name for name in self._formats if _has_format(name, obj)]

        def to_schema(self) -> dict[str, Any]:
            schema: dict[str, Any] = super().to_schema()
            return schema | ({"format": self._formats[0]} if self._formats else {})

    class Builder(SchemaBuilder):  # type: ignore[misc]
        EXTRA_STRATEGIES = (Text,)

    return Builder


def _is_deep(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(_is_deep(one, levels - 1) for one in value)


def _has_format(name: str, text: str) -> bool:
    return len(text) <= _LONGEST_FORMATTED and bool(_format(name).is_valid(text))


@cache
def _format(name: str) -> Any:
    # By the validator's own idea of a format, so that it takes every example again.
    import jsonschema_rs

    return jsonschema_rs.validator_for({"format": name}, validate_formats=True, offline=True)


def _tidy(schema: Mapping[str, Any]) -> dict[str, Any]:
    """One of genson's schemas with the alternatives of `anyOf` in one, and everything in order.

    Each of its keywords says something of one type only, and no type stands in two alternatives.
    """
    types: list[str] = []
    merged: dict[str, Any] = {}
    for branch in schema.get("anyOf", [schema]):
        kind = branch["type"]
        types += [kind] if isinstance(kind, str) else kind
        merged |= branch
    found: dict[str, Any] = {"type": types[0] if len(types) == 1 else sorted(types)}
    if "format" in merged:
        found["format"] = merged["format"]
    if "properties" in merged:
        properties = merged["properties"]
        found["properties"] = {name: _tidy(properties[name]) for name in sorted(properties)}
    if "required" in merged:
        found["required"] = sorted(merged["required"])
    if "items" in merged:
        found["items"] = _tidy(merged["items"])
    return found
