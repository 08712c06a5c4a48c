"""Data to stdout, words to stderr; rich, lines or json."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

import click

from ddbrelay import logs
from ddbrelay.errors import ConfigError
from ddbrelay.secrecy import hidden, scrubbed
from ddbrelay.values import parse_bool

_log = logging.getLogger(__name__)


def in_ci() -> bool:
    """Whether a CI system runs this, by the variable that all of them set: nobody is there then."""
    try:
        return parse_bool(os.environ.get("CI") or False)
    except ValueError:
        return True


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a standard stream leads to a terminal; one that is closed (`<&-`) does not."""
    return stream is not None and stream.isatty()


@dataclass(frozen=True)
class Console:
    """How one run speaks: `output` is rich, lines or json."""

    output: str
    verbosity: int = 0

    @classmethod
    def for_run(cls, output: str | None, verbosity: int) -> Console:
        """The chosen output; without a choice rich in a terminal that can move its cursor.

        The terminal that some CI systems give to a job is a log, in which nothing can be redrawn.
        """
        if output is None:
            able = is_terminal(sys.stdout) and os.environ.get("TERM") not in {"dumb", "", None}
            output = "rich" if able and not in_ci() else "lines"
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
        return self.output == "rich" and not self.quiet and is_terminal(sys.stdout)

    @property
    def colour(self) -> bool:
        """Whether a line of result may carry colour."""
        wanted = self.output == "rich" and not os.environ.get("NO_COLOR")
        return wanted and is_terminal(sys.stdout)

    def data(self, line: str) -> None:
        """A line of result on stdout; suppressed by -q."""
        if not self.quiet:
            click.echo(hidden(line))

    def object(self, value: Mapping[str, Any]) -> None:
        """A JSON object on one line of stdout; printed under -q too: it is what was asked for."""
        import msgspec

        click.echo(hidden(msgspec.json.encode(value).decode()))

    def words(self, line: str) -> None:
        """A line for the person on stderr; suppressed by -q and, being words, never JSON."""
        if not self.quiet:
            click.echo(scrubbed(line), err=True)

    @property
    def logs_trouble(self) -> bool:
        """Whether what goes wrong is told by the log.

        Nobody reads words then, or they would be objects without a level of their own.
        """
        return self.quiet or logs.as_objects()

    def trouble(self, message: str) -> None:
        """What does not go as it should: words, or a warning of the log in their place."""
        if self.logs_trouble:
            _log.warning("%s", message)
        else:
            self.words(message)

    def next_step(self, command: str) -> None:
        """What to type next."""
        if self.output != "json":
            self.words(f"next: {command}")


def confirmer(plan: str, hint: str) -> Callable[[str], bool]:
    """Someone to ask for a yes; the only way to ask, so that no prompt waits where nobody is.

    `plan` is what needs the yes ("dropping 3 dead letters"). Raises ConfigError, with the hint,
    unless a person is at a terminal. What is returned takes a question, which is seen under -q and
    --output json too, and is False for a no and for an empty answer; click.Abort at the end of
    input.
    """
    if in_ci() or not is_terminal(sys.stdin):
        raise ConfigError(f"{plan} needs a yes, and there is no terminal to ask at", hint)
    return _confirm


def _confirm(question: str) -> bool:
    answers = {b"y": True, b"yes": True, b"n": False, b"no": False, b"": False}
    while True:
        # click.confirm writes a space to stdout where that is no terminal, before the JSON.
        click.echo(f"{question} [y/N]: ", err=True, nl=False)
        line = sys.stdin.buffer.readline()
        if not line:
            click.echo(err=True)
            raise click.Abort
        if (answer := answers.get(line.strip().lower())) is not None:
            return answer
        click.echo("Please answer y or n.", err=True)
