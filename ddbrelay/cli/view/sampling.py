"""Which outcomes become rows, when more come than anybody can read."""

from __future__ import annotations

from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome

WAITING = 20
"""Drawings after which a row is shown at the latest: a burst is shown whole where that is enough.
"""
_SMOOTH = 0.2
_SPARED = 10
"""Parked records that are shown of each drawing whatever comes: they are what one looks for."""

Settled = tuple[Outcome, float]
"""An outcome, and the epoch second at which it came."""


class Sample:
    """The outcomes that wait to be drawn, `rows` at a time: all of them, or one of every so many.

    It is decided for each outcome before anything is made of it. When more wait than can be drawn
    soon, every second one of them is dropped, and of those that follow only one of `every` waits.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.every = 1
        self.dropped = 0
        self._most = rows * WAITING
        self._waiting: list[Settled] = []
        self._offered = self._next = self._drawn_at = self._spared = 0
        self._pace = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wants(self, outcome: Outcome) -> bool:
        """Whether this outcome is to be kept; every outcome must be asked for."""
        self._offered = offered = self._offered + 1
        if offered < self._next:
            if outcome.fate is not Fate.PARKED or self._spared >= _SPARED:
                self.dropped += 1
                return False
            self._spared += 1
        else:
            self._next = offered + self.every
        return True

    def keep(self, outcome: Outcome, at: float) -> None:
        """Let it wait for its drawing."""
        self._waiting.append((outcome, at))
        if len(self._waiting) > self._most:
            self._thin()

    def _thin(self) -> None:
        waiting = self._waiting
        kept = [
            one
            for number, one in enumerate(waiting)
            if number % 2 == 0 or one[0].fate is Fate.PARKED
        ]
        if len(kept) > self._most * 3 // 4:
            kept = waiting[::2]
        self.dropped += len(waiting) - len(kept)
        self._waiting = kept
        self.every *= 2

    def take(self, *, last: bool = False) -> list[Settled]:
        """What is to be drawn now; all that is left where this is the `last` drawing."""
        number = len(self._waiting) if last else self.rows
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        came, self._drawn_at, self._spared = self._offered - self._drawn_at, self._offered, 0
        self._pace += (came - self._pace) * _SMOOTH
        # Only where twice as many would still fit well: the number must not go to and fro.
        if self.every > 1 and not self._waiting and 2 * self._pace / self.every < self.rows * 0.75:
            self.every //= 2
            self._next = min(self._next, self._offered + self.every)
        return taken
