"""What can be known of the patterns of rules before there is a change: which can never match."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ddbrelay.flow.mapping.document import CHEAP, EVENT_NAMES, FIELDS, ID, TYPED_PARTS, TYPED_TOP
from ddbrelay.flow.mapping.making import MappingError
from ddbrelay.flow.mapping.patterns import Pattern, PatternError, compile_pattern, impossible
from ddbrelay.text import nearest

Path = tuple[str | int, ...]
_OR = "$or"
_IMAGES = {"new": ("INSERT", "MODIFY"), "old": ("MODIFY", "REMOVE")}
"""Which changes have which image."""
_OBJECTS = frozenset({"keys", "new", "old", "diff"})
_SIDES = frozenset({"before", "after"})
_TYPES = frozenset({"S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"})
_TYPED_IMAGES = frozenset({"Keys", "NewImage", "OldImage"})
_ABSENT = {"exists": False}
_TYPED_ONLY = frozenset(TYPED_TOP) - FIELDS
"""Fields that only a record in Lambda's form has."""
_ALWAYS = frozenset({"eventID", "sequenceNumber", "streamArn", "table", "eventSourceARN"})
"""Fields that every change has, with a text."""
_TEXT, _NUMBER, _FLAG, _NULL = "a text", "a number", "true or false", "null"
_ANY = frozenset({_TEXT, _NUMBER, _FLAG, _NULL})
_TEXTS = frozenset(
    {"changed", "eventID", "sequenceNumber", "shardId", "streamArn", "table", "time"}
)
"""Fields of a change that have texts or nothing."""
_VALUES = dict.fromkeys(("S", "N", "B", "SS", "NS", "BS"), _TEXT) | {"BOOL": _FLAG}
"""What DynamoDB's types have as values; a number is a text too."""


def pattern_of(when: Mapping[str, Any], path: Path) -> tuple[Pattern, bool]:
    """The compiled pattern, and whether it is in the form of Lambda's filters.

    MappingError for what is no pattern, and for one that can never match, at its place.
    """
    lambda_form = _is_typed(when)
    try:
        pattern = compile_pattern(when, first=CHEAP)
        _conditions(when, path)
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
    _check_together(when, path, lambda_form=lambda_form)
    return pattern, lambda_form


def named(when: Mapping[str, Any], *, lambda_form: bool) -> dict[str, Any]:
    """The same pattern with no event names but those whose changes can match it."""
    if "eventName" in when and _names(when["eventName"]) is None:
        return dict(when)
    names = _possible(when, (), frozenset(EVENT_NAMES), lambda_form=lambda_form)
    return {**when, "eventName": sorted(names)}


_Asked = list[tuple[Path, Any]]
"""What is asked of a field, each list with its place."""


def _conditions(when: Mapping[str, Any], path: Path, before: str = "") -> dict[str, _Asked]:
    """What is asked of each field, by the names that lead to it with dots between them.

    MappingError where a field is asked for in two ways that must both hold: EventBridge's own
    matcher takes a value that fulfils either.
    """
    found: dict[str, _Asked] = {}
    for name, value in when.items():
        place = (*path, name)
        inner: dict[str, _Asked] = {}
        if name == _OR and isinstance(value, list):
            for index, branch in enumerate(value):
                for field, asked in _conditions(branch, (*place, index), before).items():
                    inner.setdefault(field, []).extend(asked)
        elif isinstance(value, Mapping):
            inner = _conditions(value, place, f"{before}{name}.")
        else:
            inner[f"{before}{name}"] = [(place, value)]
        for field, asked in inner.items():
            known = [values for _, values in found.get(field, ())]
            for where, values in asked:
                if any(values != one for one in known):
                    raise MappingError(
                        f"{field} is asked for twice, and EventBridge takes what fulfils either",
                        where,
                        hint="one list, or one in each branch of $or and none beside it",
                    )
            found.setdefault(field, []).extend(asked)
    return found


def _is_typed(when: Mapping[str, Any]) -> bool:
    """Whether some field, also of a branch, is one that only Lambda's form has."""
    return any(not _TYPED_ONLY.isdisjoint(branch) for branch, _ in _branches(when, ()))


def _branches(when: Mapping[str, Any], path: Path) -> Iterable[tuple[Mapping[str, Any], Path]]:
    """The pattern and every branch of it that speaks of the same fields."""
    yield when, path
    either = when.get(_OR)
    for index, branch in enumerate(either if isinstance(either, list) else ()):
        if isinstance(branch, Mapping):
            yield from _branches(branch, (*path, _OR, index))


def _check_present(name: str, value: object, path: Path) -> None:
    if name in _ALWAYS and value == [_ABSENT]:
        raise MappingError(f"can never match: every change has {name}", path)


def _known(name: str, known: Iterable[str], path: Path, what: str) -> None:
    if name == _OR or name in (known := frozenset(known)):
        return
    first, dot, rest = name.partition(".")
    hint = nearest(name, known, "known:")
    if dot and first in known:
        hint = f"{first} = {{ {rest} = […] }}"
    raise MappingError(f'{what} has no field "{name}"', (*path, name), hint=hint)


