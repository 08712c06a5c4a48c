"""The relay on the official DynamoDB Local, whose shards roll over, with an emulated clock.

`DDBRELAY_DYNAMODB_LOCAL` names the folder of the jar, version 2.x (3.x never rolls a shard over).
Its licence lets only holders of an AWS account in good standing use it. It needs Java 17 and
libfaketime, and listens on all interfaces while the tests run. Events and queues come from
ministack, through the variables that boto3 has for one service each. What is proved without the
jar is proved on a stand-in, which is ministack behind the same arguments and the same oddities:
ARNs say `ddblocal`, and times are cut to the minute. Only the jar rolls its shards over: every 4
hours of its clock, which are 24 seconds where that runs 600 times faster.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import dynamodb_local
import emulated
import faketime
import pytest
from conftest import Cli
from emulated import Waiter, World
from pipeline import Pipeline

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.local import engine as engines

JAR, STAND_IN = "jar", "stand-in"
SERVICES = {
    "dynamodb": "AWS_ENDPOINT_URL_DYNAMODB",
    "dynamodbstreams": "AWS_ENDPOINT_URL_DYNAMODB_STREAMS",
    "events": "AWS_ENDPOINT_URL_EVENTBRIDGE",
    "sqs": "AWS_ENDPOINT_URL_SQS",
}
Worlds = Callable[..., AbstractContextManager[World]]


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    # DynamoDB Local takes letters and digits only.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ddbrelaytests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "ddbrelaytests")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.fixture(params=[JAR, STAND_IN])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def preload(kind: str) -> Iterator[Path]:
    if kind == JAR:
        dynamodb_local.required_folder()
    yield faketime.required_library()
    faketime.sweep()


@pytest.fixture
def worlds(
    kind: str,
    preload: Path,
    account: None,
    bare_cli: Cli,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Worlds:
    """Makes a world on DynamoDB Local, events and queues beside it."""
    emulated.required_ministack()

    @contextmanager
    def make(
        clock: Mapping[str, str], steps: faketime.SteppedClock | None = None
    ) -> Iterator[World]:
        java = None
        if kind == JAR:
            folder = dynamodb_local.required_folder()
        else:
            folder, java = dynamodb_local.stand_in(tmp_path)
        beside = engines.start("ministack")
        try:
            with dynamodb_local.running(folder, clock, tmp_path, java) as port:
                for service, variable in SERVICES.items():
                    at = port if service.startswith("dynamodb") else beside.port
                    monkeypatch.setenv(variable, engines.url(at))
                bare_cli.environment |= {
                    "DDBRELAY_TABLE": name,
                    "DDBRELAY_IDLE_INTERVAL": "100ms",
                    "DDBRELAY_DISCOVERY_INTERVAL": "1s",
                }
                yield World(bare_cli, Pipeline(Aws(Settings()), name), steps)
        finally:
            beside.stop()

    return make


@pytest.fixture
def stepped(worlds: Worlds, preload: Path, bare_cli: Cli, tmp_path: Path) -> Iterator[World]:
    """A world whose clock jumps, the relay's with it."""
    clock = faketime.SteppedClock(preload, tmp_path / "clock")
    with worlds(clock.environment, clock) as world:
        bare_cli.environment |= clock.environment
        yield world


def test_each_service_is_asked_at_the_address_of_its_variable_and_under_local_at_one(
    account: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {s: f"http://127.0.0.1:{port}" for port, s in enumerate(SERVICES, start=4001)}
    for service, variable in SERVICES.items():
        monkeypatch.setenv(variable, given[service])
    aws = Aws(Settings())
    assert {s: aws.client(s).meta.endpoint_url for s in SERVICES} == given
    local = Aws(Settings(local=True, endpoint_url="http://127.0.0.1:4000"))
    assert {local.client(s).meta.endpoint_url for s in SERVICES} == {"http://127.0.0.1:4000"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", [STAND_IN])
def test_the_jar_is_started_from_its_folder_on_its_clock_and_is_asked_for_nothing_but_dynamodb(
    stepped: World,
) -> None:
    stepped.write("a")
    code, found = stepped.once()
    assert code == 0
    assert found[0]["change"]["streamArn"].startswith("arn:aws:dynamodb:ddblocal:")
    assert found[0]["change"]["time"].endswith(":00Z")
    assert stepped.arrived() == ["a"]


@pytest.mark.slow
def test_iterators_that_expire_are_renewed_behind_the_last_record(
    stepped: World, wait_until: Waiter
) -> None:
    emulated.iterators_expire_under_a_running_relay(stepped, wait_until)


@pytest.mark.slow
def test_a_stored_iterator_that_expired_is_renewed_behind_the_checkpoint(
    stepped: World, wait_until: Waiter
) -> None:
    emulated.a_stored_iterator_expires(stepped, wait_until)


@pytest.mark.slow
def test_records_trimmed_while_the_relay_was_stopped_are_told(stepped: World) -> None:
    emulated.unread_records_are_trimmed_while_the_relay_is_stopped(stepped)


@pytest.mark.slow
def test_records_trimmed_under_a_relay_that_is_held_up_are_told(
    stepped: World, wait_until: Waiter
) -> None:
    emulated.unread_records_are_trimmed_under_a_relay_that_is_held_up(stepped, wait_until)


@pytest.mark.slow
def test_a_table_that_was_quiet_while_its_last_record_was_trimmed_has_no_gap(
    stepped: World,
) -> None:
    emulated.a_quiet_table_is_no_gap(stepped)


@pytest.mark.slow
def test_a_relay_that_is_killed_at_random_moments_while_shards_roll_over_loses_nothing(
    worlds: Worlds, kind: str, preload: Path
) -> None:
    with worlds(faketime.fast(preload, 600)) as world:
        printed = emulated.killed_again_and_again(
            world, seconds=50 if kind == JAR else 12, pause=0.02, rng=random.Random(11)
        )
        read = {one["change"]["shardId"] for one in printed if one["type"] == "event"}
        children = [shard for shard, parent in world.shards().items() if parent in read]
        assert kind == STAND_IN or read.intersection(children)
