"""Tests that run wherever a stream's clock is emulated: on ministack, and on DynamoDB Local.

Each function is the body of a test and takes a `World`; what it expects holds on AWS.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from faketime import SteppedClock
from pipeline import Pipeline, Running, objects, running, seen_keys

from ddbrelay.local import ministack

Waiter = Callable[[Callable[[], bool], float], None]
RELAY = ("tail", "--forward", "--output", "json")
ONCE = ("tail", "--forward", "--until-idle", "1s")
EXPIRED = 16 * 60
TRIMMED = 25 * 3600
HOUR = 3600
LOST = 4


def required_ministack() -> str:
    """Its program; without it the test is skipped, and fails where CI is set."""
    found = ministack.program()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI installs ministack, yet it was not found")
        pytest.skip("ministack is not installed (python -m venv, pip install ministack)")
    return found


@dataclass
class World:
    """A pipeline on an emulator, and the relay's command line; `clock` None where it cannot jump.

    `received` are the events that came out so far, in the order of their arrival.
    """

    cli: Cli
    pipe: Pipeline
    clock: SteppedClock | None = None
    received: list[dict[str, Any]] = field(default_factory=list)

    def step(self, seconds: int) -> None:
        assert self.clock is not None
        self.clock.step(seconds)

    def write(self, *keys: str) -> None:
        for key in keys:
            self.pipe.put(key)

    def drain(self) -> list[dict[str, Any]]:
        """Everything that came out of the queue, from the beginning."""
        self.received += self.pipe.received()
        return self.received

    def arrived(self) -> list[str]:
        """The items of these events, sorted: items go in parallel, and each was written once."""
        return sorted(event["detail"]["id"] for event in self.drain())

    def shards(self) -> dict[str, str | None]:
        """Every shard that is listed, with its parent."""
        streams = self.pipe.aws.client("dynamodbstreams")
        found: dict[str, str | None] = {}
        after: dict[str, str] = {}
        while True:
            said = streams.describe_stream(StreamArn=self.pipe.stream_arn, **after)
            page = said["StreamDescription"]
            found |= {s["ShardId"]: s.get("ParentShardId") for s in page["Shards"]}
            if "LastEvaluatedShardId" not in page:
                return found
            after = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}

    def has_records(self) -> bool:
        """Whether any shard still has a record at its trim horizon."""
        streams = self.pipe.aws.client("dynamodbstreams")
        for shard in self.shards():
            at = streams.get_shard_iterator(
                StreamArn=self.pipe.stream_arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
            )
            if streams.get_records(ShardIterator=at["ShardIterator"])["Records"]:
                return True
        return False

    def refuses(self, iterator: str, code: str) -> None:
        """Fail unless the emulator itself says so: else the test would prove nothing."""
        streams = self.pipe.aws.client("dynamodbstreams")
        with pytest.raises(streams.exceptions.ClientError) as refusal:
            streams.get_records(ShardIterator=iterator)
        assert refusal.value.response["Error"]["Code"] == code

    def once(self) -> tuple[int, list[dict[str, Any]]]:
        """Relay what is there: exit code, and the objects printed."""
        done = self.cli.run(*ONCE, "--output", "json")
        print(done.stderr)
        assert "Traceback" not in done.stderr
        return done.returncode, objects(done.stdout)


def lost(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["type"] == "lost"]


def last_read(found: list[dict[str, Any]]) -> tuple[str, str]:
    """Shard and sequence number of the newest record that a run printed."""
    changes = [one["change"] for one in found if one["type"] == "event"]
    newest = max(changes, key=lambda change: int(change["sequenceNumber"]))
    return newest["shardId"], newest["sequenceNumber"]


def first_read(found: list[dict[str, Any]]) -> str:
    """Sequence number of the oldest record that a run printed."""
    numbers = [one["change"]["sequenceNumber"] for one in found if one["type"] == "event"]
    return str(min(numbers, key=int))


@contextmanager
def held(relay: Running) -> Iterator[None]:
    """Nothing of the process runs inside the block."""
    relay.signal(signal.SIGSTOP)
    stat = Path(f"/proc/{relay.process.pid}/stat")
    deadline = time.monotonic() + 10
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "the process does not stop"
        time.sleep(0.01)
    try:
        yield
    finally:
        relay.signal(signal.SIGCONT)


def stop(relay: Running) -> tuple[int, dict[str, Any]]:
    """Exit code and summary of a run that is asked to end."""
    relay.signal(signal.SIGINT)
    code, words = relay.wait()
    assert "Traceback" not in words
    return code, objects("".join(relay.lines))[-1]


def shown(relay: Running) -> list[str]:
    return seen_keys(objects("".join(relay.lines)))


def iterators_expire_under_a_running_relay(world: World, wait_until: Waiter) -> None:
    with running(world.cli, *RELAY) as relay:
        world.write("a", "b")
        wait_until(lambda: len(shown(relay)) == 2, 30)
        with held(relay):
            old = world.pipe.iterator()
            world.step(EXPIRED)
            world.refuses(old, "ExpiredIteratorException")
            # Renewed at LATEST it would miss this one, at TRIM_HORIZON it would repeat the others.
            world.write("c")
        wait_until(lambda: len(shown(relay)) == 3, 30)
        world.step(EXPIRED)
        world.write("d")
        wait_until(lambda: len(shown(relay)) == 4, 30)
        code, summary = stop(relay)
    assert (code, summary["lost"], summary["published"]) == (0, [], 4)
    assert world.arrived() == ["a", "b", "c", "d"]


def a_stored_iterator_expires(world: World, wait_until: Waiter) -> None:
    with running(world.cli, *RELAY) as relay:
        world.write("a", "b")
        wait_until(lambda: len(shown(relay)) == 2, 30)
        assert stop(relay)[0] == 0
    old = world.pipe.iterator()
    world.write("c")
    world.step(EXPIRED)
    world.refuses(old, "ExpiredIteratorException")
    world.write("d")
    code, found = world.once()
    assert (code, lost(found), sorted(seen_keys(found))) == (0, [], ["c", "d"])
    assert world.arrived() == ["a", "b", "c", "d"]


def unread_records_are_trimmed_while_the_relay_is_stopped(world: World) -> None:
    world.write("a", "b")
    code, found = world.once()
    assert code == 0
    shard, sequence = last_read(found)
    world.write("c", "d")
    world.step(TRIMMED)
    world.write("e", "f")
    code, found = world.once()
    (gap,) = lost(found)
    assert (gap["shardId"], gap["after"]) == (shard, sequence)
    assert code == LOST
    assert sorted(seen_keys(found)) == ["e", "f"]
    assert [one["before"] for one in found[-1]["lost"]] == [first_read(found)]
    # The gap stands before what comes behind it.
    assert found.index(gap) < min(i for i, one in enumerate(found) if one["type"] == "event")
    assert world.arrived() == ["a", "b", "e", "f"]
    # It is told once, and the checkpoint lies behind it.
    world.write("g")
    code, found = world.once()
    assert (code, lost(found), seen_keys(found)) == (0, [], ["g"])


def unread_records_are_trimmed_under_a_relay_that_is_held_up(
    world: World, wait_until: Waiter
) -> None:
    with running(world.cli, *RELAY) as relay:
        world.write("a", "b")
        wait_until(lambda: len(shown(relay)) == 2, 30)
        shard, sequence = last_read(objects("".join(relay.lines)))
        with held(relay):
            world.write("c", "d")
            world.step(TRIMMED)
            world.write("e")
        wait_until(lambda: bool(lost(objects("".join(relay.lines)))), 30)
        (gap,) = lost(objects("".join(relay.lines)))
        assert (gap["shardId"], gap["after"]) == (shard, sequence)
        world.write("f")
        wait_until(lambda: len(shown(relay)) == 4, 30)
        code, summary = stop(relay)
    behind = [one for one in objects("".join(relay.lines)) if one["type"] == "event"][2:]
    assert [one["before"] for one in summary["lost"]] == [first_read(behind)]
    assert (code, summary["published"]) == (LOST, 4)
    assert world.arrived() == ["a", "b", "e", "f"]


def records_are_trimmed_before_the_first_one_was_read(world: World) -> None:
    """The relay had started, and saw an empty shard."""
    code, found = world.once()
    assert (code, lost(found)) == (0, [])
    world.write("a")
    world.step(TRIMMED)
    world.write("b")
    code, found = world.once()
    (gap,) = lost(found)
    assert (gap["after"], seen_keys(found), code) == (None, ["b"], LOST)
    assert world.arrived() == ["b"]


def a_quiet_table_is_no_gap(world: World) -> None:
    """The last record is 25 h old, and 23 h ago the relay saw that none followed it."""
    world.write("a", "b")
    assert world.once()[0] == 0
    world.step(2 * HOUR)
    code, found = world.once()
    assert (code, lost(found), seen_keys(found)) == (0, [], [])
    world.step(23 * HOUR)
    assert not world.has_records()
    code, found = world.once()
    assert (code, lost(found), seen_keys(found)) == (0, [], [])
    world.write("c")
    code, found = world.once()
    assert (code, lost(found), seen_keys(found)) == (0, [], ["c"])
    assert world.arrived() == ["a", "b", "c"]


def a_silence_longer_than_the_stream_remembers_is_told(world: World) -> None:
    """Nothing was unread, but no answer of AWS can tell that from a record that was trimmed."""
    world.write("a")
    code, found = world.once()
    shard, sequence = last_read(found)
    world.step(TRIMMED)
    code, found = world.once()
    assert [(gap["shardId"], gap["after"]) for gap in lost(found)] == [(shard, sequence)]
    assert code == LOST


@contextmanager
def writer(pipe: Pipeline, written: list[tuple[str, int]], pause: float) -> Iterator[None]:
    """Changes a few items round and round, each with a version that counts up."""
    ending = threading.Event()

    def write() -> None:
        number = 0
        while not ending.wait(pause):
            version, item = divmod(number, 12)
            pipe.put(f"k{item}", version={"N": str(version + 1)})
            written.append((f"k{item}", version + 1))
            number += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def killed_again_and_again(
    world: World, *, seconds: float, pause: float, rng: random.Random
) -> list[dict[str, Any]]:
    """A writer runs so long, the relay is killed at random moments; what the runs printed.

    Every change arrives, each item's in the order in which they were written.
    """
    written: list[tuple[str, int]] = []
    printed: list[dict[str, Any]] = []
    until = time.monotonic() + seconds
    rounds = 0
    with writer(world.pipe, written, pause):
        while time.monotonic() < until:
            with running(world.cli, *RELAY) as relay:
                with pytest.raises(subprocess.TimeoutExpired):
                    relay.process.wait(rng.uniform(0.3, 4))
                relay.signal(signal.SIGKILL)
                assert relay.wait()[0] == -signal.SIGKILL
            printed += objects("".join(relay.lines))
            rounds += 1
            world.drain()
    code, found = world.once()
    printed += found
    assert (code, lost(printed)) == (0, [])
    assert rounds > 2
    arrivals = Counter((e["detail"]["id"], e["detail"]["version"]) for e in world.drain())
    assert set(arrivals) == set(written)
    # What a consumer sees that drops the ids it knows.
    first: dict[str, dict[str, Any]] = {}
    for event in world.received:
        first.setdefault(event["resources"][1], event["detail"])
    assert len(first) == len(written)
    versions: dict[str, list[int]] = {}
    for detail in first.values():
        versions.setdefault(detail["id"], []).append(detail["version"])
    for item, seen in versions.items():
        assert seen == list(range(1, len(seen) + 1)), item
    return printed
