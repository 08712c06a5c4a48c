"""What a stream gives, and the port through which it is read.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html and the
service model `dynamodbstreams/2012-08-10`. Times are epoch seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Protocol

import msgspec

from ddbrelay.times import MOST_SECONDS

ITERATOR_LIFETIME = 15 * 60.0
RETENTION = 24 * 3600.0
"""Seconds for which the stream keeps a record."""
PAGE_RECORDS = 1000
PAGE_BYTES = 1024 * 1024
SHORT_BYTES = 160 * 1024
"""A page with less had room for one more record, were it of two images of 400 KB."""
CREATED_AT = "ApproximateCreationDateTime"
# Anything else is refused by the decoder, and read again with care: so a check costs nothing here.
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=MOST_SECONDS)]


class Identity(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """`userIdentity`: upper-case keys in GetRecords, lower-case ones in a Lambda event."""

    type_upper: str | None = msgspec.field(name="Type", default=None)
    principal_upper: str | None = msgspec.field(name="PrincipalId", default=None)
    type_lower: str | None = msgspec.field(name="type", default=None)
    principal_lower: str | None = msgspec.field(name="principalId", default=None)


class StreamRecord(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The `dynamodb` part of a record; keys and images stay undecoded JSON."""

    sequence_number: str = msgspec.field(name="SequenceNumber")
    keys: msgspec.Raw = msgspec.field(name="Keys")
    new_image: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        name="NewImage", default=msgspec.UNSET
    )
    old_image: msgspec.Raw | msgspec.UnsetType = msgspec.field(
        name="OldImage", default=msgspec.UNSET
    )
    created_at: _Seconds | None = msgspec.field(name=CREATED_AT, default=None)
    size: int | None = msgspec.field(name="SizeBytes", default=None)
    view_type: str | None = msgspec.field(name="StreamViewType", default=None)


class Record(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One record as the stream gives it."""

    event_id: str = msgspec.field(name="eventID")
    event_name: str = msgspec.field(name="eventName")
    dynamodb: StreamRecord
    identity: Identity | None = msgspec.field(name="userIdentity", default=None)

    @property
    def sequence_number(self) -> str:
        """21 to 40 decimal digits; never to be compared as text."""
        return self.dynamodb.sequence_number


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of GetRecords; `size` is the length of its body in bytes.

    `notes` say what was left out of records, each kind once. `reconnected` says that the call had
    to open a connection: the endpoint may have started anew.
    """

    records: Sequence[Record]
    next_iterator: str | None
    size: int = 0
    notes: Collection[str] = ()
    reconnected: bool = False

    @property
    def full(self) -> bool:
        """Whether more records may wait behind it: one of AWS's limits may have cut it."""
        return len(self.records) >= PAGE_RECORDS or self.size >= SHORT_BYTES


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as DescribeStream lists it; `closed` when it has an ending sequence number.

    `starting` is its starting sequence number, where the endpoint gives one.
    """

    id: str
    parent_id: str | None = None
    closed: bool = False
    starting: str | None = None


@dataclass(frozen=True, slots=True)
class ShardPage:
    """One answer of DescribeStream; `last_id` is where the next page starts, None on the last."""

    shards: Sequence[Shard]
    last_id: str | None = None
    disabled: bool = False


class Fault(Enum):
    """What a failed call means to a reader."""

    EXPIRED = "the iterator is older than 15 minutes"
    TRIMMED = "the position is older than the trim horizon"
    NOT_FOUND = "the shard or the stream is gone"
    REFUSED = "the endpoint does not take this kind of iterator"
    THROTTLED = "throttled"
    TRANSIENT = "an internal error"
    NO_ANSWER = "no answer: the endpoint may start anew"


class StreamFault(Exception):
    """A call of a `StreamSource` failed in a way that the reader knows how to answer."""

    def __init__(self, fault: Fault, message: str = "") -> None:
        super().__init__(message or fault.value)
        self.fault = fault


class IteratorType(Enum):
    """`ShardIteratorType` of GetShardIterator."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_SEQUENCE_NUMBER = "AT_SEQUENCE_NUMBER"
    AFTER_SEQUENCE_NUMBER = "AFTER_SEQUENCE_NUMBER"
    AT_TIMESTAMP = "AT_TIMESTAMP"


class StreamSource(Protocol):
    """One stream, read page by page.

    Calls for different shards may run at the same time, calls for one shard follow each other.
    Nothing is buffered: a page that was returned is never returned again for the iterator that
    followed it. Each method raises StreamFault for what the reader handles by itself, and a
    DdbrelayError for what ends the run (credentials, permissions). Nothing is retried inside.
    """

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        """A page of the listing, behind the shard `after`; only one shard's children if named."""

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        """A fresh iterator, good for 15 minutes."""

    async def records(self, iterator: str) -> Page:
        """Up to 1000 records or 1 MB; no next iterator on the last page of a closed shard."""
