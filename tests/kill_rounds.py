"""Rounds of a relay that is killed with SIGKILL, and what must hold after each of them.

A `Place` is where they take place: an emulator with a table, a bus, and what goes wrong there.
"""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest
from conftest import Cli
from pipeline import Running, rows, running, state_file

from ddbrelay.flow.tracking import Fate
from ddbrelay.stores.database import Database
from ddbrelay.stores.ledger import Snapshot, snapshot

Waiter = Callable[[Callable[[], bool], float], None]
RELAY = ("tail", "--forward", "--output", "json")
SOON = 25.0
"""Seconds: less than the lease after which an owner that is not known to be dead is given up."""
WRITES_TO_A_MISHAP = 20
STARTING, CLAIMED, FIRST, BURST, IDLE = "starting", "claimed", "first", "burst", "idle"
MOMENTS = (STARTING, CLAIMED, FIRST, BURST, BURST, IDLE, IDLE)


@dataclass(frozen=True)
class Written:
    """One record of the stream; `number` is its sequence number."""

    shard: str
    number: int
    event_id: str
    key: str


@dataclass(frozen=True)
class Arrival:
    """One event that the bus took: `id` of its record, and what its writer knows of it."""

    id: str
    key: str
    change: tuple[str, int]


class Place(Protocol):
    """An emulator with a table of its own, and a bus."""

    @property
    def stream_arn(self) -> str: ...

    def write(self, changes: Sequence[tuple[str, int | None]]) -> None:
        """Put these versions of items, or delete them for None; one record for each."""

    def records(self) -> list[Written]:
        """All records of the stream, those of an item in the order of its changes."""

    def mark(self) -> None:
        """What the bus takes from now on belongs to the next group of `arrivals`."""

    def arrivals(self) -> list[list[Arrival]]:
        """What the bus took so far, in that order, in groups between the marks."""

    def mishap(self) -> None:
        """Let something happen that happens on AWS now and then."""

    def recover(self) -> None:
        """Nothing goes wrong any more, and everything that there is can be seen."""


