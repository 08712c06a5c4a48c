"""A change as the document that patterns and JMESPath see, and what comes out of it as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from ddbrelay.flow.change import Change, Digits, typed_image
from ddbrelay.times import iso

_READERS: dict[str, Callable[[Change], Any]] = {
    "eventID": lambda change: change.event_id,
    "eventName": lambda change: change.event_name,
    "time": lambda change: None if change.time is None else iso(change.time),
    "sequenceNumber": lambda change: change.sequence_number,
    "shardId": lambda change: change.shard_id or None,
    "table": lambda change: change.table,
    "streamArn": lambda change: change.stream_arn,
    "keys": lambda change: exact(change.keys),
    "old": lambda change: exact(change.old),
    "new": lambda change: exact(change.new),
    "changed": lambda change: change.changed,
    "diff": lambda change: exact(change.diff),
    "ttl": lambda change: change.ttl,
}
ID = "id"
"""The stable id of the event, which only the event knows."""
FIELDS = frozenset({*_READERS, ID})
EVENT_NAMES = ("INSERT", "MODIFY", "REMOVE")
CHEAP = (
    *("eventName", "ttl", "table", "eventID", "sequenceNumber", "shardId", "streamArn", "time"),
    *("keys", "changed"),
)
"""What a pattern looks at first: all of it is there without decoding an image."""
_TYPED_FIELDS = {
    "Keys": "keys",
    "NewImage": "new_image",
    "OldImage": "old_image",
    "SequenceNumber": "sequence_number",
    "SizeBytes": "size",
    "StreamViewType": "view_type",
    "ApproximateCreationDateTime": "created_at",
}
TYPED_PARTS = frozenset(_TYPED_FIELDS)
TYPED_TOP = (
    *("eventName", "eventID", "eventSource", "eventSourceARN", "awsRegion"),
    *("eventVersion", "userIdentity", "dynamodb"),
)
"""The fields of a record in the form in which Lambda's filters see it."""
_SAFE_DIGITS, _MOST_DIGITS = 19, 20
"""With fewer digits an integer has 64 bits at most; with more characters it has more."""
_LONG = re.compile(rb"[0-9]{19}").search
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|-?[0-9]+[.eE][0-9.eE+-]*|(-?[0-9]+)')
_INT64 = range(-(2**63), 2**63)
_LONGEST = 126
"""Digits of an integer in an item, zeros included."""


class Document:
    """The fields of a change, each read when it is first asked for.

    UndecodableError comes from an image or key that cannot be read.
    """

    __slots__ = ("_change", "_read")

    def __init__(self, change: Change) -> None:
        self._change = change
        self._read: dict[str, Any] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or the default where this change has none, such as an INSERT the old image."""
        read = self._read
        if name in read:
            value = read[name]
        elif (reader := _READERS.get(name)) is not None:
            value = read[name] = reader(self._change)
        else:
            value = None
        return default if value is None else value

    def part(self, names: Iterable[str], event_id: str) -> dict[str, Any]:
        """These fields as a dictionary; `event_id` is what `id` gives."""
        return {name: event_id if name == ID else self.get(name) for name in names}


class TypedDocument:
    """A record as Lambda's event filters see it, with DynamoDB's types.

    https://docs.aws.amazon.com/lambda/latest/dg/with-ddb-filtering.html
    """

    __slots__ = ("_change", "_dynamodb")

    def __init__(self, change: Change) -> None:
        self._change = change
        self._dynamodb: dict[str, Any] | None = None

    def get(self, name: str, default: Any = None) -> Any:
        """The field, or the default where the record has none of this name."""
        change = self._change
        if name == "eventName":
            return change.event_name
        if name == "eventID":
            return change.event_id
        if name == "eventSource":
            return "aws:dynamodb"
        if name == "eventVersion":
            return "1.1"
        if name == "eventSourceARN":
            return change.stream_arn
        if name == "awsRegion":
            return change.stream_arn.split(":")[3] if change.stream_arn.count(":") > 3 else default
        if name == "userIdentity":
            by = change.record.identity
            if by is None:
                return default
            return {
                "type": by.type_upper or by.type_lower,
                "principalId": by.principal_upper or by.principal_lower,
            }
        if name != "dynamodb":
            return default
        if self._dynamodb is None:
            self._dynamodb = _typed(change)
        return self._dynamodb


def _typed(change: Change) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, attribute in _TYPED_FIELDS.items():
        value = getattr(change.record.dynamodb, attribute)
        if isinstance(value, msgspec.Raw):
            value = typed_image(value)
        if value is not None and value is not msgspec.UNSET:
            found[name] = value
    return found


def exact(value: Any) -> Any:
    """The same plain values with each number as one: `Digits` where Python would round it."""
    kind = type(value)
    if kind is dict:
        return {
            name: one if type(one) is str or type(one) is int else exact(one)
            for name, one in value.items()
        }
    if kind is list:
        return [exact(one) for one in value]
    if kind is msgspec.Raw:
        return Digits(bytes(value).decode())
    if kind is Decimal and len(value.as_tuple().digits) <= _LONGEST:
        return int(value)
    return value


def _number(value: Any) -> Any:
    if type(value) is Digits:
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} has no form in JSON")


_encode = msgspec.json.Encoder(enc_hook=_number, decimal_format="number").encode


def encode(value: Any) -> bytes:
    """What an expression gave, as JSON, every digit kept. TypeError for what has no form there."""
    try:
        return _encode(value)
    except OverflowError:
        return _encode(_decimals(value))


def _decimals(value: Any) -> Any:
    """The same with each integer as a decimal, which may be of any length."""
    if isinstance(value, Mapping):
        return {name: _decimals(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_decimals(one) for one in value]
    return Decimal(value) if type(value) is int else value


def small_integers(detail: bytes) -> bytes:
    """The same JSON with each integer beyond 64 bits, which PutEvents refuses, as text."""
    if _LONG(detail) is None:
        return detail
    return _TOKENS.sub(_small, detail)


def _small(token: re.Match[bytes]) -> bytes:
    text = token[0]
    if token[1] is None or len(text) < _SAFE_DIGITS:
        return text
    if len(text) <= _MOST_DIGITS and int(text) in _INT64:
        return text
    return b'"%s"' % text
