"""What became of a scenario, for whoever shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from ddbrelay.scenario.model import Expect, Never, Scenario, Spot, Step
from ddbrelay.scenario.ordering import Key

Reason = Literal["missing", "order", "times", "forbidden"]
Fault = Literal["failed", "refused", "interrupted"]
"""Of a step: its command did, DynamoDB took no item, or somebody stopped it."""


@dataclass(frozen=True, slots=True)
class Done:
    """A step that was done, or ended with `error` as `fault` says; `seconds` is how long it took.

    `lines` are the last ones that a failed command printed, `hint` is what AWS's refusal asks for.
    """

    step: Step
    key: Key | None
    seconds: float
    error: str | None = None
    lines: Sequence[str] = ()
    fault: Fault = "failed"
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one expectation; met where there is no `reason`.

    That an event came once too often, or in the wrong order, is known only when all have come, so
    another verdict may follow one that was met; the last one counts.

    `seconds` is when that was known, from the first write on, `came` how many distinct events
    matched. `what` says on one line what is wrong, `lines` show it, `events` are the envelopes that
    prove it: what came instead, the two in the wrong order, those too many, the forbidden one.
    """

    about: Expect | Never
    seconds: float
    came: int = 0
    reason: Reason | None = None
    what: str = ""
    lines: Sequence[str] = ()
    events: Sequence[Mapping[str, Any]] = ()


@dataclass(slots=True)
class Outcome:
    """One scenario: done steps, verdicts, and the `error` that ended it before they were complete.

    `spot` is where in the file the error is, if it is one of the file.
    `words` are what its own relay said. `begun` is False for a scenario that was not run because an
    earlier one was not met, `over` is set when it came to its end.
    """

    scenario: Scenario
    steps: list[Done] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    error: str | None = None
    spot: Spot | None = None
    seconds: float = 0.0
    events: int = 0
    repeats: int = 0
    begun: bool = False
    over: bool = False

    @property
    def placed_error(self) -> str | None:
        """The error with its place in the file, as far as it has one."""
        return self.error if self.spot is None else f"{self.spot}: {self.error}"

    @property
    def failures(self) -> list[Verdict]:
        """The verdicts that are not met."""
        return [one for one in self.verdicts if one.reason is not None]

    @property
    def failed_step(self) -> Done | None:
        """The step that failed, after which none was done."""
        return next((one for one in self.steps if one.error is not None), None)

    @property
    def interrupted_step(self) -> Done | None:
        """The step that was on its way when somebody stopped it."""
        return next((one for one in self.steps if one.fault == "interrupted"), None)

    @property
    def met(self) -> bool:
        """Whether all of it was run, and is as expected."""
        return self.begun and self.error is None and self.failed_step is None and not self.failures


class Teller(Protocol):
    """Hears what happens, at once; `ended` comes after everything else of a scenario.

    `settled` comes before it, and however the scenario ends.
    """

    def begins(self, scenario: Scenario) -> None:
        """Its first step comes next."""

    def step(self, scenario: Scenario, done: Done) -> None:
        """A step was done, or failed."""

    def verdict(self, scenario: Scenario, verdict: Verdict) -> None:
        """An expectation is met, or is known not to be."""

    def waits(self, what: str, seconds: float) -> None:
        """Nothing has happened yet; said again and again, `seconds` from the first write on."""

    def relay_said(self, words: str) -> None:
        """The scenario's own relay has something to say; called from another thread."""

    def settled(self, outcome: Outcome) -> None:
        """No further verdict comes; those of the outcome are the last ones."""

    def ended(self, outcome: Outcome) -> None:
        """The scenario is over."""
