"""Which images of an item a mapping needs, against what the stream's view type leaves out.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_StreamSpecification.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any

from ddbrelay.errors import ConfigError
from ddbrelay.flow.mapping.document import EVENT_NAMES
from ddbrelay.flow.mapping.expressions import Expression
from ddbrelay.flow.mapping.pattern_tree import Node
from ddbrelay.flow.mapping.templates import Template
from ddbrelay.mappings import rules_of
from ddbrelay.text import listed

if TYPE_CHECKING:
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule

HAS = {
    "NEW_AND_OLD_IMAGES": frozenset({"new", "old"}),
    "NEW_IMAGE": frozenset({"new"}),
    "OLD_IMAGE": frozenset({"old"}),
    "KEYS_ONLY": frozenset(),
}
"""The images that a stream of a view type carries."""
_OF_EVENT = {
    "INSERT": frozenset({"new"}),
    "MODIFY": frozenset({"new", "old"}),
    "REMOVE": frozenset({"old"}),
}
"""The images that a change can have at all."""
_READS = {
    "new": frozenset({"new"}),
    "old": frozenset({"old"}),
    "changed": frozenset({"new", "old"}),
    "diff": frozenset({"new", "old"}),
}
_TYPED = {"NewImage": "new", "OldImage": "old"}
_TEMPLATES = ("source", "detail_type", "resources", "trace_header", "detail")


class Harm(Enum):
    """What comes of an image that is missing; the worst first."""

    NEVER_MATCHES = "the rule can never match"
    SOME_NEVER_MATCH = "some of the changes that the rule is for never match"
    PARKED = "the records are parked"
    EMPTY = "what it reads is null in the event"
    ONLY_KEYS = "the event carries only the key"


@dataclass(frozen=True)
class Need:
    """That a part of the mapping reads images, in words, and what comes of it without them.

    `ways` are the images that each kind of change needs which the part is for.
    """

    who: str
    reads: str
    ways: tuple[frozenset[str], ...]
    harm: Harm


@dataclass(frozen=True)
class Lack:
    """What a stream leaves out that the mapping needs, in words, and what comes of it."""

    words: str
    harm: Harm


def needs_of(config: Config, rules: Sequence[Rule]) -> list[Need]:
    """All that the mapping reads of the images; nothing is known of a function of one's own."""
    if config.settings.mapper is not None:
        return []
    needs = [need for rule in rules for need in _of_rule(rule)]
    preset = config.settings.preset or (None if rules else "crud")
    if preset == "outbox":
        needs.append(
            Need("the preset outbox", "each new item", (_OF_EVENT["INSERT"],), Harm.PARKED)
        )
    elif preset is not None:
        who = "the default mapping" if preset == "crud" else f"the preset {preset}"
        needs += _whole_item(who, EVENT_NAMES)
    return needs


def unmet(needs: Iterable[Need], view_type: str) -> list[Need]:
    """Those that a stream of this view type does not meet; an unknown one is taken to meet all.

    A rule that can never match parks and sends nothing.
    """
    has = HAS.get(view_type, HAS["NEW_AND_OLD_IMAGES"])
    missing = []
    for need in needs:
        lost = [way for way in need.ways if way - has]
        if need.harm is Harm.NEVER_MATCHES and 0 < len(lost) < len(need.ways):
            missing.append(replace(need, harm=Harm.SOME_NEVER_MATCH))
        elif lost:
            missing.append(need)
    silent = {need.who for need in missing if need.harm is Harm.NEVER_MATCHES}
    return [need for need in missing if need.harm is Harm.NEVER_MATCHES or need.who not in silent]


def lacks(needs: Iterable[Need], view_type: str) -> list[Lack]:
    """What a stream of this view type leaves out, the worst first, each harm once."""
    missing = unmet(needs, view_type)
    found = []
    for harm in Harm:
        if of_it := [need for need in missing if need.harm is harm]:
            who = listed(need.who for need in of_it)
            reads = listed(sorted({need.reads for need in of_it}))
            verb = "need" if len({need.who for need in of_it}) > 1 else "needs"
            found.append(Lack(f"the stream has {view_type}, and {who} {verb} {reads}", harm))
    return found


def check_view_type(
    config: Config, table: str, view_type: str, tell: Callable[[str], None], *, strict: bool
) -> None:
    """Tell what the mapping reads and a stream of this view type does not carry.

    With `strict` that is a ConfigError. Nothing is said where nothing is certain: of an unknown
    view type, and of a function of one's own.
    """
    for lack in lacks(needs_of(config, rules_of(config, table)), view_type):
        words = f"{lack.words}: {lack.harm.value}"
        if strict:
            raise ConfigError(words, _mend(table))
        tell(f"{words}; {_mend(table)}")


