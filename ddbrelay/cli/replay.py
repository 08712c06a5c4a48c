"""`ddbrelay replay`: send again from a stored position; the live checkpoint stays where it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import click

from ddbrelay.cli import completing
from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.cli.recording import record_option
from ddbrelay.cli.types import DURATION, asked_keys, moment
from ddbrelay.cli.view.filters import view_options
from ddbrelay.text import counted

if TYPE_CHECKING:
    from pathlib import Path

    from ddbrelay.aws.table import TableStream
    from ddbrelay.flow.capture import Position, Start, StreamSource
    from ddbrelay.flow.change import Change
    from ddbrelay.flow.mapping import Event, Reject, Skip
    from ddbrelay.jobs import Ended
    from ddbrelay.stores.database import Database

_QUIET = 2.0
"""Seconds without a record after which an open shard is taken to be read to its tip."""
_FAILURES = 8
"""Refusals in a row, half a minute of them, after which a position counts as unreadable."""
_CHOICES = "--from BOOKMARK, --iterator ITERATOR, --sequence SHARD:NUMBER or --since TIME"
_ONE_SHARD = "iterator"


class _Where(NamedTuple):
    """Where a replay starts: stored positions, or a start for every shard."""

    stream: TableStream
    start: Start
    positions: list[Position]
    since: float | None = None
    part: Callable[[StreamSource], StreamSource] | None = None


@click.command("replay", cls=Command)
@click.option(
    "--from",
    "bookmark",
    metavar="BOOKMARK",
    help="a bookmark, or checkpoint",
    shell_complete=completing.bookmarks,
)
@click.option("--iterator", metavar="ITERATOR", help="a shard iterator, at most 15 minutes old")
@click.option("--sequence", metavar="SHARD:NUMBER", help="a sequence number of one shard")
@click.option("--since", metavar="TIME", help="an ISO time, or an age such as 2h")
@click.option("--until", metavar="TIME", help="leave out what was written later (default: now)")
@click.option("--key", "keys", metavar="NAME=VALUE", multiple=True, help="only items with this key")
@click.option(
    "--detail-type",
    "detail_types",
    metavar="TYPE",
    multiple=True,
    help="only these",
    shell_complete=completing.event_types,
)
@click.option("--rule", "rules", metavar="RULE", multiple=True, help="only events of these rules")
@click.option("--forward", is_flag=True, help="publish the events; without it they are only shown")
@click.option("--max-records", type=click.IntRange(min=1), help="stop after this many records")
@click.option("--timeout", type=DURATION, help="stop after this long, with code 6")
@view_options
@record_option
@setting_options(
    *(
        "consumer",
        "entity",
        "source",
        "preset",
        "mapper",
        "state",
        "grace",
        "max_in_flight",
        "claim_check",
    ),
)
@pass_run
def command(
    run: Run,
    bookmark: str | None,
    iterator: str | None,
    sequence: str | None,
    since: str | None,
    until: str | None,
    keys: tuple[str, ...],
    detail_types: tuple[str, ...],
    rules: tuple[str, ...],
    forward: bool,
    max_records: int | None,
    timeout: float | None,
    show: tuple[str, ...],
    grep: str | None,
    detail: bool,
    record: Path | None,
) -> None:
    """Show, and with --forward send again, what followed a stored position.

    It ends with what was written before it began. The live checkpoint never moves. A position that
    is older than the 24 hours a stream keeps is an error, with code 4.

    --key, --detail-type and --rule say which events are meant; --show and --grep narrow only what
    of them is shown.

    \b
    Examples:
      ddbrelay replay --from before-deploy
      ddbrelay replay --from before-deploy --key id=7f3a91c2 --forward
      ddbrelay replay --since 2h --detail-type UserUpdated --forward
      ddbrelay replay --since 2h --detail --record replay.html
    """
    from ddbrelay import jobs
    from ddbrelay.cli import relaying
    from ddbrelay.cli.in_force import check_table, tell_mapping
    from ddbrelay.cli.view.view import view_of
    from ddbrelay.errors import ConfigError
    from ddbrelay.flow.capture import Start
    from ddbrelay.mappings import check_redaction, in_force, mapper_of
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.preview import FixedPositions
    from ddbrelay.stores.sqlite import SqliteStore
    from ddbrelay.stores.streams import note
    from ddbrelay.time_limit import left_of, start_within
    from ddbrelay.view_types import check_view_type

    if sum(choice is not None for choice in (bookmark, iterator, sequence, since)) != 1:
        raise ConfigError("say where to start, in one way", _CHOICES)
    wanted = _filter(keys, detail_types, rules)
    until_time = time.time() if until is None else moment("--until", until)
    since_time = None if since is None else moment("--since", since)
    if since_time is not None and since_time > until_time:
        raise ConfigError("--until lies before --since, so nothing can be found")
    settings = run.settings
    check_table(run, writes=forward)
    view = view_of(run, "ddbrelay replay", show, grep, detail, record)
    with closing(Database(settings.state_file, reading=not forward)) as database:

        def start() -> tuple[_Where, str | None]:
            if bookmark is not None:
                where = _at_bookmark(run, database, bookmark)
            elif iterator is not None:
                where = _at_iterator(run, iterator)
            elif sequence is not None:
                where = _at_sequence(run, sequence)
            else:
                where = _Where(_stream(run), Start.TIME, [], since_time)
            check_redaction(run.config, where.stream.keys)
            bus = (settings.bus or f"{where.stream.table}-bus") if forward else None
            if bus is not None:
                run.check_buses(bus)
            return where, bus

        began = time.monotonic()
        where, bus = start_within(timeout, start)
        stream = where.stream
        if forward:
            note(database, stream.arn, stream.table, stream.table_arn)
        letters = SqliteStore(database, settings.consumer, stream.arn) if forward else None
        job = jobs.Job(
            run.aws,
            stream,
            mapper_of(run.config, stream.table),
            bus,
            FixedPositions(where.positions, letters),
            jobs.options_of(
                settings,
                start=where.start,
                since=where.since,
                until_time=until_time,
                stop_on_gap=True,
                max_failures=_FAILURES,
                wanted=wanted,
                max_records=max_records,
                until_idle=_QUIET,
                timeout=left_of(timeout, began),
            ),
            where.part,
        )
        title = f"{stream.table} ─▶ {bus}" if bus else f"{stream.table}   preview, nothing is sent"
        tell_mapping(run, live=view.live)
        check_view_type(
            run.config,
            stream.table,
            stream.view_type,
            run.console.trouble,
            strict=settings.strict,
        )
        with view:
            details = "replay   the checkpoint does not move"
            ended = relaying.run(job, view, title, details, in_force(run.config))
    _summary(run, ended, forward, view.hidden)
    relaying.judge(ended, run.again, timeout_is_a_failure=True, forward=forward, resumes=False)


def _filter(
    keys: Sequence[str], detail_types: Sequence[str], rules: Sequence[str]
) -> Callable[[Change, Event | Skip | Reject], bool] | None:
    """Whether an event is asked for; None when all are. Values of one kind are alternatives."""
    from ddbrelay.flow.mapping import Event
    from ddbrelay.output.words import key_parts

    asked = asked_keys(keys)
    if not (asked or detail_types or rules):
        return None

    def wanted(change: Change, result: Event | Skip | Reject) -> bool:
        parts = key_parts(change) if asked else {}
        if any(parts.get(name) not in values for name, values in asked.items()):
            return False
        if not isinstance(result, Event):
            return not (detail_types or rules)
        return (not detail_types or result.detail_type in detail_types) and (
            not rules or result.rule in rules
        )

    return wanted


def _stream(run: Run) -> TableStream:
    from ddbrelay.aws.table import stream_of

    table = run.require("table")
    return stream_of(run.aws, table)


def _at_bookmark(run: Run, database: Database, name: str) -> _Where:
    from ddbrelay.aws.table import UNKNOWN, TableStream, describe_stream
    from ddbrelay.cli.positions import live
    from ddbrelay.errors import ConfigError
    from ddbrelay.flow.capture import Start
    from ddbrelay.stores.sqlite import Bookmarks
    from ddbrelay.stores.streams import Tables

    mark = live(run, database, name) if name == "checkpoint" else Bookmarks(database).get(name)
    table, table_arn = Tables(database).of(mark.stream_arn)
    if run.settings.table not in {None, table}:
        raise ConfigError(
            f'bookmark "{name}" is of table "{table}", not of "{run.settings.table}"',
            "ddbrelay positions list",
        )
    # Its own stream: the table may have a new one, and the old one is kept for 24 hours.
    view_type = describe_stream(run.aws, mark.stream_arn).get("StreamViewType", UNKNOWN)
    stream = TableStream(table, mark.stream_arn, view_type, True, table_arn=table_arn)
    return _Where(stream, Start.TRIM_HORIZON, mark.positions)


def _at_iterator(run: Run, iterator: str) -> _Where:
    from ddbrelay.flow.capture import Position, Start
    from ddbrelay.relay.subset import OneIterator

    position = Position(
        _ONE_SHARD, start=Start.ITERATOR, iterator=iterator, iterator_at=time.time()
    )
    return _Where(
        _stream(run), Start.ITERATOR, [position], None, lambda s: OneIterator(s, _ONE_SHARD)
    )


def _at_sequence(run: Run, text: str) -> _Where:
    from ddbrelay.errors import ConfigError
    from ddbrelay.flow.capture import Position, Start
    from ddbrelay.relay.subset import Subtree

    shard, colon, number = text.rpartition(":")
    if not colon or not shard or not (number.isascii() and number.isdigit()):
        raise ConfigError(
            f'--sequence: "{text}" is not SHARD:NUMBER', "ddbrelay positions show lists both"
        )
    position = Position(shard, start=Start.AT_SEQUENCE, start_sequence=number)
    return _Where(_stream(run), Start.AT_SEQUENCE, [position], None, lambda s: Subtree(s, shard))


def _summary(run: Run, ended: Ended, forward: bool, hidden: int) -> None:
    from ddbrelay.output.run import ReplaySummary

    console = run.console
    if console.json:
        console.object(ReplaySummary.of(ended, forward=forward))
        return
    words = f"{counted(ended.read, 'record')} in {ended.seconds:.1f} s"
    if forward:
        words = f"Sent {counted(ended.events, 'event')} again, of {words}."
    else:
        words = f"Found {counted(ended.tally.previewed, 'event')} in {words}. Nothing was sent."
    console.words(words if ended.reason != "stopped" else f"Stopped before the end. {words}")
    if ended.tally.previewed and ended.reason == "idle":
        what = "what is shown"
        if hidden:
            what = (
                f"all {ended.tally.previewed:,}, also what is hidden; "
                "--detail-type, --key and --rule choose what is sent"
            )
        console.words(f"next: the same with --forward sends {what}")
