"""The names of the attributes that nobody may see, as paths, and which of them hide nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ddbrelay.flow.change import Change, UndecodableError, fits, values_at
from ddbrelay.flow.mapping.making import MappingError
from ddbrelay.flow.mapping.readings import readings
from ddbrelay.text import meant

Path = tuple[str, ...]
_DOCUMENT = frozenset({"new", "old", "keys", "diff"})
_MOST_PARTS = 6
"""A name of so many has 32 readings."""
_MOST_NAMES = 2000
"""Attributes among which the nearest name is looked for."""


def redaction_paths(names: object, path: tuple[str | int, ...]) -> tuple[Path, ...]:
    """Every reading of every name; MappingError, with the place below `path`.

    `address.street` is an attribute of a map, and an attribute that is itself called so. A name
    with a part in double quotes has one reading, in which that part may have dots.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise MappingError("redact must be an array of attribute names", path)
    found: list[Path] = []
    for index, name in enumerate(names):
        parts = _parts(name) if isinstance(name, str) else None
        if not parts:
            raise MappingError(f"{name!r} is not the name of an attribute", (*path, index))
        quoted = '"' in str(name)
        if len(parts) > 1 and parts[0] in _DOCUMENT and not str(name).startswith('"'):
            rest = ".".join(parts[1:])
            raise MappingError(
                f"{name!r}: redact names attributes, of both images",
                (*path, index),
                hint=f'"{rest}"; an attribute that is itself called {parts[0]} stands in quotes',
            )
        if len(parts) > _MOST_PARTS and not quoted:
            raise MappingError(
                f"{name!r} has too many readings: each dot may be part of a name",
                (*path, index),
                hint="double quotes around each name: " + ".".join(f'"{part}"' for part in parts),
            )
        found += [parts] if quoted else readings(parts)
    return tuple(found)


def hides_key(path: Path, key: str) -> bool:
    """Whether a path asks for an attribute by name that cannot be hidden.

    A step that is nothing but `*` asks for all others.
    """
    return path[0].strip("*") != "" and fits(path[0], key)


def _parts(name: str) -> tuple[str, ...] | None:
    parts: list[str] = []
    rest = name
    while True:
        if rest.startswith('"'):
            part, quote, rest = rest[1:].partition('"')
            if not quote or (rest and not rest.startswith(".")):
                return None
            dot, rest = rest[:1], rest[1:]
        else:
            part, dot, rest = rest.partition(".")
            if "[" in part:
                return None
        if not part:
            return None
        parts.append(part)
        if not dot:
            return tuple(parts)


class Sightings:
    """Which names of `redact` are of an attribute that some change has.

    A misspelt name hides nothing, and nobody would notice.
    """

    def __init__(self, names: Iterable[str]) -> None:
        """MappingError for what is no name."""
        self._unseen = {name: redaction_paths((name,), ("redact",)) for name in names}
        self._names: dict[str, None] = {}
        self._changes = 0

    def see(self, change: Change) -> None:
        """Look at a change; it must not be redacted yet."""
        self._changes += 1
        if not self._unseen:
            return
        for side in ("new", "old"):
            try:
                image = getattr(change, side)
            except UndecodableError:
                continue
            if image is None:
                continue
            for name in [name for name, paths in self._unseen.items() if _has(image, paths)]:
                del self._unseen[name]
            if self._unseen and len(self._names) < _MOST_NAMES:
                self._names |= dict.fromkeys(_names_in(image, ""))

    def complaints(self) -> list[str]:
        """A line for each name that no change has; none where there was no change to look at."""
        return [self._complaint(name) for name in self._unseen] if self._changes else []

    def _complaint(self, name: str) -> str:
        close = None if "*" in name else meant(name, self._names)
        hint = "" if close is None else f"; {close}"
        return f'redact: no change has "{name}"{hint}'


def _has(image: dict[str, Any], paths: Iterable[Path]) -> bool:
    return any(True for path in paths for _ in values_at(image, path))


def _names_in(value: Any, before: str) -> Iterator[str]:
    if isinstance(value, list):
        for one in value:
            yield from _names_in(one, before)
    elif isinstance(value, dict):
        for name, one in value.items():
            yield before + name
            yield from _names_in(one, f"{before}{name}.")
