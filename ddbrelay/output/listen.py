"""The lines of `listen`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddbrelay.flow.offloading import Reference
from ddbrelay.output import Count, Printed, RunSeconds, Time

_ReceivedAt = Annotated[Time, Meta(description="when it was taken from the queue")]


class ClaimCheck(Printed):
    """Where the detail was fetched from: an event too large for the bus carries only this."""

    bucket: Annotated[str, Meta(description="of S3")]
    key: str
    size: Annotated[Count, Meta(description="bytes")]
    sha256: Annotated[str, Meta(description="of the detail, hexadecimal")]

    @classmethod
    def of(cls, reference: Reference) -> ClaimCheck:
        """The claim check that refers to a detail."""
        return cls(reference.bucket, reference.key, reference.size, reference.sha256)


class ReceivedEvent(Printed, kw_only=True, tag_field="type", tag="event"):
    """An event as a consumer behind the bus receives it."""

    event: Annotated[
        msgspec.Raw,
        Meta(
            description="the envelope of EventBridge as it came: id, source, detail-type, time, "
            "region, account, resources, detail",
            extra_json_schema={"type": "object"},
        ),
    ]
    claim_check: Annotated[
        ClaimCheck | UnsetType,
        Meta(
            description="Where the detail was fetched from: an event too large for the bus carries "
            "only this."
        ),
    ] = UNSET
    claim_error: Annotated[
        str | UnsetType,
        Meta(
            description="why the detail could not be fetched; the event then keeps its claim check"
        ),
    ] = UNSET
    received_at: _ReceivedAt
    repeated: Annotated[
        bool, Meta(description="whether an event of this id came before in this run")
    ]


class Message(Printed, tag_field="type", tag="message"):
    """A message of the queue that is no event."""

    body: Annotated[str, Meta(description="its text")]
    received_at: _ReceivedAt


class ListenSummary(Printed, kw_only=True, tag_field="type", tag="summary"):
    """The last line."""

    received: Annotated[Count, Meta(description="events, repeated ones included")]
    distinct: Annotated[
        Count,
        Meta(description="events by their id, each counted once; what --expect counts"),
    ]
    duplicates: Annotated[Count, Meta(description="events that came before in this run")]
    not_events: Annotated[Count, Meta(description="messages that are no events")]
    claim_checks: Annotated[Count, Meta(description="events with a claim check")]
    claim_errors: Annotated[Count, Meta(description="claim checks that could not be followed")]
    expected: Annotated[
        Count | None,
        Meta(description="--expect; null without it. The exit code is 6 when fewer came"),
    ]
    queue: Annotated[str, Meta(description="name of the queue that was read")]
    temporary: Annotated[
        bool,
        Meta(
            description="whether a rule and a queue were made for this run, and removed at its end"
        ),
    ]
    seconds: RunSeconds
