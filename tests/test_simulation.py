"""Simulated days by seeds, the same each time, and proof that every check of them can fail."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner
from scenes import mostly_slow
from simulation import __main__ as command
from simulation.day import Day, Result
from simulation.losses import Losses
from simulation.plan import Burst, Oddity, draw
from simulation.ports import Load
from simulation.runner import Total, play, replay_command, run

from ddbrelay.errors import AwsRefused, StateError
from ddbrelay.flow.capture import (
    Fault,
    Gap,
    IteratorType,
    Pace,
    Page,
    Position,
    ShardPage,
    StreamFault,
)
from ddbrelay.flow.packing import Item, Parcel
from ddbrelay.flow.sink import Receipt
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.relay import Options, Outcome
from ddbrelay.testing import clock
from ddbrelay.testing.builders import stream

RECORDS = 100
"""Of a day that pytest plays: few, so that there is time for many days."""


def clean(seeds: Iterable[int], records: int) -> Total:
    total = Total()
    for seed in seeds:
        total.add(play(seed, records))
    assert not total.failures, "\n".join(
        f"{day.failure}\n  {replay_command(day.seed, records)}" for day in total.failures
    )
    return total


@pytest.mark.parametrize("first", mostly_slow(range(0, 30, 5), 1))
def test_whatever_happens_on_a_day_every_record_is_accounted_for(first: int) -> None:
    assert clean(range(first, first + 5), RECORDS).counts["published"]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1009, 3))
def test_whatever_happens_on_a_busy_day_every_record_is_accounted_for(first: int) -> None:
    assert clean(range(first, first + 3), 5000).counts["published"]


@pytest.mark.slow
@pytest.mark.parametrize("first", range(2000, 2200, 10))
def test_whatever_happens_on_many_days_every_record_is_accounted_for(first: int) -> None:
    assert clean(range(first, first + 10), 300).counts["published"]


def test_the_days_have_everything_that_a_reader_must_get_over() -> None:
    plans = [draw(seed) for seed in range(400)]
    kinds = {oddity.kind for plan in plans for oddity in plan.oddities}
    assert kinds >= {"splits", "rolls", "listing fault", "expired", "trim", "removal", "clock"}
    assert {plan.style for plan in plans} == {"steady", "crashing", "schedule"}
    assert any(plan.long_pause for plan in plans)
    assert any(plan.disabled for plan in plans)
    assert any(len(plan.consumers) == 2 for plan in plans)
    assert {plan.tree.count(",") for plan in plans} >= {0, 7}


# The same seed, the same day


@pytest.mark.slow
def test_a_seed_gives_the_same_day_whatever_the_order_of_hashes() -> None:
    seeds = range(2)
    script = (
        "from simulation.day import Day\n"
        f"for seed in {list(seeds)}: print(Day(seed, {RECORDS}).play().digest)"
    )
    folder = Path(__file__).parent
    expected = [Day(seed, RECORDS).play().digest for seed in seeds]
    assert len(set(expected)) == len(seeds)
    for hash_seed in ("1", "2"):
        paths = os.pathsep.join([str(folder), *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == expected


# Every check can fail


class Around:
    """A port that passes everything on, but for what a subclass does."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def broken(**ports: Callable[[Any], Any]) -> type[Day]:
    """A day with these ports around those of the engine; `plan` changes the plan."""

    class Broken(Day):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            if "plan" in ports:
                self.plan = ports["plan"](self.plan)

        def source(self, source: Any) -> Any:
            return ports.get("source", lambda inner: inner)(source)

        def sink(self, sink: Any) -> Any:
            return ports.get("sink", lambda inner: inner)(sink)

        def store(self, store: Any) -> Any:
            return ports.get("store", lambda inner: inner)(store)

        def observer(self, observer: Any) -> Any:
            return ports.get("observer", lambda inner: inner)(observer)

    return Broken


class SavesTooFar(Around):
    async def save(self, positions: Iterable[Position], *args: Any) -> None:
        further = [
            p if p.sequence is None else replace(p, sequence=str(int(p.sequence) + 10**6))
            for p in positions
        ]
        await self.inner.save(further, *args)


