"""Event filters of AWS, derived from the rules: what no rule can be for never costs a call.

A filter lets through every record that some rule may raise an event for, and as few others as can
be said. What a filter cannot say of a rule is left out of it, which lets more through, and noted.

Operators: https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
DynamoDB's form of a record (numbers are texts): https://docs.aws.amazon.com/lambda/latest/dg/
with-ddb-filtering.html. That page says that only `dynamodb` can be filtered on, and the guide of
DynamoDB filters on `userIdentity` (time-to-live-ttl-streams.html), as the CDK does on `eventName`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ddbrelay.export.choices import DEFAULT_LIMIT, FieldPath
from ddbrelay.export.values import ABSENT, Matchers, Values, of_record, typed
from ddbrelay.flow.mapping.matchers import Affix, Exact, Exists, Matcher

if TYPE_CHECKING:
    from ddbrelay.flow.mapping.pattern_tree import Node
    from ddbrelay.flow.mapping.rules import Rule

MAX_LENGTH = 4096
"""Characters of a filter, by `Pattern` of the `lambda` and `EventPattern` of the `pipes` model."""
TTL_PRINCIPAL = "dynamodb.amazonaws.com"
_MOST_BRANCHES = 64
IMAGES = {"keys": "Keys", "new": "NewImage", "old": "OldImage"}
_WITH_IMAGE = {"new": ("INSERT", "MODIFY"), "old": ("MODIFY", "REMOVE")}
_EVENT_NAMES = ("INSERT", "MODIFY", "REMOVE")
SAME = {
    "eventName": ("eventName",),
    "eventID": ("eventID",),
    "sequenceNumber": ("dynamodb", "SequenceNumber"),
    "streamArn": ("eventSourceARN",),
}
NUMBER_FIELDS = {("dynamodb", "SizeBytes"), ("dynamodb", "ApproximateCreationDateTime")}

Branch = dict[FieldPath, Matchers]
"""What a rule asks for in one way through its `$or`s: all of it must hold."""
Conditions = dict[FieldPath, Values]
"""What a filter asks for: a list of alternatives for each path, all of which must hold."""
Types = Mapping[FieldPath, str]
"""The DynamoDB type of attributes, by name or by path into maps, where it is known."""


@dataclass(frozen=True)
class Filters:
    """Patterns of which a record must match one; none means that every record goes through.

    `notes` say, one line each, what the rules ask for and a filter cannot.
    """

    patterns: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def filters_of(
    rules: Sequence[Rule],
    *,
    types: Types | None = None,
    extra: Iterable[Conditions] = (),
    limit: int = DEFAULT_LIMIT,
) -> Filters:
    """At most `limit` filters for what these rules may raise events for.

    `extra` is what else must go through, for a preset behind the rules.
    """
    notes: list[str] = []
    wanted: list[Conditions] = []
    for rule in rules:
        if rule.skip:
            continue
        if rule.when is None:
            return Filters(notes=(f'rule "{rule.name}" is for every record: there is no filter',))
        found = conditions_of(rule, types or {}, notes)
        if any(not one for one in found):
            notes.append(f'nothing of rule "{rule.name}" can be a filter: there is no filter')
            return Filters(notes=tuple(notes))
        wanted += found
    wanted = _without_covered([_short_enough(one, notes) for one in [*wanted, *extra]])
    fewer = _merged(wanted, limit)
    if len(fewer) < len(wanted):
        notes.append(f"{len(wanted)} filters were joined into {len(fewer)}, which let more through")
    if not fewer or not all(fewer):
        return Filters(notes=(*notes, "there is no filter: it would let everything through"))
    return Filters(tuple(nested(one) for one in fewer), tuple(dict.fromkeys(notes)))


def conditions_of(rule: Rule, types: Types, notes: list[str]) -> list[Conditions]:
    """The filters of one rule, of which a record must match one; an empty one matches all."""
    branches = branches_of(rule)
    if branches is None:
        notes.append(f'rule "{rule.name}": too many combinations of $or for filters')
        return [{}]
    said: list[str] = []
    found = []
    for branch in branches:
        one = _lambda_form(branch, said) if rule.lambda_form else _plain_form(branch, types, said)
        if one is not None:
            found.append(one)
    notes += [f'rule "{rule.name}": {text}' for text in dict.fromkeys(said)]
    return found


def branches_of(rule: Rule) -> list[Branch] | None:
    """The rule's pattern without `$or`: one branch must hold; None where they are too many.

    The paths are those of the pattern, not those of a record. No rule asks for one in two ways.
    """
    if rule.when is None:
        return [{}]
    ways = list(islice(rule.when.node.ways(), _MOST_BRANCHES + 1))
    if len(ways) > _MOST_BRANCHES:
        return None
    return _as_written([dict(_fields(way, ())) for way in ways])


def _fields(node: Node, path: FieldPath) -> Iterator[tuple[FieldPath, Matchers]]:
    for leaf in node.leaves:
        yield (*path, leaf.name), leaf.matchers
    for name, inner in node.objects.items():
        yield from _fields(inner, (*path, name))


def _as_written(branches: Iterable[Branch]) -> list[Branch]:
    """The branches with one reading of each name that has dots: the name as it is written.

    The tree has such a name once for each of its readings, and all of them mean the same field.
    """
    written: dict[frozenset[tuple[str, str]], Branch] = {}
    for branch in branches:
        fields: dict[tuple[str, str], FieldPath] = {}
        # As it is written, a name with dots is one step of its path.
        for path, matchers in sorted(branch.items(), key=lambda field: len(field[0])):
            # By their text, since Exact(1) and Exact(True) are equal.
            fields.setdefault((".".join(path), repr(matchers)), path)
        shorter = {path: branch[path] for path in fields.values()}
        known = written.setdefault(frozenset(fields), shorter)
        if sum(map(len, shorter)) < sum(map(len, known)):
            written[frozenset(fields)] = shorter
    return list(written.values())


def _plain_form(branch: Branch, types: Types, said: list[str]) -> Conditions | None:
    """None where no record can match: the images and the event name exclude each other."""
    found: Conditions = {}
    for path, matchers in branch.items():
        top, *inner = path
        if is_dotted(path):
            # In the typed form the path has `M` between its names, and the name has not.
            said.append(f"{'.'.join(path)} cannot be in a filter")
        elif top in IMAGES and inner:
            place = ("dynamodb", IMAGES[top], *through_maps(inner))
            conditions = typed(matchers, types.get(tuple(inner)))
            found |= {(*place, kind): values for kind, values in conditions.items()}
            if not conditions:
                said.append(f"{'.'.join(path)} cannot be in a filter")
        elif path == ("ttl",):
            found |= ttl_conditions(matchers)
        elif len(path) == 1 and top in SAME and (same := of_record(matchers)) is not None:
            found[SAME[top]] = same
        elif path != ("table",):
            said.append(f"{'.'.join(path)} cannot be in a filter")
    names = event_names(branch)
    if names is not None:
        found = {("eventName",): list(names)} | {
            path: leaf for path, leaf in found.items() if path != ("eventName",)
        }
    return None if names == () else found


def is_dotted(path: FieldPath) -> bool:
    """Whether a name of the path has dots, so that it may be a path itself."""
    return any("." in name for name in path)


def event_names(branch: Branch) -> tuple[str, ...] | None:
    """The event names that a branch can match, by what it asks of images too; None for all."""
    names = set(_EVENT_NAMES)
    for path, matchers in branch.items():
        if path[0] in _WITH_IMAGE and len(path) > 1 and Exists(False) not in matchers:
            names &= set(_WITH_IMAGE[path[0]])
    asked = branch.get(("eventName",))
    if asked is None:
        return None if len(names) == len(_EVENT_NAMES) else tuple(sorted(names))
    literals = [matcher.value for matcher in asked if isinstance(matcher, Exact)]
    texts = [value for value in literals if isinstance(value, str)]
    if len(texts) < len(asked):
        return None
    return tuple(name for name in texts if name in names)


def disjoint(one: Rule, other: Rule, types: Types) -> bool:
    """Whether no change can match both rules, as far as can be told."""
    ours, theirs = branches_of(one), branches_of(other)
    if ours is None or theirs is None:
        return False
    return all(_apart(mine, yours, types) for mine in ours for yours in theirs)


def _apart(mine: Branch, yours: Branch, types: Types) -> bool:
    names = [event_names(branch) for branch in (mine, yours)]
    if names[0] is not None and names[1] is not None and not set(names[0]) & set(names[1]):
        return True
    return any(
        path in yours and not any(_meet(one, other) for one in matchers for other in yours[path])
        for path, matchers in mine.items()
        # Of sets and lists several elements may match; these have one value.
        if path[0] in {"eventName", "keys", "ttl"} or types.get(path[1:]) in {"S", "N", "BOOL"}
    )


def _meet(one: Matcher, other: Matcher) -> bool:
    """Whether one value may be wanted by both matchers, as far as can be told."""
    match one, other:
        case (Exact(), Exact()) | (Exists(False), _) | (_, Exists(False)):
            return one == other
        case (Affix("prefix", first, False), Affix("prefix", second, False)):
            return first.startswith(second) or second.startswith(first)
        case (Affix("prefix", head, False), Exact(value)) | (
            Exact(value),
            Affix("prefix", head, False),
        ):
            return not isinstance(value, str) or value.startswith(head)
    return True


def through_maps(path: Sequence[str]) -> FieldPath:
    first, *rest = path
    return (first, *(step for name in rest for step in ("M", name)))


def ttl_conditions(matchers: Matchers) -> Conditions:
    """Whether Time to Live deleted the item; empty where either will do."""
    place = ("userIdentity", "principalId")
    match matchers:
        # No service but DynamoDB deletes items, so the principal alone tells.
        case (Exact(True),):
            return {place: [TTL_PRINCIPAL]}
        case (Exact(False),):
            return {place: [{"anything-but": [TTL_PRINCIPAL]}, ABSENT]}
    return {}


def _lambda_form(branch: Branch, said: list[str]) -> Conditions:
    found: Conditions = {}
    for path, matchers in branch.items():
        same = of_record(matchers, numbers=path in NUMBER_FIELDS)
        leads_on = any(other[: len(path)] == path for other in branch if other != path)
        if same is None or leads_on:
            said.append(f"{'.'.join(path)} cannot be in a filter")
        else:
            found[path] = same
    return found


def _short_enough(conditions: Conditions, notes: list[str]) -> Conditions:
    left = dict(conditions)
    while left and len(text_of(nested(left))) > MAX_LENGTH:
        longest = max(left, key=lambda path: len(text_of({"": left[path]})))
        del left[longest]
        notes.append(f"{'.'.join(longest)} is too long for a filter")
    return left


def _without_covered(wanted: Sequence[Conditions]) -> list[Conditions]:
    kept: list[Conditions] = []
    for one in wanted:
        if any(_covers(other, one) for other in kept):
            continue
        kept = [other for other in kept if not _covers(one, other)]
        kept.append(one)
    return kept


def _covers(wide: Conditions, narrow: Conditions) -> bool:
    return all(
        path in narrow and all(value in leaf for value in narrow[path])
        for path, leaf in wide.items()
    )


def _merged(filters: list[Conditions], limit: int) -> list[Conditions]:
    """The two that lose least are joined, until they are few enough."""
    while len(filters) > limit:
        pairs = [
            (-len(joined), number, other, joined)
            for number, one in enumerate(filters)
            for other in range(number + 1, len(filters))
            if len(text_of(nested(joined := _either(one, filters[other])))) <= MAX_LENGTH
        ]
        if not pairs:
            return [{}]
        _, number, other, joined = min(pairs, key=lambda pair: pair[:3])
        rest = [one for index, one in enumerate(filters) if index not in {number, other}]
        filters = _without_covered([*rest, joined])
    return filters


def _either(one: Conditions, other: Conditions) -> Conditions:
    return {
        path: [*leaf, *(value for value in other[path] if value not in leaf)]
        for path, leaf in one.items()
        if path in other
    }


def nested(conditions: Conditions) -> dict[str, Any]:
    """The pattern that asks for these conditions."""
    root: dict[str, Any] = {}
    for path, leaf in conditions.items():
        node = root
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return root


def text_of(pattern: Mapping[str, Any]) -> str:
    """A pattern as AWS takes it: JSON, without spaces that would count."""
    return json.dumps(pattern, ensure_ascii=False, separators=(",", ":"), default=float)
