"""The JSON objects in which programs see events, whoever prints or sends them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.mapping import Event
from ddbrelay.values import iso_or_none


@dataclass(frozen=True)
class Of:
    """Whose ledger, or whose dead letters, these are."""

    consumer: str
    table: str
    stream_arn: str

    def object(self) -> dict[str, Any]:
        """What every summary says of it."""
        return {"consumer": self.consumer, "table": self.table, "streamArn": self.stream_arn}


def event_object(event: Event, bus: str | None = None) -> dict[str, Any]:
    """An event as it is sent, to `bus` where it names no other; its detail stays JSON."""
    return {
        "bus": event.bus or bus,
        "source": event.source,
        "detailType": event.detail_type,
        "detail": msgspec.Raw(event.detail),
        "resources": event.resources,
        "time": iso_or_none(event.time),
        "traceHeader": event.trace_header,
        "rule": event.rule,
    }
