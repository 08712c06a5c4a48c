"""What one stream record says, read piece by piece.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_Record.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.capture import Record
from ddbrelay.flow.change.attributes import (
    UndecodableError,
    attributes_of,
    differ,
    plain_image,
    typed_image,
    typed_value,
)
from ddbrelay.flow.change.hiding import redacted

_LEFT_OUT = "an image that must not be shown cannot be read"
TTL_PRINCIPAL = "dynamodb.amazonaws.com"
_REWRITTEN = re.compile(rb"[\\\s]").search


@dataclass(frozen=True, slots=True)
class Origin:
    """The stream that a change comes from."""

    table: str
    stream_arn: str


class Change(msgspec.Struct, eq=False):
    """What one record says; decoded piece by piece, when asked."""

    record: Record
    shard_id: str
    origin: Origin

    _whole: Record | None = None
    """The record before `redact`; None where nothing is hidden."""
    _left_out: str | None = None
    """Why `redact` left out an image; None where it did not."""

    # Decoded when first asked for.
    _item_key: bytes | None = None
    _keys: dict[str, Any] | None = None
    _new: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET
    _old: dict[str, Any] | msgspec.UnsetType | None = msgspec.UNSET

    # A struct's own shows every field, and with them what `redact` hides.
    __repr__ = object.__repr__

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
        keys = typed_image(self.record.dynamodb.keys)
        if keys is None:
            raise UndecodableError("there are no keys")
        return keys if len(keys) < 2 else {name: keys[name] for name in sorted(keys)}

    @property
    def item_key(self) -> bytes:
        """Events with the same key follow one another: the same bytes for every change of an item.

        These are its key attributes with their types, as JSON, where no mapping said otherwise.
        """
        if self._item_key is None:
            raw = bytes(self.record.dynamodb.keys)
            # One attribute without an escape or a space stands as we would write it.
            if raw.count(b'"') == 6 and raw.startswith(b'{"') and not _REWRITTEN(raw):
                self._item_key = raw
            else:
                self._item_key = msgspec.json.encode(self.typed_keys)
        return self._item_key

    def attribute(self, name: str) -> Any:
        """An attribute of the new image, or of the old one where there is no new one, typed.

        None where there is none of this name; UndecodableError for an image that cannot be read.
        """
        record = (self._whole or self.record).dynamodb
        image = attributes_of(record.new_image) or attributes_of(record.old_image) or {}
        return typed_value(image[name], name) if name in image else None

    def order_by(self, key: bytes) -> None:
        """Events with this key follow one another, although they are of different items.

        A mapping says so from what stands in the record alone, so that it is the same every time.
        """
        self._item_key = key

    @property
    def keys(self) -> dict[str, Any]:
        """The key attributes as plain values."""
        if self._keys is None:
            values = plain_image(self.record.dynamodb.keys)
            if values is None:
                raise UndecodableError("there are no keys")
            self._keys = {name: values[name] for name in sorted(values)}
        return self._keys

    @property
    def new(self) -> dict[str, Any] | None:
        """The item after the change, None where the stream's view type or the change has none."""
        if self._new is msgspec.UNSET:
            if self._left_out is not None:
                raise UndecodableError(self._left_out)
            self._new = plain_image(self.record.dynamodb.new_image)
        return self._new

    @property
    def old(self) -> dict[str, Any] | None:
        """The item before the change, None where the stream's view type or the change has none."""
        if self._old is msgspec.UNSET:
            if self._left_out is not None:
                raise UndecodableError(self._left_out)
            self._old = plain_image(self.record.dynamodb.old_image)
        return self._old

    @property
    def unreadable(self) -> str | None:
        """Why its keys or an image cannot be read; None where all can be."""
        try:
            _ = self.keys, self.new, self.old
        except UndecodableError as error:
            return str(error)
        return None

    @property
    def changed(self) -> list[str]:
        """Names of the top-level attributes that differ between the images, sorted.

        Empty where the stream's view type leaves out an image that the comparison needs.
        """
        record = self._whole or self.record
        old = attributes_of(record.dynamodb.old_image)
        new = attributes_of(record.dynamodb.new_image)
        if self.event_name == "MODIFY" and (old is None or new is None):
            return []
        if old is None or new is None:
            return sorted(old or new or ())
        names = old.keys() | new.keys()
        return sorted(name for name in names if differ(name, old.get(name), new.get(name)))

    @property
    def diff(self) -> dict[str, dict[str, Any]]:
        """For each changed attribute its value `before` and `after`, without the one it lacks."""
        images = (("before", self.old), ("after", self.new))
        return {
            name: {word: image[name] for word, image in images if image and name in image}
            for name in self.changed
        }

    def redact(self, paths: Iterable[Sequence[str]]) -> None:
        """Replace these attributes of both images by `[redacted]`, in the record too.

        A path of several names goes into maps, and into each element of lists; `*` stands for any
        characters of a name. Whatever shows, stores or sends the change afterwards has nothing else
        to show; only `changed` still knows what differed. The attributes of the key stay: they say
        which item it is. An image that cannot be read is left out, since nobody knows what stands
        in it.
        """
        record = self.record
        try:
            keys = attributes_of(record.dynamodb.keys) or {}
        except UndecodableError:
            keys = {}
        paths = list(paths)
        images: dict[str, msgspec.Raw | msgspec.UnsetType] = {}
        for name in ("new_image", "old_image"):
            try:
                images[name] = redacted(getattr(record.dynamodb, name), paths, keys)
            except UndecodableError as error:
                images[name] = msgspec.UNSET
                self._left_out = f"{_LEFT_OUT}: {error}"
        self._whole = self._whole or record
        self.record = msgspec.structs.replace(
            record, dynamodb=msgspec.structs.replace(record.dynamodb, **images)
        )
        self._new = self._old = msgspec.UNSET

    @property
    def is_redacted(self) -> bool:
        """Whether something of it is hidden."""
        return self._whole is not None

    def reveal(self) -> None:
        """Take back every redaction: the change is to be mapped once more."""
        if self._whole is not None:
            self.record, self._whole = self._whole, None
            self._left_out = None
            self._new = self._old = msgspec.UNSET
