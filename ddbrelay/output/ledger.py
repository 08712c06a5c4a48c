"""The lines of `ledger`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ddbrelay.output import Count, Printed, ShardId, StreamArn, Time
from ddbrelay.output.outcome import Lost
from ddbrelay.stores.parking import How

_Records = Annotated[Count, Meta(description="records")]


# Keyword-only, so that the fields of a subclass stand before them.
class Counts(Printed, kw_only=True):
    """Records that shared a fate."""

    count: _Records
    first: Annotated[
        str | None, Meta(description="the lowest sequence number; null where there is none")
    ]
    last: Annotated[str | None, Meta(description="the highest sequence number")]
    since: Annotated[Time | None, Meta(description="write time of the oldest of them")]
    until: Annotated[Time | None, Meta(description="write time of the newest of them")]


class Skips(Counts):
    """Records that one rule skipped."""

    rule: Annotated[str, Meta(description="may be empty where none was named")]


_Skipped = Annotated[list[Skips], Meta(description="by rule, the most frequent first")]
_Losses = Annotated[list[Lost], Meta(description="what was lost before it was read")]


class Shard(Printed, tag_field="type", tag="shard"):
    """What became of the records of one shard, the oldest first; those that are long gone stand
    together under one name.
    """

    shard_id: ShardId
    published: Counts
    skipped: _Skipped
    parked: Counts
    lost: _Losses


class EarlierStream(Printed):
    """An earlier stream of the table."""

    stream_arn: str
    published: Counts
    skipped: _Skipped
    parked: Counts
    lost: _Losses


class Resolved(Printed):
    """How many of the parked records were sent since, skipped by a redrive, or dropped."""

    redriven: Count
    skipped: Count
    dropped: Count

    @classmethod
    def of(cls, resolved: Mapping[How, int]) -> Resolved:
        """How many were resolved in each way."""
        return cls(resolved[How.REDRIVEN], resolved[How.SKIPPED], resolved[How.DROPPED])


ResolvedSince = Annotated[
    Resolved,
    Meta(
        description="how many of the parked records were sent since, skipped by a redrive, or "
        "dropped"
    ),
]


class LedgerSummary(Printed, tag_field="type", tag="summary"):
    """Without --verify, last: all shards together."""

    consumer: str
    table: str
    stream_arn: StreamArn
    shards: Count
    published: Counts
    skipped: _Skipped
    parked: Counts
    lost: _Losses
    resolved: ResolvedSince
    earlier_streams: list[EarlierStream]


class Finding(Printed):
    """With --verify: records for which the ledger and the stream do not agree."""

    type: Annotated[
        Literal["unaccounted", "miscounted", "readable"],
        Meta(
            description="unaccounted: the stream holds them, the ledger does not account for them; "
            "miscounted: the ledger counts them twice, or counts what is not there; readable: they "
            "were reported lost and can be read"
        ),
    ]
    shard_id: ShardId
    first: Annotated[str, Meta(description="sequence number of the first of them")]
    last: Annotated[
        str,
        Meta(description="sequence number of the last of them; the same as first where it is one"),
    ]
    count: _Records
    reason: Annotated[str, Meta(description="in words")]
    event_id: Annotated[
        str | None,
        Meta(description="of the record, where it is a single one that the stream holds"),
    ] = msgspec.field(name="eventID")
    since: Annotated[Time | None, Meta(description="write time of the oldest, where it is known")]
    until: Annotated[Time | None, Meta(description="write time of the newest, where it is known")]


class LetterWarning(Printed, tag_field="type", tag="warning"):
    """With --verify: a shard whose parked records and dead letters differ in number."""

    shard_id: ShardId
    parked: Annotated[Count, Meta(description="records that the ledger counts as parked")]
    dead_letters: Annotated[
        Count, Meta(description="dead letters that are kept, or were redriven or dropped")
    ]
    reason: Annotated[str, Meta(description="in words")]


class Verification(Printed, kw_only=True, tag_field="type", tag="summary"):
    """With --verify, last. The exit code is 4 when unaccounted or miscounted is not 0."""

    consumer: str
    table: str
    stream_arn: StreamArn
    shards: Annotated[Count, Meta(description="shards that were read again")]
    shards_gone: Annotated[
        Count, Meta(description="shards of the ledger that have left the stream")
    ]
    seen: Annotated[Count, Meta(description="records that the stream still holds")]
    verified: Annotated[Count, Meta(description="those of them that the ledger could know of")]
    since: Annotated[Time | None, Meta(description="write time of the oldest of these")]
    accounted: Annotated[Count, Meta(description="records that the ledger accounts for")]
    before: Annotated[Count, Meta(description="records from before the ledger began")]
    waiting: Annotated[Count, Meta(description="records that are not settled yet")]
    readable: Annotated[Count, Meta(description="records that were reported lost and can be read")]
    miscounted: _Records
    unaccounted: _Records
    at: Annotated[Time, Meta(description="when it was read")]
