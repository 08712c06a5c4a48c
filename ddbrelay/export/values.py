"""One leaf of a rule's pattern, as alternatives over DynamoDB's typed values.

That a field may be absent stands beside its values in one list of alternatives, as AWS's own
matcher has it (`GenericMachine` of github.com/aws/event-ruler).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

ALL_TYPES = ("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS")
"""The types whose value stands at the end of a path; L and M lead further."""
ABSENT: dict[str, Any] = {"exists": False}
PRESENT: dict[str, Any] = {"exists": True}
_TEXT_OPERATORS = ("prefix", "suffix", "equals-ignore-case")
_SCALARS = ("S", "N", "BOOL")
_LARGEST = Decimal("1e36")
_SMALLEST = Decimal("1e-30")

Leaf = list[Any]
_ANY: None = None


def typed(leaf: Leaf, declared: str | None) -> dict[str, Leaf]:
    """Conditions by DynamoDB type that hold for every attribute value that the leaf matches.

    Without a declared type an attribute of another type goes through: a text is looked for in sets
    and lists too, where a filter cannot look. Empty where nothing can be said.
    """
    if all(one == ABSENT for one in leaf):
        return {kind: [ABSENT] for kind in ((declared,) if declared in ALL_TYPES else ALL_TYPES)}
    if declared is not None:
        known = alternatives(leaf, declared) if declared in (*_SCALARS, "B") else _ANY
        return {declared: known} if known else {}
    found = {kind: alternatives(leaf, kind) for kind in _SCALARS}
    return {
        kind: values if ABSENT in values else [*values, ABSENT]
        for kind, values in found.items()
        if values and values != [ABSENT]
    }


def alternatives(leaf: Leaf, kind: str) -> Leaf | None:
    """What matches a value of this type; None where that cannot be told."""
    return _gathered(leaf, kind, _one)


def exactly(leaf: Leaf, kind: str) -> Leaf | None:
    """What the leaf matches, no more and no less, where an attribute is of this type or absent.

    Empty where every item has it; None where a filter cannot say it.
    """
    if PRESENT in leaf:
        if ABSENT in leaf:
            return []
        return [PRESENT] if kind in ALL_TYPES else None
    return _gathered(leaf, kind, _exact) or None


def _gathered(leaf: Leaf, kind: str, of: Callable[[Any, str], Leaf | None]) -> Leaf | None:
    """What all alternatives match, each value once; None where one of them matches anything."""
    found: Leaf = []
    for one in leaf:
        said = of(one, kind)
        if said is _ANY:
            return None
        found += [value for value in said if value not in found]
    return found


def _exact(one: Any, kind: str) -> Leaf | None:
    if one == ABSENT and kind in ALL_TYPES:
        return [ABSENT]
    if kind not in (*_SCALARS, "B", "NULL"):
        return _ANY
    if kind == "NULL":
        if isinstance(one, dict):
            return _ANY
        return [True] if one is None else []
    if isinstance(one, dict) and "wildcard" in one:
        return _ANY
    return _one(one, kind)


def _one(one: Any, kind: str) -> Leaf | None:
    if isinstance(one, dict):
        return _operator(one, kind)
    if isinstance(one, bool):
        return [one] if kind == "BOOL" else []
    if isinstance(one, int | float | Decimal):
        if kind != "N":
            return []
        text = number_text(one)
        return _ANY if text is None else [text]
    if isinstance(one, str):
        return [one] if kind in {"S", "B"} else []
    return []


def _operator(one: dict[str, Any], kind: str) -> Leaf | None:
    name, wanted = next(iter(one.items()))
    if name == "exists":
        return [ABSENT] if wanted is False else _ANY
    if name == "anything-but":
        return _anything_but(wanted, kind)
    if name == "numeric":
        return _ANY if kind == "N" else []
    if kind in {"BOOL", "N"}:
        return []
    return _text_operator(name, wanted)


def _anything_but(wanted: Any, kind: str) -> Leaf | None:
    values = wanted if isinstance(wanted, list) else [wanted]
    if any(isinstance(one, dict | bool) or one is None for one in values):
        return _ANY
    if kind in {"S", "B"}:
        texts = [one for one in values if isinstance(one, str)]
    elif kind == "N":
        numbers = [number_text(one) for one in values if not isinstance(one, str)]
        texts = [one for one in numbers if one is not None]
    else:
        texts = []
    return [{"anything-but": texts}] if texts else _ANY


def _text_operator(name: str, wanted: Any) -> Leaf | None:
    if name in _TEXT_OPERATORS and isinstance(wanted, str):
        return [{name: wanted}]
    if name == "wildcard" and isinstance(wanted, str):
        head = wanted.replace("\\", "*").partition("*")[0]
        return [{"prefix": head}] if head else _ANY
    return _ANY


def of_record(leaf: Leaf, *, numbers: bool = False) -> Leaf | None:
    """The leaf for a field that has no type beside it; None where a filter cannot say it."""
    found: Leaf = []
    for one in leaf:
        if not isinstance(one, dict):
            found.append(one)
            continue
        name, wanted = next(iter(one.items()))
        texts = wanted if isinstance(wanted, list) else [wanted]
        known = (
            name == "exists"
            or (name == "numeric" and numbers)
            or (name == "anything-but" and all(isinstance(text, str) for text in texts))
            or (name in _TEXT_OPERATORS and isinstance(wanted, str))
        )
        if not known:
            return None
        found.append(one)
    return found


def number_text(number: float | Decimal) -> str | None:
    """A number as DynamoDB writes it in a record; None where that is not known for certain."""
    exact = Decimal(repr(number)) if isinstance(number, float) else Decimal(number)
    if not exact.is_finite() or (exact and not _SMALLEST < abs(exact) < _LARGEST):
        return None
    return "0" if not exact else format(exact.normalize(), "f")
