"""What a name with dots can mean: a path, a name that has the dots, and all that lies between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def readings(parts: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The parts as the names of a path, with any of the dots between them as part of a name."""
    for count in range(1, len(parts)):
        first = ".".join(parts[:count])
        yield from ((first, *rest) for rest in readings(parts[count:]))
    yield (".".join(parts),)
