"""Events -> PutEvents requests, within AWS's limits and never two of one item at a time.

Limits: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.mapping.events import JOINT, stable_id
from ddbrelay.flow.offloading import Claim, offload

MAX_ENTRIES = 10
MAX_BYTES = 1024 * 1024
"""The entries of a request together must stay strictly below this."""


class Parcel(msgspec.Struct, frozen=True, gc=False):
    """An event as a request has it: its bytes by AWS's formula, its detail where that is in S3."""

    event: Event
    size: int
    claim: Claim | None = None


class Item(msgspec.Struct, eq=False):
    """A record on its way: its event, the change it came from, what the engine hangs onto it.

    Items with the same `key` are sent one after the other, in the order of their adding. `size`
    counts the event by AWS's formula, `claim` is its detail where that goes to S3. Where the
    record has several events, `rest` are those that go after this one, and `whole` all of them as
    they were mapped, with None for one that was not to be sent. `doubted_at` is the loop's time at
    which the event was first refused for an unknown reason. `behind` is the next item of the same
    key, and the packer's own.
    """

    change: Change
    event: Event
    key: bytes
    size: int
    attempts: int = 0
    claim: Claim | None = None
    ticket: Any = None
    behind: Item | None = None
    rest: tuple[Parcel, ...] = ()
    whole: tuple[Event | None, ...] = ()
    doubted_at: float | None = None

    def advance(self) -> None:
        """The event was accepted: be the next one of the record, with no attempt made yet."""
        after, *rest = self.rest
        self.event, self.size, self.claim = after.event, after.size, after.claim
        self.attempts, self.rest, self.doubted_at = 0, tuple(rest), None

    @property
    def left(self) -> tuple[Event | None, ...]:
        """What of the record is to be sent, details and all, in its place among the events.

        None stands for an event that was accepted already, or was not to be sent.
        """
        if not self.whole:
            claim = self.claim
            if claim is None:
                return (self.event,)
            return (msgspec.structs.replace(self.event, detail=claim.body),)
        sent = sum(event is not None for event in self.whole) - len(self.rest) - 1
        left: list[Event | None] = []
        for event in self.whole:
            left.append(event if sent <= 0 else None)
            sent -= event is not None
        return tuple(left)


def packed(
    change: Change, events: Sequence[Event | None], claim_check: str | None, ticket: Any = None
) -> Item | Event:
    """A record on its way, or the first of its events that no request can hold.

    So nothing of a record goes when not all of it can. None in place of an event says that it is
    not to be sent; at least one is. `claim_check` is where large details go, if anywhere.
    """
    parcels: list[Parcel] = []
    for place, event in enumerate(events):
        if event is None:
            continue
        parcel = Parcel(event, event.size)
        if parcel.size >= MAX_BYTES:
            fitting = offloaded(event, claim_check, stable_id(change.event_id, event.rule, place))
            if fitting is None:
                return event
            small, claim = fitting
            parcel = Parcel(small, small.size, claim)
        parcels.append(parcel)
    first, *rest = parcels
    whole = tuple(events) if len(events) > 1 else ()
    return Item(
        change,
        first.event,
        change.item_key,
        first.size,
        claim=first.claim,
        ticket=ticket,
        rest=tuple(rest),
        whole=whole,
    )


def rule_of(events: Iterable[Event | None]) -> str:
    """The name under which the ledger has a record with these events; empty where no rule has one.

    Of several rules it is their names in the order of the events, with a plus sign between them.
    """
    return JOINT.join(event.rule for event in events if event is not None and event.rule)


def oversize(event: Event) -> bool:
    """Whether no request can hold this event."""
    return event.size >= MAX_BYTES


def too_large(event: Event) -> str:
    """Why no request can hold an oversize event."""
    return f"the entry has {event.size:,} bytes, PutEvents takes less than 1 MB"


def offloaded(event: Event, claim_check: str | None, event_id: str) -> tuple[Event, Claim] | None:
    """An oversize event as a reference to its detail in S3; None where that cannot make it fit.

    `claim_check` is where details go, `s3://bucket/prefix`, if anywhere.
    """
    if claim_check is None:
        return None
    small, claim = offload(event, claim_check, event_id)
    return None if oversize(small) else (small, claim)


class Packer:
    """Holds events until they can go.

    The events of one item key stand in one line, of which only the first may go; the next one
    follows when the first is released. So a key is busy from `take` until `release`.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._last: dict[bytes, Item] = {}
        self._ready: deque[Item] = deque()
        self._ready_bytes = 0
        self._waiting = 0

    def __len__(self) -> int:
        """Events that wait, the ones in flight apart."""
        return self._waiting

    @property
    def full(self) -> bool:
        """Whether the next request would be as large as one can be."""
        return len(self._ready) >= self._max_entries or self._ready_bytes >= self._max_bytes

    @property
    def ready(self) -> bool:
        """Whether there is an event whose key is not busy."""
        return bool(self._ready)

    def add(self, item: Item) -> None:
        """Queue behind all earlier events of the same key."""
        key = item.key
        last = self._last.get(key)
        self._last[key] = item
        self._waiting += 1
        if last is None:
            self._ready.append(item)
            self._ready_bytes += item.size
        else:
            last.behind = item

    def take(self) -> list[Item]:
        """The next request, oldest keys first; empty when every waiting key is busy."""
        taken: list[Item] = []
        ready, size = self._ready, 0
        while ready and len(taken) < self._max_entries:
            item = ready[0]
            if taken and size + item.size >= self._max_bytes:
                break
            size += item.size
            taken.append(ready.popleft())
        self._ready_bytes -= size
        self._waiting -= len(taken)
        return taken

    def put_back(self, item: Item) -> None:
        """It will be sent again, or the next event of its record, before all others of its key.

        The key stays busy until `again`.
        """
        self._waiting += 1

    def again(self, item: Item) -> None:
        """What was put back may go now."""
        self._ready.appendleft(item)
        self._ready_bytes += item.size

    def release(self, item: Item) -> None:
        """It needs no sending any more: the next one of its key may go."""
        behind = item.behind
        if behind is None:
            del self._last[item.key]
        else:
            item.behind = None
            self._ready.append(behind)
            self._ready_bytes += behind.size

    def withdraw(self, item: Item) -> list[Item]:
        """Take out all that waits behind it, in order; its key stays busy."""
        items: list[Item] = []
        behind, item.behind = item.behind, None
        while behind is not None:
            items.append(behind)
            behind.behind, behind = None, behind.behind
        self._last[item.key] = item
        self._waiting -= len(items)
        return items
