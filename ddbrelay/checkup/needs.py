"""Which images of an item a mapping needs, against what the stream's view type leaves out.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_StreamSpecification.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ddbrelay.flow.mapping.document import EVENT_NAMES
from ddbrelay.flow.mapping.expressions import Expression
from ddbrelay.flow.mapping.templates import Template

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
    PARKED = "the records are parked"
    EMPTY = "what it reads is null in the event"
    ONLY_KEYS = "the event carries only the key"


@dataclass(frozen=True)
class Need:
    """That a part of the mapping reads images, in words, and what comes of it without them."""

    who: str
    reads: str
    images: frozenset[str]
    harm: Harm


def needs_of(config: Config, rules: Sequence[Rule]) -> list[Need]:
    """All that the mapping reads of the images; nothing is known of a function of one's own."""
    if config.settings.mapper is not None:
        return []
    needs = [need for rule in rules for need in _of_rule(rule)]
    preset = config.settings.preset or (None if rules else "crud")
    if preset == "outbox":
        needs.append(Need("the preset outbox", "each new item", _OF_EVENT["INSERT"], Harm.PARKED))
    elif preset is not None:
        who = "the default mapping" if preset == "crud" else f"the preset {preset}"
        needs += _whole_item(who, EVENT_NAMES)
    return needs


def unmet(needs: Iterable[Need], view_type: str) -> list[Need]:
    """Those that a stream of this view type does not meet; an unknown one is taken to meet all.

    A rule that can never match parks nothing.
    """
    has = HAS.get(view_type, HAS["NEW_AND_OLD_IMAGES"])
    missing = [need for need in needs if need.images - has]
    silent = {need.who for need in missing if need.harm is Harm.NEVER_MATCHES}
    return [need for need in missing if need.harm is not Harm.PARKED or need.who not in silent]


def _of_rule(rule: Rule) -> Iterator[Need]:
    spec, who = rule.spec, f'rule "{rule.name}"'
    names = _event_names(rule)
    when = dict(_pattern_reads(rule))
    if when:
        yield _need(who, when, names, Harm.NEVER_MATCHES)
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
    return Need(who, " and ".join(sorted(fields)), images, harm)


def _whole_item(who: str, names: Sequence[str]) -> Iterator[Need]:
    if {"INSERT", "MODIFY"} & set(names):
        yield Need(who, "new", frozenset({"new"}), Harm.ONLY_KEYS)
    if "REMOVE" in names:
        yield Need(who, "old for deletes", frozenset({"old"}), Harm.ONLY_KEYS)


def _event_names(rule: Rule) -> Sequence[str]:
    """The changes that the rule is for, as far as its pattern names them."""
    asked = None if rule.when is None else rule.when.source.get("eventName")
    named = [name for name in EVENT_NAMES if isinstance(asked, list) and name in asked]
    return named or EVENT_NAMES


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
