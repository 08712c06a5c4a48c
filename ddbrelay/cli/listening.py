"""What `listen` shows in a terminal and in a recording: rows, status lines, a table at the end."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec
from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from ddbrelay.cli.console import terminal
from ddbrelay.cli.drawing import Drawing, Meter
from ddbrelay.cli.received import OfType, Session, Tally, age_of, age_words, clock_of, columns
from ddbrelay.cli.view.clock import Clock
from ddbrelay.cli.view.detail import INDENT, detail_lines
from ddbrelay.cli.view.live import REFRESH, header_lines, trouble_note
from ddbrelay.cli.view.status import flow
from ddbrelay.cli.view.types import type_style
from ddbrelay.secrecy import hidden
from ddbrelay.text import counted, printable
from ddbrelay.times import whole

if TYPE_CHECKING:
    from ddbrelay.cli.recording import Recording
    from ddbrelay.infra.listener import Received

_ROWS, _ROWS_WITH_DETAIL = 40, 4
"""Messages of one drawing; the others wait for the next ones."""
_BURST = 30
"""Drawings that may wait like that; of what comes beyond them only the number is shown."""
_TYPES = 12
"""Event types that the table at the end tells apart."""
_WIDE = 80
"""Columns from which there is room for the bus's event id."""


def row(received: Received, repeated: bool, width: int) -> Text:
    """The cells that fit; the bus's event id goes first.

    The clock shows when the event was written, the age is from then until it was received. A
    message that is no event is shown as it came, however long it is.
    """
    text = Text(no_wrap=True, overflow="ellipsis").append(clock_of(received), style="dim")
    if not received.event:
        return text.append("  not an event  ", style="red").append(printable(hidden(received.body)))
    kind, source, key, number = (printable(column) for column in columns(received.event))
    quarter = min(max(0, width - _WIDE) // 4, 12)
    cells = [
        (kind, 17 + quarter, type_style(kind)),
        (key, 18 + 2 * quarter, ""),
        (source, 14 + quarter, "dim"),
        (f"{age_words(age_of(received)):>5}", 5, "dim"),
    ]
    for word, wide, style in cells:
        cell = Text(word, style)
        cell.truncate(wide, overflow="ellipsis", pad=True)
        text.append("  ").append_text(cell)
    if repeated:
        return text.append("  ↻ repeat" if width >= _WIDE else "  ↻", style="yellow")
    return text.append(f"  {number[:8]}" if width >= _WIDE else "", style="dim")


def detail(received: Received, width: int) -> list[Text]:
    """The message in full below its row, every digit as it came."""
    if not received.event:
        body = Text(printable(hidden(received.body))).wrap(
            terminal(width=width), max(width - INDENT, 10), overflow="fold"
        )
        return [Text(" " * INDENT).append_text(line) for line in body]
    try:
        event = json.loads(received.body, parse_int=_as_it_came, parse_float=_as_it_came)
        return detail_lines(event, width)
    except (UnicodeError, RecursionError):
        # Half a character, or a depth, that JSON allows and nobody can print.
        shown = printable(hidden(received.body))
        return [Text(" " * INDENT + shown, no_wrap=True, overflow="ellipsis")]


def _as_it_came(number: str) -> msgspec.Raw:
    return msgspec.Raw(number.encode())


def summary_table(tally: Tally, width: int) -> Table:
    """What came, by event type, the most frequent first, and one line for all of it."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim", pad_edge=False)
    numbers = (f"{max(tally.events, tally.others):,}", f"{tally.repeated:,}", "-999 d")
    heads = dict(zip(("received", "repeated", "oldest"), map(len, numbers), strict=True))
    wide = {head: max(len(head), cells) for head, cells in heads.items()}
    table.add_column("", no_wrap=True, max_width=max(width - sum(wide.values()) - 9, 8))
    for head, cells in wide.items():
        table.add_column(head, justify="right", no_wrap=True, min_width=cells)
    found = sorted(tally.types.items(), key=lambda one: (-one[1].received, one[0]))
    rest = [of for _, of in found[_TYPES:]]
    rows = [(printable(kind), of, type_style(kind)) for kind, of in found[:_TYPES]]
    if rest:
        rows.append((counted(len(rest), "more type"), _together(rest), "dim"))
    if len(rows) > 1:
        rows.append(("all", _together(tally.types.values()), "bold"))
    for name, of, style in rows:
        table.add_row(
            Text(name, style),
            f"{of.received:,}",
            Text(f"{of.repeated:,}", "yellow" if of.repeated else "dim"),
            Text(age_words(of.oldest), "dim"),
        )
    if tally.others:
        table.add_row(Text("not an event", "red"), f"{tally.others:,}", "", "")
    return table


def _together(parts: Iterable[OfType]) -> OfType:
    found = list(parts)
    return OfType(
        sum(of.received for of in found),
        sum(of.repeated for of in found),
        max((of.oldest for of in found if of.oldest is not None), default=None),
    )


class Status:
    """The lines that stay: what came and how fast; the queue, how long, and until when."""

    def __init__(self, session: Session, clock: Clock | None = None) -> None:
        kind = "temporary queue" if session.temporary else "queue"
        self._queue = f"{kind} {printable(session.queue)}"
        self._session, self._clock = session, clock or Clock()
        self._began = self._clock.monotonic()
        self._meter = Meter(self._began)

    def lines(self, width: int, *, last: bool = False) -> list[Text]:
        """What there is to say, in lines of at most `width` cells; the `last` ones sum up."""
        now, tally = self._clock.monotonic(), self._session.tally
        rate = self._meter.rate(tally.printed, now, last=last)
        counts = [
            Text().append(self._meter.sparks, "dim").append(f"  {rate:,}/s"),
            Text(f"received {tally.events:,}"),
            Text(f"distinct {tally.distinct:,}"),
            Text(f"↻ repeated {tally.repeated:,}", "yellow" if tally.repeated else ""),
        ]
        if tally.others:
            counts.append(Text(f"not events {tally.others:,}", "red"))
        where = [Text(self._queue, "dim"), Text(f"up {whole(now - self._began)}", "dim")]
        where += self._until(now, last)
        if hidden := self._session.chosen.hidden:
            where.append(Text(f"hidden {hidden:,}", "dim"))
        lines = [*flow(counts, width), *flow(where, width)]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines

    def _until(self, now: float, last: bool) -> list[Text]:
        bounds, tally = self._session.bounds, self._session.tally
        words: list[Text] = []
        if bounds.expected is not None:
            met = tally.distinct >= bounds.expected
            style = "green" if met else "red" if last else "yellow"
            words.append(Text(f"{tally.distinct:,} of {bounds.expected:,} expected", style))
        if bounds.most is not None:
            words.append(Text(f"{tally.printed:,} of {bounds.most:,}", "dim"))
        if last:
            return words
        if self._session.stopping():
            words.append(Text("stopping …", "dim"))
        elif bounds.deadline is not None:
            words.append(Text(f"{whole(max(0.0, bounds.deadline - now))} left", "dim"))
        return words


class LiveView:
    """A context manager that draws itself every `refresh` seconds, while its owner waits.

    `gone` is called when the terminal can no longer be written to.
    """

    def __init__(
        self,
        header: Text,
        session: Session,
        status: Status,
        *,
        gone: Callable[[], None],
        console: RichConsole | None = None,
        refresh: float = REFRESH,
    ) -> None:
        self._drawing = Drawing(console)
        self._header, self._status, self._gone = header, status, gone
        self._detail, self._refresh = session.detail, refresh
        self._most = _ROWS_WITH_DETAIL if session.detail else _ROWS
        self._waiting: deque[list[Text]] = deque()
        self._notes: list[Text] = []
        self._left_out, self._tally = 0, session.tally
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._broken = False
        self._thread = threading.Thread(target=self._run, name="ddbrelay-listen-view", daemon=True)

    def __enter__(self) -> Self:
        self._drawing.start(header_lines(self._header, self._drawing.size.width))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._broken:
            return
        try:
            self.draw(last=True)
        finally:
            self._drawing.stop()

    def message(self, received: Received, repeated: bool) -> None:
        """Remember a row until its drawing; of too many only their number."""
        with self._lock:
            if len(self._waiting) >= self._most * _BURST:
                self._left_out += 1
                self._tally.dropped += 1
                return
        width = self._drawing.size.width
        lines = [row(received, repeated, width)]
        if self._detail:
            lines += detail(received, width)
        with self._lock:
            self._waiting.append(lines)

    def note(self, words: str) -> None:
        """A line of its own, that is never left out."""
        with self._lock:
            self._notes.append(trouble_note(words))

    def draw(self, *, last: bool = False) -> None:
        """Print the rows whose turn it is and the status lines; the last ones sum the run up."""
        with self._lock:
            number = len(self._waiting) if last else min(self._most, len(self._waiting))
            rows = [line for _ in range(number) for line in self._waiting.popleft()]
            notes, self._notes = self._notes, []
            left_out = 0
            if not self._waiting:
                left_out, self._left_out = self._left_out, 0
        if left_out:
            more = f"  … {left_out:,} more, too fast to show; --output lines has them all"
            rows.append(Text(more, style="dim"))
        self._drawing.draw(rows, notes, self._status.lines(self._drawing.size.width, last=last))
        self._drawing.write()

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._refresh):
                self.draw()
        except OSError:
            self._broken = True
            self._gone()


class Recorder:
    """A context manager that hands the view of the run to a recording."""

    def __init__(
        self, recording: Recording, header: Text, session: Session, status: Status
    ) -> None:
        self._recording, self._session, self._status = recording, session, status
        recording.header(Text("\n").join(header_lines(header, recording.width)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        lines = self._status.lines(self._recording.width, last=True)
        self._recording.status(Text("\n").join([Text(), *lines]))
        if self._session.tally.printed:
            self._recording.summary(summary_table(self._session.tally, self._recording.width))

    def message(self, received: Received, repeated: bool) -> None:
        """A row, and the message in full where that is wanted."""
        width = self._recording.width
        lines = [row(received, repeated, width)]
        if self._session.detail:
            lines += detail(received, width)
        self._recording.row(Text("\n").join(lines))

    def note(self, words: str) -> None:
        """A line that stays."""
        self._recording.note(trouble_note(words))
