"""What can be said of patterns without a document: which never match, which hide which.

Both are careful: a pattern is called impossible, or hidden by another, only where that is certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    listed,
    shown,
    test_of,
)
from ddbrelay.flow.mapping.pattern_operators import Path, PatternError
from ddbrelay.flow.mapping.pattern_tree import Leaf, Node
from ddbrelay.text import meant

_Values = Mapping[str, Sequence[Any]]
_TEXTS = (Affix, AnyCase, Wildcard, Cidr)


def why_impossible(node: Node, values: _Values) -> PatternError | None:
    """Why no document fulfils the node; `values` are all that a field of it can have."""
    left = {name: list(possible) for name, possible in values.items()}
    for leaf in node.leaves:
        if leaf.name not in left:
            continue
        before = left[leaf.name]
        left[leaf.name] = [value for value in before if leaf.holds(value)]
        if not left[leaf.name]:
            return _none_of(leaf, before or values[leaf.name])
    if (why := _at_odds(node.leaves)) is not None:
        return why
    for name, one in node.objects.items():
        scalar = not any(isinstance(value, dict | list) for value in values.get(name, [{}]))
        if scalar and not _may_be_missing(one):
            return PatternError(
                f"is never an object, it is {_listed(values[name])}: values stand in a list",
                _place(one)[:-1],
            )
        if (why := why_impossible(one, {})) is not None:
            return why
    for branches in node.ors:
        reasons = [_why_branch(node, branch, left) for branch in branches]
        if None not in reasons and reasons[0] is not None:
            return reasons[0]
    return None


def _why_branch(node: Node, branch: Node, left: _Values) -> PatternError | None:
    why = why_impossible(branch, left)
    return why if why is not None else _at_odds([*node.leaves, *branch.leaves])


def _place(node: Node) -> Path:
    """The place of the node's first leaf."""
    if node.leaves:
        return node.leaves[0].path
    inside = [*node.objects.values(), *(branch for branches in node.ors for branch in branches)]
    return _place(inside[0])


def _none_of(leaf: Leaf, values: Sequence[Any]) -> PatternError:
    """The field never has a value that is wanted."""
    wanted = [one.value for one in leaf.matchers if isinstance(one, Exact)]
    texts = [value for value in values if isinstance(value, str)]
    hints = (meant(one, texts) for one in wanted if isinstance(one, str))
    hint = next((f", {one}" for one in hints if one is not None), "")
    return PatternError(
        f"is always {_listed(values)}, never {listed(leaf.matchers)}{hint}", leaf.path
    )


def _at_odds(leaves: Sequence[Leaf]) -> PatternError | None:
    """One condition wants the field to be missing, another wants it to be there.

    Two values are no contradiction: an array may have both.
    """
    missing = {leaf.name: leaf for leaf in leaves if set(leaf.matchers) == {Exists(False)}}
    for leaf in leaves:
        if leaf.name in missing and not leaf.absent:
            return PatternError(
                f"cannot be {listed(leaf.matchers)} and absent in one document", leaf.path
            )
    return None


def _listed(values: Sequence[Any]) -> str:
    return " or ".join(shown(value) for value in values)


def covers(earlier: Node, later: Node, path: Path = ()) -> bool:
    """Whether what fulfils `later` fulfils `earlier`; False where it cannot be told."""
    return all(_covers(earlier, one, path) for one in later.alternatives())


def _covers(earlier: Node, later: Node, path: Path) -> bool:
    for leaf in earlier.leaves:
        if not any(one.name == leaf.name and _leaf_covers(leaf, one) for one in later.leaves):
            return False
    for name, node in earlier.objects.items():
        if name not in later.objects or not _object_covers(
            node, later.objects[name], (*path, name)
        ):
            return False
    return all(any(covers(branch, later, path) for branch in branches) for branches in earlier.ors)


def _object_covers(earlier: Node, later: Node, path: Path) -> bool:
    if not covers(earlier, later, path):
        return False
    # In an array, `exists: false` looks at elements that the later pattern need not look at.
    return earlier == later or _never_an_array(path) or not _may_be_missing(earlier)


def _never_an_array(path: Path) -> bool:
    return len(path) == 1 or (path[0] == "dynamodb" and len(path) <= 3)


def _may_be_missing(node: Node) -> bool:
    """Whether an empty object fulfils the node."""
    return (
        all(leaf.absent for leaf in node.leaves)
        and all(map(_may_be_missing, node.objects.values()))
        and all(any(map(_may_be_missing, branches)) for branches in node.ors)
    )


