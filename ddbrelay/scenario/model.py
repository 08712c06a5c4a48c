"""What a scenario says, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from ddbrelay.flow.mapping.patterns import Pattern

Order = Literal["carried", "arrival", "any"]
"""How two events of one item are compared; `ordering.py` says what each word means."""
ORDERS: tuple[Order, ...] = ("carried", "arrival", "any")


def in_seconds(seconds: float) -> str:
    """A length of time as a message has it, without its unit: `30`, `0.25`, `2.9`."""
    text = f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.3f}"
    return text.rstrip("0").rstrip(".")


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in a scenario file; line and column count from 1."""

    file: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Put:
    """PutItem; numbers are int or Decimal."""

    item: Mapping[str, Any]
    word: ClassVar[Literal["put"]] = "put"


@dataclass(frozen=True, slots=True)
class Update:
    """UpdateItem of top-level attributes; `add` are numbers that are added."""

    key: Mapping[str, Any]
    set: Mapping[str, Any]
    remove: tuple[str, ...]
    add: Mapping[str, Any]
    word: ClassVar[Literal["update"]] = "update"


@dataclass(frozen=True, slots=True)
class Delete:
    """DeleteItem."""

    key: Mapping[str, Any]
    word: ClassVar[Literal["delete"]] = "delete"


@dataclass(frozen=True, slots=True)
class Command:
    """A program with its arguments, or a line for the shell; it runs in the file's folder.

    `text` is how the file has it, the same in every run.
    """

    words: tuple[str, ...] | str
    text: str
    word: ClassVar[Literal["run"]] = "run"


Action = Put | Update | Delete | Command


@dataclass(frozen=True, slots=True)
class Step:
    """One write; afterwards nothing is done for `wait` seconds. `number` counts from 1."""

    number: int
    name: str | None
    action: Action
    wait: float
    spot: Spot
    paths: Mapping[str, Spot]
    """Where the table of the action stands, and its parts: `put`, `update.key`, …"""

    @property
    def title(self) -> str:
        """The name; without one, what the step does, the same in every run."""
        if self.name is not None:
            return self.name
        if isinstance(self.action, Command):
            first, *more = self.action.text.strip().splitlines()
            return f"run {first} …" if more else f"run {first}"
        return f"{self.action.word} (step {self.number})"


@dataclass(frozen=True, slots=True)
class Expect:
    """An event that must come: `times` distinct ones, None for at least one.

    With `times`, `watch` is for how many seconds after everything came no further one may follow.
    """

    name: str
    pattern: Pattern
    times: int | None
    watch: float
    spot: Spot

    @property
    def title(self) -> str:
        """As it is called beside those that must never come."""
        return self.name

    @property
    def needed(self) -> int:
        """So many distinct events meet it."""
        return self.times or 1


@dataclass(frozen=True, slots=True)
class Never:
    """An event that must not come, until `watch` seconds after everything expected came."""

    name: str
    pattern: Pattern
    watch: float
    spot: Spot

    @property
    def title(self) -> str:
        """As it is called beside those that must come."""
        return f"never {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One file; `run` is what stood in for `{run}`, `timeout` is in seconds."""

    file: Path
    name: str
    run: str
    timeout: float
    relay: bool
    order: Order
    steps: tuple[Step, ...]
    expects: tuple[Expect, ...]
    nevers: tuple[Never, ...]

    @property
    def watch(self) -> float:
        """Seconds for which events are looked at after everything expected came."""
        watches = [one.watch for one in self.expects] + [one.watch for one in self.nevers]
        return max(watches, default=0.0)

    @property
    def needs_table(self) -> bool:
        """Whether a step writes an item."""
        return any(not isinstance(step.action, Command) for step in self.steps)
