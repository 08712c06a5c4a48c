"""`ddbrelay report`: a consumer's ledger over a period as one page."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ddbrelay.cli import completing
from ddbrelay.cli.options import Command, Run, pass_run, setting_options

if TYPE_CHECKING:
    from ddbrelay.report.numbers import Report
    from ddbrelay.stores.database import Database

_PAGE = "ddbrelay-report.html"
_STDOUT = "-"
_BEGIN = "ddbrelay tail --forward relays, and keeps what a report is made of"


@click.command("report", cls=Command)
@click.option(
    "--since", default="24h", show_default=True, metavar="TIME", help="an age: 24h, or an ISO time"
)
@click.option(
    "--out",
    metavar="FILE",
    help=f"the page, - is stdout  [default: {_PAGE}]",
    shell_complete=completing.files,
)
@setting_options("consumer", "state")
@pass_run
def command(run: Run, since: str, out: str | None) -> None:
    """Write what became of a table's changes as one HTML page.

    The page stands by itself: events over time by type, the lag, what is parked or lost, the
    shards, and what the runs cost. It needs no AWS, only the state file, which has minutes for a
    day and hours for ninety days. With --output json the numbers are printed, and a page is written
    only where --out names one.

    \b
    Examples:
      ddbrelay report --table users
      ddbrelay report --table users --since 7d --out users.html
      ddbrelay report --table users --output json
    """
    from ddbrelay.cli.types import moment
    from ddbrelay.stores.database import Database

    begin = moment("--since", since)
    if not run.settings.state_file.exists():
        raise _nothing(run)
    with closing(Database(run.settings.state_file, reading=True)) as database:
        report = _gather(run, database, begin)
    if report.empty:
        raise _nothing(run)
    if not run.console.json:
        _write(run, report, out or _PAGE)
        return
    from ddbrelay.output.report import lines

    # A page that cannot be written is an error, before which nothing may be printed.
    if out not in {None, _STDOUT}:
        _write(run, report, out)
    for line in lines(report):
        run.console.object(line)


def _gather(run: Run, database: Database, since: float) -> Report:
    import time

    from ddbrelay.cli.positions import latest_of
    from ddbrelay.cost import Prices
    from ddbrelay.report.numbers import gather
    from ddbrelay.stores.ledger import consumers
    from ddbrelay.stores.streams import Tables

    tables = Tables(database)
    known = consumers(database)
    names = sorted({f"{one.name} on {tables.name(one.stream_arn)}" for one in known})
    hint = f"there are ledgers of {', '.join(names[:10])}" if names else _BEGIN
    latest = latest_of(run, known, tables, "ledger", hint)
    table = tables.of(latest.stream_arn)
    # A stream's label is the time of its making.
    arns = sorted(
        (
            one.stream_arn
            for one in known
            if one.name == latest.name and tables.of(one.stream_arn) == table
        ),
        reverse=True,
    )
    return gather(
        database,
        latest.name,
        arns,
        table=table.name,
        bus=run.settings.bus or f"{table.name}-bus",
        prices=Prices.of(run.settings),
        since=since,
        now=time.time,
    )


def _nothing(run: Run) -> Exception:
    from ddbrelay.errors import ConfigError

    table = f' on table "{run.settings.table}"' if run.settings.table else ""
    return ConfigError(f'consumer "{run.settings.consumer}" has relayed nothing yet{table}', _BEGIN)


def _write(run: Run, report: Report, out: str) -> None:
    from ddbrelay.cli.files import write_whole
    from ddbrelay.report.page import page
    from ddbrelay.text import printable

    text = page(report)
    if out == _STDOUT:
        from ddbrelay.cli.console import out_bytes

        out_bytes(text.encode())
        return
    write_whole(Path(out), text)
    run.console.words(f"{report.verdict}: {printable(out)}")
