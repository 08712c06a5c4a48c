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
SLOW = "a very slow answer"
EMPTY = "an answer without its members"

T = TypeVar("T")


class ApiError(Exception):
    """AWS answers with an error; `code` as the service model names it."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message


class NoAnswer(Exception):
    """The connection was cut; the caller cannot know on which side of the effect."""


class EmptyAnswer(NoAnswer):
    """Something between AWS and the caller answered with success and an object of its own."""


@dataclass(slots=True)
class Rates:
    """How often something goes wrong by chance, each from 0 to 1.

    The first four, `slow` and `empty_answer` are per call; `empty_page` and `no_next` (a page of
    an open shard without its next iterator) per page of records, `astray` (it does not say where
    the next one begins) per page of the listing; the `entry_` ones per entry of PutEvents.
    """

    throttled: float = 0.0
    internal: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    empty_page: float = 0.0
    entry_throttled: float = 0.0
    entry_failed: float = 0.0
    slow: float = 0.0
    empty_answer: float = 0.0
    no_next: float = 0.0
    astray: float = 0.0

    def fault(self, rng: random.Random) -> str | None:
        """What goes wrong with the next call, if anything."""
        dice = rng.random()
        for rate, code in (
            (self.throttled, "ThrottlingException"),
            (self.internal, "InternalServerError"),
            (self.lost_before, LOST_BEFORE),
            (self.lost_after, LOST_AFTER),
            (self.empty_answer, EMPTY),
        ):
            if dice < rate:
                return code
            dice -= rate
        return None

    def entry_fault(self, rng: random.Random) -> str | None:
        """The error code of the next entry of PutEvents, if it gets one."""
        dice = rng.random()
        if dice < self.entry_throttled:
            return "ThrottlingException"
        if dice < self.entry_throttled + self.entry_failed:
            return "InternalFailure"
        return None


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it was made, at epoch seconds."""

    operation: str
    at: float
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Before:
    action: Callable[[], object]
    when: Callable[[dict[str, Any]], bool]


@dataclass(slots=True)
class Faults:
    """The way to AWS: every call takes time and may fail.

    `latency` is a range of seconds for each direction, `slow_latency` the one of a very slow
    answer. Scripted faults come before chance, in the order of their scripting. `keep` is how many
    of the latest `calls` are remembered at least, None for all.
    """

    now: Callable[[], float]
    rng: random.Random = field(default_factory=lambda: random.Random(0))
    latency: tuple[float, float] = (0.001, 0.005)
    slow_latency: tuple[float, float] = (5.0, 30.0)
    rates: Rates = field(default_factory=Rates)
    keep: int | None = None
    calls: list[Call] = field(default_factory=list)
    open_calls: Counter[str] = field(default_factory=Counter)
    _script: dict[str, deque[str]] = field(default_factory=dict)
    _before: dict[str, list[_Before]] = field(default_factory=dict)

    def fail_next(self, operation: str, code: str, times: int = 1) -> None:
        """The next calls of this operation end with AWS's `code`, LOST_BEFORE or LOST_AFTER.

        With SLOW they succeed, late; with EMPTY they have no effect, and seem to succeed.
        """
        self._script.setdefault(operation, deque()).extend([code] * times)

    def before_next(
        self,
        operation: str,
        action: Callable[[], object],
        when: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> None:
        """Let `action` happen right before the next call whose arguments `when` holds for.

        So a shard appears between two pages of a listing, or goes while it is read. A call that
        fails before its effect does not count.
        """
        self._before.setdefault(operation, []).append(_Before(action, when))

    def recover(self) -> None:
        """Nothing goes wrong any more: script, actions and rates are dropped."""
        self._script.clear()
        self._before.clear()
        self.rates = Rates()

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
        given = arguments or {}
        self._note(Call(operation, self.now(), given))
        self.open_calls[operation] += 1
        try:
            script = self._script.get(operation)
            fault = script.popleft() if script else self.rates.fault(self.rng)
            await asyncio.sleep(self.rng.uniform(*self.latency))
            if fault == LOST_BEFORE:
                raise NoAnswer(fault)
            if fault == EMPTY:
                raise EmptyAnswer(fault)
            if fault not in {None, LOST_AFTER, SLOW}:
                raise ApiError(str(fault), "simulated")
            if self._before:
                self._act(operation, given)
            result = effect()
            if fault == SLOW or self.happens(self.rates.slow):
                await asyncio.sleep(self.rng.uniform(*self.slow_latency))
            await asyncio.sleep(self.rng.uniform(*self.latency))
            if fault == LOST_AFTER:
                raise NoAnswer(fault)
            return result
        finally:
            self.open_calls[operation] -= 1

    def _note(self, call: Call) -> None:
        self.calls.append(call)
        if self.keep is not None and len(self.calls) > 2 * self.keep:
            del self.calls[: -self.keep]

    def _act(self, operation: str, arguments: dict[str, Any]) -> None:
        waiting = self._before.get(operation, ())
        due = [before for before in waiting if before.when(arguments)]
        self._before[operation] = [before for before in waiting if before not in due]
        for before in due:
            before.action()
