"""Change -> Event, Skip or Reject: which change is which business event.

Limits of an entry: https://docs.aws.amazon.com/eventbridge/latest/APIReference/
API_PutEventsRequestEntry.html and eb-putevents.html of the user guide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Protocol

import msgspec

from ddbrelay.flow.change import Change, UndecodableError

MAX_DETAIL_TYPE = 128
MAX_SOURCE = 256
_VERBS = {"INSERT": "Created", "MODIFY": "Updated", "REMOVE": "Deleted"}
_EXPIRED = "Expired"


class Event(msgspec.Struct, frozen=True):
    """One PutEvents entry before it has a bus; `detail` is a JSON object, `time` epoch seconds.

    `rule` names what in the mapping made it; it is not sent.
    """

    source: str
    detail_type: str
    detail: bytes
    resources: tuple[str, ...] = ()
    time: float | None = None
    rule: str | None = None

    @property
    def size(self) -> int:
        """Bytes by AWS's formula for the size of an entry."""
        return (
            (14 if self.time is not None else 0)
            + len(self.source.encode())
            + len(self.detail_type.encode())
            + len(self.detail)
            + sum(len(resource.encode()) for resource in self.resources)
        )


@dataclass(frozen=True, slots=True)
class Skip:
    """No event by intention; `reason` names the rule."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reject:
    """No event although there should be one: the record is parked with this reason."""

    reason: str


class Mapper(Protocol):
    """Says what a change means.

    The same change gives the same bytes every time and everywhere; nothing else is read, nothing
    is kept between calls. What cannot be mapped is a Reject, never an exception.
    """

    def __call__(self, change: Change) -> Event | Skip | Reject:
        """The fate of one change."""


class CrudMapper:
    """The mapping that needs no configuration.

    INSERT is `<Entity>Created`, MODIFY `<Entity>Updated`, REMOVE `<Entity>Deleted`, a delete by
    Time to Live `<Entity>Expired`. The detail is the new image (the old one for deletes), or the
    keys where the stream's view type leaves the image out. The stable id of the record follows the
    stream's ARN in `resources`. The rules are called created, updated, deleted and expired.
    ValueError for a source that no event may have.
    """

    def __init__(self, table: str, *, entity: str | None = None, source: str | None = None) -> None:
        self.entity = entity or entity_of(table)
        self.source = source or f"ddbrelay.{table}"
        if never := bad_source(self.source):
            raise ValueError(f'"{self.source}" cannot be the source of events: {never.reason}')

    def __call__(self, change: Change) -> Event | Skip | Reject:
        name = change.event_name
        verb = _EXPIRED if change.ttl else _VERBS.get(name)
        if verb is None:
            return Reject(f"unknown event name {name!r}")
        try:
            image = change.old if name == "REMOVE" else change.new
            detail = msgspec.json.encode(change.keys if image is None else image)
        except (UndecodableError, msgspec.MsgspecError, ValueError, TypeError) as error:
            return Reject(f"cannot be read: {error}")
        event = Event(
            source=self.source,
            detail_type=self.entity + verb,
            detail=detail,
            resources=(change.stream_arn, change.event_id),
            time=change.time,
            rule=verb.lower(),
        )
        return refused(event) or event


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


def entity_of(table: str) -> str:
    """The noun for a table's items: `users` -> `User`, `order-categories` -> `OrderCategory`."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", table) if word]
    if not words:
        return "Item"
    words[-1] = _singular(words[-1])
    return "".join(word[0].upper() + word[1:] for word in words)


def _singular(noun: str) -> str:
    lower = noun.lower()
    if lower.endswith("ies") and len(noun) > 4:
        return noun[:-3] + "y"
    if lower.endswith(("sses", "xes", "ches", "shes")):
        return noun[:-2]
    if lower.endswith("s") and not lower.endswith(("ss", "us", "is")) and len(noun) > 1:
        return noun[:-1]
    return noun
