"""The suites of `ddbrelay.testing.contracts` on the simulator and on both emulators."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ddbrelay.aws.bus import AwsBus
from ddbrelay.aws.session import Aws
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import Transport
from ddbrelay.config import Settings
from ddbrelay.flow.capture import StreamSource
from ddbrelay.flow.sink import Sink
from ddbrelay.local import engine as engines
from ddbrelay.testing import clock
from ddbrelay.testing.builders import TABLE
from ddbrelay.testing.contracts import Feature, SinkContract, StreamSourceContract
from ddbrelay.testing.faults import LOST_AFTER, Faults
from ddbrelay.testing.simulator import SimulatedBus, SimulatedSource
from ddbrelay.testing.stream import SimulatedStream


class OnVirtualTime:
    lacks: Collection[Feature] = ()

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def main(_: random.Random) -> None:
            await test()

        clock.run(main)


class SimulatedStreamHarness(OnVirtualTime):
    @asynccontextmanager
    async def source(self) -> AsyncIterator[StreamSource]:
        self.stream = SimulatedStream(["shard-1"])
        yield SimulatedSource(self.stream, Faults(clock.now))

    async def write(self, *keys: str) -> None:
        for key in keys:
            self.stream.put(key)

    async def succeed(self) -> None:
        self.stream.split("shard-1")

    async def expire(self) -> None:
        await asyncio.sleep(15 * 60)

    async def trim(self) -> None:
        # An iterator taken before must fail for its position, not for its age.
        self.stream.trim("shard-1")

    def now(self) -> float:
        return clock.now()


class TestSimulatedSource(StreamSourceContract):
    @pytest.fixture
    def harness(self) -> SimulatedStreamHarness:
        return SimulatedStreamHarness()


class SimulatedBusHarness(OnVirtualTime):
    lacks = ()

    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        self.bus = SimulatedBus(Faults(clock.now))
        yield self.bus
        assert not self.bus.violations

    @asynccontextmanager
    async def missing(self) -> AsyncIterator[Sink]:
        async with self.sink() as sink:
            self.bus.fail_next("ResourceNotFoundException")
            yield sink

    @asynccontextmanager
    async def deaf(self) -> AsyncIterator[Sink]:
        async with self.sink() as sink:
            self.bus.fail_next(LOST_AFTER)
            yield sink

    async def delivered(self, count: int) -> list[str]:
        assert len(self.bus.delivered) >= count
        return [delivered.event.resources[1] for delivered in self.bus.delivered]


class TestSimulatedBus(SinkContract):
    @pytest.fixture
    def harness(self) -> SimulatedBusHarness:
        return SimulatedBusHarness()


class OnRealTime:
    """On an emulator; `name` is the one of this test's table, bus and queue."""

    def __init__(self, aws: Aws, name: str, lacks: Collection[Feature]) -> None:
        self.aws, self.name, self.lacks = aws, name, lacks

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            await test()

        asyncio.run(main())


class EmulatedStreamHarness(OnRealTime):
    @asynccontextmanager
    async def source(self) -> AsyncIterator[StreamSource]:
        created = self.aws.client("dynamodb").create_table(
            TableName=self.name,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        async with Transport(self.aws) as transport:
            arn = created["TableDescription"]["LatestStreamArn"]
            yield await AwsStream.open(transport, arn)

    async def write(self, *keys: str) -> None:
        for key in keys:
            self.aws.client("dynamodb").put_item(TableName=self.name, Item={"id": {"S": key}})

    async def succeed(self) -> None:
        raise NotImplementedError

    expire = trim = succeed

    def now(self) -> float:
        return time.time()


NO_EMULATOR_DOES = {
    Feature.TIMESTAMPS,
    Feature.SUCCESSION,
    Feature.EXPIRY,
    Feature.TRIMMING,
    Feature.UNKNOWN_SHARDS,
}
MOTO_LACKS = {Feature.UNKNOWN_ITERATORS}


class TestAwsStream(StreamSourceContract):
    @pytest.fixture
    def harness(self, aws: Aws, engine: engines.Engine, name: str) -> EmulatedStreamHarness:
        lacks = NO_EMULATOR_DOES | (MOTO_LACKS if engine.name == "moto" else set())
        return EmulatedStreamHarness(aws, name, lacks)


class EmulatedBusHarness(OnRealTime):
    @asynccontextmanager
    async def sink(self) -> AsyncIterator[Sink]:
        self._queue = self._queue_behind_the_bus()
        async with Transport(self.aws) as transport:
            yield await AwsBus.open(transport, self.name)

    @asynccontextmanager
    async def missing(self) -> AsyncIterator[Sink]:
        async with Transport(self.aws) as transport:
            yield await AwsBus.open(transport, f"{self.name}-missing")

    @asynccontextmanager
    async def deaf(self) -> AsyncIterator[Sink]:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        aws = Aws(Settings(local=True, endpoint_url=engines.url(port)))
        async with server, Transport(aws) as transport:
            yield await AwsBus.open(transport, self.name)

    async def delivered(self, count: int) -> list[str]:
        found: list[str] = []
        deadline = time.monotonic() + 20
        while len(found) < count and time.monotonic() < deadline:
            answer = await asyncio.to_thread(
                self.aws.client("sqs").receive_message,
                QueueUrl=self._queue,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
            )
            found += [
                json.loads(message["Body"])["resources"][1]
                for message in answer.get("Messages", [])
            ]
        return found

    def _queue_behind_the_bus(self) -> str:
        events, sqs = self.aws.client("events"), self.aws.client("sqs")
        url: str = sqs.create_queue(QueueName=self.name)["QueueUrl"]
        attributes: dict[str, Any] = sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["QueueArn"]
        )["Attributes"]
        events.create_event_bus(Name=self.name)
        pattern = json.dumps({"source": [f"ddbrelay.{TABLE}"]})
        events.put_rule(Name=self.name, EventBusName=self.name, EventPattern=pattern)
        events.put_targets(
            Rule=self.name,
            EventBusName=self.name,
            Targets=[{"Id": "queue", "Arn": attributes["QueueArn"]}],
        )
        return url


class TestAwsBus(SinkContract):
    @pytest.fixture
    def harness(self, aws: Aws, engine: engines.Engine, name: str) -> EmulatedBusHarness:
        lacks = {Feature.MISSING_BUS} if engine.name == "ministack" else set()
        return EmulatedBusHarness(aws, name, lacks)
