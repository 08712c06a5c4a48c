"""What surrounds the data of an event in its detail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping.document import encode, exact
from ddbrelay.flow.mapping.events import Event, MapFunction, Mapped, Reject
from ddbrelay.times import iso

ENVELOPES = ("none", "metadata", "cloudevents")

Envelope = Callable[[Change, "Frame", bytes], bytes]
"""The detail that carries the data, which is a JSON object."""


class Frame(msgspec.Struct, frozen=True, gc=False):
    """What an envelope says besides what the change says; `time` is epoch seconds."""

    event_id: str
    source: str
    detail_type: str
    time: float | None
    aggregate_id: str | None = None


def envelope_of(name: str) -> Envelope | None:
    """None for `none`; ValueError for a name that is none of ENVELOPES."""
    if name not in ENVELOPES:
        raise ValueError(f"{name!r} is none of {', '.join(ENVELOPES)}")
    return {"metadata": _metadata, "cloudevents": _cloudevents}.get(name)


class Enveloped:
    """A mapping whose events get an envelope."""

    def __init__(self, mapper: MapFunction, envelope: Envelope) -> None:
        self._mapper, self._envelope = mapper, envelope

    def __call__(self, change: Change) -> Mapped:
        event = self._mapper(change)
        if not isinstance(event, Event):
            return event
        frame = Frame(change.event_id, event.source, event.detail_type, event.time)
        try:
            detail = self._envelope(change, frame, event.detail)
        except UndecodableError as error:
            return Reject(f"cannot be read: {error}", event.rule)
        return msgspec.structs.replace(event, detail=detail)


def _metadata(change: Change, frame: Frame, data: bytes) -> bytes:
    metadata: dict[str, Any] = {
        "id": frame.event_id,
        "sequence": change.sequence_number,
        "at": None if frame.time is None else iso(frame.time),
        "table": change.table,
    }
    if frame.aggregate_id is not None:
        metadata["aggregateId"] = frame.aggregate_id
    return msgspec.json.encode({"metadata": metadata, "data": msgspec.Raw(data)})


def _cloudevents(change: Change, frame: Frame, data: bytes) -> bytes:
    """https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md"""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": frame.event_id,
        "source": frame.source,
        "type": frame.detail_type,
        "subject": frame.aggregate_id or _subject(change),
        "datacontenttype": "application/json",
        "sequence": change.sequence_number,
    }
    if frame.time is not None:
        event["time"] = iso(frame.time)
    event["data"] = msgspec.Raw(data)
    return msgspec.json.encode(event)


def _subject(change: Change) -> str:
    values = exact(change.keys)
    texts = (
        value if isinstance(value, str) else encode(value).decode() for value in values.values()
    )
    return "/".join(texts)
