"""An AWS account in memory: tables with their streams, buses, one clock, and the way there."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from ddbrelay.errors import ConfigError
from ddbrelay.testing.face.bus import EntryScripts, Taken
from ddbrelay.testing.face.table import SimulatedTable
from ddbrelay.testing.faults import ApiError, Faults
from ddbrelay.testing.limits import Limits, Throttle
from ddbrelay.testing.stream import VIEW_TYPES, SimulatedStream

SERVICES = ("dynamodb", "dynamodbstreams", "events")
DEFAULT_BUS = "default"
_CALLS_KEPT = 10_000
_TABLE = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
_SHARD_ID = re.compile(r"[a-zA-Z0-9-]{28,65}")


class AccountClock:
    """Epoch seconds: the real time, moved ahead, and perhaps quicker."""

    def __init__(self, speed: float = 1.0) -> None:
        self._from, self._since = time.time(), time.monotonic()
        self.speed = speed

    def __call__(self) -> float:
        return self._from + (time.monotonic() - self._since) * self._speed

    @property
    def speed(self) -> float:
        """Seconds of this clock in a real one."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        if speed <= 0:
            raise ConfigError(f"a clock cannot run {speed:g} times as fast", "a positive number")
        now = self() if hasattr(self, "_speed") else self._from
        self._from, self._since, self._speed = now, time.monotonic(), speed

    def advance(self, seconds: float) -> None:
        """Move it ahead."""
        if seconds < 0:
            raise ConfigError("the clock only goes ahead", "a stream's skew may be negative")
        self._from += seconds


class SimulatedAccount:
    """Everything that one face serves; the bus called default is always there.

    `faults` is the way to each service, without latency at first; `limits` are those of AWS. A
    limit counts by this account's clock: at 600 times the speed it lets 600 times the calls pass.
    """

    def __init__(self, *, seed: int = 0, speed: float = 1.0) -> None:
        self.clock = AccountClock(speed)
        self.rng = random.Random(seed)
        self.limits = Limits.of_aws()
        self.throttle = Throttle()
        self.tables: dict[str, SimulatedTable] = {}
        self.buses: dict[str, float] = {DEFAULT_BUS: self.clock()}
        """When each was created, by name."""
        self.taken: list[Taken] = []
        """In the order of acceptance, a repeat each time."""
        self.entry_scripts = EntryScripts()
        self.faults = {
            service: Faults(self.clock, random.Random(f"{seed} {service}"), (0.0, 0.0))
            for service in SERVICES
        }
        for faults in self.faults.values():
            faults.keep = _CALLS_KEPT
        self.streams: dict[str, SimulatedStream] = {}
        """By ARN, oldest first, those of deleted tables and those that are gone too."""
        self._labelled = 0

    def create_table(
        self,
        name: str,
        keys: Sequence[tuple[str, str]] = (("id", "S"),),
        *,
        ttl_attribute: str | None = None,
    ) -> SimulatedTable:
        """A table without a stream; ConfigError when it exists, or cannot be."""
        if name in self.tables:
            raise ConfigError(f'table "{name}" already exists')
        if not _TABLE.fullmatch(name):
            raise ConfigError(f'"{name}" is not a name of a table', "3 to 255 of a-zA-Z0-9_.-")
        self.tables[name] = SimulatedTable(name, keys, self.clock, ttl_attribute)
        return self.tables[name]

    def delete_table(self, name: str) -> None:
        """The table is gone; its stream stays readable for 24 hours."""
        table = self.table(name)
        if table.stream is not None:
            table.stream.disable()
        del self.tables[table.name]

    def table(self, name: str) -> SimulatedTable:
        """A table by name or ARN; ApiError when it does not exist."""
        found = self.tables.get(name.rpartition("/")[2])
        if found is None:
            raise ApiError(
                "ResourceNotFoundException", f"Requested resource not found: Table: {name}"
            )
        return found

    def enable_stream(
        self,
        table: str,
        view_type: str = VIEW_TYPES[0],
        shards: int | Sequence[str] = 1,
        *,
        skew: float = 0.0,
        enabling: float = 0.0,
    ) -> SimulatedStream:
        """A new stream, with an ARN that no other ever had; its shards' ids, or their number."""
        of = self.table(table)
        if of.stream is not None and of.stream.disabled_at is None:
            raise ConfigError(f'table "{table}" already has a stream', "disable it first")
        if view_type not in VIEW_TYPES:
            raise ConfigError(f"no view type is called {view_type}", ", ".join(VIEW_TYPES))
        check_shard_ids(shards)
        self._labelled = max(round(self.clock() * 1000), self._labelled + 1)
        label = datetime.fromtimestamp(self._labelled / 1000, UTC)
        of.stream = SimulatedStream(
            shards,
            table=of.name,
            label=label.isoformat(timespec="milliseconds").removesuffix("+00:00"),
            view_type=view_type,
            key_names=[name for name, _ in of.keys],
            now=self.clock,
            rng=self.rng,
            limits=self.limits,
            skew=skew,
            enabling=enabling,
        )
        self.streams[of.stream.arn] = of.stream
        return of.stream

    def stream(self, arn: str) -> SimulatedStream:
        """A stream that can be read; ApiError when there is none with this ARN."""
        found = self.streams.get(arn)
        if found is None or found.gone:
            raise ApiError(
                "ResourceNotFoundException",
                f"Requested resource not found: Stream: {arn}",
            )
        return found

    def holder(self, table: str, shard_id: str) -> SimulatedStream:
        """The newest stream of a table, perhaps a deleted one, that has this shard."""
        for stream in reversed(self.streams.values()):
            if stream.table == table and shard_id in stream.shards:
                return stream
        raise ConfigError(f'no stream of a table "{table}" has a shard {shard_id}')


def check_shard_ids(shards: int | Sequence[str]) -> None:
    """ConfigError for what cannot be ids of shards, or their number, by the service model."""
    ids = [] if isinstance(shards, int) else list(shards)
    for shard_id in ids:
        if not _SHARD_ID.fullmatch(shard_id):
            raise ConfigError(
                f'"{shard_id}" is no id of a shard', "28 to 65 letters, digits and dashes"
            )
    if len(set(ids)) < len(ids) or shards in (0, []) or (isinstance(shards, int) and shards < 0):
        raise ConfigError("a stream has at least one shard, and their ids differ")
