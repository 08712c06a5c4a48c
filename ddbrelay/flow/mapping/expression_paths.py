"""JMESPath expressions that only pick and arrange values, as closures.

They give what the interpreter of https://github.com/jmespath/jmespath.py gives, in a tenth of the
time; most details of events are no more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Pick = Callable[[Any], Any]


def picking(tree: Any) -> Pick | None:
    """What a parsed expression does to a value; None for one with more than names and objects.

    That is names, dots, literals, `||`, `{…}` and `[a, b]`.
    """
    kind = tree["type"]
    if kind == "field":
        return _field(tree["value"])
    if kind == "literal":
        value = tree["value"]
        return lambda _: value
    if kind not in _MAKERS:
        return None
    children = [picking(child) for child in tree["children"]]
    steps = [one for one in children if one is not None]
    if len(steps) < len(children):
        return None
    return _MAKERS[kind](steps, [child.get("value") for child in tree["children"]])


def _field(name: str) -> Pick:
    return lambda value: value.get(name) if type(value) is dict else None


def _chain(steps: list[Pick], _: list[Any]) -> Pick:
    first, *rest = steps

    def pick(value: Any) -> Any:
        value = first(value)
        for step in rest:
            value = step(value)
        return value

    return pick


def _either(steps: list[Pick], _: list[Any]) -> Pick:
    first, second = steps

    def pick(value: Any) -> Any:
        found = first(value)
        false = found is None or found is False or found == "" or found == [] or found == {}
        return second(value) if false else found

    return pick


def _object(steps: list[Pick], names: list[Any]) -> Pick:
    members = list(zip(names, steps, strict=True))

    def pick(value: Any) -> Any:
        return None if value is None else {name: step(value) for name, step in members}

    return pick


def _array(steps: list[Pick], _: list[Any]) -> Pick:
    return lambda value: None if value is None else [step(value) for step in steps]


def _same(steps: list[Pick], _: list[Any]) -> Pick:
    return steps[0]


_MAKERS: dict[str, Callable[[list[Pick], list[Any]], Pick]] = {
    "subexpression": _chain,
    "or_expression": _either,
    "multi_select_dict": _object,
    "multi_select_list": _array,
    "key_val_pair": _same,
}
