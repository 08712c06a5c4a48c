"""What is logged, to stderr: as text for a person, or as one JSON object a line for a collector.

Levels: error, warning (something did not go as it should, and is dealt with), info (what a run does
in large), debug (each request). No line holds a body, an item or a credential; of an access key at
most the last four characters.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TextIO

from ddbrelay.secrecy import scrubbed, scrubbed_value
from ddbrelay.secrecy import without_password as without_password
from ddbrelay.times import iso_milliseconds

FORMATS = ("text", "json")
LEVELS = ("error", "warning", "info", "debug")
_BY_VERBOSITY = {-1: "warning", 0: "warning", 1: "info"}
ROOT = "ddbrelay"


def fields(**values: Any) -> dict[str, Any]:
    """Named values of a log line, in camelCase: `log.info("…", extra=fields(shardId=…))`.

    They stand beside the message in a JSON line; the message alone says the same in text.
    """
    return {"ddbrelay": {name: value for name, value in values.items() if value is not None}}


def level_of(verbosity: int) -> str:
    """The level of -q (-1), of no option (0), of -v (1) and of -vv."""
    return _BY_VERBOSITY.get(max(verbosity, -1), "debug")


def as_object(level: str, message: str, *, at: float | None = None, **values: Any) -> str:
    """One line of JSON, with no secret in it; `at` is in epoch seconds, by default now."""
    moment = iso_milliseconds(time.time() if at is None else at)
    line = {"time": moment, "level": level, "logger": ROOT, "message": message}
    return json.dumps(scrubbed_value(line | values))


def configure(level: str, form: str, *, others: bool = False) -> None:
    """Log from a level on; `others` lets the AWS libraries speak too, from info on.

    Their debug lines would show signatures and bodies. With JSON, whatever is written to sys.stderr
    comes out as objects, a line in each.
    """
    release()
    formatter = _Objects() if form == "json" else _Text(stamped=level in {"info", "debug"})
    handler = _Handler(sys.stderr)
    handler.setFormatter(formatter)
    ours = logging.getLogger(ROOT)
    ours.handlers[:] = [handler]
    ours.setLevel(level.upper())
    if others or form == "json":
        root = logging.getLogger()
        root.addHandler(_for_others(handler, logging.INFO if others else logging.ERROR))
        root.setLevel(logging.INFO)
    if form == "json" and sys.stderr is not None:
        logging.captureWarnings(True)
        sys.stderr = _Wrapped(sys.stderr)


def release() -> None:
    """Take back what `configure` did beyond our own logger."""
    if isinstance(sys.stderr, _Wrapped):
        sys.stderr.flush()
        sys.stderr = sys.stderr.below
    logging.captureWarnings(False)
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, _Handler):
            root.removeHandler(handler)
            root.setLevel(logging.WARNING)
    ours = logging.getLogger(ROOT)
    ours.handlers[:] = [one for one in ours.handlers if not isinstance(one, _Handler)]


def write_object(line: str) -> None:
    """A line from `as_object`, past what would wrap it once more."""
    stream = sys.stderr.below if isinstance(sys.stderr, _Wrapped) else sys.stderr
    if stream is not None:
        with optional():
            stream.write(line + "\n")
            stream.flush()


@contextmanager
def optional() -> Iterator[None]:
    """For words on stderr: those that it does not take, as on a full disk, are left out."""
    try:
        yield
    except OSError:
        _end_quietly()


@cache
def _end_quietly() -> None:
    """Let what waits in the buffer of stderr give no exit code 120 when Python ends."""
    atexit.register(_flush_or_drop)


def _flush_or_drop() -> None:
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        # Without a descriptor to spare, the exit code is all that is lost.
        with suppress(OSError):
            lead_nowhere(2)


def lead_nowhere(number: int) -> None:
    """Let a standard stream lead to the null device."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def redirect(through: Callable[[TextIO], TextIO]) -> Callable[[], None]:
    """Send words and log lines to another stream than stderr; what is returned takes it back."""
    stderr = sys.stderr
    handlers = [*logging.getLogger(ROOT).handlers, *logging.getLogger().handlers]
    bound = [(one, one.bound) for one in handlers if isinstance(one, _Handler)]
    below = stderr.below if isinstance(stderr, _Wrapped) else stderr
    stream = through(below)

    def put_back() -> None:
        if isinstance(stderr, _Wrapped):
            stderr.below = below
        sys.stderr = stderr
        for handler, earlier in bound:
            handler.bound = earlier

    if isinstance(stderr, _Wrapped):
        stderr.below = stream
    else:
        sys.stderr = stream
    for handler, earlier in bound:
        handler.bound = None if earlier is None else stream
    return put_back


