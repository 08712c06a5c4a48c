"""A pattern read into fields, objects and `$or`, before it is compiled or compared.

Rests on https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html and
eb-event-patterns-arrays.html.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ddbrelay.flow.mapping.matchers import Exists, Matcher, shown, test_of
from ddbrelay.flow.mapping.pattern_operators import (
    COMPARISONS,
    OPERATORS,
    Path,
    PatternError,
    matchers_of,
)
from ddbrelay.flow.mapping.readings import readings

OR = "$or"
ABSENT: Any = object()
"""Stands for a field that a document has not."""
_MOST_COMBINATIONS = 1000
_MOST_PARTS = 4
"""A field's name with three dots has eight readings."""
_DEEPEST = 100
_RESERVED = frozenset(
    {
        *OPERATORS,
        *COMPARISONS,
        *("regex", "not-wildcard", "not-equals-ignore-case"),
        *("date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"),
        *("ip-address-in-range", "ip-address-not-in-range"),
    }
)
"""Names that EventBridge refuses for fields inside of $or."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One field and the alternatives for its values."""

    path: Path
    matchers: tuple[Matcher, ...]

    @property
    def name(self) -> str:
        return str(self.path[-1])

    @property
    def absent(self) -> bool:
        """Whether the field may be missing."""
        return Exists(False) in self.matchers

    def holds(self, value: Any) -> bool:
        """Whether a field with this value, or ABSENT, is wanted; slow."""
        found = list(scalars(value))
        return any(map(test_of(self.matchers), found)) if found else self.absent


@dataclass(slots=True)
class Node:
    """Conditions that one object must fulfil, all of them."""

    leaves: list[Leaf] = field(default_factory=list)
    objects: dict[str, Node] = field(default_factory=dict)
    ors: list[list[Node]] = field(default_factory=list)
    """Of each list at least one."""

    def names(self) -> Iterator[str]:
        """The fields that are looked at, with those of every branch."""
        yield from (leaf.name for leaf in self.leaves)
        yield from self.objects
        for branches in self.ors:
            for branch in branches:
                yield from branch.names()

    def merged(self, other: Node) -> Node:
        """The conditions of both."""
        objects = dict(self.objects)
        for name, node in other.objects.items():
            objects[name] = objects[name].merged(node) if name in objects else node
        return Node([*self.leaves, *other.leaves], objects, [*self.ors, *other.ors])

    def alternatives(self) -> Iterator[Node]:
        """Nodes without `$or` at this level, of which one holds where this one does."""
        if not self.ors:
            yield self
            return
        branches, *others = self.ors
        for branch in branches:
            yield from Node(self.leaves, self.objects, others).merged(branch).alternatives()

    def ways(self) -> Iterator[Node]:
        """The same as alternatives, without `$or` at any level."""
        for one in self.alternatives():
            yield from (Node(one.leaves, dict(objects)) for objects in _ways(*one.objects.items()))

    def bound(self) -> Node:
        """The same conditions with each object's in one place for every way through the `$or`s.

        Conditions on the objects of an array must be met by the same element, also where some of
        them stand in a branch and others beside it. A field that must be missing is so in every
        element, whatever the other branches look at.
        """
        if any(node._has_or() and node._has_absent() for node in self.objects.values()):
            return Node(ors=[list(self.ways())])
        seen: set[str] = set(self.objects)
        shared = False
        for branches in self.ors:
            names = {name for branch in branches for name in branch.object_names()}
            shared = shared or bool(names & seen)
            seen |= names
        if shared:
            return Node(ors=[[one.bound() for one in self.alternatives()]])
        return Node(
            self.leaves,
            {name: node.bound() for name, node in self.objects.items()},
            [[branch.bound() for branch in branches] for branches in self.ors],
        )

    def _has_or(self) -> bool:
        return bool(self.ors) or any(node._has_or() for node in self.objects.values())

    def _has_absent(self) -> bool:
        return any(leaf.absent for leaf in self.leaves) or any(
            node._has_absent()
            for node in (*self.objects.values(), *(one for several in self.ors for one in several))
        )

    def object_names(self) -> Iterator[str]:
        """The fields whose value must be an object, with those of every branch."""
        yield from self.objects
        for branches in self.ors:
            for branch in branches:
                yield from branch.object_names()

    def reaches(self, element: dict[str, Any]) -> bool:
        """Whether this object has a value for any of the fields; slow."""
        return (
            any(leaf.name in element and _has_scalar(element[leaf.name]) for leaf in self.leaves)
            or any(
                node.reaches(one)
                for name, node in self.objects.items()
                for one in objects_in(element.get(name))
            )
            or any(branch.reaches(element) for branches in self.ors for branch in branches)
        )


def _ways(*objects: tuple[str, Node]) -> Iterator[tuple[tuple[str, Node], ...]]:
    """A way through each of the objects; lazily, as there may be very many."""
    if not objects:
        yield ()
        return
    *others, (name, node) = objects
    for first in _ways(*others):
        yield from ((*first, (name, way)) for way in node.ways())


