"""What came out behind the buses of a test, and what a test may ask of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from ddbrelay.errors import ConfigError, DdbrelayError
from ddbrelay.flow.mapping.patterns import Pattern, PatternError, compile_pattern
from ddbrelay.infra.listener import followed
from ddbrelay.scenario.matching import mismatch, summary
from ddbrelay.testing import arguments
from ddbrelay.text import nearest

if TYPE_CHECKING:
    from ddbrelay.testing.factory import Relays

Event: TypeAlias = dict[str, Any]
"""An event as a target of a rule gets it: `source`, `detail-type`, `detail`, `resources`, …

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
"""
_FIELDS = (
    *("version", "id", "detail-type", "source", "account", "time", "region", "resources"),
    *("detail", "replay-name"),
)
_PAUSE = 0.01
_WIDTH = 100


class _Clock:
    # A name of a module would be replaced by those who freeze the clock of a test.
    now: Callable[[], float] = staticmethod(time.monotonic)


class Events:
    """The events that came through temporary rules and queues, on every bus of the test's relays.

    Patterns are EventBridge's, over the whole event: `{"detail-type": ["UserCreated"], "detail":
    {"id": [{"prefix": "u"}]}}`. What `expect` and `expect_in_order` gave out is taken: they give it
    out once, and `never` does not mind it. Events of one item come in the order of its changes,
    those of different items in any.
    """

    def __init__(self, relays: Relays) -> None:
        self._relays = relays
        self._events: list[Event] = []
        self._taken: set[int] = set()

    def expect(self, pattern: Mapping[str, Any], *, timeout: float = 5.0) -> Event:
        """The first event that matches and was not taken, waited for at most `timeout` seconds.

        Fails the test with AssertionError, which says what came instead.
        """
        __tracebackhide__ = True
        return self.expect_in_order([pattern], timeout=timeout)[0]

    def expect_in_order(
        self, patterns: Sequence[Mapping[str, Any]], *, timeout: float = 5.0
    ) -> list[Event]:
        """One event for each pattern, each come after the one before it; others may lie between.

        `timeout` is in seconds for all of them together. Fails as `expect` does.
        """
        __tracebackhide__ = True
        wanted = self._compiled(patterns)
        until = _deadline("timeout", timeout)
        while True:
            last_look = _Clock.now() >= until
            self._receive()
            found = self._in_order(wanted)
            if len(found) == len(wanted):
                self._taken.update(found)
                return [self._events[place] for place in found]
            if last_look:
                raise AssertionError(self._missing(patterns, found, timeout))
            self._relays.check()
            _pause()

    def never(self, pattern: Mapping[str, Any], *, within: float = 0.0) -> None:
        """Fail when an event matches that was not taken.

        All that was written before is relayed first; for events of what others write meanwhile,
        `within` seconds more are waited.
        """
        __tracebackhide__ = True
        (unwanted,) = self._compiled([pattern])
        until = _deadline("within", within)
        self._relays.settle()
        while True:
            last_look = _Clock.now() >= until
            self._receive()
            for place, event in enumerate(self._events):
                if place not in self._taken and unwanted.matches(event):
                    raise AssertionError(
                        f"an event came that must not come:\n  {summary(event, _WIDTH - 2)}"
                    )
            if last_look:
                return
            self._relays.check()
            _pause()

    def all(self, pattern: Mapping[str, Any] | None = None) -> list[Event]:
        """All events that match, taken or not, in the order of their arrival.

        All that was written before is relayed first.
        """
        __tracebackhide__ = True
        matches = None if pattern is None else self._compiled([pattern])[0].matches
        self._relays.settle()
        self._receive()
        return [event for event in self._events if matches is None or matches(event)]

    def __iter__(self) -> Iterator[Event]:
        __tracebackhide__ = True
        return iter(self.all())

    def __len__(self) -> int:
        __tracebackhide__ = True
        return len(self.all())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._events)} so far>"

    def _compiled(self, patterns: Sequence[Mapping[str, Any]]) -> list[Pattern]:
        __tracebackhide__ = True
        if not isinstance(patterns, list | tuple):
            pytest.fail("the patterns stand in a list, in the order of the events")
        wrong = ""
        try:
            compiled = [compile_pattern(pattern) for pattern in patterns]
        except PatternError as error:
            wrong = str(error)
        if wrong:
            pytest.fail(f"this is no event pattern: {wrong}")
        for name in (name for one in compiled for name in sorted(one.fields)):
            if name not in _FIELDS:
                hint = nearest(name, _FIELDS, "its fields:")
                pytest.fail(f'an event has no field "{name}"\n  hint: {hint}')
        return compiled

    def _receive(self) -> None:
        __tracebackhide__ = True
        listeners = self._relays.listeners
        if not listeners:
            pytest.fail("no relay was started: relay(table=...) comes before the events")
        wrong = ""
        try:
            for listener in listeners:
                while batch := listener.receive(0):
                    listener.done(batch)
                    whole = [followed(self._relays.aws, one, None) for one in batch]
                    self._events += [one.event for one in whole if one.event]
            return
        except DdbrelayError as error:
            wrong = error.message
        pytest.fail(f"the events cannot be received: {wrong}")

    def _in_order(self, patterns: Sequence[Pattern]) -> list[int]:
        """The places of the events that match the first of these patterns."""
        found: list[int] = []
        start = 0
        for pattern in patterns:
            places = range(start, len(self._events))
            place = next((p for p in places if self._fits(p, pattern)), None)
            if place is None:
                break
            found.append(place)
            start = place + 1
        return found

    def _fits(self, place: int, pattern: Pattern) -> bool:
        return place not in self._taken and bool(pattern.matches(self._events[place]))

    def _missing(
        self, patterns: Sequence[Mapping[str, Any]], found: Sequence[int], timeout: float
    ) -> str:
        pattern = patterns[len(found)]
        start = found[-1] + 1 if found else 0
        matches = compile_pattern(pattern).matches
        which = (
            "no event" if len(patterns) == 1 else f"no event {len(found) + 1} of {len(patterns)}"
        )
        lines = [f"{which} came within {timeout:g} s that matches {dict(pattern)}"]
        others: list[Event] = []
        taken: list[Event] = []
        for place, event in enumerate(self._events):
            claimed = place in self._taken or place in found
            if not matches(event):
                (taken if claimed else others).append(event)
            elif claimed:
                lines.append(f"taken already: {summary(event, _WIDTH - 15)}")
            elif place < start:
                lines.append(f"came too early: {summary(event, _WIDTH - 16)}")
        others = [*taken, *others]
        lines += mismatch(pattern, others, width=_WIDTH) if others else []
        return "\n".join([*lines, *self._relays.accounts()])


def _deadline(name: str, value: object) -> float:
    __tracebackhide__ = True
    wrong = ""
    try:
        return _Clock.now() + arguments.seconds(name, value)
    except ConfigError as error:
        wrong = error.message
    pytest.fail(wrong)


def _pause() -> None:
    threading.Event().wait(_PAUSE)
