"""The list of values that a pattern gives for one field, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from ipaddress import ip_network
from typing import Any

from ddbrelay.flow.mapping.matchers import (
    Affix,
    AnyCase,
    AnythingBut,
    Bound,
    Cidr,
    Exact,
    Exists,
    Matcher,
    Numeric,
    Wildcard,
    decimal,
    is_number,
    shown,
)
from ddbrelay.text import meant

Path = tuple[str | int, ...]
_LIMIT = 5_000_000_000
"""Numbers that EventBridge compares lie between this and its negative."""
_VALUES = "a text, a number, true, false, null or an operator such as { prefix = … }"
COMPARISONS = ("=", "<", "<=", ">", ">=")


class PatternError(ValueError):
    """A pattern that EventBridge would refuse, or that can never match.

    `path` leads through the pattern to the mistake: names of fields and operators, indices of
    lists. The text is one line, for the person who wrote the pattern.
    """

    def __init__(self, what: str, path: Path = ()) -> None:
        super().__init__(f"{dotted(path)}: {what}" if path else what)
        self.path = path


def dotted(path: Path) -> str:
    """`new.type[0].prefix`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{_name(step)}" for step in path)
    return text.removeprefix(".")


def _name(name: str) -> str:
    return name if name and name.isprintable() and "." not in name else shown(name)


def matchers_of(values: Sequence[Any], path: Path) -> tuple[Matcher, ...]:
    """The alternatives for one field. PatternError for what EventBridge refuses."""
    if not values:
        raise PatternError("an empty list matches nothing", path)
    return tuple(_matcher(value, (*path, index)) for index, value in enumerate(values))


def _matcher(value: Any, path: Path) -> Matcher:
    if isinstance(value, dict):
        name, operand = _only_pair(value, OPERATORS, path)
        return OPERATORS[name](operand, (*path, name))
    return Exact(_scalar(value, path))


def _scalar(value: Any, path: Path) -> str | int | float | Decimal | bool | None:
    if is_number(value):
        _finite(value, path)
        return value
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, list):
        raise PatternError(f"a list inside of the list: a value is {_VALUES}", path)
    raise PatternError(
        f"{str(value)[:40]} is {type(value).__name__}, a value is {_VALUES}: quote it", path
    )


def _only_pair(
    expression: dict[str, Any], operators: dict[str, Any], path: Path
) -> tuple[str, Any]:
    """The operator and its operand; the first unknown name is the mistake, else their number."""
    for name in expression:
        if name not in operators:
            hint = meant(name, operators) or f"known here: {', '.join(operators)}"
            raise PatternError(f"unknown operator {shown(name)}, {hint}", (*path, name))
    if len(expression) != 1:
        found = " and ".join(expression) or "none"
        raise PatternError(f"one operator in each object, not {found}", path)
    return next(iter(expression.items()))


def _text(operand: Any, path: Path) -> str:
    if not isinstance(operand, str):
        raise PatternError(f"takes a text, not {shown(operand)}", path)
    return operand


def _affix(name: str) -> Callable[[Any, Path], Matcher]:
    def read(operand: Any, path: Path) -> Matcher:
        if isinstance(operand, dict):
            nested, text = _only_pair(operand, {"equals-ignore-case": None}, path)
            return Affix(name, _text(text, (*path, nested)), any_case=True)
        return Affix(name, _text(operand, path))

    return read


def _any_case(operand: Any, path: Path) -> Matcher:
    return AnyCase(_text(operand, path))


def _exactly(operand: Any, path: Path) -> Matcher:
    return Exact(_text(operand, path))


def _wildcard(operand: Any, path: Path) -> Matcher:
    text = _text(operand, path)
    parts, position = [""], 0
    while position < len(text):
        character = text[position]
        if character == "*":
            if text.startswith("**", position):
                raise PatternError(f"two asterisks in a row at character {position + 1}", path)
            parts.append("")
        elif character == "\\":
            position += 1
            escaped = text[position : position + 1]
            if escaped not in ("*", "\\"):
                raise PatternError(
                    f"the backslash at character {position} must stand before * or \\", path
                )
            parts[-1] += escaped
        else:
            parts[-1] += character
        position += 1
    return Wildcard(text, tuple(parts))


