"""`dead-letters redrive` over AWS: open the bus, send, and show how it goes."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ddbrelay.cli.console import Ending, is_terminal, terminal, unblocked
from ddbrelay.cli.letters import ALL_GONE, result_line
from ddbrelay.cli.screens import left_out_text
from ddbrelay.cli.signals import run_until_signal
from ddbrelay.errors import ExpectationNotMet, RecordsParked, TemporaryFailure
from ddbrelay.objects.letters import result_object, result_state
from ddbrelay.relay.letters import Preparation, Result, preview
from ddbrelay.relay.redrive import Plan, Redrive, Summary
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.cli.options import Run
    from ddbrelay.objects import Of
    from ddbrelay.stores.letters import ItemOf, Letters

_MOST_SHOWN = 20
"""Letters that stay which a terminal names."""


class Screen:
    """A `Watcher`: a line or an object a letter; in a terminal the count, and what stays."""

    def __init__(self, console: Console, of: Of, letters: int) -> None:
        self._console, self._of, self._letters = console, of, letters
        self._done = 0
        self._kept: list[Result] = []
        self._failed = 0
        self._status: Any = None

    def __enter__(self) -> Screen:
        if is_terminal(sys.stderr) and self._console.live:
            self._status = terminal(stderr=True).status("opening the bus")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()
        for result in self._kept:
            self._console.data(result_line(self._console, result))
        if self._failed > len(self._kept) > 0:
            more = self._failed - len(self._kept)
            self._console.data(f"{counted(more, 'more letter')}; --output lines shows all")

    def result(self, result: Result) -> None:
        self._done += 1
        if self._console.json:
            self._console.object(result_object(self._of, result))
        elif self._status is None:
            self._console.data(result_line(self._console, result))
        else:
            # The relay may add letters while they are sent.
            whole = max(self._letters, self._done)
            self._status.update(f"{self._done:,} of {counted(whole, 'dead letter')}")
            if result.how is None:
                self._failed += 1
                if len(self._kept) < _MOST_SHOWN:
                    self._kept.append(result)

    def trouble(self, message: str) -> None:
        self._console.trouble(message)


@contextmanager
def unblocked_by_readers(run: Run) -> Iterator[Ending]:
    """Within it nobody who reads the output holds the loop, the signals or the lock of the letters.

    To be entered before the lock is taken: a slow reader is waited for without it.
    """
    with unblocked(run.settings.grace) as ending:
        yield ending
    if ending.error is not None:
        raise ending.error
    if ending.left_out:
        run.console.trouble(left_out_text(ending.left_out, last=True))


def send(
    run: Run,
    of: Of,
    letters: Letters,
    items: Sequence[ItemOf],
    preparation: Preparation,
    bus: str,
    plan: Plan,
    ending: Ending,
) -> tuple[Summary, float]:
    """Send the letters of these items until all are gone, fail, or a signal comes; and how long.

    What is being sent at the first signal is finished; the second one ends it at once. Raises
    TemporaryFailure where it ended early because nobody reads stdout any more.
    """
    from ddbrelay.aws.sinks import sink_of
    from ddbrelay.aws.transport import Transport
    from ddbrelay.cli.relaying import ReaderLeft

    console = run.console
    waiting = letters.count_of(items)
    reader = ReaderLeft()

    async def main(stop: asyncio.Event) -> Summary:
        reader.watch(stop)
        with Screen(console, of, waiting) as screen:
            async with Transport(run.aws) as transport:
                claim_check = run.settings.claim_check
                sink = await sink_of(run.aws, transport, bus, claim_check, console.trouble)
                redrive = Redrive(letters, preparation, sink, plan, screen)
                return await redrive.run(items, stop)

    began = time.monotonic()
    summary = run_until_signal(main)
    if summary.end == "stopped":
        ending.limit = plan.grace
        if reader.stopped:
            raise TemporaryFailure(
                "whoever read standard output has left, and nothing is sent any more",
                f"{run.again('dead-letters redrive')} goes on; with > /dev/null nobody must read",
            )
    return summary, time.monotonic() - began


def show_preview(
    run: Run, of: Of, letters: Letters, items: Sequence[ItemOf], preparation: Preparation
) -> None:
    """What would become of the letters of these items; nothing is sent."""
    states = {"would-send": 0, "would-skip": 0, "would-stay": 0}
    for item in items:
        for result in preview(letters, preparation, letters.of_item(item)):
            states[result_state(result, dry_run=True)] += 1
            if run.console.json:
                run.console.object(result_object(of, result, dry_run=True))
            else:
                run.console.data(result_line(run.console, result, dry_run=True))
    send, skip, stay = states.values()
    if run.console.json:
        run.console.object(
            {"type": "summary", "wouldSend": send, "wouldSkip": skip, "wouldStay": stay}
        )
    else:
        skipped = f"skip {skip:,}, " if skip else ""
        run.console.words(
            f"It would send {counted(send, 'dead letter')}, {skipped}and leave {stay:,}. "
            "Nothing was sent."
        )
        if send or skip:
            run.console.words("next: the same without --dry-run")
    if stay:
        raise RecordsParked(
            f"{counted(stay, 'dead letter')} would stay parked",
            f"{run.again('dead-letters list')} shows why",
        )


def show_end(run: Run, of: Of, summary: Summary, seconds: float, left: int, remap: bool) -> None:
    """The last words, or the last object; RecordsParked when some stay and nobody stopped it."""
    console = run.console
    if console.json:
        console.object(
            {
                "type": "summary",
                "consumer": of.consumer,
                "table": of.table or None,
                "redriven": summary.redriven,
                "skipped": summary.skipped,
                "failed": summary.failed,
                "remaining": left,
                "seconds": round(seconds, 3),
                "end": summary.end,
            }
        )
    elif not (summary.redriven or summary.skipped or left):
        console.words(ALL_GONE)
    else:
        skipped = f", skipped {summary.skipped:,}" if summary.skipped else ""
        begun = {"stopped": "Stopped. ", "timeout": "The time is up. "}.get(summary.end, "")
        sent = counted(summary.redriven, "dead letter")
        console.words(f"{begun}Sent {sent} in {seconds:.1f} s{skipped}; {left:,} left.")
    if left and summary.end == "timeout":
        raise ExpectationNotMet(
            f"the time-out came first: {counted(left, 'dead letter')} not sent yet",
            f"{run.again('dead-letters redrive')} goes on with them",
        )
    if left and summary.end != "stopped":
        one, many = "dead letter stays parked", "dead letters stay parked"
        hint = f"{run.again('dead-letters list')} shows why"
        if not remap:
            hint += "; --remap maps the records again, which needs no stored event"
        raise RecordsParked(f"{left:,} {one if left == 1 else many}", hint)
