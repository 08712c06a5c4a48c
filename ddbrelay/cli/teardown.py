"""`ddbrelay teardown`: delete what provision made."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ddbrelay.cli.console import confirmer, err
from ddbrelay.cli.options import Command, Run, pass_run
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.infra.plan import Step

_EPILOG = """\b
Examples:
  ddbrelay teardown --table users --dry-run
  ddbrelay teardown --table users
  ddbrelay --local teardown --table users --yes

\b
It deletes what carries the tags ddbrelay:managed-by = ddbrelay and ddbrelay:table = the table,
data included, and leaves everything else. It can be repeated.
"""


@click.command("teardown", cls=Command, epilog=_EPILOG)
@click.option("--yes", is_flag=True, help="do not ask")
@click.option("--dry-run", is_flag=True, help="show what would be deleted and delete nothing")
@pass_run
def command(run: Run, yes: bool, dry_run: bool) -> None:
    """Delete what provision made: archive, rule, queue, bus, table."""
    from ddbrelay.cli.in_force import check_table
    from ddbrelay.cli.provision import Rows, lines, summary
    from ddbrelay.infra.plan import Wanted, refuse_table_arn
    from ddbrelay.infra.teardown import teardown
    from ddbrelay.mappings import buses_of

    table = run.require("table")
    check_table(run, writes=not dry_run)
    refuse_table_arn(run.settings, "teardown")
    console = run.console
    agreed = None
    if not (yes or dry_run):
        agreed = confirmer(
            f"teardown of {table}",
            "--yes deletes without asking, --dry-run shows what would be deleted",
        )
    rows = Rows(console)

    def ask(plan: tuple[Step, ...]) -> None:
        assert agreed is not None
        # The question must be seen under -q and --output json too.
        err(lines(plan))
        doomed = sum(step.state == "would-delete" for step in plan)
        if not agreed(f"Delete these {doomed}, with the data in them?"):
            if console.json:
                seconds = time.monotonic() - started
                console.object(summary(plan, dry_run=False, seconds=seconds))
            console.words("nothing was deleted")
            raise click.exceptions.Exit(0)

    def told(plan: Sequence[Step]) -> None:
        rows.plan(plan)
        for words in _relays(run, plan):
            console.words(words)

    started = time.monotonic()
    steps = teardown(
        run.aws,
        Wanted.from_settings(run.settings, other_buses=buses_of(run.config)),
        dry_run=dry_run,
        confirm=None if agreed is None else ask,
        on_plan=told,
        on_step=rows.show,
    )
    forgotten = sum(
        _forget_checkpoints(run, step.arn)
        for step in steps
        if step.kind == "table" and step.state == "deleted" and step.arn
    )
    seconds = time.monotonic() - started
    if console.json:
        console.object(summary(steps, dry_run=dry_run, seconds=seconds))
        return
    deleted = sum(step.state == "deleted" for step in steps)
    planned = sum(step.state == "would-delete" for step in steps)
    if deleted:
        also = f", and {counted(forgotten, 'checkpoint')} of it" if forgotten else ""
        console.words(f"deleted {deleted} in {seconds:.1f} s{also}")
    elif planned:
        console.words(
            f"nothing was deleted: {planned} to delete · next: the same without --dry-run"
        )
    else:
        console.words(f"nothing is left of what provision made for {table}")


def _relays(run: Run, plan: Sequence[Step]) -> Iterator[str]:
    """What is said of each relay that still runs on a table that is to be deleted."""
    from contextlib import closing

    from ddbrelay.stores.database import Database
    from ddbrelay.stores.ownership import owners_of

    doomed = [one.arn for one in plan if (one.kind, one.state) == ("table", "would-delete")]
    if not doomed or not run.settings.state_file.exists():
        return
    with closing(Database(run.settings.state_file, reading=True)) as database:
        for arn in filter(None, doomed):
            for consumer, owner in owners_of(database, arn):
                yield (
                    f'consumer "{consumer}" is relaying the table now, pid {owner.pid} on '
                    f"{owner.host}; it ends when the table is gone"
                )


def _forget_checkpoints(run: Run, table_arn: str) -> int:
    """A table of this name that is made later has another stream, and starts anew."""
    from contextlib import closing

    from ddbrelay.stores.database import Database
    from ddbrelay.stores.sqlite import forget_table

    if not run.settings.state_file.exists():
        return 0
    with closing(Database(run.settings.state_file)) as database:
        return forget_table(database, table_arn)
