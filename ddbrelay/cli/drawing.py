"""Rows that scroll and status lines that stay, in a terminal whose width may change meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from rich.console import Console, ConsoleDimensions, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

_SPARKS = "▁▂▃▄▅▆▇█"


class Drawing:
    """Between `start` and `stop` the status lines stay below everything that is drawn."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, soft_wrap=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._status: list[str] = []
        self._lengths: list[int] = []
        self._width = self._console.width

    @property
    def size(self) -> ConsoleDimensions:
        """Columns and lines of the terminal at this moment."""
        return self._console.size

    def start(self, header: Sequence[Text]) -> None:
        """Print the header and an empty line."""
        self._print(header)
        self._console.print()
        self._live.start()

    def stop(self) -> None:
        """Give the terminal back as it stands."""
        self._live.stop()

    def draw(self, rows: Sequence[Text], notes: Sequence[Text], status: Sequence[Text]) -> None:
        """Print rows, cut to the width, and notes, in full; below them the status lines.

        `status` are lines that fit the width; nothing is written where nothing changed.
        """
        width, words = self._console.width, [line.plain for line in status]
        if not (rows or notes) and (words, width) == (self._status, self._width):
            return
        # All of it is written at once; nobody sees the lines that stand in between.
        with self._console:
            self._clear_what_wrapped(width)
            if rows:
                self._print(rows)
            for note in notes:
                self._console.print(note)
            self._live.update(Text("\n").join([Text(), *status]), refresh=True)
        self._status, self._width = words, width
        self._lengths = [line.cell_len for line in status]

    def _print(self, lines: Sequence[Text]) -> None:
        self._console.print(Group(*lines), overflow="ellipsis", no_wrap=True, crop=True)

    def _clear_what_wrapped(self, width: int) -> None:
        """A terminal that became narrower has broken the status lines, which rich does not know."""
        if width >= self._width:
            return
        extra = sum(max(length - 1, 0) // width for length in self._lengths)
        up = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))
        self._console.control(
            Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *(up * extra))
        )


class Meter:
    """Something a second, measured once a second."""

    def __init__(self, began: float) -> None:
        self._began = self._at = began
        self._counted = 0
        self._rates: deque[int] = deque(maxlen=10)

    def rate(self, counted: int, now: float, *, last: bool = False) -> int:
        """The latest rate; in the first second, and at last, that since the start."""
        if (elapsed := now - self._at) >= 1.0:
            self._rates.append(round((counted - self._counted) / elapsed))
            self._counted, self._at = counted, now
        if last or not self._rates:
            return round(counted / max(now - self._began, 0.1))
        return self._rates[-1]

    @property
    def sparks(self) -> str:
        """The last ten rates as bars, in ten cells."""
        peak = max(self._rates, default=0) or 1
        bars = (_SPARKS[one * (len(_SPARKS) - 1) // peak] for one in self._rates)
        return f"{''.join(bars):<10}"
