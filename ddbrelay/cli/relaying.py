"""What `tail`, `replay` and `demo` share: open everything, run the engine, judge the end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ddbrelay.cli.render import gap_object
from ddbrelay.cli.screens import Screen
from ddbrelay.cli.signals import asyncio_stop
from ddbrelay.cli.text import counted
from ddbrelay.errors import AwsRefused, DataLost, ExpectationNotMet, RecordsParked
from ddbrelay.flow.calendar import iso
from ddbrelay.flow.tracking import Fate, Store, Tally
from ddbrelay.relay import Options, Relay

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.aws.table import TableStream
    from ddbrelay.cli.metrics import Metrics
    from ddbrelay.cli.view.view import View
    from ddbrelay.config import Settings
    from ddbrelay.flow.capture import StreamSource
    from ddbrelay.flow.mapping import MapFunction
    from ddbrelay.flow.sink import Sink
    from ddbrelay.mappings import Tidying
    from ddbrelay.relay.copies import LetterStore


@dataclass(frozen=True)
class Monitor:
    """Where /metrics and /healthz are served; `metrics` counts over all runs of the process."""

    metrics: Metrics
    host: str
    port: int


@dataclass(frozen=True)
class CopyTo:
    """The SQS queue for a copy of each dead letter that a consumer has in `store`."""

    queue: str
    store: LetterStore
    consumer: str


@dataclass(frozen=True)
class Job:
    """One run: what it reads, how it maps, where it sends (`bus` None for nowhere).

    `part` narrows the stream to some of its shards. `copies` says where copies of dead letters go,
    `monitor` where the run can be watched, `tidying` what becomes of items that were relayed.
    """

    aws: Aws
    stream: TableStream
    mapper: MapFunction
    bus: str | None
    store: Store
    options: Options
    part: Callable[[StreamSource], StreamSource] | None = None
    copies: CopyTo | None = None
    monitor: Monitor | None = None
    tidying: Tidying | None = None


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    `events` were published, `seconds` is its length, `held` why the bus took nothing at the end.
    """

    tally: Tally
    reason: str
    read: int
    events: int
    seconds: float
    held: str | None = None

    def following(self, before: Ended | None) -> Ended:
        """This run and the one before it, as one."""
        if before is None:
            return self
        return Ended(
            before.tally + self.tally,
            self.reason,
            before.read + self.read,
            before.events + self.events,
            before.seconds + self.seconds,
            self.held,
        )


def options_of(settings: Settings, **bounds: Any) -> Options:
    """How a run goes by the settings, and by the bounds of this one."""
    from ddbrelay.flow.capture import Pace

    return Options(
        grace=settings.grace,
        max_in_flight=settings.max_in_flight,
        linger=settings.linger,
        claim_check=settings.claim_check,
        pace=Pace(settings.poll_interval, settings.idle_interval),
        discovery_interval=settings.discovery_interval,
        **bounds,
    )


def monitor_of(settings: Settings, table: str, bus: str | None) -> Monitor | None:
    """Where the runs of this process are watched; None where no port was asked for."""
    if settings.metrics_port is None:
        return None
    from ddbrelay.cli.metrics import Metrics

    labels = {"table": table, "bus": bus or "", "consumer": settings.consumer}
    metrics = Metrics(labels, idle_interval=settings.idle_interval)
    return Monitor(metrics, settings.metrics_host, settings.metrics_port)


async def relay(job: Job, screen: Screen, stop: asyncio.Event) -> Ended:
    """Run the engine over AWS until it ends; the screen is closed on every way out."""
    from ddbrelay.aws.sinks import sink_of, tidied
    from ddbrelay.aws.streams import AwsStream
    from ddbrelay.aws.transport import Transport
    from ddbrelay.flow.change import Origin

    began = time.monotonic()
    engine: Relay | None = None
    follower: asyncio.Task[None] | None = None
    origin = Origin(job.stream.table, job.stream.arn)
    try:
        async with contextlib.AsyncExitStack() as stack:
            transport = await stack.enter_async_context(Transport(job.aws))
            source: StreamSource = await AwsStream.open(transport, job.stream.arn)
            if job.part is not None:
                source = job.part(source)
            sink: Sink | None = None
            if job.bus is not None:
                claim_check = job.options.claim_check
                sink = await sink_of(job.aws, transport, job.bus, claim_check, screen.trouble)
                sink = await stack.enter_async_context(
                    tidied(
                        sink,
                        transport,
                        origin.table,
                        job.tidying,
                        screen.trouble,
                        job.options.grace,
                    )
                )
            store: Store = job.store
            if job.copies is not None:
                from ddbrelay.aws.letter_queue import LetterQueue
                from ddbrelay.relay.copies import Copies

                to, grace = job.copies, job.options.grace
                queue = await LetterQueue.open(job.aws, to.queue, to.consumer, origin)
                store = await stack.enter_async_context(
                    Copies(to.store, queue, screen.trouble, grace=grace)
                )
            engine = Relay(source, job.mapper, sink, store, origin, screen, job.options)
            if job.monitor is not None:
                from ddbrelay.cli.metrics import serving

                at = job.monitor
                await stack.enter_async_context(serving(at.metrics, engine, at.host, at.port))
            follower = asyncio.create_task(screen.follow(engine, stop))
            tally = await engine.run(stop)
    finally:
        if follower is not None:
            follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await follower
        screen.close(engine)
    seconds = time.monotonic() - began
    return Ended(tally, engine.end_reason, engine.read, engine.usage.events, seconds, engine.held)


def run(job: Job, view: View, title: str, details: str) -> Ended:
    """Run until a signal, a bound or the end of the stream, as the view shows it."""

    if not (view.live or view.console.json):
        view.console.words(f"{title}   {details}")

    async def main() -> Ended:
        screen = view.screen(title, details, job.bus)
        with asyncio_stop() as stop:
            return await relay(job, screen, stop)

    with asyncio.Runner(loop_factory=_fast_loop) as runner, _rare_collections():
        return runner.run(main())


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


def summary_object(ended: Ended, **more: Any) -> dict[str, Any]:
    """The last object of `--output json`."""
    tally = ended.tally
    return {
        "type": "summary",
        "read": ended.read,
        "published": tally[Fate.PUBLISHED],
        "events": ended.events,
        "skipped": tally[Fate.SKIPPED],
        "skippedBy": dict(tally.skipped_by),
        "parked": tally[Fate.PARKED],
        "lost": [gap_object(gap) for gap in tally.gaps],
        "retried": tally.retried,
        "seconds": round(ended.seconds, 3),
        "end": ended.reason,
        "at": iso(time.time()),
        **more,
    }


def judge(ended: Ended, *, timeout_is_a_failure: bool, forward: bool = True) -> None:
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
            "ddbrelay ledger lists them; compare the table with what its consumers have",
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
            "ddbrelay dead-letters list shows them, redrive sends them again, in order",
        )
    if ended.reason == "timeout" and timeout_is_a_failure:
        raise ExpectationNotMet("the time-out came before the end that was asked for")
