"""An event as programs see it, whoever prints or stores it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ddbrelay.flow.mapping import Event
from ddbrelay.output import Printed, Time
from ddbrelay.values import iso_or_none


class EventEntry(Printed):
    """An event as it is sent to EventBridge (an entry of PutEvents)."""

    bus: Annotated[
        str | None, Meta(description="name or ARN of the bus; null where the run has none")
    ]
    source: str
    detail_type: str
    detail: Annotated[
        msgspec.Raw,
        Meta(description="the detail of the event, a JSON value (an object, for EventBridge)"),
    ]
    resources: Annotated[
        tuple[str, ...],
        Meta(description="by default the stream's ARN and the eventID of the record"),
    ]
    time: Annotated[
        Time | None, Meta(description="the Time of the event, by default that of the change")
    ]
    trace_header: Annotated[str | None, Meta(description="the AWS X-Ray header that goes with it")]
    rule: Annotated[
        str | None,
        Meta(
            description="name of the rule of the mapping that made it; null where the mapping has "
            "no rules"
        ),
    ]

    @classmethod
    def of(cls, event: Event, bus: str | None = None) -> EventEntry:
        """An event as it is sent, to `bus` where it names no other."""
        return cls(
            event.bus or bus,
            event.source,
            event.detail_type,
            msgspec.Raw(event.detail),
            event.resources,
            iso_or_none(event.time),
            event.trace_header,
            event.rule,
        )

    def as_object(self) -> dict[str, Any]:
        """The fields by their names in JSON; the detail stays `msgspec.Raw`."""
        return dict(zip(self.__struct_encode_fields__, msgspec.structs.astuple(self), strict=True))
