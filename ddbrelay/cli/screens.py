"""The two ways to show a run while it goes: lines (or JSON objects), and the live view."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import msgspec

from ddbrelay import logs
from ddbrelay.cli import console as printing
from ddbrelay.cli.console import Console
from ddbrelay.cli.view.counts import Counts
from ddbrelay.flow.capture import Gap
from ddbrelay.output import outcome as printed
from ddbrelay.output.words import gap_text, outcome_line
from ddbrelay.relay import Outcome, Relay
from ddbrelay.secrecy import scrubbed
from ddbrelay.text import counted

_log = logging.getLogger(__name__)

_UNFOLDED = 10_000
"""Cells of a line that goes into a pipe or a file."""
_AHEAD = 1024 * 1024
"""Bytes that a preview reads ahead of whoever reads it."""
_TICK = 0.02
_SELDOM = 10.0


class LineScreen:
    """One line, or one JSON object, for each outcome, written in batches.

    With `detail` the event stands below its line, and what an update changed. A preview waits for a
    reader that is slower; a run that sends leaves lines out where too many wait, and says so.
    """

    def __init__(self, console: Console, bus: str | None, *, detail: bool = False) -> None:
        self._console, self._bus, self._detail = console, bus, detail
        self._buffer: list[bytes] = []
        self._written = asyncio.Event()
        # Somebody may have closed stdout (`>&-`).
        self._silent = (console.quiet and not console.json) or sys.stdout is None
        self._seldom, self._left_out = logs.Seldom(_SELDOM), 0

    def outcome(self, outcome: Outcome) -> None:
        if self._silent:
            return
        if self._console.json:
            self._put(msgspec.json.encode(printed.Outcome.of(outcome, self._bus)))
            return
        self._put(outcome_line(outcome).encode())
        if self._detail:
            from ddbrelay.cli.view.rows import Shown, below

            for line in below(Shown.of(outcome, detail=True), _UNFOLDED):
                self._put(line.plain.encode())

    def gap(self, gap: Gap) -> None:
        if self._console.json:
            self._put(msgspec.json.encode(printed.Lost.of(gap)))
        if self._console.logs_trouble:
            _log_gap(gap)
        else:
            printing.err(f"lost: {gap_text(gap)}")

    def trouble(self, message: str) -> None:
        self._console.trouble(message)

    def _put(self, line: bytes) -> None:
        self._buffer.append(line)
        if len(self._buffer) == 1:
            self._written.set()

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            self._flush()
            if relay.preview and printing.waiting() > _AHEAD:
                relay.pause()
                while printing.waiting() > _AHEAD:  # noqa: ASYNC110 (a thread takes it)
                    await asyncio.sleep(_TICK)
                relay.resume()

    def close(self, relay: Relay | None) -> None:
        self._flush()

    def _flush(self) -> None:
        lines, self._buffer = self._buffer, []
        if not lines:
            return
        text = b"\n".join((*lines, b""))
        if self._console.json:
            printing.out_json(text)
        else:
            printing.out_bytes(text)
        if (left_out := printing.left_out()) > self._left_out and self._seldom.count("line"):
            self._left_out = left_out
            self._console.trouble(left_out_text(left_out))


def left_out_text(lines: int, *, last: bool = False) -> str:
    """What is said of lines that nobody read in time; `last` at the end of the run."""
    so_far = "" if last else " so far"
    return (
        f"{counted(lines, 'line')} of output left out{so_far}: standard output is not read as fast "
        "as events are relayed, and relaying comes first"
    )


class LiveScreen:
    """The live view of a terminal; `details` are parts with three spaces between them.

    What it is told is counted in `counts`.
    """

    def __init__(
        self, title: str, details: str, *, detail: bool = False, counts: Counts | None = None
    ) -> None:
        from ddbrelay.cli.view.live import LiveView, header_of

        self._view = LiveView(header_of(title, details), detail=detail, counts=counts)
        self._view.__enter__()
        self.outcome = self._view.outcome

    def gap(self, gap: Gap) -> None:
        if logs.apart():
            _log_gap(gap)
        self._view.gap(gap)

    def trouble(self, message: str) -> None:
        if logs.apart():
            _log.warning("%s", message)
        self._view.trouble(scrubbed(message))

    @property
    def dropped(self) -> int:
        """Outcomes that were not shown because too many came."""
        return self._view.dropped

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        while True:
            # A terminal that takes nothing must not hold the relay.
            if not printing.waiting():
                self._view.draw(relay)
                self._view.write()
            await asyncio.sleep(self._view.pause)

    def close(self, relay: Relay | None) -> None:
        try:
            if relay is not None:
                self._view.draw(relay, last=True)
                self._view.write()
        finally:
            self._view.__exit__(None, None, None)


def _log_gap(gap: Gap) -> None:
    told: dict[str, Any] = {"after": gap.after, "before": gap.before, "reason": gap.reason}
    _log.error("lost: %s", gap_text(gap), extra=logs.fields(shardId=gap.shard_id, **told))
