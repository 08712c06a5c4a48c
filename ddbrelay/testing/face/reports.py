"""Actions that change nothing: what was written, what the buses took, who called."""

from __future__ import annotations

from typing import Any

import msgspec

from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Record
from ddbrelay.testing.face.account import SimulatedAccount
from ddbrelay.testing.face.action import Action
from ddbrelay.testing.face.bus import Taken


class Written(msgspec.Struct, frozen=True):
    """One stream record where it was written, at epoch seconds by the stream's clock."""

    stream: str
    shard: str
    record: Record
    at: float
    trimmed: bool


class ShardState(msgspec.Struct, frozen=True):
    """One shard that exists, listed or not yet."""

    id: str
    parent: str | None
    open: bool
    records: int
    """Those that can be read."""


class Called(msgspec.Struct, frozen=True):
    """One call as it came in, at epoch seconds; `members` of its request."""

    operation: str
    at: float
    members: dict[str, Any]


class Events(Action[list[Taken]]):
    """What the buses took, in order, a repeat each time; the first `skip` are left out."""

    bus: str | None = None
    skip: int = 0

    def apply(self, account: SimulatedAccount) -> list[Taken]:
        taken = [event for event in account.taken if self.bus in {None, event.bus}]
        return taken[self.skip :]


class Records(Action[list[Written]]):
    """Every record that was ever written to the streams of a table, shard by shard, in order."""

    table: str

    def apply(self, account: SimulatedAccount) -> list[Written]:
        return [
            Written(
                stream.arn,
                shard.id,
                record,
                shard.written_at[index],
                index < shard.trimmed or shard.id not in stream.shards,
            )
            for stream in account.streams.values()
            if stream.table == self.table
            for shard in stream.history.values()
            for index, record in enumerate(shard.records)
        ]


class Shards(Action[list[ShardState]]):
    """The shards of a table's latest stream, or of the one with this ARN."""

    table: str
    stream: str | None = None

    def apply(self, account: SimulatedAccount) -> list[ShardState]:
        if self.stream is None:
            found = account.table(self.table).stream
            if found is None:
                raise ConfigError(f'table "{self.table}" has no stream')
        else:
            found = account.stream(self.stream)
        return [
            ShardState(shard.id, shard.parent_id, shard.closed_at is None, len(shard.readable))
            for shard in found.shards.values()
        ]


class Calls(Action[list[Called]]):
    """The latest calls that came in, at least 10,000 for each service, in order."""

    operation: str | None = None

    def apply(self, account: SimulatedAccount) -> list[Called]:
        calls = [
            Called(call.operation, call.at, call.arguments)
            for faults in account.faults.values()
            for call in faults.calls
            if self.operation in {None, call.operation}
        ]
        return sorted(calls, key=lambda call: call.at)
