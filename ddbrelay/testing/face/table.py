"""A DynamoDB table in memory: its items, and what its writes leave in its stream."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ddbrelay.flow.capture import Record
from ddbrelay.testing.face.items import encoded, invalid, keys_of, normalised
from ddbrelay.testing.faults import ApiError
from ddbrelay.testing.stream import ACCOUNT, REGION, SimulatedStream

Image = dict[str, Any]
"""An item with DynamoDB's types: `{"id": {"S": "a"}}`."""


class SimulatedTable:
    """Items by key, and a stream record for every write that changes one.

    `keys` has a name and a type (S, N or B) for the partition key, and for the sort key if there is
    one. `ttl_attribute` is only told, nothing expires by itself: `delete_item(..., ttl=True)`.
    """

    def __init__(
        self,
        name: str,
        keys: Sequence[tuple[str, str]],
        now: Callable[[], float],
        ttl_attribute: str | None = None,
    ) -> None:
        self.name, self.keys, self.ttl_attribute = name, keys, ttl_attribute
        self.arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{name}"
        self.created_at = now()
        self.stream: SimulatedStream | None = None
        """The latest one, perhaps disabled."""
        self._items: dict[bytes, bytes] = {}

    def __len__(self) -> int:
        return len(self._items)

    def put_item(self, item: Mapping[str, Any]) -> tuple[Image | None, Record | None]:
        """The item that was there before, and the record, None where nothing changed."""
        attributes, _ = normalised(item)
        keys = keys_of(attributes, self.keys)
        return self._write(keys, encoded(attributes), ttl=False)

    def delete_item(
        self, key: Mapping[str, Any], *, ttl: bool = False
    ) -> tuple[Image | None, Record | None]:
        """As `put_item`; `ttl` makes it a deletion by Time to Live."""
        return self._write(self._key(key), None, ttl=ttl)

    def get_item(self, key: Mapping[str, Any]) -> Image | None:
        """The item with this key."""
        found = self._items.get(encoded(self._key(key)))
        return None if found is None else _decoded(found)

    def _key(self, key: Mapping[str, Any]) -> Image:
        attributes, _ = normalised(key)
        if attributes.keys() != {name for name, _ in self.keys}:
            raise invalid("The provided key element does not match the schema")
        return keys_of(attributes, self.keys)

    def _write(
        self, keys: Image, new: bytes | None, *, ttl: bool
    ) -> tuple[Image | None, Record | None]:
        name = encoded(keys)
        old = self._items.get(name)
        made: Record | None = None
        if old != new and self.stream is not None and self.stream.disabled_at is None:
            partition = zlib.crc32(encoded({"": keys[self.keys[0][0]]}))
            try:
                made = self.stream.append(
                    msgspec.Raw(name),
                    None if old is None else msgspec.Raw(old),
                    None if new is None else msgspec.Raw(new),
                    position=partition,
                    ttl=ttl,
                )
            except LookupError as error:
                raise ApiError("InternalServerError", str(error)) from None
        if new is not None:
            self._items[name] = new
        elif old is not None:
            del self._items[name]
        return (None if old is None else _decoded(old)), made


def _decoded(image: bytes) -> Image:
    return dict(msgspec.json.decode(image))
