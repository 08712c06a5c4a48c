"""What became of a change, and what was lost: the lines that a run prints while it goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddbrelay import relay
from ddbrelay.flow import change as changes
from ddbrelay.flow.capture import Gap
from ddbrelay.output import Count, EventId, Printed, SequenceNumber, ShardId, StreamArn, Time
from ddbrelay.output.event import EventEntry
from ddbrelay.values import iso_or_none

EventName = Literal["INSERT", "MODIFY", "REMOVE"]
State = Literal["published", "skipped", "parked", "preview"]


class Change(Printed):
    """A change of an item, as the stream has it.

    Numbers have every digit that DynamoDB stores (up to 38), binary values are base64 text, sets
    are arrays.
    """

    event_id: EventId = msgspec.field(name="eventID")
    event_name: Annotated[EventName, Meta(description="what was done to the item")]
    time: Annotated[
        Time | None,
        Meta(
            description="when it was written, as DynamoDB says (ApproximateCreationDateTime, to "
            "the second)"
        ),
    ]
    sequence_number: SequenceNumber
    shard_id: ShardId
    table: Annotated[str, Meta(description="name of the table")]
    stream_arn: StreamArn
    ttl: Annotated[
        bool,
        Meta(
            description="whether DynamoDB itself removed the item, because its Time to Live was "
            "over"
        ),
    ]
    keys: Annotated[
        dict[str, Any] | UnsetType, Meta(description="the key attributes of the item")
    ] = UNSET
    old: Annotated[
        dict[str, Any] | UnsetType | None,
        Meta(
            description="the item before the change; null for an INSERT, or where the stream's "
            "view type leaves it out"
        ),
    ] = UNSET
    new: Annotated[
        dict[str, Any] | UnsetType | None,
        Meta(
            description="the item after the change; null for a REMOVE, or where the stream's view "
            "type leaves it out"
        ),
    ] = UNSET
    changed: Annotated[
        list[str] | UnsetType,
        Meta(
            description="names of the top-level attributes that differ between old and new, "
            "sorted; empty where a MODIFY lacks one of the two"
        ),
    ] = UNSET
    undecodable: Annotated[
        str | UnsetType,
        Meta(
            description="the record as its JSON text, in place of keys, old, new and changed, "
            "where these cannot be read"
        ),
    ] = UNSET

    @classmethod
    def of(cls, change: changes.Change) -> Change:
        """A change; with the text of its record where its attributes cannot be read."""
        printed = cls(
            change.event_id,
            cast("EventName", change.event_name),
            iso_or_none(change.time),
            change.sequence_number,
            change.shard_id,
            change.table,
            change.stream_arn,
            change.ttl,
        )
        try:
            keys, old, new, changed = change.keys, change.old, change.new, change.changed
        except changes.UndecodableError:
            printed.undecodable = msgspec.json.encode(change.record).decode(errors="replace")
        else:
            printed.keys, printed.old, printed.new, printed.changed = keys, old, new, changed
        return printed


class Receipt(Printed):
    """What became of the event."""

    state: Annotated[
        State,
        Meta(
            description="published: the bus took it; skipped: the mapping makes no event of the "
            "change; parked: it is a dead letter; preview: the run sends nothing"
        ),
    ]
    event_id: Annotated[
        str | None,
        Meta(description="id that the bus gave the event; null where it was not published"),
    ]
    reason: Annotated[
        str | None,
        Meta(
            description="why there is no event: the rule that skips, or what is wrong; null where "
            "there is one"
        ),
    ]
    attempts: Annotated[Count, Meta(description="how often it was sent")]


class Outcome(Printed, tag_field="type", tag="event"):
    """A change, the event that the mapping makes of it, and what became of it.

    A change with several events has one of these objects for each.
    """

    change: Change
    event: Annotated[
        EventEntry | None,
        Meta(description="null where the mapping makes no event of the change"),
    ]
    receipt: Receipt

    @classmethod
    def of(cls, outcome: relay.Outcome, bus: str | None) -> Outcome:
        """What became of one change, or of one of its events; `bus` is the bus of the run."""
        return cls(
            Change.of(outcome.change),
            None if outcome.event is None else EventEntry.of(outcome.event, bus),
            Receipt(state(outcome), outcome.event_id, outcome.reason, outcome.attempts),
        )


def state(outcome: relay.Outcome) -> State:
    """published, skipped, parked, or preview for a run that sends nothing."""
    return "preview" if outcome.fate is None else outcome.fate.value


class Lost(Printed, tag_field="type", tag="lost"):
    """Records that left the stream before they could be read: they are not in any event.

    The relay goes on behind them.
    """

    shard_id: ShardId
    after: Annotated[
        str | None,
        Meta(
            description="sequence number of the last record that was read before the gap; null "
            "when none of the shard was"
        ),
    ]
    before: Annotated[
        str | None,
        Meta(
            description="sequence number of the first record that was read behind the gap; null "
            "while there is none"
        ),
    ]
    since: Annotated[
        Time | None,
        Meta(description="what is lost was written after this; null when that is not known"),
    ]
    until: Annotated[
        Time | None,
        Meta(description="what is lost was written before this; null when that is not known"),
    ]
    reason: Annotated[str, Meta(description="why, in words")]

    @classmethod
    def of(cls, gap: Gap) -> Lost:
        """A gap in a shard."""
        return cls(
            gap.shard_id,
            gap.after,
            gap.before,
            iso_or_none(gap.since),
            iso_or_none(gap.until),
            gap.reason,
        )
