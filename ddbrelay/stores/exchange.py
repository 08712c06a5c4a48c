"""Bookmarks as files: what `positions export` writes and `positions import` reads."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ddbrelay.arns import table_in
from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Position, Start
from ddbrelay.stores.sqlite import Bookmark
from ddbrelay.stores.streams import Table

FORMAT = "ddbrelay-positions"
VERSION = 1

_Time = Annotated[float, msgspec.Meta(ge=0, le=253402300799)]
_Text = Annotated[str, msgspec.Meta(min_length=1)]


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


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    name: _Text
    arn: _Text


class _File(msgspec.Struct, rename="camel", forbid_unknown_fields=True, omit_defaults=True):
    format: str
    version: int
    name: str
    consumer: str
    stream_arn: _Text
    saved_at: _Time
    positions: list[_Position]
    # Where the ARN of the stream does not tell it.
    table: _Table | None = None


def dump(mark: Bookmark, table: Table) -> bytes:
    """The bookmark, which is of this table, as indented JSON."""
    file = _File(
        FORMAT,
        VERSION,
        mark.name,
        mark.consumer,
        mark.stream_arn,
        mark.saved_at,
        [msgspec.convert(p, _Position, from_attributes=True) for p in mark.positions],
        _Table(*table) if table_in(mark.stream_arn) is None else None,
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2)


def load(text: bytes, where: str) -> tuple[Bookmark, Table | None]:
    """The bookmark in a file, and its table where the ARN of the stream does not tell it.

    Raises ConfigError, with the path of what is wrong, when it is none.
    """
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
    if file.table is None and table_in(file.stream_arn) is None:
        raise ConfigError(
            f"{where} cannot be read: neither `$.streamArn` nor `$.table` names the table"
        )
    positions = [Position(**msgspec.structs.asdict(position)) for position in file.positions]
    mark = Bookmark(file.name, file.consumer, file.stream_arn, positions, file.saved_at)
    return mark, None if file.table is None else Table(file.table.name, file.table.arn)
