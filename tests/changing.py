"""Tables whose stream changes under a relay: on the simulator's HTTP face, and on ministack."""

from __future__ import annotations

import json
from typing import Any, Protocol

from pipeline import Pipeline

from ddbrelay.testing.server import SimulatorProcess


class Changing(Protocol):
    """A table with a stream, and the bus of its events."""

    def put(self, key: str, version: int) -> None:
        """Write an item; one record where the stream is enabled."""

    def enable(self) -> None:
        """Turn the stream on: a new one."""

    def disable(self) -> None:
        """Turn the stream off; it stays readable for 24 hours."""

    def delete(self) -> None:
        """Delete the table; its stream stays readable for 24 hours."""

    def create(self) -> None:
        """Make the table again, with a stream."""

    def arrived(self) -> list[tuple[str, int]]:
        """Item and version of each event that the bus took so far, in that order."""


class OnSimulator:
    """A `Changing` of two shards."""

    def __init__(self, simulator: SimulatorProcess, table: str) -> None:
        self.simulator, self._table = simulator, table
        simulator.create_bus(f"{table}-bus")
        self.create()

    def put(self, key: str, version: int) -> None:
        self.simulator.put(self._table, {"id": key, "version": version})

    def enable(self) -> None:
        self.simulator.enable_stream(self._table, 2)

    def disable(self) -> None:
        self.simulator.disable_stream(self._table)

    def delete(self) -> None:
        self.simulator.delete_table(self._table)

    def create(self) -> None:
        self.simulator.create_table(self._table, 2)

    def arrived(self) -> list[tuple[str, int]]:
        details = [
            json.loads(t.entry["Detail"]) for t in self.simulator.events(f"{self._table}-bus")
        ]
        return [(detail["id"], detail["version"]) for detail in details]


class OnEngine:
    """A `Changing` on an emulator, where a stream has one shard."""

    def __init__(self, pipe: Pipeline) -> None:
        self._pipe = pipe
        self._arrived: list[tuple[str, int]] = []

    def put(self, key: str, version: int) -> None:
        self._pipe.put(key, version={"N": str(version)})

    def enable(self) -> None:
        self._update(StreamEnabled=True, StreamViewType="NEW_AND_OLD_IMAGES")

    def disable(self) -> None:
        self._update(StreamEnabled=False)

    def _update(self, **specification: Any) -> None:
        self._pipe.aws.client("dynamodb").update_table(
            TableName=self._pipe.table, StreamSpecification=specification
        )

    def delete(self) -> None:
        self._pipe.aws.client("dynamodb").delete_table(TableName=self._pipe.table)

    def create(self) -> None:
        self._pipe = Pipeline(self._pipe.aws, self._pipe.table)

    def arrived(self) -> list[tuple[str, int]]:
        for event in self._pipe.received():
            self._arrived.append((event["detail"]["id"], int(event["detail"]["version"])))
        return self._arrived
