"""EventBridge's event patterns, compiled once into closures.

The language is that of https://docs.aws.amazon.com/eventbridge/latest/userguide/
eb-event-patterns.html and eb-create-pattern-operators.html. A field name with dots is a path, and a
name that has the dots, as https://github.com/aws/event-ruler has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddbrelay.flow.change import REDACTED
from ddbrelay.flow.mapping import pattern_checks
from ddbrelay.flow.mapping.matchers import Exact, Test, listed, shown, test_of
from ddbrelay.flow.mapping.pattern_operators import PatternError, dotted
from ddbrelay.flow.mapping.pattern_tree import (
    ABSENT,
    Leaf,
    Node,
    objects_in,
    parse,
    scalars,
)

__all__ = ["Finding", "Pattern", "PatternError", "compile_pattern", "covers", "impossible"]

NOT_THERE = "absent"
"""What a finding says was found where there was nothing."""
Check = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one field of a pattern wanted and what the document had.

    `path` is its place in the pattern: `new.type`, or `$or[1].new.type` in a branch. `found` is
    JSON, cut to 60 characters, or `absent`.
    """

    path: str
    wanted: str
    found: str
    ok: bool


class Pattern:
    """A compiled pattern; the same pattern matches the same documents every time."""

    __slots__ = ("fields", "matches", "node", "source")

    source: Mapping[str, Any]
    """As it was given."""
    fields: frozenset[str]
    """The top-level names it looks at, those of every `$or` included."""
    matches: Callable[[Any], bool]
    """Whether a document matches: anything with `.get(name, default)`, and plain dictionaries,
    lists, texts, numbers (int, float, Decimal), true, false and None inside."""
    node: Node
    """What is asked for, for comparisons."""

    def __init__(self, source: Mapping[str, Any], node: Node, matches: Check) -> None:
        self.source = source
        self.node = node
        self.matches = matches
        self.fields = frozenset(node.names())

    def explain(self, document: Any, shown: Any = ABSENT) -> list[Finding]:
        """One finding for each field of the pattern: its own, its objects', its branches'.

        Of an array of objects the element counts that fulfils most, of those that can count at all.
        A branch of `$or` may fail although the pattern matches. `shown` is the same document as it
        may be shown: what is found is told from it, and hidden where it has nothing. Slow.
        """
        return list(_findings(self.node, document, document if shown is ABSENT else shown))


def compile_pattern(pattern: Mapping[str, Any], *, first: Sequence[str] = ()) -> Pattern:
    """The pattern as a closure; `first` are top-level names to look at before others, in order.

    Raises PatternError for what EventBridge refuses, and for `$or` with anything but a list of
    objects, which EventBridge would take for a field of that name.
    """
    node = parse(pattern)
    return Pattern(pattern, node, _compile(node.bound(), tuple(first)))


def impossible(pattern: Pattern, values: Mapping[str, Sequence[Any]]) -> PatternError | None:
    """Why the pattern can match no document; None where one may be found.

    `values` are all values that a top-level field can have, for fields that are always there.
    """
    return pattern_checks.why_impossible(pattern.node, values)


def covers(earlier: Pattern, later: Pattern) -> bool:
    """Whether every change that `later` matches, `earlier` matches as well.

    False where it cannot be told. Rests on what changes look like: no top-level field, and with
    Lambda's form no image, is an array of objects.
    """
    return pattern_checks.covers(earlier.node, later.node)


def _compile(node: Node, first: tuple[str, ...] = ()) -> Check:
    ranks = {name: rank for rank, name in enumerate(first)}
    ranked = [(ranks.get(leaf.name, len(ranks)), _field(leaf)) for leaf in node.leaves]
    ranked += [
        (ranks.get(name, len(ranks)), _object(name, one)) for name, one in node.objects.items()
    ]
    for branches in node.ors:
        names = {name for branch in branches for name in branch.names()}
        rank = max(ranks.get(name, len(ranks)) for name in names)
        ranked.append((rank, _any([_compile(branch, first) for branch in branches])))
    return _all([check for _, check in sorted(ranked, key=lambda pair: pair[0])])


def _all(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]
    if len(checks) == 2:
        one, two = checks
        return lambda document: one(document) and two(document)
    if len(checks) == 3:
        one, two, three = checks
        return lambda document: one(document) and two(document) and three(document)

    # all() and any() with a generator cost more than what they call.
    def check(document: Any) -> bool:
        for one in checks:  # noqa: SIM110
            if not one(document):
                return False
        return True

    return check


def _any(checks: list[Check]) -> Check:
    if len(checks) == 1:
        return checks[0]

    def check(document: Any) -> bool:
        for one in checks:  # noqa: SIM110
            if one(document):
                return True
        return False

    return check


