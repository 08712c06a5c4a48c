"""A relay that is killed with SIGKILL again and again, each time at another moment."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Cli
from kill_places import EnginePlace, SimulatorPlace
from kill_rounds import (
    BURST,
    CLAIMED,
    FIRST,
    MOMENTS,
    RELAY,
    SOON,
    STARTING,
    Rounds,
    Waiter,
    Writer,
    told,
)
from pipeline import Pipeline, clear_error, objects, rows, running, seen_keys

from ddbrelay.aws.session import Aws
from ddbrelay.flow.tracking import Fate
from ddbrelay.testing.server import SimulatorProcess

pytestmark = pytest.mark.slow

ITEMS = [f"k{number}" for number in range(9)]
ON_MINISTACK = pytest.mark.parametrize("shared_engine", ["ministack"], indirect=True)


def seeds(count: int) -> list[int]:
    """The seeds that CI runs, or those from KILL_SEEDS=first-last."""
    first, _, last = os.environ.get("KILL_SEEDS", f"1-{count}").partition("-")
    return list(range(int(first), int(last or first) + 1))


def eight_moments(seed: str) -> list[str]:
    """The first one comes before there is any checkpoint."""
    rng = random.Random(seed)
    return [rng.choice((STARTING, CLAIMED)), *rng.sample(MOMENTS, len(MOMENTS))]


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Iterator[SimulatorProcess]:
    """One for each test: its clock is moved."""
    seed = getattr(request.node, "callspec", None) and request.node.callspec.params.get("seed")
    with SimulatorProcess(seed=seed or 0) as started:
        yield started


@pytest.fixture
def simulated(bare_cli: Cli, simulator: SimulatorProcess, name: str) -> Cli:
    """The command line before the simulator, where the table and the bus are."""
    simulator.create_table(name, 2)
    simulator.create_bus(f"{name}-bus")
    bare_cli.environment |= {
        "DDBRELAY_LOCAL": "1",
        "DDBRELAY_ENDPOINT_URL": simulator.url,
        "DDBRELAY_TABLE": name,
        "DDBRELAY_BUS": f"{name}-bus",
    }
    return bare_cli


@pytest.mark.parametrize("seed", seeds(3))
def test_eight_kills_between_splits_and_faults_lose_nothing_and_keep_the_order(
    request: pytest.FixtureRequest,
    simulator: SimulatorProcess,
    simulated: Cli,
    name: str,
    wait_until: Waiter,
    tmp_path: Path,
    seed: int,
) -> None:
    place = SimulatorPlace(simulator, name, f"{name}-bus", f"{seed}")
    writer = Writer(place, ITEMS, f"{seed}", pause=0.02)
    rounds = Rounds(simulated, place, writer, wait_until, tmp_path, f"{seed}")
    with told(request):
        writer.write(30)
        with writer.working():
            for moment in eight_moments(f"{seed}"):
                rounds.kill(moment)
        rounds.finish()
        assert rounds.in_order() == writer.log
        assert len({record.shard for record in place.records()}) > 2


@ON_MINISTACK
@pytest.mark.parametrize("seed", seeds(2))
def test_eight_kills_lose_nothing_and_keep_the_order_on_ministack(
    request: pytest.FixtureRequest,
    aws: Aws,
    cli: Cli,
    name: str,
    wait_until: Waiter,
    tmp_path: Path,
    seed: int,
) -> None:
    place = EnginePlace(Pipeline(aws, name))
    writer = Writer(place, ITEMS, f"{seed}", pause=0.04)
    rounds = Rounds(cli, place, writer, wait_until, tmp_path, f"{seed}")
    with told(request):
        writer.write(20)
        with writer.working():
            for moment in eight_moments(f"{seed}"):
                rounds.kill(moment)
        rounds.finish()
        assert rounds.in_order() == writer.log


@pytest.mark.parametrize("seed", seeds(1))
def test_two_consumers_of_one_state_file_do_not_suffer_from_the_death_of_the_other(
    request: pytest.FixtureRequest,
    simulator: SimulatorProcess,
    simulated: Cli,
    name: str,
    wait_until: Waiter,
    tmp_path: Path,
    seed: int,
) -> None:
    place = SimulatorPlace(simulator, name, f"{name}-bus")
    simulator.create_bus(f"{name}-bus-2")
    second_place = SimulatorPlace(simulator, name, f"{name}-bus-2")
    second_cli = Cli(simulated.directory, simulated.environment | {"DDBRELAY_BUS": f"{name}-bus-2"})
    writer = Writer(place, ITEMS, f"{seed}", pause=0.02)
    first = Rounds(simulated, place, writer, wait_until, tmp_path, f"{seed} 1", "first")
    second = Rounds(second_cli, second_place, writer, wait_until, tmp_path, f"{seed} 2", "second")
    with told(request):
        writer.write(30)
        with writer.working():
            for one, other in ((first, second), (second, first)):
                with running(other.cli, *other.command()) as lives:
                    for moment in (CLAIMED, BURST, FIRST):
                        one.kill(moment)
                        assert lives.process.poll() is None
                    one.check()
                    count = len(lives.lines)
                    writer.write(20)
                    wait_until(lambda lives=lives, count=count: len(lives.lines) > count, SOON)
                    other.end(lives)
        for one in (first, second):
            one.finish()
            assert one.in_order() == writer.log


@pytest.mark.parametrize("seed", seeds(1))
def test_kills_while_a_poison_record_is_parked_keep_it_and_the_order_behind_it(
    request: pytest.FixtureRequest,
    simulator: SimulatorProcess,
    simulated: Cli,
    name: str,
    wait_until: Waiter,
    tmp_path: Path,
    seed: int,
) -> None:
    place = SimulatorPlace(simulator, name, f"{name}-bus")
    simulator.fail_entries("MalformedDetail", containing='"poison"')
    writer = Writer(place, ["poison", *ITEMS[:3]], f"{seed}", pause=0.02)
    rounds = Rounds(simulated, place, writer, wait_until, tmp_path, f"{seed}")

    def letters() -> list[tuple[int, str, int]]:
        kept = rows(simulated, "SELECT sequence, reason, behind FROM dead_letters")
        return sorted((int(number), reason, behind) for number, reason, behind in kept)

    earlier: list[tuple[int, str, int]] = []
    with told(request):
        with writer.working():
            for count in (1, 1, 2, 10):
                with running(simulated, *rounds.command()) as relay:
                    more = len(earlier) + count
                    wait_until(lambda more=more: len(letters()) >= more, SOON)
                    rounds.end(relay)
                rounds.check()
                kept = letters()
                assert kept[: len(earlier)] == earlier
                earlier = kept
        simulator.fail_entries("MalformedDetail", containing='"poison"')
        # So that the last run has some to park, however far the one before came.
        writer.write(60)
        rounds.finish(code=3)
        poison = sorted(r.number for r in place.records() if r.key == "poison")
        assert [number for number, _, _ in letters()] == poison
        (first, *behind) = letters()
        assert "MalformedDetail" in first[1]
        assert not first[2]
        assert all(one[2] for one in behind)
        assert rounds.count(Fate.PARKED) == len(poison)
        del writer.log["poison"]
        assert rounds.in_order() == writer.log


def test_an_owner_that_is_stopped_keeps_others_out_until_it_is_killed(
    simulator: SimulatorProcess, simulated: Cli, name: str, wait_until: Waiter
) -> None:
    once = (*RELAY, "--until-idle", "0")
    simulator.put(name, {"id": "a"})
    with running(simulated, *RELAY) as stopped:
        wait_until(lambda: len(stopped.lines) == 1, SOON)
        stopped.signal(signal.SIGSTOP)
        simulator.put(name, {"id": "b"})
        for _ in range(2):
            refused = simulated.run(*once)
            says = f"is relaying this stream already: pid {stopped.process.pid} on "
            clear_error(refused, 7, says, "--consumer")
            assert refused.stdout == ""
        stopped.signal(signal.SIGKILL)
        assert stopped.wait()[0] == -signal.SIGKILL
    relayed = objects(simulated.ok(*once).stdout)
    assert seen_keys(relayed)[-1] == "b"
    assert {json.loads(one.entry["Detail"])["id"] for one in simulator.events()} == {"a", "b"}
    assert rows(simulated, "SELECT * FROM owners") == []
