"""Plays simulated days, each from its seed.

python -m tests.simulation --seeds 1000
"""

from __future__ import annotations

import sys
import time

import click

from .day import Day, Result
from .plan import RECORDS
from .runner import Total, play, replay_command, run

_SHOWN = ("written", "published", "skipped", "parked", "lost", "repeats")


@click.command(epilog="A day that fails says how to see it again; the command then ends with 1.")
@click.option("--seeds", type=click.IntRange(1), help="How many days (default 100).")
@click.option("--from", "first", default=0, show_default=True, help="The first seed.")
@click.option("--seed", type=int, help="Only the day of this seed.")
@click.option("--jobs", type=click.IntRange(1), help="Processes (default: all processors).")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Stop after so long.")
@click.option(
    "--records",
    default=RECORDS,
    show_default=True,
    type=click.IntRange(1),
    help="Records of an average day; another number makes other days of the same seeds.",
)
@click.option("-v", "--verbose", is_flag=True, help="With --seed: tell what happened.")
def main(
    seeds: int | None,
    first: int,
    seed: int | None,
    jobs: int | None,
    minutes: float | None,
    records: int,
    verbose: bool,
) -> None:
    """The whole engine on a virtual clock: days with splits, faults, outages and crashes.

    Without --seeds and with --minutes, as many days as there is time for.
    """
    import os

    started = time.monotonic()
    if seed is not None:
        total = Total()
        total.add(Day(seed, records, tell=click.echo).play() if verbose else play(seed, records))
        _failed(total.failures, records)
    else:
        if seeds is None and minutes is None:
            seeds = 100
        progress = _Progress(seeds, records, started)
        total = run(first, seeds, records, jobs or os.cpu_count() or 1, minutes, progress.tell)
        progress.clear()
    click.echo(_summary(total, time.monotonic() - started))
    if total.failures:
        sys.exit(1)


class _Progress:
    """A line on stderr that changes in a terminal, and a new one every ten seconds elsewhere."""

    def __init__(self, seeds: int | None, records: int, started: float) -> None:
        self._seeds, self._records, self._started = seeds, records, started
        self._in_place = sys.stderr.isatty()
        self._next = started

    def tell(self, result: Result, total: Total) -> None:
        if result.failure is not None:
            self.clear()
            _failed([result], self._records)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (0.5 if self._in_place else 10.0)
        written = total.counts["written"]
        line = (
            f"{total.seeds:,}{'' if self._seeds is None else f' of {self._seeds:,}'} seeds, "
            f"{written:,} records, {total.days:,.0f} simulated days, "
            f"{written / max(now - self._started, 0.001):,.0f} records/s"
        )
        click.echo(f"\r\x1b[2K{line}" if self._in_place else line, err=True, nl=not self._in_place)

    def clear(self) -> None:
        """Leave an empty line where the progress stood."""
        if self._in_place:
            click.echo("\r\x1b[2K", err=True, nl=False)


def _failed(failures: list[Result], records: int) -> None:
    for result in failures:
        click.echo(f"seed {result.seed}: {result.failure}", err=True)
        click.echo(f"  {replay_command(result.seed, records)}", err=True)


def _summary(total: Total, seconds: float) -> str:
    counts = total.counts
    fates = ", ".join(f"{name} {counts[name]:,}" for name in _SHOWN)
    ends = "all clean" if not total.failures else f"{len(total.failures):,} failed"
    return (
        f"{total.seeds:,} seeds, {total.days:,.1f} simulated days: {ends}\n"
        f"records: {fates}\n"
        f"runs: {counts['runs']:,} ({counts['crashes']:,} crashed, "
        f"{max(0, counts['runs'] - total.seeds):,} restarts)\n"
        f"gaps: {counts['gaps']:,} ({counts['idle gaps']:,} behind which nothing was lost, "
        f"{counts['needless gaps']:,} of them where nothing was trimmed)\n"
        f"{seconds:,.1f} s ({counts['written'] / max(seconds, 0.001):,.0f} records/s)"
    )


if __name__ == "__main__":
    main(prog_name="python -m tests.simulation")
