"""The matchers of one field of a rule, as alternatives over DynamoDB's typed values.

That a field may be absent stands beside its values in one list of alternatives, as AWS's own
matcher has it (`GenericMachine` of github.com/aws/event-ruler).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from ddbrelay.flow.mapping.matchers import (
    Affix,
    AnyCase,
    AnythingBut,
    Exact,
    Exists,
    Matcher,
    Numeric,
    Wildcard,
    is_number,
)

ALL_TYPES = ("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS")
"""The types whose value stands at the end of a path; L and M lead further."""
ABSENT: dict[str, Any] = {"exists": False}
PRESENT: dict[str, Any] = {"exists": True}
_SCALARS = ("S", "N", "BOOL")
_LARGEST = Decimal("1e36")
_SMALLEST = Decimal("1e-30")

Matchers = tuple[Matcher, ...]
"""What a rule wants of one field: one of these."""
Values = list[Any]
"""The same in the JSON of a filter: values, and operators as objects."""
_ANY: None = None


def typed(matchers: Matchers, declared: str | None) -> dict[str, Values]:
    """Conditions by DynamoDB type that hold for every attribute value that the matchers want.

    Without a declared type an attribute of another type goes through: a text is looked for in sets
    and lists too, where a filter cannot look. Empty where nothing can be said.
    """
    if all(matcher == Exists(False) for matcher in matchers):
        return {kind: [ABSENT] for kind in ((declared,) if declared in ALL_TYPES else ALL_TYPES)}
    if declared is not None:
        known = alternatives(matchers, declared) if declared in (*_SCALARS, "B") else _ANY
        return {declared: known} if known else {}
    found = {kind: alternatives(matchers, kind) for kind in _SCALARS}
    return {
        kind: values if ABSENT in values else [*values, ABSENT]
        for kind, values in found.items()
        if values and values != [ABSENT]
    }


def alternatives(matchers: Matchers, kind: str) -> Values | None:
    """What matches a value of this type; None where that cannot be told."""
    return _gathered(matchers, kind, _wide)


def exactly(matchers: Matchers, kind: str) -> Values | None:
    """What the matchers want, no more and no less, where an attribute is of this type or absent.

    Empty where every item has it; None where a filter cannot say it.
    """
    if Exists(True) in matchers:
        if Exists(False) in matchers:
            return []
        return [PRESENT] if kind in ALL_TYPES else None
    return _gathered(matchers, kind, _exact) or None


def _gathered(
    matchers: Matchers, kind: str, read: Callable[[Matcher, str], Values | None]
) -> Values | None:
    """What all matchers want, each value once; None where one of them wants anything."""
    found: Values = []
    for matcher in matchers:
        values = read(matcher, kind)
        if values is _ANY:
            return None
        found += [value for value in values if value not in found]
    return found


def _exact(matcher: Matcher, kind: str) -> Values | None:
    match matcher:
        case Exists(wanted=False) if kind in ALL_TYPES:
            return [ABSENT]
        case Exact(value) if kind == "NULL":
            return [True] if value is None else []
        case Wildcard():
            return _ANY
        case _ if kind in (*_SCALARS, "B"):
            return _wide(matcher, kind)
    return _ANY


def _wide(matcher: Matcher, kind: str) -> Values | None:
    match matcher:
        case Exists(wanted):
            return _ANY if wanted else [ABSENT]
        case Exact(value):
            return _literal(value, kind)
        case AnythingBut(unwanted):
            return _anything_but(unwanted, kind)
        case Numeric():
            return _ANY if kind == "N" else []
        case _ if kind in {"BOOL", "N"}:
            # All others want a text.
            return []
        case Wildcard(parts=(head, *_)):
            return [{"prefix": head}] if head else _ANY
    return _text_operator(matcher) or _ANY


def _literal(value: Any, kind: str) -> Values | None:
    if isinstance(value, bool):
        return [value] if kind == "BOOL" else []
    if isinstance(value, str):
        return [value] if kind in {"S", "B"} else []
    if value is None or kind != "N":
        return []
    text = number_text(value)
    return _ANY if text is None else [text]


def _anything_but(unwanted: Matchers, kind: str) -> Values | None:
    values = [matcher.value for matcher in unwanted if isinstance(matcher, Exact)]
    if len(values) < len(unwanted):
        return _ANY
    texts: list[str | None] = []
    if kind in {"S", "B"}:
        texts = [value for value in values if isinstance(value, str)]
    elif kind == "N":
        texts = [number_text(value) for value in values if is_number(value)]
    known = [text for text in texts if text is not None]
    return [{"anything-but": known}] if known else _ANY


def _text_operator(matcher: Matcher) -> Values | None:
    match matcher:
        case Affix(name, text, any_case=False):
            return [{name: text}]
        case AnyCase(text):
            return [{"equals-ignore-case": text}]
    return None


def of_record(matchers: Matchers, *, numbers: bool = False) -> Values | None:
    """What is wanted of a field that has no type beside it; None where a filter cannot say it."""
    found: Values = []
    for matcher in matchers:
        match matcher:
            case Exact(value):
                found.append(value)
            case Exists(wanted):
                found.append({"exists": wanted})
            case Numeric() if numbers:
                found.append({"numeric": _comparisons(matcher)})
            case AnythingBut(unwanted):
                texts = [one.value for one in unwanted if isinstance(one, Exact)]
                if len(texts) < len(unwanted) or not all(isinstance(one, str) for one in texts):
                    return None
                found.append({"anything-but": texts})
            case _:
                operator = _text_operator(matcher)
                if operator is None:
                    return None
                found += operator
    return found


def _comparisons(matcher: Numeric) -> list[Any]:
    low, high = matcher.low, matcher.high
    if low is not None and low == high:
        return ["=", _json_number(low.number)]
    found: list[Any] = []
    if low is not None:
        found += [">=" if low.closed else ">", _json_number(low.number)]
    if high is not None:
        found += ["<=" if high.closed else "<", _json_number(high.number)]
    return found


def _json_number(number: Decimal) -> int | float:
    return int(number) if number == number.to_integral_value() else float(number)


def number_text(number: float | Decimal) -> str | None:
    """A number as DynamoDB writes it in a record; None where that is not known for certain."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite() or (exact and not _SMALLEST < abs(exact) < _LARGEST):
        return None
    return "0" if not exact else format(exact.normalize(), "f")
