"""One process on a stream of a thousand open shards: memory, sockets and calls stay bounded.

Measured with Python 3.11 on two cores: 75 MB resident when nothing changes, 90 MB while all shards
roll over and 8,000 changes are relayed, 101 MB after 10,000 changes at once; 132 sockets; when idle
860 to 1,000 GetRecords a second for 31 to 50 % of a core, two fifths of it in aiohttp and a third
in the signature; when busy about 2,000 events a second; at most 6 listings a second.
"""

from __future__ import annotations

import json
import os
import signal
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import Cli
from pipeline import Running, objects, running

from ddbrelay.aws.transport import MAX_CONNECTIONS
from ddbrelay.config import Settings
from ddbrelay.testing.server import SimulatorProcess

pytestmark = pytest.mark.slow

Waiter = Callable[[Callable[[], bool], float], None]
SHARDS = 1000
ITEMS = 2000
BUSY_TURNS = 2
MOST_MEMORY = 160 * 1024
"""Kilobytes resident at most: half as much again as the most that was measured."""
OTHER_SOCKETS = 8
"""Those of the control plane's calls and of the event loop itself."""
IDLE_PAUSE = 0.95
"""Seconds between two reads of an idle shard: the pace, less what the network may squeeze it."""
WINDOW = 4.0
LOOK_PAUSE = 0.25


@dataclass
class Watched:
    """A relay, and what was seen of it: its sockets at most, and the times of its listings."""

    relay: Running
    simulator: SimulatorProcess
    sockets: int = 0
    listings: set[float] = field(default_factory=set)

    def look(self) -> None:
        # What is asked for is long, and must not keep the simulator from answering the relay.
        time.sleep(LOOK_PAUSE)
        fds = Path(f"/proc/{self.relay.process.pid}/fd")
        self.sockets = max(self.sockets, sum(map(_is_socket, fds.iterdir())))
        self.listings |= {call.at for call in self.simulator.calls("DescribeStream")}

    def reads(self) -> dict[str, list[float]]:
        """When each shard was read, as far as the simulator remembers."""
        found = defaultdict(list)
        for call in self.simulator.calls("GetRecords"):
            found[call.members["ShardIterator"].split("|")[1]].append(call.at)
        return found

    def most_listings(self) -> int:
        """DescribeStream in the busiest second, whichever way the seconds are cut."""
        times = sorted(self.listings)
        return max(bisect_left(times, at + 1.0) - n for n, at in enumerate(times))

    @property
    def memory(self) -> int:
        """Kilobytes resident at most until now."""
        lines = Path(f"/proc/{self.relay.process.pid}/status").read_text().splitlines()
        (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
        return int(peak)

    @property
    def processor(self) -> float:
        """Seconds of processor time until now."""
        stat = Path(f"/proc/{self.relay.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def _is_socket(descriptor: Path) -> bool:
    try:
        return os.readlink(descriptor).startswith("socket:")
    except FileNotFoundError:
        return False


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        yield started


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_a_thousand_open_shards_in_one_process_idle_rolling_over_and_busy(
    simulator: SimulatorProcess, bare_cli: Cli, name: str, wait_until: Waiter
) -> None:
    simulator.create_table(name, SHARDS)
    simulator.create_bus(name)
    where = ("--local", "--endpoint-url", simulator.url, "--table", name, "--bus", name)
    with running(bare_cli, *where, "tail", "--forward", "--output", "json") as relay:
        watched = Watched(relay, simulator)
        _idle(watched, wait_until)
        changes = Changes(watched, name, wait_until)
        _roll_over(watched, changes, name)
        _busy(watched, changes)
        began = time.monotonic()
        relay.signal(signal.SIGINT)
        code, words = relay.wait()
        assert (code, words) == (0, "mapping: default mapping\n")
        assert time.monotonic() - began < Settings().grace + 1
    summary = objects("".join(relay.lines))[-1]
    assert (summary["end"], summary["published"]) == ("stopped", changes.turns * ITEMS)


def _idle(watched: Watched, wait_until: Waiter) -> None:
    def settled() -> bool:
        watched.look()
        counts = Counter({shard: len(times) for shard, times in watched.reads().items()})
        return len(counts) == SHARDS and min(counts.values()) >= 4

    wait_until(settled, 60)
    used, since = watched.processor, watched.simulator.now()
    time.sleep(WINDOW)
    used, until = watched.processor - used, watched.simulator.now()
    reads = {
        shard: [at for at in times if since <= at < until]
        for shard, times in watched.reads().items()
    }
    assert all(len(times) <= (until - since) / IDLE_PAUSE + 1 for times in reads.values())
    assert watched.most_listings() <= 10
    count = sum(map(len, reads.values()))
    print(
        f"idle: {count / (until - since):.0f} GetRecords a second, {used / (until - since):.0%} of "
        f"a core, {watched.memory // 1024} MB"
    )


class Changes:
    """Writes all items in turns, and waits for what the bus takes."""

    def __init__(self, watched: Watched, name: str, wait_until: Waiter) -> None:
        self._watched, self._name, self._wait_until = watched, name, wait_until
        self._taken = self.turns = 0
        self._arrived: dict[str, list[int]] = defaultdict(list)

    def write(self) -> None:
        items = ({"id": f"k{n}", "turn": self.turns} for n in range(ITEMS))
        self._watched.simulator.put(self._name, *items)
        self.turns += 1

    def wait(self) -> None:
        """Until all is there, in the order of each item."""
        self._wait_until(self._all_there, 60)
        assert self._arrived == {f"k{n}": list(range(self.turns)) for n in range(ITEMS)}

    def _all_there(self) -> bool:
        self._watched.look()
        new = self._watched.simulator.events(self._name, self._taken)
        self._taken += len(new)
        for event in new:
            detail = json.loads(event.entry["Detail"])
            self._arrived[detail["id"]].append(detail["turn"])
        return self._taken >= self.turns * ITEMS


def _roll_over(watched: Watched, changes: Changes, name: str) -> None:
    began = time.monotonic()
    changes.write()
    for shard in watched.simulator.shards(name):
        watched.simulator.roll(name, shard.id)
    changes.write()
    changes.wait()
    seconds, most = time.monotonic() - began, watched.most_listings()
    print(f"{SHARDS} shards rolled over: {seconds:.1f} s, at most {most} listings in a second")
    assert most <= 10


def _busy(watched: Watched, changes: Changes) -> None:
    began = time.monotonic()
    for _ in range(BUSY_TURNS):
        changes.write()
    changes.wait()
    rate = BUSY_TURNS * ITEMS / (time.monotonic() - began)
    sockets, memory = watched.sockets, watched.memory
    print(f"busy: {rate:.0f} events a second, {sockets} sockets, {memory // 1024} MB")
    assert sockets <= MAX_CONNECTIONS + OTHER_SOCKETS
    assert memory < MOST_MEMORY
