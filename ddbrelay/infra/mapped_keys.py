"""Which attributes of a table's key a mapping reads, and whether the table's key has them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jmespath

from ddbrelay.flow.mapping.templates import Template

if TYPE_CHECKING:
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule
    from ddbrelay.infra.plan import Key

_TEMPLATES = ("source", "detail_type", "resources", "trace_header", "detail")
_OWN_SCOPE = {"subexpression", "index_expression", "pipe"} | {
    *("projection", "value_projection", "filter_projection"),
}


def key_note(
    config: Config, rules: Sequence[Rule], keys: Sequence[Key], *, new: bool = True
) -> str | None:
    """One line about key attributes that the mapping reads and a table with `keys` has not.

    A `new` table may get other keys, so the flags for them are named.
    """
    options = config.mapping.single_table
    has = [key.name for key in keys]
    read = list(dict.fromkeys(_read(rules)))
    by_rules = [name for name in read if name not in has]
    by_preset = [
        name
        for name in (options.get("key"),)
        if config.settings.preset == "single-table" and isinstance(name, str) and name not in has
    ]
    readers = [("rules read", by_rules), ("the preset single-table reads", by_preset)]
    said = [
        f"{reader} {' and '.join(f'keys.{name}' for name in names)}"
        for reader, names in readers
        if names
    ]
    if not said:
        return None
    flags = ["--sort-key"] if has[0] in read else ["--key", "--sort-key"]
    missing = list(dict.fromkeys([*by_rules, *by_preset]))
    advice = " ".join(f"{flag} {name}:S" for flag, name in zip(flags, missing, strict=False))
    if len(missing) > len(flags):
        advice = ", ".join(flags)
    note = f"{', and '.join(said)}, the table's key is {' + '.join(has)}"
    return f"{note} ({advice})" if new else note


def _read(rules: Iterable[Rule]) -> Iterator[str]:
    for rule in rules:
        if rule.when is not None:
            yield from _of_pattern(rule.when.source, ("dynamodb", "Keys"), ("keys",))
        spec = rule.spec
        for key in ("detail", "time"):
            if isinstance(spec.get(key), str):
                yield from _of_expression(spec[key])
        for key in _TEMPLATES:
            if key != "detail" or not isinstance(spec.get(key), str):
                yield from _of_templates(spec.get(key))


def _of_pattern(pattern: Mapping[str, Any], *places: tuple[str, ...]) -> Iterator[str]:
    for name, value in pattern.items():
        if name == "$or" and isinstance(value, list):
            for one in value:
                if isinstance(one, Mapping):
                    yield from _of_pattern(one, *places)
        elif isinstance(value, Mapping):
            inner = [place[1:] for place in places if place[0] == name]
            if () in inner:
                yield from (key for key in value if key != "$or")
            elif inner:
                yield from _of_pattern(value, *inner)


def _of_templates(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        for hole in Template(value).holes:
            yield from _of_expression(hole.text)
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _of_templates(one)
    elif isinstance(value, list):
        for one in value:
            yield from _of_templates(one)


def _of_expression(text: str) -> Iterator[str]:
    yield from _of_node(jmespath.compile(text).parsed)


def _of_node(node: Any) -> Iterator[str]:
    if not isinstance(node, Mapping):
        return
    kind, children = node["type"], node.get("children", ())
    if kind == "subexpression":
        whole, part, *_ = children
        if (whole["type"], whole.get("value"), part["type"]) == ("field", "keys", "field"):
            yield part["value"]
    # What stands behind a dot, an index or a pipe is of another value than the change.
    for child in children[:1] if kind in _OWN_SCOPE else children:
        yield from _of_node(child)
