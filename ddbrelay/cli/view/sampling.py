"""Which outcomes become rows, when more come than anybody can read."""

from __future__ import annotations

from ddbrelay.cli.view.rows import Shown
from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome

_BURST = 30
"""Drawings after which a row is shown at the latest; a burst is shown whole if that is enough."""
_LATE = 10
"""... and if it is not: what is shown then shall be of about now."""
_SMOOTH = 0.2
_SPARED = 10
"""Parked records that are shown of each drawing whatever comes: they are what one looks for."""

Settled = tuple[Shown, float]
"""What is shown of an outcome, and the epoch second at which it came."""


class Sample:
    """The outcomes that wait to be drawn, `rows` at a time: all of them, or one of every so many.

    It is decided for each outcome before anything is made of it. When more wait than can be drawn
    soon, every second one of them is dropped, and of those that follow only one of `every` waits.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.every = 1
        self._waiting: list[Settled] = []
        self._offered = self._next = self._drawn_at = self._spared = self._taken = 0
        self._pace = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def dropped(self) -> int:
        """How many will never be drawn."""
        return self._offered - self._taken - len(self._waiting)

    def wants(self, outcome: Outcome) -> bool:
        """Whether this outcome is to be kept; every outcome must be asked for, and then kept."""
        self._offered = offered = self._offered + 1
        if offered >= self._next:
            self._next = offered + self.every
            return True
        if outcome.fate is not Fate.PARKED or self._spared >= _SPARED:
            return False
        self._spared += 1
        return True

    def keep(self, shown: Shown, at: float) -> None:
        """Let one that is wanted wait for its drawing."""
        self._waiting.append((shown, at))
        if len(self._waiting) > self.rows * (_BURST if self.every == 1 else _LATE):
            while len(self._waiting) > self.rows * _LATE:
                self._thin()

    def _thin(self) -> None:
        waiting = self._waiting
        kept = [
            one
            for number, one in enumerate(waiting)
            if number % 2 == 0 or one[0].fate is Fate.PARKED
        ]
        if len(kept) > len(waiting) * 3 // 4:
            kept = waiting[::2]
        self._waiting = kept
        self.every *= 2

    def take(self, *, last: bool = False) -> list[Settled]:
        """What is to be drawn now; all that is left where this is the `last` drawing."""
        number = len(self._waiting) if last else self.rows
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        self._taken += len(taken)
        came, self._drawn_at, self._spared = self._offered - self._drawn_at, self._offered, 0
        self._pace += (came - self._pace) * _SMOOTH
        # Only where twice as many would still fit well: the number must not go to and fro.
        if self.every > 1 and not self._waiting and 2 * self._pace / self.every < self.rows * 0.75:
            self.every //= 2
            self._next = min(self._next, self._offered + self.every)
        return taken
