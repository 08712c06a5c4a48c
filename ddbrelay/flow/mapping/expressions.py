"""JMESPath over the document of a change, compiled once: https://jmespath.org/specification.html.

Beyond the specification, numbers keep all of their digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    Context,
    Decimal,
    InvalidOperation,
    localcontext,
)
from typing import Any

import jmespath
import jmespath.exceptions
import jmespath.functions
import jmespath.visitor

from ddbrelay.flow.mapping.document import FIELDS, Document, encode
from ddbrelay.flow.mapping.expression_paths import picking
from ddbrelay.flow.mapping.expression_scopes import misplaced
from ddbrelay.text import near, nearest

_PRECISE = Context(prec=100)
"""DynamoDB's numbers have 38 digits, from 1E-130 to 9.9E+125."""
_EXPONENTS = range(-130, 126)
_WHOLE_FLOATS = 2**53
"""Up to here a float has every integer."""
_NUMBERS = ("Decimal", "Digits")
_OWN_SCOPE = frozenset({"subexpression", "index_expression", "pipe"})
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection"})
_SHOWN = 60
"""Characters of an expression in a message."""


class ExpressionError(ValueError):
    """An expression that can never be evaluated; `offset` is the character where it goes wrong."""

    def __init__(self, message: str, offset: int, hint: str | None = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.hint = hint


class EvaluationError(ValueError):
    """An expression that has no value for this change; the text says why, without any value."""


class _Functions(jmespath.functions.Functions):
    """JMESPath's own functions, for numbers of any precision."""

    def _get_allowed_pytypes(self, types: Any) -> tuple[list[str], list[tuple[str, ...]]]:
        allowed, inner = super()._get_allowed_pytypes(types)  # type: ignore[misc]
        return (
            [*allowed, *_NUMBERS] if "float" in allowed else allowed,
            [(*names, *_NUMBERS) if "float" in names else names for names in inner],
        )

    def _convert_to_jmespath_type(self, pyobject: str) -> str:
        return (
            "number" if pyobject in _NUMBERS else str(super()._convert_to_jmespath_type(pyobject))  # type: ignore[misc]
        )

    @jmespath.functions.signature({"types": []})
    def _func_to_string(self, value: Any) -> str:
        return value if isinstance(value, str) else encode(value).decode()

    @jmespath.functions.signature({"types": []})
    def _func_to_number(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value if isinstance(value, int | float | Decimal) and value is not True else None
        try:
            number = Decimal(value)
        except InvalidOperation:
            return None
        # An exponent costs nothing to write, and an integer with all of its zeros takes forever.
        if not number.is_finite() or number.adjusted() not in _EXPONENTS:
            return None
        return int(number) if number == number.to_integral_value() and "." not in value else number

    @jmespath.functions.signature({"types": ["number"]})
    def _func_ceil(self, number: Any) -> Any:
        return _integral(number, ROUND_CEILING)

    @jmespath.functions.signature({"types": ["number"]})
    def _func_floor(self, number: Any) -> Any:
        return _integral(number, ROUND_FLOOR)

    @jmespath.functions.signature({"types": ["array-number"]})
    def _func_avg(self, numbers: Any) -> Any:
        if not numbers:
            return None
        total = sum(numbers)
        if isinstance(total, int) and abs(total) > _WHOLE_FLOATS:
            total = Decimal(total)
        return total / len(numbers)

    @jmespath.functions.signature({"types": []})
    def _func_type(self, value: Any) -> str:
        if isinstance(value, Decimal):
            return "number"
        return str(super()._func_type(value))  # type: ignore[misc]


def _integral(number: Any, rounding: str) -> Any:
    """The next integer; one that no item can have stays as it is written."""
    whole = Decimal(number).to_integral_value(rounding)
    return int(whole) if whole.adjusted() in _EXPONENTS else whole


_FUNCTIONS = _Functions()
_interpreter = jmespath.visitor.TreeInterpreter(jmespath.Options(custom_functions=_FUNCTIONS))


class Expression:
    """One compiled expression; `fields` are what it reads of the document."""

    __slots__ = ("_pick", "_simple", "_tree", "fields", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._tree = _exact(text, _parsed(text))
        _check_functions(text, self._tree)
        found = set(_root_fields(self._tree))
        for name in sorted(found - {"*"}):
            if name not in FIELDS:
                raise _unknown_field(text, name)
        if (wrong := misplaced(text, self._tree)) is not None:
            raise _out_of_reach(*wrong)
        self.fields = FIELDS if "*" in found else frozenset(found)
        self._simple = _path_of(self._tree)
        self._pick = picking(self._tree)

    @property
    def path(self) -> tuple[str, ...] | None:
        """The names of an expression that is nothing but names with dots between them."""
        return self._simple

    @property
    def literal_kind(self) -> str | None:
        """What it gives, where that is the same for every change; None where it is not."""
        kinds = {"multi_select_dict": "an object", "multi_select_list": "an array"}
        if self._tree["type"] in kinds:
            return kinds[self._tree["type"]]
        if self._tree["type"] == "literal":
            return "an object" if isinstance(self._tree["value"], dict) else "a literal"
        return None

    def __call__(self, document: Document, event_id: str) -> Any:
        """The value, None where there is none.

        Raises EvaluationError, and UndecodableError for an image that cannot be read.
        """
        if self._simple is not None:
            first, *rest = self._simple
            value = event_id if first == "id" else document.get(first)
            for name in rest:
                value = value.get(name) if type(value) is dict else None
            return value
        if self._pick is not None:
            return self._pick(document.part(self.fields, event_id))
        try:
            with localcontext(_PRECISE):
                return _interpreter.visit(self._tree, document.part(self.fields, event_id))
        except jmespath.exceptions.JMESPathTypeError as error:
            expected = " or ".join(error.expected_types)
            raise EvaluationError(
                f"{error.function_name}() in {self._shown} takes {expected}, "
                f"not {error.actual_type}"
            ) from None
        except (jmespath.exceptions.JMESPathError, RecursionError) as error:
            raise EvaluationError(f"{self._shown} cannot be evaluated: {_first(error)}") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            raise EvaluationError(
                f"{self._shown} cannot be evaluated with these values ({type(error).__name__})"
            ) from None

    @property
    def on_one_line(self) -> str:
        """Its text for a message, with line breaks and the like as escapes."""
        return self.text if self.text.isprintable() else repr(self.text)[1:-1]

    @property
    def _shown(self) -> str:
        short = self.text if len(self.text) <= _SHOWN else self.text[: _SHOWN - 1] + "…"
        return repr(short)


def _parsed(text: str) -> Any:
    try:
        return jmespath.compile(text).parsed
    except jmespath.exceptions.EmptyExpressionError:
        raise ExpressionError("an empty JMESPath expression", 0) from None
    except jmespath.exceptions.LexerError as error:
        raise ExpressionError(f"{error.message} in the JMESPath", error.lexer_position) from None
    except jmespath.exceptions.ParseError as error:
        token = error.token_value
        if isinstance(error, jmespath.exceptions.IncompleteExpressionError) or not token:
            raise ExpressionError("the JMESPath ends too early", len(text)) from None
        raise ExpressionError(f'not JMESPath: unexpected "{token}"', error.lex_position) from None
    except jmespath.exceptions.JMESPathError as error:
        raise ExpressionError(f"not JMESPath: {_first(error)}", 0) from None
    except RecursionError:
        raise ExpressionError("this JMESPath is nested too deep", 0) from None


def _exact(text: str, tree: Any) -> Any:
    """The tree, of which the parser keeps a copy, with its numbers as decimals."""
    if not isinstance(tree, dict):
        return tree
    made = {**tree, "children": [_exact(text, child) for child in tree.get("children", ())]}
    if tree["type"] == "literal":
        try:
            made["value"] = _decimal(tree["value"])
        except ValueError as error:
            raise ExpressionError(str(error), max(text.find("`"), 0)) from None
    return made


def _decimal(value: Any) -> Any:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("a number that JSON cannot have")
        return Decimal(repr(value))
    if isinstance(value, dict):
        return {name: _decimal(one) for name, one in value.items()}
    return [_decimal(one) for one in value] if isinstance(value, list) else value


def _first(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(": ")


def _nodes(tree: Any) -> Iterator[Any]:
    if isinstance(tree, dict):
        yield tree
        for child in tree.get("children", ()):
            yield from _nodes(child)


def _check_functions(text: str, tree: Any) -> None:
    for node in _nodes(tree):
        if node["type"] != "function_expression":
            continue
        name = node["value"]
        spec = _FUNCTIONS.FUNCTION_TABLE.get(name)
        offset = max(text.find(f"{name}("), 0)
        if spec is None:
            close = near(name, _FUNCTIONS.FUNCTION_TABLE)
            hint = None if close is None else f"did you mean {close}()?"
            raise ExpressionError(f"JMESPath has no function {name}()", offset, hint)
        signature = spec["signature"]
        given, wanted = len(node["children"]), len(signature)
        variadic = bool(signature) and bool(signature[-1].get("variadic"))
        if given < wanted or (given > wanted and not variadic):
            least = "at least " if variadic else ""
            raise ExpressionError(
                f"{name}() takes {least}{wanted} argument{'s' * (wanted != 1)}, not {given}", offset
            )


def _root_fields(node: Any) -> Iterator[str]:
    """The fields that are read of the document itself; `*` where all of it may be."""
    kind, children = node["type"], node.get("children", ())
    if kind == "field":
        yield node["value"]
    elif kind in {"current", "identity"}:
        yield "*"
    elif kind in _OWN_SCOPE or kind in _PROJECTIONS:
        yield from _root_fields(children[0])
    elif kind not in {"expref", "literal", "slice", "index"}:
        for child in children:
            yield from _root_fields(child)


def _unknown_field(text: str, name: str) -> ExpressionError:
    hint = nearest(name, FIELDS, "a change has")
    return ExpressionError(f'a change has no field "{name}"', max(text.find(name), 0), hint)


def _out_of_reach(name: str, offset: int) -> ExpressionError:
    return ExpressionError(
        f'"{name}" is a field of the element here, not of the change',
        offset,
        f"@.{name} where the element's own is meant; JMESPath reaches nothing else in here, a "
        "mapper does",
    )


def _path_of(tree: Any) -> tuple[str, ...] | None:
    """The names of an expression that is nothing but names with dots between them."""
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] == "subexpression":
        parts = [_path_of(child) for child in tree["children"]]
        if all(part is not None for part in parts):
            return tuple(name for part in parts for name in part or ())
    return None
