"""`ddbrelay status`: how far a consumer is behind, and how long until records are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.cli.types import DURATION
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.aws.table import TableStream
    from ddbrelay.cli.console import Console
    from ddbrelay.cli.standing import Standing
    from ddbrelay.config import Settings
    from ddbrelay.relay.survey import Survey
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.sqlite import SqliteStore


@click.command("status", cls=Command)
@click.option(
    "--fail-if-lag",
    type=DURATION,
    help="end with code 6 when a record is unread for longer, with 4 when some are lost",
)
@click.option(
    "--fail-if-parked",
    is_flag=True,
    help="end with code 3 when dead letters wait",
)
@setting_options("consumer", "state")
@pass_run
def command(run: Run, fail_if_lag: float | None, fail_if_parked: bool) -> None:
    """Show what a consumer has not read yet, and when that would be lost.

    It asks AWS for the oldest unread record of each shard, whether or not a relay is running, and
    changes nothing. A stream keeps a record for 24 hours. Without a checkpoint everything in the
    stream is unread.

    The cost of the runs is estimated from the prices in ddbrelay.toml ([prices]), by default those
    of us-east-1. Free tiers are not subtracted: DynamoDB gives 2.5 million reads a month.

    \b
    Examples:
      ddbrelay status --table users
      ddbrelay status --table users --fail-if-lag 10m --fail-if-parked
      ddbrelay status --table users --output json
    """
    import asyncio
    from contextlib import closing

    from ddbrelay.aws.table import stream_of
    from ddbrelay.cli import standing
    from ddbrelay.errors import RecordsParked
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.sqlite import SqliteStore

    table, consumer = run.require("table"), run.settings.consumer
    stream = stream_of(run.aws, table)
    with closing(Database(run.settings.state_file, reading=True)) as database:
        store = SqliteStore(database, consumer, stream.arn)
        survey = asyncio.run(_survey(run.aws, stream, store, run.console))
        found = _standing(run.settings, database, stream, survey)
    for label in found.unfinished:
        run.console.words(
            f'consumer "{consumer}" has an unfinished checkpoint on an older stream, {label}'
        )
    if run.console.json:
        standing.print_objects(run.console, found)
    else:
        standing.print_rows(run.console, found)
        if found.owner is None and (survey.unread or survey.gaps):
            run.next_step("tail --forward")
    if fail_if_lag is not None:
        _judge(run, found, fail_if_lag)
    if fail_if_parked and found.dead_letters:
        waits = "waits" if found.dead_letters == 1 else "wait"
        raise RecordsParked(
            f"{counted(found.dead_letters, 'dead letter')} {waits}",
            f"{run.again('dead-letters list')} shows them",
        )


async def _survey(aws: Aws, stream: TableStream, store: SqliteStore, console: Console) -> Survey:
    from ddbrelay.aws.streams import AwsStream
    from ddbrelay.aws.transport import Transport
    from ddbrelay.flow.change import Origin
    from ddbrelay.relay.survey import survey

    async with Transport(aws) as transport:
        source = await AwsStream.open(transport, stream.arn)
        origin = Origin(stream.table, stream.arn)
        return await survey(source, origin, store, trouble=console.trouble)


def _standing(
    settings: Settings, database: Database, stream: TableStream, survey: Survey
) -> Standing:
    import time

    from ddbrelay.cli.standing import Standing
    from ddbrelay.cost import Bills, Prices
    from ddbrelay.flow.tracking import Fate
    from ddbrelay.stores import ledger, usage
    from ddbrelay.stores.letters import waiting
    from ddbrelay.stores.ownership import owner_of
    from ddbrelay.stores.sqlite import consumers, positions_of
    from ddbrelay.stores.streams import Tables

    consumer = settings.consumer
    kept = ledger.of_consumer(database, consumer, stream.arn).values()
    owner = owner_of(database, consumer, stream.arn)
    mine = [one for one in consumers(database) if one.name == consumer]
    here = [one for one in mine if one.stream_arn == stream.arn]
    heard = [one.saved_at for one in here] + ([owner.beat_at] if owner is not None else [])
    tables = Tables(database)
    older = sorted({one.stream_arn for one in mine} - {stream.arn})
    return Standing(
        consumer,
        stream,
        survey,
        owner=owner if owner is not None and owner.alive else None,
        heard_at=max(heard, default=None),
        counts={fate: sum(shard.count(fate) for shard in kept) for fate in Fate},
        gaps=sum(len(shard.gaps) for shard in kept),
        dead_letters=waiting(database, consumer, stream.arn),
        resolved=ledger.resolved_of(database, consumer, stream.arn),
        unfinished=[
            arn.rpartition("/")[2]
            for arn in older
            if tables.of(arn).arn == stream.table_arn
            and not all(position.finished for position in positions_of(database, consumer, arn))
        ],
        bills=Bills.of(usage.of_consumer(database, consumer, stream.arn), Prices.of(settings)),
        at=time.time(),
    )


def _judge(run: Run, found: Standing, longest: float) -> None:
    """Raise what the exit code must say; lost records weigh more than late ones."""
    from ddbrelay.errors import DataLost, ExpectationNotMet
    from ddbrelay.relay.backlog import worst
    from ddbrelay.times import whole

    unread, gaps = found.survey.unread, found.survey.gaps
    start = None if found.owner else f"no relay is running: {run.again('tail --forward')}"
    if gaps:
        shards = counted(len({gap.shard_id for gap in gaps}), "shard")
        raise DataLost(
            f"unread records of {shards} have left the stream, among them {gaps[0].shard_id}",
            start or "the relay reports the gap when it comes to it, and goes on behind it",
        )
    unknown = [one.shard_id for one in unread if one.since is None]
    if unknown:
        raise ExpectationNotMet(f"shard {unknown[0]} has unread records of unknown age", start)
    for oldest in worst(unread)[:1]:
        age = oldest.age(found.at) or 0.0
        if age > longest:
            raise ExpectationNotMet(
                f"shard {oldest.shard_id} is {whole(age)} behind, more than {whole(longest)}", start
            )
