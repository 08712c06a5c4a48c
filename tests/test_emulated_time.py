"""Iterators that expire and records that are trimmed, by the rules of a server whose clock jumps.

ministack 1.5.33 runs as a process whose wall clock libfaketime moves. What it emulates by that
clock: an iterator is refused with ExpiredIteratorException 15 minutes after it was given, in
GetShardIterator or with a page; a record leaves the stream when it is older than 24 hours, at the
next look at the stream; then AT_ and AFTER_SEQUENCE_NUMBER of it are refused with
TrimmedDataAccessException, and so is a young iterator that points before the oldest record, while
TRIM_HORIZON is the oldest one left. A disabled stream goes after 24 hours.

What it does not: shards never roll over, so a shard here gets older than any on AWS; AFTER the last
record is refused once that record is trimmed, read or not; DescribeStream gives the oldest record
left as the shard's first, and none for an empty shard; there is no AT_TIMESTAMP; request times
are checked only under `AUTH=true`, so a relay whose clock lags by hours is heard, where AWS answers
"Signature expired". That is used here: each test runs once with the relay on the same clock, which
is right, and once with the relay's clock left behind, where it must find by the server's answers
alone what its clock does not tell. libfaketime breaks `time.sleep` of Python 3.11, and with it
ministack's threads for TTL and for scheduled rules.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import emulated
import faketime
import pytest
from conftest import Cli
from emulated import HOUR, Waiter, World, lost, stop
from gateway import gateway_to
from pipeline import Pipeline, clear_error, objects, running

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.local import engine as engines

RIGHT, BEHIND = "right", "behind"


@pytest.fixture
def preload() -> Iterator[Path]:
    yield faketime.required_library()
    faketime.sweep()


@pytest.fixture
def clock(preload: Path, tmp_path: Path) -> faketime.SteppedClock:
    return faketime.SteppedClock(preload, tmp_path / "clock")


@pytest.fixture
def emulator(
    clock: faketime.SteppedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[engines.Engine]:
    """A ministack of its own, on the clock."""
    program = emulated.required_ministack()
    script = faketime.wrapped(program, clock.environment, tmp_path / "ministack")
    monkeypatch.setenv("DDBRELAY_MINISTACK", str(script))
    started = engines.start("ministack")
    yield started
    started.stop()


@pytest.fixture(params=[RIGHT, BEHIND])
def relay_clock(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def world(
    emulator: engines.Engine,
    clock: faketime.SteppedClock,
    relay_clock: str,
    bare_cli: Cli,
    name: str,
) -> World:
    url = engines.url(emulator.port)
    bare_cli.environment |= {
        "DDBRELAY_LOCAL": "1",
        "DDBRELAY_ENDPOINT_URL": url,
        "DDBRELAY_TABLE": name,
        "DDBRELAY_IDLE_INTERVAL": "100ms",
    }
    if relay_clock == RIGHT:
        bare_cli.environment |= clock.environment
    pipe = Pipeline(Aws(Settings(local=True, endpoint_url=url)), name)
    return World(bare_cli, pipe, clock)


@pytest.mark.slow
def test_iterators_that_expire_under_a_running_relay_are_renewed_behind_the_last_record(
    world: World, wait_until: Waiter
) -> None:
    emulated.iterators_expire_under_a_running_relay(world, wait_until)


@pytest.mark.slow
def test_a_stored_iterator_that_expired_is_renewed_behind_the_checkpoint(
    world: World, wait_until: Waiter
) -> None:
    emulated.a_stored_iterator_expires(world, wait_until)


@pytest.mark.slow
def test_records_trimmed_while_the_relay_was_stopped_are_told_and_it_goes_on_behind_them(
    world: World,
) -> None:
    emulated.unread_records_are_trimmed_while_the_relay_is_stopped(world)


@pytest.mark.slow
def test_records_trimmed_under_a_relay_that_is_held_up_are_told_at_once(
    world: World, wait_until: Waiter
) -> None:
    emulated.unread_records_are_trimmed_under_a_relay_that_is_held_up(world, wait_until)


@pytest.mark.slow
@pytest.mark.parametrize("relay_clock", [RIGHT])
def test_records_trimmed_before_the_first_one_was_read_are_told(world: World) -> None:
    emulated.records_are_trimmed_before_the_first_one_was_read(world)


@pytest.mark.slow
@pytest.mark.parametrize("relay_clock", [RIGHT])
def test_a_table_that_was_quiet_while_its_last_record_was_trimmed_has_no_gap(world: World) -> None:
    emulated.a_quiet_table_is_no_gap(world)


@pytest.mark.slow
@pytest.mark.parametrize("relay_clock", [RIGHT])
def test_a_silence_longer_than_the_stream_remembers_counts_as_a_gap(world: World) -> None:
    emulated.a_silence_longer_than_the_stream_remembers_is_told(world)


@pytest.mark.slow
@pytest.mark.parametrize("relay_clock", [RIGHT])
def test_a_relay_on_a_quiet_table_tells_no_gap_in_a_day(
    world: World, emulator: engines.Engine, wait_until: Waiter
) -> None:
    with gateway_to(emulator) as gateway:
        world.cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        with running(world.cli, *emulated.RELAY) as relay:
            world.write("a")
            for _ in range(26):
                looks = gateway.acted["GetRecords"]
                wait_until(lambda looks=looks: gateway.acted["GetRecords"] > looks + 5, 30)
                world.step(HOUR)
            assert not world.has_records()
            world.write("b")
            wait_until(lambda: len(emulated.shown(relay)) == 2, 30)
            code, summary = stop(relay)
    assert lost(objects("".join(relay.lines))) == summary["lost"] == []
    assert code == 0
    assert world.arrived() == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize("relay_clock", [RIGHT])
def test_a_replay_by_a_young_iterator_whose_records_are_trimmed_ends_with_one_clear_line(
    world: World,
) -> None:
    world.write("a")
    world.step(24 * HOUR - 300)
    young = world.pipe.iterator()
    world.step(600)
    world.refuses(young, "TrimmedDataAccessException")
    clear_error(world.cli.run("replay", "--iterator", young), emulated.LOST, "cannot be read")


@pytest.mark.slow
def test_a_relay_that_is_killed_at_random_moments_on_a_clock_600_times_faster_loses_nothing(
    preload: Path, bare_cli: Cli, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = emulated.required_ministack()
    script = faketime.wrapped(program, faketime.fast(preload, 600), tmp_path / "ministack")
    monkeypatch.setenv("DDBRELAY_MINISTACK", str(script))
    emulator = engines.start("ministack")
    try:
        url = engines.url(emulator.port)
        bare_cli.environment |= {
            "DDBRELAY_LOCAL": "1",
            "DDBRELAY_ENDPOINT_URL": url,
            "DDBRELAY_TABLE": name,
        }
        pipe = Pipeline(Aws(Settings(local=True, endpoint_url=url)), name)
        emulated.killed_again_and_again(
            World(bare_cli, pipe), seconds=12, pause=0.005, rng=random.Random(7)
        )
    finally:
        emulator.stop()
