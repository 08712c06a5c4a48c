"""What a run does, for Prometheus and for whoever must know whether it still goes on.

`/metrics` in the text format or as OpenMetrics, whichever is asked for; `/healthz` as JSON, with
200 while every shard makes progress and the bus takes events, and 503 otherwise. Nothing is counted
here while events flow: the engine is read when somebody asks. Table, bus and consumer stand in
`ddbrelay_relay_info` alone, to be joined: on every series they would say again what `job` and
`instance` say already.
https://prometheus.io/docs/practices/naming/ and .../instrumenting/writing_exporters/
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client import CollectorRegistry, Histogram, Metric, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ddbrelay import __version__
from ddbrelay.errors import (
    PASSING,
    ConfigError,
    DdbrelayError,
    StateError,
    StateUnavailable,
    TemporaryFailure,
)
from ddbrelay.flow.tracking import Fate, Tally, Usage
from ddbrelay.relay.backlog import Backlog, worst
from ddbrelay.relay.dispatch import Refusing
from ddbrelay.relay.outcome import Progress
from ddbrelay.secrecy import scrubbed
from ddbrelay.times import iso

BUCKETS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0),
)
"""Upper bounds of the histogram, in seconds."""
LEAST_QUIET = 60.0
"""A shard is never called stalled before so many seconds have passed."""
_CLOSING = 0.5
_server_log = logging.getLogger(f"{__name__}.server")
_FATES = tuple(fate.value for fate in Fate)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether it is no fault of whoever asks: aiohttp logs a malformed request as an error."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError)


_server_log.addFilter(_is_ours)


class Requests(Protocol):
    """What is read of the sending half of a run. `ddbrelay.relay.dispatch.Dispatch` is one."""

    on_answer: Callable[[float], None]
    """Is called with the seconds of each PutEvents request."""

    @property
    def in_flight(self) -> int:
        """Events that were sent and not answered yet."""

    @property
    def pending(self) -> int:
        """Events that wait or are in flight."""

    @property
    def requests(self) -> int:
        """Requests in flight."""

    @property
    def window(self) -> int:
        """Requests that may be in flight now."""

    @property
    def refusing(self) -> Refusing | None:
        """Since when a bus has taken no event although some were sent, and why."""


class Engine(Protocol):
    """What is read of a run; times are in seconds. `ddbrelay.relay.Relay` is one."""

    @property
    def dispatch(self) -> Requests | None:
        """None for a run that sends nothing."""

    @property
    def tally(self) -> Tally: ...

    @property
    def usage(self) -> Usage: ...

    @property
    def read(self) -> int:
        """Records."""

    @property
    def shards(self) -> int:
        """Shards that are being read."""

    @property
    def lag(self) -> float: ...

    @property
    def backlog(self) -> Backlog: ...

    def progress(self) -> Sequence[Progress]: ...


class Metrics(Collector):
    """Reads the engines of one process, one after the other; what is counted goes on.

    A shard counts as stalled after a minute without progress, or three of its longest pauses; the
    bus as held after a minute in which it took none of the events that were sent. `dead_letters`,
    where it is set, says how many wait in the store; it may block, and is called in a thread.
    """

    def __init__(
        self,
        labels: dict[str, str],
        *,
        idle_interval: float = 1.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._labels = labels
        self._now = now
        self._patience = max(LEAST_QUIET, 3 * idle_interval)
        self._engine: Engine | None = None
        self.dead_letters: Callable[[], int] | None = None
        self._letters: int | None = None
        """Dead letters when they were last counted; None where that is not known."""
        self._before: Counter[str] = Counter()
        self.registry = CollectorRegistry(auto_describe=False)
        self._answers = Histogram(
            "ddbrelay_put_events_seconds",
            "Time from sending a PutEvents request to its answer.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def follow(self, engine: Engine) -> None:
        """Read this engine from now on."""
        self.leave()
        self._engine = engine
        if engine.dispatch is not None:
            engine.dispatch.on_answer = self._answers.observe

    def leave(self) -> None:
        """The engine has ended; what it counted stays."""
        if self._engine is not None:
            self._before.update(_counts(self._engine))
            self._engine = None

    def collect(self) -> Iterator[Metric]:
        """Every family but the histogram and those of the process."""
        yield InfoMetricFamily("ddbrelay_build", "This program.", {"version": __version__})
        yield InfoMetricFamily("ddbrelay_relay", "What is relayed, and where to.", self._labels)
        yield from self._counters()
        if self._engine is not None:
            yield from _gauges(self._engine, self._now())
            stalled = len(self._stalled(self._engine))
            yield _gauge("ddbrelay_shards_stalled", "Shards without progress.", stalled)
            if self._letters is not None:
                words = "Dead letters that wait in the store."
                yield _gauge("ddbrelay_dead_letters", words, self._letters)

    async def count_letters(self) -> None:
        """Count the dead letters for the next `collect`; a locked store keeps the last number."""
        if self.dead_letters is None:
            return
        try:
            self._letters = await asyncio.to_thread(self.dead_letters)
        except StateUnavailable:
            _server_log.debug("the dead letters are not counted: the store cannot be read now")
        except StateError:
            # A store that cannot be read has no number: it is not zero.
            self._letters = None

    def health(self) -> tuple[bool, dict[str, object]]:
        """Whether every shard makes progress and the bus takes events, and the words for it."""
        engine = self._engine
        if engine is None:
            return True, {"status": "ok", "shards": 0, "stalled": []}
        stalled = self._stalled(engine)
        refusing = None if engine.dispatch is None else engine.dispatch.refusing
        held = refusing is not None and refusing.lasts
        words: dict[str, object] = {
            "status": "held" if held else "stalled" if stalled else "ok",
            "shards": engine.shards,
            "stalled": [
                {"shardId": one.shard_id, "quietSeconds": round(one.quiet, 1)} for one in stalled
            ],
        }
        if refusing is not None and refusing.held:
            words["held"] = scrubbed(refusing.reason)
            if refusing.lasts:
                words["heldSince"] = iso(round(self._now() - refusing.seconds))
        return not stalled and not held, words

    def _stalled(self, engine: Engine) -> list[Progress]:
        quiet = [one for one in engine.progress() if one.quiet > self._patience]
        return sorted(quiet, key=lambda one: (-one.quiet, one.shard_id))

    def _counters(self) -> Iterator[Metric]:
        counts = self._before.copy()
        if self._engine is not None:
            counts.update(_counts(self._engine))
        for name, words in _COUNTERS.items():
            yield CounterMetricFamily(f"ddbrelay_{name}", words, counts[name])
        events = CounterMetricFamily(
            "ddbrelay_events", "Records by what became of them.", labels=["fate"]
        )
        for fate in _FATES:
            events.add_metric([fate], counts[fate])
        yield events


_COUNTERS = {
    "records_read": "Records read from the stream.",
    "records_lost_gaps": "Runs of records that left the stream before they could be read.",
    "entries_retried": "Entries of PutEvents that were sent again.",
    "stream_reads": "Calls of GetRecords.",
    "put_events_requests": "Calls of PutEvents.",
    "billed_chunks": "64 KB begun of each event that the bus took, which is what AWS bills.",
    "claim_checks": "Details written to S3 because no event could hold them.",
}


def _counts(engine: Engine) -> dict[str, int]:
    tally, usage = engine.tally, engine.usage
    return {
        "records_read": engine.read,
        "records_lost_gaps": len(tally.gaps),
        "entries_retried": tally.retried,
        "stream_reads": usage.reads,
        "put_events_requests": usage.requests,
        "billed_chunks": usage.chunks,
        "claim_checks": usage.puts,
        **{fate.value: tally[fate] for fate in Fate},
    }


def _gauges(engine: Engine, now: float) -> Iterator[Metric]:
    backlog = engine.backlog
    yield _gauge(
        "ddbrelay_lag_seconds", "Age of the oldest write that is not behind the run.", engine.lag
    )
    # Absent where nothing is unread: no number would be far enough from an alert.
    for oldest in worst(backlog.unread)[:1]:
        left = oldest.left(now)
        if left is not None:
            yield _gauge(
                "ddbrelay_retention_left_seconds",
                "Time until the oldest unread record leaves the stream, at least.",
                left,
            )
    yield _gauge("ddbrelay_shards", "Shards that are being read.", engine.shards)
    yield _gauge("ddbrelay_shards_waiting", "Shards that wait for their parents.", backlog.waiting)
    if engine.dispatch is not None:
        yield from _sending(engine.dispatch)


def _sending(dispatch: Requests) -> Iterator[Metric]:
    yield _gauge("ddbrelay_pending_events", "Events that wait or are in flight.", dispatch.pending)
    yield _gauge("ddbrelay_in_flight_events", "Events sent and not answered.", dispatch.in_flight)
    yield _gauge(
        "ddbrelay_in_flight_requests", "PutEvents requests not answered.", dispatch.requests
    )
    yield _gauge(
        "ddbrelay_request_window", "PutEvents requests that may be in flight now.", dispatch.window
    )
    refusing = dispatch.refusing
    held = refusing is not None and refusing.held
    yield _gauge("ddbrelay_bus_held", "1 while a bus takes nothing and events wait.", held)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value)


@dataclass(frozen=True)
class Served:
    """Where the metrics are; `port` is the bound one."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address of `/metrics`."""
        return f"http://{_host(self.host)}:{self.port}/metrics"


