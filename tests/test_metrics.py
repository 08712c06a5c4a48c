"""What Prometheus and a health probe are told about a run."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from ddbrelay import __version__
from ddbrelay.cli.tail import _count_letters
from ddbrelay.errors import DdbrelayError, StateError, StateUnavailable
from ddbrelay.flow.capture import Gap
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.tracking import Fate, Tally, Usage
from ddbrelay.metrics import BUCKETS, Engine, Metrics, Served, serving
from ddbrelay.relay.backlog import Backlog, Unread
from ddbrelay.relay.dispatch import Refusing
from ddbrelay.relay.outcome import Progress
from ddbrelay.stores.database import Database
from ddbrelay.testing import clock
from ddbrelay.testing.world import World, simulated

HOST = "127.0.0.1"
NOW = 1_767_225_600.0
LABELS = {"table": "users", "bus": "users-bus", "consumer": "default"}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


def nothing(seconds: float) -> None:
    """Nobody wants to know how long a request took."""


@dataclass
class FakeRequests:
    """The sending half, with numbers that the test sets."""

    in_flight: int = 0
    pending: int = 0
    requests: int = 0
    window: int = 8
    refusing: Refusing | None = None
    on_answer: Callable[[float], None] = nothing


@dataclass
class FakeEngine:
    """An engine whose numbers the test sets."""

    tally: Tally = field(default_factory=Tally)
    usage: Usage = field(default_factory=Usage)
    read: int = 0
    shards: int = 1
    lag: float = 0.0
    backlog: Backlog = field(default_factory=Backlog)
    sending: FakeRequests = field(default_factory=FakeRequests)
    preview: bool = False
    quiet: dict[str, float] = field(default_factory=dict)

    @property
    def dispatch(self) -> FakeRequests | None:
        return None if self.preview else self.sending

    def progress(self) -> list[Progress]:
        return [Progress(shard_id, quiet) for shard_id, quiet in self.quiet.items()]


def busy() -> FakeEngine:
    """An engine with a number of its own for everything."""
    tally = Tally()
    tally.fates.update({Fate.PUBLISHED: 48_112, Fate.SKIPPED: 301, Fate.PARKED: 2})
    tally.retried = 17
    tally.gaps.append(Gap("s1", "1", "2", 0.0, 1.0, "trimmed"))
    unread = [Unread("s1", NOW - 7200), Unread("s2", NOW - 10), Unread("s3", None)]
    return FakeEngine(
        tally=tally,
        usage=Usage(reads=1300, requests=4900, events=48_112, chunks=48_200, puts=3),
        read=48_500,
        shards=3,
        lag=0.4,
        backlog=Backlog(unread, waiting=2),
        sending=FakeRequests(in_flight=37, pending=85, requests=4, window=23),
    )


def metrics() -> Metrics:
    return Metrics(LABELS, idle_interval=1.0, now=lambda: NOW)


@asynccontextmanager
async def served(engine: Engine, over: Metrics) -> AsyncIterator[tuple[Served, Fetch]]:
    """The running server, and a call that asks it for a path."""
    async with serving(over, engine, HOST, 0) as where, aiohttp.ClientSession() as session:

        async def fetch(path: str, **headers: str) -> tuple[int, str, str]:
            address = f"http://{HOST}:{where.port}{path}"
            async with session.get(address, headers=headers) as answer:
                return answer.status, answer.headers["Content-Type"], await answer.text()

        yield where, fetch


Fetch = Callable[..., Awaitable[tuple[int, str, str]]]
Sample = tuple[str, tuple[tuple[str, str], ...]]


def samples(families: Iterator[Any]) -> dict[Sample, float]:
    """Each series of ours, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("ddbrelay_")
    }


async def scraped(fetch: Fetch) -> dict[Sample, float]:
    status, _, text = await fetch("/metrics")
    assert status == 200
    return samples(text_string_to_metric_families(text))


NUMBERS = {
    "ddbrelay_records_read_total": 48_500,
    "ddbrelay_records_lost_gaps_total": 1,
    "ddbrelay_entries_retried_total": 17,
    "ddbrelay_stream_reads_total": 1300,
    "ddbrelay_put_events_requests_total": 4900,
    "ddbrelay_billed_chunks_total": 48_200,
    "ddbrelay_claim_checks_total": 3,
    "ddbrelay_lag_seconds": 0.4,
    "ddbrelay_retention_left_seconds": RETENTION - 7200,
    "ddbrelay_pending_events": 85,
    "ddbrelay_in_flight_events": 37,
    "ddbrelay_in_flight_requests": 4,
    "ddbrelay_request_window": 23,
    "ddbrelay_shards": 3,
    "ddbrelay_shards_waiting": 2,
    "ddbrelay_shards_stalled": 0,
    "ddbrelay_bus_held": 0,
}


