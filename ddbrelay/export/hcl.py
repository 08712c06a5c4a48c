"""A little of HCL: blocks and values, written as `terraform fmt` wants them.

https://developer.hashicorp.com/terraform/language/syntax/configuration and
https://developer.hashicorp.com/terraform/language/style
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_STEP = "  "
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WIDTH = 88


class Expression(str):
    """Text that stands as it is: `aws_sqs_queue.failed.arn`."""

    __slots__ = ()


@dataclass(frozen=True)
class Template:
    """A quoted text whose `${…}` count."""

    text: str


@dataclass(frozen=True)
class Call:
    """A function of one value, in which there may be expressions: `toset(["a"])`."""

    function: str
    value: Any


def encoded(value: Any) -> Call:
    """`jsonencode(…)` of a value."""
    return Call("jsonencode", value)


@dataclass(frozen=True)
class Block:
    """`kind "label" { … }`; the body has attributes by name, and blocks."""

    kind: str
    labels: tuple[str, ...]
    attributes: Mapping[str, Any]
    blocks: Sequence[Block] = ()


def document(blocks: Sequence[Block]) -> str:
    """The text of a file."""
    return "\n\n".join("\n".join(_block(block)) for block in blocks) + "\n"


def _block(block: Block) -> list[str]:
    head = " ".join([block.kind, *(json.dumps(label) for label in block.labels), "{"])
    groups = _groups(block.attributes)
    groups += [_block(inner) for inner in block.blocks]
    lines: list[str] = []
    for number, group in enumerate(groups):
        lines += [""] if number else []
        lines += [_STEP + line if line else line for line in group]
    return [head, *lines, "}"]


def _groups(attributes: Mapping[str, Any]) -> list[list[str]]:
    """Attributes of one line each, aligned, and those of several lines by themselves."""
    groups: list[list[str]] = []
    short: dict[str, str] = {}
    for name, value in attributes.items():
        first, *rest = _value(value)
        if not rest:
            short[name] = first
            continue
        groups += [_aligned(short)] if short else []
        short = {}
        groups.append([f"{name} = {first}", *rest])
    return [*groups, _aligned(short)] if short else groups


def _aligned(attributes: Mapping[str, str]) -> list[str]:
    width = max(map(len, attributes))
    return [f"{name:<{width}} = {value}" for name, value in attributes.items()]


def _value(value: Any) -> list[str]:
    if isinstance(value, Expression):
        return [str(value)]
    if isinstance(value, Template):
        return [json.dumps(value.text, ensure_ascii=False)]
    if isinstance(value, Call):
        first, *rest = _value(value.value)
        lines = [f"{value.function}({first}", *rest]
        return [*lines[:-1], f"{lines[-1]})"]
    if isinstance(value, Mapping):
        return _object(value)
    if isinstance(value, str):
        return [_quoted(value)]
    if isinstance(value, Sequence):
        return _list(value)
    return [json.dumps(value)]


def _object(value: Mapping[str, Any]) -> list[str]:
    if not value:
        return ["{}"]
    found: list[str] = []
    group: dict[str, str] = {}
    for name, one in value.items():
        key = name if _NAME.fullmatch(name) else _quoted(name)
        first, *rest = _value(one)
        if rest:
            found += _aligned(group) if group else []
            group = {}
            found += [f"{key} = {first}", *rest]
        else:
            group[key] = first
    found += _aligned(group) if group else []
    return ["{", *(_STEP + line for line in found), "}"]


def _list(value: Sequence[Any]) -> list[str]:
    parts = [_value(one) for one in value]
    joined = ", ".join(part[0] for part in parts)
    if all(len(part) == 1 for part in parts) and len(joined) <= _WIDTH:
        return [f"[{joined}]"]
    lines: list[str] = []
    for *body, last in parts:
        lines += [*body, f"{last},"]
    return ["[", *(_STEP + line for line in lines), "]"]


def literal(text: str) -> str:
    """A part of a template whose `${…}` and `%{…}` do not count."""
    return text.replace("${", "$${").replace("%{", "%%{")


def _quoted(text: str) -> str:
    return json.dumps(literal(text), ensure_ascii=False)
