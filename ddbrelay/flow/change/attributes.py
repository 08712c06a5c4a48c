"""Attribute values as DynamoDB types them, and as plain values.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?").fullmatch
_SETS = frozenset({"SS", "NS", "BS"})
# DynamoDB nests to 32 levels; who nests deeper than the interpreter can go is no DynamoDB.
NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_raw = msgspec.Raw
_INT64 = range(-(2**63), 2**63)
_MOST_DIGITS = 20
"""With more characters an integer has more than 64 bits."""


class UndecodableError(ValueError):
    """An attribute value that is none of DynamoDB's ten types, or no JSON at all."""


class Digits(Decimal):
    """A number that keeps the text it was written as; what is computed from it is a Decimal."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Digits:
        made = super().__new__(cls, text)
        made.text = text
        return made


class _SeveralTypesError(Exception):
    """An attribute value is not simply one type and its value."""


class _Value(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One attribute value, with one type set where DynamoDB wrote it."""

    S: str | None = None
    N: str | None = None
    BOOL: bool | None = None
    M: dict[str, _Value] | None = None
    L: list[_Value] | None = None
    SS: list[str] | None = None
    NS: list[str] | None = None
    B: str | None = None
    BS: list[str] | None = None
    NULL: bool | None = None


_astuple = msgspec.structs.astuple
_UNSET = len(_Value.__struct_fields__) - 1
"""How many types are None beside the one that is set."""
_image_decoder = msgspec.json.Decoder(dict[str, _Value] | None)
_attributes_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def attributes_of(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, msgspec.Raw] | None:
    """The attributes of an image, each as it stands there."""
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        found: dict[str, msgspec.Raw] | None = _attributes_decoder.decode(raw)
        return found
    except NO_JSON as error:
        raise UndecodableError(f"an image is not an object: {error}") from None


def differ(name: str, one: msgspec.Raw | None, other: msgspec.Raw | None) -> bool:
    """Whether two values of an attribute are not the same; None stands for none.

    A set has no order. UndecodableError where a value cannot be told.
    """
    if one is None or other is None:
        return one is not other
    if bytes(one) == bytes(other):
        return False
    # The same value may be written in two ways.
    try:
        return bool(_ordered(typed_value(one, name)) != _ordered(typed_value(other, name)))
    except RecursionError as error:
        raise UndecodableError(f"no attribute value: {error}") from None


def _ordered(value: Any) -> Any:
    """A typed attribute value with its sets, however deep, in one order."""
    if not isinstance(value, dict) or len(value) != 1:
        return value
    ((kind, inside),) = value.items()
    if kind in _SETS and isinstance(inside, list) and all(isinstance(one, str) for one in inside):
        return {kind: sorted(inside)}
    if kind == "L" and isinstance(inside, list):
        return {kind: [_ordered(one) for one in inside]}
    if kind == "M" and isinstance(inside, dict):
        return {kind: {name: _ordered(one) for name, one in inside.items()}}
    return value


def decoded(raw: msgspec.Raw) -> Any:
    """A piece of JSON as Python has it; UndecodableError where it is none."""
    try:
        return msgspec.json.decode(raw)
    except NO_JSON as error:
        raise UndecodableError(f"no JSON: {error}") from None


def typed_value(raw: msgspec.Raw, name: str) -> Any:
    """The value of the attribute `name` with its types; UndecodableError where it has several."""
    value = decoded(raw)
    return value if _is_simple(value) else one_type(value, name)


def typed_image(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any] | None:
    """An image or the keys with DynamoDB's types, None where there is none.

    Raises UndecodableError for what is no image.
    """
    image = None if isinstance(raw, msgspec.UnsetType) else decoded(raw)
    if image is not None and not isinstance(image, dict):
        raise UndecodableError("an image is not an object")
    if image is None:
        return None
    try:
        return {
            name: value if _is_simple(value) else one_type(value, name)
            for name, value in image.items()
        }
    except RecursionError as error:
        raise UndecodableError(f"no image of an item: {error}") from None


def plain_image(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any] | None:
    """An image as plain values, None where there is none; UndecodableError where it is no image."""
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        image = _image_decoder.decode(raw)
        return None if image is None else _plain_values(image)
    except _SeveralTypesError:
        return {name: plain(value) for name, value in (typed_image(raw) or {}).items()}
    except NO_JSON as error:
        raise UndecodableError(f"no image of an item: {error}") from None