def expected() -> dict[Sample, float]:
    events = "ddbrelay_events_total"
    return {(name, ()): value for name, value in NUMBERS.items()} | {
        (events, (("fate", "published"),)): 48_112,
        (events, (("fate", "skipped"),)): 301,
        (events, (("fate", "parked"),)): 2,
        ("ddbrelay_build_info", (("version", __version__),)): 1,
        ("ddbrelay_relay_info", tuple(sorted(LABELS.items()))): 1,
    }


def without_histogram(found: dict[Sample, float]) -> dict[Sample, float]:
    return {of: value for of, value in found.items() if "put_events_seconds" not in of[0]}


def test_a_scrape_has_every_number_of_the_engine() -> None:
    async def test() -> None:
        async with served(busy(), metrics()) as (_, fetch):
            assert without_histogram(await scraped(fetch)) == expected()

    asyncio.run(test())


def test_openmetrics_is_spoken_where_it_is_asked_for() -> None:
    async def test() -> None:
        async with served(busy(), metrics()) as (_, fetch):
            _, plain, _ = await fetch("/metrics")
            assert plain.startswith("text/plain; version=0.0.4")
            status, kind, text = await fetch("/metrics", **OPENMETRICS)
            assert status == 200
            assert kind.startswith("application/openmetrics-text; version=1.0.0")
            found = samples(openmetrics.text_string_to_metric_families(text))
            assert without_histogram(found) == expected()

    asyncio.run(test())


def test_every_family_is_explained_and_typed() -> None:
    async def test() -> None:
        async with served(busy(), metrics()) as (_, fetch):
            _, _, text = await fetch("/metrics")
            for family in text_string_to_metric_families(text):
                assert family.documentation.endswith("."), family.name
                assert family.type != "unknown", family.name

    asyncio.run(test())


def test_the_process_says_what_it_takes() -> None:
    async def test() -> None:
        async with served(FakeEngine(), metrics()) as (_, fetch):
            _, _, text = await fetch("/metrics")
            assert "process_resident_memory_bytes" in text
            assert "process_cpu_seconds_total" in text

    asyncio.run(test())


def test_each_answer_of_the_bus_lands_in_its_bucket() -> None:
    async def test() -> None:
        engine = FakeEngine()
        async with served(engine, metrics()) as (_, fetch):
            for seconds in (0.004, 0.012, 0.012, 29.0, 31.0):
                engine.sending.on_answer(seconds)
            found = await scraped(fetch)
        name = "ddbrelay_put_events_seconds"
        buckets = [found[f"{name}_bucket", (("le", str(bound)),)] for bound in BUCKETS]
        assert buckets == [1, 1, *[3] * (len(BUCKETS) - 3), 4]
        assert found[f"{name}_bucket", (("le", "+Inf"),)] == found[f"{name}_count", ()] == 5
        assert found[f"{name}_sum", ()] == pytest.approx(60.028)

    asyncio.run(test())


def test_a_scrape_reads_the_engine_as_it_is_then() -> None:
    async def test() -> None:
        engine = FakeEngine(read=1)
        async with served(engine, metrics()) as (_, fetch):
            assert (await scraped(fetch))["ddbrelay_records_read_total", ()] == 1
            engine.read = 5
            engine.sending.refusing = Refusing(1.0, "the bus was deleted", paused=True)
            found = await scraped(fetch)
            assert found["ddbrelay_records_read_total", ()] == 5
            assert found["ddbrelay_bus_held", ()] == 1

    asyncio.run(test())


@pytest.mark.parametrize("backlog", [Backlog(), Backlog([Unread("s1", None)])])
def test_the_time_left_is_absent_where_no_unread_record_is_known(backlog: Backlog) -> None:
    async def test() -> None:
        async with served(FakeEngine(backlog=backlog), metrics()) as (_, fetch):
            assert ("ddbrelay_retention_left_seconds", ()) not in await scraped(fetch)

    asyncio.run(test())


def test_a_run_that_sends_nothing_has_no_numbers_of_sending() -> None:
    async def test() -> None:
        async with served(FakeEngine(read=3, preview=True), metrics()) as (_, fetch):
            found = await scraped(fetch)
            assert found["ddbrelay_records_read_total", ()] == 3
            assert not {name for name, _ in found if "flight" in name or "window" in name}
            assert (await fetch("/healthz"))[0] == 200

    asyncio.run(test())


