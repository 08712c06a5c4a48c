"""One run of the engine over AWS: what it is given, how it goes, how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ddbrelay.flow.tracking import Store, Tally
from ddbrelay.relay import Observer, Options, Relay

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.aws.table import TableStream
    from ddbrelay.config import Settings
    from ddbrelay.flow.capture import StreamSource
    from ddbrelay.flow.mapping import MapFunction
    from ddbrelay.flow.sink import Sink
    from ddbrelay.mappings import Tidying
    from ddbrelay.metrics import Metrics
    from ddbrelay.relay.copies import LetterStore


class Screen(Observer, Protocol):
    """An observer that shows what it is told; `follow` runs beside the engine."""

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        """Keep the screen fresh until cancelled; may set `stop`."""

    def close(self, relay: Relay | None) -> None:
        """Show what is left."""


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
    Of what was printed `left_out` lines were not read in time; `reader_left` says that the run was
    stopped because nobody read any more.
    """

    tally: Tally
    reason: str
    read: int
    events: int
    seconds: float
    held: str | None = None
    left_out: int = 0
    reader_left: bool = False

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
            before.left_out + self.left_out,
            self.reader_left,
        )


def options_of(settings: Settings, **bounds: Any) -> Options:
    """How a run goes by the settings, and by the bounds of this one."""
    from ddbrelay.flow.capture import Pace

    return Options(
        grace=settings.grace,
        max_in_flight=settings.max_in_flight,
        linger=settings.linger,
        refusal_timeout=settings.refusal_timeout,
        claim_check=settings.claim_check,
        pace=Pace(settings.poll_interval, settings.idle_interval),
        discovery_interval=settings.discovery_interval,
        **bounds,
    )


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
                from ddbrelay.metrics import serving

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
