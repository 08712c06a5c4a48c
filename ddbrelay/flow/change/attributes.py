"""Attribute values as DynamoDB types them, as plain values, and with some of them hidden.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_AttributeValue.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

REDACTED = "[redacted]"
"""What stands in the place of an attribute that nobody may see."""
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?").fullmatch
_SETS = frozenset({"SS", "NS", "BS"})
# DynamoDB nests to 32 levels; who nests deeper than the interpreter can go is no DynamoDB.
_NO_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
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


class _Value(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One attribute value; of two types, which DynamoDB never writes, the first one here counts."""

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


_image_decoder = msgspec.json.Decoder(dict[str, _Value] | None)
_attributes_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def attributes_of(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, msgspec.Raw] | None:
    """The attributes of an image, each as it stands there."""
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        found: dict[str, msgspec.Raw] | None = _attributes_decoder.decode(raw)
        return found
    except _NO_JSON as error:
        raise UndecodableError(f"an image is not an object: {error}") from None


def differ(one: msgspec.Raw | None, other: msgspec.Raw | None) -> bool:
    """Whether two attribute values are not the same; None stands for none.

    A set has no order.
    """
    if one is None or other is None:
        return one is not other
    if bytes(one) == bytes(other):
        return False
    # The same value may be written in two ways.
    try:
        return bool(_ordered(decoded(one)) != _ordered(decoded(other)))
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
    except _NO_JSON as error:
        raise UndecodableError(f"no JSON: {error}") from None


def typed_image(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any] | None:
    """An image or the keys with DynamoDB's types, None where there is none.

    Raises UndecodableError for what is no image.
    """
    image = None if isinstance(raw, msgspec.UnsetType) else decoded(raw)
    if image is not None and not isinstance(image, dict):
        raise UndecodableError("an image is not an object")
    return image


def plain_image(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any] | None:
    """An image as plain values, None where there is none; UndecodableError where it is no image."""
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        image = _image_decoder.decode(raw)
        return None if image is None else _plain_values(image)
    except _NO_JSON as error:
        raise UndecodableError(f"no image of an item: {error}") from None


def _plain_values(image: dict[str, _Value]) -> dict[str, Any]:
    # This runs for every attribute of every record, and most are texts.
    plain = {}
    for name, value in image.items():
        if (text := value.S) is not None:
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
        return _plain(msgspec.convert(value, _Value))
    except msgspec.ValidationError as error:
        raise UndecodableError(f"not an attribute value: {str(value)[:80]}: {error}") from None


def _plain(value: _Value) -> Any:
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
    if (binary := value.B) is not None:
        return binary
    if value.NULL is None and value.BS is None:
        raise UndecodableError("an attribute value has no type")
    return value.BS


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


def redacted(
    raw: msgspec.Raw | msgspec.UnsetType, paths: Sequence[Sequence[str]]
) -> msgspec.Raw | msgspec.UnsetType:
    """An image with what lies at these paths replaced; nothing of an image that is unreadable."""
    try:
        image = attributes_of(raw)
        if image is None:
            return raw
        for name, *inner in paths:
            if name in image:
                value = decoded(image[name])
                image[name] = msgspec.Raw(msgspec.json.encode(_without(value, inner)))
        return msgspec.Raw(msgspec.json.encode(image))
    except UndecodableError:
        return msgspec.UNSET


def _without(value: Any, path: Sequence[str]) -> Any:
    """A typed attribute value with what lies at the path replaced."""
    if not path:
        return {"S": REDACTED}
    if not isinstance(value, dict):
        return value
    if isinstance(text := value.get("S"), str):
        return {"S": _without_in_json(text, path)}
    if isinstance(elements := value.get("L"), list):
        return {"L": [_without(element, path) for element in elements]}
    members = value.get("M")
    if not isinstance(members, dict) or path[0] not in members:
        return value
    return {"M": members | {path[0]: _without(members[path[0]], path[1:])}}


def _without_in_json(text: str, path: Sequence[str]) -> str:
    """A text with what lies at the path replaced, where it is JSON; every other digit stays."""
    found = _hidden(msgspec.Raw(text.encode("utf-8", "surrogatepass")), path)
    return text if found is None else bytes(found).decode()


def _hidden(raw: msgspec.Raw, path: Sequence[str]) -> msgspec.Raw | None:
    """The piece of JSON without what lies at the path; None where nothing does."""
    if not path:
        return msgspec.Raw(msgspec.json.encode(REDACTED))
    try:
        inside = msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (*_NO_JSON, msgspec.ValidationError):
        return None
    if isinstance(inside, list):
        hidden = [_hidden(one, path) for one in inside]
        if all(one is None for one in hidden):
            return None
        pairs = zip(inside, hidden, strict=True)
        return msgspec.Raw(msgspec.json.encode([one if new is None else new for one, new in pairs]))
    if path[0] not in inside or (new := _hidden(inside[path[0]], path[1:])) is None:
        return None
    return msgspec.Raw(msgspec.json.encode(inside | {path[0]: new}))
