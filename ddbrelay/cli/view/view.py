"""How the runs of one command are shown: on which screen, what of them, and what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ddbrelay.cli.console import Console, terminal
from ddbrelay.cli.screens import LineScreen, LiveScreen
from ddbrelay.cli.view.clock import Clock
from ddbrelay.cli.view.counts import Counts
from ddbrelay.cli.view.filters import Filter
from ddbrelay.flow.capture import Gap
from ddbrelay.jobs import Screen
from ddbrelay.output.words import searched
from ddbrelay.relay import Outcome
from ddbrelay.text import printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole

    from ddbrelay.cli.options import Run
    from ddbrelay.cli.recording import Recording
    from ddbrelay.cli.view.recorder import Recorder
    from ddbrelay.relay import Relay


def view_of(
    run: Run, title: str, show: Sequence[str], grep: str | None, detail: bool, record: Path | None
) -> View:
    """What the options of a command ask for; ConfigError where they cannot be right."""
    from ddbrelay.cli.recording import Recording

    recording = None if record is None else Recording(record, title=title)
    chosen = Filter(show, grep, run.console.trouble)
    return View(run.console, chosen, detail=detail, recording=recording)


class View:
    """The view of one command, whose runs may follow one another.

    As a context manager it sums up and writes the recording at the end, however that comes.
    """

    def __init__(
        self,
        console: Console,
        filter: Filter | None = None,
        *,
        detail: bool = False,
        recording: Recording | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.console = console
        self.counts = Counts()
        self._filter = filter or Filter((), None)
        self._detail, self._recording = detail, recording
        self._clock = clock or Clock()
        plain = os.environ.get("TERM") in {"dumb", "", None}
        self.live = console.live and not plain
        self._preview = False
        self._recorder: Recorder | None = None
        self._screens: list[LiveScreen] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._recording is not None:
            if self._recorder is not None:
                self._recorder.sum_up(self.counts, preview=self._preview)
            self._recording.__exit__(kind, error, trace)
            self.console.words(f"wrote {printable(str(self._recording.path))}")
        if error is None or isinstance(error, Exception):
            self.sum_up()

    def screen(self, title: str, details: str, bus: str | None) -> Screen:
        """The screen of the next run; `bus` None for one that sends nothing."""
        self._preview = bus is None
        if self._recording is not None and self._recorder is None:
            from ddbrelay.cli.view.recorder import Recorder

            self._recorder = Recorder(self._recording, self._clock, detail=self._detail)
            self._recorder.header(title, details)
        plain = self._recorder is None and not self.narrows
        screen: LiveScreen | LineScreen
        if self.live:
            # It counts by itself what nothing stands before.
            counts = self.counts if plain else None
            screen = LiveScreen(title, details, detail=self._detail, counts=counts)
            self._screens.append(screen)
        else:
            screen = LineScreen(self.console, bus, detail=self._detail)
        return screen if plain else _Viewed(self, screen, self._recorder)

    def sum_up(self, screen: RichConsole | None = None) -> None:
        """Print what the runs came to, in a terminal as a table, and how much a filter hid."""
        if self.live:
            from rich.console import Group
            from rich.text import Text

            from ddbrelay.cli.view.table import rows_shown, summary_table

            screen = screen or terminal()
            table = summary_table(self.counts, screen.width, preview=self._preview)
            if table is not None:
                screen.print(Group(Text(), table, Text()))
            if dropped := sum(one.dropped for one in self._screens):
                seen = self.counts.total - self._filter.hidden
                screen.print(rows_shown(seen - dropped, seen))
        if not self.console.json and (hidden := self._filter.words()):
            self.console.words(hidden)

    @property
    def hidden(self) -> int:
        """How many a filter did not let be seen."""
        return self._filter.hidden

    def shows(self, outcome: Outcome) -> bool:
        """Whether a filter lets it be seen; those that it hides are counted."""
        detail_type = None if outcome.event is None else outcome.event.detail_type
        return self._filter.shows(detail_type, lambda: searched(outcome))

    @property
    def narrows(self) -> bool:
        """Whether there is a filter."""
        return self._filter.narrows


class _Viewed:
    """A screen that is told only of what is to be seen; all is counted, and kept if recorded."""

    def __init__(self, view: View, screen: Screen, recorder: Recorder | None) -> None:
        self._view, self._screen, self._recorder = view, screen, recorder
        self._count, self._tell = view.counts.add, screen.outcome
        self._narrows = view.narrows

    def outcome(self, outcome: Outcome) -> None:
        self._count(outcome)
        if self._narrows and not self._view.shows(outcome):
            return
        if self._recorder is not None:
            self._recorder.outcome(outcome)
        self._tell(outcome)

    def gap(self, gap: Gap) -> None:
        self._view.counts.lost += 1
        if self._recorder is not None:
            self._recorder.gap(gap)
        self._screen.gap(gap)

    def trouble(self, message: str) -> None:
        if self._recorder is not None:
            self._recorder.trouble(message)
        self._screen.trouble(message)

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        if self._recorder is None:
            await self._screen.follow(relay, stop)
            return
        beside = asyncio.create_task(self._recorder.follow(relay))
        try:
            await self._screen.follow(relay, stop)
        finally:
            beside.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beside

    def close(self, relay: Relay | None) -> None:
        self._screen.close(relay)
        if self._recorder is not None and relay is not None:
            self._recorder.close(relay)
