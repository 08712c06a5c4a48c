"""The actions of the control face as methods, wherever the simulator runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from ddbrelay.testing.builders import attribute
from ddbrelay.testing.face import mishaps, reports, scenes
from ddbrelay.testing.face.action import Action
from ddbrelay.testing.face.bus import Taken
from ddbrelay.testing.faults import Rates
from ddbrelay.testing.limits import Limits

T = TypeVar("T")


class Controls(ABC):
    """What a test tells the simulator; every method is one action, and `do` takes any of them.

    Items are plain values, as `ddbrelay.testing.builders.attribute` takes them. Raises ConfigError
    for what the simulator refuses.
    """

    @abstractmethod
    def do(self, action: Action[T]) -> T:
        """Let the simulator do it, and return what it says."""

    # Tables and buses

    def create_table(
        self,
        table: str,
        shards: int | Sequence[str] = 1,
        *,
        keys: Iterable[scenes.Key] = (("id", "S"),),
        view_type: str | None = "NEW_AND_OLD_IMAGES",
        ttl_attribute: str | None = None,
    ) -> str:
        """A table; the ARN of its stream, "" without one (`view_type` None)."""
        ids = shards if isinstance(shards, int) else list(shards)
        return self.do(scenes.CreateTable(table, ids, tuple(keys), view_type, ttl_attribute))

    def delete_table(self, table: str) -> None:
        """The table is gone; its stream stays readable for 24 hours."""
        self.do(scenes.DeleteTable(table))

    def disable_stream(self, table: str) -> None:
        """It stays readable for 24 hours."""
        self.do(scenes.DisableStream(table))

    def enable_stream(
        self,
        table: str,
        shards: int | Sequence[str] = 1,
        *,
        view_type: str = "NEW_AND_OLD_IMAGES",
        enabling: float = 0.0,
    ) -> str:
        """A new stream; its ARN. For `enabling` seconds it has no shards."""
        ids = shards if isinstance(shards, int) else list(shards)
        return self.do(scenes.EnableStream(table, ids, view_type, enabling))

    def create_bus(self, bus: str) -> None:
        """An event bus."""
        self.do(scenes.CreateBus(bus))

    def delete_bus(self, bus: str) -> None:
        """Events for it get an id, as AWS gives them, and are dropped."""
        self.do(scenes.DeleteBus(bus))

    # Writing

    def put(self, table: str, *items: Mapping[str, Any]) -> list[str | None]:
        """Put items, one after the other; the sequence number of each, None without a change."""
        changes = [scenes.Change(put=_typed(item)) for item in items]
        return self.do(scenes.Write(table, changes))

    def delete(self, table: str, *keys: Mapping[str, Any], ttl: bool = False) -> list[str | None]:
        """Delete items, as a user or as Time to Live; as `put`."""
        changes = [scenes.Change(delete=_typed(key), ttl=ttl) for key in keys]
        return self.do(scenes.Write(table, changes))

    # What AWS does by itself

    def roll(
        self, table: str, shard: str, *, listed_after: float = 0.0, looks_open: bool = False
    ) -> str:
        """Close a shard and open its only child; oddities as in `split`."""
        return self.do(scenes.Roll(table, shard, listed_after, looks_open))[0]

    def split(
        self, table: str, shard: str, *, listed_after: float = 0.0, looks_open: bool = False
    ) -> list[str]:
        """Close a shard and open two children, which divide its keys.

        They are listed `listed_after` seconds later; a parent that `looks_open` is listed without
        an ending number.
        """
        return self.do(scenes.Split(table, shard, listed_after, looks_open))

    def close(self, table: str, shard: str) -> None:
        """Close a shard that has no child yet."""
        self.do(scenes.Close(table, shard))

    def trim(self, table: str, shard: str, records: int | None = None) -> None:
        """Trim the oldest records of a shard, None for all."""
        self.do(scenes.Trim(table, shard, records))

    def remove_shard(self, table: str, shard: str) -> None:
        """The shard is gone with all that was in it."""
        self.do(scenes.RemoveShard(table, shard))

    def advance(self, seconds: float) -> float:
        """Move the clock ahead; its epoch seconds."""
        return self.do(scenes.Advance(seconds))

    def now(self) -> float:
        """The clock, epoch seconds."""
        return self.do(scenes.Advance())

    # What goes wrong

    def rates(
        self, service: str, latency: tuple[float, float] = (0.0, 0.0), **rates: float
    ) -> None:
        """What goes wrong by chance on the way to a service, by the names of `Rates`."""
        self.do(mishaps.SetRates(service, Rates(**rates), latency))

    def limits(self, limits: Limits) -> None:
        """How many calls a second are taken."""
        self.do(mishaps.SetLimits(limits))

    def fail_next(self, operation: str, code: str, times: int = 1) -> None:
        """The next calls of an operation end with an error code of AWS."""
        self.do(mishaps.FailNext(operation, code, times))

    def cut(self, operation: str, *, after: bool, times: int = 1) -> None:
        """The connections of the next calls are cut, after their effect or before it."""
        self.do(mishaps.Cut(operation, after, times))

    def fail_entries(
        self, code: str, *, bus: str | None = None, times: int | None = None, containing: str = ""
    ) -> None:
        """Entries with this text in their Detail fail, `times` of them or all."""
        self.do(mishaps.FailEntries(code, bus, times, containing))

    def before(self, operation: str, then: mishaps.Scene, having: str | None = None) -> None:
        """Do something right before the next call of an operation, that has this member if named.

        `before("DescribeStream", Split(table, shard), "ExclusiveStartShardId")`: shards appear
        between two pages of a listing.
        """
        self.do(mishaps.Before(operation, then, having))

    def recover(self) -> None:
        """Nothing goes wrong any more, neither by script nor by chance."""
        self.do(mishaps.Recover())

    # What happened

    def events(self, bus: str | None = None, skip: int = 0) -> list[Taken]:
        """What the buses took, in order, a repeat each time; without the first `skip`."""
        return self.do(reports.Events(bus, skip))

    def records(self, table: str) -> list[reports.Written]:
        """Every record that was ever written to the streams of a table, shard by shard."""
        return self.do(reports.Records(table))

    def shards(self, table: str, stream: str | None = None) -> list[reports.ShardState]:
        """The shards of a table's latest stream, or of the one with this ARN."""
        return self.do(reports.Shards(table, stream))

    def calls(self, operation: str | None = None) -> list[reports.Called]:
        """The latest calls that came in, in order."""
        return self.do(reports.Calls(operation))


def _typed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attribute(value) for name, value in item.items()}