def _plain_values(image: dict[str, _Value]) -> dict[str, Any]:
    # This runs for every attribute of every record, and most are texts.
    plain = {}
    for name, value in image.items():
        if (text := value.S) is not None and (
            value.N is None
            and value.M is None
            and value.L is None
            and value.BOOL is None
            and value.NULL is None
            and value.B is None
            and value.SS is None
            and value.NS is None
            and value.BS is None
        ):
            plain[name] = text
        else:
            plain[name] = _plain(value)
    return plain


def plain(value: Any) -> Any:
    """One decoded attribute value as what `msgspec.json.encode` writes for it.

    Numbers keep every digit, binary stays base64 text, sets become arrays. Raises
    UndecodableError for anything that is not an attribute value.
    """
    try:
        return _plain(msgspec.convert(one_type(value, "an attribute value"), _Value))
    except msgspec.ValidationError as error:
        raise UndecodableError(f"not an attribute value: {str(value)[:80]}: {error}") from None


def _plain(value: _Value) -> Any:
    """The value of whichever type is set; _SeveralTypesError where it is not exactly one."""
    if _astuple(value).count(None) != _UNSET:
        raise _SeveralTypesError
    if (text := value.S) is not None:
        return text
    if (number := value.N) is not None:
        return _number(number)
    if (flag := value.BOOL) is not None:
        return flag
    if (members := value.M) is not None:
        return _plain_values(members)
    if (elements := value.L) is not None:
        return [_plain(element) for element in elements]
    if (texts := value.SS) is not None:
        return texts
    if (numbers := value.NS) is not None:
        return [_number(number) for number in numbers]
    return value.BS if value.B is None else value.B


def _is_simple(value: Any) -> bool:
    """Whether a typed value is of one type, and so is what it holds."""
    if not isinstance(value, dict) or len(value) != 1:
        return False
    ((kind, inside),) = value.items()
    if kind == "M" and isinstance(inside, dict):
        return all(map(_is_simple, inside.values()))
    return kind != "L" or not isinstance(inside, list) or all(map(_is_simple, inside))


def one_type(value: Any, path: str) -> Any:
    """A typed value, whatever it holds included, without the types that are not in use.

    Raises UndecodableError, which names the path, as `sole_type` does.
    """
    kind, inside = sole_type(value, path)
    if kind == "M" and isinstance(inside, dict):
        return {kind: {name: one_type(one, f"{path}.{name}") for name, one in inside.items()}}
    if kind == "L" and isinstance(inside, list):
        return {kind: [one_type(one, f"{path}[{at}]") for at, one in enumerate(inside)]}
    return {kind: inside}


def sole_type(value: Any, path: str) -> tuple[str, Any]:
    """The type of a typed value that is in use, and what it holds.

    Some SDKs write every type and leave those that are not in use null or empty. Raises
    UndecodableError where several types are set, and where it cannot be told which one is.
    """
    if not isinstance(value, dict):
        raise UndecodableError(f"{path} has no type")
    given = {kind: inside for kind, inside in value.items() if inside is not None}
    if len(given) > 1 and not (given := {kind: inside for kind, inside in given.items() if inside}):
        raise UndecodableError(f"{path} has several types, all of them empty")
    if len(given) != 1:
        kinds = ", ".join(sorted(given))
        raise UndecodableError(f"{path} has {f'several types, {kinds}' if kinds else 'no type'}")
    ((kind, inside),) = given.items()
    return kind, inside


def _number(text: str) -> int | Decimal | msgspec.Raw:
    """A number digit for digit; JSON has an integer beyond 64 bits, a Decimal here, as text.

    PutEvents refuses it as a number.
    """
    if text.isdigit() and len(text) < 19 and text.isascii() and (text[0] != "0" or text == "0"):
        return int(text)
    whole, point, places = text.partition(".")
    fraction = point and places.isdigit() and whole.isdigit() and text.isascii()
    if not (fraction and (whole[0] != "0" or whole == "0")):
        match = _JSON_NUMBER(text)
        if match is None:
            return _normalised(text)
        if match.lastindex is None:
            if len(text) > _MOST_DIGITS:
                return Decimal(text)
            integer = int(text)
            return integer if integer in _INT64 and str(integer) == text else Decimal(text)
    return _raw(text.encode())


def _normalised(text: str) -> int | Decimal | msgspec.Raw:
    """AWS gives numbers in JSON's grammar; an emulator may echo what the writer typed (`+1`)."""
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise UndecodableError("not a number") from None
    if not exact.is_finite():
        raise UndecodableError("not a number, or not a finite one")
    return _number(str(exact))
