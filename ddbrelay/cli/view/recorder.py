"""A run as a recording keeps it: every row, of which the last ones are drawn at the end."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text

from ddbrelay.cli.view.clock import Clock
from ddbrelay.cli.view.live import (
    REFRESH,
    gap_note,
    header_lines,
    header_of,
    recorded,
    trouble_note,
)
from ddbrelay.cli.view.rows import Shown, age_of, below, row_lines
from ddbrelay.cli.view.status import Status
from ddbrelay.cli.view.table import summary_table
from ddbrelay.flow.capture import Gap
from ddbrelay.relay import Outcome

if TYPE_CHECKING:
    from ddbrelay.cli.recording import Recording
    from ddbrelay.cli.view.counts import Counts
    from ddbrelay.relay import Relay

_TALL = 1000
"""Lines of a recording, which has room for all that may be said."""


class Recorder:
    """Hands a run to a recording, whose rows are made only when it is written."""

    def __init__(self, recording: Recording, clock: Clock, *, detail: bool) -> None:
        self._recording, self._detail, self._clock = recording, detail, clock
        self._status = Status(clock)

    def header(self, title: str, details: str) -> None:
        """What the run is; `details` are parts with three spaces between them."""
        lines = header_lines(header_of(title, recorded(details)), self._recording.width)
        self._recording.header(Text("\n").join(lines))

    def outcome(self, outcome: Outcome) -> None:
        """Keep a row, as long as it is among the last ones."""
        self._recording.row(partial(self._row, outcome, self._clock.now()))

    def _row(self, outcome: Outcome, at: float) -> Text:
        width, shown = self._recording.width, Shown.of(outcome, detail=self._detail)
        lines = row_lines(shown, width, age_of(shown.time, at))
        return Text("\n").join([*lines, *(below(shown, width) if self._detail else ())])

    def gap(self, gap: Gap) -> None:
        """Keep a line of its own."""
        self._recording.note(gap_note(gap))

    def trouble(self, message: str) -> None:
        """Keep a line of its own."""
        self._recording.note(trouble_note(message))

    async def follow(self, relay: Relay) -> None:
        """Take the numbers of the run until cancelled."""
        while True:
            self._status.measure(relay)
            await asyncio.sleep(REFRESH)

    def close(self, relay: Relay) -> None:
        """Keep the status lines as they stand at the end."""
        self._status.measure(relay, last=True)
        lines = self._status.lines(relay, self._recording.width, _TALL, last=True)
        self._recording.status(Text("\n").join([Text(), *lines]))

    def sum_up(self, counts: Counts, *, preview: bool) -> None:
        """Keep the table of what it came to."""
        table = summary_table(counts, self._recording.width, preview=preview)
        if table is not None:
            self._recording.summary(table)
