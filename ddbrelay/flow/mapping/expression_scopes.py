"""Where a JMESPath expression speaks of an element although its author means the change.

In a filter, behind a dot or a pipe, and in what is done with each element of a list, every name is
one of the value at hand: https://jmespath.org/specification.html knows no way back to the document.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jmespath.lexer

_PARTS = frozenset({"new", "old", "keys", "diff", "changed"})
"""Names that speak of the change; time, table, eventID and the like may be an element's own."""
_LEADING = frozenset({"subexpression", "index_expression", "flatten", "pipe"})
_PROJECTIONS = frozenset({"projection", "value_projection", "filter_projection"})
_NAMES = frozenset({"unquoted_identifier", "quoted_identifier"})
_Fields = Iterator[tuple[str, bool]]


def misplaced(text: str, tree: Any) -> tuple[str, int] | None:
    """The first `new`, `old`, `keys`, `diff` or `changed` that is not the change's, and its offset.

    None where there is none. `@.new` says that the element's own field is meant.
    """
    places = _places(text)
    for number, (name, wrong) in enumerate(_fields(tree, inner=False, behind=False)):
        if wrong:
            return name, places[number]
    return None


def _fields(node: Any, *, inner: bool, behind: bool) -> _Fields:
    """Every field in the order of the text, and whether it is misplaced.

    `inner` is set where the document is out of reach, `behind` for what follows a dot or brackets,
    so that whose field it is cannot be mistaken.
    """
    kind, children = node["type"], node.get("children", ())
    if kind == "field":
        yield node["value"], inner and not behind and node["value"] in _PARTS
    elif kind in _LEADING or kind in _PROJECTIONS:
        first, *rest = children
        yield from _fields(first, inner=inner, behind=behind)
        if kind == "filter_projection":
            right, condition = rest
            yield from _fields(condition, inner=True, behind=False)
            rest = [right]
        for child in (one for one in rest if isinstance(one, dict)):
            yield from _fields(child, inner=True, behind=kind != "pipe")
    else:
        # A slice has its numbers for children.
        for child in (one for one in children if isinstance(one, dict)):
            yield from _fields(child, inner=inner or behind or kind == "expref", behind=False)


def _places(text: str) -> list[int]:
    """Where the fields stand in the text: names that are no function and no key of an object."""
    found: list[int] = []
    name: int | None = None
    for token in jmespath.lexer.Lexer().tokenize(text):
        if name is not None and token["type"] not in {"lparen", "colon"}:
            found.append(name)
        name = token["start"] if token["type"] in _NAMES else None
    return found
