"""The one way to stdout and stderr: data to the one, words to the other; rich, lines or json.

Whatever is printed passes here, and has no credential in it behind this module.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import select
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, TextIO, cast

import click

from ddbrelay import logs
from ddbrelay.cli.outlet import Outlet, Through
from ddbrelay.errors import ConfigError
from ddbrelay.secrecy import hidden, hidden_bytes, scrubbed
from ddbrelay.values import parse_bool

if TYPE_CHECKING:
    from msgspec import Struct
    from rich.console import Console as RichConsole

_log = logging.getLogger(__name__)

_STDOUT, _STDERR = 1, 2
_SHOW_CURSOR, _HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
# C1 controls, and what turns the direction of a text: a terminal obeys them. An expression for each
# first byte: one for all of them takes ten times as long.
_CONTROLS = (
    re.compile(b"\xc2[\x80-\x9f]"),
    re.compile(b"\xd8\x9c"),
    re.compile(b"\xe2\x80[\x8e\x8f\xaa-\xae]"),
    re.compile(b"\xe2\x81[\xa6-\xa9]"),
)


# Streams


def out(text: str = "", *, end: str = "\n") -> None:
    """Data to stdout, at once. BrokenPipeError where its reader has left."""
    click.echo(hidden(text) + end, nl=False)


def err(text: str = "", *, end: str = "\n", colour: bool | None = None) -> None:
    """Words to stderr, at once; `colour` None keeps colours where it is a terminal."""
    with logs.optional():
        click.echo(scrubbed(text) + end, nl=False, err=True, color=colour)


def out_json(lines: bytes) -> None:
    """JSON to stdout, UTF-8 with its line breaks."""
    out_bytes(escaped(lines))


def out_bytes(text: bytes) -> None:
    """The same of any text in UTF-8."""
    if sys.stdout is not None:
        click.echo(hidden_bytes(text), nl=False)


def escaped(lines: bytes) -> bytes:
    """JSON whose texts have no control character that a terminal would obey."""
    if lines.isascii():
        return lines
    for control in _CONTROLS:
        lines = control.sub(_as_escape, lines)
    return lines


def _as_escape(found: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(found[0].decode())


def page(text: str) -> None:
    """A long text, page by page."""
    click.echo_via_pager(hidden(text) + "\n")


def append(number: int, text: str) -> None:
    """A text behind what stdout (1) or stderr (2) has already, wherever that leads."""
    stream = sys.stdout if number == _STDOUT else sys.stderr
    if stream is not None:
        stream.flush()
    with os.fdopen(os.dup(number), "w", encoding="utf-8") as file:
        file.write(hidden(text))


def terminal(*, stderr: bool = False, **options: Any) -> RichConsole:
    """What draws with rich, on stdout or stderr; NO_COLOR takes away its colours alone."""
    from rich.console import Console as RichConsole

    console = RichConsole(stderr=stderr, highlight=False, **options)
    console.file = cast("IO[str]", _Hiding(stderr))
    return console


class _Hiding(io.TextIOBase):
    """Stdout or stderr, whatever that is at the time, without the credentials in its texts."""

    def __init__(self, stderr: bool) -> None:
        self._is_stderr = stderr
        self._guard = logs.optional if stderr else contextlib.nullcontext

    @property
    def _below(self) -> TextIO:
        stream = sys.stderr if self._is_stderr else sys.stdout
        # While something is drawn, rich puts a proxy there, which would come back here.
        return getattr(stream, "rich_proxied_file", stream)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self._below, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self._below.isatty()

    def fileno(self) -> int:
        return self._below.fileno()

    def write(self, text: str) -> int:
        with self._guard():
            self._below.write(hidden(text))
        return len(text)

    def flush(self) -> None:
        with self._guard():
            self._below.flush()


def waiting() -> int:
    """Bytes for stdout that its reader has not taken yet."""
    return sys.stdout.outlet.waiting if isinstance(sys.stdout, Through) else 0


def left_out() -> int:
    """Lines for stdout that were left out since `unblocked` was entered."""
    return sys.stdout.outlet.left_out if isinstance(sys.stdout, Through) else 0


def when_reader_leaves(tell: Callable[[], None]) -> None:
    """Call it, in another thread, once stdout takes nothing any more; where it is `unblocked`."""
    if isinstance(sys.stdout, Through):
        sys.stdout.outlet.when_broken = tell
        if sys.stdout.outlet.error is not None:
            tell()


class Ending:
    """How what is printed within `unblocked` comes to its end.

    `patience` is how many seconds a reader may take nothing (None: for ever), `limit` how many
    there are in all. Afterwards `left_out` lines were not written, `reader_left` says why stdout
    takes no more, and `error` what else is wrong with it.
    """

    def __init__(self, patience: float | None) -> None:
        self.patience = patience
        self.limit: float | None = None
        self.left_out = 0
        self.reader_left = False
        self.error: OSError | None = None


@contextlib.contextmanager
def unblocked(patience: float | None) -> Iterator[Ending]:
    """Within it no print waits for whoever reads stdout or stderr: a thread writes for it.

    At the end it is waited for them, as `Ending` says. A stream whose reader takes nothing leads
    nowhere from then on, so that nothing else can wait for it.
    """
    ending = Ending(patience)
    outlets = {number: _outlet(number) for number in (_STDOUT, _STDERR)}
    ours, words = sys.stdout, outlets[_STDERR]
    if (data := outlets[_STDOUT]) is not None:
        sys.stdout = cast("TextIO", Through(sys.stdout, data))
    restore = None
    if words is not None:
        restore = logs.redirect(lambda below: cast("TextIO", Through(below, words)))
    try:
        yield ending
    except BaseException:
        # Whoever insists on leaving does not wait for a reader.
        ending.patience = ending.limit = 0.2
        raise
    finally:
        sys.stdout = ours
        if restore is not None:
            restore()
        for number, outlet in outlets.items():
            if outlet is None:
                continue
            if not outlet.drain(ending.patience, ending.limit):
                logs.lead_nowhere(number)
                # Both may lead to the same terminal or pipe.
                leave()
            elif outlet.error is not None:
                logs.lead_nowhere(number)
            outlet.close()
        if data is not None:
            ending.left_out, ending.reader_left = data.left_out, data.broken
            ending.error = None if data.broken else data.error


def _outlet(number: int) -> Outlet | None:
    """One for a stream of the process; None where it is closed, or where a test stands for it."""
    stream = sys.stdout if number == _STDOUT else sys.stderr
    try:
        stream.flush()
        if stream.fileno() != number:
            return None
    except (AttributeError, OSError, ValueError):
        return None

    def write(text: memoryview) -> int:
        try:
            return os.write(number, text)
        except BlockingIOError:
            # Another program that shares it may have made it so.
            select.select([], [number], [])
            return 0

    return Outlet(write)


def silence() -> bool:
    """Let stdout and stderr lead nowhere where whoever read them has left; whether one has."""
    gone = [number for number in (_STDOUT, _STDERR) if _state(number) & select.POLLERR]
    for number in gone:
        logs.lead_nowhere(number)
    return bool(gone)


def leave() -> None:
    """Let both lead nowhere where they would hold the end of the process: nobody reads them."""
    for number in (_STDOUT, _STDERR):
        if not _state(number) & select.POLLOUT:
            logs.lead_nowhere(number)


def break_off(last: str) -> None:
    """Give the terminal back and say a last word, without waiting for anybody.

    Past all streams: whoever holds their locks may be what does not end.
    """
    if is_terminal(sys.__stdout__):
        show_cursor(True)
    _write_at_once(_STDERR, f"{last}\n".encode())


def show_cursor(shown: bool) -> None:
    """Show or hide the cursor of a terminal at stdout, past all that waits to be written."""
    _write_at_once(_STDOUT, _SHOW_CURSOR if shown else _HIDE_CURSOR)


def _write_at_once(number: int, text: bytes) -> None:
    with contextlib.suppress(OSError):
        if _state(number) & select.POLLOUT:
            os.write(number, text)


def discard() -> None:
    """Let stdout lead nowhere: Python would complain once more when it flushes at exit."""
    logs.lead_nowhere(_STDOUT)


def _state(number: int) -> int:
    output = select.poll()
    output.register(number, select.POLLOUT)
    return next((events for _, events in output.poll(0)), 0)


# Consoles


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
        """Whether only what goes wrong is wanted."""
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
            out(line)

    def object(self, value: Struct | Mapping[str, Any]) -> None:
        """A JSON object on one line of stdout; printed under -q too: it is what was asked for."""
        import msgspec

        out_json(msgspec.json.encode(value) + b"\n")

    def words(self, line: str) -> None:
        """A line for the person on stderr; suppressed by -q and, being words, never JSON."""
        if not self.quiet:
            err(line)

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
        err(f"{question} [y/N]: ", end="")
        line = sys.stdin.buffer.readline()
        if not line:
            err()
            raise click.Abort
        if (answer := answers.get(line.strip().lower())) is not None:
            return answer
        err("Please answer y or n.")
