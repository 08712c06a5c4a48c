"""`ddbrelay schema`: a JSON Schema for each kind of event, and events that do not fit theirs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from ddbrelay.cli import completing
from ddbrelay.cli.files import records
from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.cli.types import DURATION
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.config import Config
    from ddbrelay.flow.capture import Gap
    from ddbrelay.flow.change import Change
    from ddbrelay.flow.mapping import Event, MapFunction, Mapped
    from ddbrelay.relay import Outcome, Relay

_MOST_RECORDS = 10_000
_QUIET = 2.0
"""Seconds without a record after which a stream counts as read, where no bound was given."""
_PROGRESS = 5.0


class _Reader(Protocol):
    """Is given every event that the mapping makes."""

    def event(self, change: Change, event: Event) -> None: ...

    def rejected(self, change: Change, reason: str) -> None: ...


@dataclass(frozen=True)
class _Bounds:
    max_records: int | None
    until_idle: float | None
    timeout: float | None

    @property
    def given(self) -> bool:
        return any(one is not None for one in (self.max_records, self.until_idle, self.timeout))


@click.command("schema", cls=Command)
@click.argument("files", metavar="[FILE]...", nargs=-1, shell_complete=completing.files)
@click.option(
    "--dir",
    "directory",
    metavar="DIR",
    help="one file for each detail type, in DIR",
    shell_complete=completing.folders,
)
@click.option(
    "--detail-type",
    "detail_types",
    metavar="TYPE",
    multiple=True,
    help="only these",
    shell_complete=completing.event_types,
)
@click.option("--check", is_flag=True, help="say which events do not fit their schemas")
@click.option("--force", is_flag=True, help="replace files that differ")
@click.option("--max-records", type=click.IntRange(min=1), help="stop after this many records")
@click.option("--until-idle", type=DURATION, help="stop when nothing came for this long")
@click.option("--timeout", type=DURATION, help="stop after this long")
@setting_options("entity", "source", "preset", "mapper")
@pass_run
def command(
    run: Run,
    files: tuple[str, ...],
    directory: str | None,
    detail_types: tuple[str, ...],
    check: bool,
    force: bool,
    max_records: int | None,
    until_idle: float | None,
    timeout: float | None,
) -> None:
    """Infer a JSON Schema for each kind of event from examples, or check events against schemas.

    The events are what the mapping makes of recorded changes (a FILE as for ddbrelay map, "-" for
    standard input); without a FILE, of what the table's stream still holds, up to 10,000 records.
    Nothing is sent and no checkpoint moves.

    --check compares with the files in DIR, without --dir with the schemas that the rules name. It
    ends with code 6 when an event does not fit, or could not be made.

    \b
    Examples:
      ddbrelay schema changes.json --detail-type UserCreated > user-created.json
      ddbrelay schema --table users --dir schemas
      ddbrelay schema changes.json --check
    """
    from ddbrelay.cli.checking import Checking, schema_finder
    from ddbrelay.cli.in_force import check_table
    from ddbrelay.cli.inferring import Inferring, write
    from ddbrelay.errors import ConfigError

    bounds = _Bounds(max_records, until_idle, timeout)
    if files and bounds.given:
        raise ConfigError("--max-records, --until-idle and --timeout are for a stream, not a file")
    if force and (directory is None or check):
        raise ConfigError("--force replaces the files of --dir DIR, and nothing else")
    check_table(run, writes=False)
    folder = None if directory is None else Path(directory)
    # A rule's own schema would keep out what it does not allow yet.
    mapping = run.config.mapping
    rules = tuple({k: v for k, v in rule.items() if k != "schema"} for rule in mapping.rules)
    config = replace(run.config, mapping=replace(mapping, rules=rules))
    wanted = frozenset(detail_types)
    if check:
        checking = Checking(run.console, wanted, schema_finder(run.config, folder))
        _read_all(run, config, files, bounds, checking)
        checking.conclude()
    else:
        inferring = Inferring(wanted)
        _read_all(run, config, files, bounds, inferring)
        inferring.report(run.console)
        write(run, inferring, folder, force=force)


# Where events come from


def _read_all(
    run: Run, config: Config, files: Sequence[str], bounds: _Bounds, reader: _Reader
) -> None:
    if files:
        _read_files(run, config, files, reader)
    else:
        _read_stream(run, config, bounds, reader)


def _read_files(run: Run, config: Config, files: Sequence[str], reader: _Reader) -> None:
    from ddbrelay.library import Mapper
    from ddbrelay.mappings import mapper_of

    changes = Mapper(config)

    @cache
    def mapper(table: str) -> MapFunction:
        return mapper_of(config, table)

    for record in records(files, run.console.trouble):
        change = changes.change(record)
        _tell(reader, change, mapper(change.table)(change))


def _tell(reader: _Reader, change: Change, mapped: Mapped) -> None:
    from ddbrelay.flow.mapping import Event, Reject, Several

    if isinstance(mapped, Reject):
        reader.rejected(change, mapped.reason)
    elif isinstance(mapped, Several):
        for event in mapped.events:
            reader.event(change, event)
    elif isinstance(mapped, Event):
        reader.event(change, mapped)


def _read_stream(run: Run, config: Config, bounds: _Bounds, reader: _Reader) -> None:
    from ddbrelay import jobs
    from ddbrelay.aws.table import stream_of
    from ddbrelay.cli.signals import run_until_signal
    from ddbrelay.flow.capture import Start
    from ddbrelay.mappings import mapper_of
    from ddbrelay.stores.preview import FixedPositions
    from ddbrelay.time_limit import left_of, start_within

    if not bounds.given:
        bounds = _Bounds(_MOST_RECORDS, _QUIET, None)
    table = run.require("table")
    began = time.monotonic()
    stream = start_within(bounds.timeout, lambda: stream_of(run.aws, table))
    inner = mapper_of(config, table)

    def mapper(change: Change) -> Mapped:
        mapped = inner(change)
        _tell(reader, change, mapped)
        return mapped

    options = jobs.options_of(
        config.settings,
        start=Start.TRIM_HORIZON,
        resume=False,
        max_records=bounds.max_records,
        until_idle=bounds.until_idle,
        timeout=left_of(bounds.timeout, began),
    )
    job = jobs.Job(run.aws, stream, mapper, None, FixedPositions(()), options)
    run.console.words(f"reading the stream of {table} from its beginning; Ctrl-C ends the reading")

    async def main(stop: asyncio.Event) -> jobs.Ended:
        return await jobs.relay(job, _Words(run.console), stop)

    ended = run_until_signal(main)
    run.console.words(f"read {counted(ended.read, 'record')} in {ended.seconds:.1f} s")


class _Words:
    """A screen that shows no events, only how far the reading is."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def outcome(self, outcome: Outcome) -> None:
        return

    def gap(self, gap: Gap) -> None:
        from ddbrelay.output.words import gap_text

        self._console.words(gap_text(gap))

    def trouble(self, message: str) -> None:
        self._console.trouble(message)

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(_PROGRESS)
            self._console.words(f"{counted(relay.read, 'record')} so far")

    def close(self, relay: Relay | None) -> None:
        return
