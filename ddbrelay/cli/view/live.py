"""The live view: rows that scroll, the newest at the bottom, and status lines that stay."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console as RichConsole
from rich.text import Text

from ddbrelay.cli.drawing import Drawing
from ddbrelay.cli.view.clock import Clock
from ddbrelay.cli.view.counts import Counts
from ddbrelay.cli.view.rows import Shown, age_of, below, row_lines
from ddbrelay.cli.view.sampling import Sample
from ddbrelay.cli.view.status import Status, flow
from ddbrelay.flow.capture import Gap
from ddbrelay.output.words import gap_text
from ddbrelay.relay import Outcome
from ddbrelay.text import printable

if TYPE_CHECKING:
    from ddbrelay.relay import Relay

REFRESH = 0.1
"""Seconds between two drawings, as long as each event has its row."""
_SAMPLED_REFRESH = 0.25
"""... and where only some have one: then the relay needs the time more than the eye does."""
_ROWS, _SAMPLED_ROWS = 20, 10
"""Rows of one drawing, which is more than anybody reads."""
_ROWS_WITH_DETAIL = 4
_TOO_MANY = "  … too many to show them all from here on; --output lines does"
_ALL_AGAIN = "  … all of them again"


class LiveView:
    """A context manager; `draw` is to be called every `pause` seconds.

    `detail` shows each event in full, `counts` is to count everything. What is drawn is as wide as
    the terminal is at that moment.
    """

    def __init__(
        self,
        header: Text,
        *,
        detail: bool = False,
        counts: Counts | None = None,
        console: RichConsole | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._drawing = Drawing(console)
        self._clock = clock or Clock()
        self._header, self._detail = header, detail
        self._counts = Counts() if counts is None else counts
        self._most_rows = _ROWS_WITH_DETAIL if detail else _ROWS
        self._sample = Sample(self._most_rows)
        self._status = Status(self._clock)
        self._notes: list[Text] = []
        self._sampling = False

    def __enter__(self) -> LiveView:
        self._drawing.start(header_lines(self._header, self._drawing.size.width))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drawing.stop()

    def outcome(self, outcome: Outcome) -> None:
        """Remember it for the next drawings, unless more come than can be shown."""
        # Every event of a run comes here: what is not drawn must cost next to nothing.
        self._counts.add(outcome)
        if self._sample.wants(outcome):
            self._sample.keep(Shown.of(outcome, detail=self._detail), self._clock.now())

    def gap(self, gap: Gap) -> None:
        """A line of its own, that is never left out."""
        self._counts.lost += 1
        self._notes.append(gap_note(gap))

    def trouble(self, message: str) -> None:
        """A line of its own, that is never left out."""
        self._notes.append(trouble_note(message))

    @property
    def pause(self) -> float:
        """Seconds until the next drawing: more where so much comes that it is sampled anyway."""
        return _SAMPLED_REFRESH if self._sampling else REFRESH

    @property
    def dropped(self) -> int:
        """Outcomes that were not shown because too many came."""
        return self._sample.dropped

    def draw(self, relay: Relay, *, last: bool = False) -> None:
        """Draw the rows that came and the status lines anew; the last ones sum the run up."""
        size = self._drawing.size
        rows = self._rows(size.width, last)
        self._status.measure(relay, last=last)
        every = 1 if last else self._sample.every
        status = self._status.lines(relay, size.width, size.height, every=every, last=last)
        notes, self._notes = self._notes, []
        self._drawing.draw(rows, notes, status)

    def write(self) -> None:
        """Write what was drawn; this waits where the terminal takes nothing."""
        self._drawing.write()

    def _rows(self, width: int, last: bool) -> list[Text]:
        sample = self._sample
        rows = []
        if sample.every > 1 and not self._sampling:
            self._sampling = True
            sample.rows = min(sample.rows, _SAMPLED_ROWS)
            rows.append(Text(_TOO_MANY, style="dim"))
        for shown, at in sample.take(last=last):
            rows += row_lines(shown, width, age_of(shown.time, at))
            if self._detail:
                rows += below(shown, width)
        if self._sampling and sample.every == 1 and not last:
            self._sampling = False
            sample.rows = self._most_rows
            rows.append(Text(_ALL_AGAIN, style="dim"))
        return rows


def header_of(title: str, details: str) -> Text:
    """The header of a view; `details` are parts with three spaces between them."""
    header = Text(title, style="bold")
    return header.append(f"   {details}", style="dim not bold")


def recorded(details: str) -> str:
    """The details without how to stop, for what is looked at later."""
    return "   ".join(one for one in details.split("   ") if not one.startswith("Ctrl-C"))


def header_lines(header: Text, width: int) -> list[Text]:
    """The header on as many lines as it needs; it is broken where three spaces stand."""
    return flow(header.split("   "), width)


def gap_note(gap: Gap) -> Text:
    """What is said of records that were lost."""
    return Text(f"✖ lost  {gap_text(gap)}", style="red")


def trouble_note(message: str) -> Text:
    """What is said of a call that keeps failing."""
    return Text(printable(message), style="yellow")
