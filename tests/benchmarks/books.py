"""What the stand-in writes down: which events came, how often, in which order, and when."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_ENTRY = b'"DetailType":'


@dataclass
class Books:
    """`accepted` counts answered events; the others are told when a request comes in.

    `swapped` are events that came after a later one of their item, `together` are items that had
    events in two requests at the same time, `unstamped` are entries without the stamp.
    """

    requests: Counter[str] = field(default_factory=Counter)
    read: int = 0
    accepted: int = 0
    repeated: int = 0
    swapped: int = 0
    together: int = 0
    unstamped: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    first_read: float | None = None
    last_accepted: float | None = None
    first_cpu: float = 0.0
    last_cpu: float = 0.0
    written: dict[bytes, float] = field(default_factory=dict)
    delays: list[float] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)
    _last: dict[bytes, bytes] = field(default_factory=dict)
    _under_way: set[bytes] = field(default_factory=set)

    def begin(self) -> None:
        """The first page is asked for."""
        self.first_read, self.first_cpu = time.monotonic(), time.process_time()

    def arrive(self, body: bytes) -> tuple[int, list[bytes], set[bytes]]:
        """A PutEvents request came in; its number of entries, their tokens, and their items."""
        entries = body.count(_ENTRY)
        parts = body.split(b"~")
        tokens, keys = parts[1::3], parts[2::3]
        self.unstamped += entries - len(keys)
        seen, last = self._seen, self._last
        for token, key in zip(tokens, keys, strict=False):
            if token in seen:
                self.repeated += 1
                continue
            seen.add(token)
            if last.get(key, b"") > token:
                self.swapped += 1
            else:
                last[key] = token
        items = set(keys)
        self.together += len(items & self._under_way)
        self._under_way |= items
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        return entries, tokens, items

    def accept(self, entries: int, tokens: list[bytes], items: set[bytes]) -> None:
        """The request is answered."""
        now = time.monotonic()
        self._under_way -= items
        self.in_flight -= 1
        self.accepted += entries
        self.last_accepted, self.last_cpu = now, time.process_time()
        if self.written:
            for token in tokens:
                written = self.written.pop(token, None)
                if written is not None:
                    self.delays.append(now - written)

    def report(self) -> dict[str, Any]:
        """For the one who measures; `seconds` from the first read to the last accepted event."""
        began, ended = self.first_read, self.last_accepted
        return {
            "requests": dict(self.requests),
            "read": self.read,
            "accepted": self.accepted,
            "repeated": self.repeated,
            "swapped": self.swapped,
            "together": self.together,
            "unstamped": self.unstamped,
            "items": len(self._last),
            "most_in_flight": self.most_in_flight,
            "standin_cpu": self.last_cpu - self.first_cpu,
            "seconds": None if began is None or ended is None else ended - began,
            "delays": self.delays,
        }
