"""An item to try a deployment with: one that the mapping makes an event of.

What is guessed from a rule's pattern is mapped before it is believed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jmespath

from ddbrelay.errors import ConfigError
from ddbrelay.export.expressible import plain_path
from ddbrelay.export.filters import Branch, branches_of, text_of
from ddbrelay.export.values import Matchers
from ddbrelay.flow.mapping.matchers import (
    Affix,
    AnyCase,
    AnythingBut,
    Exact,
    Exists,
    Matcher,
    Numeric,
    Wildcard,
)
from ddbrelay.flow.mapping.templates import Template

if TYPE_CHECKING:
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule
    from ddbrelay.infra.plan import Key

Plain = dict[str, Any]

_KEYS: dict[str, Any] = {"S": "1", "N": Decimal(1), "B": b"1"}
_TEXT = "example"
_MAIL = "user@example.com"
"""Schemas are particular about these."""
_TEMPLATES = ("source", "detail_type", "resources", "trace_header", "detail")
_NONE = object()
"""No value will do."""


@dataclass(frozen=True)
class Sample:
    """An item in DynamoDB's JSON, None where none was found, and the words that go with it.

    `heard`: whether an event of the mapping can reach the consumer's queue.
    """

    item: str | None
    words: str
    heard: bool = True


def sample_of(
    config: Config,
    rules: Sequence[Rule],
    keys: Sequence[Key],
    *,
    keys_known: bool = True,
    by_rules: bool = False,
) -> Sample:
    """An item that one of these rules makes an event of, or the preset behind them.

    With `by_rules` no preset counts, and no rule but these. Only events on the run's own bus count,
    where the consumer's queue is. Raises ConfigError for a mapping that cannot be right.
    """
    settings = config.settings
    if settings.mapper is not None:
        words = f"Write an item that `{settings.mapper}` makes an event of:"
        return Sample(_typed_text(_keyed(keys)), words + _about_keys(keys, keys_known))
    raising = [rule for rule in rules if not rule.skip]
    heard = [rule for rule in raising if rule.spec.get("bus") in {None, settings.bus_name}]
    guesses = [*_by_rules(heard, keys), *([] if by_rules else _by_preset(config, rules, keys))]
    names = {rule.name for rule in heard} if by_rules else None
    for item in guesses:
        if (detail_type := _becomes(config, item, keys, names)) is not None:
            words = f"Write an item that becomes the event `{detail_type}`, and receive it:"
            return Sample(_typed_text(item), words + _about_keys(keys, keys_known))
    if not heard:
        words = (
            f"The rules send to other buses than {settings.bus_name}, whose events alone reach the "
            "consumer's queue."
        )
        return Sample(None, words if raising else "No rule makes an event.", heard=False)
    rule = heard[0]
    pattern = "every change" if rule.when is None else f"`{text_of(rule.when.source)}`"
    return Sample(
        None,
        f"Make a change that the rule `{rule.name}` is for ({pattern}), and receive its event:",
    )


def _about_keys(keys: Sequence[Key], known: bool) -> str:
    if known:
        return ""
    names = " and ".join(f"`{key.name}`" for key in keys)
    return f"\n\n(Put the key of your table in the place of {names}.)"


def _keyed(keys: Sequence[Key]) -> Plain:
    return {key.name: _KEYS[key.type] for key in keys}


def _by_rules(rules: Sequence[Rule], keys: Sequence[Key]) -> Iterator[Plain]:
    for rule in rules:
        for branch in branches_of(rule) or ():
            for paths in ({*_holes(rule), *_read(rule)}, {*_holes(rule)}):
                item = _for_branch(branch, keys)
                if item is not None:
                    yield _filled(item, paths)


def _by_preset(config: Config, rules: Sequence[Rule], keys: Sequence[Key]) -> Iterator[Plain]:
    preset = config.settings.preset
    if preset == "outbox":
        yield _for_outbox(config, keys)
    elif preset == "single-table":
        yield _for_single_table(config, keys)
    elif preset is not None or not rules:
        yield _keyed(keys)


def _becomes(
    config: Config, item: Plain, keys: Sequence[Key], rules: Collection[str] | None
) -> str | None:
    """The detail type of the event that an INSERT of this item becomes on the run's own bus.

    `rules` are the names of those that count, None for all.
    """
    from ddbrelay.flow.mapping import Event, Several
    from ddbrelay.library import Mapper

    image = _typed(item)["M"]
    record = {
        "eventID": "1",
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": "1" * 21,
            "Keys": {key.name: image[key.name] for key in keys},
            "NewImage": image,
            "ApproximateCreationDateTime": 1_700_000_000,
        },
    }
    try:
        fate = Mapper(config).map(record)
    except (ConfigError, ValueError):
        # A key that is redacted, or a value that no record has.
        return None
    events = fate.events if isinstance(fate, Several) else (fate,)
    for event in events:
        if (
            isinstance(event, Event)
            and event.bus in {None, config.settings.bus_name}
            and (rules is None or event.rule in rules)
        ):
            return event.detail_type
    return None


def _for_branch(branch: Branch, keys: Sequence[Key]) -> Plain | None:
    item = _keyed(keys)
    for path, matchers in branch.items():
        top, *inner = path
        typed = top == "dynamodb" and len(path) > 3
        if typed and inner[0] in {"NewImage", "Keys"}:
            # A name and its type by turns.
            value, names = _value(matchers, path[-1]), path[2:-1:2]
        elif top in {"new", "keys"} and inner:
            value, names = _value(matchers), tuple(inner)
        else:
            continue
        if value is _NONE:
            return None
        if Exists(False) not in matchers:
            _put(item, names, value)
    return item


def _put(item: Plain, names: Sequence[str], value: Any) -> None:
    for name in names[:-1]:
        inner = item.setdefault(name, {})
        if not isinstance(inner, dict):
            return
        item = inner
    item[names[-1]] = value


def _filled(item: Plain, paths: Collection[tuple[str, ...]]) -> Plain:
    """With a text for each attribute that is read."""
    # The longest first: what is read as a whole too is a map then.
    for top, *names in sorted(paths, key=lambda path: (-len(path), path)):
        if top == "new" and names and not _has(item, names):
            _put(item, names, _MAIL if "mail" in names[-1].lower() else _TEXT)
    return item


def _has(item: Any, names: Sequence[str]) -> bool:
    for name in names:
        if not isinstance(item, dict) or name not in item:
            return False
        item = item[name]
    return True


def _holes(rule: Rule) -> Iterator[tuple[str, ...]]:
    """What the rule's templates read, and cannot do without."""
    for key in _TEMPLATES:
        value = rule.spec.get(key)
        if key != "detail" or not isinstance(value, str):
            yield from _paths(value)


