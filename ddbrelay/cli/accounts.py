"""The ledger as a table, as lines and as JSON objects."""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.flow.tracking import Fate, Line
from ddbrelay.output import ledger as printed
from ddbrelay.output.outcome import Lost
from ddbrelay.output.words import gap_text
from ddbrelay.stores.ledger import EARLIER, ShardLedger
from ddbrelay.stores.parking import How
from ddbrelay.text import counted, printable, short_shard
from ddbrelay.values import iso_or_none

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.objects import Of

_MOST_SHARDS = 20
"""A terminal shows so many shards, and of more only those that something happened to."""
_MOST_RULES = 10
_INDENT = 12
_DAY = 24 * 3600.0
ALL_SHOWN = "--output lines shows all"
"""What to do where a terminal leaves something out."""


@dataclass
class _Counts:
    """What lines come to: how many records, from which to which, written when."""

    count: int = 0
    first: str | None = None
    last: str | None = None
    since: float | None = None
    until: float | None = None

    @classmethod
    def of(cls, lines: Iterable[Line]) -> _Counts:
        lines = list(lines)
        numbers = [n for line in lines for n in (line.first, line.last) if n]
        since = [line.since for line in lines if line.since is not None]
        until = [line.until for line in lines if line.until is not None]
        return cls(
            sum(line.count for line in lines),
            min(numbers, key=int, default=None),
            max(numbers, key=int, default=None),
            min(since, default=None),
            max(until, default=None),
        )

    def fields(self) -> dict[str, Any]:
        """The fields of `output.ledger.Counts`."""
        return {
            "count": self.count,
            "first": self.first,
            "last": self.last,
            "since": iso_or_none(self.since),
            "until": iso_or_none(self.until),
        }


def _lines(ledgers: Iterable[ShardLedger], *fates: Fate) -> list[Line]:
    return [x for ledger in ledgers for x in ledger.lines if x.fate in (fates or Fate)]


def _by_rule(ledgers: Iterable[ShardLedger]) -> dict[str, list[Line]]:
    """The skips of each rule, the most frequent first."""
    found: dict[str, list[Line]] = {}
    for line in _lines(ledgers, Fate.SKIPPED):
        found.setdefault(line.rule, []).append(line)
    return dict(sorted(found.items(), key=lambda rule: -sum(x.count for x in rule[1])))


def show(
    console: Console,
    of: Of,
    ledgers: Sequence[ShardLedger],
    earlier: Mapping[str, Sequence[ShardLedger]],
    resolved: Mapping[How, int],
) -> None:
    """The ledger of a consumer on a stream, the oldest shard first.

    Of the parked records so many were `resolved` since, on this stream.
    `earlier` has those of the earlier streams of the table by their ARN, of which only what they
    come to is shown, and what they lost.
    """
    if console.json:
        for ledger in ledgers:
            console.object(printed.Shard(ledger.shard_id, **_fates_of([ledger])))
        console.object(
            printed.LedgerSummary(
                of.consumer,
                of.table,
                of.stream_arn,
                sum(ledger.shard_id != EARLIER for ledger in ledgers),
                **_fates_of(ledgers),
                resolved=printed.Resolved.of(resolved),
                earlier_streams=[
                    printed.EarlierStream(arn, **_fates_of(before))
                    for arn, before in earlier.items()
                ],
            )
        )
        return
    head(console, of)
    if ledgers:
        _show_table(console, ledgers)
        if words := resolved_words(resolved):
            parked = _Counts.of(_lines(ledgers, Fate.PARKED)).count
            item(console, "parked", f"{counted(parked, 'record')}, of which {words} since")
        _show_details(console, ledgers)
    else:
        console.words("nothing is in the ledger yet")
    for arn, found in earlier.items():
        counts = ", ".join(
            f"{fate.value} {_Counts.of(_lines(found, fate)).count:,}" for fate in Fate
        )
        item(console, "earlier", f"stream {arn.rpartition('/')[2]}: {counts}")
        _show_gaps(console, found)


def _show_details(console: Console, ledgers: Sequence[ShardLedger]) -> None:
    """Under the table: what was skipped by which rule, and what was lost."""
    rich, rules = console.output == "rich", _by_rule(ledgers)
    if rich and (rules or any(ledger.gaps for ledger in ledgers)):
        console.data("")
    most = _MOST_RULES if rich else len(rules)
    for rule, lines in list(rules.items())[:most]:
        many = _Counts.of(lines).count
        item(console, "skipped", f"{many:,}  {printable(rule) or 'no reason given'}", "yellow")
    if len(rules) > most:
        item(console, "", f"{counted(len(rules) - most, 'more rule')}; {ALL_SHOWN}", "dim")
    _show_gaps(console, ledgers)


def _show_gaps(console: Console, ledgers: Iterable[ShardLedger]) -> None:
    for gap in (gap for ledger in ledgers for gap in ledger.gaps):
        if console.output == "rich":
            gap = replace(
                gap,
                shard_id=short_shard(gap.shard_id),
                after=_tail(gap.after) or None,
                before=_tail(gap.before) or None,
            )
        item(console, "lost", printable(gap_text(gap)), "red")


def _fates_of(ledgers: Iterable[ShardLedger]) -> dict[str, Any]:
    """The fields in which a `Shard`, the summary and an `EarlierStream` say what became of it."""
    ledgers = list(ledgers)
    return {
        "published": printed.Counts(**_Counts.of(_lines(ledgers, Fate.PUBLISHED)).fields()),
        "skipped": [
            printed.Skips(rule, **_Counts.of(lines).fields())
            for rule, lines in _by_rule(ledgers).items()
        ],
        "parked": printed.Counts(**_Counts.of(_lines(ledgers, Fate.PARKED)).fields()),
        "lost": [Lost.of(gap) for ledger in ledgers for gap in ledger.gaps],
    }


