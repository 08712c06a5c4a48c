"""`ddbrelay ledger`: what became of every record, and the proof of it."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.objects import Of
    from ddbrelay.relay.audit import Report
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.ledger import Kept, Snapshot
    from ddbrelay.stores.streams import Tables


@click.command("ledger", cls=Command)
@click.option("--verify", is_flag=True, help="read the stream again and compare")
@setting_options("consumer", "state")
@pass_run
def command(run: Run, verify: bool) -> None:
    """Show what became of the records of each shard: published, skipped, parked or lost.

    With --verify the stream is read again, as far back as AWS keeps it, and each record that the
    ledger cannot account for is named; the exit code is then 4. The relay may go on meanwhile.

    \b
    Examples:
      ddbrelay ledger --table users
      ddbrelay ledger --table users --output json
      ddbrelay ledger --table users --verify
    """
    import asyncio

    from ddbrelay.cli.accounts import show
    from ddbrelay.cli.verification import show_report
    from ddbrelay.objects import Of
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.ledger import of_consumer, resolved_of, snapshot
    from ddbrelay.stores.streams import Tables

    with closing(Database(run.settings.state_file, reading=True)) as database:
        tables = Tables(database)
        latest, earlier = _streams(run, database, tables)
        kept = snapshot(database, latest.name, latest.stream_arn)
        resolved = resolved_of(database, latest.name, latest.stream_arn)
        before = {
            one.stream_arn: list(of_consumer(database, one.name, one.stream_arn).values())
            for one in earlier
        }
    of = Of(latest.name, tables.name(latest.stream_arn), latest.stream_arn)
    if verify:
        report = asyncio.run(_walk(run, of, kept))
        show_report(run.console, of, report, kept.parked_and_kept())
        _judge(run, of, report)
        return
    show(run.console, of, list(kept.ledgers.values()), before, resolved)
    run.next_step("ledger --verify" if kept.ledgers else "tail --forward")


def _streams(run: Run, database: Database, tables: Tables) -> tuple[Kept, list[Kept]]:
    """The consumer on the latest stream of the table, and on the earlier ones."""
    from ddbrelay.cli.positions import latest_of
    from ddbrelay.stores.ledger import consumers

    known = consumers(database)
    names = sorted({f"{one.name} on {tables.name(one.stream_arn)}" for one in known})
    hint = "ddbrelay tail --forward keeps one"
    if names:
        hint = f"there are ledgers of {', '.join(names[:10])}"
    latest = latest_of(run, known, tables, "ledger", hint)
    table = tables.of(latest.stream_arn)
    mine = [one for one in known if one.name == latest.name and one != latest]
    return latest, [one for one in mine if tables.of(one.stream_arn) == table]


async def _walk(run: Run, of: Of, kept: Snapshot) -> Report:
    from ddbrelay.aws.streams import AwsStream
    from ddbrelay.aws.transport import Transport
    from ddbrelay.flow.tracking.reconciliation import Books
    from ddbrelay.relay.audit import Audit
    from ddbrelay.stores.ledger import EARLIER, ShardLedger

    books = {}
    for shard_id in (kept.positions.keys() | kept.ledgers.keys()) - {EARLIER}:
        ledger = kept.ledgers.get(shard_id) or ShardLedger(shard_id)
        books[shard_id] = Books(kept.positions.get(shard_id), ledger.blocks, ledger.gaps)
    async with Transport(run.aws) as transport:
        source = await AwsStream.open(transport, of.stream_arn)
        with _Progress(run.console) as progress:
            return await Audit(source, of.stream_arn, books, progress).run()


class _Progress:
    """How far the walk is, on stderr where that is a terminal; gone when it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Any = None

    def __enter__(self) -> _Progress:
        from ddbrelay.cli.console import is_terminal, terminal

        if is_terminal(sys.stderr) and not self._console.quiet:
            self._status = terminal(stderr=True).status("listing the shards")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def progress(self, done: int, shards: int, records: int) -> None:
        if self._status is not None:
            self._status.update(
                f"reading the stream: {counted(records, 'record')}, "
                f"{done} of {counted(shards, 'shard')} done"
            )

    def trouble(self, message: str) -> None:
        self._console.trouble(message)


def _judge(run: Run, of: Of, report: Report) -> None:
    from ddbrelay.errors import DataLost
    from ddbrelay.flow.tracking.reconciliation import Verdict

    missing = [one for one in report.findings if one.verdict is Verdict.UNACCOUNTED]
    if missing:
        count, at = report.count(Verdict.UNACCOUNTED), f"{missing[0].shard_id}:{missing[0].first}"
        raise DataLost(
            f"{counted(count, 'record')} of the stream {'is' if count == 1 else 'are'} not "
            f'accounted for in the ledger of consumer "{of.consumer}"',
            f"{run.again(f'replay --sequence {at}')} shows the events from there on",
        )
    if count := report.count(Verdict.MISCOUNTED):
        raise DataLost(
            f'the ledger of consumer "{of.consumer}" counts {counted(count, "record")} too many',
            "what was sent twice has the same id both times; --output json has all of it to report",
        )
