"""Events -> PutEvents requests, within AWS's limits and never two of one item at a time.

Limits: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event

MAX_ENTRIES = 10
MAX_BYTES = 1024 * 1024
"""The entries of a request together must stay strictly below this."""


@dataclass(slots=True, eq=False)
class Item:
    """An event on its way: the change it came from, and what the engine hangs onto it."""

    change: Change
    event: Event
    size: int
    attempts: int = 0
    ticket: Any = field(default=None, repr=False)

    @property
    def key(self) -> bytes:
        """Events with the same key are sent one after the other, in the order of their adding."""
        return self.change.item_key


def oversize(event: Event) -> bool:
    """Whether no request can hold this event."""
    return event.size >= MAX_BYTES


class Packer:
    """Holds events until they can go.

    One queue for each item key; a key is busy from `take` until `release`. An item that must be
    sent again goes back to the head of its queue.
    """

    def __init__(self, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._queues: dict[bytes, deque[Item]] = {}
        self._ready: deque[bytes] = deque()
        self._waiting = 0

    def __len__(self) -> int:
        """Events that wait, the ones in flight apart."""
        return self._waiting

    def add(self, item: Item) -> None:
        """Queue behind all earlier events of the same key."""
        queue = self._queues.get(item.key)
        if queue is None:
            self._queues[item.key] = deque((item,))
            self._ready.append(item.key)
        else:
            queue.append(item)
        self._waiting += 1

    def take(self) -> list[Item]:
        """The next request, oldest keys first; empty when every waiting key is busy."""
        taken: list[Item] = []
        size = 0
        while self._ready and len(taken) < self._max_entries:
            queue = self._queues[self._ready[0]]
            size += queue[0].size
            if taken and size >= self._max_bytes:
                break
            self._ready.popleft()
            taken.append(queue.popleft())
        self._waiting -= len(taken)
        return taken

    def put_back(self, item: Item) -> None:
        """It will be sent again, before all others of its key; the key stays busy."""
        self._queues[item.key].appendleft(item)
        self._waiting += 1

    def release(self, key: bytes) -> None:
        """Nothing of this key is in flight any more."""
        if self._queues[key]:
            self._ready.append(key)
        else:
            del self._queues[key]

    def withdraw(self, key: bytes) -> list[Item]:
        """Take out all that waits for a busy key, in order; the key stays busy."""
        queue = self._queues[key]
        items = list(queue)
        queue.clear()
        self._waiting -= len(items)
        return items
