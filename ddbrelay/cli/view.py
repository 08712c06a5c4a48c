"""The live view: one row for each event, the newest at the bottom, status lines that stay."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ddbrelay.cli.render import gap_text, key_text, telling
from ddbrelay.cli.text import printable
from ddbrelay.flow.capture import Gap
from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome

if TYPE_CHECKING:
    from ddbrelay.relay import Relay

REFRESH = 0.1
"""Seconds between two drawings."""
_ROWS_A_REFRESH = 40
_SPARKS = "▁▂▃▄▅▆▇█"
_STYLES = {Fate.PUBLISHED: "green", Fate.SKIPPED: "yellow", Fate.PARKED: "red", None: ""}
_MARKS = {Fate.PUBLISHED: "✔", Fate.SKIPPED: "–", Fate.PARKED: "✖", None: "·"}


class LiveView:
    """A context manager; `draw` is to be called every REFRESH seconds."""

    def __init__(self, header: Text) -> None:
        self._console = RichConsole(highlight=False, soft_wrap=False)
        self._header = header
        self._rows: list[Text] = []
        self._notes: list[Text] = []
        self._hidden = 0
        self._rates: deque[int] = deque(maxlen=10)
        self._began = self._counted_at = time.monotonic()
        self._counted = 0
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveView:
        self._console.print(self._header, overflow="ellipsis", no_wrap=True)
        self._console.print()
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def outcome(self, outcome: Outcome) -> None:
        """Remember a row until the next drawing."""
        if len(self._rows) < _ROWS_A_REFRESH:
            self._rows.append(row(outcome, self._console.width))
        else:
            self._hidden += 1

    def gap(self, gap: Gap) -> None:
        """A line of its own, that is never left out."""
        self._notes.append(Text(f"✖ lost  {gap_text(gap)}", style="red"))

    def trouble(self, message: str) -> None:
        """A line of its own, that is never left out."""
        self._notes.append(Text(printable(message), style="yellow"))

    def draw(self, relay: Relay, *, last: bool = False) -> None:
        """Print the rows that came and redraw the status lines; the last ones sum the run up."""
        rows, self._rows = self._rows, []
        if self._hidden:
            more = f"  … {self._hidden:,} more, too fast to show; --output lines has them all"
            rows.append(Text(more, style="dim"))
            self._hidden = 0
        if rows:
            self._console.print(Group(*rows), overflow="ellipsis", no_wrap=True, crop=True)
        notes, self._notes = self._notes, []
        for note in notes:
            self._console.print(note)
        self._live.update(self._status(relay, last), refresh=True)

    def _status(self, relay: Relay, last: bool) -> Text:
        tally = relay.tally
        rate = self._rate(relay.read, last)
        peak = max(self._rates, default=0) or 1
        sparks = "".join(_SPARKS[one * (len(_SPARKS) - 1) // peak] for one in self._rates)
        parked, lost = tally[Fate.PARKED], len(tally.gaps)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"\n{sparks:<10}", style="dim")
        what, number = "published", tally[Fate.PUBLISHED]
        if relay.preview:
            what, number = "seen", tally.previewed
        text.append(f"  {rate:,}/s   {what} {number:,}   ")
        text.append(f"skipped {tally[Fate.SKIPPED]:,}   ")
        text.append(f"parked {parked:,}", style="red" if parked else "")
        text.append("   ")
        text.append(f"lost {lost:,}", style="red" if lost else "")
        shards = f"{relay.shards} shard{'' if relay.shards == 1 else 's'}"
        text.append(
            f"\nin flight {relay.in_flight}   lag {duration(relay.lag)}   {shards}", style="dim"
        )
        return text

    def _rate(self, read: int, last: bool) -> int:
        """Records a second, measured once a second; at first and at last since the start."""
        now = time.monotonic()
        elapsed = now - self._counted_at
        if elapsed >= 1.0:
            self._rates.append(round((read - self._counted) / elapsed))
            self._counted, self._counted_at = read, now
        if last or not self._rates:
            return round(read / max(now - self._began, 0.1))
        return self._rates[-1]


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `3 m 20 s`, `2 h 5 m`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} m {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} m"


def row(outcome: Outcome, width: int) -> Text:
    """The cells that fit; the bus's event id goes first, then the words about the change."""
    change, fate = outcome.change, outcome.fate
    style = _STYLES[fate]
    clock = time.strftime("%H:%M:%S", time.localtime(change.time)) if change.time else "--:--:--"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(clock, style="dim")
    text.append(f"  {change.event_name:<6}  ")
    wide = 15 + max(0, min(width - 100, 24))
    text.append(f"{_fit(key_text(change), wide)}  ", style="dim")
    text.append(f"{_fit(printable(outcome.event.detail_type) if outcome.event else '–', 18)}  ")
    reason = outcome.reason if fate in {Fate.SKIPPED, Fate.PARKED} else None
    if reason:
        assert fate is not None
        text.append(f"{_MARKS[fate]} {fate.value}: {printable(reason)}", style=style)
        return text
    words = max(0, min(width - text.cell_len - 12, 24))
    text.append(f"{_fit(telling(outcome), words)}  ", style="dim")
    text.append(_MARKS[fate], style=style)
    if width >= 90 and outcome.event_id:
        text.append(f" {outcome.event_id[:8]}", style="dim")
    return text


def _fit(text: str, width: int) -> str:
    """Exactly so many cells, of which a Chinese character takes two."""
    if cell_len(text) <= width or width == 0:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
