"""The function as a process, in AWS's own runtime client, against a local runtime API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lambda_runtime import Queue, Runtime, event_of, running
from wire import serving

from ddbrelay.testing.builders import record
from ddbrelay.testing.server import SimulatorProcess

if not os.environ.get("CI"):
    pytest.importorskip("awslambdaric", reason="pip install awslambdaric (Linux)")

pytestmark = pytest.mark.slow
BUS = "users-bus"
FILE = f"""
[bus]
name = "{BUS}"
[relay]
dead_letter_queue = "letters"
[[rule]]
name = "paid"
when = {{ new = {{ type = ["paid"] }} }}
source = "shop.orders"
detail_type = "OrderPaid"
detail = "{{id: keys.id, amount: new.amount, proof: new.proof}}"
[[rule]]
when = {{ eventName = ["REMOVE"] }}
skip = "deletes are not events here"
"""
SETTLED = {"batchItemFailures": []}


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        started.create_bus(BUS)
        yield started


@pytest.fixture(scope="module")
def queue() -> Queue:
    return Queue()


@pytest.fixture(scope="module")
def runtime(
    simulator: SimulatorProcess, queue: Queue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Runtime]:
    code: Path = tmp_path_factory.mktemp("code")
    (code / "ddbrelay.toml").write_text(FILE)
    with serving() as server:
        server.respond = queue.respond
        environment = {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_EVENTBRIDGE": simulator.url,
            "AWS_ENDPOINT_URL_SQS": server.url,
        }
        with running(code, environment) as started:
            yield started


def test_changes_become_events_and_everything_is_settled(
    runtime: Runtime, simulator: SimulatorProcess
) -> None:
    before = len(simulator.events(BUS))
    paid = record("a", 7, new={"id": "a", "type": "paid", "amount": 10**30, "proof": b"\x00\xff"})
    answer = runtime.invoke(event_of(paid, record("b", 8, event_name="REMOVE")))
    assert (answer.body, answer.error) == (SETTLED, False), runtime.output()
    (taken,) = simulator.events(BUS, before)
    assert (taken.entry["Source"], taken.entry["DetailType"]) == ("shop.orders", "OrderPaid")
    assert json.loads(taken.entry["Detail"]) == {"id": "a", "amount": str(10**30), "proof": "AP8="}
    line = runtime.lines()[-1]
    assert (line["records"], line["published"], line["skipped"]) == (2, 1, 1)


def test_the_environment_stays_warm_and_the_log_names_each_invocation(runtime: Runtime) -> None:
    for number in range(3):
        runtime.invoke(event_of(record("a", number, new={"id": "a", "type": "paid"})))
    told = [one for one in runtime.lines() if one["message"] == "relayed"][-3:]
    assert len({one["requestId"] for one in told}) == 3
    assert runtime.process.poll() is None


def test_what_cannot_be_mapped_goes_to_the_queue(runtime: Runtime, queue: Queue) -> None:
    broken = record("c", 9, new=b'{"id":{"S":"c"},"type":{"X":"paid"}}')
    assert runtime.invoke(event_of(broken)).body == SETTLED
    assert queue.letters[-1]["sequenceNumber"] == "9"


def test_a_bus_that_is_too_slow_is_answered_before_the_time_is_over(
    runtime: Runtime, simulator: SimulatorProcess
) -> None:
    simulator.fail_next("PutEvents", "ThrottlingException", times=1000)
    paid = [record(key, n, new={"id": key, "type": "paid"}) for n, key in enumerate("ab", 98)]
    answer = runtime.invoke(event_of(*paid), seconds=1.0)
    simulator.recover()
    assert answer.body == {"batchItemFailures": [{"itemIdentifier": "98"}]}


def test_an_event_of_another_source_is_an_error_of_the_function(runtime: Runtime) -> None:
    answer = runtime.invoke({"Records": [{"messageId": "1", "body": "{}"}]})
    assert answer.error
    assert answer.body["errorType"] == "ConfigError"
    assert "not one of a DynamoDB stream" in answer.body["errorMessage"]
    assert runtime.invoke({"Records": []}).body == SETTLED


def test_a_wrong_file_is_an_error_that_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "ddbrelay.toml").write_text('[[rule]]\nwehn = { eventName = ["INSERT"] }\n')
    environment = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    with running(tmp_path, environment) as runtime:
        answer = runtime.invoke(event_of(record("a", 1)))
    assert answer.error
    assert answer.body["errorMessage"].startswith(f"{tmp_path}/ddbrelay.toml:2:1: ")
    assert runtime.lines()[-1]["hint"]
