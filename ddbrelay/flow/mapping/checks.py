"""What can be known of the patterns of rules before there is a change: which can never match."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ddbrelay.flow.mapping.document import CHEAP, EVENT_NAMES, FIELDS, ID, TYPED_PARTS, TYPED_TOP
from ddbrelay.flow.mapping.making import MappingError
from ddbrelay.flow.mapping.nearest import nearest
from ddbrelay.flow.mapping.patterns import Pattern, PatternError, compile_pattern, impossible

Path = tuple[str | int, ...]
_OR = "$or"
_IMAGES = {"new": ("INSERT", "MODIFY"), "old": ("MODIFY", "REMOVE")}
"""Which changes have which image."""
_OBJECTS = frozenset({"keys", "new", "old", "diff"})
_SIDES = frozenset({"before", "after"})
_TYPES = frozenset({"S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"})
_TYPED_IMAGES = frozenset({"Keys", "NewImage", "OldImage"})
_ABSENT = {"exists": False}


def pattern_of(when: Mapping[str, Any], path: Path) -> tuple[Pattern, bool]:
    """The compiled pattern, and whether it is in the form of Lambda's filters.

    MappingError for what is no pattern, and for one that can never match, at its place.
    """
    lambda_form = "dynamodb" in when
    try:
        pattern = compile_pattern(when, first=CHEAP)
        for branch, place in _branches(when, path):
            if lambda_form:
                _check_typed(branch, place)
            else:
                _check_plain(branch, place)
        values: dict[str, Sequence[Any]] = {"eventName": EVENT_NAMES}
        if lambda_form:
            values["eventSource"] = ["aws:dynamodb"]
        else:
            values["ttl"] = [True, False]
        if (never := impossible(pattern, values)) is not None:
            raise never
    except PatternError as error:
        raise MappingError(str(error), (*path, *error.path)) from None
    if not lambda_form:
        _check_together(when, path)
    return pattern, lambda_form


def _branches(when: Mapping[str, Any], path: Path) -> Iterable[tuple[Mapping[str, Any], Path]]:
    """The pattern and every branch of it that speaks of the same fields."""
    yield when, path
    either = when.get(_OR)
    for index, branch in enumerate(either if isinstance(either, list) else ()):
        if isinstance(branch, Mapping):
            yield from _branches(branch, (*path, _OR, index))


def _known(name: str, known: Iterable[str], path: Path, what: str) -> None:
    if name == _OR or name in (known := frozenset(known)):
        return
    hint = nearest(name, known, "known:")
    raise MappingError(f'{what} has no field "{name}"', (*path, name), hint=hint)


def _check_plain(when: Mapping[str, Any], path: Path) -> None:
    for name, value in when.items():
        _known(name, FIELDS - {ID}, path, "a change")
        place = (*path, name)
        if name in _OBJECTS and isinstance(value, list):
            # EventBridge's `exists` asks for values, and takes an object for none.
            raise MappingError(
                f"{name} is an object, and a pattern must name its attributes",
                place,
                hint="eventName tells which images there are",
            )
        if name not in _OBJECTS and name != _OR and isinstance(value, Mapping):
            kind = "an array of names" if name == "changed" else "no object"
            raise MappingError(f"can never match: {name} is {kind}", place)
        if name == "diff" and isinstance(value, Mapping):
            for attribute, sides in value.items():
                for side in sides if isinstance(sides, Mapping) else ():
                    _known(side, _SIDES, (*place, attribute), "a difference")


def _check_typed(when: Mapping[str, Any], path: Path) -> None:
    for name, value in when.items():
        _known(name, TYPED_TOP, path, "a record")
        if name != "dynamodb" or not isinstance(value, Mapping):
            continue
        for part, image in value.items():
            _known(part, TYPED_PARTS, (*path, name), 'the "dynamodb" of a record')
            if part in _TYPED_IMAGES and isinstance(image, Mapping):
                _check_attributes(image, (*path, name, part))


def _check_attributes(attributes: Mapping[str, Any], path: Path) -> None:
    for attribute, typed in attributes.items():
        if attribute == _OR:
            continue
        if not isinstance(typed, Mapping):
            raise MappingError(
                f"can never match: {attribute} has a type in this form",
                (*path, attribute),
                hint='such as {S = ["text"]}',
            )
        for kind, value in typed.items():
            place = (*path, attribute)
            _known(kind, _TYPES, place, "an attribute value")
            if kind == "N" and isinstance(value, list) and all(map(_is_number, value)):
                raise MappingError(
                    "can never match: in this form a number is a text", (*place, kind), hint='"5"'
                )
            if kind == "M" and isinstance(value, Mapping):
                _check_attributes(value, (*place, kind))


def _is_number(one: object) -> bool:
    if isinstance(one, Mapping):
        return "numeric" in one
    return isinstance(one, int | float) and not isinstance(one, bool)


def _check_together(when: Mapping[str, Any], path: Path) -> None:
    """Which changes have which image, and that Time to Live only removes."""
    names = _names(when.get("eventName"))
    if when.get("ttl") == [True]:
        if names is not None and "REMOVE" not in names:
            raise MappingError("can never match: Time to Live only makes REMOVE", (*path, "ttl"))
        names = frozenset({"REMOVE"})
    for image, having in _IMAGES.items():
        if image in when and needs(when[image]):
            if names is not None and not names & set(having):
                said = " or ".join(sorted(names))
                raise MappingError(f"can never match: {said} has no {image} image", (*path, image))
            names = frozenset(having) if names is None else names & set(having)


def _names(asked: object) -> frozenset[str] | None:
    """The event names of which one is asked for, where they are named."""
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        return None
    return frozenset(asked)


def needs(pattern: object) -> bool:
    """Whether something must be there for the pattern to match."""
    if isinstance(pattern, Mapping):
        return any(needs(one) for key, one in pattern.items() if key != _OR)
    if not isinstance(pattern, list):
        return True
    return _ABSENT not in pattern
