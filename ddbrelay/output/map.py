"""The lines of `map`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddbrelay.flow import mapping
from ddbrelay.output import Count, EventId, Printed, Time
from ddbrelay.values import iso_or_none


class Entry(Printed, rename="pascal"):
    """The entry of PutEvents, under the names of the AWS API."""

    source: str
    detail_type: str
    detail: Annotated[
        msgspec.Raw,
        Meta(description="the detail as the JSON value that it is; PutEvents takes its text"),
    ]
    resources: tuple[str, ...]
    time: Annotated[
        Time | UnsetType,
        Meta(description="the time of the change, unless the mapping says otherwise"),
    ] = UNSET
    event_bus_name: Annotated[
        str | UnsetType,
        Meta(description="the bus that the rule names; absent for the one of the command line"),
    ] = UNSET
    trace_header: Annotated[str | UnsetType, Meta(description="the AWS X-Ray header")] = UNSET

    @classmethod
    def of(cls, event: mapping.Event) -> Entry:
        """The entry, its detail as the JSON object that it is."""
        time = iso_or_none(event.time)
        return cls(
            event.source,
            event.detail_type,
            msgspec.Raw(event.detail),
            event.resources,
            UNSET if time is None else time,
            UNSET if event.bus is None else event.bus,
            UNSET if event.trace_header is None else event.trace_header,
        )


class Event(Printed, tag_field="type", tag="event"):
    """An event that the record would become; a record with several has one line for each, in their
    order.
    """

    event_id: EventId = msgspec.field(name="eventID")
    rule: Annotated[
        str | None, Meta(description="name of the rule; null where the mapping has none")
    ]
    entry: Entry


class Skipped(Printed, tag_field="type", tag="skipped"):
    """A record that the mapping makes no event of."""

    event_id: EventId = msgspec.field(name="eventID")
    rule: Annotated[str, Meta(description='name of the rule that skips it, or "no rule"')]


class Parked(Printed, tag_field="type", tag="parked"):
    """A record that would become a dead letter; the exit code is 3."""

    event_id: EventId = msgspec.field(name="eventID")
    rule: Annotated[str | None, Meta(description="name of the rule that is to blame, where one is")]
    reason: Annotated[str, Meta(description="what is wrong")]


class PatternField(Printed):
    """What one field of the rule's pattern wanted, and what the change has."""

    path: Annotated[
        str, Meta(description="place in the pattern, such as new.type or $or[1].new.type")
    ]
    wanted: Annotated[str, Meta(description="the matchers, as JSON text")]
    found: Annotated[
        str, Meta(description='the value as JSON text, cut to 60 characters, or "absent"')
    ]
    ok: Annotated[bool, Meta(description="whether it fits")]


class MakesEvent(Printed, tag_field="type", tag="event"):
    """It makes an event."""

    detail_type: str


class Parks(Printed, tag_field="type", tag="parked"):
    """It parks the record."""

    reason: str


class Skips(Printed, tag_field="type", tag="skipped"):
    """It skips the record."""


class TriedRule(Printed):
    """One rule that was tried; those after the one that decided were not."""

    rule: Annotated[str, Meta(description="its name")]
    matched: bool
    findings: list[PatternField]
    result: Annotated[
        MakesEvent | Parks | Skips | None, Meta(description="null where it did not match")
    ]


class Explanation(Printed, tag_field="type", tag="explanation"):
    """With --explain, before what becomes of the record: what each rule said, in the order
    tried.
    """

    event_id: EventId = msgspec.field(name="eventID")
    rules: list[TriedRule]


class MapSummary(Printed, tag_field="type", tag="summary"):
    """With --expect, alone: what differs from the file. The exit code is 6 where anything does."""

    records: Annotated[Count, Meta(description="records that were mapped")]
    different: Annotated[
        list[str],
        Meta(description="eventID of each record that is mapped otherwise, or on one side only"),
    ]
