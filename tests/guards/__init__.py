"""Every guard whose removal some test must notice."""

from guards.delivering import DELIVERING
from guards.guard import Guard
from guards.reading import READING

GUARDS = [*READING, *DELIVERING]

__all__ = ["GUARDS", "Guard"]