class FinishesEarly(Around):
    async def save(self, positions: Iterable[Position], *args: Any) -> None:
        await self.inner.save([replace(p, finished=True) for p in positions], *args)


class SavesBackwards(Around):
    async def save(self, positions: Iterable[Position], *args: Any) -> None:
        kept = list(positions)
        await self.inner.save(kept, *args)
        await self.inner.save([replace(p, sequence=None, finished=False) for p in kept], *args)


class SavesNothing(Around):
    async def save(self, positions: Iterable[Position], *args: Any) -> None:
        pass


class SavesSlowly(Around):
    async def save(self, positions: Iterable[Position], *args: Any) -> None:
        await asyncio.sleep(60)
        await self.inner.save(positions, *args)


class ForgetsWhatExists(Around):
    async def save(self, positions: Iterable[Position], *args: Any) -> None:
        kept = list(positions)
        await self.inner.save(kept, *args)
        await self.inner.forget([position.shard_id for position in kept])


class ParksNothing(Around):
    async def park(self, letters: Iterable[DeadLetter], *args: Any) -> list[DeadLetter]:
        return []


class ForgetsParkedKeys(Around):
    async def parked_keys(self) -> set[bytes]:
        return set()


class IsOwnedForEver(Around):
    async def claim(self) -> None:
        raise StateError("taken")


class DropsOne(Around):
    async def send(self, items: list[Item]) -> Receipt:
        receipt: Receipt = await self.inner.send(items[1:]) if items[1:] else Receipt()
        receipt.accepted.append((items[0], "dropped"))
        return receipt


class ForgetsTheRest(Around):
    async def send(self, items: list[Item]) -> Receipt:
        receipt: Receipt = await self.inner.send(items)
        for item in items:
            item.rest = ()
        return receipt


class SwapsEvents(Around):
    async def send(self, items: list[Item]) -> Receipt:
        for item in items:
            if item.rest:
                after, *rest = item.rest
                first = Parcel(item.event, item.size)
                item.event, item.size, item.rest = after.event, after.size, (first, *rest)
        receipt: Receipt = await self.inner.send(items)
        return receipt


class SendsTwiceAtOnce(Around):
    async def send(self, items: list[Item]) -> Receipt:
        receipt, _ = await asyncio.gather(self.inner.send(items), self.inner.send(items))
        return receipt


class SendsTwice(Around):
    async def send(self, items: list[Item]) -> Receipt:
        await self.inner.send(items)
        receipt: Receipt = await self.inner.send(items)
        return receipt


class LeavesTasksBehind(Around):
    tasks: ClassVar[set[asyncio.Task[None]]] = set()

    async def send(self, items: list[Item]) -> Receipt:
        self.tasks |= {asyncio.create_task(asyncio.sleep(3600)) for _ in range(5)}
        receipt: Receipt = await self.inner.send(items)
        return receipt


class ReadsBackwards(Around):
    async def records(self, iterator: str) -> Page:
        page: Page = await self.inner.records(iterator)
        return replace(page, records=page.records[::-1])


class SkipsTheLastPage(Around):
    async def records(self, iterator: str) -> Page:
        page: Page = await self.inner.records(iterator)
        return page if page.next_iterator else replace(page, records=[])


class SkipsTheLastRecord(Around):
    async def records(self, iterator: str) -> Page:
        page: Page = await self.inner.records(iterator)
        return replace(page, records=page.records[:-1])


class ReadsTwiceAtOnce(Around):
    async def records(self, iterator: str) -> Page:
        both = (self.inner.records(iterator), self.inner.records(iterator))
        first, second = await asyncio.gather(*both, return_exceptions=True)
        for answer in (first, second):
            if isinstance(answer, BaseException):
                raise answer
        return first


class Hangs(Around):
    async def records(self, iterator: str) -> Page:
        await asyncio.sleep(10**6)
        page: Page = await self.inner.records(iterator)
        return page


class CallsForNothing(Around):
    async def records(self, iterator: str) -> Page:
        for _ in range(8):
            await self.inner.records(iterator)
        page: Page = await self.inner.records(iterator)
        return page


class ListsForNothing(Around):
    async def shards(self, *args: Any, **kwargs: Any) -> ShardPage:
        for _ in range(11):
            await self.inner.shards(*args, **kwargs)
        page: ShardPage = await self.inner.shards(*args, **kwargs)
        return page