def parse(pattern: object) -> Node:
    """The pattern's conditions. PatternError for what EventBridge refuses."""
    if not isinstance(pattern, Mapping):
        raise PatternError(f"a pattern is an object, not {shown(pattern)}")
    node = _parse(pattern, (), in_or=False)
    if (combinations := _combinations(pattern)) > _MOST_COMBINATIONS:
        raise PatternError(
            f"{combinations} combinations of $or, EventBridge takes {_MOST_COMBINATIONS}", (OR,)
        )
    return node


def _parse(pattern: Mapping[str, Any], path: Path, *, in_or: bool) -> Node:
    if not pattern:
        raise PatternError("an empty object asks for nothing: leave it out", path)
    if len(path) > _DEEPEST:
        raise PatternError(f"nested deeper than {_DEEPEST} levels", path)
    node = Node()
    dotted: list[Node] = []
    for name, value in pattern.items():
        place = (*path, name)
        if name == OR:
            node.ors.append(_branches(value, place))
        elif in_or and name in _RESERVED:
            raise PatternError(
                f'"{name}" is the name of an operator, which no field inside of $or may have', place
            )
        elif path and not isinstance(value, Mapping) and _loose_operator(name, value):
            raise PatternError(f"operators stand in a list: [{shown({name: value})}]", path)
        elif "." in name and all(name.split(".")) and isinstance(value, Mapping | list):
            dotted += _dotted(name, value, path, in_or=in_or)
        elif isinstance(value, Mapping):
            node.objects[name] = _parse(value, place, in_or=in_or)
        elif isinstance(value, list):
            node.leaves.append(Leaf(place, matchers_of(value, place)))
        else:
            raise PatternError(f"values stand in a list: [{shown(value)}]", place)
    for one in dotted:
        node = node.merged(one)
    return node


def _dotted(
    name: str, value: Mapping[str, Any] | list[Any], path: Path, *, in_or: bool
) -> Iterator[Node]:
    """The conditions behind a name with dots, which is a path, or a name that has the dots.

    EventBridge knows a field by the names that lead to it with dots between them, and so cannot
    tell the two apart.
    """
    place = (*path, name)
    parts = name.split(".")
    if len(parts) > _MOST_PARTS:
        raise PatternError("has too many dots, each of which may be part of a name", place)
    if isinstance(value, list):
        yield _either_way(parts, Leaf(place, matchers_of(value, place)), path, ())
        return
    for leaf in _plain_leaves(_parse(value, place, in_or=in_or), place):
        below = tuple(str(step) for step in leaf.path[len(place) :])
        yield _either_way(parts, leaf, path, below)


def _plain_leaves(node: Node, place: Path) -> Iterator[Leaf]:
    if node.ors:
        raise PatternError("a name with dots stands before values, or names without dots", place)
    yield from node.leaves
    for one in node.objects.values():
        yield from _plain_leaves(one, place)


def _either_way(parts: list[str], leaf: Leaf, path: Path, below: tuple[str, ...]) -> Node:
    """A value by one reading is enough; a field that may be missing must be so by all of them."""
    ways = [(*names, *below) for names in readings(parts)]
    wanted = tuple(one for one in leaf.matchers if one != Exists(False))
    branches = [_at(path, names, wanted) for names in ways] if wanted else []
    if leaf.absent:
        nowhere = Node()
        for names in ways:
            nowhere = nowhere.merged(_at(path, names, (Exists(False),)))
        branches.append(nowhere)
    return branches[0] if len(branches) == 1 else Node(ors=[branches])


def _at(path: Path, names: tuple[str, ...], matchers: tuple[Matcher, ...]) -> Node:
    node = Node([Leaf((*path, *names), matchers)])
    for name in reversed(names[:-1]):
        node = Node(objects={name: node})
    return node


def _loose_operator(name: str, value: object) -> bool:
    """Whether an operator stands where a field is expected."""
    if isinstance(value, list):
        return name == "numeric" and bool(value) and value[0] in COMPARISONS
    return name in OPERATORS


def _branches(value: object, path: Path) -> list[Node]:
    if not isinstance(value, list) or len(value) < 2:
        raise PatternError("takes a list of two or more objects", path)
    for index, branch in enumerate(value):
        if not isinstance(branch, Mapping):
            raise PatternError(
                f"is a branch and must be an object, not {shown(branch)}", (*path, index)
            )
    return [_parse(branch, (*path, index), in_or=True) for index, branch in enumerate(value)]


def _combinations(pattern: Mapping[str, Any]) -> int:
    """As EventBridge counts: the product of the lengths of all $or lists."""
    product = 1
    for name, value in pattern.items():
        if isinstance(value, Mapping):
            product *= _combinations(value)
        elif name == OR:
            product *= len(value)
            for branch in value:
                product *= _combinations(branch)
    return product


def scalars(value: Any) -> Iterator[Any]:
    """What a field offers to match: the value, or an array's values, however deep; no objects."""
    if isinstance(value, list):
        for one in value:
            yield from scalars(one)
    elif value is not ABSENT and not isinstance(value, dict):
        yield value


def objects_in(value: Any) -> Iterator[dict[str, Any]]:
    """The value if it is an object, or the objects of an array, however deep."""
    if isinstance(value, dict):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from objects_in(one)


def _has_scalar(value: Any) -> bool:
    return next(scalars(value), ABSENT) is not ABSENT
