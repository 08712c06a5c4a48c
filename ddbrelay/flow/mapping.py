"""Change -> Event, Skip or Reject: which change is which business event.

Limits of an entry: https://docs.aws.amazon.com/eventbridge/latest/APIReference/
API_PutEventsRequestEntry.html and eb-putevents.html of the user guide.
"""

from __future__ import annotations

import re
from typing import Protocol

import msgspec

from ddbrelay.flow.change import Change, UndecodableError

MAX_DETAIL_TYPE = 128
MAX_SOURCE = 256
_VERBS = {"INSERT": "Created", "MODIFY": "Updated", "REMOVE": "Deleted"}
_EXPIRED = "Expired"


class Event(msgspec.Struct, frozen=True, gc=False):
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
        texts = (self.source, self.detail_type, *self.resources)
        size = len(self.detail) + (14 if self.time is not None else 0)
        for text in texts:
            size += len(text) if text.isascii() else len(text.encode())
        return size


class Skip(msgspec.Struct, frozen=True, gc=False):
    """No event by intention; `reason` names the rule."""

    reason: str


class Reject(msgspec.Struct, frozen=True, gc=False):
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
        # What can be wrong with an event is the same for all changes of a name.
        self._kinds = {name: self._kind(verb) for name, verb in _VERBS.items()}
        self._expired = self._kind(_EXPIRED)

    def _kind(self, verb: str) -> tuple[str, str, Reject | None]:
        """Detail type, rule, and why no event may have this type."""
        event = Event(self.source, self.entity + verb, b"{}")
        return event.detail_type, verb.lower(), refused(event)

    def __call__(self, change: Change) -> Event | Skip | Reject:
        name = change.event_name
        kind = self._expired if change.ttl else self._kinds.get(name)
        if kind is None:
            return Reject(f"unknown event name {name!r}")
        detail_type, rule, never = kind
        if never is not None:
            return never
        try:
            image = change.old if name == "REMOVE" else change.new
            detail = msgspec.json.encode(change.keys if image is None else image)
        except (UndecodableError, msgspec.MsgspecError, ValueError, TypeError) as error:
            return Reject(f"cannot be read: {error}")
        return Event(
            self.source,
            detail_type,
            detail,
            (change.stream_arn, change.event_id),
            change.time,
            rule,
        )


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
