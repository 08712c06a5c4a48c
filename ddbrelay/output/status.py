"""The lines of `status`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from msgspec import Meta

from ddbrelay.cost import Bill
from ddbrelay.output import Count, Printed, ShardId, StreamArn, Time
from ddbrelay.output.ledger import ResolvedSince
from ddbrelay.times import iso

_HoursLeft = Annotated[
    Annotated[float, Meta(ge=0)] | None,
    Meta(
        description="hours until DynamoDB trims that record, which is 24 hours after its writing; "
        "0 when it may be gone any moment"
    ),
]
_LagSeconds = Annotated[
    Annotated[float, Meta(ge=0)] | None,
    Meta(description="age of that record in seconds, fractions included"),
]
_SoFar = Annotated[Count, Meta(description="records so far")]

# What is counted of a run, and what it costs.
Reads = Annotated[Count, Meta(description="calls of GetRecords")]
Requests = Annotated[
    Count, Meta(description="calls of PutEvents, which are not billed by themselves")
]
Events = Annotated[Count, Meta(description="events that the bus took")]
Chunks = Annotated[Count, Meta(description="64 KB begun of each event: what EventBridge bills")]
Puts = Annotated[Count, Meta(description="claim checks written to S3")]
Cost = Annotated[
    float,
    Meta(
        ge=0,
        description="estimated from the prices of the settings, in their currency (US dollars "
        "by default); free tiers are not subtracted",
    ),
]


class Shard(Printed, kw_only=True, tag_field="type", tag="shard"):
    """A shard that is not read to its end, the worst first."""

    shard_id: ShardId
    parent_shard_id: Annotated[
        str | None, Meta(description="the shard that must be finished before")
    ]
    state: Annotated[
        Literal["behind", "idle", "waiting", "not-begun"],
        Meta(description="waiting: for its parent to be finished"),
    ]
    sequence_number: Annotated[
        str | None, Meta(description="of the last settled record; null before the first")
    ]
    unread: Annotated[bool, Meta(description="whether it holds records that are not settled")]
    oldest_unread_at: Annotated[
        Time | None,
        Meta(
            description="when the oldest unread record of the shard was written; null where "
            "nothing is unread, or that is not known"
        ),
    ]
    lag_seconds: _LagSeconds
    hours_left: _HoursLeft
    trimmed: Annotated[bool, Meta(description="whether unread records of it have left the stream")]


class Owner(Printed):
    """The run that relays."""

    pid: Annotated[Count, Meta(description="process id on its host")]
    host: Annotated[str, Meta(description="name of the machine")]
    since: Annotated[Time, Meta(description="when it began")]
    heard_at: Annotated[Time, Meta(description="its last sign of life")]


class TotalUsage(Printed):
    """All runs together."""

    reads: Reads
    requests: Requests
    events: Events
    chunks: Chunks
    puts: Puts
    cost: Cost

    @classmethod
    def of(cls, bill: Bill) -> TotalUsage:
        """The usage of all runs, and what it costs."""
        return cls(**asdict(bill.usage), cost=float(bill.cost))


class RunUsage(Printed):
    """The last run."""

    started_at: Annotated[Time, Meta(description="when it began")]
    saved_at: Annotated[Time, Meta(description="when this was last saved")]
    reads: Reads
    requests: Requests
    events: Events
    chunks: Chunks
    puts: Puts
    cost: Cost

    @classmethod
    def of(cls, bill: Bill) -> RunUsage:
        """The usage of one run, of which it is known when it began and was saved."""
        assert bill.started_at is not None
        assert bill.saved_at is not None
        return cls(
            iso(bill.started_at), iso(bill.saved_at), **asdict(bill.usage), cost=float(bill.cost)
        )


class StreamUsage(Printed):
    """What AWS bills for the runs on this stream."""

    run: Annotated[RunUsage | None, Meta(description="the last run; null before the first")]
    total: TotalUsage


class StatusSummary(Printed, kw_only=True, tag_field="type", tag="summary"):
    """The last line: the consumer on the latest stream of the table."""

    consumer: str
    table: str
    stream_arn: StreamArn
    owner: Annotated[Owner | None, Meta(description="null where none is running")]
    heard_at: Annotated[
        Time | None,
        Meta(description="the last sign of life of any run; null where there was none"),
    ]
    oldest_unread_at: Annotated[
        Time | None,
        Meta(
            description="when the oldest unread record of all shards was written; null where "
            "nothing is unread, or that is not known"
        ),
    ]
    lag_seconds: _LagSeconds
    hours_left: _HoursLeft
    shards: Annotated[Count, Meta(description="all of the stream, finished ones included")]
    unread: Annotated[Count, Meta(description="shards with unread records")]
    finished: Annotated[Count, Meta(description="shards that are read to their end")]
    reopened: Annotated[
        list[str],
        Meta(
            description="ids of open shards that are stored as read to their end: the next run "
            "reads on behind their last record"
        ),
    ]
    trimmed: Annotated[
        Count,
        Meta(description="gaps that no run has reported yet: the lines of type lost"),
    ]
    published: Annotated[Count, Meta(description="records so far, as the ledger has them")]
    skipped: _SoFar
    parked: _SoFar
    lost: Annotated[Count, Meta(description="gaps that runs have reported")]
    dead_letters: Annotated[Count, Meta(description="dead letters that wait now")]
    resolved: ResolvedSince
    unfinished_streams: Annotated[
        list[str],
        Meta(
            description="labels (the end of the ARN) of older streams of the table that are not "
            "read to their end"
        ),
    ]
    usage: Annotated[StreamUsage, Meta(description="What AWS bills for the runs on this stream.")]
    at: Annotated[Time, Meta(description="the moment that all of this is about")]
