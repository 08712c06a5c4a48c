"""The two ways to show a run while it goes: lines (or JSON objects), and the live view."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import click
import msgspec

from ddbrelay import logs
from ddbrelay.cli.console import Console
from ddbrelay.cli.view.counts import Counts
from ddbrelay.flow.capture import Gap
from ddbrelay.objects.outcomes import gap_object, outcome_object
from ddbrelay.relay import Outcome, Relay
from ddbrelay.secrecy import scrubbed
from ddbrelay.words.changes import gap_text, outcome_line

_log = logging.getLogger(__name__)

_UNFOLDED = 10_000
"""Cells of a line that goes into a pipe or a file."""


class LineScreen:
    """One line, or one JSON object, for each outcome, written in batches.

    With `detail` the event stands below its line, and what an update changed.
    """

    def __init__(self, console: Console, bus: str | None, *, detail: bool = False) -> None:
        self._console, self._bus, self._detail = console, bus, detail
        self._buffer: list[bytes] = []
        self._written = asyncio.Event()
        # Somebody may have closed stdout (`>&-`).
        self._silent = (console.quiet and not console.json) or sys.stdout is None
        self.broken = False

    def outcome(self, outcome: Outcome) -> None:
        if self._silent:
            return
        if self._console.json:
            self._put(msgspec.json.encode(outcome_object(outcome, self._bus)))
            return
        self._put(outcome_line(outcome).encode())
        if self._detail:
            from ddbrelay.cli.view.rows import Shown, below

            for line in below(Shown.of(outcome, detail=True), _UNFOLDED):
                self._put(line.plain.encode())

    def gap(self, gap: Gap) -> None:
        if self._console.json:
            self._put(msgspec.json.encode(gap_object(gap)))
        if self._console.logs_trouble:
            _log_gap(gap)
        else:
            click.echo(f"lost: {gap_text(gap)}", err=True)

    def trouble(self, message: str) -> None:
        self._console.trouble(message)

    def _put(self, line: bytes) -> None:
        self._buffer.append(line)
        if len(self._buffer) == 1:
            self._written.set()

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        while not self.broken:
            await self._written.wait()
            self._written.clear()
            self._flush()
        stop.set()

    def close(self, relay: Relay | None) -> None:
        self._flush()

    def _flush(self) -> None:
        lines, self._buffer = self._buffer, []
        if not lines or self.broken:
            return
        try:
            sys.stdout.buffer.write(b"\n".join(lines) + b"\n")
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # `| head` has seen enough; what is in hand is still finished and saved.
            self.broken = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
            self._view.draw(relay)
            # A terminal that takes nothing must not hold the relay.
            await asyncio.to_thread(self._view.write)
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
