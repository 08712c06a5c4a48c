"""Many days, on all processors."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing.connection import wait as wait_for

from .day import Day, Result
from .plan import RECORDS

_AHEAD = 3
"""Days that are handed out for each process at a time."""


@dataclass(slots=True)
class Total:
    """What came of all days so far."""

    seeds: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    days: float = 0.0
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """One more day."""
        self.seeds += 1
        self.counts.update(result.counts)
        self.days += result.seconds / 86_400
        if result.failure is not None:
            self.failures.append(result)


def play(seed: int, records: int = RECORDS) -> Result:
    """One day, from its seed."""
    # A day leaves many cycles behind; looking for them while it lasts costs a fifth of its time.
    gc.disable()
    try:
        return Day(seed, records).play()
    finally:
        gc.enable()
        gc.collect()


def replay_command(seed: int, records: int) -> str:
    """What to type to see a day again."""
    size = "" if records == RECORDS else f" --records {records}"
    return f"python -m tests.simulation --seed {seed}{size} -v"


def _end_with_parent() -> None:
    """A worker of a pool whose owner was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "it runs in the workers only"

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def run(
    first: int,
    seeds: int | None,
    records: int = RECORDS,
    jobs: int = 1,
    minutes: float | None = None,
    tell: Callable[[Result, Total], None] = lambda result, total: None,
) -> Total:
    """The days of so many seeds, from the first one on, or of as many as the minutes allow.

    `tell` hears of each day when it has ended, in no particular order.
    """
    total = Total()
    deadline = None if minutes is None else time.monotonic() + minutes * 60
    due: Iterator[int] = count(first) if seeds is None else iter(range(first, first + seeds))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, _end_with_parent) as pool:
        try:
            waiting: set[Future[Result]] = set()
            while True:
                if deadline is None or time.monotonic() < deadline:
                    for seed in islice(due, jobs * _AHEAD - len(waiting)):
                        waiting.add(pool.submit(play, seed, records))
                if not waiting:
                    return total
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda one: one.result().seed):
                    total.add(future.result())
                    tell(future.result(), total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
