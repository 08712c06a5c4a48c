"""`ddbrelay rules`: the rules in the order tried, and what came of each so far."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.text import printable

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.config import Config
    from ddbrelay.flow.mapping.rules import Rule
    from ddbrelay.output import rules as printed

_FATES = ("published", "skipped", "parked")
_HEADINGS = ("rule", "matches", "makes", "flags", *_FATES)
_FLAGS_AT = _HEADINGS.index("flags")
_NUMBERS_AT = len(_HEADINGS) - len(_FATES)
_ROOM_FOR_FLAGS = 100
"""Columns of a terminal that shows the flags even where something else is cut."""
_NARROWEST = 8
_CRUD = {
    "created": ("INSERT", "Created"),
    "updated": ("MODIFY", "Updated"),
    "deleted": ("REMOVE", "Deleted"),
    "expired": ("REMOVE by TTL", "Expired"),
}
"""The rules of the default mapping: what they match, and the end of the detail type they make."""
_NO_RULE, _UNNAMED = "no rule", ""
"""The names under which what no rule matches is skipped, and under which it is parked."""
_OTHERS = {
    "outbox": "INSERT",
    "own": "every change, by the function of your own",
    "(others)": "rules beyond the first hundreds",
}
_REST = {
    _NO_RULE: ("everything else", "skipped"),
    _UNNAMED: ("everything else", "parked"),
    "no entity": ("everything else: a key without a known prefix", "skipped"),
    "only inserts count": ("everything else: MODIFY, REMOVE", "skipped"),
}
"""What becomes of the changes that nothing before it matches, by the name that counts them."""
_GONE = "no longer in the mapping"


@dataclass(frozen=True)
class _Row:
    """One rule; `spec` is what the file says of it, None where it is not of the file."""

    name: str
    matches: str
    makes: str
    flags: tuple[str, ...] = ()
    hits: Mapping[str, int] = field(default_factory=dict)
    spec: Mapping[str, Any] | None = None
    place: str | None = None
    rest: bool = False
    """The last one, for everything that none before it matches."""


@click.command("rules", cls=Command)
@setting_options("entity", "source", "preset", "mapper", "consumer", "state")
@pass_run
def command(run: Run) -> None:
    """List the rules in the order in which they are tried, and the hits of each so far.

    Hits are the records that the consumer published, skipped or parked by the rule, as its ledger
    has them; a rule without any is dim. The last row says what becomes of everything else: once
    there is a rule, no default event is made any more, unless a preset makes it.

    \b
    Examples:
      ddbrelay rules
      ddbrelay rules --consumer audit --output json
    """
    from ddbrelay.cli.in_force import check_table

    check_table(run, writes=False)
    hits, tables = _hits(run)
    table = run.settings.table or (tables[0] if len(tables) == 1 else run.require("table"))
    rows = list(_rows(run.config, table, hits))
    console = run.console
    if console.json:
        for row in rows:
            console.object(_object(row))
        return
    _show(console, rows)
    records = sum(number for counts in hits.values() for number in counts.values())
    if not records:
        console.words(f'consumer "{printable(run.settings.consumer)}" has no hits yet')
    if names := run.settings.redact:
        console.words(f"redact hides {printable(', '.join(names))} from every rule")
    if names or any("redact" in (row.spec or {}) for row in rows):
        # A ledger counts records, and knows no attributes.
        console.words("map FILE and doctor say which names of redact no change has")
    run.next_step("map FILE --explain")


def _hits(run: Run) -> tuple[dict[str, Counter[str]], list[str]]:
    """By the name of the rule how many records had which fate, and the tables that they are of.

    All streams of a table count. Nothing is made where there is no state file.
    """
    from ddbrelay.flow.mapping.events import JOINT
    from ddbrelay.flow.tracking import Fate
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.ledger import consumers, of_consumer
    from ddbrelay.stores.streams import Tables

    settings = run.settings
    hits: dict[str, Counter[str]] = {}
    if not settings.state_file.exists():
        return hits, []
    with closing(Database(settings.state_file, reading=True)) as database:
        known = Tables(database)
        kept = [
            one
            for one in consumers(database)
            if one.name == settings.consumer
            and settings.table in {None, known.name(one.stream_arn)}
        ]
        tables = sorted({known.name(one.stream_arn) for one in kept})
        for one in kept if len(tables) == 1 else ():
            for ledger in of_consumer(database, one.name, one.stream_arn).values():
                for line in ledger.lines:
                    # A record of several rules is a hit of each; the reason of a skip is one name.
                    skipped = line.fate is Fate.SKIPPED
                    for name in [line.rule] if skipped else line.rule.split(JOINT):
                        hits.setdefault(name, Counter())[line.fate.value] += line.count
    return hits, tables


def _rows(config: Config, table: str, hits: Mapping[str, Counter[str]]) -> Iterator[_Row]:
    from ddbrelay.flow.mapping import entity_of
    from ddbrelay.mappings import check_mapping, rules_of

    settings = config.settings
    entity = settings.entity or entity_of(table)
    # Also where there are no rules: mistakes in the mapping are not to be listed over.
    check_mapping(config, table)
    rules = rules_of(config, table)
    for rule in rules:
        yield _row(rule, entity, hits.get(rule.name, {}))
    listed = {rule.name for rule in rules}
    preset = settings.preset or ("crud" if not rules else None)
    ours = _of_mapping("own" if settings.mapper is not None else preset, strict=settings.strict)
    for name in [*sorted(hits.keys() - {*ours, *listed}), *ours]:
        if name in listed and name != ours[-1]:
            continue
        matches, makes = _OTHERS.get(name, _GONE), ""
        if name == ours[-1]:
            matches, makes = _REST[name]
        elif name in _CRUD and name in ours:
            matches, verb = _CRUD[name]
            makes = f"<Entity>{verb}" if preset == "single-table" else f"{entity}{verb}"
        # The hits of a rule that has the same name are listed with the rule.
        yield _Row(
            name,
            matches,
            makes,
            ("skip",) if makes == "skipped" else (),
            hits={} if name in listed else hits.get(name, {}),
            rest=name == ours[-1],
        )


def _of_mapping(preset: str | None, *, strict: bool) -> list[str]:
    """The names under which a mapping counts besides its rules; the last one has the rest."""
    return {
        "crud": [*_CRUD, _UNNAMED],
        "single-table": [*_CRUD, "no entity"],
        "outbox": ["outbox", "only inserts count"],
        "own": ["own", _UNNAMED],
        None: [_UNNAMED if strict else _NO_RULE],
    }[preset]


def _row(rule: Rule, entity: str, hits: Mapping[str, int]) -> _Row:
    spec = rule.spec
    flags = [
        *(["continue"] if rule.goes_on else []),
        *(["skip"] if rule.skip else []),
        *(f"{name} {spec[name]}" for name in ("schema", "bus") if name in spec),
        *(f"redact {name}" for name in spec.get("redact", ())),
    ]
    makes = "skipped" if rule.skip else str(spec.get("detail_type") or f"{entity}Created …")
    return _Row(
        rule.name,
        "every change" if rule.when is None else in_short(rule.when.source),
        makes,
        tuple(flags),
        hits,
        spec,
        rule.place or None,
    )


def in_short(pattern: Mapping[str, Any]) -> str:
    """A pattern in a few words: `MODIFY, changed email, new.type prefix order#`."""
    return ", ".join(_conditions(pattern, ()))


def _conditions(pattern: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    for name, wanted in pattern.items():
        if name == "$or" and isinstance(wanted, list):
            alternatives = (" and ".join(_conditions(one, path)) for one in wanted)
            yield f"({' or '.join(alternatives)})"
        elif isinstance(wanted, Mapping):
            yield from _conditions(wanted, (*path, name))
        else:
            values = "|".join(_value(one) for one in wanted)
            where = ".".join((*path, name))
            yield values if where == "eventName" else f"{where} {values}"


def _value(wanted: Any) -> str:
    if isinstance(wanted, Mapping):
        return " ".join(f"{name} {_value(inner)}" for name, inner in wanted.items())
    if isinstance(wanted, list):
        return " ".join(_value(one) for one in wanted)
    if isinstance(wanted, bool) or wanted is None:
        return "null" if wanted is None else str(wanted).lower()
    return str(wanted) or '""'


# What is printed


def _object(row: _Row) -> printed.Rule:
    from ddbrelay.output import rules as printed

    spec = row.spec or {}
    return printed.Rule(
        name=row.name,
        in_file=row.spec is not None,
        place=row.place,
        when=spec.get("when"),
        source=spec.get("source"),
        detail_type=spec.get("detail_type"),
        skip="skip" in row.flags,
        goes_on="continue" in row.flags,
        schema=spec.get("schema"),
        bus=spec.get("bus"),
        rest=row.rest,
        **{fate: row.hits.get(fate, 0) for fate in _FATES},
    )


def _show(console: Console, rows: Sequence[_Row]) -> None:
    from ddbrelay.cli.accounts import styled

    table = [_HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    if console.output == "rich":
        _narrow(widths, shutil.get_terminal_size().columns)
    for row, cells in zip([None, *rows], table, strict=True):
        texts = [_cell(cell, place, widths[place]) for place, cell in enumerate(cells)]
        dim = row is None or not any(row.hits.values())
        if row is not None and row.hits.get("parked"):
            texts[-1] = styled(console, texts[-1], "red")
        line = "  ".join(text for text, wide in zip(texts, widths, strict=True) if wide)
        console.data(styled(console, line, "dim" if dim else None))


def _narrow(widths: list[int], columns: int) -> None:
    """Make the columns fit: the flags go first, then the widest text is cut."""

    def over() -> int:
        shown = [wide for wide in widths if wide]
        return sum(shown) + 2 * (len(shown) - 1) - columns

    if over() > 0 and columns < _ROOM_FOR_FLAGS:
        widths[_FLAGS_AT] = 0
    while over() > 0:
        widest = max(range(_NUMBERS_AT), key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            return
        widths[widest] -= 1


def _cell(text: str, place: int, wide: int) -> str:
    if place >= _NUMBERS_AT:
        return f"{text:>{wide}}"
    return f"{text:<{wide}}" if len(text) <= wide else f"{text[: wide - 1]}…"


def _cells(row: _Row) -> tuple[str, ...]:
    words = (row.name or "–", row.matches, row.makes or "–", ", ".join(row.flags) or "–")
    numbers = (f"{row.hits.get(fate, 0):,}" for fate in _FATES)
    return (*(printable(word) for word in words), *numbers)
