"""Rows that scroll and status lines that stay, in a terminal whose width may change meanwhile."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import IO, cast

from rich.console import Console, ConsoleDimensions, Group
from rich.control import Control
from rich.live import Live
from rich.segment import ControlType
from rich.text import Text

from ddbrelay.cli.console import show_cursor, terminal

_SPARKS = "▁▂▃▄▅▆▇█"


_SYNCHRONIZED, _SHOWN = "\x1b[?2026h", "\x1b[?2026l"
"""Between them a terminal that knows them shows nothing; the others ignore them.

https://gist.github.com/christianparpart/d8a62cc1ab659194337d73e399004036
"""


class Drawing:
    """Between `start` and `stop` the status lines stay below everything that is drawn.

    `draw` writes nothing yet: `write` does, which waits where the terminal takes nothing (Ctrl-S),
    and so may be called in a thread of its own.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or terminal(soft_wrap=False)
        self._out = _Held(self._console.file)
        self._console.file = cast("IO[str]", self._out)
        self._suspension = _Suspension(self._out)
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
        self.write()
        self._suspension.__enter__()

    def stop(self) -> None:
        """Give the terminal back as it stands."""
        self._suspension.__exit__()
        self._live.stop()
        self.write()
        self._console.file = self._out.file

    def write(self) -> None:
        """Write what was drawn, in one go. OSError where the terminal is gone."""
        self._out.write_out()

    def draw(self, rows: Sequence[Text], notes: Sequence[Text], status: Sequence[Text]) -> None:
        """Put rows, cut to the width, and notes, in full; below them the status lines.

        `status` are lines that fit the width; nothing is written where nothing changed.
        """
        width, words = self._console.width, [line.plain for line in status]
        if not (rows or notes) and (words, width) == (self._status, self._width):
            return
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


class _Held(io.TextIOBase):
    """Keeps what rich writes until it is written out, all at once."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self._parts: list[str] = []
        self._lock = threading.Lock()

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        """rich asks for it after every part."""

    def isatty(self) -> bool:
        return self.file.isatty()

    def fileno(self) -> int:
        return self.file.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.file, "encoding", None) or "utf-8"

    def write_out(self) -> None:
        with self._lock:
            parts, self._parts = self._parts, []
            if not parts:
                return
            self.file.write("".join((_SYNCHRONIZED, *parts, _SHOWN)))
            self.file.flush()


class _Suspension:
    """Gives the cursor back while the command is suspended (Ctrl-Z), in a main thread that can."""

    def __init__(self, file: _Held) -> None:
        self._file = file
        self._earlier: signal._HANDLER = None
        self._active = False

    def __enter__(self) -> None:
        main = threading.current_thread() is threading.main_thread()
        if hasattr(signal, "SIGTSTP") and main and self._file.isatty():
            self._earlier = signal.signal(signal.SIGTSTP, self._suspend)
            self._active = True

    def __exit__(self) -> None:
        if self._active:
            signal.signal(signal.SIGTSTP, self._earlier or signal.SIG_DFL)
            self._active = False

    def _suspend(self, number: int, frame: FrameType | None) -> None:
        show_cursor(True)
        signal.signal(number, signal.SIG_DFL)
        # It stands still in here, until SIGCONT.
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)
        show_cursor(False)


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
