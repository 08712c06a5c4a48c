"""Dead letters as rows and as lines."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from ddbrelay.cli.accounts import item, styled
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.objects import Of
from ddbrelay.objects.letters import keys_of, reason_of, result_state
from ddbrelay.output.event import EventEntry
from ddbrelay.output.words import as_texts, headline, on_one_line
from ddbrelay.relay.letters import Ready, Result, Skipped, Stays
from ddbrelay.stores.letters import Parked, Queue
from ddbrelay.stores.parking import How
from ddbrelay.text import counted, cut, one_word, printable
from ddbrelay.times import iso, whole
from ddbrelay.values import iso_or_none

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console

ALL_GONE = "no dead letters"
_SHORT = 12
"""Characters of an id in a terminal; enough to be unique."""
_MOST_ROWS = 50
_HEADINGS = ("id", "item", "waiting", "tries", "parked", "reason")
_ALL_COLUMNS = 100
"""A narrower terminal leaves out how often a letter was tried."""
_MOST_NAMES = 5


def key_texts(letter: Parked) -> dict[str, str]:
    """The same as texts."""
    return as_texts(keys_of(letter))


def key_line(letter: Parked) -> str:
    """`id=7f3a91c2`, with a space between the parts of a composite key."""
    return on_one_line(key_texts(letter))


def short(letter: Parked) -> str:
    """An id to type."""
    return letter.id[:_SHORT] if letter.event_id else letter.place


# Lines


def list_line(queue: Queue) -> str:
    """One item, for pipes."""
    head = queue.head
    return (
        f"{iso(head.parked_at)} {head.id} {key_line(head)} waiting={queue.waiting} "
        f"attempts={head.attempts} ({headline(reason_of(head, head=True))})"
    )


def waiting_line(letter: Parked) -> str:
    """One letter that waits behind another."""
    return (
        f"{iso(letter.parked_at)} {letter.id} {key_line(letter)} behind "
        f"attempts={letter.attempts} ({headline(letter.reason)})"
    )


def result_line(console: Console, result: Result, *, dry_run: bool = False) -> str:
    """What became of a letter, or would become of it."""
    change = result.change
    word = result_state(result, dry_run=dry_run)
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
        words.append(f"({headline(result.reason)})")
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
            f"{cut(cell, wide):{'>' if 2 <= place < len(cells) - 1 else '<'}{wide}}"
            for place, (cell, wide) in enumerate(zip(cells, widths, strict=True))
        ]
        head = "  ".join(texts) + "  "
        last = cut(reason, max(columns - len(head), 10))
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
        headline(reason_of(head, head=True)),
    )


# One letter


def show_letter(
    console: Console,
    of: Of,
    queue: Queue,
    letter: Parked,
    prepared: Ready | Skipped | Stays,
    reason: str,
    now: float,
) -> None:
    """All of one letter; `prepared` is what would be sent of it, `reason` its own one as shown."""
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
    _show_lines(console, "reason", reason_of(replace(letter, reason=reason), head=head), "red")
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
        _show_lines(console, "event", f"none: {prepared.reason}", "yellow")
        return
    if isinstance(prepared, Stays):
        _show_lines(console, "event", f"cannot be sent: {prepared.reason}", "red")
    number = len(prepared.events)
    for place, event in enumerate(prepared.events, 1):
        name = "event" if number == 1 else f"event {place} of {number}"
        _show_json(console, name, EventEntry.of(event))


def _show_lines(console: Console, label: str, text: str, colour: str) -> None:
    """A text with its own lines, each below the first."""
    for number, line in enumerate(text.strip("\r\n").splitlines() or [""]):
        item(console, "" if number else label, printable(line), colour)


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