def _mend(table: str) -> str:
    command = f"provision --table {table} --view-type NEW_AND_OLD_IMAGES --apply-changes"
    return f"ddbrelay {command} gives the table a stream that has them"


def _of_rule(rule: Rule) -> Iterator[Need]:
    spec, who = rule.spec, f'rule "{rule.name}"'
    names = _event_names(rule)
    when = dict(_pattern_reads(rule))
    if when:
        yield Need(who, " and ".join(sorted(when)), tuple(_ways(rule)), Harm.NEVER_MATCHES)
    if rule.skip:
        return
    holes = dict(_hole_reads(spec))
    if holes:
        yield _need(who, holes, names, Harm.PARKED)
    detail = spec.get("detail")
    if isinstance(detail, str):
        fields = {name: _READS[name] for name in Expression(detail).fields if name in _READS}
        if fields:
            yield _need(who, fields, names, Harm.EMPTY)
    elif detail is None:
        yield from _whole_item(who, names)


def _need(who: str, fields: Mapping[str, frozenset[str]], names: Sequence[str], harm: Harm) -> Need:
    """Only the images that one of these changes can have count: an INSERT never has an old one."""
    possible = frozenset().union(*(_OF_EVENT[name] for name in names))
    images = frozenset().union(*fields.values()) & possible
    return Need(who, " and ".join(sorted(fields)), (images,), harm)


def _whole_item(who: str, names: Sequence[str]) -> Iterator[Need]:
    if {"INSERT", "MODIFY"} & set(names):
        yield Need(who, "new", (frozenset({"new"}),), Harm.ONLY_KEYS)
    if "REMOVE" in names:
        yield Need(who, "old for deletes", (frozenset({"old"}),), Harm.ONLY_KEYS)


def _event_names(rule: Rule) -> Sequence[str]:
    """The changes that the rule is for, as far as its pattern names them."""
    asked = None if rule.when is None else rule.when.source.get("eventName")
    named = [name for name in EVENT_NAMES if isinstance(asked, list) and name in asked]
    return named or EVENT_NAMES


def _ways(rule: Rule) -> Iterator[frozenset[str]]:
    """The images that the pattern needs, for each of its branches and each change that it takes."""
    if rule.when is None:
        return
    for way in rule.when.node.ways():
        asked = {leaf.name: leaf for leaf in way.leaves}
        wanted = set(_wanted(way))
        for name in EVENT_NAMES:
            if "eventName" in asked and not asked["eventName"].holds(name):
                continue
            # An INSERT has no old image on any stream: such a pattern is not for it.
            if wanted & {"new", "old"} <= _OF_EVENT[name]:
                compared = wanted & {"changed", "diff"}
                yield _OF_EVENT[name] if compared else frozenset(wanted)


def _wanted(way: Node) -> Iterator[str]:
    """What must be there for the conditions to hold."""
    typed = way.objects.get("dynamodb", Node())
    for node, names in ((way, {name: name for name in _READS}), (typed, _TYPED)):
        yield from (
            names[leaf.name] for leaf in node.leaves if leaf.name in names and not leaf.absent
        )
        yield from (
            names[name] for name, one in node.objects.items() if name in names and _has_value(one)
        )


def _has_value(node: Node) -> bool:
    """Whether an object without any field does not fulfil the conditions."""
    return any(not leaf.absent for leaf in node.leaves) or any(
        _has_value(one) for one in node.objects.values()
    )


def _pattern_reads(rule: Rule) -> Iterator[tuple[str, frozenset[str]]]:
    if rule.when is None:
        return
    for names in _tops(rule.when.source):
        name = _TYPED.get(names[1], "") if names[0] == "dynamodb" else names[0]
        if name in _READS:
            yield name, _READS[name]


def _tops(pattern: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each top-level name with a name below it, those of every branch included."""
    for name, value in pattern.items():
        if name == "$or" and isinstance(value, list):
            for branch in value:
                yield from _tops(branch)
        elif isinstance(value, Mapping):
            yield from ((name, inner) for inner in value)
        else:
            yield name, ""


def _hole_reads(spec: Mapping[str, Any]) -> Iterator[tuple[str, frozenset[str]]]:
    """What stands in holes, which must not be missing; a detail that is one expression has none."""
    for key in _TEMPLATES:
        value = spec.get(key)
        if key != "detail" or not isinstance(value, str):
            for text in _texts(value):
                for hole in Template(text).holes:
                    yield from ((name, _READS[name]) for name in hole.fields if name in _READS)
    if isinstance(spec.get("time"), str):
        fields = Expression(spec["time"]).fields
        yield from ((name, _READS[name]) for name in fields if name in _READS)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