class KnowsNoParents(Around):
    async def shards(self, *args: Any, **kwargs: Any) -> ShardPage:
        page: ShardPage = await self.inner.shards(*args, **kwargs)
        return replace(page, shards=[replace(shard, parent_id=None) for shard in page.shards])


class SeesNoChildren(Around):
    async def shards(self, *args: Any, **kwargs: Any) -> ShardPage:
        page: ShardPage = await self.inner.shards(*args, **kwargs)
        return replace(page, shards=[s for s in page.shards if s.parent_id is None])


class StartsAtTheTip(Around):
    async def iterator(self, shard_id: str, kind: IteratorType, **where: Any) -> str:
        iterator: str = await self.inner.iterator(shard_id, IteratorType.LATEST, **where)
        return iterator


class IsTrimmed(Around):
    async def records(self, iterator: str) -> Page:
        raise StreamFault(Fault.TRIMMED)


class Refuses(Around):
    async def records(self, iterator: str) -> Page:
        raise AwsRefused("no")


class HearsOfNoOutcome(Around):
    def outcome(self, outcome: Outcome) -> None:
        pass


class HearsOfNoGap(Around):
    def gap(self, gap: Any) -> None:
        pass


def quiet(plan: Any) -> Any:
    """Ten minutes of one shard, of which nothing goes wrong but what the test breaks."""
    bursts = (Burst(1.0, 300.0, 30),)
    return replace(plan, tree="s0", length=600.0, bursts=bursts, weather=(), oddities=())


def trimmed(plan: Any) -> Any:
    trims = tuple(Oddity(float(at), "trim", 1000) for at in range(20, 600, 20))
    return replace(quiet(plan), oddities=trims, style="schedule", pause=60.0, rest=60.0)


def poisoned(plan: Any) -> Any:
    bursts = (Burst(1.0, 500.0, 200),)
    often = {"style": "schedule", "pause": 5.0, "rest": 5.0, "pace": Pace(1.0, 20.0)}
    return replace(quiet(plan), bursts=bursts, poison=0.3, keys=10, skew=1.0, **often)


def of_many_events(plan: Any) -> Any:
    return replace(quiet(plan), several=0.5, skips=0.0)


def much_at_once(plan: Any) -> Any:
    return replace(plan, pace=Pace(after_records=0.01, idle=0.01))


BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"store": SavesTooFar}, "passed record .*, which is unsettled"),
    ({"store": FinishesEarly}, "counts as finished, but it is open"),
    ({"store": SavesBackwards}, "the checkpoint of shard .* went back"),
    ({"store": SavesNothing}, "before its parent .* was stored as finished"),
    ({"store": SavesNothing, "plan": quiet}, "a run that had nothing to do sent"),
    ({"store": SavesSlowly}, "the run goes on long after a (stop|kill)"),
    ({"store": ForgetsWhatExists}, "which exists, was dropped"),
    ({"store": ParksNothing}, "was called parked, but no dead letter is kept"),
    ({"store": ForgetsParkedKeys, "plan": poisoned}, "was published, although .* is parked"),
    ({"store": IsOwnedForEver}, "no dead owner was taken over"),
    ({"sink": DropsOne}, "was called published, but the bus never took it"),
    (
        {"sink": ForgetsTheRest, "plan": of_many_events},
        "was called published, but the bus never took it",
    ),
    ({"sink": SwapsEvents, "plan": of_many_events}, "was published before event 0"),
    ({"sink": SendsTwiceAtOnce}, "two events of .* in flight together"),
    (
        {"sink": SendsTwice, "plan": quiet},
        "the last run, of which nothing went wrong, sent .* twice",
    ),
    ({"sink": LeavesTasksBehind}, "there are .* tasks, at most"),
    ({"source": ReadsBackwards}, "was published after a later one"),
    ({"source": SkipsTheLastPage}, "passed record .*, which is unsettled"),
    ({"source": SkipsTheLastRecord, "plan": quiet}, "passed record .*, which is unsettled"),
    ({"source": ReadsTwiceAtOnce}, "two calls of shard .* at the same time"),
    ({"source": Hangs}, "the run is stuck"),
    ({"source": CallsForNothing}, "GetRecords: more than"),
    ({"plan": much_at_once}, "GetRecords: more than"),
    ({"source": ListsForNothing}, "DescribeStream: more than"),
    ({"source": KnowsNoParents}, "was read before its parent"),
    ({"source": SeesNoChildren}, "the run is stuck"),
    ({"source": SeesNoChildren}, "is neither published, skipped nor parked"),
    ({"source": StartsAtTheTip}, "was read from its tip after the first start"),
    ({"source": IsTrimmed}, "has a gap, but nothing of it was trimmed"),
    ({"source": Refuses}, "the run gave up"),
    ({"observer": HearsOfNoOutcome}, "the run counts .*, its observer"),
    (
        {"observer": HearsOfNoGap, "plan": trimmed},
        "the run counts .* gaps, told|passed record",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ports", "message"), BROKEN, ids=["-".join(p.__name__ for p in b.values()) for b, _ in BROKEN]
)
def test_what_is_broken_is_noticed(ports: dict[str, Any], message: str) -> None:
    for seed in range(60):
        failure = broken(**ports)(seed, RECORDS).play().failure
        if failure is not None and re.search(message, failure):
            return
    pytest.fail(f"nobody noticed within 60 days; at the last one: {failure}")