def as_objects() -> bool:
    """Whether stderr is objects, the words as well."""
    return isinstance(sys.stderr, _Wrapped)


def apart() -> bool:
    """Whether the log goes elsewhere than to a terminal."""
    handlers = logging.getLogger(ROOT).handlers
    bound = [one.bound for one in handlers if isinstance(one, _Handler)]
    return any(one is not None and not one.isatty() for one in bound)


class Seldom:
    """Counts what happens often, and says when it is time for a line: every so many seconds."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._now = seconds, now
        self._said: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def count(self, what: str) -> int:
        """How often it happened since the last line; 0 when it is too early for another."""
        self._counts[what] = self._counts.get(what, 0) + 1
        now = self._now()
        if now - self._said.get(what, float("-inf")) < self._seconds:
            return 0
        self._said[what] = now
        return self._counts.pop(what)


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the process.

    In a terminal to what stands in its place at the time: the live view puts something there that
    prints above it.
    """

    def __init__(self, bound: TextIO | None) -> None:
        logging.Handler.__init__(self)
        self.bound = bound

    @property
    def stream(self) -> Any:  # type: ignore[override]
        bound = self.bound
        if bound is None or isinstance(sys.stderr, _Wrapped) or not bound.isatty():
            return bound
        return sys.stderr

    def flush(self) -> None:
        if self.bound is not None and not self.bound.closed:
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name is logging's)
        """A reader of stderr that left, or a full disk, must not end the run."""
        if isinstance(sys.exc_info()[1], OSError):
            _end_quietly()


def _for_others(ours: _Handler, level: int) -> _Handler:
    """Without a handler of their own Python prints their errors, as text."""
    handler = _Handler(ours.bound)
    handler.setFormatter(ours.formatter)
    handler.setLevel(level)
    handler.addFilter(lambda record: record.name.partition(".")[0] != ROOT)
    return handler


class _Text(logging.Formatter):
    def __init__(self, *, stamped: bool) -> None:
        super().__init__(f"{'%(asctime)s ' if stamped else ''}%(levelname)s %(name)s: %(message)s")

    def formatTime(  # noqa: N802 (the name is logging's)
        self, record: logging.LogRecord, datefmt: str | None = None
    ) -> str:
        return iso_milliseconds(record.created)

    def format(self, record: logging.LogRecord) -> str:
        return scrubbed(super().format(record))


class _Objects(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        values: Mapping[str, Any] = getattr(record, "ddbrelay", {})
        trace = {"traceback": self.formatException(record.exc_info)} if record.exc_info else {}
        return as_object(
            record.levelname.lower(),
            record.getMessage(),
            at=record.created,
            **{"logger": record.name} | dict(values) | trace,
        )


class _Wrapped(io.TextIOBase):
    """A stderr that makes an object of each line, also of a question that waits for its answer."""

    def __init__(self, below: TextIO) -> None:
        self.below = below
        self._line = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.below.errors

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.below.fileno()

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("text is written here")
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._put(line)
        return len(text)

    def flush(self) -> None:
        line, self._line = self._line, ""
        self._put(line)
        self.below.flush()

    def _put(self, line: str) -> None:
        if line.strip():
            self.below.write(as_object("info", line.strip()) + "\n")
