"""How `ddbrelay tail` stops on a signal, and what becomes of events that cannot be published."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator

import pytest
from conftest import Cli
from gateway import Gateway, gateway_to
from pipeline import (
    ON_MOTO,
    Pipeline,
    checkpoint,
    clear_error,
    event_ids,
    objects,
    poisoned,
    rows,
    running,
    seen_keys,
)

from ddbrelay.aws.session import Aws
from ddbrelay.local import engine as engines

pytestmark = ON_MOTO

Waiter = Callable[[Callable[[], bool], float], None]
FORWARD = ("tail", "--forward", "--until-idle", "0")


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


@pytest.fixture
def gateway(engine: engines.Engine, cli: Cli) -> Iterator[Gateway]:
    with gateway_to(engine) as gateway:
        cli.environment["DDBRELAY_ENDPOINT_URL"] = gateway.url
        yield gateway


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly_with_the_checkpoint_saved(
    cli: Cli, pipe: Pipeline, wait_until: Waiter, number: int
) -> None:
    pipe.put("a")
    with running(cli, "tail", "--forward", "--output", "json") as tail:
        wait_until(lambda: len(tail.lines) == 1, 20)
        pipe.put("b")
        wait_until(lambda: len(tail.lines) == 2, 20)
        tail.signal(number)
        code, words = tail.wait(10)
    assert (code, words) == (0, "mapping: default mapping\n")
    assert objects("".join(tail.lines))[-1]["end"] == "stopped"
    assert checkpoint(cli) == pipe.sequences()[-1]
    assert len(pipe.received()) == 2


@pytest.mark.slow
def test_what_is_in_hand_is_finished_within_the_grace_time(
    cli: Cli, pipe: Pipeline, gateway: Gateway, wait_until: Waiter
) -> None:
    gateway.held.add("PutEvents")
    pipe.put("a")
    with running(cli, "tail", "--forward", "--grace", "30s") as tail:
        wait_until(lambda: gateway.calls["PutEvents"] == 1, 20)
        tail.signal(signal.SIGINT)
        pipe.put("b")
        gateway.release.set()
        code, _ = tail.wait(10)
    assert code == 0
    assert [event["detail"]["id"] for event in pipe.received()] == ["a"]
    assert checkpoint(cli) == pipe.sequences()[0]


@pytest.mark.slow
def test_what_is_not_answered_within_the_grace_time_is_sent_by_the_next_run(
    cli: Cli, pipe: Pipeline, gateway: Gateway, wait_until: Waiter
) -> None:
    gateway.held.add("PutEvents")
    pipe.put("a")
    with running(cli, "tail", "--forward", "--grace", "0.2s") as tail:
        wait_until(lambda: gateway.calls["PutEvents"] == 1, 20)
        tail.signal(signal.SIGTERM)
        code, words = tail.wait(10)
    assert code == 0
    assert "1 event was not acknowledged in time, the next run sends it" in words
    assert tail.lines == []
    assert checkpoint(cli) is None
    gateway.held.clear()
    assert seen_keys(cli.json(*FORWARD)) == ["a"]


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once_with_130(
    cli: Cli, pipe: Pipeline, gateway: Gateway, wait_until: Waiter
) -> None:
    gateway.held.add("PutEvents")
    pipe.put("a")
    with running(cli, "tail", "--forward", "--grace", "60s") as tail:
        wait_until(lambda: gateway.calls["PutEvents"] == 1, 20)
        tail.signal(signal.SIGINT)
        # The first one is seen once reading has stopped.
        reads = -1

        def quiet() -> bool:
            nonlocal reads
            before, reads = reads, gateway.calls["GetRecords"]
            return before == reads

        wait_until(quiet, 20)
        tail.signal(signal.SIGINT)
        code, words = tail.wait(10)
    assert (code, words.splitlines()[-1]) == (130, "error: interrupted")
    assert checkpoint(cli) is None


@pytest.mark.slow
def test_an_event_that_cannot_be_published_is_parked_and_its_item_queues_behind(
    cli: Cli, pipe: Pipeline
) -> None:
    pipe.put("a", n={"N": "1"})
    parked = cli.run("tail", "--forward", "--max-records", "1", *poisoned(cli))
    clear_error(parked, 3, "error: finished, but 1 record is parked as a dead letter")
    assert 'parked (rule "long": the detail type is longer than 128 characters)' in parked.stdout
    assert pipe.received() == []
    ((shard, sequence, key, reason, record, attempts, behind),) = rows(
        cli,
        "SELECT shard_id, sequence, item_key, reason, record, attempts, behind FROM dead_letters",
    )
    raw = pipe.records()[0]
    assert (shard, sequence) == (pipe.shard, raw["dynamodb"]["SequenceNumber"])
    assert json.loads(key) == {"id": {"S": "a"}}
    assert "longer than 128 characters" in reason
    assert json.loads(record)["eventID"] == raw["eventID"]
    assert json.loads(record)["dynamodb"]["NewImage"] == {"id": {"S": "a"}, "n": {"N": "1"}}
    assert (attempts, behind) == (0, 0)
    assert checkpoint(cli) == sequence

    pipe.put("a", n={"N": "2"})
    pipe.put("b")
    pipe.put("a", n={"N": "3"})
    done = cli.run(*FORWARD, "--output", "json")
    clear_error(done, 3, "2 records are parked as dead letters")
    found = objects(done.stdout)
    assert (found[-1]["published"], found[-1]["parked"]) == (1, 2)
    assert [event["detail"]["id"] for event in pipe.received()] == ["b"]
    letters = rows(cli, "SELECT sequence, behind FROM dead_letters ORDER BY length(sequence), 1")
    sequences = pipe.sequences()
    assert letters == [(sequences[0], 0), (sequences[1], 1), (sequences[3], 1)]

    # Dead letters belong to one consumer.
    other = cli.json(*FORWARD, "--consumer", "other")
    assert other[-1]["published"] == 4
    assert set(event_ids(pipe.received())) == {record["eventID"] for record in pipe.records()}
