"""What a run came to, by event type; light to import."""

from __future__ import annotations

from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome

FATES = (Fate.PUBLISHED, None, Fate.SKIPPED, Fate.PARKED)
_MOST_TYPES = 1000
"""A mapping whose event types have no end must not fill the memory: the others share a line."""
_OTHERS = "other types"


class Counts:
    """How many outcomes of each event type had which fate; exact, whatever a view shows.

    `types` has them by detail type, None for what was no event; `lost` are the gaps of the stream.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.types: dict[str | None, dict[Fate | None, int]] = {}

    def add(self, outcome: Outcome) -> None:
        """Count one."""
        event = outcome.event
        name = None if event is None else event.detail_type
        try:
            self.types[name][outcome.fate] += 1
        except KeyError:
            self._first(name)[outcome.fate] += 1

    def _first(self, name: str | None) -> dict[Fate | None, int]:
        if len(self.types) >= _MOST_TYPES:
            name = _OTHERS
        return self.types.setdefault(name, dict.fromkeys(FATES, 0))

    @property
    def total(self) -> int:
        """All outcomes."""
        return sum(number for numbers in self.types.values() for number in numbers.values())
