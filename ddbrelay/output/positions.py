"""The lines of the `positions` commands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from ddbrelay.flow import capture
from ddbrelay.output import Count, Printed, ShardId, StreamArn, Time
from ddbrelay.stores.sqlite import Bookmark as Stored
from ddbrelay.stores.sqlite import Consumer
from ddbrelay.stores.streams import Tables
from ddbrelay.times import iso
from ddbrelay.values import iso_or_none

Start = Literal["trim-horizon", "latest", "time", "iterator", "at-sequence"]


class Checkpoint(Printed, tag_field="type", tag="checkpoint"):
    """Where a consumer stands on a stream."""

    consumer: str
    table: str
    stream_arn: StreamArn
    shards: Annotated[Count, Meta(description="shards that have a position")]
    parked: Annotated[Count, Meta(description="dead letters that wait")]
    saved_at: Annotated[Time, Meta(description="when it last moved")]

    @classmethod
    def of(cls, consumed: Consumer, tables: Tables) -> Checkpoint:
        """The checkpoint of a consumer on one stream."""
        return cls(
            consumed.name,
            tables.name(consumed.stream_arn),
            consumed.stream_arn,
            consumed.shards,
            consumed.parked,
            iso(consumed.saved_at),
        )


class Bookmark(Printed, tag_field="type", tag="bookmark"):
    """A named copy of a consumer's positions."""

    name: str
    consumer: str
    table: str
    stream_arn: StreamArn
    shards: Count
    automatic: Annotated[bool, Meta(description="whether a run saved it when it began")]
    saved_at: Annotated[Time, Meta(description="when it was saved")]


class Imported(Bookmark, tag="bookmark"):
    """A named copy of a consumer's positions."""

    checkpoint: Annotated[
        bool, Meta(description="whether it was made the checkpoint of its consumer as well")
    ]


def fields_of(mark: Stored, tables: Tables) -> dict[str, Any]:
    """What each line about a bookmark says of it, by the names of the fields of the Structs."""
    return {
        "name": mark.name,
        "consumer": mark.consumer,
        "table": tables.name(mark.stream_arn),
        "stream_arn": mark.stream_arn,
        "shards": len(mark.positions),
        "automatic": mark.automatic,
        "saved_at": iso(mark.saved_at),
    }


class Position(Printed):
    """How far one shard is settled."""

    shard_id: ShardId
    parent_shard_id: Annotated[str | None, Meta(description="the shard that comes before")]
    start: Annotated[
        Start, Meta(description="where it begins as long as it has no sequence number")
    ]
    start_time: Annotated[
        Time | None,
        Meta(description='the time of start "time"; else when the consumer first started'),
    ]
    sequence_number: Annotated[
        str | None, Meta(description="of the last settled record; null before the first")
    ]
    iterator: Annotated[
        str | None,
        Meta(description="shard iterator behind that record; AWS takes it for 15 minutes"),
    ]
    iterator_at: Annotated[Time | None, Meta(description="when AWS gave the iterator")]
    finished: Annotated[bool, Meta(description="whether the shard is read to its end")]

    @classmethod
    def of(cls, position: capture.Position) -> Position:
        """The position in one shard."""
        return cls(
            position.shard_id,
            position.parent_id,
            position.start.value,
            iso_or_none(position.start_time),
            position.sequence,
            position.iterator,
            iso_or_none(position.iterator_at),
            position.finished,
        )


class Positions(Printed):
    """A bookmark, or the consumer's checkpoint, with the position in each shard."""

    type: Literal["bookmark", "checkpoint"]
    name: str
    consumer: str
    table: str
    stream_arn: StreamArn
    shards: Count
    automatic: Annotated[bool, Meta(description="whether a run saved it when it began")]
    saved_at: Annotated[Time, Meta(description="when it was saved")]
    positions: list[Position]


class Deleted(Printed, tag_field="type", tag="deleted"):
    """The bookmark that is no more."""

    name: str
