"""Dead letters: records that are kept instead of sent, and the events that are kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from ddbrelay.flow.mapping import Event

_decoder = msgspec.json.Decoder(Event | list[Event | None])


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that is parked, whole, with why.

    `behind` is set for a record that waits only because an earlier one of its item is parked.
    `record` is the stream record as JSON, `event` what is to be sent of it, as `stored_events`
    writes it, None where there is nothing.
    """

    shard_id: str
    sequence: str
    item_key: bytes
    reason: str
    record: bytes
    event: bytes | None
    attempts: int
    parked_at: float
    behind: bool = False


def stored_events(events: Sequence[Event | None]) -> bytes:
    """The events of a record as JSON: one as an object, several as an array of such.

    In the array null stands for an event that is not to be sent, or was sent already: so the others
    keep their places, and with these their stable ids.
    """
    return msgspec.json.encode(events[0] if len(events) == 1 else events)


def events_of(stored: bytes) -> tuple[Event | None, ...]:
    """What `stored_events` wrote, with an event in it; msgspec.DecodeError where there is none."""
    found = _decoder.decode(stored)
    events = (found,) if isinstance(found, Event) else tuple(found)
    if all(event is None for event in events):
        raise msgspec.ValidationError("there is no event")
    return events
