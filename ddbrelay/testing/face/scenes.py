"""Actions: the writer's side, what AWS does by itself, and the clock."""

from __future__ import annotations

from typing import Any

import msgspec

from ddbrelay.errors import ConfigError
from ddbrelay.testing.face.account import DEFAULT_BUS, SimulatedAccount
from ddbrelay.testing.face.action import Action
from ddbrelay.testing.stream import SimulatedStream

_KEY_TYPES = {"S", "N", "B"}
Key = tuple[str, str]
"""Name and type (S, N or B) of a key attribute."""


class CreateTable(Action[str]):
    """A table, with a stream unless `view_type` is None; gives the stream's ARN."""

    table: str
    shards: int | list[str] = 1
    keys: tuple[Key, ...] = (("id", "S"),)
    view_type: str | None = "NEW_AND_OLD_IMAGES"
    ttl_attribute: str | None = None

    def apply(self, account: SimulatedAccount) -> str:
        if not 1 <= len(self.keys) <= 2 or not {kind for _, kind in self.keys} <= _KEY_TYPES:
            raise ConfigError("a table has one or two keys, of the types S, N or B")
        account.create_table(self.table, self.keys, ttl_attribute=self.ttl_attribute)
        if self.view_type is None:
            return ""
        return account.enable_stream(self.table, self.view_type, self.shards).arn


class DeleteTable(Action[None]):
    """The table is gone; its stream stays readable for 24 hours."""

    table: str

    def apply(self, account: SimulatedAccount) -> None:
        account.delete_table(self.table)


class EnableStream(Action[str]):
    """A new stream of a table, with an ARN of its own; for `enabling` seconds it has no shards."""

    table: str
    shards: int | list[str] = 1
    view_type: str = "NEW_AND_OLD_IMAGES"
    enabling: float = 0.0

    def apply(self, account: SimulatedAccount) -> str:
        made = account.enable_stream(
            self.table, self.view_type, self.shards, enabling=self.enabling
        )
        return made.arn


class DisableStream(Action[None]):
    """The stream of a table is switched off; it stays readable for 24 hours."""

    table: str

    def apply(self, account: SimulatedAccount) -> None:
        _enabled(account, self.table).disable()


class CreateBus(Action[None]):
    """An event bus."""

    bus: str

    def apply(self, account: SimulatedAccount) -> None:
        account.buses.setdefault(self.bus, account.clock())


class DeleteBus(Action[None]):
    """The bus is gone: events for it get an id, as AWS gives them, and are dropped."""

    bus: str

    def apply(self, account: SimulatedAccount) -> None:
        if self.bus == DEFAULT_BUS or account.buses.pop(self.bus, None) is None:
            raise ConfigError(f'no bus "{self.bus}" can be deleted')


class Change(msgspec.Struct, omit_defaults=True):
    """One write: an item to put, or the key of one to delete, with DynamoDB's types."""

    put: dict[str, Any] | None = None
    delete: dict[str, Any] | None = None
    ttl: bool = False


class Write(Action[list[str | None]]):
    """Writes, one after the other; the sequence number of each, None where nothing changed."""

    table: str
    changes: list[Change]

    def apply(self, account: SimulatedAccount) -> list[str | None]:
        table = account.table(self.table)
        numbers: list[str | None] = []
        for change in self.changes:
            if change.put is not None:
                _, made = table.put_item(change.put)
            elif change.delete is not None:
                _, made = table.delete_item(change.delete, ttl=change.ttl)
            else:
                raise ConfigError("a change has something to put or to delete")
            numbers.append(None if made is None else made.sequence_number)
        return numbers


class Roll(Action[list[str]]):
    """Close a shard and open its only child; gives its id. The oddities are those of Split."""

    table: str
    shard: str
    listed_after: float = 0.0
    looks_open: bool = False

    def apply(self, account: SimulatedAccount) -> list[str]:
        return _succeed(account, self, 1)


class Split(Action[list[str]]):
    """Close a shard and open two children; gives their ids.

    They are listed `listed_after` seconds later; a parent that `looks_open` has no ending number.
    """

    table: str
    shard: str
    listed_after: float = 0.0
    looks_open: bool = False

    def apply(self, account: SimulatedAccount) -> list[str]:
        return _succeed(account, self, 2)


class Close(Action[None]):
    """Close a shard; it has no child, and its keys cannot be written."""

    table: str
    shard: str

    def apply(self, account: SimulatedAccount) -> None:
        account.holder(self.table, self.shard).close(self.shard)


class Trim(Action[None]):
    """Trim the oldest records of a shard, None for all."""

    table: str
    shard: str
    records: int | None = None

    def apply(self, account: SimulatedAccount) -> None:
        account.holder(self.table, self.shard).trim(self.shard, self.records)


class RemoveShard(Action[None]):
    """The shard is gone with all that was in it."""

    table: str
    shard: str

    def apply(self, account: SimulatedAccount) -> None:
        account.holder(self.table, self.shard).remove(self.shard)


class EmptyPages(Action[None]):
    """The next pages of a shard have no records."""

    table: str
    shard: str
    pages: int

    def apply(self, account: SimulatedAccount) -> None:
        account.holder(self.table, self.shard).shards[self.shard].empty_pages = self.pages


class SetOddities(Action[None]):
    """What endpoints do differently, for a table's stream: as of SimulatedStream."""

    table: str
    knows_timestamps: bool = True
    extra_last_page: bool = False
    forgets_no_start: bool = False

    def apply(self, account: SimulatedAccount) -> None:
        stream = _enabled(account, self.table)
        stream.knows_timestamps = self.knows_timestamps
        stream.extra_last_page = self.extra_last_page
        stream.forgets_no_start = self.forgets_no_start


class Skew(Action[None]):
    """The clock of a table's stream is so many seconds ahead of everybody's."""

    table: str
    seconds: float

    def apply(self, account: SimulatedAccount) -> None:
        _enabled(account, self.table).skew = self.seconds


class Advance(Action[float]):
    """Move the clock ahead: iterators expire, records are trimmed. Gives its epoch seconds."""

    seconds: float = 0.0

    def apply(self, account: SimulatedAccount) -> float:
        account.clock.advance(self.seconds)
        return account.clock()


class SetSpeed(Action[None]):
    """Let the clock run so many times as fast as a real one."""

    speed: float

    def apply(self, account: SimulatedAccount) -> None:
        account.clock.speed = self.speed


def _enabled(account: SimulatedAccount, table: str) -> SimulatedStream:
    stream = account.table(table).stream
    if stream is None or stream.disabled_at is not None:
        raise ConfigError(f'table "{table}" has no stream that is enabled')
    return stream


def _succeed(account: SimulatedAccount, asked: Roll | Split, children: int) -> list[str]:
    stream = account.holder(asked.table, asked.shard)
    if any(shard.parent_id == asked.shard for shard in stream.history.values()):
        raise ConfigError(f"shard {asked.shard} already has children")
    return stream.succeed(
        asked.shard,
        *[None] * children,
        listed_after=asked.listed_after,
        looks_open=asked.looks_open,
    )
