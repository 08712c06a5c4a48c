"""What goes wrong on the way to AWS: by script, or at seeded rates."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

LOST_BEFORE = "connection cut before the effect"
LOST_AFTER = "connection cut after the effect"

T = TypeVar("T")


class ApiError(Exception):
    """AWS answers with an error; `code` as the service model names it."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class NoAnswer(Exception):
    """The connection was cut; the caller cannot know on which side of the effect."""


@dataclass(slots=True)
class Rates:
    """How often something goes wrong by chance, each from 0 to 1.

    The first four are per call, `empty_page` per page, the last two per entry of PutEvents.
    """

    throttled: float = 0.0
    internal: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    empty_page: float = 0.0
    entry_throttled: float = 0.0
    entry_failed: float = 0.0

    def fault(self, rng: random.Random) -> str | None:
        """What goes wrong with the next call, if anything."""
        dice = rng.random()
        for rate, code in (
            (self.throttled, "ThrottlingException"),
            (self.internal, "InternalServerError"),
            (self.lost_before, LOST_BEFORE),
            (self.lost_after, LOST_AFTER),
        ):
            if dice < rate:
                return code
            dice -= rate
        return None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was made, at epoch seconds."""

    operation: str
    at: float
    arguments: dict[str, Any]


@dataclass(slots=True)
class Faults:
    """The way to AWS: every call takes time and may fail.

    `latency` is a range of seconds for each direction. Scripted faults come before chance, in the
    order of their scripting.
    """

    now: Callable[[], float]
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    latency: tuple[float, float] = (0.001, 0.005)
    rates: Rates = field(default_factory=Rates)
    calls: list[Call] = field(default_factory=list)
    open_calls: Counter[str] = field(default_factory=Counter)
    _script: dict[str, deque[str]] = field(default_factory=dict)

    def fail_next(self, operation: str, code: str, times: int = 1) -> None:
        """The next calls of this operation end with AWS's `code`, LOST_BEFORE or LOST_AFTER."""
        self._script.setdefault(operation, deque()).extend([code] * times)

    def calls_of(self, operation: str) -> list[Call]:
        """The calls of one operation so far."""
        return [call for call in self.calls if call.operation == operation]

    def happens(self, rate: float) -> bool:
        """Whether chance strikes, at this rate."""
        return rate > 0.0 and self.rng.random() < rate

    async def call(
        self, operation: str, effect: Callable[[], T], arguments: dict[str, Any] | None = None
    ) -> T:
        """Go there, have the effect, come back; raises ApiError or NoAnswer."""
        self.calls.append(Call(operation, self.now(), arguments or {}))
        self.open_calls[operation] += 1
        try:
            script = self._script.get(operation)
            fault = script.popleft() if script else self.rates.fault(self.rng)
            await asyncio.sleep(self.rng.uniform(*self.latency))
            if fault == LOST_BEFORE:
                raise NoAnswer(fault)
            if fault is not None and fault != LOST_AFTER:
                raise ApiError(fault)
            result = effect()
            await asyncio.sleep(self.rng.uniform(*self.latency))
            if fault == LOST_AFTER:
                raise NoAnswer(fault)
            return result
        finally:
            self.open_calls[operation] -= 1
