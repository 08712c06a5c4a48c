"""Mappings for tables of a known form: an outbox, and a single-table design."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from ddbrelay.flow.change import Change, UndecodableError, fits
from ddbrelay.flow.mapping.crud import CrudMapper
from ddbrelay.flow.mapping.document import encode, exact, small_integers
from ddbrelay.flow.mapping.envelopes import Enveloped, Frame, envelope_of
from ddbrelay.flow.mapping.events import Event, MapFunction, Mapped, Reject, Skip, refused
from ddbrelay.flow.mapping.making import Defaults, MappingError
from ddbrelay.flow.mapping.redaction import redaction_paths
from ddbrelay.text import nearest
from ddbrelay.times import epoch_of

_REDACT = ("redact",)
PRESETS = ("crud", "outbox", "single-table")
ONLY_INSERTS = "only inserts count"
NO_ENTITY = "no entity"
AFTER = ("keep", "delete", "expire")
_OUTBOX = {
    "event_type": "eventType",
    "aggregate_id": "aggregateId",
    "payload": "payload",
    "occurred_at": "occurredAt",
    "source": "source",
}
OUTBOX_RULE = "outbox"
"""What the ledger has the events of an outbox under."""
_OUTBOX_KEYS = frozenset({*_OUTBOX, "after", "ttl_attribute", "ttl"})
_SINGLE_TABLE_KEYS = frozenset({"key", "separator", "entities"})


class Outbox:
    """An outbox table: each item that is inserted is an event that somebody wrote down.

    Events of one aggregate are sent one after the other, as the stream has them. AWS orders a
    stream per item only: two items, even of one transaction, may appear in either order. The
    attributes' names are options.
    """

    def __init__(self, defaults: Defaults, options: Mapping[str, Any]) -> None:
        """MappingError for an option that cannot be."""
        _only(options, _OUTBOX_KEYS, "outbox")
        names = {key: options.get(key, name) for key, name in _OUTBOX.items()}
        for key, name in names.items():
            _text(name, ("outbox", key))
        if (after := options.get("after", AFTER[0])) not in AFTER:
            known = ", ".join(AFTER)
            raise MappingError(f"after must be one of {known}, not {after!r}", ("outbox", "after"))
        self._event_type, self._payload = names["event_type"], names["payload"]
        self._aggregate_id, self._occurred_at = names["aggregate_id"], names["occurred_at"]
        self._source_attribute = names["source"]
        hidden = redaction_paths(defaults.redact, _REDACT)
        if any(fits(path[0], self._aggregate_id) for path in hidden):
            raise MappingError(
                f'"{self._aggregate_id}" is the aggregate id, by which events are kept in order: '
                "it cannot be redacted",
                _REDACT,
            )
        self._source = defaults.source or f"ddbrelay.{defaults.table}"
        self._envelope = envelope_of(defaults.envelope)

    def __call__(self, change: Change) -> Mapped:
        if change.event_name != "INSERT":
            return Skip(ONLY_INSERTS)
        try:
            self.follow_aggregate(change)
            return self._event(change)
        except UndecodableError as error:
            return Reject(f"cannot be read: {error}", OUTBOX_RULE)
        except (ValueError, OverflowError) as error:
            return Reject(f"outbox: {error}", OUTBOX_RULE)

    def _event(self, change: Change) -> Event:
        item = exact(change.new)
        if item is None:
            raise ValueError("the stream has no new images (NEW_IMAGE or NEW_AND_OLD_IMAGES)")
        detail_type = item.get(self._event_type)
        if not isinstance(detail_type, str):
            raise ValueError(f'the event type, attribute "{self._event_type}", is no text')
        source = item.get(self._source_attribute, self._source)
        if not isinstance(source, str):
            raise ValueError(f'the source, attribute "{self._source_attribute}", is no text')
        time = change.time
        if self._occurred_at in item:
            try:
                time = epoch_of(item[self._occurred_at])
            except ValueError as error:
                raise ValueError(f'attribute "{self._occurred_at}": {error}') from None
        detail = self._data(item)
        if self._envelope is not None:
            aggregate = item.get(self._aggregate_id)
            known = None if aggregate is None else _as_text(aggregate)
            frame = Frame(change.event_id, source, detail_type, time, known)
            detail = self._envelope(change, frame, detail)
        resources = (change.stream_arn, change.event_id)
        event = Event(source, detail_type, detail, resources, time, OUTBOX_RULE)
        never = refused(event)
        if never is not None:
            raise ValueError(never.reason)
        return event

    def _data(self, item: Mapping[str, Any]) -> bytes:
        payload = item.get(self._payload)
        if isinstance(payload, dict):
            return small_integers(encode(payload))
        if not isinstance(payload, str):
            raise ValueError(
                f'the payload, attribute "{self._payload}", is neither a map nor JSON text'
            )
        try:
            # Every value is looked at, and none of them changed.
            msgspec.json.decode(payload, type=dict[str, Any])
            return small_integers(msgspec.json.format(payload.encode(), indent=-1))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise ValueError(
                f'the payload, attribute "{self._payload}", is no JSON object'
            ) from None

    def follow_aggregate(self, change: Change) -> None:
        """Put the events of an insert in one line with those of its aggregate."""
        if change.event_name != "INSERT":
            return
        try:
            aggregate = change.attribute(self._aggregate_id)
        except UndecodableError:
            return
        if aggregate is not None:
            change.order_by(msgspec.json.encode({self._aggregate_id: aggregate}))


class SingleTable:
    """Items of several kinds in one table, told apart by the prefix of a key: `USER#7f3a`.

    Each kind is mapped as the default mapping does it. `entities` gives the noun of a prefix, and
    leaves out every other prefix; without it the noun is made from the prefix.
    """

    def __init__(self, defaults: Defaults, options: Mapping[str, Any]) -> None:
        """MappingError for an option that cannot be."""
        _only(options, _SINGLE_TABLE_KEYS, "single_table")
        self._defaults = defaults
        self._key = options.get("key")
        if self._key is not None:
            _text(self._key, ("single_table", "key"))
        self._separator: str = _text(options.get("separator", "#"), ("single_table", "separator"))
        entities = options.get("entities")
        if entities is not None:
            if not isinstance(entities, dict) or not entities:
                raise MappingError(
                    "entities must be a table of prefixes and nouns", ("single_table", "entities")
                )
            for prefix, noun in entities.items():
                place = ("single_table", "entities", prefix)
                if never := CrudMapper(defaults.table, entity=_text(noun, place)).never:
                    raise MappingError(never.reason, place)
        self._entities: dict[str, str] | None = entities
        self._mappers: dict[str, CrudMapper] = {}

    def __call__(self, change: Change) -> Mapped:
        try:
            prefix = self._prefix(change.keys)
        except UndecodableError as error:
            return Reject(f"cannot be read: {error}")
        except ValueError as error:
            return Reject(f"single-table: {error}")
        noun = self._noun(prefix)
        if noun is None:
            return Skip(NO_ENTITY)
        mapper = self._mappers.get(noun)
        if mapper is None:
            # Prefixes are few, but nobody promises that.
            if len(self._mappers) >= 1000:
                self._mappers.clear()
            mapper = CrudMapper(self._defaults.table, entity=noun, source=self._defaults.source)
            self._mappers[noun] = mapper
        return mapper(change)

    def _prefix(self, keys: Mapping[str, Any]) -> str | None:
        name = self._key or _partition_key(keys)
        if name not in keys:
            raise ValueError(f'the key has no attribute "{name}" (single_table.key)')
        value = keys[name]
        if not isinstance(value, str):
            return None
        prefix, separator, _ = value.partition(self._separator)
        known = bool(separator) or (self._entities is not None and prefix in self._entities)
        return prefix if known else None

    def _noun(self, prefix: str | None) -> str | None:
        if prefix is None:
            return None
        return _pascal(prefix) if self._entities is None else self._entities.get(prefix)


def preset_of(
    name: str, defaults: Defaults, *, outbox: Mapping[str, Any], single_table: Mapping[str, Any]
) -> MapFunction:
    """The mapping of this name; MappingError for an option that cannot be."""
    if name == "outbox":
        return Outbox(defaults, outbox)
    plain: MapFunction = CrudMapper(defaults.table, entity=defaults.entity, source=defaults.source)
    if name == "single-table":
        plain = SingleTable(defaults, single_table)
    envelope = envelope_of(defaults.envelope)
    return plain if envelope is None else Enveloped(plain, envelope)


def _partition_key(keys: Mapping[str, Any]) -> str:
    if len(keys) == 1:
        return next(iter(keys))
    found = [name for name in keys if name.lower() == "pk"]
    if not found:
        raise ValueError(f"which of {', '.join(keys)} has the prefix? (single_table.key)")
    return found[0]


def _pascal(prefix: str) -> str | None:
    """`USER` -> `User`, `order_item` -> `OrderItem`; None where nothing is left of it."""
    words = [word for word in re.split(r"[^A-Za-z0-9]+", prefix) if word]
    noun = (word.capitalize() if word.isupper() else word[0].upper() + word[1:] for word in words)
    return "".join(noun) or None


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else encode(value).decode()


def _text(value: Any, path: tuple[str | int, ...]) -> str:
    if not isinstance(value, str) or not value:
        raise MappingError(f"{path[-1]} must be a text, and not an empty one", path)
    return value


def _only(options: Mapping[str, Any], known: frozenset[str], section: str) -> None:
    for key in options:
        if key not in known:
            raise unknown_key(key, known, (section, key))


def unknown_key(key: str, known: frozenset[str], path: tuple[str | int, ...]) -> MappingError:
    """The error for a key that means nothing here, with the nearest one that does."""
    hint = nearest(key, known, "known keys:")
    return MappingError(f'unknown key "{key}"', path, hint=hint)
