"""Items as DynamoDB stores them: checked, numbers and sets in one form, keys taken out.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html and
the pages on data types, limits and item sizes of the developer guide. What is wrong is an ApiError
with the code ValidationException.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal
from typing import Any

import msgspec

from ddbrelay.testing.faults import ApiError

MAX_BYTES = 400 * 1024
_DEPTH = 32
_DIGITS = 38
_EXPONENTS = range(-130, 126)
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_EXACT = Context(prec=1000)
_SETS = {"SS": "S", "NS": "N", "BS": "B"}


def invalid(message: str) -> ApiError:
    """A ValidationException."""
    return ApiError("ValidationException", message)


def normalised(item: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The item in the one form in which equal items are equal, and its size in bytes."""
    attributes, size = _map(item, 0)
    if size > MAX_BYTES:
        raise invalid("Item size has exceeded the maximum allowed size")
    return attributes, size


def keys_of(item: Mapping[str, Any], schema: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The key attributes of an item in normal form; `schema` has a name and a type for each."""
    keys = {}
    for name, kind in schema:
        if name not in item:
            raise invalid(f"Missing the key {name} in the item")
        if kind not in item[name]:
            raise invalid(f"Type mismatch for key {name} expected: {kind}")
        if not item[name][kind]:
            raise invalid(f"The key {name} must not be empty")
        keys[name] = item[name]
    return keys


def encoded(item: Mapping[str, Any]) -> bytes:
    """An item in normal form as JSON; equal items give equal bytes."""
    return msgspec.json.encode(item)


def _map(value: Any, depth: int) -> tuple[dict[str, Any], int]:
    if not isinstance(value, Mapping):
        raise invalid("a map of attribute values was expected")
    found, size = {}, 0
    for name in sorted(value):
        found[name], bytes_of_it = _attribute(value[name], depth)
        size += len(name.encode()) + bytes_of_it
    return found, size


def _attribute(value: Any, depth: int) -> tuple[dict[str, Any], int]:
    if not isinstance(value, Mapping) or len(value) != 1:
        raise invalid("Supplied AttributeValue must contain exactly one of the supported datatypes")
    if depth > _DEPTH:
        raise invalid("Nesting Levels have exceeded supported limits")
    ((kind, inner),) = value.items()
    if kind == "M":
        found, size = _map(inner, depth + 1)
        return {"M": found}, size + 3 + len(found)
    if kind == "L" and isinstance(inner, list):
        members = [_attribute(member, depth + 1) for member in inner]
        return {"L": [one for one, _ in members]}, sum(size + 1 for _, size in members) + 3
    if kind in _SETS and isinstance(inner, list):
        scalars = dict(_scalar(_SETS[kind], member) for member in inner)
        if not inner or len(scalars) < len(inner):
            raise invalid(f"An {kind} must not be empty, and its members must differ")
        return {kind: sorted(scalars)}, sum(scalars.values())
    if kind == "BOOL" and isinstance(inner, bool):
        return {"BOOL": inner}, 1
    if kind == "NULL" and inner is True:
        return {"NULL": True}, 1
    if kind in _SETS.values():
        scalar, size = _scalar(kind, inner)
        return {kind: scalar}, size
    raise invalid(f"{str(value)[:80]} is not an attribute value")


def _scalar(kind: str, value: Any) -> tuple[str, int]:
    if not isinstance(value, str):
        raise invalid(f"a value of type {kind} must be text, not {value!r}")
    if kind == "S":
        return value, len(value.encode())
    if kind == "N":
        number = _number(value)
        return number, len(number) // 2 + 2
    try:
        return value, len(base64.b64decode(value, validate=True))
    except binascii.Error:
        raise invalid("binary must be base64") from None


def _number(text: str) -> str:
    if not _NUMBER.fullmatch(text):
        raise invalid(f"The parameter cannot be converted to a numeric value: {text[:80]}")
    number = _EXACT.normalize(Decimal(text))
    if not number:
        return "0"
    if len(number.as_tuple().digits) > _DIGITS:
        raise invalid(f"Attempting to store more than {_DIGITS} significant digits in a Number")
    if number.adjusted() not in _EXPONENTS:
        raise invalid(f"Number out of range: {text[:80]}")
    return format(number, "f")