def _check_plain(when: Mapping[str, Any], path: Path) -> None:
    for name, value in when.items():
        _known(name, FIELDS - {ID}, path, "a change")
        place = (*path, name)
        _check_present(name, value, place)
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
        if name in _TEXTS and not _may_be(value, {_TEXT}):
            kind = "an array of names" if name == "changed" else _TEXT
            raise MappingError(f"can never match: {name} is {kind}", place)
        if name == "keys" and isinstance(value, Mapping):
            for attribute, wanted in value.items():
                if not _may_be(wanted, {_TEXT, _NUMBER}):
                    raise MappingError(
                        "can never match: a key attribute is a text or a number",
                        (*place, attribute),
                    )
        if name == "diff" and isinstance(value, Mapping):
            for attribute, sides in value.items():
                for side in sides if isinstance(sides, Mapping) else ():
                    _known(side, _SIDES, (*place, attribute), "a difference")


def _check_typed(when: Mapping[str, Any], path: Path) -> None:
    for name, value in when.items():
        _known(name, TYPED_TOP, path, "a record")
        _check_present(name, value, (*path, name))
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
            if kind in _VALUES and not _may_be(value, {_VALUES[kind]}):
                raise MappingError(f"can never match: {kind} is {_VALUES[kind]}", (*place, kind))
            if kind == "M" and isinstance(value, Mapping):
                _check_attributes(value, (*place, kind))


def _is_number(one: object) -> bool:
    if isinstance(one, Mapping):
        return "numeric" in one
    return isinstance(one, int | float) and not isinstance(one, bool)


def _may_be(wanted: object, kinds: Collection[str]) -> bool:
    """Whether a list of alternatives can want a value of these kinds, or none at all."""
    return not isinstance(wanted, list) or any(not _asked(one).isdisjoint(kinds) for one in wanted)


def _asked(one: object) -> frozenset[str]:
    """The kinds of values among which one alternative may find what it wants."""
    if isinstance(one, Mapping):
        if not one.keys().isdisjoint({"exists", "anything-but"}):
            return _ANY
        return frozenset({_NUMBER if "numeric" in one else _TEXT})
    if one is None or isinstance(one, bool):
        return frozenset({_NULL if one is None else _FLAG})
    return frozenset({_TEXT if isinstance(one, str) else _NUMBER})


def _check_together(when: Mapping[str, Any], path: Path, *, lambda_form: bool) -> None:
    """Which changes have which image, and that Time to Live only removes."""
    _possible(when, path, frozenset(EVENT_NAMES), lambda_form=lambda_form)


def _possible(
    when: Mapping[str, Any], path: Path, names: frozenset[str], *, lambda_form: bool
) -> frozenset[str]:
    """Those of these event names whose changes can match; MappingError where it is none."""
    if (asked := _names(when.get("eventName"))) is not None:
        if not asked & names:
            raise _none(names, "is never " + " or ".join(sorted(asked)), (*path, "eventName"))
        names &= asked
    if when.get("ttl") == [True]:
        if "REMOVE" not in names:
            raise MappingError("can never match: Time to Live only makes REMOVE", (*path, "ttl"))
        names = frozenset({"REMOVE"})
    for image, place in _wanted_images(when, lambda_form=lambda_form):
        if not names & set(_IMAGES[image]):
            raise _none(names, f"has no {image} image", (*path, *place))
        names &= set(_IMAGES[image])
    either = when.get(_OR)
    if not isinstance(either, list):
        return names
    found: set[str] = set()
    mistakes: list[MappingError] = []
    for index, branch in enumerate(either):
        try:
            found |= _possible(branch, (*path, _OR, index), names, lambda_form=lambda_form)
        except MappingError as error:
            mistakes.append(error)
    if not found:
        raise mistakes[0]
    return frozenset(found)


def _none(names: Iterable[str], why: str, path: Path) -> MappingError:
    return MappingError(f"can never match: {' or '.join(sorted(names))} {why}", path)


def _wanted_images(when: Mapping[str, Any], *, lambda_form: bool) -> Iterator[tuple[str, Path]]:
    """The images without which the pattern cannot match, each with the place that asks for it."""
    if lambda_form:
        record = when.get("dynamodb")
        for part, image in (("NewImage", "new"), ("OldImage", "old")):
            if isinstance(record, Mapping) and part in record and needs(record[part]):
                yield image, ("dynamodb", part)
        return
    for image in _IMAGES:
        if image in when and needs(when[image]):
            yield image, (image,)
    diff = when.get("diff")
    for attribute, sides in diff.items() if isinstance(diff, Mapping) else ():
        for side, image in (("before", "old"), ("after", "new")):
            if isinstance(sides, Mapping) and side in sides and needs(sides[side]):
                yield image, ("diff", attribute, side)


def _names(asked: object) -> frozenset[str] | None:
    """The event names of which one is asked for, where they are named."""
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        return None
    return frozenset(asked)


def needs(pattern: object) -> bool:
    """Whether something must be there for the pattern to match."""
    if isinstance(pattern, Mapping):
        return any(
            all(map(needs, one)) if key == _OR else needs(one) for key, one in pattern.items()
        )
    if not isinstance(pattern, list):
        return True
    return _ABSENT not in pattern