class Writer:
    """Inserts, updates and deletes a few items; each has a version that counts up.

    `log` is what it wrote to each item: the kind of the change, and the version.
    """

    def __init__(self, place: Place, items: Sequence[str], seed: str, pause: float) -> None:
        self._place, self._items, self._pause = place, items, pause
        self._rng, self._lock = random.Random(seed), threading.Lock()
        self._versions: dict[str, int] = {}
        self._there: set[str] = set()
        self._resting = threading.Event()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self.log: dict[str, list[tuple[str, int]]] = defaultdict(list)

    def write(self, count: int) -> None:
        """Write so many changes at once."""
        with self._lock:
            changes = [self._change() for _ in range(count)]
            self._place.write(changes)

    def _change(self) -> tuple[str, int | None]:
        key = self._rng.choice(self._items)
        version = self._versions.get(key, 0)
        if key in self._there and self._rng.random() < 0.2:
            self._there.discard(key)
            self.log[key].append(("Deleted", version))
            return key, None
        self.log[key].append(("Updated" if key in self._there else "Created", version + 1))
        self._there.add(key)
        self._versions[key] = version + 1
        return key, version + 1

    @contextmanager
    def working(self) -> Iterator[None]:
        """Write all the time, in the background; a failure comes out at the end."""
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        number = itertools.count(1)
        try:
            while not self._stop.wait(self._pause):
                if not self._resting.is_set():
                    self.write(1)
                    if next(number) % WRITES_TO_A_MISHAP == 0:
                        self._place.mishap()
        except BaseException as error:
            self._failure = error

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Nothing is written, and nothing happens, inside."""
        self._resting.set()
        try:
            with self._lock:
                yield
        finally:
            self._resting.clear()


def state_of(cli: Cli, stream_arn: str, to: Path, consumer: str = "default") -> Snapshot:
    """What a killed run left behind, from a copy: the next run is the one that recovers it."""
    to.mkdir()
    for file in state_file(cli).parent.glob(f"{state_file(cli).name}*"):
        if file.is_file() and not file.name.endswith("-shm"):
            shutil.copy(file, to)
    copy = to / state_file(cli).name
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with closing(Database(copy)) as database:
        return snapshot(database, consumer, stream_arn)


def behind_checkpoint(state: Snapshot, records: Sequence[Written]) -> list[Written]:
    """The records that a checkpoint has passed."""
    found = []
    for record in records:
        position = state.positions.get(record.shard)
        if position is None:
            continue
        if position.finished or record.number <= int(position.sequence or 0):
            found.append(record)
    return found


@dataclass
class Rounds:
    """Kills of one relay at one place, one after the other."""

    cli: Cli
    place: Place
    writer: Writer
    wait_until: Waiter
    scratch: Path
    seed: str
    consumer: str = "default"
    states: list[Snapshot] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._checked = 0
        self._settled: list[set[str]] = []

    def command(self, *more: str) -> tuple[str, ...]:
        return (*RELAY, "--consumer", self.consumer, *more)

    def kill(self, moment: str) -> None:
        """Start the relay, wait for the moment, kill it; meanwhile look at what the last left."""
        print(f"{self.consumer}: kill {len(self.states) + 1}, {moment}")
        with running(self.cli, *self.command()) as relay:
            self.check()
            getattr(self, f"_until_{moment}")(relay)
            self.end(relay)

    def end(self, relay: Running) -> None:
        """Kill it, and keep what it leaves behind."""
        relay.signal(signal.SIGKILL)
        code, words = relay.wait()
        assert code == -signal.SIGKILL, words
        to = self.scratch / f"{self.consumer}-{len(self.states)}"
        self.states.append(state_of(self.cli, self.place.stream_arn, to, self.consumer))
        self.place.mark()

    # Moments

    def _until_starting(self, relay: Running) -> None:
        time.sleep(self._rng.uniform(0.0, 1.0))

    def _until_claimed(self, relay: Running) -> None:
        self.wait_until(lambda: self.owns(relay), SOON)
        time.sleep(self._rng.uniform(0.0, 0.1))

    def _until_first(self, relay: Running) -> None:
        self._until_lines(relay, 1)
        time.sleep(self._rng.uniform(0.0, 0.05))

    def _until_burst(self, relay: Running) -> None:
        self.writer.write(self._rng.randint(30, 120))
        self._until_lines(relay, self._rng.randint(1, 60))
        time.sleep(self._rng.uniform(0.0, 0.2))

    def _until_idle(self, relay: Running) -> None:
        with self.writer.resting():
            wanted = {record.event_id for record in self.place.records()}

            def caught_up() -> bool:
                return wanted <= {one.id for group in self.place.arrivals() for one in group}

            self.wait_until(caught_up, 40)
            time.sleep(self._rng.uniform(0.0, 0.5))

    def owns(self, relay: Running) -> bool:
        """Whether it is the owner of the stream."""
        query = f"SELECT pid FROM owners WHERE consumer = '{self.consumer}'"
        return rows(self.cli, query) == [(relay.process.pid,)]

    def _until_lines(self, relay: Running, count: int) -> None:
        def told() -> bool:
            assert relay.process.poll() is None, relay.wait()
            return len(relay.lines) >= count

        self.wait_until(told, SOON)

    # What must hold

    def check(self) -> None:
        """What the kills so far left behind: all that a checkpoint passed has a durable fate."""
        if self._checked == len(self.states):
            return
        records = self.place.records()
        arrived = {one.id for group in self.place.arrivals() for one in group}
        for state in self.states[self._checked :]:
            passed = behind_checkpoint(state, records)
            letters = {(s, int(number)) for s, of in state.letters.items() for number in of}
            parked = {r.event_id for r in passed if (r.shard, r.number) in letters}
            ids = {record.event_id for record in passed}
            missing = sorted(ids - parked - arrived)
            assert not missing, f"passed by a checkpoint, and published nowhere: {missing[:5]}"
            self._ledger_counts(state, passed)
            self._settled.append(ids)
        self._checked = len(self.states)

    def _ledger_counts(self, state: Snapshot, passed: Sequence[Written]) -> None:
        """Position and ledger are saved together, so they tell the same at any instant."""
        counted = {
            shard: sum(line.count for line in ledger.lines)
            for shard, ledger in state.ledgers.items()
            if ledger.lines
        }
        true = Counter(record.shard for record in passed)
        assert counted == true, f"the ledger counts {counted}, the checkpoints passed {true}"
        gaps = [gap for ledger in state.ledgers.values() for gap in ledger.gaps]
        assert not gaps, f"nothing was trimmed, yet there is {gaps[0]}"

    def finish(self, code: int = 0) -> None:
        """One clean run to the end; then everything must be right."""
        self.place.recover()
        words = self.command("--until-idle", "1s", "--timeout", "60s")
        done = self.cli.run(*words, timeout=90)
        assert done.returncode == code, done.stderr
        self.states.append(
            state_of(self.cli, self.place.stream_arn, self.scratch / self.consumer, self.consumer)
        )
        self.check()
        records, groups = self.place.records(), self.place.arrivals()
        left = sorted({record.event_id for record in records} - self._settled[-1])
        assert not left, f"not behind the checkpoint at the end: {left[:5]}"
        for number, settled in enumerate(self._settled[:-1], 1):
            again = sorted(settled & {one.id for group in groups[number:] for one in group})
            assert not again, f"settled before kill {number}, and sent again: {again[:5]}"
        verified = self.cli.run("ledger", "--verify", "--consumer", self.consumer)
        assert verified.returncode == 0, verified.stdout + verified.stderr

    def count(self, fate: Fate) -> int:
        """Records with this fate, by the ledger at the end."""
        return sum(ledger.count(fate) for ledger in self.states[-1].ledgers.values())

    def in_order(self) -> dict[str, list[tuple[str, int]]]:
        """What a consumer that drops known ids sees of each item."""
        seen: dict[str, Arrival] = {}
        for one in (one for group in self.place.arrivals() for one in group):
            seen.setdefault(one.id, one)
        found: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for one in seen.values():
            found[one.key].append(one.change)
        return found


@contextmanager
def told(request: pytest.FixtureRequest) -> Iterator[None]:
    """A failure says how the same round is run again."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"again: pytest -n 0 -m slow '{request.node.nodeid}'")
        raise
