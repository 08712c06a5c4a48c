"""The table that sums a run up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.cells import cell_len
from rich.text import Text

from ddbrelay.cli.view.counts import FATES, Counts
from ddbrelay.cli.view.rows import fit
from ddbrelay.cli.view.types import type_style
from ddbrelay.flow.tracking import Fate
from ddbrelay.text import counted, printable

_SHOWN_TYPES = 12
_WIDEST = 40
_NO_EVENT = "no event"
_HEADS = {
    Fate.PUBLISHED: "published",
    None: "seen",
    Fate.SKIPPED: "skipped",
    Fate.PARKED: "parked",
}


def summary_table(counts: Counts, width: int, *, preview: bool) -> Text | None:
    """A line for each event type, the most frequent first, and one for all of them.

    None where nothing happened. `preview` is a run that sends nothing.
    """
    if not counts.types and not counts.lost:
        return None
    fates = [None if preview else Fate.PUBLISHED, Fate.SKIPPED, Fate.PARKED]
    rows, everything = _rows(counts), _sum(counts.types.values())
    # Nobody knows of which types the lost ones would have been.
    if len(rows) != 1 or counts.lost:
        rows.append(("all", everything, "bold"))
    heads = [*(_HEADS[fate] for fate in fates), "gaps" if counts.lost else "lost"]
    most = [*(f"{everything[fate]:,}" for fate in fates), f"{counts.lost:,}"]
    wide = [max(len(head), len(number)) for head, number in zip(heads, most, strict=True)]
    room = max(width - sum(wide) - 3 * len(wide), 8)
    column = min(max(cell_len(name) for name, _, _ in rows), room, _WIDEST)
    text = Text(" " * column, no_wrap=True, overflow="ellipsis")
    for head, cells in zip(heads, wide, strict=True):
        text.append(f"   {head:>{cells}}", style="dim")
    for name, numbers, style in rows:
        text.append("\n").append(fit(name, column), style=style)
        for fate, cells in zip(fates, wide, strict=False):
            alarm = "red" if fate is Fate.PARKED else ""
            text.append_text(_number(numbers[fate], cells, alarm))
    return text.append_text(_number(counts.lost, wide[-1], "red"))


def rows_shown(shown: int, of: int) -> Text:
    """What is said where too many came to show them all."""
    return Text(f"{shown:,} of {of:,} rows were shown; --output lines has all", style="dim")


def _rows(counts: Counts) -> list[tuple[str, Mapping[Fate | None, int], str]]:
    """Name, numbers and style of each line but the last."""
    named = sorted(
        ((name, numbers) for name, numbers in counts.types.items() if name is not None),
        key=lambda one: (-sum(one[1].values()), one[0]),
    )
    rows: list[tuple[str, Mapping[Fate | None, int], str]] = [
        (printable(name), numbers, type_style(name)) for name, numbers in named[:_SHOWN_TYPES]
    ]
    if rest := [numbers for _, numbers in named[_SHOWN_TYPES:]]:
        rows.append((counted(len(rest), "more type"), _sum(rest), "dim"))
    if None in counts.types:
        rows.append((_NO_EVENT, counts.types[None], "dim"))
    return rows


def _number(number: int, cells: int, alarm: str) -> Text:
    return Text(f"   {number:>{cells},}", style=alarm if number else "dim")


def _sum(parts: Iterable[Mapping[Fate | None, int]]) -> dict[Fate | None, int]:
    total = dict.fromkeys(FATES, 0)
    for counts in parts:
        for fate, number in counts.items():
            total[fate] += number
    return total