@asynccontextmanager
async def serving(metrics: Metrics, engine: Engine, host: str, port: int) -> AsyncIterator[Served]:
    """Serve what this engine does, on the running loop, until the block is left.

    Port 0 takes any that is free. Raises ConfigError when the address cannot be listened on, and
    TemporaryFailure when only another process is in the way.
    """
    metrics.follow(engine)
    runner = web.AppRunner(
        _application(metrics),
        access_log=None,
        logger=_server_log,
        handle_signals=False,
        shutdown_timeout=_CLOSING,
    )
    try:
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        yield Served(host, int(runner.addresses[0][1]))
    finally:
        await runner.cleanup()
        metrics.leave()


def _application(metrics: Metrics) -> web.Application:
    async def exposition(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        headers = {"Content-Type": content_type}
        await metrics.count_letters()
        return web.Response(body=encode(metrics.registry), headers=headers)

    async def health(request: web.Request) -> web.Response:
        well, words = metrics.health()
        return web.json_response(words, status=200 if well else 503)

    application = web.Application()
    application.router.add_get("/metrics", exposition)
    application.router.add_get("/healthz", health)
    return application


def _cannot_listen(host: str, port: int, error: OSError) -> DdbrelayError:
    where = f"{_host(host)}:{port}"
    if error.errno == errno.EADDRINUSE:
        # Often by the run before this one, which is about to end.
        return TemporaryFailure(
            f"the metrics cannot be served on {where}: the port is in use",
            "--metrics-port with another number; each relay on a machine needs its own",
        )
    if error.errno == errno.EACCES:
        return ConfigError(
            f"the metrics cannot be served on {where}: not allowed",
            "--metrics-port with a number above 1023",
        )
    # asyncio wraps the error of the system in words of its own, a resolver's has no number of it.
    known = error.errno in errno.errorcode
    said = os.strerror(error.errno) if known and error.errno else error.strerror or str(error)
    if error.errno in PASSING:
        return TemporaryFailure(
            f"the metrics cannot be served on {where}: {said}", "look at the limit of open files"
        )
    return ConfigError(
        f"the metrics cannot be served on {where}: {said}",
        "DDBRELAY_METRICS_HOST, or relay.metrics_host in ddbrelay.toml, must be an address of "
        "this machine",
    )


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