def _field(leaf: Leaf) -> Check:
    name, absent, test = leaf.name, leaf.absent, test_of(leaf.matchers)
    if all(isinstance(one, Exact) and isinstance(one.value, str) for one in leaf.matchers):
        return _text_field(
            name, frozenset(str(one.value) for one in leaf.matchers if isinstance(one, Exact))
        )

    def check(document: Any) -> bool:
        value = document.get(name, ABSENT)
        kind = type(value)
        if kind is list:
            return _within(value, test, absent=absent)
        if kind is dict or value is ABSENT:
            return absent
        return test(value)

    return check


def _text_field(name: str, texts: frozenset[str]) -> Check:
    test = texts.__contains__

    def check(document: Any) -> bool:
        value = document.get(name)
        kind = type(value)
        if kind is str:
            return value in texts
        return kind is list and _within(value, test, absent=False)

    return check


def _within(values: list[Any], test: Test, *, absent: bool) -> bool:
    """Whether an array has a value that passes, or none at all where that is wanted."""
    for value in values:
        kind = type(value)
        if kind is list:
            if _within(value, test, absent=False):
                return True
        elif kind is not dict and test(value):
            return True
    return absent and next(scalars(values), ABSENT) is ABSENT


def _object(name: str, node: Node) -> Check:
    inner = _compile(node)
    without = inner({})

    def check(document: Any) -> bool:
        value = document.get(name)
        kind = type(value)
        if kind is dict:
            return inner(value)
        if kind is list:
            return any(map(inner, _candidates(node, value, without)))
        return without

    return check


def _candidates(node: Node, value: list[Any], without: bool) -> list[dict[str, Any]]:
    """The elements of which one must fulfil the node.

    `exists: false` asks whether no element has the field, so elements without any of the fields
    count only where all are so.
    """
    elements = list(objects_in(value))
    if not without:
        return elements
    return [one for one in elements if node.reaches(one)] or [{}]


_Pair = tuple[dict[str, Any], dict[str, Any] | None]
"""An object, and the same as it may be shown; None where all of it is hidden."""


def _findings(node: Node, document: Any, told: Any) -> Iterator[Finding]:
    for leaf in node.leaves:
        value = document.get(leaf.name, ABSENT)
        yield Finding(
            dotted(leaf.path), listed(leaf.matchers), _found(leaf, value, told), leaf.holds(value)
        )
    for name, one in node.objects.items():
        value, pairs = document.get(name), _pairs(name, document, told)
        if type(value) is list:
            yield from _findings_within(one, pairs)
        else:
            yield from _findings(one, *(pairs or [({}, {})])[0])
    for branches in node.ors:
        for branch in branches:
            yield from _findings(branch, document, told)


def _found(leaf: Leaf, value: Any, told: Any) -> str:
    if value is ABSENT:
        return NOT_THERE
    return shown(REDACTED if told is None else told.get(leaf.name, REDACTED))


def _pairs(name: str, document: Any, told: Any) -> list[_Pair]:
    """The objects of a field; what is redacted as a whole has none to show."""
    elements = list(objects_in(document.get(name)))
    hidden = [] if told is None else list(objects_in(told.get(name)))
    if len(elements) != len(hidden):
        return [(one, None) for one in elements]
    return list(zip(elements, hidden, strict=True))


def _findings_within(
    node: Node, pairs: list[_Pair], beside: Node | None = None
) -> Iterator[Finding]:
    """The findings of an array's objects; `beside` is what the same object must fulfil as well.

    Each branch of `$or` has an object of its own, unless one fulfils all of the node.
    """
    own = Node(node.leaves, node.objects)
    asked = own if beside is None else beside.merged(own)
    for way in node.ways() if beside is None else ():
        nearest, fulfilled = _nearest(way, pairs)
        if fulfilled:
            yield from _findings(node, *nearest)
            return
    yield from _findings(own, *_nearest(asked, pairs)[0])
    for branches in node.ors:
        for branch in branches:
            yield from _findings_within(branch, pairs, asked)


def _nearest(node: Node, pairs: list[_Pair]) -> tuple[_Pair, bool]:
    """Of the objects that count for the node the one that fulfils most, and whether all of it."""
    inner = _compile(node.bound())
    counted = [(one, told) for one, told in pairs if not inner({}) or node.reaches(one)]

    def fulfils(pair: _Pair) -> tuple[bool, int]:
        return inner(pair[0]), sum(one.ok for one in _findings(node, *pair))

    best = max(counted or [({}, {})], key=fulfils)
    return best, inner(best[0])
