"""`ddbrelay doctor`: what will go wrong, said before it does."""

from __future__ import annotations

import re
import shutil
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import click

from ddbrelay.cli.console import Console, out, terminal
from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.text import counted, printable

if TYPE_CHECKING:
    from ddbrelay.checkup.findings import Finding, Level

_LEVELS = ("error", "warning", "note", "ok")
_MARKS = {"ok": "✔", "note": "·", "warning": "▲", "error": "✖"}
_COLOURS = {"ok": "dim", "note": None, "warning": "yellow", "error": "red"}
_AREA = 13
_WORD = 9
_NARROWEST = 40
_COMMANDS = ("ddbrelay ", "aws ")
_CONTINUED = " \\"
_SHELL_WORD = re.compile(r"""(?:'[^']*'|"(?:\\.|[^"\\])*"|\\.|[^\s'"\\])+""")
"""What a shell takes for one word, its quotes included."""
_EPILOG = """\b
Examples:
  ddbrelay doctor --table users
  ddbrelay --local doctor --table users --sample 1000
  ddbrelay doctor --strict --output json > doctor.jsonl

\b
It ends with code 5 where there is an error, with --strict also where there is a warning.
"""


@click.command("doctor", cls=Command, epilog=_EPILOG)
@click.option("--strict", is_flag=True, help="end with code 5 on a warning too")
@click.option(
    "--sample",
    metavar="N",
    type=click.IntRange(0, 10_000),
    default=200,
    show_default=True,
    help="changes of the stream to look at, or items where it holds none; 0 for neither",
)
@setting_options(
    *("consumer", "state", "entity", "source", "preset", "mapper"),
    *("dead_letter_queue", "claim_check", "metrics_port"),
)
@pass_run
def command(run: Run, strict: bool, sample: int) -> None:
    """Say what will go wrong, before a deployment or a first run.

    It looks at credentials, clock, table, stream, bus, rules, the queues behind them, permissions,
    other readers, stored positions and the state file. Nothing is changed: tables and queues are
    described, the stream is read, and permissions are simulated where IAM lets it. Where the stream
    is empty, one Scan reads N items at most.
    """
    from ddbrelay.checkup.asking import QuickAws
    from ddbrelay.checkup.examination import examine
    from ddbrelay.checkup.findings import counts

    table = run.require("table")
    started = time.monotonic()
    with _waiting(run.console, table) as tell:
        found = examine(
            QuickAws(run.settings),
            run.config,
            table,
            most=sample,
            again=run.again,
            tell=tell,
        )
    totals = counts(found)
    if run.console.json:
        _print_objects(run.console, found, totals, time.monotonic() - started)
    else:
        _print_rows(run.console, found)
    _judge(run, found, totals, strict=strict)


@contextmanager
def _waiting(console: Console, table: str) -> Iterator[Callable[[str], None]]:
    """A line that says what is looked at, where the terminal may be redrawn."""
    if not console.live:
        yield lambda _: None
        return
    with terminal().status(f"looking at {table}", spinner="dots") as status:
        yield lambda area: status.update(f"looking at {table}: {area}")


# Objects


def _print_objects(
    console: Console, found: Sequence[Finding], totals: Mapping[Level, int], seconds: float
) -> None:
    from ddbrelay.output import doctor as printed

    for finding in found:
        area = cast("printed.Area", finding.area)
        console.object(
            printed.Finding(
                area, finding.check, finding.level.value, finding.what, finding.why, finding.mend
            )
        )
    numbers = {level.value: number for level, number in totals.items()}
    console.object(
        printed.DoctorSummary(
            ok=numbers["ok"],
            notes=numbers["note"],
            warnings=numbers["warning"],
            errors=numbers["error"],
            seconds=round(seconds, 3),
        )
    )


# Rows


