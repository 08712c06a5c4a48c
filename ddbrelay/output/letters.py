"""The lines of `dead-letters list`, `show`, `export` and `drop`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddbrelay.errors import StateError
from ddbrelay.flow import tracking
from ddbrelay.objects import Of
from ddbrelay.objects.letters import keys_of, reason_of
from ddbrelay.output import Count, Printed, SequenceNumber, ShardId, StreamArn, Time
from ddbrelay.output.event import EventEntry
from ddbrelay.relay.concealing import concealed
from ddbrelay.stores.letters import Parked
from ddbrelay.times import iso

_TableOrNone = Annotated[
    str | None, Meta(description="null where the consumer has no dead letters")
]


class Letter(Printed, kw_only=True):
    """What every line about a dead letter says of it."""

    id: Annotated[
        str,
        Meta(
            description="to name it by: that of the stream record, or SHARD:SEQUENCE where it has "
            "none"
        ),
    ]
    consumer: str
    table: str
    stream_arn: StreamArn
    shard_id: ShardId
    sequence_number: SequenceNumber
    keys: Annotated[
        dict[str, Any],
        Meta(description="the key attributes of the item; empty where they cannot be read"),
    ]
    reason: Annotated[str, Meta(description="why it is parked")]
    attempts: Annotated[Count, Meta(description="how often it was sent")]
    parked_at: Annotated[Time, Meta(description="when it was parked")]
    behind: Annotated[bool, Meta(description="whether it waits behind another letter of its item")]


def letter_fields(owner: Of, letter: Parked, *, head: bool) -> dict[str, Any]:
    """The fields of a `Letter`; `head` is whether it is the first of its item."""
    return {
        "id": letter.id,
        "consumer": owner.consumer,
        "table": owner.table,
        "stream_arn": letter.stream_arn,
        "shard_id": letter.shard_id,
        "sequence_number": letter.sequence,
        "keys": keys_of(letter),
        "reason": reason_of(letter, head=head),
        "attempts": letter.attempts,
        "parked_at": iso(letter.parked_at),
        "behind": not head,
    }


class ListedLetter(Letter, kw_only=True, tag_field="type", tag="deadLetter"):
    """The letter at the head of an item; with --behind, each that waits behind it follows."""

    waiting: Annotated[
        Count | UnsetType,
        Meta(description="letters that wait behind it; only where it is the head"),
    ] = UNSET


class ListSummary(Printed, tag_field="type", tag="summary"):
    """The last line."""

    consumer: str
    table: _TableOrNone
    items: Annotated[Count, Meta(description="items that are held up")]
    dead_letters: Annotated[Count, Meta(description="letters of these items")]


class ExportedLetter(Letter, kw_only=True, tag_field="type", tag="deadLetter"):
    """All of a dead letter; ddbrelay map reads these lines too."""

    event: Annotated[
        EventEntry | None,
        Meta(description="the event as it would be sent; null where none could be made"),
    ]
    later_events: Annotated[
        list[EventEntry] | UnsetType,
        Meta(description="those that follow it, where the record makes several"),
    ] = UNSET
    record: Annotated[
        msgspec.Raw,
        Meta(
            description="the stream record as GetRecords gave it, with DynamoDB's typed values",
            extra_json_schema={"type": "object"},
        ),
    ]


class ShownLetter(ExportedLetter, kw_only=True, tag="deadLetter"):
    """All of a dead letter."""

    waiting: Annotated[Count, Meta(description="letters of the item that come after it")]
    waiting_ids: Annotated[list[str], Meta(description="their ids, in the order of sending")]
    head: Annotated[str, Meta(description="id of the letter that must be sent first")]


def stored_fields(
    owner: Of,
    letter: Parked,
    stored: tracking.DeadLetter,
    *,
    head: bool,
    redact: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """The fields of an `ExportedLetter`; the attributes at the paths `redact` are hidden.

    An event without a bus goes to the one that the letters are sent to. Raises StateError where the
    letter cannot be read.
    """
    try:
        stored = concealed(stored, redact)
        events = [] if stored.event is None else tracking.events_of(stored.event)
        record = msgspec.json.decode(stored.record, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"what is stored of dead letter {letter.id} is damaged: {error}",
            f"ddbrelay dead-letters drop {letter.id} removes it",
        ) from error
    entries = [EventEntry.of(event) for event in events if event is not None]
    return {
        **letter_fields(owner, replace(letter, reason=stored.reason), head=head),
        "event": entries[0] if entries else None,
        "later_events": entries[1:] or UNSET,
        "record": record,
    }


class DroppedLetter(Letter, tag_field="type", tag="dropped"):
    """A letter that is no more."""


class DropSummary(Printed, tag_field="type", tag="summary"):
    """The last line."""

    consumer: str
    table: _TableOrNone
    dropped: Annotated[Count, Meta(description="0 after a no at the terminal")]
    remaining: Annotated[Count, Meta(description="letters that are left")]
