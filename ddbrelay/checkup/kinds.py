"""The events that a mapping can make, as far as they are known without a record."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddbrelay.flow.mapping import entity_of
from ddbrelay.flow.mapping.document import EVENT_NAMES
from ddbrelay.flow.mapping.patterns import Pattern, compile_pattern, covers, impossible
from ddbrelay.flow.mapping.templates import Template

if TYPE_CHECKING:
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule

_VERBS = {"INSERT": ("Created",), "MODIFY": ("Updated",), "REMOVE": ("Deleted", "Expired")}
"""As the default mapping names what became of an item."""
_ANY = "*"


@dataclass(frozen=True)
class Name:
    """A source or a detail type: a text, or where that is None a wildcard that it fits."""

    text: str | None
    wildcard: str = _ANY

    @classmethod
    def of(cls, template: Template) -> Name:
        """What a rule gives its events, with an asterisk for each hole."""
        if template.constant is not None:
            return cls(template.constant)
        rest, parts = template.text, []
        for hole in template.holes:
            before, _, rest = rest.partition(f"{{{hole.text}}}")
            parts.append(before)
        if "{{" in template.text or "}}" in template.text:
            # A brace that stands for itself may look like a hole.
            parts, rest = [template.start], ""
        escaped = (part.replace("\\", r"\\").replace("*", r"\*") for part in (*parts, rest))
        return cls(None, re.sub(r"(?<!\\)\*+", _ANY, _ANY.join(escaped)))

    @property
    def condition(self) -> Any:
        """One alternative of an event pattern; None for what nothing is known of."""
        if self.text is not None:
            return self.text
        return None if self.wildcard == _ANY else {"wildcard": self.wildcard}

    def __str__(self) -> str:
        return self.wildcard.replace("*", "…") if self.text is None else self.text


UNKNOWN = Name(None)


@dataclass(frozen=True)
class Kind:
    """Events of one source and one name on one bus."""

    bus: str
    source: Name
    detail_type: Name

    @property
    def name(self) -> str:
        """The detail type for a person."""
        return "events of any type" if self.detail_type == UNKNOWN else str(self.detail_type)


def kinds_of(config: Config, table: str, rules: Sequence[Rule], bus: str) -> tuple[Kind, ...]:
    """Every kind, each once; `bus` is that of the run."""
    settings = config.settings
    if settings.mapper is not None:
        return (Kind(bus, UNKNOWN, UNKNOWN),)
    entity = settings.entity or entity_of(table)
    own = Name(settings.source or f"ddbrelay.{table}")
    found = [kind for rule in rules if not rule.skip for kind in _of_rule(rule, bus, own, entity)]
    preset = settings.preset or (None if rules else "crud")
    if preset == "crud":
        found += [Kind(bus, own, Name(entity + verb)) for verb in _verbs(EVENT_NAMES)]
    elif preset == "single-table":
        nouns = config.mapping.single_table.get("entities")
        names = [Name(f"{noun}{verb}") for noun in (nouns or {}).values() for verb in _all()]
        found += [Kind(bus, own, name) for name in names or [UNKNOWN]]
    elif preset == "outbox":
        # An item may name a source of its own beside its type.
        found += [Kind(bus, own, UNKNOWN), Kind(bus, UNKNOWN, UNKNOWN)]
    return tuple(dict.fromkeys(found))


def _all() -> list[str]:
    return list(_verbs(EVENT_NAMES))


def _verbs(names: Sequence[str]) -> Iterator[str]:
    for name in names:
        yield from _VERBS[name]


def _of_rule(rule: Rule, bus: str, own: Name, entity: str) -> Iterator[Kind]:
    assert rule.make is not None
    source = own if rule.make.source is None else Name.of(rule.make.source)
    to = str(rule.spec.get("bus") or bus)
    detail_type = rule.spec.get("detail_type")
    if detail_type is not None:
        yield Kind(to, source, Name.of(Template(detail_type)))
        return
    asked: Any = None if rule.when is None else rule.when.source.get("eventName")
    named = [name for name in EVENT_NAMES if isinstance(asked, list) and name in asked]
    for verb in _verbs(named or EVENT_NAMES):
        yield Kind(to, source, Name(entity + verb))


def may_match(pattern: Pattern, kind: Kind, account: str | None = None) -> bool:
    """Whether an event of this kind can match, whatever its detail; True where it is not known."""
    values: dict[str, Sequence[Any]] = {"version": ["0"]}
    if account is not None:
        values["account"] = [account]
    for name, known in (("source", kind.source), ("detail-type", kind.detail_type)):
        if known.text is not None:
            values[name] = [known.text]
        elif known.condition is not None and _never(pattern, name, known.condition):
            return False
    if kind.source.text is None and covers(_AWS, pattern):
        return False
    return impossible(pattern, values) is None


def _never(pattern: Pattern, name: str, condition: Any) -> bool:
    """Whether the pattern wants nothing of this field that fulfils the condition."""
    return covers(compile_pattern({name: [{"anything-but": condition}]}), pattern)


_AWS = compile_pattern({"source": [{"prefix": "aws."}]})