def test_counters_go_on_with_the_next_engine_of_the_process() -> None:
    async def test() -> None:
        over = metrics()
        first = busy()
        async with served(first, over) as (_, fetch):
            first.sending.on_answer(0.02)
            before = await scraped(fetch)
        second = FakeEngine(read=1, usage=Usage(reads=2), shards=9)
        async with served(second, over) as (_, fetch):
            second.sending.on_answer(0.02)
            after = await scraped(fetch)
        assert after["ddbrelay_records_read_total", ()] == 48_501
        assert after["ddbrelay_stream_reads_total", ()] == 1302
        assert after["ddbrelay_put_events_seconds_count", ()] == 2
        assert after["ddbrelay_shards", ()] == 9
        for (name, labels), value in before.items():
            if name.endswith("_total"):
                assert after[name, labels] >= value, name

    asyncio.run(test())


def test_health_turns_bad_with_a_shard_that_stands_still_and_good_again() -> None:
    async def test() -> None:
        engine = FakeEngine(shards=3, quiet={"s1": 0.2, "s2": 59.9, "s3": 1.0})
        async with served(engine, metrics()) as (_, fetch):
            well = '{"status": "ok", "shards": 3, "stalled": []}'
            assert await fetch("/healthz") == (200, "application/json; charset=utf-8", well)
            engine.quiet = {"s1": 61.04, "s2": 300.0, "s3": 1.0}
            status, _, text = await fetch("/healthz")
            assert (status, text) == (
                503,
                '{"status": "stalled", "shards": 3, "stalled": [{"shardId": "s2", "quietSeconds": '
                '300.0}, {"shardId": "s1", "quietSeconds": 61.0}]}',
            )
            assert (await scraped(fetch))["ddbrelay_shards_stalled", ()] == 2
            engine.quiet = dict.fromkeys(engine.quiet, 0.1)
            assert (await fetch("/healthz"))[0] == 200

    asyncio.run(test())


def test_a_reader_that_pauses_long_may_be_quiet_three_times_as_long() -> None:
    over = Metrics(LABELS, idle_interval=40.0)
    engine = FakeEngine(quiet={"s1": 120.0})
    over.follow(engine)
    assert over.health()[0]
    engine.quiet = {"s1": 120.1}
    assert not over.health()[0]


def test_health_says_why_the_bus_takes_nothing() -> None:
    async def test() -> None:
        gone = Refusing(1.0, 'bus "users-bus" does not exist', paused=True)
        engine = FakeEngine(sending=FakeRequests(refusing=gone))
        async with served(engine, metrics()) as (_, fetch):
            status, _, text = await fetch("/healthz")
            assert status == 200
            assert '"held": "bus \\"users-bus\\" does not exist"' in text
            assert (await scraped(fetch))["ddbrelay_bus_held", ()] == 1

    asyncio.run(test())


def test_a_bus_that_has_taken_nothing_for_a_minute_is_held_and_not_well() -> None:
    async def test() -> None:
        engine = FakeEngine(quiet={"s1": 100.0})
        async with served(engine, metrics()) as (_, fetch):
            engine.sending.refusing = Refusing(59.9, "timed out")
            assert '"status": "stalled"' in (await fetch("/healthz"))[2]
            assert (await scraped(fetch))["ddbrelay_bus_held", ()] == 0
            engine.sending.refusing = Refusing(90.2, "timed out")
            status, _, text = await fetch("/healthz")
            assert status == 503
            words = json.loads(text)
            assert words.pop("stalled")
            assert words == {
                "status": "held",
                "shards": 1,
                "held": "timed out",
                "heldSince": "2025-12-31T23:58:30Z",
            }
            assert (await scraped(fetch))["ddbrelay_bus_held", ()] == 1

    asyncio.run(test())


def fail(error: Exception) -> int:
    raise error


def test_a_store_that_keeps_a_scrape_waiting_does_not_keep_the_relay_waiting() -> None:
    asked, free = threading.Event(), threading.Event()

    def blocked() -> int:
        asked.set()
        assert free.wait(30)
        return 7

    async def test() -> None:
        over = metrics()
        over.dead_letters = blocked
        async with served(FakeEngine(), over) as (_, fetch):
            scrape = asyncio.create_task(scraped(fetch))
            assert await asyncio.to_thread(asked.wait, 30)
            status, _, _ = await fetch("/healthz")
            assert (status, scrape.done()) == (200, False)
            free.set()
            assert (await scrape)["ddbrelay_dead_letters", ()] == 7

    asyncio.run(test())


def test_dead_letters_are_counted_beside_a_connection_that_is_in_use(tmp_path: Path) -> None:
    with closing(Database(tmp_path / "state.db")) as database, database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO dead_letters VALUES ('default', 'S1', 's', '1', '', '', '', NULL, 0, 1, 0,"
            " 0)"
        )
        assert _count_letters(database.path, "default", "S1") == 0
        cursor.execute("COMMIT")
        cursor.execute("BEGIN IMMEDIATE")
        assert _count_letters(database.path, "default", "S1") == 1


