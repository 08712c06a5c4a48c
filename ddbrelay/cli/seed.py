"""`ddbrelay seed`: fake users, changed and deleted, so that the stream has something to say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from ddbrelay.cli.options import Command, Run, pass_run

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.infra.seed import Seeded

_COUNT = 25


@click.command("seed", cls=Command)
@click.option("--count", type=int, metavar="N", help=f"users to insert  [default: {_COUNT}]")
@click.option("--rate", type=float, metavar="PER_SECOND", help="writes per second, of all kinds")
@click.option("--updates", type=float, metavar="FRACTION", help="part of them to change, 0 to 1")
@click.option("--deletes", type=float, metavar="FRACTION", help="part of them to delete, 0 to 1")
@click.option("--random-seed", type=int, metavar="N", help="the same users for the same number")
@pass_run
def command(
    run: Run,
    count: int | None,
    rate: float | None,
    updates: float | None,
    deletes: float | None,
    random_seed: int | None,
) -> int:
    """Write fake users to the table.

    A user carries every DynamoDB type. Updates and deletes hit users that this run inserted.

    \b
    Examples:
      ddbrelay seed
      ddbrelay seed --count 500 --updates 0.3 --deletes 0.1
      ddbrelay seed --count 100000 --rate 200 --random-seed 7
    """
    import time

    from ddbrelay.cli.in_force import check_table
    from ddbrelay.cli.signals import stop_on_signals
    from ddbrelay.errors import INTERRUPTED
    from ddbrelay.infra.seed import Seeded, check, seed

    table = run.require("table")
    check_table(run, writes=True)
    count = _COUNT if count is None else count
    updates, deletes = updates or 0.0, deletes or 0.0
    check(count, updates, deletes, rate)
    counted = Seeded()
    aws = run.aws
    started = time.monotonic()
    finished = False
    with stop_on_signals() as stop:
        try:
            with _progress(run.console, count, updates, deletes) as advance:

                def on_write(event_name: str) -> None:
                    counted.add(event_name)
                    advance()

                seed(
                    aws,
                    table,
                    count=count,
                    updates=updates,
                    deletes=deletes,
                    rate=rate,
                    random_seed=random_seed,
                    on_write=on_write,
                    stop=stop,
                )
            finished = True
        finally:
            if finished or counted.total or stop.is_set():
                _report(run.console, counted, time.monotonic() - started)
        if stop.is_set():
            run.console.words(f"interrupted; every write above is in table {table}")
            return INTERRUPTED
    run.next_step("tail --forward")
    return 0


@contextmanager
def _progress(
    console: Console, count: int, updates: float, deletes: float
) -> Iterator[Callable[[], None]]:
    import sys

    from ddbrelay.cli.console import is_terminal, terminal

    if not (console.live and is_terminal(sys.stderr)):
        yield lambda: None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("seeding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("[dim]writes"),
        TimeRemainingColumn(),
        console=terminal(stderr=True),
        transient=True,
    ) as progress:
        total = count + round(count * updates) + round(count * deletes)
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def _report(console: Console, counted: Seeded, seconds: float) -> None:
    if console.json:
        from ddbrelay.output.seed import SeedSummary

        console.object(
            SeedSummary(counted.inserted, counted.updated, counted.deleted, round(seconds, 3))
        )
        return
    console.words(
        f"{counted.inserted:,} inserted, {counted.updated:,} updated, {counted.deleted:,} deleted"
        f" in {seconds:.1f} s ({counted.total / max(seconds, 1e-9):,.0f}/s)"
    )