def resolved_words(resolved: Mapping[How, int]) -> str:
    """How many parked records were redriven, skipped and dropped since; empty where none was."""
    return ", ".join(f"{count:,} {how.value}" for how, count in resolved.items() if count)


def head(console: Console, of: Of) -> None:
    """The lines that say whose ledger it is."""
    item(console, "consumer", printable(of.consumer))
    item(console, "table", f"{of.table}, stream {of.stream_arn.rpartition('/')[2]}")


def item(console: Console, label: str, text: str, colour: str | None = None) -> None:
    """A label and its text, which a terminal breaks inside its width."""
    lines = [text]
    if console.output == "rich":
        room = shutil.get_terminal_size().columns - _INDENT
        lines = textwrap.wrap(text, max(room, 20), break_on_hyphens=False) or [""]
    for number, line in enumerate(lines):
        label = "" if number else label
        console.data(f"{label:<{_INDENT}}" + styled(console, line, colour))


def styled(console: Console, text: str, colour: str | None) -> str:
    """The text in a colour, or dim, where the terminal may have it."""
    if not console.colour or colour is None:
        return text
    return click.style(text, dim=True) if colour == "dim" else click.style(text, fg=colour)


# The table


def _show_table(console: Console, ledgers: Sequence[ShardLedger]) -> None:
    rich = console.output == "rich"
    shown = [
        ledger
        for ledger in ledgers
        if not rich
        or len(ledgers) <= _MOST_SHARDS
        or ledger.gaps
        or any(line.fate is Fate.PARKED for line in ledger.lines)
    ]
    rows = [(name_of(one.shard_id), [one]) for one in shown]
    if len(ledgers) > 1:
        rows.append(("total", list(ledgers)))
    if rich:
        console.data("")
    for layout in _LAYOUTS if rich else (_WHOLE,):
        table = [layout.headings, *(layout.cells(name, part) for name, part in rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        if not rich or sum(widths) + 2 * len(widths) - 2 <= shutil.get_terminal_size().columns:
            break
    for number, cells in enumerate(table):
        _row(console, cells, widths, heading=number == 0)
    if len(shown) < len(ledgers):
        left = counted(len(ledgers) - len(shown), "more shard")
        console.data(styled(console, f"{left} with nothing parked or lost; {ALL_SHOWN}", "dim"))


def _row(console: Console, cells: Sequence[str], widths: Sequence[int], *, heading: bool) -> None:
    texts = []
    for place, (cell, wide) in enumerate(zip(cells, widths, strict=True)):
        text = f"{cell:>{wide}}" if 1 <= place <= 4 else f"{cell:<{wide}}"
        if place == len(cells) - 1:
            text = text.rstrip()
        colour = "dim" if heading or place > 4 else None
        if place in (3, 4) and not heading and cell != "0":
            colour = "red"
        texts.append(styled(console, text, colour))
    console.data("  ".join(texts))


def name_of(shard_id: str) -> str:
    """What a row calls the shard, or those that are long gone."""
    return "earlier" if shard_id == EARLIER else shard_id


@dataclass(frozen=True)
class _Layout:
    """How much of a row is shown: all of it, or what fits a terminal."""

    whole: bool = False
    short_names: bool = False
    numbers: bool = True

    @property
    def headings(self) -> list[str]:
        always = ["shard", "published", "skipped", "parked", "lost"]
        if self.whole:
            return [*always, "first", "last", "since", "until"]
        return [*always, *(["records"] if self.numbers else []), "written"]

    def cells(self, name: str, ledgers: Sequence[ShardLedger]) -> list[str]:
        """A row for some shards together."""
        gaps = sum(len(ledger.gaps) for ledger in ledgers)
        found = _Counts.of(_lines(ledgers))
        shard = short_shard(name) if self.short_names and name.startswith("shard") else name
        cells = [
            printable(shard),
            *(f"{_Counts.of(_lines(ledgers, fate)).count:,}" for fate in Fate),
            counted(gaps, "gap") if gaps and not self.whole else str(gaps),
        ]
        if self.whole:
            ends = (found.first, found.last, iso_or_none(found.since), iso_or_none(found.until))
            return [*cells, *(end or "–" for end in ends)]
        if self.numbers:
            alone = len(ledgers) == 1 and found.first is not None
            cells.append(f"{_tail(found.first)}–{_tail(found.last)}" if alone else "")
        return [*cells, _written(found.since, found.until) or "–"]


_WHOLE = _Layout(whole=True)
_LAYOUTS = (_Layout(), _Layout(short_names=True), _Layout(short_names=True, numbers=False))


def _tail(number: str | None) -> str:
    """The end of a sequence number, which is what differs."""
    return "" if number is None else f"…{number[-5:]}" if len(number) > 6 else number


def _written(since: float | None, until: float | None) -> str:
    """`11-23 10:31–14:02` or `11-23–11-25`, in the user's own time as the live view has it."""
    if since is None or until is None:
        return ""
    begin = time.strftime("%m-%d %H:%M", time.localtime(since))
    end = time.strftime("%m-%d %H:%M", time.localtime(until))
    if begin == end:
        return begin
    # Over several days the hours are of no use, and of no room in 80 columns.
    return f"{begin}–{end[6:]}" if until - since < _DAY else f"{begin[:5]}–{end[:5]}"