def _read(rule: Rule) -> Iterator[tuple[str, ...]]:
    """What a detail in JMESPath reads."""
    detail = rule.spec.get("detail")
    if isinstance(detail, str):
        yield from _paths_of(jmespath.compile(detail).parsed)


def _paths(value: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(value, str):
        yield from (hole.path for hole in Template(value).holes if hole.path)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _paths(one)
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one)


def _paths_of(node: Any) -> Iterator[tuple[str, ...]]:
    if isinstance(node, Mapping):
        path = plain_path(node)
        if path is not None:
            yield path
        elif node["type"] != "or_expression":
            # What has a default can be missing.
            for child in node.get("children", ()):
                yield from _paths_of(child)


def _for_outbox(config: Config, keys: Sequence[Key]) -> Plain:
    names = config.mapping.outbox
    return _keyed(keys) | {
        names.get("event_type", "eventType"): "Tried",
        names.get("aggregate_id", "aggregateId"): "1",
        names.get("payload", "payload"): {"text": _TEXT},
    }


def _for_single_table(config: Config, keys: Sequence[Key]) -> Plain:
    options = config.mapping.single_table
    named = options.get("key")
    key = next((one for one in keys if one.name == named), keys[0])
    prefix = next(iter(options.get("entities") or {"EXAMPLE": ""}))
    return _keyed(keys) | {key.name: f"{prefix}{options.get('separator', '#')}1"}


def _value(matchers: Matchers, kind: str | None = None) -> Any:
    """A value that one of the matchers wants; of a typed number the text is given."""
    for matcher in matchers:
        value = _wanted(matcher)
        if value is not _NONE:
            return Decimal(value) if kind == "N" and isinstance(value, str) else value
    return _NONE


def _wanted(matcher: Matcher) -> Any:
    match matcher:
        case Exact(value):
            return Decimal(repr(value)) if isinstance(value, float) else value
        case Exists(wanted):
            return _TEXT if wanted else None
        case AnythingBut():
            return _TEXT
        case Numeric():
            return _between(matcher)
        case Affix(name, text):
            return f"{text}1" if name == "prefix" else f"1{text}"
        case AnyCase(text):
            return text
        case Wildcard(parts=parts):
            return "1".join(parts)
    return _NONE


def _between(matcher: Numeric) -> Decimal:
    low, high = matcher.low, matcher.high
    if low is not None and high is not None:
        return (low.number + high.number) / 2
    if low is not None:
        return low.number if low.closed else low.number + 1
    assert high is not None
    return high.number if high.closed else high.number - 1


def _typed(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"M": {name: _typed(one) for name, one in value.items()}}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int | Decimal):
        return {"N": format(value, "f") if isinstance(value, Decimal) else str(value)}
    if value is None:
        return {"NULL": True}
    # The only bytes are those of a key.
    return {"B": "MQ=="} if isinstance(value, bytes) else {"S": value}


def _typed_text(item: Plain) -> str:
    return json.dumps(_typed(item)["M"], ensure_ascii=False)