def test_more_records_in_hand_than_allowed_are_noticed() -> None:
    account = SimpleNamespace(fail=AssertionError)
    load = Load(account, Options(max_pending=10), lambda: 0)  # type: ignore[arg-type]
    load.opened("a")
    load.took(Page([None] * 1000, None))  # type: ignore[list-item]
    with pytest.raises(AssertionError, match="1,011 records are in hand, at most 1,010 may be"):
        load.took(Page([None] * 11, None))  # type: ignore[list-item]


def test_a_gap_that_names_wrong_times_is_noticed() -> None:
    async def main(_: random.Random) -> tuple[str | None, str | None]:
        made = stream("a")
        await asyncio.sleep(1000)
        record = made.put("x")
        assert record is not None
        made.trim("a")
        at = clock.now()
        wrong, right = Losses(made), Losses(made)
        assert wrong.add(Gap("a", None, "", since=at - 500, until=at - 100), ()) is None
        assert right.add(Gap("a", None, "", since=at - 500, until=at + 100), ()) is None
        assert wrong.covers("a", int(record.sequence_number))
        shard = made.shards["a"]
        return wrong.wrong_times(shard, 0), right.wrong_times(shard, 0)

    wrong, right = clock.run(main)
    assert wrong is not None
    assert "is lost, but the times of the gaps are" in wrong
    assert right is None


def test_a_gap_covers_nothing_that_can_be_read() -> None:
    async def main(_: random.Random) -> list[bool]:
        made = stream("a")
        records = [made.put("x", n=n) for n in range(4)]
        made.trim("a", 2)
        losses = Losses(made)
        assert losses.add(Gap("a", None, ""), ()) is None
        return [losses.covers("a", int(r.sequence_number)) for r in records if r is not None]

    assert clock.run(main) == [True, True, False, False]


# The command


@pytest.mark.slow
def test_the_command_plays_days_on_several_processes_and_sums_them_up() -> None:
    total = run(0, 2, RECORDS, jobs=2)
    assert total.seeds == 2
    assert total.counts["written"] == sum(play(seed, RECORDS).counts["written"] for seed in (0, 1))


def test_the_command_runs_from_the_root_of_the_repository() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", "3", "--records", "50", "-v"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "default: run 0" in done.stdout
    assert re.search(r"^1 seeds, 1\.\d simulated days: all clean$", done.stdout, re.M)


def test_a_day_that_fails_ends_the_command_with_what_replays_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failed = Result(4711, failure="record 1 is lost")
    monkeypatch.setattr(command, "play", lambda seed, records: failed)
    done = CliRunner().invoke(command.main, ["--seed", "4711", "--records", "70"])
    assert done.exit_code == 1
    assert "seed 4711: record 1 is lost" in done.stderr
    assert "python -m tests.simulation --seed 4711 --records 70 -v" in done.stderr