def _numeric(operand: Any, path: Path) -> Matcher:
    if not isinstance(operand, list) or len(operand) not in (2, 4):
        raise PatternError(
            f'takes a list such as [">", 0] or [">=", 0, "<", 5], not {shown(operand)}',
            path,
        )
    comparisons, bounds = operand[::2], []
    for index, (comparison, number) in enumerate(zip(comparisons, operand[1::2], strict=True)):
        if comparison not in COMPARISONS:
            raise PatternError(
                f"{shown(comparison)} is none of {' '.join(COMPARISONS)}", (*path, 2 * index)
            )
        bounds.append(Bound(_limited(number, (*path, 2 * index + 1)), "=" in comparison))
    if len(bounds) == 2:
        if comparisons[0][0] != ">" or comparisons[1][0] != "<":
            raise PatternError(
                'a range is a lower bound and then an upper one: [">=", 0, "<", 5]', path
            )
        low_number, high_number = bounds[0].number, bounds[1].number
        closed = bounds[0].closed and bounds[1].closed
        if low_number > high_number or (low_number == high_number and not closed):
            raise PatternError(f"no number is {_range(operand)}", path)
        if bounds[0] == bounds[1]:
            raise PatternError(f'both bounds are one number: write ["=", {operand[1]}]', path)
    low = bounds[0] if comparisons[0][0] in ">=" else None
    high = bounds[-1] if comparisons[-1][0] in "<=" else None
    return Numeric(low, high, _range(operand))


def _range(operand: Sequence[Any]) -> str:
    return " and ".join(f"{operand[at]} {operand[at + 1]}" for at in range(0, len(operand), 2))


def _limited(number: Any, path: Path) -> Decimal:
    if not is_number(number):
        raise PatternError(f"{shown(number)} is not a number", path)
    _finite(number, path)
    exact = decimal(number)
    if not -_LIMIT <= exact <= _LIMIT:
        raise PatternError(
            f"{number} is beyond 5e9, and EventBridge compares numbers between -5e9 and 5e9", path
        )
    return exact


def _finite(number: float | Decimal, path: Path) -> None:
    if not decimal(number).is_finite():
        raise PatternError(f"{number} is no number that JSON has", path)


def _cidr(operand: Any, path: Path) -> Matcher:
    text = _text(operand, path)
    address, slash, mask = text.partition("/")
    if not slash or not mask.isdecimal():
        raise PatternError(f"{shown(text)} is not an address with a mask: 10.0.0.0/24", path)
    try:
        network = ip_network(f"{address}/{int(mask)}", strict=False)
    except ValueError as error:
        raise PatternError(f"{shown(text)} is no network: {error}", path) from None
    if network.prefixlen == network.max_prefixlen:
        raise PatternError(f'a mask of /{mask} is one address: write "{address}" as a value', path)
    return Cidr(network)


def _exists(operand: Any, path: Path) -> Matcher:
    if not isinstance(operand, bool):
        raise PatternError(f"takes true or false, not {shown(operand)}", path)
    return Exists(operand)


def _anything_but(operand: Any, path: Path) -> Matcher:
    if isinstance(operand, dict):
        name, nested = _only_pair(operand, _MAY_BE_DENIED, path)
        path = (*path, name)
        several = nested if isinstance(nested, list) else [nested]
        if not several:
            raise PatternError("an empty list denies nothing", path)
        for index, one in enumerate(several):
            if not isinstance(one, str) or (not one and name in ("prefix", "suffix")):
                place = (*path, index) if several is nested else path
                raise PatternError("takes texts here, none of them empty", place)
        return AnythingBut(tuple(_MAY_BE_DENIED[name](one, path) for one in several))
    several = operand if isinstance(operand, list) else [operand]
    if not several:
        raise PatternError("an empty list denies nothing", path)
    texts = sum(isinstance(one, str) for one in several)
    numbers = sum(is_number(one) for one in several)
    if len(several) not in (texts, numbers):
        raise PatternError(
            "takes a text, a number, a list of either alone, or one of "
            f"{', '.join(_MAY_BE_DENIED)}; not {shown(operand)}",
            path,
        )
    for one in several if numbers else ():
        _limited(one, path)
    return AnythingBut(tuple(Exact(one) for one in several))


OPERATORS: dict[str, Callable[[Any, Path], Matcher]] = {
    "prefix": _affix("prefix"),
    "suffix": _affix("suffix"),
    "equals-ignore-case": _any_case,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "exists": _exists,
    "cidr": _cidr,
    "wildcard": _wildcard,
    "exactly": _exactly,
}
"""Operators of a list's objects, in the order in which they are suggested."""
_MAY_BE_DENIED = {
    name: OPERATORS[name] for name in ("prefix", "suffix", "equals-ignore-case", "wildcard")
}