def _print_rows(console: Console, found: Sequence[Finding]) -> None:
    """Each finding on a line of its own beside its area; why and what to do below it."""
    if console.quiet:
        found = [one for one in found if one.level.value == "error"]
    width = (
        max(shutil.get_terminal_size().columns, _NARROWEST) if console.output == "rich" else None
    )
    area = ""
    for one, after in zip(found, [*found[1:], None], strict=True):
        head = "" if one.area == area else one.area
        area = one.area
        if after is not None and (one.area, one.mend) == (after.area, after.mend):
            # One command mends both: it stands below the last of them.
            one = replace(one, mend=None)
        for line in _lines(console, one, head, width):
            # Under -q too: what is left then are errors.
            out(line)


def _lines(console: Console, one: Finding, head: str, width: int | None) -> Iterator[str]:
    level = one.level.value
    mark = _MARKS[level] if console.output == "rich" else level
    place = _AREA + (2 if console.output == "rich" else _WORD)
    first = f"{head:<{_AREA}}{mark:<{place - _AREA}}"
    colour = _COLOURS[level]
    for number, line in enumerate(_wrapped(printable(one.what), width, place)):
        begin = first if number == 0 else " " * place
        yield begin[:_AREA] + _styled(console, begin[_AREA:] + line, colour)
    if level == "ok":
        return
    for line in _wrapped(printable(one.why or ""), width, place):
        yield " " * place + _styled(console, line, "dim")
    if one.mend:
        yield from _mend(printable(one.mend), width, place)


def _mend(mend: str, width: int | None, place: int) -> Iterator[str]:
    """What to do; a command that has to be broken stays one that can be copied."""
    if width is not None and mend.startswith(_COMMANDS):
        lines = [*_folded(mend, width - place - len("→ "))]
    else:
        lines = _wrapped(mend, None if width is None else width - len("→ "), place)
    for number, line in enumerate(lines):
        yield " " * place + ("→ " if number == 0 else "  ") + line


def _folded(command: str, width: int) -> Iterator[str]:
    """A command on several lines that a shell takes for the one: broken between its words only."""
    words = _SHELL_WORD.findall(command)
    line = ""
    for number, word in enumerate(words):
        # All lines but the last end with a backslash.
        more = _CONTINUED if number < len(words) - 1 else ""
        if line and len(f"{line} {word}{more}") > width:
            yield line + _CONTINUED
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line


def _wrapped(text: str, width: int | None, place: int) -> list[str]:
    if not text:
        return []
    if width is None:
        return [text]
    return textwrap.wrap(text, width - place, break_long_words=False, break_on_hyphens=False)


def _styled(console: Console, text: str, colour: str | None) -> str:
    if colour is None or not console.colour:
        return text
    return click.style(text, dim=True) if colour == "dim" else click.style(text, fg=colour)


# The end


def _judge(
    run: Run, found: Sequence[Finding], totals: Mapping[Level, int], *, strict: bool
) -> None:
    """Say what it comes to, and raise what the exit code must say."""
    from ddbrelay.errors import AwsRefused

    numbers = {level.value: number for level, number in totals.items()}
    errors, warnings = numbers["error"], numbers["warning"]
    parts = [counted(warnings, "warning"), counted(errors, "error")]
    words = ", ".join(
        part for part, number in zip(parts, (warnings, errors), strict=True) if number
    )
    if errors or (strict and warnings):
        worst = [one for level in _LEVELS for one in found if one.level.value == level]
        first = next((one for one in worst if one.mend), None)
        raise AwsRefused(words, None if first is None else _hint(run, first))
    run.console.words(words or "nothing is wrong")
    # A second relay would be refused.
    relaying = any(one.check == "owner" for one in found)
    run.next_step("status" if relaying else "tail --forward")


def _hint(run: Run, first: Finding) -> str:
    """Where to begin. A hint is broken at the terminal's width, which no command survives."""
    if run.console.output == "rich":
        return f"begin with {first.area}: what mends it stands above"
    return f"mend first: {first.mend}"
