"""A raw stream record as a change: what happened to which item, with its images as plain JSON.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html and
API_AttributeValue.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from ddbrelay.flow.capture import Page, Record

TTL_PRINCIPAL = "dynamodb.amazonaws.com"
_REWRITTEN = re.compile(rb"[\\\s]").search
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_INT64 = range(-(2**63), 2**63)


class UndecodableError(ValueError):
    """An attribute value that is none of DynamoDB's ten types, or no JSON at all."""


class _Value(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One attribute value; of two types, which DynamoDB never writes, the first one here counts."""

    S: str | msgspec.UnsetType = msgspec.UNSET
    N: str | msgspec.UnsetType = msgspec.UNSET
    BOOL: bool | msgspec.UnsetType = msgspec.UNSET
    M: dict[str, _Value] | msgspec.UnsetType = msgspec.UNSET
    L: list[_Value] | msgspec.UnsetType = msgspec.UNSET
    B: str | msgspec.UnsetType = msgspec.UNSET
    SS: list[str] | msgspec.UnsetType = msgspec.UNSET
    NS: list[str] | msgspec.UnsetType = msgspec.UNSET
    BS: list[str] | msgspec.UnsetType = msgspec.UNSET
    NULL: bool | msgspec.UnsetType = msgspec.UNSET


class _GetRecordsOutput(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records", default=())
    next_iterator: str | None = msgspec.field(name="NextShardIterator", default=None)


class _LambdaEvent(msgspec.Struct):
    records: Sequence[Record] = msgspec.field(name="Records", default=())


_get_records_decoder = msgspec.json.Decoder(_GetRecordsOutput)
_image_decoder = msgspec.json.Decoder(dict[str, _Value] | None)
_attributes_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)
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

    __slots__ = ("_item_key", "_keys", "_new", "_old", "origin", "record", "shard_id")

    def __init__(self, record: Record, shard_id: str, origin: Origin) -> None:
        self.record = record
        self.shard_id = shard_id
        self.origin = origin
        self._item_key: bytes | None = None
        self._keys: dict[str, Any] | None = None
        self._new: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
        self._old: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET

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

    @property
    def typed_keys(self) -> dict[str, dict[str, Any]]:
        """The key attributes with DynamoDB's types, sorted by name."""
        keys = _typed_image(self.record.dynamodb.keys)
        if keys is None:
            raise UndecodableError("there are no keys")
        return keys if len(keys) < 2 else {name: keys[name] for name in sorted(keys)}

    @property
    def item_key(self) -> bytes:
        """Identifies the item: the same bytes for every change of it."""
        if self._item_key is None:
            raw = bytes(self.record.dynamodb.keys)
            # One attribute without an escape or a space stands as we would write it.
            if raw.count(b'"') == 6 and raw.startswith(b'{"') and not _REWRITTEN(raw):
                self._item_key = raw
            else:
                self._item_key = msgspec.json.encode(self.typed_keys)
        return self._item_key

    @property
    def keys(self) -> dict[str, Any]:
        """The key attributes as plain values."""
        if self._keys is None:
            values = _plain_image(self.record.dynamodb.keys)
            if values is None:
                raise UndecodableError("there are no keys")
            self._keys = {name: values[name] for name in sorted(values)}
        return self._keys

    @property
    def new(self) -> dict[str, Any] | None:
        """The item after the change, None where the stream's view type or the change has none."""
        if self._new is msgspec.UNSET:
            self._new = _plain_image(self.record.dynamodb.new_image)
        return self._new

    @property
    def old(self) -> dict[str, Any] | None:
        """The item before the change, None where the stream's view type or the change has none."""
        if self._old is msgspec.UNSET:
            self._old = _plain_image(self.record.dynamodb.old_image)
        return self._old

    @property
    def changed(self) -> list[str]:
        """Names of the top-level attributes that differ between the images, sorted.

        Empty where the stream's view type leaves out an image that the comparison needs.
        """
        old = _attributes(self.record.dynamodb.old_image)
        new = _attributes(self.record.dynamodb.new_image)
        if self.event_name == "MODIFY" and (old is None or new is None):
            return []
        if old is None or new is None:
            return sorted(old or new or ())
        names = old.keys() | new.keys()
        return sorted(name for name in names if _differ(old.get(name), new.get(name)))


def _attributes(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, msgspec.Raw] | None:
    """The attributes of an image, each as it stands there."""
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        found: dict[str, msgspec.Raw] | None = _attributes_decoder.decode(raw)
        return found
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UndecodableError(f"an image is not an object: {error}") from None


def _differ(one: msgspec.Raw | None, other: msgspec.Raw | None) -> bool:
    if one is None or other is None:
        return one is not other
    # The same value may be written in two ways.
    return bytes(one) != bytes(other) and bool(_decode(one) != _decode(other))


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
    if isinstance(raw, msgspec.UnsetType):
        return None
    try:
        image = _image_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UndecodableError(f"no image of an item: {error}") from None
    return None if image is None else _plain_values(image)


def _plain_values(image: dict[str, _Value]) -> dict[str, Any]:
    # Most attributes are texts, and this runs for every attribute of every record.
    return {
        name: text if (text := value.S) is not msgspec.UNSET else _plain(value)
        for name, value in image.items()
    }


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
    if (text := value.S) is not msgspec.UNSET:
        return text
    if (number := value.N) is not msgspec.UNSET:
        return _number(number)
    if (flag := value.BOOL) is not msgspec.UNSET:
        return flag
    if (members := value.M) is not msgspec.UNSET:
        return _plain_values(members)
    if (elements := value.L) is not msgspec.UNSET:
        return [_plain(element) for element in elements]
    if (numbers := value.NS) is not msgspec.UNSET:
        return [_number(number) for number in numbers]
    for other in (value.B, value.SS, value.BS):
        if other is not msgspec.UNSET:
            return other
    if value.NULL is msgspec.UNSET:
        raise UndecodableError("an attribute value has no type")
    return None


def _number(text: str) -> int | str | msgspec.Raw:
    """A number digit for digit; an integer beyond 64 bits as text, since PutEvents refuses it."""
    if len(text) < 19 and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        return int(text)
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
