"""How `expect` speaks: to readers that may leave before the end, and with one line that moves."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddbrelay.cli.console import Console, err, in_ci, is_terminal, out, silence
from ddbrelay.text import printable

if TYPE_CHECKING:
    from msgspec import Struct

_ERASE = "\r\x1b[2K"


class _Line:
    """What stands in the terminal's last line and is no part of the output."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._shown = ""

    def show(self, text: str) -> None:
        with self.lock:
            if text != self._shown:
                err(f"{_ERASE}{text}", end="", colour=True)
                self._shown = text

    def erase(self) -> None:
        self.show("")


@dataclass(frozen=True)
class Steady(Console):
    """A console whose readers may leave: the run goes on to its verdict without them.

    `waiting` is what the run waits for, in a terminal that can take the line back.
    """

    _line: _Line = field(default_factory=_Line, repr=False, compare=False)

    def data(self, line: str) -> None:
        with self._readers():
            super().data(line)

    def object(self, value: Struct | Mapping[str, Any]) -> None:
        with self._readers():
            super().object(value)

    def words(self, line: str) -> None:
        with self._readers():
            super().words(line)

    def raw(self, line: str, *, stderr: bool) -> None:
        """A line that is printed under -q too, for another program."""
        with self._readers():
            (err if stderr else out)(line)

    def waiting(self, text: str) -> None:
        """Show what is waited for, in place of what was; it is gone when anything is printed."""
        able = self.output == "rich" and not self.quiet and is_terminal(sys.stderr)
        if not able or in_ci() or os.environ.get("TERM") in {"dumb", "", None}:
            return
        columns = shutil.get_terminal_size().columns - 1
        text = printable(text)
        text = text if len(text) <= columns else f"{text[: columns - 1]}…"
        with _readers_may_leave():
            self._line.show(text)

    def still(self) -> None:
        """Nothing is waited for any more."""
        with _readers_may_leave():
            self._line.erase()

    @contextmanager
    def _readers(self) -> Iterator[None]:
        with self._line.lock, _readers_may_leave():
            self._line.erase()
            yield


@contextmanager
def _readers_may_leave() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        if not silence():
            raise
