"""What `tail`, `replay` and `demo` share: open everything, run the engine, judge the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ddbrelay.cli import console as printing
from ddbrelay.cli.screens import left_out_text
from ddbrelay.cli.signals import run_until_signal
from ddbrelay.errors import AwsRefused, DataLost, ExpectationNotMet, RecordsParked, TemporaryFailure
from ddbrelay.flow.tracking import Fate
from ddbrelay.jobs import Ended, Job, Monitor, relay
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.cli.view.view import View
    from ddbrelay.config import Settings


def monitor_of(settings: Settings, table: str, bus: str | None) -> Monitor | None:
    """Where the runs of this process are watched; None where no port was asked for."""
    if settings.metrics_port is None:
        return None
    from ddbrelay.metrics import Metrics

    labels = {"table": table, "bus": bus or "", "consumer": settings.consumer}
    metrics = Metrics(labels, idle_interval=settings.idle_interval)
    return Monitor(metrics, settings.metrics_host, settings.metrics_port)


def run(job: Job, view: View, title: str, details: str, mapping: str) -> Ended:
    """Run until a signal, a bound or the end of the stream, as the view shows it.

    `mapping` is the one in force, which a header says and a line of its own has said.
    """

    if not (view.live or view.console.json):
        view.console.words(f"{title}   {details}")

    left = ReaderLeft()

    async def main(stop: asyncio.Event) -> Ended:
        left.watch(stop)
        screen = view.screen(title, f"{mapping}   {details}", job.bus)
        return await relay(job, screen, stop)

    # A preview waits for its reader; what was relayed is settled, whether anybody reads of it.
    patience = None if job.bus is None else job.options.grace
    with printing.unblocked(patience) as ending, _rare_collections():
        ended = run_until_signal(main, _fast_loop)
        if ended.reason == "stopped":
            ending.limit = job.options.grace
    if ending.error is not None:
        raise ending.error
    if ending.left_out:
        view.console.trouble(left_out_text(ending.left_out, last=True))
    return replace(ended, left_out=ending.left_out, reader_left=left.stopped)


class ReaderLeft:
    """Stops a run once nobody reads stdout: `| head` has seen enough.

    What is in hand is still finished and saved. `stopped` says that nothing else had ended the run.
    """

    def __init__(self) -> None:
        self.stopped = False

    def watch(self, stop: asyncio.Event) -> None:
        """Set `stop` when the reader leaves; to be called on the loop."""
        loop = asyncio.get_running_loop()

        def leave() -> None:
            self.stopped = not stop.is_set()
            stop.set()

        def tell() -> None:
            # The loop may have ended by itself meanwhile.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(leave)

        printing.when_reader_leaves(tell)


def _fast_loop() -> asyncio.AbstractEventLoop:
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


@contextlib.contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect cyclic garbage seldom: records make none, and there are hundreds of thousands."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def judge(
    ended: Ended,
    again: Callable[[str], str],
    *,
    timeout_is_a_failure: bool,
    forward: bool = True,
    resumes: bool = True,
) -> None:
    """Raise what the exit code must say; lost records weigh more than parked ones.

    Without `forward` nothing was sent, and nothing parked either.
    """
    tally = ended.tally
    if ended.reason == "gone" and not tally.gaps:
        raise AwsRefused(
            "the stream no longer exists",
            "was its table deleted? A new run follows the stream of a new table",
        )
    if tally.gaps:
        raise DataLost(
            f"records of {counted(len({gap.shard_id for gap in tally.gaps}), 'shard')} were lost "
            "before they could be read",
            f"{again('ledger')} lists them; compare the table with what its consumers have",
        )
    if ended.reader_left and forward:
        where = "goes on from the checkpoint" if resumes else "sends all of it once more"
        raise TemporaryFailure(
            "whoever read standard output has left, and nothing is relayed any more",
            f"a new start {where}; with > /dev/null nobody needs to read",
        )
    if ended.held is not None and ended.reason != "stopped":
        raise AwsRefused(
            ended.held, "ddbrelay provision makes it; the next run sends what was not sent"
        )
    if (parked := tally[Fate.PARKED]) and not forward:
        one, many = "record would be parked", "records would be parked"
        raise RecordsParked(
            f"{parked:,} {one if parked == 1 else many}",
            "mend the mapping first: ddbrelay map FILE --explain shows why",
        )
    if parked and ended.reason != "stopped":
        one, many = "record is parked as a dead letter", "records are parked as dead letters"
        raise RecordsParked(
            f"finished, but {parked:,} {one if parked == 1 else many}",
            f"{again('dead-letters list')} shows them, redrive sends them again, in order",
        )
    if ended.reason == "timeout" and timeout_is_a_failure:
        raise ExpectationNotMet("the time-out came before the end that was asked for")