def test_dead_letters_are_counted_in_the_store_at_each_scrape() -> None:
    async def test() -> None:
        over = metrics()
        async with served(FakeEngine(), over) as (_, fetch):
            assert ("ddbrelay_dead_letters", ()) not in await scraped(fetch)
            over.dead_letters = lambda: 7
            assert (await scraped(fetch))["ddbrelay_dead_letters", ()] == 7

            over.dead_letters = lambda: fail(StateUnavailable("the state file is locked"))
            assert (await scraped(fetch))["ddbrelay_dead_letters", ()] == 7
            over.dead_letters = lambda: fail(StateError("the state file is damaged"))
            assert ("ddbrelay_dead_letters", ()) not in await scraped(fetch)

    asyncio.run(test())


@simulated("a b")
async def test_a_real_run_is_measured_and_a_shard_that_cannot_be_read_is_found(
    world: World,
) -> None:
    over = Metrics(LABELS, idle_interval=1.0, now=clock.now)
    stop = asyncio.Event()
    world.fill("xyz", times=5)
    # As long on the way there as on the way back.
    world.bus.faults.latency = (0.03, 0.03)
    relay = world.relay(until_idle=None)
    over.follow(relay)
    task = asyncio.create_task(relay.run(stop))
    await asyncio.sleep(30)
    found = samples(text_string_to_metric_families(generate_latest(over.registry).decode()))
    assert found["ddbrelay_records_read_total", ()] == 15
    assert found["ddbrelay_events_total", (("fate", "published"),)] == 15
    requests = found["ddbrelay_put_events_requests_total", ()]
    assert 0 < requests == found["ddbrelay_put_events_seconds_count", ()]
    assert found["ddbrelay_put_events_seconds_sum", ()] == pytest.approx(0.06 * requests)
    assert found["ddbrelay_shards", ()] == 2
    assert over.health() == (True, {"status": "ok", "shards": 2, "stalled": []})
    world.source.faults.latency = (3600.0, 3600.0)
    await asyncio.sleep(90)
    well, words = over.health()
    assert (well, words["status"]) == (False, "stalled")
    world.source.faults.latency = (0.0, 0.0)
    await asyncio.sleep(3600)
    assert over.health()[0]
    stop.set()
    await task


def test_other_paths_are_not_found() -> None:
    async def test() -> None:
        async with served(FakeEngine(), metrics()) as (_, fetch):
            for path in ("/", "/metrics/", "/health", "/favicon.ico"):
                assert (await fetch(path))[0] == 404, path

    asyncio.run(test())


@pytest.mark.parametrize(
    "request_line",
    [b"GET /metrics HTTP/9.x", b"nonsense", b"GET /healthz HTTP/1.1\r\nContent-Length: -1"],
)
def test_a_malformed_request_is_answered_with_400_and_not_logged(
    request_line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(metrics(), FakeEngine(), HOST, 0) as where:
            reader, writer = await asyncio.open_connection(HOST, where.port)
            writer.write(request_line + b"\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        assert answer.startswith(b"HTTP/1.0 400 ") or answer.startswith(b"HTTP/1.1 400 ")

    asyncio.run(test())
    assert not [one for one in caplog.records if one.levelno >= logging.INFO]


def test_the_port_is_free_again_after_the_block() -> None:
    async def test() -> None:
        over = metrics()
        async with served(FakeEngine(), over) as (where, _):
            pass
        async with serving(over, FakeEngine(), HOST, where.port) as again:
            assert again.url == f"http://127.0.0.1:{where.port}/metrics"

    asyncio.run(test())


def refusal(host: str, port: int) -> DdbrelayError:
    async def test() -> None:
        async with serving(metrics(), FakeEngine(), host, port):
            pass

    with pytest.raises(DdbrelayError) as caught:
        asyncio.run(test())
    return caught.value


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        error = refusal(HOST, port)
    assert error.message == f"the metrics cannot be served on {HOST}:{port}: the port is in use"
    assert error.hint is not None
    assert "--metrics-port" in error.hint
    assert error.exit_code == 7, "whoever has the port may end"


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "192.0.2.1:9464: Cannot assign requested address"),
        ("2001:db8::1", "[2001:db8::1]:9464: "),
    ],
)
def test_an_address_that_is_not_of_this_machine_is_one_clear_line(host: str, said: str) -> None:
    error = refusal(host, 9464)
    assert said in error.message
    assert "\n" not in error.message
    assert error.exit_code == 2
    assert error.hint is not None
    assert "metrics_host" in error.hint


def test_a_process_with_no_file_descriptor_left_for_the_metrics_may_be_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def full(site: web.TCPSite) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(web.TCPSite, "start", full)
    error = refusal(HOST, 9464)
    assert error.message.endswith(": Too many open files")
    assert error.exit_code == 7
