"""Our own readers and senders before the simulator's HTTP face: conformance, and a whole run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from conftest import Cli
from pipeline import running

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import Transport
from ddbrelay.config import Settings
from ddbrelay.flow.capture import StreamSource
from ddbrelay.flow.capture.port import ITERATOR_LIFETIME
from ddbrelay.flow.sink import Sink
from ddbrelay.testing.contracts import Feature, SinkContract, StreamSourceContract
from ddbrelay.testing.server import SimulatorProcess

Wait = Callable[[Callable[[], bool], float], None]


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        yield started


@pytest.fixture
def simulator(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    yield process
    process.recover()


@pytest.fixture(scope="module")
def aws(process: SimulatorProcess) -> Aws:
    return Aws(Settings(local=True, endpoint_url=process.url))


class FaceHarness:
    lacks: Collection[Feature] = ()

    def __init__(self, simulator: SimulatorProcess, aws: Aws, name: str) -> None:
        self.simulator, self.aws, self.name = simulator, aws, name

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            await test()

        asyncio.run(main())


class StreamFace(FaceHarness):
    @asynccontextmanager
    async def source(self) -> AsyncIterator[StreamSource]:
        arn = self.simulator.create_table(self.name)
        (self.shard,) = self.simulator.shards(self.name)
        async with Transport(self.aws) as transport:
            yield await AwsStream.open(transport, arn)

    async def write(self, *keys: str) -> None:
        for key in keys:
            self.aws.client("dynamodb").put_item(TableName=self.name, Item={"id": {"S": key}})

    async def succeed(self) -> None:
        self.simulator.split(self.name, self.shard.id)

    async def expire(self) -> None:
        self.simulator.advance(ITERATOR_LIFETIME)

    async def trim(self) -> None:
        self.simulator.trim(self.name, self.shard.id)

    def now(self) -> float:
        return self.simulator.now()


class TestStreamBehindHttp(StreamSourceContract):
    @pytest.fixture
    def harness(self, simulator: SimulatorProcess, aws: Aws, name: str) -> StreamFace:
        return StreamFace(simulator, aws, name)


class BusFace(FaceHarness):
    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        self.simulator.create_bus(self.name)
        async with Transport(self.aws) as transport:
            yield await AwsBus.open(transport, self.name)

    @asynccontextmanager
    async def missing(self) -> AsyncIterator[Sink]:
        # AWS itself answers with an id and drops the event; emulators refuse.
        self.simulator.fail_next("PutEvents", "ResourceNotFoundException")
        async with self.sink() as sink:
            yield sink

    @asynccontextmanager
    async def deaf(self) -> AsyncIterator[Sink]:
        self.simulator.cut("PutEvents", after=True)
        async with self.sink() as sink:
            yield sink

    async def delivered(self, count: int) -> list[str]:
        taken = self.simulator.events(self.name)
        assert len(taken) >= count
        return [event.entry["Resources"][1] for event in taken]


class TestBusBehindHttp(SinkContract):
    @pytest.fixture
    def harness(self, simulator: SimulatorProcess, aws: Aws, name: str) -> BusFace:
        return BusFace(simulator, aws, name)


@pytest.mark.slow
def test_the_command_line_relays_every_change_through_splits_and_faults(
    simulator: SimulatorProcess, bare_cli: Cli, name: str, wait_until: Wait
) -> None:
    keys = [f"k{n}" for n in range(15)]
    simulator.create_table(name, 2)
    simulator.create_bus(name)

    def write(turn: int) -> None:
        simulator.put(name, *({"id": key, "turn": turn} for key in keys))

    def published() -> set[str]:
        return {taken.entry["Resources"][1] for taken in simulator.events(name)}

    simulator.rates(
        "dynamodbstreams", throttled=0.02, internal=0.02, lost_after=0.02, empty_page=0.2
    )
    simulator.rates("events", lost_before=0.02, lost_after=0.05, entry_throttled=0.05)
    write(0)
    where = ["--local", "--endpoint-url", simulator.url, "--table", name, "--bus", name]
    follow = ["tail", "--forward", "--until-idle", "2s", "--timeout", "60s", "--output", "json"]
    with running(bare_cli, *where, *follow) as tail:
        wait_until(lambda: len(published()) > 0, 20)
        for turn in range(1, 5):
            opened = [shard.id for shard in simulator.shards(name) if shard.open]
            simulator.split(name, opened[0])
            simulator.roll(name, opened[1])
            write(turn)
            simulator.delete(name, {"id": keys[turn]}, ttl=True)
        code, words = tail.wait(60)
    assert code == 0, words

    written = simulator.records(name)
    assert len({one.shard for one in written}) > 6
    assert published() == {one.record.event_id for one in written}
    summary = json.loads(tail.lines[-1])
    assert (summary["read"], summary["published"]) == (len(written), len(written))
    assert (summary["parked"], summary["lost"]) == (0, [])

    order: dict[bytes, list[tuple[int, str]]] = {}
    for one in written:
        number = int(one.record.sequence_number)
        order.setdefault(bytes(one.record.dynamodb.keys), []).append((number, one.record.event_id))
    key_of = {one.record.event_id: bytes(one.record.dynamodb.keys) for one in written}
    arrived: dict[bytes, dict[str, None]] = {}
    for taken in simulator.events(name):
        event_id = taken.entry["Resources"][1]
        arrived.setdefault(key_of[event_id], {})[event_id] = None
    assert {key: list(ids) for key, ids in arrived.items()} == {
        key: [event_id for _, event_id in sorted(ids)] for key, ids in order.items()
    }
    kinds = {taken.entry["DetailType"][-7:] for taken in simulator.events(name)}
    assert kinds == {"Created", "Updated", "Expired"}
    assert all(msgspec.json.decode(taken.entry["Detail"]) for taken in simulator.events(name))
