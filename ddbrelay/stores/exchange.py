"""Bookmarks as files: what `positions export` writes and `positions import` reads."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Position, Start
from ddbrelay.stores.sqlite import Bookmark

FORMAT = "ddbrelay-positions"
VERSION = 1

_Time = Annotated[float, msgspec.Meta(ge=0, le=253402300799)]
_StreamArn = Annotated[str, msgspec.Meta(pattern="^arn:[^/]*:table/[^/]+/stream/[^/]+$")]


class _Position(
    msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True, frozen=True
):
    shard_id: str
    parent_id: str | None = None
    start: Start = Start.TRIM_HORIZON
    start_time: _Time | None = None
    start_sequence: str | None = None
    sequence: str | None = None
    written_at: _Time | None = None
    iterator: str | None = None
    iterator_at: _Time | None = None
    seen_at: _Time | None = None
    lost_until: _Time | None = None
    starting: str | None = None
    finished: bool = False


class _File(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    format: str
    version: int
    name: str
    consumer: str
    stream_arn: _StreamArn
    saved_at: _Time
    positions: list[_Position]


def dump(mark: Bookmark) -> bytes:
    """The bookmark as indented JSON."""
    file = _File(
        FORMAT,
        VERSION,
        mark.name,
        mark.consumer,
        mark.stream_arn,
        mark.saved_at,
        [msgspec.convert(p, _Position, from_attributes=True) for p in mark.positions],
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2)


def load(text: bytes, where: str) -> Bookmark:
    """The bookmark in a file; ConfigError, with the path of what is wrong, when it is none."""
    try:
        head = msgspec.json.decode(text)
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise ConfigError(
                f"{where} holds no positions", "ddbrelay positions export writes them"
            )
        if head.get("version") != VERSION:
            raise ConfigError(
                f"{where} was written by a newer ddbrelay (format {head.get('version')})",
                "pip install --upgrade ddbrelay",
            )
        file = msgspec.json.decode(text, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} cannot be read: {error}") from None
    positions = [Position(**msgspec.structs.asdict(position)) for position in file.positions]
    return Bookmark(file.name, file.consumer, file.stream_arn, positions, file.saved_at)
