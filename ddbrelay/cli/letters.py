"""Dead letters as rows, as lines and as JSON objects."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import msgspec

from ddbrelay.cli.accounts import Of, item, styled
from ddbrelay.cli.render import as_texts, on_one_line
from ddbrelay.cli.text import counted, one_word, printable
from ddbrelay.cli.view import whole
from ddbrelay.flow.calendar import iso
from ddbrelay.flow.change import Change, UndecodableError, plain
from ddbrelay.flow.tracking import events_of
from ddbrelay.objects import event_object
from ddbrelay.relay.letters import Ready, Result, Skipped, Stays
from ddbrelay.stores.letters import Parked, Queue
from ddbrelay.stores.parking import How
from ddbrelay.values import iso_or_none

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.flow.tracking import DeadLetter

ALL_GONE = "no dead letters"
_SHORT = 12
"""Characters of an id in a terminal; enough to be unique."""
_MOST_ROWS = 50
_HEADINGS = ("id", "item", "waiting", "tries", "parked", "reason")
_ALL_COLUMNS = 100
"""A narrower terminal leaves out how often a letter was tried."""
_MOST_NAMES = 5
_FREED = "not sent yet: what it waited for is gone"


def keys_of(letter: Parked) -> dict[str, Any]:
    """The key attributes as plain values; empty where they cannot be read."""
    try:
        typed = msgspec.json.decode(letter.item_key, type=dict[str, Any])
        return {name: plain(value) for name, value in typed.items()}
    except (msgspec.DecodeError, UndecodableError, UnicodeDecodeError):
        return {}


def key_texts(letter: Parked) -> dict[str, str]:
    """The same as texts."""
    return as_texts(keys_of(letter))


def key_line(letter: Parked) -> str:
    """`id=7f3a91c2`, with a space between the parts of a composite key."""
    return on_one_line(key_texts(letter))


def short(letter: Parked) -> str:
    """An id to type."""
    return letter.id[:_SHORT] if letter.event_id else letter.place


def reason_of(letter: Parked, *, head: bool) -> str:
    """Why it is there; one that came to the head of its item has no reason of its own yet."""
    return _FREED if head and letter.behind else letter.reason


# Objects


def letter_object(
    of: Of, letter: Parked, *, head: bool, waiting: int | None = None
) -> dict[str, Any]:
    """What every command says of a letter in JSON; `waiting` is how many wait behind it."""
    return {
        "type": "deadLetter",
        "id": letter.id,
        "consumer": of.consumer,
        "table": of.table,
        "streamArn": letter.stream_arn,
        "shardId": letter.shard_id,
        "sequenceNumber": letter.sequence,
        "keys": keys_of(letter),
        "reason": reason_of(letter, head=head),
        "attempts": letter.attempts,
        "parkedAt": iso(letter.parked_at),
        "behind": not head,
        **({} if waiting is None else {"waiting": waiting}),
    }


def whole_object(of: Of, letter: Parked, stored: DeadLetter, *, head: bool) -> dict[str, Any]:
    """The letter with its stored event, null where there is none, and its stream record.

    Of several events the ones after the first stand behind `laterEvents`. A bus of null is the one
    that the letters are sent to. Raises StateError where the letter cannot be read.
    """
    from ddbrelay.errors import StateError

    try:
        known = {"event": None} if stored.event is None else events_object(stored.event)
        record = msgspec.json.decode(stored.record, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"what is stored of dead letter {letter.id} is damaged: {error}",
            f"ddbrelay dead-letters drop {letter.id} removes it",
        ) from error
    return {**letter_object(of, letter, head=head), **known, "record": record}


def events_object(stored: bytes) -> dict[str, Any]:
    """What is to be sent, as JSON objects have it; msgspec.DecodeError where it cannot be read."""
    first, *later = [event_object(event) for event in events_of(stored) if event is not None]
    return {"event": first, **({"laterEvents": later} if later else {})}


def result_object(of: Of, result: Result, *, dry_run: bool = False) -> dict[str, Any]:
    """What became of a letter that was to be sent again, or would become of it."""
    letter = result.letter
    first, *later = [
        {"detailType": None if event is None else event.detail_type, "eventId": event_id}
        for event, event_id in zip_longest(result.events or [None], result.event_ids)
    ]
    return {
        "type": "letter",
        "id": letter.id,
        "streamArn": letter.stream_arn,
        "shardId": letter.shard_id,
        "sequenceNumber": letter.sequence,
        "keys": keys_of(letter),
        "detailType": first["detailType"],
        "state": state(result, dry_run=dry_run),
        "eventId": first["eventId"],
        "reason": result.reason,
        "attempts": result.attempts,
        **({"laterEvents": later} if later else {}),
    }


def state(result: Result, *, dry_run: bool = False) -> str:
    """redriven, skipped or parked; would-send, would-skip or would-stay."""
    if dry_run:
        return {None: "would-stay", How.SKIPPED: "would-skip"}.get(result.how, "would-send")
    return "parked" if result.how is None else result.how.value


# Lines


def list_line(queue: Queue) -> str:
    """One item, for pipes."""
    head = queue.head
    return (
        f"{iso(head.parked_at)} {head.id} {key_line(head)} waiting={queue.waiting} "
        f"attempts={head.attempts} ({printable(reason_of(head, head=True))})"
    )


def waiting_line(letter: Parked) -> str:
    """One letter that waits behind another."""
    return (
        f"{iso(letter.parked_at)} {letter.id} {key_line(letter)} behind "
        f"attempts={letter.attempts} ({printable(letter.reason)})"
    )


def result_line(console: Console, result: Result, *, dry_run: bool = False) -> str:
    """What became of a letter, or would become of it."""
    change = result.change
    word = state(result, dry_run=dry_run)
    words = [
        (iso_or_none(change.time) if change is not None else None) or "-",
        change.event_name if change is not None else "-",
        key_line(result.letter),
        ",".join(one_word(event.detail_type) for event in result.events) or "-",
        styled(console, word, {None: "red", How.SKIPPED: "yellow"}.get(result.how, "green")),
    ]
    if result.event_ids:
        words.append(",".join(result.event_ids))
    if result.reason:
        words.append(f"({printable(result.reason)})")
    return " ".join(words)


# The table of a terminal


def show_table(console: Console, queues: Iterable[Queue], now: float) -> tuple[int, int]:
    """One row an item, cut to the width; how many items and letters there are."""
    shown: list[Queue] = []
    items = letters = 0
    for queue in queues:
        items += 1
        letters += len(queue.letters)
        if items <= _MOST_ROWS:
            shown.append(queue)
    if shown:
        _print_rows(console, [_HEADINGS, *(_cells(queue, now) for queue in shown)])
    if items > len(shown):
        more = f"{counted(items - len(shown), 'more item')}; --output lines shows all"
        console.data(styled(console, more, "dim"))
    return items, letters


def _print_rows(console: Console, rows: Sequence[Sequence[str]]) -> None:
    columns = shutil.get_terminal_size().columns
    if columns < _ALL_COLUMNS:
        rows = [(*cells[:3], *cells[4:]) for cells in rows]
    *widths, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    # A key may be as long as 2 KB.
    widths[1] = min(widths[1], max(columns // 4, 10))
    for number, (*cells, reason) in enumerate(rows):
        texts = [
            f"{_cut(cell, wide):{'>' if 2 <= place < len(cells) - 1 else '<'}{wide}}"
            for place, (cell, wide) in enumerate(zip(cells, widths, strict=True))
        ]
        head = "  ".join(texts) + "  "
        last = _cut(reason, max(columns - len(head), 10))
        if number == 0:
            console.data(styled(console, head + last, "dim"))
        else:
            console.data(head + styled(console, last, "red"))


def _cells(queue: Queue, now: float) -> tuple[str, ...]:
    head = queue.head
    return (
        short(head),
        key_line(head),
        f"{queue.waiting:,}",
        f"{head.attempts:,}",
        f"{whole(max(now - head.parked_at, 0.0))} ago",
        printable(reason_of(head, head=True)),
    )


def _cut(text: str, wide: int) -> str:
    return text if len(text) <= wide else text[: wide - 1] + "…"


# One letter


def show_letter(
    console: Console,
    of: Of,
    queue: Queue,
    letter: Parked,
    prepared: Ready | Skipped | Stays,
    now: float,
) -> None:
    """All of one letter; `prepared` is what would be sent of it."""
    place = list(queue.letters).index(letter)
    head = place == 0
    item(console, "id", letter.id)
    item(console, "item", key_line(letter))
    item(console, "consumer", printable(of.consumer))
    item(console, "table", f"{of.table}, stream {letter.stream_arn.rpartition('/')[2]}")
    item(console, "shard", letter.shard_id)
    item(console, "sequence", letter.sequence)
    change = prepared.change
    if change is not None:
        item(console, "change", f"{change.event_name} {iso_or_none(change.time) or ''}".rstrip())
    ago = f"{whole(max(now - letter.parked_at, 0.0))} ago"
    item(console, "parked", f"{iso(letter.parked_at)}, {ago}")
    item(console, "attempts", f"{letter.attempts:,}")
    item(console, "reason", printable(reason_of(letter, head=head)), "red")
    if not head:
        ahead = "" if place == 1 else f", {counted(place, 'letter')} ahead"
        item(console, "behind", f"{queue.head.id}{ahead}", "yellow")
    after = queue.letters[place + 1 :]
    if after:
        more = f", and {len(after) - _MOST_NAMES:,} more" if len(after) > _MOST_NAMES else ""
        names = ", ".join(one.id for one in after[:_MOST_NAMES])
        item(console, "waiting", f"{len(after):,}: {names}{more}", "yellow")
    _show_event(console, prepared)
    if change is not None:
        for name, image in (("old", _image(change, "old")), ("new", _image(change, "new"))):
            if image is not None:
                _show_json(console, name, image)


def _show_event(console: Console, prepared: Ready | Skipped | Stays) -> None:
    if isinstance(prepared, Skipped):
        item(console, "event", f"none: {printable(prepared.reason)}", "yellow")
        return
    if isinstance(prepared, Stays):
        item(console, "event", f"cannot be sent: {printable(prepared.reason)}", "red")
    number = len(prepared.events)
    for place, event in enumerate(prepared.events, 1):
        name = "event" if number == 1 else f"event {place} of {number}"
        _show_json(console, name, event_object(event))


def _image(change: Change, name: str) -> Any:
    try:
        return getattr(change, name)
    except UndecodableError:
        record = change.record.dynamodb
        return record.old_image if name == "old" else record.new_image


def _show_json(console: Console, name: str, value: Any) -> None:
    console.data("")
    console.data(styled(console, name, "dim"))
    pretty = msgspec.json.format(msgspec.json.encode(value), indent=2).decode(errors="replace")
    console.data(textwrap.indent(pretty, "  "))
