"""The simulator's control face, and the process that it is."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import msgspec
import pytest
from click.testing import CliRunner

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.errors import ConfigError
from ddbrelay.testing.__main__ import main
from ddbrelay.testing.face.account import AccountClock
from ddbrelay.testing.face.control import ACTIONS
from ddbrelay.testing.face.operations import OPERATIONS
from ddbrelay.testing.face.scenes import Advance, Write
from ddbrelay.testing.limits import Limits
from ddbrelay.testing.server import SimulatorProcess, serving


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        yield started


@pytest.fixture
def simulator(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    yield process
    process.recover()
    process.limits(Limits.of_aws())


def test_mistakes_in_a_control_request_are_said_in_one_line(
    simulator: SimulatorProcess, name: str
) -> None:
    simulator.create_table(name)
    for call, words in (
        (lambda: simulator.create_table(name), "already exists"),
        (lambda: simulator.create_table("x"), "not a name of a table"),
        (lambda: simulator.create_table(f"{name}-2", view_type="ALL"), "no view type"),
        (lambda: simulator.create_table(f"{name}-3", ["short"]), "no id of a shard"),
        (lambda: simulator.create_table(f"{name}-4", 0), "at least one shard"),
        (lambda: simulator.split(name, "nowhere"), "has a shard nowhere"),
        (lambda: simulator.put("missing", {"id": "a"}), "not found"),
        (lambda: simulator.put(name, {"x": "a"}), "Missing the key id"),
        (lambda: simulator.fail_next("Scan", "X"), "no operation"),
        (lambda: simulator.rates("s3"), "no service"),
        (lambda: simulator.advance(-1), "only goes ahead"),
        (lambda: simulator.delete_bus(name), "no bus"),
        (lambda: simulator.do(Write(name, [{"put": 3}])), "Expected `object"),  # type: ignore[list-item]
    ):
        with pytest.raises(ConfigError, match=words) as refused:
            call()  # type: ignore[no-untyped-call]
        assert "\n" not in refused.value.message


def test_the_control_face_speaks_json_over_get_and_post(
    simulator: SimulatorProcess, name: str
) -> None:
    body = json.dumps({"table": name, "shards": 3}).encode()
    made = urllib.request.urlopen(f"{simulator.url}/_simulator/create-table", body).read()
    assert json.loads(made).startswith("arn:aws:dynamodb:")
    with urllib.request.urlopen(f"{simulator.url}/_simulator/shards?table={name}") as answer:
        assert [shard["open"] for shard in json.load(answer)] == [True] * 3
    for path, status in (("split?table=x", 405), ("shards", 400)):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{simulator.url}/_simulator/{path}")
        assert refused.value.code == status
        refused.value.close()
    assert "remove-shard" in ACTIONS


def test_calls_are_remembered(simulator: SimulatorProcess, name: str) -> None:
    arn = simulator.create_table(name)
    aws = Aws(Settings(local=True, endpoint_url=simulator.url))
    aws.client("dynamodbstreams").describe_stream(StreamArn=arn, Limit=5)
    called = simulator.calls("DescribeStream")[-1]
    assert called.members == {"StreamArn": arn, "Limit": 5}
    assert called.at == pytest.approx(simulator.now(), abs=30)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_is_and_ends_on_a_signal(number: int) -> None:
    command = [sys.executable, "-m", "ddbrelay.testing", "--port", "0", "--speed", "600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = json.loads(process.stdout.readline())
        assert ready["pid"] == process.pid
        assert urlsplit(ready["url"]).hostname == "127.0.0.1"
        process.send_signal(number)
        assert process.wait(5) == 0
        assert process.stderr.read() == b""


def test_a_port_that_is_taken_is_said_in_one_line(simulator: SimulatorProcess) -> None:
    done = CliRunner().invoke(main, ["--port", str(urlsplit(simulator.url).port)])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: port ")
    assert done.stderr.count("\n") == 2


def test_a_clock_can_run_quicker() -> None:
    hands = AccountClock(speed=1000.0)
    started, real = hands(), time.time()
    while hands() - started < 100:
        time.sleep(0.01)
    assert time.time() - real < 10
    hands.speed = 1.0
    now = hands()
    hands.advance(5)
    assert 5 <= hands() - now < 100
    with pytest.raises(ConfigError, match="cannot run 0 times"):
        hands.speed = 0.0


def test_it_also_lives_in_an_event_loop() -> None:
    async def lives() -> None:
        async with serving() as simulator:
            simulator.create_table("users")
            before = simulator.now()
            simulator.do(Advance(60))
            assert simulator.now() - before >= 60
            aws = Aws(Settings(local=True, endpoint_url=simulator.url))
            put = aws.client("dynamodb").put_item
            await asyncio.to_thread(put, TableName="users", Item={"id": {"S": "a"}})
            assert len(simulator.records("users")) == 1

    asyncio.run(lives())


def test_ids_and_order_are_the_same_for_the_same_seed() -> None:
    async def tree() -> list[str]:
        async with serving() as simulator:
            simulator.create_table("users", 2)
            for _, shard in zip(range(3), simulator.shards("users"), strict=False):
                simulator.split("users", shard.id)
            return [shard.id[-8:] for shard in simulator.shards("users")]

    assert asyncio.run(tree()) == asyncio.run(tree())


def test_requests_are_those_of_the_service_models() -> None:
    session = botocore.session.get_session()
    for operation in OPERATIONS.values():
        model = session.get_service_model(operation.service).operation_model(operation.name)
        assert model.input_shape is not None
        fields = msgspec.structs.fields(operation.request)
        assert {field.encode_name for field in fields} <= model.input_shape.members.keys()
        required = {field.encode_name for field in fields if field.required}
        assert required == set(model.input_shape.required_members), operation.name
    prefixes = {
        session.get_service_model(o.service).metadata["targetPrefix"] for o in OPERATIONS.values()
    }
    assert {target.partition(".")[0] for target in OPERATIONS} == prefixes


def test_a_full_page_costs_little_more_than_its_bytes(
    simulator: SimulatorProcess, name: str
) -> None:
    """Ratios, so that a slow machine does not matter."""
    arn = simulator.create_table(name)
    simulator.limits(Limits())
    simulator.put(name, *({"id": f"k{n}", "name": "Kaylee"} for n in range(1000)))
    (shard,) = simulator.shards(name)
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc)

    def ask(operation: str, **members: Any) -> dict[str, Any]:
        headers = {"X-Amz-Target": f"DynamoDBStreams_20120810.{operation}"}
        connection.request("POST", "/", json.dumps(members), headers)
        return json.loads(connection.getresponse().read())

    def seconds(iterator: str) -> float:
        best = []
        for _ in range(10):
            started = time.perf_counter()
            ask("GetRecords", ShardIterator=iterator)
            best.append(time.perf_counter() - started)
        return min(best)

    where = {"StreamArn": arn, "ShardId": shard.id}
    full, empty = (
        ask("GetShardIterator", **where, ShardIteratorType=kind)["ShardIterator"]
        for kind in ("TRIM_HORIZON", "LATEST")
    )
    assert seconds(full) < 100 * seconds(empty)
    connection.close()
