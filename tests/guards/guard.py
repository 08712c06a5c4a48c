"""What protects a promise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """A piece of text in a file, and what stands there when the guard is gone.

    `tests` are the ones nearest to it; `row` is its number among the faults that peers have, if any.
    """

    name: str
    file: str
    there: str
    gone: str
    tests: str
    row: int | None = None
