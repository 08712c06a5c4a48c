"""The mapping that needs no configuration: created, updated, deleted, expired."""

from __future__ import annotations

import re

import msgspec

from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping.events import Event, Reject, Skip, bad_source, refused

_VERBS = {"INSERT": "Created", "MODIFY": "Updated", "REMOVE": "Deleted"}
_EXPIRED = "Expired"
_encode = msgspec.json.Encoder().encode


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

    @property
    def never(self) -> Reject | None:
        """Why no change becomes an event of this mapping, whatever it is; None when some do."""
        return self._expired[2]

    def _kind(self, verb: str) -> tuple[str, str, Reject | None]:
        """Detail type, rule, and why no event may have this type."""
        event = Event(self.source, self.entity + verb, b"{}")
        return event.detail_type, verb.lower(), refused(event)

    def __call__(self, change: Change) -> Event | Skip | Reject:
        record = change.record
        name = record.event_name
        expired = record.identity is not None and change.ttl
        kind = self._expired if expired else self._kinds.get(name)
        if kind is None:
            return _unknown(name)
        detail_type, rule, never = kind
        if never is not None:
            return never
        try:
            detail = image_of(change)
        except (UndecodableError, msgspec.MsgspecError, ValueError, TypeError) as error:
            return Reject(f"cannot be read: {error}")
        return Event(
            self.source,
            detail_type,
            detail,
            (change.origin.stream_arn, record.event_id),
            record.dynamodb.created_at,
            rule,
        )

    def detail_type(self, change: Change) -> str | Reject:
        """What this mapping calls the change."""
        kind = self._expired if change.ttl else self._kinds.get(change.event_name)
        return _unknown(change.event_name) if kind is None else kind[0]


def _unknown(event_name: str) -> Reject:
    return Reject(f"unknown event name {event_name!r}")


def image_of(change: Change) -> bytes:
    """The new image as plain JSON, the old one for deletes, the keys where there is no image.

    UndecodableError for an image that cannot be read.
    """
    image = change.old if change.event_name == "REMOVE" else change.new
    return _encode(change.keys if image is None else image)


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
