"""What a mapping makes of a change, and what PutEvents takes.

Limits of an entry: https://docs.aws.amazon.com/eventbridge/latest/APIReference/
API_PutEventsRequestEntry.html and eb-putevents.html of the user guide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping.document import encode

MAX_DETAIL_TYPE = 128
MAX_SOURCE = 256
MAX_TRACE_HEADER = 500
JOINT = " + "
"""Between the names of the rules that raised events of one record."""
_BUS = re.compile(r"(arn:[^\s]+:event-bus/)?[/.\-_A-Za-z0-9]{1,256}").fullmatch


class Event(msgspec.Struct, frozen=True, gc=False):
    """One PutEvents entry before it has a bus; `detail` is a JSON object, `time` epoch seconds.

    `rule` names what in the mapping made it; it is not sent. `bus` is None for the bus of the run,
    `trace_header` an X-Ray trace header.
    """

    source: str
    detail_type: str
    detail: bytes
    resources: tuple[str, ...] = ()
    time: float | None = None
    rule: str | None = None
    bus: str | None = None
    trace_header: str | None = None

    @property
    def size(self) -> int:
        """Bytes by AWS's formula for the size of an entry."""
        text = "".join((self.source, self.detail_type, *self.resources))
        size = len(text) if text.isascii() else len(text.encode())
        return size + len(self.detail) + (14 if self.time is not None else 0)


class Skip(msgspec.Struct, frozen=True, gc=False):
    """No event by intention; `reason` names the rule."""

    reason: str


class Reject(msgspec.Struct, frozen=True, gc=False):
    """No event although there should be one: the record is parked with this reason.

    `rule` names what in the mapping is to blame, where something is.
    """

    reason: str
    rule: str | None = None


class Several(msgspec.Struct, frozen=True, gc=False):
    """Two or more events of one change, in the order in which they are sent; all go or none."""

    events: tuple[Event, ...]


def event_of(
    detail_type: str,
    detail: Mapping[str, Any],
    *,
    source: str = "",
    resources: Sequence[str] = (),
    time: float | None = None,
    bus: str | None = None,
    trace_header: str | None = None,
) -> Event:
    """An event as a function of one's own makes it; `time` is epoch seconds.

    What is left out is as for every event: the source of the configuration, the stream's ARN and
    the stable id as resources, the record's time, the bus of the run. Numbers keep every digit.
    TypeError for what JSON has no form for.
    """
    return Event(
        source, detail_type, encode(detail), tuple(resources), time, None, bus, trace_header
    )


Mapped = Event | Several | Skip | Reject
"""What a mapping says of one change."""


class OwnFunction(Protocol):
    """What `mapper = "module:function"` names: the user's own mapping.

    None skips; what it raises parks the record, with the traceback. The same change must give the
    same result every time.
    """

    def __call__(self, change: Change, /) -> Mapped | Sequence[Event] | None:
        """The fate of one change."""


class MapFunction(Protocol):
    """Says what a change means.

    The same change gives the same bytes every time and everywhere; nothing else is read, nothing
    is kept between calls. What cannot be mapped is a Reject, never an exception. What must not be
    shown, stored or sent is redacted in the change itself (`Change.redact`).
    """

    def __call__(self, change: Change, /) -> Mapped:
        """The fate of one change."""


def stable_id(event_id: str, rule: str | None, place: int) -> str:
    """The id of the event of this rule at this place, from 0, among those of a record.

    It is the same whenever the event is sent. The first one has the record's own; one of no rule is
    told by its number, from 1.
    """
    return event_id if place == 0 else f"{event_id}.{rule or place + 1}"


def refused(event: Event) -> Reject | None:
    """Why PutEvents would never take this event, its size apart; None when it would."""
    if not event.detail_type:
        return Reject("the detail type is empty")
    if len(event.detail_type) > MAX_DETAIL_TYPE:
        return Reject(f"the detail type is longer than {MAX_DETAIL_TYPE} characters")
    if never := bad_source(event.source):
        return never
    if not event.detail.startswith(b"{"):
        return Reject("the detail is not a JSON object")
    if event.bus is not None and (never := bad_bus(event.bus)):
        return never
    texts = (event.source, event.detail_type, event.trace_header or "", *event.resources)
    if not all(map(_is_whole, texts)):
        return Reject("it has half a character, which no UTF-8 has")
    if event.trace_header is not None:
        if not event.trace_header:
            return Reject("the trace header is empty")
        if len(event.trace_header) > MAX_TRACE_HEADER:
            return Reject(f"the trace header is longer than {MAX_TRACE_HEADER} characters")
    return None


def bad_source(source: str) -> Reject | None:
    """Why no event may have this source; None when one may."""
    if not source:
        return Reject("the source is empty")
    if len(source) > MAX_SOURCE:
        return Reject(f"the source is longer than {MAX_SOURCE} characters")
    if source.startswith("aws."):
        return Reject("a source must not begin with aws.")
    return None


def bad_bus(bus: str) -> Reject | None:
    """Why no bus can have this name or ARN; None when one can."""
    return None if _BUS(bus) else Reject(f"{bus!r} is neither a name nor an ARN of a bus")


def _is_whole(text: str) -> bool:
    """Whether the text has no half of a surrogate pair."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
