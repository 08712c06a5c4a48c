"""One line for each thing that a test needs: a record, a change, an item, a tree of shards."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from ddbrelay.flow.capture import Identity, Record, Shard, StreamRecord
from ddbrelay.flow.change import TTL_PRINCIPAL, Change, Origin
from ddbrelay.flow.mapping import CrudMapper, Event, Several
from ddbrelay.flow.mapping.events import stable_id
from ddbrelay.flow.packing import Item
from ddbrelay.testing.clock import EPOCH

if TYPE_CHECKING:
    from ddbrelay.testing.stream import SimulatedStream

TABLE = "users"
ORIGIN = Origin(TABLE, f"arn:aws:dynamodb:us-east-1:000000000000:table/{TABLE}/stream/test")
Image = Mapping[str, Any] | bytes
_numbers = itertools.count(10**20)


def attribute(value: Any) -> dict[str, Any]:
    """A plain value as DynamoDB's JSON has it: `5` -> `{"N": "5"}`, bytes -> base64 text."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if value is None:
        return {"NULL": True}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int | Decimal):
        return {"N": str(value)}
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"M": {name: attribute(inner) for name, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [attribute(inner) for inner in value]}
    if isinstance(value, set | frozenset) and value:
        members = sorted((attribute(inner) for inner in value), key=str)
        (kind,) = {name for member in members for name in member}
        return {f"{kind}S": [member[kind] for member in members]}
    raise TypeError(f"DynamoDB has no type for {value!r}")


def raw(image: Image) -> msgspec.Raw:
    """An image as the stream gives it; bytes are taken as they are."""
    if isinstance(image, bytes):
        return msgspec.Raw(image)
    typed = {name: attribute(value) for name, value in image.items()}
    return msgspec.Raw(msgspec.json.encode(typed))


def record(
    key: Any = "a",
    sequence: int | str | None = None,
    event_name: str = "INSERT",
    *,
    new: Image | None = None,
    old: Image | None = None,
    keys: Image | None = None,
    at: float | None = EPOCH,
    ttl: bool = False,
    event_id: str | None = None,
    images: bool = True,
) -> Record:
    """A stream record of the item whose partition key `id` is `key`.

    Images are plain values, or bytes of DynamoDB's JSON. An INSERT or MODIFY without `new`, and a
    REMOVE without `old`, gets an image of just the key; none without `images` (KEYS_ONLY).
    """
    only_key = {"id": key}
    if images and event_name == "REMOVE":
        old = only_key if old is None else old
    elif images and new is None:
        new = only_key
    number = str(next(_numbers) if sequence is None else sequence)
    return Record(
        event_id=event_id or hashlib.md5(number.encode(), usedforsecurity=False).hexdigest(),
        event_name=event_name,
        dynamodb=StreamRecord(
            sequence_number=number,
            keys=raw(only_key if keys is None else keys),
            new_image=msgspec.UNSET if new is None else raw(new),
            old_image=msgspec.UNSET if old is None else raw(old),
            created_at=None if at is None else float(int(at)),
            view_type="NEW_AND_OLD_IMAGES" if images else "KEYS_ONLY",
        ),
        identity=Identity(type_upper="Service", principal_upper=TTL_PRINCIPAL) if ttl else None,
    )


def change(*args: Any, shard_id: str = "shard-1", origin: Origin = ORIGIN, **kwargs: Any) -> Change:
    """A change of `record(*args, **kwargs)`."""
    return Change(record(*args, **kwargs), shard_id, origin)


def item(key: Any = "a", sequence: int | str | None = None, *, size: int | None = None) -> Item:
    """An event on its way by the default mapping; `size` pretends another number of bytes."""
    source = change(key, sequence)
    event = CrudMapper(TABLE)(source)
    assert isinstance(event, Event)
    return Item(source, event, source.item_key, event.size if size is None else size)


def several(source: Change, *names: str, **more: Any) -> Several:
    """One event for each of these rules; `more` are other fields of each event.

    Its detail type is the rule's name, and its detail says which event of the change it is.
    """
    events = [
        Event(
            "ddbrelay.users",
            name,
            msgspec.json.encode({"id": source.event_id, "event": place}),
            (source.stream_arn, stable_id(source.event_id, name, place)),
            source.time,
            name,
            **more,
        )
        for place, name in enumerate(names)
    ]
    return Several(tuple(events))


_WORD = re.compile(r"(\()?([\w-]+)(\))?(\|)?")


def shards(tree: str) -> list[Shard]:
    """A listing from a drawing: `"a -> b c, c -> d"`, parents left of the arrow.

    A shard with children is closed, and so is one with a bar behind it (`b|`); one in brackets is a
    parent that is no longer listed (`"(a) -> b"`).
    """
    parent_of: dict[str, str | None] = {}
    closed: set[str] = set()
    unlisted: set[str] = set()
    for chain in tree.split(","):
        above: list[str] = []
        for generation in chain.split("->"):
            names = []
            for bracket, name, _, bar in _WORD.findall(generation):
                names.append(name)
                parent_of.setdefault(name, None)
                if bracket:
                    unlisted.add(name)
                if bar:
                    closed.add(name)
                if above:
                    parent_of[name] = above[0]
            closed.update(above)
            above = names
    return [
        Shard(name, parent, name in closed)
        for name, parent in parent_of.items()
        if name not in unlisted
    ]


def stream(tree: str = "a", **settings: Any) -> SimulatedStream:
    """A simulated stream with the shards of a drawing, as `shards` reads it; nothing is written."""
    from ddbrelay.testing.stream import SimulatedStream

    listed = shards(tree)
    made = SimulatedStream([shard.id for shard in listed if shard.parent_id is None], **settings)
    for shard in listed:
        children = [child.id for child in listed if child.parent_id == shard.id]
        if children:
            made.succeed(shard.id, *children)
        elif shard.closed:
            made.close(shard.id)
    return made
