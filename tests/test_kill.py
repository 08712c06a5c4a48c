"""A relay that is killed at any moment: nothing is lost, the order holds, little comes twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from conftest import Cli
from gateway import gateway_to
from pipeline import Pipeline, checkpoint, event_ids, objects, rows, running

from ddbrelay.aws.session import Aws
from ddbrelay.infra.seed import seed
from ddbrelay.local import engine as engines

Waiter = Callable[[Callable[[], bool], float], None]
RELAY = ("tail", "--forward", "--output", "json")
ITEMS = 12
PAUSE = {"moto": 0.02, "ministack": 0.004}
"""Seconds between two writes: moto takes some 24 PutEvents calls a second."""
SEEDED = {"moto": 40, "ministack": 400}

pytestmark = pytest.mark.slow


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


@contextmanager
def writer(pipe: Pipeline, pause: float) -> Iterator[None]:
    """Changes a few items round and round, each with a version that counts up."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(pause):
            version, item = divmod(number, ITEMS)
            pipe.put(f"k{item}", version={"N": str(version + 1)})
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def first_arrivals(received: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without repeats: what a consumer that drops known ids would see."""
    seen: dict[str, dict[str, Any]] = {}
    for event in received:
        seen.setdefault(event["resources"][1], event)
    return list(seen.values())


@pytest.mark.moto_first
def test_every_change_arrives_in_order_although_the_relay_is_killed_again_and_again(
    cli: Cli, pipe: Pipeline, engine: engines.Engine, wait_until: Waiter
) -> None:
    received: list[dict[str, Any]] = []
    count = SEEDED[engine.name]
    seed(pipe.aws, pipe.table, count=count, updates=0.5, deletes=0.1, random_seed=3)
    settled: set[str] = set()
    with writer(pipe, PAUSE[engine.name]):
        # The first one is killed as soon as it has noted where it starts.
        for lines in (0, 1, 25):
            with running(cli, *RELAY) as relay:
                if lines:
                    wait_until(lambda relay=relay, lines=lines: len(relay.lines) >= lines, 30)
                else:
                    wait_until(lambda: bool(rows(cli, "SELECT * FROM bookmarks")), 30)
                relay.signal(signal.SIGKILL)
                assert relay.wait()[0] == -signal.SIGKILL
            sent = {one["change"]["eventID"] for one in objects("".join(relay.lines))}
            assert not sent & settled
            ids = [record["eventID"] for record in pipe.records()]
            at = checkpoint(cli)
            settled = set(ids[: pipe.sequences().index(at) + 1]) if at else set()
            received += pipe.received()
            assert settled <= set(event_ids(received))
    *last, summary = cli.json(*RELAY, "--until-idle", "0")
    assert not {one["change"]["eventID"] for one in last} & settled
    received += pipe.received()

    records = pipe.records()
    assert summary["checkpoint"] == {pipe.shard: records[-1]["dynamodb"]["SequenceNumber"]}
    ids = [record["eventID"] for record in records]
    assert set(event_ids(received)) == set(ids)
    # The last run sent what was not settled, once, and nothing else.
    assert sorted(one["change"]["eventID"] for one in last) == sorted(set(ids) - settled)
    by_item: dict[str, list[str]] = {}
    for event in first_arrivals(received):
        by_item.setdefault(event["detail"]["id"], []).append(event["resources"][1])
    for item, arrived in by_item.items():
        of_item = [r["eventID"] for r in records if r["dynamodb"]["Keys"]["id"]["S"] == item]
        assert arrived == of_item
    versions = [
        e["detail"]["version"] for e in first_arrivals(received) if e["detail"]["id"] == "k0"
    ]
    assert versions == list(range(1, len(versions) + 1))


def test_what_was_taken_but_never_acknowledged_is_sent_again_and_nothing_else(
    cli: Cli, pipe: Pipeline, engine: engines.Engine, wait_until: Waiter
) -> None:
    for key in "abc":
        pipe.put(key)
    cli.ok(*RELAY, "--until-idle", "0")
    at = checkpoint(cli)
    acknowledged = event_ids(pipe.received())
    for key in "def":
        pipe.put(key)
    with gateway_to(engine) as gateway:
        gateway.unanswered.add("PutEvents")
        cli.environment["DDBRELAY_ENDPOINT_URL"], direct = (
            gateway.url,
            cli.environment["DDBRELAY_ENDPOINT_URL"],
        )
        with running(cli, *RELAY) as relay:
            wait_until(lambda: gateway.acted["PutEvents"] == 1, 30)
            relay.signal(signal.SIGKILL)
            assert relay.wait()[0] == -signal.SIGKILL
        assert relay.lines == []
    cli.environment["DDBRELAY_ENDPOINT_URL"] = direct
    assert checkpoint(cli) == at
    taken = event_ids(pipe.received())
    again = [one["change"]["eventID"] for one in cli.json(*RELAY, "--until-idle", "0")[:-1]]
    assert again == taken == event_ids(pipe.received())
    assert acknowledged + again == [record["eventID"] for record in pipe.records()]


def test_the_state_file_is_whole_after_a_kill_and_the_bookmarks_still_work(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    for number in range(20):
        pipe.put(f"k{number}")
    with running(cli, *RELAY) as relay:
        wait_until(lambda: len(relay.lines) >= 5, 30)
        relay.signal(signal.SIGKILL)
        relay.wait()
    assert rows(cli, "PRAGMA integrity_check") == [("ok",)]
    (mark,) = [m for m in cli.json("positions", "list") if m["type"] == "bookmark"]
    again = cli.json("replay", "--from", mark["name"], "--max-records", "20")
    assert [one["change"]["eventID"] for one in again[:-1]] == [
        record["eventID"] for record in pipe.records()
    ]
