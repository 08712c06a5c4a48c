"""Which item an event is about, and which of two events was first: what delivery does not promise.

EventBridge's rules and SQS's standard queues deliver at least once and in no order
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-what-is-how-it-works-concepts.html,
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/standard-queues.html), so
that a later event may arrive first although everything is right. The order of two events of one
item is taken from the first of these that tells it:

1. the sequence numbers of their stream records: from the relay that expect itself runs, or in the
   detail, where the envelopes `metadata` and `cloudevents` have them, or as a `sequenceNumber`;
2. their times, which are those of the writes in whole seconds;
3. the order of arrival, where delivery keeps order, as the embedded AWS does.

Two events of one second without a sequence number are in no order that could be told against a
real account. `order = "arrival"` takes arrival there as well, `"any"` compares nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ddbrelay.scenario.model import Order
from ddbrelay.times import epoch_of

Key = tuple[tuple[str, Any], ...]
"""Names and values of an item's key attributes, in the order of the table's schema."""
_SEQUENCE = re.compile(r"[0-9]{1,40}")
_BARE_SEQUENCE = re.compile(r"[0-9]{21,40}")
"""What stands somewhere under the name may be anybody's; stream records have 21 digits or more."""
_SPEC_VERSION = "specversion"
_PLACES: tuple[tuple[str, ...], ...] = ((), ("keys",), ("data",), ("data", "keys"))


@dataclass(eq=False, slots=True)
class Arrival:
    """An event that came.

    `event` is the envelope with numbers as int or Decimal, `at` the seconds since the first write,
    `place` how many came before it. `key` and `sequence` are those of the change, where known;
    a relay may learn them only after the event has come.
    """

    event: Mapping[str, Any]
    at: float
    place: int
    key: Key | None = None
    sequence: int | None = None

    @property
    def id(self) -> str:
        """The bus's own id of the event."""
        return str(self.event.get("id") or "")

    @property
    def time(self) -> float | None:
        """When the change was written, epoch seconds, as far as the envelope says it."""
        try:
            return epoch_of(self.event.get("time"))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two events of one item are compared; `arrival_counts` where delivery keeps order."""

    order: Order = "carried"
    arrival_counts: bool = False

    def evidence(self, first: Arrival, second: Arrival) -> str | None:
        """What shows that `first` was before `second`; None where nothing does."""
        if self.order == "any":
            return None
        if self.order == "carried":
            one, two = first.sequence, second.sequence
            if one is not None and two is not None and one != two:
                return "sequence numbers" if one < two else None
            before, after = first.time, second.time
            if before is not None and after is not None and before != after:
                return "times" if before < after else None
            if not self.arrival_counts:
                return None
        return "arrival" if first.place < second.place else None


def sequence_of(event: Mapping[str, Any]) -> int | None:
    """The sequence number that the detail carries."""
    detail = event.get("detail")
    if not isinstance(detail, dict):
        return None
    metadata = detail.get("metadata")
    found: list[tuple[Any, re.Pattern[str]]] = []
    if isinstance(metadata, dict):
        found.append((metadata.get("sequence"), _SEQUENCE))
        found.append((metadata.get("sequenceNumber"), _BARE_SEQUENCE))
    if _SPEC_VERSION in detail:
        found.append((detail.get("sequence"), _SEQUENCE))
    found.append((detail.get("sequenceNumber"), _BARE_SEQUENCE))
    for value, form in found:
        if isinstance(value, str) and form.fullmatch(value):
            return int(value)
    return None


def key_of(event: Mapping[str, Any], names: Sequence[str], written: Sequence[Key]) -> Key | None:
    """The key of the item that an event is about, as far as its detail shows it; None where unsure.

    That is whatever values the key attributes `names` have in the detail itself, or in its `keys`,
    its `data` or the `keys` of that. Where they have none there, it is the one of the items
    `written` all of whose key attributes, by name and value, stand together anywhere in the detail,
    but only if nothing in the detail is the key of another one.
    """
    detail = event.get("detail")
    if not names or not isinstance(detail, dict):
        return None
    for place in _PLACES:
        if not place and _SPEC_VERSION in detail:
            # The `id` and the `source` of a cloud event are its own.
            continue
        inner: Any = detail
        for name in place:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and (found := _key_in(inner, names)) is not None:
            return found
    objects = list(_objects(detail))
    shown = {key for one in objects if (key := _key_in(one, names)) is not None}
    nested = shown.intersection(written)
    if len(nested) != 1:
        return None
    (key,) = nested
    # An item may be shown under other names than those of its table, inside what it belongs to.
    values = {one for each in objects for one in _scalars(each)}
    others = [one for one in written if one != key and {value for _, value in one} <= values]
    return None if others else key


def _key_in(table: Mapping[str, Any], names: Sequence[str]) -> Key | None:
    values = [table.get(name) for name in names]
    if all(isinstance(one, str | int | Decimal) and not isinstance(one, bool) for one in values):
        return tuple(zip(names, values, strict=True))
    return None


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from _objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from _objects(one)


def _scalars(table: Mapping[str, Any]) -> Iterator[Any]:
    """Every text and number of an object, those in its arrays too, but of no object within."""
    waiting = list(table.values())
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, str | int | Decimal) and not isinstance(value, bool):
            yield value
