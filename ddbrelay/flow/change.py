"""A raw stream record as a change: what happened to which item, with its images as plain JSON.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html and
API_AttributeValue.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cached_property
from typing import Any

import msgspec

from ddbrelay.flow.capture import Page, Record

TTL_PRINCIPAL = "dynamodb.amazonaws.com"
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_FORMS: dict[str, Any] = {
    "S": str,
    "N": str,
    "B": str,
    "BOOL": bool,
    "M": dict,
    "L": list,
    "SS": list,
    "NS": list,
    "BS": list,
}
_INT64 = range(-(2**63), 2**63)


class UndecodableError(ValueError):
    """An attribute value that is none of DynamoDB's ten types, or no JSON at all."""


class _GetRecordsOutput(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records", default=())
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class _LambdaEvent(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records", default=())


_get_records_decoder = msgspec.json.Decoder(_GetRecordsOutput)
_lambda_decoder = msgspec.json.Decoder(_LambdaEvent)


def decode_page(body: bytes) -> Page:
    """The answer of GetRecords as a page; images stay undecoded.

    Raises msgspec.DecodeError when the body is no such answer.
    """
    output = _get_records_decoder.decode(body)
    return Page(output.records, output.next_iterator, len(body))


def decode_lambda_event(body: bytes) -> Sequence[Record]:
    """The records of the event that Lambda hands to a function behind a stream.

    Raises msgspec.DecodeError when the body is no such event.
    """
    return _lambda_decoder.decode(body).records


@dataclass(frozen=True, slots=True)
class Origin:
    """The stream that a change comes from."""

    table: str
    stream_arn: str


class Change:
    """What one record says; decoded piece by piece, when asked."""

    __slots__ = ("__dict__", "origin", "record", "shard_id")

    def __init__(self, record: Record, shard_id: str, origin: Origin) -> None:
        self.record = record
        self.shard_id = shard_id
        self.origin = origin

    @property
    def event_id(self) -> str:
        """`eventID`: the same whenever this record is read again."""
        return self.record.event_id

    @property
    def event_name(self) -> str:
        """INSERT, MODIFY or REMOVE."""
        return self.record.event_name

    @property
    def sequence_number(self) -> str:
        return self.record.sequence_number

    @property
    def time(self) -> float | None:
        """Epoch seconds of the write, rounded down by AWS; a Lambda event may lack it."""
        return self.record.dynamodb.created_at

    @property
    def table(self) -> str:
        return self.origin.table

    @property
    def stream_arn(self) -> str:
        return self.origin.stream_arn

    @property
    def ttl(self) -> bool:
        """Whether Time to Live deleted the item, not a user."""
        by = self.record.identity
        return (
            by is not None
            and (by.type_upper or by.type_lower) == "Service"
            and (by.principal_upper or by.principal_lower) == TTL_PRINCIPAL
        )

    @cached_property
    def typed_keys(self) -> dict[str, dict[str, Any]]:
        """The key attributes with DynamoDB's types, sorted by name."""
        keys = _typed_image(self.record.dynamodb.keys)
        if keys is None:
            raise UndecodableError("there are no keys")
        return {name: keys[name] for name in sorted(keys)}

    @cached_property
    def item_key(self) -> bytes:
        """Identifies the item: the same bytes for every change of it."""
        return msgspec.json.encode(self.typed_keys)

    @cached_property
    def keys(self) -> dict[str, Any]:
        """The key attributes as plain values."""
        return {name: plain(value) for name, value in self.typed_keys.items()}

    @cached_property
    def new(self) -> dict[str, Any] | None:
        """The item after the change, None where the stream's view type or the change has none."""
        return _plain_image(self.record.dynamodb.new_image)

    @cached_property
    def old(self) -> dict[str, Any] | None:
        """The item before the change, None where the stream's view type or the change has none."""
        return _plain_image(self.record.dynamodb.old_image)

    @cached_property
    def changed(self) -> list[str]:
        """Names of the top-level attributes that differ between the images, sorted.

        Empty where the stream's view type leaves out an image that the comparison needs.
        """
        old = _typed_image(self.record.dynamodb.old_image)
        new = _typed_image(self.record.dynamodb.new_image)
        if self.event_name == "MODIFY" and (old is None or new is None):
            return []
        before, after = old or {}, new or {}
        names = before.keys() | after.keys()
        return sorted(name for name in names if before.get(name) != after.get(name))


def _decode(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UndecodableError(f"no JSON: {error}") from None


def _typed_image(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any] | None:
    image = None if isinstance(raw, msgspec.UnsetType) else _decode(raw)
    if image is not None and not isinstance(image, dict):
        raise UndecodableError("an image is not an object")
    return image


def _plain_image(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any] | None:
    image = _typed_image(raw)
    return None if image is None else {name: plain(value) for name, value in image.items()}


def plain(value: Any) -> Any:
    """One attribute value as what `msgspec.json.encode` writes for it.

    Numbers keep every digit, binary stays base64 text, sets become arrays. Raises
    UndecodableError for anything that is not an attribute value.
    """
    if not isinstance(value, dict) or len(value) != 1:
        raise UndecodableError(f"not an attribute value: {str(value)[:80]}")
    ((kind, inner),) = value.items()
    if kind == "NULL":
        return None
    form = _FORMS.get(kind)
    if form is None:
        raise UndecodableError(f"unknown attribute type {kind!r}")
    if not isinstance(inner, form):
        raise UndecodableError(f"not an attribute value: {str(value)[:80]}")
    if kind in {"S", "B", "BOOL"}:
        return inner
    if kind == "N":
        return _number(inner)
    if kind == "M":
        return {name: plain(item) for name, item in inner.items()}
    if kind == "L":
        return [plain(item) for item in inner]
    if kind == "NS":
        return [_number(item) for item in inner]
    return list(inner)


def _number(text: Any) -> int | str | msgspec.Raw:
    """A number digit for digit; an integer beyond 64 bits as text, since PutEvents refuses it."""
    if not isinstance(text, str):
        raise UndecodableError(f"a number must be text, not {text!r}")
    match = _JSON_NUMBER.fullmatch(text)
    if match is None:
        return _normalised(text)
    if match[1] is None and match[2] is None:
        integer = int(text)
        return integer if integer in _INT64 and str(integer) == text else text
    return msgspec.Raw(text.encode())


def _normalised(text: str) -> int | str | msgspec.Raw:
    """AWS gives numbers in JSON's grammar; an emulator may echo what the writer typed (`+1`)."""
    try:
        exact = Decimal(text)
    except InvalidOperation:
        raise UndecodableError(f"not a number: {text[:80]!r}") from None
    if not exact.is_finite():
        raise UndecodableError(f"not a number: {text[:80]!r}")
    return _number(str(exact))
