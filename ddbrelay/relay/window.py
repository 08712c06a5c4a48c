"""How many requests may be in flight: more while they are answered as quickly, fewer when not.

Additive increase, multiplicative decrease, as TCP has it (RFC 5681); what counts as quickly is
taken from the quickest answers of the last seconds.
"""

from __future__ import annotations

from math import inf

START = 4
_TOLERATED = 2.0
"""Answers may take so many times as long as the quickest ones."""
_SLACK = 0.005
"""Seconds that an answer may take longer in any case: a busy event loop is no slow bus."""
_QUICKEST_OF = 10.0
"""Seconds after which the quickest answers are forgotten."""
_SMOOTHING = 0.1


class Window:
    """The number of requests that may be in flight; times in seconds, of any one clock."""

    def __init__(self, most: int) -> None:
        self._most = float(most)
        self._size = float(min(START, most))
        self._doubling = True
        self._quickest = self._quickest_before = inf
        self._turned_at = -inf
        self._smooth: float | None = None
        self._shrunk_at = -inf

    @property
    def size(self) -> int:
        """At least one."""
        return int(self._size)

    def answered(self, sent_at: float, now: float, *, full: bool) -> None:
        """A request was taken; `full` when no other could be sent beside it."""
        seconds = now - sent_at
        if now - self._turned_at >= _QUICKEST_OF / 2:
            self._quickest_before, self._quickest = self._quickest, inf
            self._turned_at = now
        self._quickest = min(self._quickest, seconds)
        smooth = seconds if self._smooth is None else self._smooth
        self._smooth = smooth + _SMOOTHING * (seconds - smooth)
        if not full:
            # What was not made use of has not been shown to hold.
            return
        quickest = min(self._quickest, self._quickest_before)
        if self._smooth <= _TOLERATED * quickest + _SLACK:
            step = 1.0 if self._doubling else 1.0 / self._size
            self._size = min(self._most, self._size + step)
        else:
            self._doubling = False

    def crowded(self, sent_at: float, now: float) -> None:
        """A request was throttled, failed, or was not answered."""
        # Those that were under way together say the same thing once.
        if sent_at >= self._shrunk_at:
            self._size = max(1.0, self._size / 2)
            self._shrunk_at = now
            self._doubling = False
