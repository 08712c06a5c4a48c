"""Change -> Event, Several, Skip or Reject: which change is which business event."""

from __future__ import annotations

from ddbrelay.flow.mapping.crud import CrudMapper, entity_of
from ddbrelay.flow.mapping.events import (
    MAX_DETAIL_TYPE,
    MAX_SOURCE,
    MAX_TRACE_HEADER,
    Event,
    MapFunction,
    Mapped,
    OwnFunction,
    Reject,
    Several,
    Skip,
    bad_source,
    event_of,
    refused,
)

__all__ = [
    "MAX_DETAIL_TYPE",
    "MAX_SOURCE",
    "MAX_TRACE_HEADER",
    "CrudMapper",
    "Event",
    "MapFunction",
    "Mapped",
    "OwnFunction",
    "Reject",
    "Several",
    "Skip",
    "bad_source",
    "entity_of",
    "event_of",
    "refused",
]
