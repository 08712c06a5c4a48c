"""Scenario files: TOML -> Scenario, every mistake with its line and column."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from decimal import Decimal, DecimalException
from pathlib import Path
from typing import Any, TypeVar

from ddbrelay.errors import ConfigError
from ddbrelay.flow.mapping.patterns import Pattern, PatternError, compile_pattern, impossible
from ddbrelay.scenario.model import (
    ORDERS,
    Action,
    Command,
    Delete,
    Expect,
    Never,
    Order,
    Put,
    Scenario,
    Spot,
    Step,
    Update,
)
from ddbrelay.scenario.reading import plain, read
from ddbrelay.text import nearest
from ddbrelay.toml_places import Places
from ddbrelay.values import parse_duration

T = TypeVar("T")
Where = tuple[str | int, ...]

RUN = "{run}"
NO_TIME = "nothing can come within no time at all"
_TIMEOUT, _WATCH, _WATCH_TIMES = 30.0, 2.0, 1.0
_TOP = ("name", "timeout", "relay", "order", "step", "expect", "never")
_ACTIONS = ("put", "update", "delete", "run")
_STEP = ("name", "wait", *_ACTIONS)
_UPDATE = ("key", "set", "remove", "add")
_EXPECT = ("name", "event", "times", "for")
_NEVER = ("name", "event", "for")
_ENVELOPE = (
    *("version", "id", "detail-type", "source", "account", "time", "region", "resources"),
    *("detail", "replay-name"),
)
"""https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html"""
_OR = "$or"


def load(file: Path, run: str) -> Scenario:
    """The scenario of a file, `run` in the place of each `{run}` in its steps and events.

    ConfigError for what cannot be read, for TOML that is none, for an unknown key, and for a value
    or a pattern that can never do what it is there for.
    """
    document, places = read(file)
    return _Loader(file, places, run).scenario(document)


class _Loader:
    def __init__(self, file: Path, places: Places, run: str) -> None:
        self._file, self._places, self._run = file, places, run
        self._names: Counter[tuple[str | int, str]] = Counter()

    def scenario(self, document: dict[str, Any]) -> Scenario:
        self._known(document, _TOP, ())
        steps = self._tables(document, "step")
        expects = self._tables(document, "expect")
        nevers = self._tables(document, "never")
        if not expects and not nevers:
            raise ConfigError(
                f"{self._file}: nothing is expected",
                "an [[expect]] or a [[never]] with an event",
            )
        order: Order = self._value(document, ("order",), _order, ORDERS[0])
        return Scenario(
            file=self._file,
            name=self._value(document, ("name",), _text, self._file.stem),
            run=self._run,
            timeout=self._value(document, ("timeout",), _positive, _TIMEOUT),
            relay=self._value(document, ("relay",), _flag, False),
            order=order,
            steps=tuple(self._step(one, ("step", at)) for at, one in enumerate(steps)),
            expects=tuple(self._expect(one, ("expect", at)) for at, one in enumerate(expects)),
            nevers=tuple(self._never(one, ("never", at)) for at, one in enumerate(nevers)),
        )

    # What every part shares

    def _spot(self, *path: str | int) -> Spot:
        while path:
            found = self._places.key(*path)
            if found is not None:
                return Spot(self._file, found.line, found.column)
            path = path[:-1]
        return Spot(self._file, 1, 1)

    def _wrong(self, path: Where, what: str, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{self._spot(*path)}: {what}", hint)

    def _known(self, table: Mapping[str, Any], known: Collection[str], path: Where) -> None:
        for name in table:
            if name not in known:
                hint = nearest(name, known, "known keys:")
                raise self._wrong((*path, name), f'unknown key "{name}"', hint)

    def _tables(self, document: dict[str, Any], name: str) -> list[dict[str, Any]]:
        found = document.get(name, [])
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._wrong((name,), f"{name} must be an array of tables, written [[{name}]]")
        return found

    def _value(
        self, table: Mapping[str, Any], path: Where, parse: Callable[[Any], T], default: T
    ) -> T:
        name = path[-1]
        if name not in table:
            return default
        try:
            return parse(table[str(name)])
        except ValueError as error:
            raise self._wrong(path, f"{name}: {error}") from None

    def _filled(self, value: Any) -> Any:
        """The value with this run's id for each `{run}` in its texts."""
        if isinstance(value, str):
            return value.replace(RUN, self._run)
        if isinstance(value, list):
            return [self._filled(one) for one in value]
        if isinstance(value, dict):
            return {name: self._filled(one) for name, one in value.items()}
        return value

    # Steps

    def _step(self, table: dict[str, Any], path: Where) -> Step:
        self._known(table, _STEP, path)
        given = [name for name in _ACTIONS if name in table]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise self._wrong(path, f"a step does one of {', '.join(_ACTIONS)}, not {found}")
        (word,) = given
        place = (*path, word)
        value = self._filled(table[word])
        paths = {word: self._spot(*place)}
        if isinstance(value, dict):
            paths |= {f"{word}.{name}": self._spot(*place, name) for name in value}
        return Step(
            int(path[1]) + 1,
            self._value(table, (*path, "name"), _text, None),
            self._action(word, table[word] if word == "run" else value, place),
            self._value(table, (*path, "wait"), _duration, 0.0),
            self._spot(*path),
            paths,
        )

    def _action(self, word: str, value: Any, path: Where) -> Action:
        if word == "run":
            return self._command(value, path)
        if word == "put":
            return Put(self._item(value, path))
        if word == "delete":
            return Delete(self._item(value, path))
        if not isinstance(value, dict):
            raise self._wrong(path, f"update is a table with {', '.join(_UPDATE)}")
        self._known(value, _UPDATE, path)
        if "key" not in value:
            raise self._wrong(path, "update has no key", 'key = { id = "u1" }')
        changes = [name for name in _UPDATE[1:] if value.get(name)]
        if not changes:
            raise self._wrong(path, "update changes nothing", "give it set, remove or add")
        remove = value.get("remove", [])
        if not isinstance(remove, list) or not all(isinstance(one, str) and one for one in remove):
            raise self._wrong((*path, "remove"), 'remove is a list of names: ["phone"]')
        parts = {
            name: self._item(value[name], (*path, name)) if value.get(name) else {}
            for name in ("set", "add")
        }
        for name, one in parts["add"].items():
            if isinstance(one, bool) or not isinstance(one, int | Decimal):
                raise self._wrong(
                    (*path, "add", name), f"only numbers can be added, not {plain(one)}"
                )
        names = [*parts["set"], *parts["add"], *remove]
        for name in (name for name, times in Counter(names).items() if times > 1):
            raise self._wrong(path, f'update changes "{name}" twice')
        return Update(
            self._item(value["key"], (*path, "key")), parts["set"], tuple(remove), parts["add"]
        )

    def _command(self, value: Any, path: Where) -> Command:
        words = value if isinstance(value, list) else [value]
        if not words or not all(isinstance(one, str) for one in words) or not words[0].strip():
            raise self._wrong(
                path,
                "run is a program with its arguments, or a line for the shell",
                'run = ["python", "write_user.py"]',
            )
        if any("\0" in one for one in words):
            raise self._wrong(path, "no command can have a zero character in it")
        filled = self._filled(value)
        if isinstance(value, list):
            return Command(tuple(filled), shlex.join(value))
        return Command(filled, value)

    def _item(self, value: Any, path: Where) -> Mapping[str, Any]:
        if not isinstance(value, dict) or not value:
            raise self._wrong(path, f"{path[-1]} is a table of attributes with their values")
        for name, one in value.items():
            self._attribute(one, (*path, name))
        return value

    def _attribute(self, value: Any, path: Where) -> None:
        """ConfigError for what DynamoDB has no type for, and for digits that it does not keep."""
        from boto3.dynamodb.types import DYNAMODB_CONTEXT

        if isinstance(value, dict):
            for name, one in value.items():
                self._attribute(one, (*path, name))
        elif isinstance(value, list):
            for index, one in enumerate(value):
                self._attribute(one, (*path, index))
        elif isinstance(value, int | Decimal) and not isinstance(value, bool):
            try:
                exact = DYNAMODB_CONTEXT.create_decimal(value)
            except DecimalException:
                exact = Decimal("NaN")
            if not exact.is_finite():
                raise self._wrong(
                    path, f"{plain(value)} is no number that DynamoDB keeps digit for digit"
                )
        elif not isinstance(value, str | bool):
            kind = "date with a time" if isinstance(value, datetime) else type(value).__name__
            raise self._wrong(path, f"DynamoDB has no type for a {kind}: quote it")

    # Expectations

    def _expect(self, table: dict[str, Any], path: Where) -> Expect:
        self._known(table, _EXPECT, path)
        times = self._value(table, (*path, "times"), _count, None)
        if "for" in table and times is None:
            raise self._wrong((*path, "for"), "for says how long `times` is watched: give times")
        watch = 0.0 if times is None else _WATCH_TIMES
        pattern, name = self._event(table, path)
        return Expect(
            name,
            pattern,
            times,
            self._value(table, (*path, "for"), _duration, watch),
            self._spot(*path),
        )

    def _never(self, table: dict[str, Any], path: Where) -> Never:
        self._known(table, _NEVER, path)
        pattern, name = self._event(table, path)
        watch = self._value(table, (*path, "for"), _duration, _WATCH)
        return Never(name, pattern, watch, self._spot(*path))

    def _event(self, table: dict[str, Any], path: Where) -> tuple[Pattern, str]:
        """The pattern, and the name, by default what the pattern asks of the detail type."""
        place = (*path, "event")
        if "event" not in table:
            raise self._wrong(
                path, "no event is given", 'event = { detail-type = ["UserCreated"] }'
            )
        source = self._filled(table["event"])
        try:
            pattern = compile_pattern(source)
            self._check_fields(source, place)
            if (never := impossible(pattern, {})) is not None:
                raise never
        except PatternError as error:
            raise self._wrong((*place, *error.path), str(error)) from None
        kinds = source.get("detail-type")
        plain = isinstance(kinds, list) and all(isinstance(one, str) for one in kinds)
        default = " or ".join(kinds) if plain else " ".join(map(str, path[:1]))
        name = self._value(table, (*path, "name"), _text, default)
        kind = path[0]
        self._names[kind, name] += 1
        times = self._names[kind, name]
        return pattern, name if times == 1 else f"{name} ({times})"

    def _check_fields(self, pattern: Mapping[str, Any], path: Where) -> None:
        for name, value in pattern.items():
            if name == _OR:
                for index, branch in enumerate(value):
                    self._check_fields(branch, (*path, name, index))
            elif name not in _ENVELOPE:
                hint = nearest(name, _ENVELOPE, "its fields:")
                raise self._wrong((*path, name), f'an event has no field "{name}"', hint)
            elif isinstance(value, list) is (name == "detail"):
                kind = "an object" if name == "detail" else "no object"
                raise self._wrong((*path, name), f"can never match: {name} is {kind}")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{plain(value)} is not a text of one line")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{plain(value)} is neither true nor false")
    return value


def _order(value: Any) -> Order:
    for known in ORDERS:
        if value == known:
            return known
    raise ValueError(f"{plain(value)} is none of {', '.join(ORDERS)}")


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{plain(value)} is not a whole number above zero ([[never]] means none)")
    return value


def _duration(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"{plain(value)} is not a duration such as 5, 250ms or 2m")
    try:
        return parse_duration(str(value))
    except ValueError as error:
        # It quotes the value as Python writes it.
        raise ValueError(str(error).replace(repr(str(value)), plain(value), 1)) from None


def _positive(value: Any) -> float:
    if (seconds := _duration(value)) <= 0:
        raise ValueError(NO_TIME)
    return seconds
