"""Data to stdout, words to stderr; rich, lines or json."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Console:
    """How one run speaks: `output` is rich, lines or json."""

    output: str
    verbosity: int = 0

    @classmethod
    def for_run(cls, output: str | None, verbosity: int) -> Console:
        """The chosen output; without a choice rich in a terminal that can move its cursor."""
        if output is None:
            capable = sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "", None}
            output = "rich" if capable else "lines"
        return cls(output, verbosity)

    @property
    def json(self) -> bool:
        """Whether data is one JSON object a line."""
        return self.output == "json"

    @property
    def quiet(self) -> bool:
        """Whether only errors are wanted."""
        return self.verbosity < 0

    @property
    def live(self) -> bool:
        """Whether the terminal may be redrawn."""
        return self.output == "rich" and not self.quiet and sys.stdout.isatty()

    @property
    def colour(self) -> bool:
        """Whether a line of result may carry colour."""
        return self.output == "rich" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")

    def data(self, line: str) -> None:
        """A line of result on stdout; suppressed by -q."""
        if not self.quiet:
            click.echo(line)

    def object(self, value: Mapping[str, Any]) -> None:
        """A JSON object on one line of stdout; printed under -q too: it is what was asked for."""
        import msgspec

        click.echo(msgspec.json.encode(value))

    def words(self, line: str) -> None:
        """A line for the person on stderr; suppressed by -q and, being words, never JSON."""
        if not self.quiet:
            click.echo(line, err=True)

    def next_step(self, command: str) -> None:
        """What to type next."""
        if self.output != "json":
            self.words(f"next: {command}")
