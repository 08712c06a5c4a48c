"""`ddbrelay positions`: what is kept of how far a consumer came, and named copies of it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import click

from ddbrelay.cli import completing
from ddbrelay.cli.console import out_json
from ddbrelay.cli.groups import Group
from ddbrelay.cli.options import Run, pass_run, setting_options
from ddbrelay.text import counted
from ddbrelay.times import iso

if TYPE_CHECKING:
    from ddbrelay.flow.capture import Position
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.sqlite import Bookmark
    from ddbrelay.stores.streams import Tables

_EPILOG = """\b
Examples:
  ddbrelay positions save before-deploy
  ddbrelay positions show before-deploy
  ddbrelay replay --from before-deploy
  ddbrelay positions export before-deploy > positions.json
"""


@click.group("positions", cls=Group, epilog=_EPILOG)
def command() -> None:
    """Checkpoints of consumers, and bookmarks: named copies of them.

    A checkpoint holds, for each shard, the last settled sequence number and the iterator behind it.
    Every forwarding run saves a bookmark when it starts; the last 20 are kept.
    """


@contextmanager
def _database(run: Run, *, reading: bool = True) -> Iterator[Database]:
    from ddbrelay.stores.database import Database

    database = Database(run.settings.state_file, reading=reading)
    try:
        yield database
    finally:
        database.close()


def live(run: Run, database: Database, name: str) -> Bookmark:
    """The checkpoint of the consumer, as a bookmark of that name."""
    from ddbrelay.stores.sqlite import Bookmark, consumers, positions_of
    from ddbrelay.stores.streams import Tables

    latest = latest_of(
        run,
        consumers(database),
        Tables(database),
        "checkpoint",
        "ddbrelay tail --forward makes one; ddbrelay positions list shows what there is",
    )
    positions = positions_of(database, latest.name, latest.stream_arn)
    return Bookmark(name, latest.name, latest.stream_arn, positions, latest.saved_at)


class _Kept(Protocol):
    """Something that is kept of a consumer on a stream."""

    @property
    def name(self) -> str: ...
    @property
    def stream_arn(self) -> str: ...


_K = TypeVar("_K", bound=_Kept)


def latest_of(run: Run, kept: Iterable[_K], tables: Tables, what: str, hint: str) -> _K:
    """What is kept of the consumer on the latest stream of the table; `kept` is the latest first.

    Raises ConfigError where there is none, with the hint, or where there are several tables.
    """
    from ddbrelay.errors import ConfigError

    consumer, table = run.settings.consumer, run.settings.table
    known = [
        one for one in kept if one.name == consumer and table in {None, tables.name(one.stream_arn)}
    ]
    if not known:
        of = f' on table "{table}"' if table else ""
        raise ConfigError(f'consumer "{consumer}" has no {what}{of}', hint)
    names = sorted({tables.name(one.stream_arn) for one in known})
    if len(names) > 1:
        raise ConfigError(
            f'consumer "{consumer}" has {what}s on several tables: {", ".join(names)}',
            "say which with --table",
        )
    return known[0]


@command.command("list")
@setting_options("state")
@pass_run
def list_(run: Run) -> None:
    """Show the checkpoints and the bookmarks.

    \b
    Example:
      ddbrelay positions list --output json
    """
    from ddbrelay.output import positions as printed
    from ddbrelay.stores.sqlite import Bookmarks, consumers
    from ddbrelay.stores.streams import Tables

    with _database(run) as database:
        consumed, marks = consumers(database), Bookmarks(database).all()
        tables = Tables(database)
    table = run.settings.table
    consumed = [one for one in consumed if table in {None, tables.name(one.stream_arn)}]
    marks = [mark for mark in marks if table in {None, tables.name(mark.stream_arn)}]
    # What was named by hand comes before what runs saved by themselves.
    marks.sort(key=lambda mark: mark.automatic)
    if run.console.json:
        for one in consumed:
            run.console.object(printed.Checkpoint.of(one, tables))
        for mark in marks:
            run.console.object(printed.Bookmark(**printed.fields_of(mark, tables)))
        return
    if not consumed and not marks:
        run.console.words("nothing is stored yet")
        run.next_step("tail --forward")
        return
    rows = [
        (
            "checkpoint",
            one.name,
            tables.name(one.stream_arn),
            counted(one.shards, "shard") + (f", {one.parked:,} parked" if one.parked else ""),
            one.saved_at,
        )
        for one in consumed
    ]
    rows += [
        (
            "run" if mark.automatic else "bookmark",
            mark.name,
            tables.name(mark.stream_arn),
            counted(len(mark.positions), "shard"),
            mark.saved_at,
        )
        for mark in marks
    ]
    wide = [max(len(str(row[column])) for row in rows) for column in range(4)]
    for kind, name, of, what, saved_at in rows:
        run.console.data(
            f"{kind:<10}  {name:<{wide[1]}}  {of:<{wide[2]}}  {what:<{wide[3]}}  {iso(saved_at)}"
        )


@command.command("show")
@click.argument("name", required=False, shell_complete=completing.bookmarks)
@setting_options("consumer", "state")
@pass_run
def show(run: Run, name: str | None) -> None:
    """Show each shard of a bookmark; without a name, of the consumer's checkpoint.

    \b
    Example:
      ddbrelay positions show before-deploy
    """
    from ddbrelay.output import positions as printed
    from ddbrelay.stores.sqlite import Bookmarks
    from ddbrelay.stores.streams import Tables

    with _database(run) as database:
        mark = Bookmarks(database).get(name) if name else live(run, database, "checkpoint")
        tables = Tables(database)
    if run.console.json:
        run.console.object(
            printed.Positions(
                type="bookmark" if name else "checkpoint",
                positions=[printed.Position.of(position) for position in mark.positions],
                **printed.fields_of(mark, tables),
            )
        )
        return
    run.console.data(f"consumer  {mark.consumer}")
    run.console.data(f"stream    {mark.stream_arn}")
    run.console.data(f"saved     {iso(mark.saved_at)}")
    for position in mark.positions:
        run.console.data(f"{position.shard_id}  {_state(position)}")


def _state(position: Position) -> str:
    from ddbrelay.flow.capture import ITERATOR_LIFETIME

    if position.finished:
        return "finished"
    where = f"after {position.sequence}" if position.sequence else f"from {position.start.value}"
    if position.iterator is None or position.iterator_at is None:
        return where
    age = time.time() - position.iterator_at
    if age >= ITERATOR_LIFETIME:
        return f"{where}  iterator expired"
    return f"{where}  iterator good for {(ITERATOR_LIFETIME - age) / 60:.0f} min"


@command.command("save")
@click.argument("name")
@click.option("--force", is_flag=True, help="replace a bookmark of this name")
@setting_options("consumer", "state")
@pass_run
def save(run: Run, name: str, force: bool) -> None:
    """Keep a copy of the consumer's checkpoint under a name.

    \b
    Example:
      ddbrelay positions save before-deploy
    """
    from dataclasses import replace

    from ddbrelay.stores.sqlite import Bookmarks
    from ddbrelay.stores.streams import Tables

    with _database(run, reading=False) as database:
        mark = replace(live(run, database, name), saved_at=time.time())
        Bookmarks(database).save(mark, replace=force)
        tables = Tables(database)
    _say_saved(run, mark, tables)


def _say_saved(run: Run, mark: Bookmark, tables: Tables, *, checkpoint: bool | None = None) -> None:
    from ddbrelay.output import positions as printed

    if run.console.json:
        fields = printed.fields_of(mark, tables)
        run.console.object(
            printed.Bookmark(**fields)
            if checkpoint is None
            else printed.Imported(**fields, checkpoint=checkpoint)
        )
        return
    words = f'saved "{mark.name}", {counted(len(mark.positions), "shard")}'
    if checkpoint:
        words += f'; it is now the checkpoint of consumer "{mark.consumer}"'
    run.console.words(words)
    run.next_step(f"replay --from {mark.name}")


@command.command("delete")
@click.argument("name", shell_complete=completing.bookmarks)
@setting_options("state")
@pass_run
def delete(run: Run, name: str) -> None:
    """Delete a bookmark.

    \b
    Example:
      ddbrelay positions delete before-deploy
    """
    from ddbrelay.output.positions import Deleted
    from ddbrelay.stores.sqlite import Bookmarks

    with _database(run, reading=False) as database:
        Bookmarks(database).delete(name)
    if run.console.json:
        run.console.object(Deleted(name))
    else:
        run.console.words(f'deleted "{name}"')


@command.command("export")
@click.argument("name", required=False, shell_complete=completing.bookmarks)
@setting_options("consumer", "state")
@pass_run
def export(run: Run, name: str | None) -> None:
    """Print a bookmark as JSON; without a name, the consumer's checkpoint.

    \b
    Example:
      ddbrelay positions export before-deploy > positions.json
    """
    from dataclasses import replace
    from datetime import UTC, datetime

    from ddbrelay.stores.exchange import dump
    from ddbrelay.stores.sqlite import CHECKPOINT, Bookmarks
    from ddbrelay.stores.streams import Tables

    with _database(run) as database:
        mark = Bookmarks(database).get(name) if name else live(run, database, CHECKPOINT)
        table = Tables(database).of(mark.stream_arn)
    if not name:
        moment = datetime.fromtimestamp(mark.saved_at, UTC)
        mark = replace(mark, name=f"{CHECKPOINT}-{moment:%Y%m%dT%H%M%SZ}")
    text = dump(mark, table)
    if run.console.json:
        import msgspec

        text = msgspec.json.format(text, indent=-1)
    out_json(text + b"\n")


@command.command("import")
@click.argument("file", shell_complete=completing.files)
@click.option("--name", help="name of the bookmark (default: the one in the file)")
@click.option("--force", is_flag=True, help="replace a bookmark of this name")
@click.option("--checkpoint", is_flag=True, help="make it the checkpoint of its consumer as well")
@setting_options("state")
@pass_run
def import_(run: Run, file: str, name: str | None, force: bool, checkpoint: bool) -> None:
    """Read a bookmark that export wrote (- for standard input).

    \b
    Examples:
      ddbrelay positions import positions.json
      ddbrelay positions import positions.json --checkpoint
    """
    import asyncio
    from dataclasses import replace

    from ddbrelay.cli.files import name_of, read
    from ddbrelay.stores.exchange import load
    from ddbrelay.stores.sqlite import Bookmarks, SqliteStore
    from ddbrelay.stores.streams import Tables, note

    mark, table = load(read(file), name_of(file))
    if name:
        mark = replace(mark, name=name)
    with _database(run, reading=False) as database:
        Bookmarks(database).save(mark, replace=force)
        if checkpoint:
            store = SqliteStore(database, mark.consumer, mark.stream_arn)
            asyncio.run(store.replace(mark.positions))
        if table is not None:
            note(database, mark.stream_arn, *table)
        tables = Tables(database)
    _say_saved(run, mark, tables, checkpoint=checkpoint)
