"""The text of a scenario file as TOML, with what Python's parser cannot say turned into a place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, DecimalException
from pathlib import Path
from typing import Any

from ddbrelay.config_file import no_toml
from ddbrelay.errors import ConfigError
from ddbrelay.flow.mapping.matchers import shown
from ddbrelay.toml_places import Places

_LEVELS = 100
"""Far more than an item or a pattern may have, and few enough to be walked by recursion."""
_DIGITS = 1000
_MANY_DIGITS = re.compile(r"(?<![\w.])[+-]?[0-9][0-9_]{999,}")
_LARGE_EXPONENT = re.compile(r"(?<![\w.])[+-]?[0-9][0-9_]*(?:\.[0-9_]+)?[eE][+-]?[0-9_]{9,}")
_BITS = 3400
"""What an integer of so many digits needs, and one that is not decimal may not exceed."""
_MARK = "\N{ZERO WIDTH NO-BREAK SPACE}"

Where = tuple[str | int, ...]


def read(file: Path) -> tuple[dict[str, Any], Places]:
    """The document, with fractions as Decimal, and where its keys stand.

    ConfigError for what cannot be read, and for TOML that is none or holds what nobody can use.
    """
    try:
        text = _decoded(file, file.read_bytes())
        document = tomllib.loads(text, parse_float=Decimal)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    except tomllib.TOMLDecodeError as error:
        raise no_toml(file, text, str(error)) from None
    except RecursionError:
        raise _too_deep(file, "1:1") from None
    except DecimalException:
        place = _place_of(_LARGE_EXPONENT, text)
        raise ConfigError(f"{file}:{place}: a number that is too large to be read") from None
    except ValueError:
        raise _too_long(file, _place_of(_MANY_DIGITS, text)) from None
    for path, value in _walk(document):
        if len(path) > _LEVELS:
            raise _too_deep(file, _first_place(text, path))
        if isinstance(value, int) and value.bit_length() > _BITS:
            raise _too_long(file, _place(Places(text), path))
    return document, Places(text)


def plain(value: Any) -> str:
    """A value as it is written in TOML or JSON, cut where it is long."""
    if isinstance(value, Decimal) and not value.is_finite():
        return "nan" if value.is_nan() else "inf" if value > 0 else "-inf"
    return value.isoformat() if isinstance(value, date) else shown(value)


def _decoded(file: Path, data: bytes) -> str:
    # Line breaks as `open` has them, which the parser and the places count.
    try:
        text = data.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise ConfigError(
            f"{file}:{line}:{column}: not UTF-8, which TOML is written in", "save it as UTF-8"
        ) from None
    if text.startswith(_MARK):
        raise ConfigError(
            f"{file}:1:1: not TOML: it begins with a byte order mark",
            "save it as UTF-8 without one",
        )
    return text


def _walk(document: dict[str, Any]) -> Iterator[tuple[Where, Any]]:
    """Every value with its path; below the levels that are allowed only the first one."""
    waiting: list[tuple[Where, Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, dict):
            waiting += [((*path, name), one) for name, one in value.items()]
        elif isinstance(value, list):
            waiting += [((*path, index), one) for index, one in enumerate(value)]


def _too_deep(file: Path, place: str) -> ConfigError:
    return ConfigError(f"{file}:{place}: nested more than {_LEVELS} levels deep")


def _too_long(file: Path, place: str) -> ConfigError:
    return ConfigError(f"{file}:{place}: a number of more than {_DIGITS:,} digits")


def _place_of(number: re.Pattern[str], text: str) -> str:
    found = number.search(text)
    at = 0 if found is None else found.start()
    return f"{text.count(chr(10), 0, at) + 1}:{at - text.rfind(chr(10), 0, at)}"


def _first_place(text: str, path: Where) -> str:
    """Of a path that may be too deep for its places to be found."""
    try:
        return _place(Places(text), path)
    except RecursionError:
        return "1:1"


def _place(places: Places, path: Where) -> str:
    while path:
        if (found := places.key(*path)) is not None:
            return f"{found.line}:{found.column}"
        path = path[:-1]
    return "1:1"
