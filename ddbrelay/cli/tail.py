"""`ddbrelay tail`: watch changes as events; with --forward, the relay itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.cli.recording import record_option
from ddbrelay.cli.types import DURATION
from ddbrelay.cli.view.filters import view_options
from ddbrelay.text import counted

if TYPE_CHECKING:
    from pathlib import Path

    from ddbrelay.aws.table import TableStream
    from ddbrelay.cli.succession import Leg
    from ddbrelay.cli.view.view import View
    from ddbrelay.flow.capture import Position, Start
    from ddbrelay.flow.mapping import MapFunction
    from ddbrelay.jobs import Ended, Monitor
    from ddbrelay.stores.database import Database


@click.command("tail", cls=Command)
@click.option("--forward", is_flag=True, help="publish each event and advance the checkpoint")
@setting_options("start", "on_gap", "consumer", "entity", "source", "preset", "mapper", "state")
@click.option("--max-records", type=click.IntRange(min=1), help="stop after this many records")
@click.option("--until-idle", type=DURATION, help="stop when nothing came for this long")
@click.option("--timeout", type=DURATION, help="stop after this long")
@view_options
@record_option
@setting_options("grace", "max_in_flight", "claim_check", "dead_letter_queue", "metrics_port")
@pass_run
def command(
    run: Run,
    forward: bool,
    max_records: int | None,
    until_idle: float | None,
    timeout: float | None,
    show: tuple[str, ...],
    grep: str | None,
    detail: bool,
    record: Path | None,
) -> None:
    """Follow a table's stream and show each change as the event it becomes.

    Nothing is sent and no checkpoint moves without --forward. With it, each event is published to
    the bus, at least once and in order per item, and a later run goes on after the last one.

    --from takes checkpoint (the default; trim-horizon where there is none), trim-horizon, latest,
    an ISO time, or an age such as 15m. A forwarding run that has a checkpoint never jumps to
    latest: what came in between would be lost.

    Records that left the stream before they could be read are reported as lost; the run goes on
    behind them and ends with code 4, or holds there with --on-gap stop. One run at a time owns a
    consumer name.

    The time-out ends with code 6 when --max-records or --until-idle was asked for and not reached.

    --show and --grep narrow what is shown, and nothing else; --record keeps it in a file.

    \b
    Examples:
      ddbrelay tail --table users
      ddbrelay tail --table users --forward
      ddbrelay tail --table users --show 'User*' --grep kaylee --detail
      ddbrelay tail --table users --forward --until-idle 5s --timeout 2m --output json
    """
    import time
    from collections import deque
    from contextlib import closing
    from functools import partial

    from ddbrelay.aws.table import stream_of
    from ddbrelay.cli import relaying, succession
    from ddbrelay.cli.in_force import check_table, tell_mapping
    from ddbrelay.cli.view.view import view_of
    from ddbrelay.mappings import check_redaction, mapper_of
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.streams import note
    from ddbrelay.time_limit import left_of, start_within
    from ddbrelay.view_types import check_view_type

    table = run.require("table")
    check_table(run, writes=forward)
    view = view_of(run, f"ddbrelay tail {table}", show, grep, detail, record)
    chosen = _start(run)
    mapper = mapper_of(run.config, table)
    bus = run.settings.bus_name if forward else None

    def start() -> TableStream:
        stream = stream_of(run.aws, table)
        check_redaction(run.config, stream.keys)
        if bus is not None:
            run.check_buses(bus)
        return stream

    began = time.monotonic()
    latest = start_within(timeout, start)
    tell_mapping(run, live=view.live)
    look = partial(check_view_type, run.config, table, tell=run.console.trouble)
    look(latest.view_type, strict=run.settings.strict)
    monitor = relaying.monitor_of(run.settings, table, bus)
    ended: Ended | None = None
    with closing(Database(run.settings.state_file, reading=not forward)) as database, view:
        if forward:
            note(database, latest.arn, latest.table, latest.table_arn)
        legs = deque([succession.Leg(latest)])
        if forward:
            legs.extendleft(reversed(_older(run, database, latest, chosen)))
        follows = len(legs) > 1
        while legs:
            leg = legs.popleft()
            if leg.stream.view_type != latest.view_type:
                # What an earlier stream holds can no longer be had in another form.
                look(leg.stream.view_type, strict=run.settings.strict and leg.stream.enabled)
            bounds: dict[str, Any] = {
                "max_records": max_records and max_records - (ended.read if ended else 0),
                # A stream that has a successor ends by itself.
                "until_idle": None if legs else until_idle,
                "timeout": left_of(timeout, began),
            }
            leg_ended, positions = _run(
                run, database, leg, mapper, bus, None if follows else chosen, bounds, monitor, view
            )
            ended = leg_ended.following(ended)
            if ended.reason not in {"ended", "gone"}:
                break
            if forward and not legs:
                for newer in succession.after(run.aws, leg, run.console.words):
                    run.console.words(
                        f"the table has a new stream, {newer.label}, which comes next"
                    )
                    legs.append(newer)
                    follows = True
    assert ended is not None
    _summary(run, ended, forward, positions)
    bounded = max_records is not None or until_idle is not None
    relaying.judge(ended, run.again, timeout_is_a_failure=bounded, forward=forward)


def _older(
    run: Run, database: Database, latest: TableStream, chosen: tuple[Start | None, float | None]
) -> list[Leg]:
    """The earlier streams of the table that come first, unless another start was asked for."""
    from ddbrelay.cli import succession
    from ddbrelay.flow.capture import Start

    consumer = run.settings.consumer
    older = succession.older(run.aws, database, consumer, latest, run.console.words)
    typed = run.config.origins["start"].startswith("flag")
    if older and typed and chosen[0] not in {None, Start.LATEST}:
        run.console.words("what was not read of the table's earlier stream is left out")
        succession.forget(database, consumer, older)
        return []
    return older


def _run(
    run: Run,
    database: Database,
    leg: Leg,
    mapper: MapFunction,
    bus: str | None,
    chosen: tuple[Start | None, float | None] | None,
    bounds: dict[str, Any],
    monitor: Monitor | None,
    view: View,
) -> tuple[Ended, dict[str, Position]]:
    """Read one stream, and return where its checkpoint stands; `chosen` None goes on from there.

    A stream that follows an earlier one begins at its beginning, whatever start was asked for.
    """
    import asyncio

    from ddbrelay import jobs
    from ddbrelay.cli import relaying
    from ddbrelay.flow.capture import Start
    from ddbrelay.mappings import in_force, tidying_of
    from ddbrelay.stores.preview import FixedPositions
    from ddbrelay.stores.sqlite import SqliteStore

    settings, table, forward = run.settings, leg.stream.table, bus is not None
    store = SqliteStore(database, settings.consumer, leg.stream.arn)
    stored = asyncio.run(store.load())
    start, since, resume = Start.TRIM_HORIZON, None, True
    if chosen is not None:
        start, since, resume = _where(run, chosen, stored, forward)
    if not leg.stream.enabled:
        run.console.words("the stream is disabled; what it still holds is read")
    job = jobs.Job(
        run.aws,
        leg.stream,
        mapper,
        bus,
        store if forward else FixedPositions(stored.values()),
        jobs.options_of(
            settings,
            start=start,
            since=since,
            resume=resume,
            stop_on_gap=forward and settings.on_gap == "stop",
            **bounds,
        ),
        leg.part,
        jobs.CopyTo(settings.dead_letter_queue, store, settings.consumer)
        if forward and settings.dead_letter_queue is not None
        else None,
        monitor,
        tidying_of(run.config) if forward else None,
    )
    if monitor is not None and forward:
        monitor.metrics.dead_letters = lambda: _count_letters(
            database.path, settings.consumer, leg.stream.arn
        )
    title = f"{table} ─▶ {bus}" if bus else f"{table}   preview, nothing is sent"
    details = (
        f"consumer {settings.consumer}   from {_from(stored, start, since, resume)}"
        "   Ctrl-C stops cleanly"
    )
    ended = relaying.run(job, view, title, details, in_force(run.config))
    return ended, asyncio.run(store.load()) if forward else {}


def _count_letters(state_file: str, consumer: str, stream_arn: str) -> int:
    """Count the dead letters beside the relay, whose own connection is for its event loop alone."""
    from contextlib import closing

    from ddbrelay.stores.database import Database
    from ddbrelay.stores.letters import waiting

    # A stop waits for a count that was begun.
    with closing(Database(state_file, reading=True, lock_timeout=0.5)) as database:
        return waiting(database, consumer, stream_arn)


def _start(run: Run) -> tuple[Start | None, float | None]:
    """The start that was asked for; None for the checkpoint."""
    import time

    from ddbrelay.errors import ConfigError
    from ddbrelay.flow.capture import Start
    from ddbrelay.values import parse_time

    text = run.settings.start
    if text == "checkpoint":
        return None, None
    if text in {Start.TRIM_HORIZON.value, Start.LATEST.value}:
        return Start(text), None
    try:
        return Start.TIME, parse_time(text, time.time())
    except ValueError as error:
        raise ConfigError(
            f"--from: {error}",
            "checkpoint, trim-horizon, latest, an ISO time, or an age; a bookmark goes to "
            "ddbrelay replay --from",
        ) from None


def _where(
    run: Run,
    chosen: tuple[Start | None, float | None],
    stored: dict[str, Position],
    forward: bool,
) -> tuple[Start, float | None, bool]:
    """The start, its time, and whether a stored checkpoint comes first."""
    from ddbrelay.flow.capture import Start

    start, since = chosen
    if start is None:
        return Start.TRIM_HORIZON, None, True
    typed = run.config.origins["start"].startswith("flag")
    if forward and stored and (start is Start.LATEST or not typed):
        if typed:
            run.console.words(
                "going on from the checkpoint: latest would lose what came since (--consumer NAME "
                "starts another one)"
            )
        return start, since, True
    return start, since, forward and not typed


def _from(stored: dict[str, Position], start: Start, since: float | None, resume: bool) -> str:
    import time

    if resume and stored:
        return "the checkpoint"
    if since is not None:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    return start.value


def _summary(run: Run, ended: Ended, forward: bool, positions: dict[str, Position]) -> None:
    from ddbrelay.flow.tracking import Fate
    from ddbrelay.output.run import TailSummary

    console, tally = run.console, ended.tally
    if console.json:
        checkpoint = {p.shard_id: p.sequence for p in positions.values() if p.sequence}
        console.object(
            TailSummary.of(
                ended, forward=forward, consumer=run.settings.consumer, checkpoint=checkpoint
            )
        )
        return
    if not forward:
        console.words(
            f"Saw {counted(ended.read, 'change')} in {ended.seconds:.1f} s. Nothing was sent."
        )
        if not tally[Fate.PARKED]:
            run.next_step("tail --forward")
        return
    rate = ended.events / max(ended.seconds, 0.001)
    sent = counted(ended.events, "event")
    words = f"Relayed {sent} in {ended.seconds:.1f} s ({rate:,.0f}/s)."
    if tally[Fate.SKIPPED]:
        words += f" Skipped {tally[Fate.SKIPPED]:,}."
    if tally[Fate.PARKED]:
        words += f" Parked {tally[Fate.PARKED]:,}."
    last = [p.sequence for p in positions.values() if p.sequence and not p.finished]
    if len(last) == 1:
        words += f" Next start: after …{last[0][-8:]}."
    elif last:
        words += f" Next start: after {len(last)} checkpoints, one a shard."
    console.words(words)
