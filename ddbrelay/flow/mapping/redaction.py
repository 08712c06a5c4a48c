"""The names of the attributes that nobody may see, as paths."""

from __future__ import annotations

from collections.abc import Sequence

from ddbrelay.flow.mapping.making import MappingError

_DOCUMENT = frozenset({"new", "old", "keys", "diff"})


def redaction_paths(names: object, path: tuple[str | int, ...]) -> tuple[tuple[str, ...], ...]:
    """`address.street` as its parts; a part with a dot in it stands in double quotes."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise MappingError("redact must be an array of attribute names", path)
    found = []
    for index, name in enumerate(names):
        parts = _parts(name) if isinstance(name, str) else None
        if not parts:
            raise MappingError(f"{name!r} is not the name of an attribute", (*path, index))
        if len(parts) > 1 and parts[0] in _DOCUMENT and not str(name).startswith('"'):
            rest = ".".join(parts[1:])
            raise MappingError(
                f"{name!r}: redact names attributes, of both images",
                (*path, index),
                hint=f'"{rest}"; an attribute that is itself called {parts[0]} stands in quotes',
            )
        found.append(parts)
    return tuple(found)


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
