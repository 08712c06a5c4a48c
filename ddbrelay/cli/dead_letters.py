"""`ddbrelay dead-letters`: what was parked, and what becomes of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli import completing
from ddbrelay.cli.console import out_json
from ddbrelay.cli.groups import Group
from ddbrelay.cli.options import Run, pass_run, setting_options
from ddbrelay.cli.selection import Filter, chosen, filters, items_by, items_of, one_choice, opened
from ddbrelay.cli.types import DURATION
from ddbrelay.secrecy import hidden
from ddbrelay.text import counted

if TYPE_CHECKING:
    from ddbrelay.objects import Of
    from ddbrelay.stores.letters import Parked, Queue

_CHUNK = 500
_REMAP = " --remap"
_EPILOG = """\b
Examples:
  ddbrelay dead-letters list
  ddbrelay dead-letters show 7f3a91c2
  ddbrelay dead-letters redrive --all
  ddbrelay dead-letters redrive --reason "no rule" --remap --dry-run
"""


@click.group("dead-letters", cls=Group, epilog=_EPILOG)
def command() -> None:
    """Look at parked records, send them again, or drop them.

    A record that cannot be published is parked with its reason, and later changes of its item queue
    up behind it; other items go on. An ID is the id of the stream record, or its beginning, or
    SHARD:SEQUENCE.
    """


@command.command("list")
@filters
@click.option("--behind", is_flag=True, help="list each letter that waits behind another as well")
@setting_options("consumer", "state")
@pass_run
def list_(run: Run, wanted: Filter, behind: bool) -> None:
    """Show the items that are held up: what stands at the head of each, and how much waits.

    \b
    Examples:
      ddbrelay dead-letters list
      ddbrelay dead-letters list --since 2h --reason MalformedDetail
    """
    from ddbrelay.cli import letters as view
    from ddbrelay.output.letters import ListSummary

    console, unmapped = run.console, 0

    def taken(queues: Iterable[Queue]) -> Iterator[Queue]:
        nonlocal unmapped
        for queue in queues:
            if wanted.takes(queue.head, head=True):
                unmapped += not queue.head.has_event
                yield queue

    with opened(run) as (letters, of):
        queues = taken(letters.queues())
        if console.output == "rich" and not behind:
            items, number = view.show_table(console, queues, time.time())
        else:
            items = number = 0
            for queue in queues:
                items += 1
                number += len(queue.letters)
                _print_queue(run, of, queue, behind)
    if console.json:
        console.object(ListSummary(of.consumer, of.table or None, items, number))
    elif number:
        console.words(f"{counted(number, 'dead letter')} of {counted(items, 'item')}")
        run.next_step(f"dead-letters redrive --all{_REMAP if unmapped else ''}")
    else:
        console.words(view.ALL_GONE + (" of these" if wanted else ""))


def _print_queue(run: Run, of: Of, queue: Queue, behind: bool) -> None:
    from ddbrelay.cli import letters as view
    from ddbrelay.output.letters import ListedLetter, letter_fields

    console = run.console
    if console.json:
        head = letter_fields(of, queue.head, head=True)
        console.object(ListedLetter(**head, waiting=queue.waiting))
    else:
        console.data(view.list_line(queue))
    for letter in queue.letters[1:] if behind else ():
        if console.json:
            console.object(ListedLetter(**letter_fields(of, letter, head=False)))
        else:
            console.data(view.waiting_line(letter))


@command.command("show")
@click.argument("id")
@click.option("--remap", is_flag=True, help="show the event that today's mapping makes of it")
@setting_options("consumer", "state", "entity", "source", "claim_check")
@pass_run
def show(run: Run, id: str, remap: bool) -> None:
    """Show all of a dead letter: its reason, its event as it would be sent, its images.

    What today's mapping redacts is hidden, also where the letter was parked before; without --remap
    a redrive sends the event as it is stored.

    \b
    Examples:
      ddbrelay dead-letters show 7f3a91c2
      ddbrelay dead-letters show 7f3a91c2 --output json
    """
    from ddbrelay.cli import letters as view
    from ddbrelay.mappings import mapper_of, redacted_paths
    from ddbrelay.output.letters import ShownLetter, stored_fields
    from ddbrelay.relay.letters import Preparation
    from ddbrelay.stores.letters import Queue

    with opened(run) as (letters, of):
        (letter,) = letters.find(id)
        queue = Queue(letters.of_item(letter.item))
        stored = letters.get(letter)
    assert stored is not None, "nothing is removed between two looks of a reader"
    head, paths = letter == queue.head, redacted_paths(run.config)
    if run.console.json:
        place = list(queue.letters).index(letter)
        waiting = [behind.id for behind in queue.letters[place + 1 :]]
        run.console.object(
            ShownLetter(
                **stored_fields(of, letter, stored, head=head, redact=paths),
                waiting=len(waiting),
                waiting_ids=waiting,
                head=queue.head.id,
            )
        )
        return
    mapper = mapper_of(run.config, of.table) if remap else None
    preparation = Preparation(of.table, mapper=mapper, claim_check=run.settings.claim_check)
    prepared, reason = preparation.shown(letter, stored, paths)
    view.show_letter(run.console, of, queue, letter, prepared, reason, time.time())
    mapped = remap or queue.head.has_event
    run.next_step(f"dead-letters redrive {view.short(queue.head)}{'' if mapped else _REMAP}")


@command.command("export")
@filters
@click.option(
    "--file",
    "target",
    metavar="FILE",
    shell_complete=completing.files,
    help="write here (default: standard output)",
)
@setting_options("consumer", "state")
@pass_run
def export(run: Run, wanted: Filter, target: str | None) -> None:
    """Print each dead letter whole, one JSON object a line, in the order of sending.

    What today's mapping redacts, in the file or in any rule, is [redacted] in the record, the
    events and the reason, also where the letter was parked before: a line is then not the record as
    the stream had it.

    \b
    Examples:
      ddbrelay dead-letters export > letters.jsonl
      ddbrelay dead-letters export --key id=7f3a91c2 --file letters.jsonl
    """
    from ddbrelay.mappings import redacted_paths

    number, paths = 0, redacted_paths(run.config)
    with opened(run) as (letters, of), _writer(target) as write:
        for queue, letter in chosen(letters, wanted):
            stored = letters.get(letter)
            if stored is not None:
                write(_line(of, letter, queue, stored, paths))
                number += 1
    where = "" if target is None else f" to {target}"
    run.console.words(f"exported {counted(number, 'dead letter')}{where}")


def _line(
    of: Of, letter: Parked, queue: Queue, stored: Any, paths: Sequence[Sequence[str]]
) -> bytes:
    import msgspec

    from ddbrelay.output.letters import ExportedLetter, stored_fields

    head = letter == queue.head
    whole = ExportedLetter(**stored_fields(of, letter, stored, head=head, redact=paths))
    return hidden(msgspec.json.encode(whole).decode()).encode() + b"\n"


@contextmanager
def _writer(target: str | None) -> Iterator[Callable[[bytes], Any]]:
    """Standard output, or a file that is there only when all of it is."""
    import os
    import tempfile
    from pathlib import Path

    from ddbrelay.errors import ConfigError

    if target is None and sys.stdout is None:
        raise ConfigError("standard output is closed", "--file FILE writes a file")
    if target is None:
        yield out_json
        return
    path = Path(target)
    if path.exists() and not path.is_file():
        # A pipe or a device is written to; replaced, it would be gone for everybody.
        try:
            with path.open("wb") as file:
                yield file.write
        except OSError as error:
            raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
        return
    path = path.resolve()
    try:
        # Only its owner may read it: dead letters hold items.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file.write
        os.replace(temporary, path)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


@command.command("drop")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="drop all of them")
@filters
@click.option("--yes", is_flag=True, help="do not ask")
@setting_options("consumer", "state")
@pass_run
def drop(run: Run, ids: tuple[str, ...], everything: bool, wanted: Filter, yes: bool) -> None:
    """Remove dead letters for good: their events are never sent.

    Where the head of an item is dropped, the next one takes its place and is sent with the next
    redrive. The ledger goes on counting them as parked, and says how many were dropped.

    \b
    Examples:
      ddbrelay dead-letters drop 7f3a91c2
      ddbrelay dead-letters drop --key id=7f3a91c2 --yes
    """
    from ddbrelay.cli.console import confirmer
    from ddbrelay.cli.letters import key_line
    from ddbrelay.output.letters import DroppedLetter, DropSummary, letter_fields
    from ddbrelay.stores.parking import How

    one_choice(ids, everything, wanted)
    console = run.console
    dropped = 0
    with opened(run, reading=False) as (letters, of), letters.locked():
        doomed = letters.find(*ids) if ids else [letter for _, letter in chosen(letters, wanted)]
        if doomed and not yes:
            number = counted(len(doomed), "dead letter")
            agreed = confirmer(f"dropping {number}", "--yes drops without asking")
            items = len({(one.stream_arn, one.item_key) for one in doomed})
            what = f"{number} of {counted(items, 'item')}"
            if not agreed(f"Drop {what}? They will never be sent."):
                doomed = []
        for start in range(0, len(doomed), _CHUNK):
            part = doomed[start : start + _CHUNK]
            dropped += letters.resolve(part, How.DROPPED)
            for letter in part:
                if console.json:
                    gone = letter_fields(of, letter, head=not letter.behind)
                    console.object(DroppedLetter(**gone))
                else:
                    console.data(f"dropped {letter.id} {key_line(letter)}")
        left = letters.count()
    if console.json:
        console.object(DropSummary(of.consumer, of.table or None, dropped, left))
    else:
        console.words(f"dropped {counted(dropped, 'dead letter')}, {left:,} left")


@command.command("redrive")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="send all of them")
@filters
@click.option("--remap", is_flag=True, help="map each stored record again with today's mapping")
@click.option("--dry-run", is_flag=True, help="show what would be sent and send nothing")
@click.option("--max-attempts", type=click.IntRange(min=1), help="tries of one letter (default: 3)")
@click.option("--timeout", type=DURATION, help="begin no other letter after this long")
@setting_options("consumer", "state", "entity", "source", "preset", "mapper")
@setting_options("grace", "max_in_flight", "claim_check")
@pass_run
def redrive(
    run: Run,
    ids: tuple[str, ...],
    everything: bool,
    wanted: Filter,
    remap: bool,
    dry_run: bool,
    max_attempts: int | None,
    timeout: float | None,
) -> None:
    """Send dead letters again, in order per item, while the relay may go on.

    Filters look at the head of each item; what waits behind it follows, until one fails again: that
    one stays with its new reason, and holds its item. Without --remap the stored event is sent. It
    ends with code 3 when some stay parked.

    \b
    Examples:
      ddbrelay dead-letters redrive 7f3a91c2
      ddbrelay dead-letters redrive --all
      ddbrelay dead-letters redrive --reason "no rule" --remap --dry-run
    """
    from contextlib import nullcontext

    from ddbrelay.cli import redriving
    from ddbrelay.cli.console import Ending
    from ddbrelay.cli.in_force import check_table, tell_mapping
    from ddbrelay.mappings import mapper_of, redacted_paths
    from ddbrelay.relay.letters import Preparation
    from ddbrelay.relay.redrive import MAX_ATTEMPTS, Plan, Summary
    from ddbrelay.time_limit import start_within

    one_choice(ids, everything, wanted)
    settings = run.settings
    check_table(run, writes=not dry_run)
    with (
        nullcontext(Ending(None)) if dry_run else redriving.unblocked_by_readers(run) as ending,
        opened(run, reading=dry_run) as (letters, of),
        nullcontext() if dry_run else letters.locked(),
    ):
        items = items_of(letters, ids) if ids else items_by(letters, wanted)
        summary, seconds, left = Summary(), 0.0, 0
        if items:
            mapper = mapper_of(run.config, of.table) if remap else None
            preparation = Preparation(
                of.table,
                mapper=mapper,
                claim_check=settings.claim_check,
                redact=redacted_paths(run.config) if remap else (),
            )
            if remap:
                tell_mapping(run)
            if dry_run:
                redriving.show_preview(run, of, letters, items, preparation)
                return
            bus = settings.bus or f"{of.table}-bus"
            start_within(timeout, lambda: run.check_buses(bus))
            plan = Plan(
                max_attempts=max_attempts or MAX_ATTEMPTS,
                max_in_flight=settings.max_in_flight,
                timeout=timeout,
                grace=settings.grace,
            )
            summary, seconds = redriving.send(
                run, of, letters, items, preparation, bus, plan, ending
            )
            left = letters.count_of(items)
    redriving.show_end(run, of, summary, seconds, left, remap)