def _leaf_covers(earlier: Leaf, later: Leaf) -> bool:
    return all(_any_covers(earlier.matchers, one) for one in later.matchers)


def _any_covers(matchers: tuple[Matcher, ...], later: Matcher) -> bool:
    if later == Exists(False):
        return later in matchers
    if isinstance(later, Exact):
        return test_of(matchers)(later.value)
    if isinstance(later, Numeric) and later.low is not None and later.low == later.high:
        return test_of(matchers)(later.low.number)
    return any(_matcher_covers(one, later) for one in matchers)


def _matcher_covers(earlier: Matcher, later: Matcher) -> bool:
    """Whether every value that `later` wants, which is no single value, `earlier` wants as well."""
    if earlier == later or earlier == Exists(True):
        return True
    if isinstance(earlier, AnythingBut):
        if isinstance(later, AnythingBut):
            return _leaf_set_covers(later.unwanted, earlier.unwanted)
        return all(_apart(one, later) for one in earlier.unwanted)
    if isinstance(earlier, Numeric) and isinstance(later, Numeric):
        return _reaches(earlier.low, later.low, 1) and _reaches(earlier.high, later.high, -1)
    if isinstance(earlier, Cidr) and isinstance(later, Cidr):
        return _subnet(later, earlier)
    return isinstance(later, _TEXTS) and _text_covers(earlier, later)


def _leaf_set_covers(matchers: tuple[Matcher, ...], later: Iterable[Matcher]) -> bool:
    return all(_any_covers(matchers, one) for one in later)


def _text_covers(earlier: Matcher, later: Matcher) -> bool:
    """Whether what every wanted text begins or ends with is enough for `earlier`."""
    head, tail, folded = _ends(later)
    if isinstance(earlier, Affix):
        known = head if earlier.name == "prefix" else tail
        if folded and not (earlier.any_case and _simple(known) and _simple(earlier.text)):
            return False
        return earlier.test()(known)
    if isinstance(earlier, Wildcard) and not folded:
        # What ends with an asterisk takes any text after a beginning that it takes.
        if earlier.parts[-1] == "" and earlier.test()(head):
            return True
        return earlier.parts[0] == "" and earlier.test()(tail)
    if isinstance(earlier, AnyCase) and isinstance(later, AnyCase):
        return _simple(earlier.text + later.text) and earlier.text.lower() == later.text.lower()
    return False


def _ends(matcher: Matcher) -> tuple[str, str, bool]:
    """What every wanted text begins and ends with, and whether in any case."""
    match matcher:
        case Affix("prefix", text, folded):
            return text, "", folded
        case Affix("suffix", text, folded):
            return "", text, folded
        case AnyCase(text):
            return text, text, True
        case Wildcard(_, parts):
            return parts[0], parts[-1], False
        case _:
            return "", "", False


def _simple(text: str) -> bool:
    """Whether case is no more than a letter's two forms."""
    return text.isascii()


def _apart(one: Matcher, other: Matcher) -> bool:
    """Whether no value is wanted by both."""
    if isinstance(one, Exact):
        return not other.test()(one.value)
    if isinstance(other, Numeric):
        return isinstance(one, _TEXTS)
    if isinstance(one, _TEXTS) and isinstance(other, _TEXTS):
        return _differ(_ends(one), _ends(other))
    return False


def _differ(one: tuple[str, str, bool], other: tuple[str, str, bool]) -> bool:
    """Whether texts with these ends can never be the same."""
    (head, tail, folded), (other_head, other_tail, other_folded) = one, other
    if folded or other_folded:
        if not _simple(head + tail + other_head + other_tail):
            return False
        head, tail = head.lower(), tail.lower()
        other_head, other_tail = other_head.lower(), other_tail.lower()
    return not (
        (head.startswith(other_head) or other_head.startswith(head))
        and (tail.endswith(other_tail) or other_tail.endswith(tail))
    )


def _reaches(earlier: Bound | None, later: Bound | None, sign: int) -> bool:
    """Whether a bound lies no further in than another; `sign` is 1 for lower bounds."""
    if earlier is None or later is None:
        return earlier is None
    difference = (later.number - earlier.number) * sign
    return difference > 0 or (difference == 0 and (earlier.closed or not later.closed))


def _subnet(one: Cidr, other: Cidr) -> bool:
    first, last = one.network[0], one.network[-1]
    return first in other.network and last in other.network
