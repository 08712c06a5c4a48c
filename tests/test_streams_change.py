"""A table whose stream is disabled, enabled again, or goes with the table, while it is relayed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from changing import Changing, OnEngine, OnSimulator
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, Running, clear_error, objects, rows, running

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.local import engine as engines
from ddbrelay.local import ministack
from ddbrelay.testing.server import SimulatorProcess

Waiter = Callable[[Callable[[], bool], float], None]
RELAY = ("tail", "--forward", "--output", "json")
ONCE = (*RELAY, "--until-idle", "0")
KEYS = ("a", "b", "c")
SOON = 30.0
GONE = 25 * 3600.0
LOST, REFUSED = 4, 5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def emulator() -> Iterator[engines.Engine]:
    if ministack.program() is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs ministack, yet it was not found")
        pytest.skip("ministack is not installed (python -m venv, pip install ministack)")
    started = engines.start("ministack")
    yield started
    started.stop()


def before(cli: Cli, url: str, name: str) -> None:
    cli.environment |= {
        "DDBRELAY_LOCAL": "1",
        "DDBRELAY_ENDPOINT_URL": url,
        "DDBRELAY_TABLE": name,
        "DDBRELAY_BUS": f"{name}-bus",
    }


@pytest.fixture
def simulator(bare_cli: Cli, name: str) -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        before(bare_cli, started.url, name)
        yield started


@pytest.fixture
def simulated(simulator: SimulatorProcess, name: str) -> OnSimulator:
    return OnSimulator(simulator, name)


@pytest.fixture(params=["simulator", pytest.param("ministack", marks=pytest.mark.slow)])
def table(request: pytest.FixtureRequest, bare_cli: Cli, name: str) -> Changing:
    if request.param == "simulator":
        made: OnSimulator = request.getfixturevalue("simulated")
        return made
    url = engines.url(request.getfixturevalue("emulator").port)
    before(bare_cli, url, name)
    return OnEngine(Pipeline(Aws(Settings(local=True, endpoint_url=url)), name))


def write(table: Changing, *versions: int) -> list[tuple[str, int]]:
    """Every item in these versions, one after the other."""
    written = [(key, version) for version in versions for key in KEYS]
    for key, version in written:
        table.put(key, version)
    return written


def by_item(events: list[tuple[str, int]]) -> dict[str, list[int]]:
    return {key: [version for k, version in events if k == key] for key in KEYS}


def lost(found: list[dict[str, object]]) -> list[dict[str, object]]:
    return [one for one in found if one["type"] == "lost"]


@contextmanager
def stopped(tail: Running) -> Iterator[None]:
    """What happens inside, it sees only afterwards."""
    tail.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        tail.signal(signal.SIGCONT)


def test_what_a_stream_still_holds_is_read_when_it_is_disabled_and_the_run_ends_well(
    bare_cli: Cli, table: Changing, wait_until: Waiter
) -> None:
    written = write(table, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        with stopped(tail):
            written += write(table, 2, 3)
            table.disable()
            write(table, 4)
        code, words = tail.wait()
    assert (code, words) == (0, "mapping: default mapping\n")
    summary = objects("".join(tail.lines))[-1]
    assert (summary["end"], summary["published"], summary["lost"]) == ("ended", 9, [])
    assert by_item(table.arrived()) == by_item(written)
    # There is nothing to add, and that is said again and again.
    again = bare_cli.run(*ONCE)
    assert again.returncode == 0
    assert "the stream is disabled" in again.stderr
    assert objects(again.stdout)[-1]["read"] == 0


def test_a_running_tail_goes_on_with_the_stream_that_comes_after(
    bare_cli: Cli, table: Changing, wait_until: Waiter
) -> None:
    written = write(table, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        with stopped(tail):
            written += write(table, 2)
            table.disable()
            write(table, 3)
            table.enable()
            written += write(table, 4)
        wait_until(lambda: len(tail.lines) == 9, SOON)
        written += write(table, 5)
        wait_until(lambda: len(tail.lines) == 12, SOON)
        tail.signal(signal.SIGTERM)
        code, words = tail.wait()
    assert code == 0
    assert "the table has a new stream" in words
    assert objects("".join(tail.lines))[-1]["published"] == len(written)
    assert by_item(table.arrived()) == by_item(written)
    assert len(rows(bare_cli, "SELECT DISTINCT stream_arn FROM positions")) == 2
    assert objects(bare_cli.ok(*ONCE).stdout)[-1]["read"] == 0


def test_a_tail_killed_on_the_way_from_one_stream_to_the_next_leaves_nothing_out(
    bare_cli: Cli, table: Changing, wait_until: Waiter
) -> None:
    written = write(table, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        with stopped(tail):
            table.disable()
            table.enable()
            written += write(table, 2)
        wait_until(lambda: len(rows(bare_cli, "SELECT pid FROM owners")) != 1, SOON)
        tail.signal(signal.SIGKILL)
        tail.wait()
    bare_cli.ok(*ONCE)
    assert {key: list(dict.fromkeys(v)) for key, v in by_item(table.arrived()).items()} == by_item(
        written
    )


def test_the_next_run_reads_the_rest_of_the_old_stream_first_and_then_the_new_one(
    bare_cli: Cli, table: Changing
) -> None:
    written = write(table, 1)
    bare_cli.ok(*ONCE)
    written += write(table, 2)
    table.disable()
    table.enable()
    written += write(table, 3)
    found = objects(bare_cli.ok(*ONCE).stdout)
    assert found[-1]["published"] == 6
    assert by_item(table.arrived()) == by_item(written)
    assert objects(bare_cli.ok(*ONCE).stdout)[-1]["read"] == 0


@pytest.mark.slow
def test_streams_that_came_and_went_while_no_tail_ran_are_read_too(
    bare_cli: Cli, simulated: OnSimulator
) -> None:
    written = write(simulated, 1)
    bare_cli.ok(*ONCE)
    for version in (2, 4, 6):
        written += write(simulated, version)
        simulated.disable()
        write(simulated, version + 1)
        simulated.enable()
    written += write(simulated, 8)
    bare_cli.ok(*ONCE)
    assert by_item(simulated.arrived()) == by_item(written)


def test_who_may_not_list_the_streams_is_told_and_gets_those_with_a_checkpoint(
    bare_cli: Cli, simulated: OnSimulator
) -> None:
    written = write(simulated, 1)
    bare_cli.ok(*ONCE)
    written += write(simulated, 2)
    simulated.disable()
    simulated.enable()
    written += write(simulated, 3)
    simulated.simulator.fail_next("ListStreams", "AccessDeniedException")
    done = bare_cli.ok(*ONCE)
    assert "in between may be left out: not allowed to list the streams" in done.stderr
    assert by_item(simulated.arrived()) == by_item(written)


def test_streams_that_came_and_went_behind_a_running_tail_are_read_too(
    bare_cli: Cli, simulated: OnSimulator, wait_until: Waiter
) -> None:
    written = write(simulated, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        with stopped(tail):
            for version in (2, 4):
                written += write(simulated, version)
                simulated.disable()
                simulated.enable()
            written += write(simulated, 6)
        wait_until(lambda: len(tail.lines) == len(written), SOON)
        tail.signal(signal.SIGTERM)
        assert tail.wait()[0] == 0
    assert by_item(simulated.arrived()) == by_item(written)


def test_what_a_deleted_table_left_in_its_stream_is_read_and_the_run_ends_well(
    bare_cli: Cli, table: Changing, wait_until: Waiter
) -> None:
    written = write(table, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        with stopped(tail):
            written += write(table, 2)
            table.delete()
        code, words = tail.wait()
    assert (code, words) == (0, "mapping: default mapping\n")
    assert objects("".join(tail.lines))[-1]["end"] == "ended"
    assert by_item(table.arrived()) == by_item(written)
    clear_error(bare_cli.run(*ONCE), REFUSED, "does not exist")


def test_a_table_made_again_under_its_name_is_followed_behind_what_the_old_one_left(
    bare_cli: Cli, table: Changing, wait_until: Waiter
) -> None:
    written = write(table, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        with stopped(tail):
            written += write(table, 2)
            table.delete()
            table.create()
            written += write(table, 3)
        wait_until(lambda: len(tail.lines) == 9, SOON)
        tail.signal(signal.SIGTERM)
        assert tail.wait()[0] == 0
    assert by_item(table.arrived()) == by_item(written)


def test_what_went_with_a_deleted_table_before_it_was_read_is_reported_as_lost(
    bare_cli: Cli, simulated: OnSimulator, wait_until: Waiter
) -> None:
    written = write(simulated, 1)
    with running(bare_cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        at = dict(rows(bare_cli, "SELECT shard_id, position FROM positions"))
        with stopped(tail):
            write(simulated, 2)
            simulated.delete()
            simulated.simulator.advance(GONE)
        code, words = tail.wait()
    assert code == LOST
    assert words.splitlines()[-2].startswith("error: records of 2 shards were lost")
    found = objects("".join(tail.lines))
    assert {gap["shardId"] for gap in lost(found)} == set(at)
    assert found[-1]["lost"] == lost(found)
    assert by_item(simulated.arrived()) == by_item(written)
    told = rows(bare_cli, "SELECT shard_id FROM gaps")
    assert {shard for (shard,) in told} == set(at)


def test_a_stream_that_went_after_all_of_it_was_read_is_no_loss(
    bare_cli: Cli, simulated: OnSimulator
) -> None:
    write(simulated, 1)
    simulated.disable()
    bare_cli.ok(*ONCE)
    simulated.simulator.advance(GONE)
    clear_error(bare_cli.run(*ONCE), REFUSED, "the stream no longer exists")
    assert len(simulated.arrived()) == 3


@pytest.mark.slow
def test_on_gap_stop_moves_nothing_and_continue_goes_on_with_the_new_stream(
    bare_cli: Cli, simulated: OnSimulator
) -> None:
    written = write(simulated, 1)
    bare_cli.ok(*ONCE)
    write(simulated, 2)
    simulated.disable()
    simulated.simulator.advance(GONE)
    simulated.enable()
    written += write(simulated, 3)
    kept = "SELECT stream_arn, shard_id, position FROM positions"
    at = rows(bare_cli, kept)
    for _ in range(2):
        refused = bare_cli.run(*ONCE, "--on-gap", "stop")
        clear_error(refused, LOST, "no longer exists", "--on-gap continue")
        assert rows(bare_cli, kept) == at
    done = bare_cli.run(*ONCE)
    clear_error(done, LOST, "records of 2 shards were lost")
    assert len(lost(objects(done.stdout))) == 2
    assert by_item(simulated.arrived()) == by_item(written)
    assert objects(bare_cli.ok(*ONCE, "--on-gap", "stop").stdout)[-1]["read"] == 0


@ON_MOTO
def test_a_table_whose_stream_goes_with_it_at_once_ends_the_run_with_what_is_not_known(
    cli: Cli, aws: Aws, name: str, wait_until: Waiter
) -> None:
    """moto forgets a stream with its table; AWS keeps it for a day."""
    table = OnEngine(Pipeline(aws, name))
    cli.environment["DDBRELAY_DISCOVERY_INTERVAL"] = "1s"
    written = write(table, 1)
    with running(cli, *RELAY) as tail:
        wait_until(lambda: len(tail.lines) == 3, SOON)
        table.delete()
        code, words = tail.wait()
    assert code == LOST
    assert "error: records of 1 shard were lost before they could be read" in words
    (gap,) = lost(objects("".join(tail.lines)))
    assert gap["after"] is not None
    assert by_item(table.arrived()) == by_item(written)
