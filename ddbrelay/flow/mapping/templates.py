"""Texts with JMESPath holes, and objects whose texts are such."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ddbrelay.flow.mapping.document import Document, encode
from ddbrelay.flow.mapping.expressions import EvaluationError, Expression, ExpressionError

_QUOTES = "\"'`"


class Template:
    """A text with holes, such as `{new.kind}Placed`; `{{` and `}}` are braces."""

    __slots__ = ("_parts", "constant", "text")

    def __init__(self, text: str) -> None:
        """ExpressionError for a hole that is no expression, or is never closed."""
        self.text = text
        self._parts = tuple(_split(text))
        self.constant = None if self.holes else "".join(str(part) for part in self._parts)

    @property
    def start(self) -> str:
        """What it begins with, whatever its holes give."""
        return self._parts[0] if self._parts and isinstance(self._parts[0], str) else ""

    @property
    def shortest(self) -> int:
        """How many characters it has at least."""
        return sum(len(part) for part in self._parts if isinstance(part, str))

    @property
    def holes(self) -> tuple[Expression, ...]:
        return tuple(part for part in self._parts if isinstance(part, Expression))

    def __call__(self, document: Document, event_id: str) -> str:
        """The text with its holes filled; EvaluationError for a hole that has no text."""
        if self.constant is not None:
            return self.constant
        return "".join(
            part if isinstance(part, str) else self._filled(part, document, event_id)
            for part in self._parts
        )

    def value(self, document: Document, event_id: str) -> Any:
        """The same, but a template that is one hole and nothing else gives the value as it is."""
        if len(self._parts) == 1 and isinstance(self._parts[0], Expression):
            hole = self._parts[0]
            value = hole(document, event_id)
            if value is None:
                raise EvaluationError(f"{{{hole.on_one_line}}} is missing")
            return value
        return self(document, event_id)

    @staticmethod
    def _filled(hole: Expression, document: Document, event_id: str) -> str:
        value = hole(document, event_id)
        if isinstance(value, str):
            return value
        if value is None:
            raise EvaluationError(f"{{{hole.on_one_line}}} is missing")
        if isinstance(value, dict | list):
            kind = "an object" if isinstance(value, dict) else "an array"
            raise EvaluationError(f"{{{hole.on_one_line}}} is {kind}, not a text")
        return encode(value).decode()


def _split(text: str) -> Iterator[str | Expression]:
    plain: list[str] = []
    at = 0
    while at < len(text):
        character = text[at]
        if text[at : at + 2] in {"{{", "}}"}:
            plain.append(character)
            at += 2
        elif character == "}":
            raise ExpressionError("a } without its { (a brace itself is written }})", at)
        elif character == "{":
            end = _closing(text, at)
            if plain:
                yield "".join(plain)
                plain = []
            try:
                yield Expression(text[at + 1 : end])
            except ExpressionError as error:
                raise ExpressionError(str(error), at + 1 + error.offset, error.hint) from None
            at = end + 1
        else:
            plain.append(character)
            at += 1
    if plain:
        yield "".join(plain)


def _closing(text: str, start: int) -> int:
    """Where the brace that opens at `start` is closed; braces in quotes do not count."""
    depth, quote, at = 0, "", start
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in _QUOTES:
            quote = character
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return at
        at += 1
    raise ExpressionError("a { that is never closed (a brace itself is written {{)", start)


class Shape:
    """An object whose text leaves are templates, as a table of the file gives it."""

    __slots__ = ("_make",)

    def __init__(self, table: Mapping[str, Any]) -> None:
        """ShapeError for a leaf that cannot be."""
        self._make = _maker(dict(table), ())

    def __call__(self, document: Document, event_id: str) -> Any:
        """The object; EvaluationError for a hole that is missing."""
        return self._make(document, event_id)


class ShapeError(ValueError):
    """What is wrong with the leaf at `path`; `offset` is the character in its text."""

    def __init__(self, message: str, path: tuple[str | int, ...], offset: int, hint: str | None):
        super().__init__(message)
        self.path, self.offset, self.hint = path, offset, hint


def _maker(value: Any, path: tuple[str | int, ...]) -> Any:
    if isinstance(value, str):
        try:
            return Template(value).value
        except ExpressionError as error:
            raise ShapeError(str(error), path, error.offset, error.hint) from None
    if isinstance(value, dict):
        made = {name: _maker(one, (*path, name)) for name, one in value.items()}
        return lambda document, event_id: {
            name: one(document, event_id) for name, one in made.items()
        }
    if isinstance(value, list):
        elements = [_maker(one, (*path, index)) for index, one in enumerate(value)]
        return lambda document, event_id: [one(document, event_id) for one in elements]
    if isinstance(value, float) and not math.isfinite(value):
        raise ShapeError(f"JSON has no number {value}", path, 0, None)
    if not isinstance(value, bool | int | float):
        raise ShapeError(f"a detail has no {type(value).__name__}: write it as text", path, 0, None)
    return lambda document, event_id: value
