"""Where relays are killed: the simulator's HTTP face, and an emulator behind a `Pipeline`."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence

import msgspec
from kill_rounds import Arrival, Written
from pipeline import Pipeline

from ddbrelay.testing.face.mishaps import SetRates
from ddbrelay.testing.faults import Rates
from ddbrelay.testing.server import SimulatorProcess

_OPEN_SHARDS = 8
_JUMPS = 10
_JUMP = 16 * 60.0
"""Ten of them are far from the 24 hours after which records are trimmed."""
_LATE = 1.5
_TIMES = 2
_FAULTS: dict[str, Callable[[SimulatorProcess], None]] = {
    "cut after": lambda simulator: simulator.cut("PutEvents", after=True),
    "cut before": lambda simulator: simulator.cut("PutEvents", after=False),
    "throttle": lambda simulator: simulator.fail_next(
        "PutEvents", "ThrottlingException", times=_TIMES
    ),
}


def kind_of(detail_type: str) -> str:
    """`T1f9Created` -> `Created`."""
    return next(kind for kind in ("Created", "Updated", "Deleted") if detail_type.endswith(kind))


class SimulatorPlace:
    """A table and a bus of the simulator; what AWS does on a bad day happens to them."""

    def __init__(
        self, simulator: SimulatorProcess, table: str, bus: str, seed: str | None = None
    ) -> None:
        """Without a seed everything goes well."""
        self.simulator, self.table, self.bus = simulator, table, bus
        self._groups: list[list[Arrival]] = [[]]
        self._seen = 0
        self._calm = seed is None
        self._rng = random.Random(seed)
        self._jumps = 0
        self._fault_at = 0.0
        kinds = [*_FAULTS, "jump"]
        self._rng.shuffle(kinds)
        self._kinds = itertools.cycle(["grow", *kinds[:2], "grow", *kinds[2:]])
        if seed is not None:
            rates = Rates(
                throttled=0.02, internal=0.01, lost_before=0.01, lost_after=0.01, slow=0.01
            )
            simulator.do(SetRates("dynamodbstreams", rates, (0.0, 0.01), slow_latency=(0.3, 1.0)))
            entries = Rates(entry_throttled=0.03, entry_failed=0.02)
            simulator.do(SetRates("events", entries, (0.0, 0.02)))

    @property
    def stream_arn(self) -> str:
        return self.simulator.records(self.table)[0].stream

    def write(self, changes: Sequence[tuple[str, int | None]]) -> None:
        for key, version in changes:
            if version is None:
                self.simulator.delete(self.table, {"id": key})
            else:
                self.simulator.put(self.table, {"id": key, "version": version})

    def records(self) -> list[Written]:
        return [
            Written(
                one.shard,
                int(one.record.sequence_number),
                one.record.event_id,
                msgspec.json.decode(one.record.dynamodb.keys)["id"]["S"],
            )
            for one in self.simulator.records(self.table)
        ]

    def mark(self) -> None:
        self.arrivals()
        self._groups.append([])

    def arrivals(self) -> list[list[Arrival]]:
        taken = self.simulator.events(self.bus, self._seen)
        self._seen += len(taken)
        for one in taken:
            assert not one.dropped
            detail = json.loads(one.entry["Detail"])
            kind = kind_of(one.entry["DetailType"])
            arrival = Arrival(one.entry["Resources"][1], detail["id"], (kind, detail["version"]))
            self._groups[-1].append(arrival)
        return self._groups

    def mishap(self) -> None:
        if self._calm:
            return
        match next(self._kinds):
            case "grow":
                self._grow()
            case "jump" if self._jumps < _JUMPS:
                self._jumps += 1
                self.simulator.advance(_JUMP)
            case fault if fault in _FAULTS and self._met_the_last_fault():
                self._fault_at = self.simulator.now()
                _FAULTS[fault](self.simulator)

    def _met_the_last_fault(self) -> bool:
        """Faults must not pile up while no relay runs: the next one would not get through them."""
        calls = self.simulator.calls("PutEvents")
        return sum(call.at > self._fault_at for call in calls) > _TIMES

    def _grow(self) -> None:
        opened = [shard.id for shard in self.simulator.shards(self.table) if shard.open]
        grow = self.simulator.split if len(opened) < _OPEN_SHARDS else self.simulator.roll
        grow(
            self.table,
            self._rng.choice(opened),
            listed_after=self._rng.choice((0.0, 0.0, _LATE)),
            looks_open=self._rng.random() < 0.2,
        )

    def recover(self) -> None:
        self.simulator.recover()
        self.simulator.advance(_LATE)


class EnginePlace:
    """A pipeline on an emulator, which has one shard and no bad days."""

    def __init__(self, pipe: Pipeline) -> None:
        self._pipe = pipe
        self._groups: list[list[Arrival]] = [[]]
        self.stream_arn = pipe.stream_arn
        self._shard = pipe.shard

    def write(self, changes: Sequence[tuple[str, int | None]]) -> None:
        for key, version in changes:
            if version is None:
                self._pipe.delete(key)
            else:
                self._pipe.put(key, version={"N": str(version)})

    def records(self) -> list[Written]:
        return [
            Written(
                self._shard,
                int(record["dynamodb"]["SequenceNumber"]),
                record["eventID"],
                record["dynamodb"]["Keys"]["id"]["S"],
            )
            for record in self._pipe.records()
        ]

    def mark(self) -> None:
        entry = {"Source": f"ddbrelay.{self._pipe.table}", "DetailType": "Mark", "Detail": "{}"}
        self._pipe.aws.client("events").put_events(
            Entries=[entry | {"EventBusName": self._pipe.bus}]
        )

    def arrivals(self) -> list[list[Arrival]]:
        for event in self._pipe.received():
            if event["detail-type"] == "Mark":
                self._groups.append([])
                continue
            detail = event["detail"]
            change = (kind_of(event["detail-type"]), int(detail["version"]))
            self._groups[-1].append(Arrival(event["resources"][1], detail["id"], change))
        return self._groups

    def mishap(self) -> None:
        """The emulator has none."""

    def recover(self) -> None:
        """Nothing went wrong."""
