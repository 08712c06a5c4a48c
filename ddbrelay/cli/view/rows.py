"""The rows of the live view: what became of one change, on a line or two."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from ddbrelay.cli.console import terminal
from ddbrelay.cli.view.detail import INDENT, changed_lines, detail_lines
from ddbrelay.cli.view.types import type_style
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.tracking import Fate
from ddbrelay.output.event import EventEntry
from ddbrelay.output.words import headline, key_text, telling
from ddbrelay.relay import Outcome
from ddbrelay.secrecy import hidden
from ddbrelay.text import printable
from ddbrelay.times import duration

OLD = 5.0
"""Seconds from which an age is worth a place in a narrow terminal."""
_STYLES = {Fate.PUBLISHED: "green", Fate.SKIPPED: "yellow", Fate.PARKED: "red", None: ""}
_MARKS = {Fate.PUBLISHED: "✔", Fate.SKIPPED: "–", Fate.PARKED: "✖", None: "·"}
_KEY, _TYPE, _WORDS, _ID, _AGE = 15, 18, 24, 9, 10
_REASON_LINES = 3
_ALL_COLUMNS = 100
"""Cells from which a row has everything; below that the bus's event id goes first."""


class Shown(msgspec.Struct, frozen=True):
    """What a row needs of an outcome.

    An outcome itself would keep the whole page of its record in memory until its row is drawn, and
    a relay whose pages are not freed at once is slower.
    """

    fate: Fate | None
    event_name: str
    time: float | None
    key: str
    telling: str
    event: Event | None
    event_id: str | None
    reason: str | None
    diff: dict[str, dict[str, Any]] | None

    @classmethod
    def of(cls, outcome: Outcome, *, detail: bool = False) -> Shown:
        """`detail` says that what an update changed is shown too.

        A row is cut to its width, and half a credential would not be found in it any more.
        """
        change, fate = outcome.change, outcome.fate
        told = bool(outcome.reason) and fate in {Fate.SKIPPED, Fate.PARKED}
        return cls(
            fate,
            change.event_name,
            change.time,
            hidden(key_text(change)),
            hidden(telling(outcome)),
            outcome.event,
            outcome.event_id,
            headline(hidden(outcome.reason or "")) if told else None,
            _diff(change) if detail and change.event_name == "MODIFY" else None,
        )


def row(outcome: Outcome, width: int, age: float | None = None) -> Text:
    """The cells that fit; `age` is how old the change was, in seconds, when its fate was known.

    The reason of a skip or of parking stands in full, however wide that is.
    """
    return _row(Shown.of(outcome), width, age)


def row_lines(shown: Shown, width: int, age: float | None = None) -> list[Text]:
    """The row of an outcome within the width, and below it the reason why it was parked.

    That is where the row has no room for it.
    """
    text = _row(shown, width, age)
    lines = [text]
    if shown.fate is Fate.PARKED and text.cell_len > width and shown.reason:
        text = _cells(shown, width, alone=True).append("✖ parked", style="red")
        _append_age(text, width, age)
        lines = [text, *_indented(shown.reason, width)]
    text.no_wrap, text.overflow = True, "ellipsis"
    text.truncate(width, overflow="ellipsis")
    return lines


def below(shown: Shown, width: int) -> list[Text]:
    """What --detail shows below a row: what an update changed, and the event as it is sent."""
    lines = changed_lines(shown.diff, width) if shown.diff else []
    if shown.event is not None:
        lines += detail_lines(EventEntry.of(shown.event).as_object(), width)
    return lines


def age_of(time: float | None, at: float) -> float | None:
    """How old a change of this time was at that moment; None where its time is not known."""
    return None if time is None else max(0.0, at - time)


def _row(shown: Shown, width: int, age: float | None) -> Text:
    fate, text = shown.fate, _cells(shown, width)
    if shown.reason is not None and fate is not None:
        text.append(f"{_MARKS[fate]} {fate.value}: {shown.reason}", style=_STYLES[fate])
        return _append_age(text, width, age)
    text.append(f"{fit(shown.telling, _words(width))}  ", style="dim")
    text.append(_MARKS[fate], style=_STYLES[fate])
    aged = age is not None and (width >= _ALL_COLUMNS or age >= OLD)
    if shown.event_id and (width >= _ALL_COLUMNS or (width >= 90 and not aged)):
        text.append(f" {shown.event_id[:8]}", style="dim")
    return _append_age(text, width, age)


def _append_age(text: Text, width: int, age: float | None) -> Text:
    """In the same column of every row that has room for it."""
    if age is None or (width < _ALL_COLUMNS and age < OLD):
        return text
    at = min(width - _AGE, _cells_before_age(width))
    if text.cell_len <= at:
        text.append(f"{' ' * (at - text.cell_len)}{duration(age):>{_AGE}}", style=_age_style(age))
    return text


def _cells_before_age(width: int) -> int:
    return _cells_before_words(width) + _words(width) + 3 + (_ID if width >= _ALL_COLUMNS else 0)


def _words(width: int) -> int:
    """Cells for what tells most of a change."""
    behind = 3 + (_ID if width >= _ALL_COLUMNS else 0) + _AGE
    return max(0, min(width - _cells_before_words(width) - behind, _WORDS))


def _cells_before_words(width: int) -> int:
    return 18 + sum(_key_and_type(width)) + 4


def _diff(change: Change) -> dict[str, dict[str, Any]] | None:
    try:
        return change.diff
    except UndecodableError:
        return None


def _cells(shown: Shown, width: int, *, alone: bool = False) -> Text:
    """Time, kind of change, key and event type; the last two are wider in a wide terminal.

    `alone` says that no reason follows.
    """
    key, kind = _key_and_type(width)
    clock = time.strftime("%H:%M:%S", time.localtime(shown.time)) if shown.time else "--:--:--"
    text = Text(no_wrap=True, overflow="ellipsis").append(clock, style="dim")
    text.append(f"  {shown.event_name:<6}  ")
    text.append(f"{fit(shown.key, key)}  ", style="dim")
    if (event := shown.event) is not None:
        text.append(fit(printable(event.detail_type), kind), style=type_style(event.detail_type))
        return text.append("  ")
    reason = "" if alone else shown.reason or ""
    # A column that has nothing to say leaves its room to a reason that needs it.
    tight = text.cell_len + kind + 2 + cell_len(reason) + 11 > width
    return text.append("–  " if tight else f"{fit('–', kind)}  ")


def _key_and_type(width: int) -> tuple[int, int]:
    """Cells of the two columns."""
    spare = max(0, min(width - _ALL_COLUMNS, 40))
    missing = max(0, min(72 - width, 18))
    return _KEY + spare // 2 - missing // 2, _TYPE + min(spare // 4, 10) - (missing + 1) // 2


def _indented(reason: str, width: int) -> list[Text]:
    found = Text(reason, style="red").wrap(_wrapping(), max(width - INDENT, 10))
    lines = list(found[:_REASON_LINES])
    if len(found) > _REASON_LINES:
        lines[-1] = Text(f"{lines[-1].plain} …", style="red")
        lines[-1].truncate(max(width - INDENT, 10), overflow="ellipsis")
    return [Text(" " * INDENT, no_wrap=True).append_text(line) for line in lines]


@cache
def _wrapping() -> Console:
    """Nothing is printed here; rich asks it how texts are wrapped."""
    return terminal(force_terminal=False)


def _age_style(age: float) -> str:
    return "dim" if age < 60 else "yellow"


def fit(text: str, width: int) -> str:
    """Exactly so many cells, of which a Chinese character takes two."""
    if cell_len(text) <= width or width == 0:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
