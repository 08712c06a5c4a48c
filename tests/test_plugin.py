"""The fixtures that users get, in this process, before both engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from pipeline import ON_MOTO

import ddbrelay.testing
from ddbrelay.errors import ConfigError
from ddbrelay.flow.tracking import Fate
from ddbrelay.local import engine as engines
from ddbrelay.testing import EmbeddedAws, Events, Relays, aws_environment

CREATED = {"detail-type": ["UserCreated"]}
UPDATED = {"detail-type": ["UserUpdated"]}
DELETED = {"detail-type": ["UserDeleted"]}
FAILED = pytest.fail.Exception


@pytest.fixture
def ddbrelay_local(engine: engines.Engine, tmp_path: Path) -> EmbeddedAws:
    """That of the plugin, but for the process: one runs here already."""
    local = EmbeddedAws(engine.name, tmp_path)
    local.url = engines.url(engine.port)
    return local


@pytest.fixture
def relays(ddbrelay_local: EmbeddedAws, tmp_path: Path) -> Iterator[Relays]:
    """What the fixture `relay` gives, without its verdict at the end of the test."""
    made = Relays(ddbrelay_local, tmp_path, tmp_path, tmp_path)
    yield made
    made._undo.close()


def _ended(relays: Relays) -> str:
    with pytest.raises(FAILED) as failed:
        relays.close()
    return str(failed.value)


def _came(events: Events) -> list[tuple[str, str]]:
    return [(event["detail-type"], event["detail"]["id"]) for event in events]


@pytest.mark.moto_first
def test_a_test_writes_and_sees_what_came_out_behind_the_bus(relay: Relays, events: Events) -> None:
    running = relay("users", "users-bus")
    # As the code under test does: no address, no region, no credentials of its own.
    boto3.client("dynamodb").put_item(TableName="users", Item={"id": {"S": "u1"}})

    event = events.expect(CREATED | {"detail": {"id": ["u1"]}})
    assert (event["source"], event["detail"]) == ("ddbrelay.users", {"id": "u1"})
    events.never(CREATED)

    running.table.put({"id": "u2", "tags": {"a"}, "logins": 1})
    running.table.update({"id": "u2"}, {"logins": 2, "name": "Kaylee"})
    assert running.table.get({"id": "u2"}) == {
        "id": "u2",
        "tags": {"a"},
        "logins": 2,
        "name": "Kaylee",
    }
    running.table.delete({"id": "u2"})
    assert running.table.get({"id": "u2"}) is None
    _, updated, _ = events.expect_in_order([CREATED, UPDATED, DELETED])
    assert updated["detail"]["name"] == "Kaylee"

    assert _came(events) == [
        ("UserCreated", "u1"),
        ("UserCreated", "u2"),
        ("UserUpdated", "u2"),
        ("UserDeleted", "u2"),
    ]
    assert len(events.all({"detail": {"id": ["u1"]}})) == 1
    assert len(events) == running.settle()[Fate.PUBLISHED] == 4
    assert repr(running) == "<RunningRelay users ─▶ users-bus>"

    running.stop()
    running.table.put({"id": "u3"})
    again = relay("users", "users-bus")
    events.expect(CREATED | {"detail": {"id": ["u3"]}})
    assert again.tally.settled == 1, "it went on behind the checkpoint"


@pytest.mark.slow
@ON_MOTO
def test_what_a_test_made_is_gone_before_the_next_one(
    relays: Relays, ddbrelay_local: EmbeddedAws
) -> None:
    rules = [{"detail_type": "{new.kind}Made", "bus": "other-bus"}]
    running = relays("users", rules=rules, allow_parked=True)
    running.table.put({"id": "u1", "kind": "User"})
    running.table.put({"id": "u2"})
    Events(relays).expect({"detail-type": ["UserMade"]})
    assert running.settle()[Fate.PARKED] == 1
    relays.close()

    assert not running.running
    assert ddbrelay_local.client("dynamodb").list_tables()["TableNames"] == []
    buses = ddbrelay_local.client("events").list_event_buses()["EventBuses"]
    assert [bus["Name"] for bus in buses] == ["default"]
    assert not ddbrelay_local.client("sqs").list_queues().get("QueueUrls")


@ON_MOTO
def test_a_failing_expectation_says_what_came_instead(relay: Relays, events: Events) -> None:
    rules = [{"name": "quiet", "when": {"new": {"quiet": [True]}}, "skip": "quiet"}]
    running = relay("users", rules=rules, preset="crud")
    running.table.put({"id": "u1", "plan": "free"})
    running.table.put({"id": "u2", "quiet": True})
    running.settle()

    with pytest.raises(AssertionError) as no_match:
        events.expect({**CREATED, "detail": {"plan": ["paid"]}}, timeout=0)
    said = str(no_match.value).splitlines()
    assert said[0].startswith("no event came within 0 s that matches {'detail-type':")
    assert said[1] == "1 event came, and it does not match:"
    assert "detail.plan" in said[3]
    assert 'wanted "paid"' in said[3]
    assert 'got "free"' in said[3]
    assert said[4] == (
        "the relay of users to users-bus: 1 published, 1 skipped (quiet: 1), 0 parked"
    )

    with pytest.raises(AssertionError, match=r"(?s)must not come:\n  UserCreated .*u1"):
        events.never(CREATED)
    with pytest.raises(AssertionError, match=r"no event 2 of 2 came .*\ntaken already: UserCreate"):
        events.expect_in_order([CREATED, CREATED], timeout=0)
    running.table.delete({"id": "u1"})
    running.settle()
    with pytest.raises(AssertionError, match=r"no event 2 of 2 came .*\ncame too early: UserCreat"):
        events.expect_in_order([DELETED, CREATED], timeout=0)
    events.expect_in_order([CREATED, DELETED])
    with pytest.raises(AssertionError, match=r"(?s)came .*\ntaken already: UserCreated"):
        events.expect(CREATED, timeout=0)


@ON_MOTO
def test_where_nothing_came_it_is_said_once_and_that_the_relay_is_stopped(
    relay: Relays, events: Events
) -> None:
    users = relay("users", rules=[])
    with pytest.raises(AssertionError) as nothing:
        events.expect(CREATED, timeout=0)
    assert str(nothing.value).splitlines() == [
        "no event came within 0 s that matches {'detail-type': ['UserCreated']}",
        "the relay of users to users-bus: 0 published, 0 skipped, 0 parked",
    ]
    users.stop()
    users.put({"id": "u1"})
    with pytest.raises(AssertionError) as stopped:
        events.expect(CREATED, timeout=0)
    assert str(stopped.value).splitlines()[1:] == [
        "the relay of users to users-bus is stopped: 0 published, 0 skipped, 0 parked"
    ]


@ON_MOTO
def test_a_running_relay_writes_to_its_table(relay: Relays, events: Events) -> None:
    users = relay("users", rules=[])
    users.put({"id": "u1", "logins": 1})
    users.update({"id": "u1"}, {"logins": 2})
    assert users.get({"id": "u1"}) == users.table.get({"id": "u1"}) == {"id": "u1", "logins": 2}
    users.delete({"id": "u1"})
    assert users.get({"id": "u1"}) is None
    events.expect_in_order([CREATED, UPDATED, DELETED])


@ON_MOTO
def test_a_second_relay_of_a_running_table_is_refused_at_once(relay: Relays) -> None:
    running = relay("users", rules=[])
    with pytest.raises(FAILED, match=r'runs already, under the name "default"\n.*consumer='):
        relay("users", "other-bus", rules=[])
    relay("users", rules=[], consumer="second")
    running.stop()
    relay("users", rules=[])


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("queue", ["letters", "http://sqs.example/1/letters.fifo"])
def test_a_copy_of_each_parked_record_goes_to_the_queue_that_is_made_for_it(
    relays: Relays, ddbrelay_local: EmbeddedAws, queue: str
) -> None:
    sqs = ddbrelay_local.client("sqs")
    rules = [{"detail_type": "{new.kind}Made"}]
    users = relays("users", rules=rules, allow_parked=True, dead_letter_queue=queue)
    users.put({"id": "u1"})
    users.settle()
    url = sqs.get_queue_url(QueueName=queue.rpartition("/")[2])["QueueUrl"]
    (copy,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert json.loads(copy["Body"])["record"]["dynamodb"]["Keys"] == {"id": {"S": "u1"}}
    relays.close()
    assert not sqs.list_queues().get("QueueUrls")


@ON_MOTO
def test_a_queue_that_is_missing_and_not_to_be_made_fails_the_test_at_once(relays: Relays) -> None:
    relays("users", rules=[]).stop()
    with pytest.raises(FAILED, match=r'ended: queue "none" does not exist.*\n.*dead_letter_queue='):
        relays("users", rules=[], provision=False, dead_letter_queue="none")


@ON_MOTO
def test_a_frozen_clock_stops_neither_the_relay_nor_a_deadline(
    relay: Relays, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = relay("users", rules=[])
    for clock in ("time", "monotonic", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: 1.0)
    running.table.put({"id": "u1"})
    events.expect(CREATED)
    with pytest.raises(AssertionError, match=r"no event came within 0\.05 s"):
        events.expect(DELETED, timeout=0.05)


@pytest.mark.slow
@ON_MOTO
def test_parked_records_fail_a_test_that_does_not_expect_them(relays: Relays) -> None:
    # Nobody waits for it: the relay comes to the end of the stream before it stops.
    relays("users", rules=[], strict=True).table.put({"id": "u1"})
    told = relays("users", rules=[{"detail_type": "{new.kind}Made"}], consumer="second")
    told.table.put({"id": "u2", "kind": "x" * 200})
    told.settle()
    parked = told.dead_letters()
    assert [(one["keys"], one["record"]["eventName"]) for one in parked] == [
        ({"id": "u1"}, "INSERT"),
        ({"id": "u2"}, "INSERT"),
    ]
    assert "kind" in parked[0]["reason"]

    said = _ended(relays).splitlines()
    assert (
        said[0] == "the relay of users parked 2 records; relay(..., allow_parked=True) allows that"
    )
    assert said[1].startswith("  id=u1: ")
    assert said[2].startswith("  id=u2: ")


@ON_MOTO
def test_a_relay_that_cannot_go_on_fails_the_test_at_once(
    relays: Relays, ddbrelay_local: EmbeddedAws
) -> None:
    running = relays("users", "gone-bus", rules=[])
    buses = ddbrelay_local.client("events")
    for rule in buses.list_rules(EventBusName="gone-bus")["Rules"]:
        of = {"Rule": rule["Name"], "EventBusName": "gone-bus"}
        targets = buses.list_targets_by_rule(**of)["Targets"]
        buses.remove_targets(**of, Ids=[target["Id"] for target in targets])
        buses.delete_rule(Name=rule["Name"], EventBusName="gone-bus")
    buses.delete_event_bus(Name="gone-bus")
    running.table.put({"id": "u1"})
    with pytest.raises(FAILED, match='cannot go on: bus "gone-bus" does not exist'):
        running.settle()
    assert 'bus "gone-bus" does not exist' in running.account()
    assert 'cannot go on: bus "gone-bus"' in _ended(relays)


@pytest.mark.slow
@ON_MOTO
def test_a_table_of_ones_own_keeps_its_keys_and_stays(
    relays: Relays, ddbrelay_local: EmbeddedAws
) -> None:
    dynamodb = ddbrelay_local.client("dynamodb")
    dynamodb.create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "number", "AttributeType": "N"}],
        KeySchema=[{"AttributeName": "number", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    dynamodb.put_item(TableName="orders", Item={"number": {"N": "1"}})
    events = Events(relays)
    running = relays("orders", rules=[], start="latest", claim_check="s3://details/here")
    running.table.put({"number": 2, "text": "x" * 390_000})

    (event,) = events
    assert event["detail-type"] == "OrderCreated"
    assert event["detail"]["number"] == 2
    relays.close()
    assert dynamodb.list_tables()["TableNames"] == ["orders"]


@ON_MOTO
def test_mistakes_are_said_in_a_line(relay: Relays, events: Events, tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text('[source]\ntable = "users"\n[[rule]]\nwhen = 5\n')
    wrong_rule = [{"when": {"eventName": ["INSRT"]}}]
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: relay(), r'no table is given\n  hint: relay\(table="users"\)'),
        (lambda: relay("users", presett="x"), r'"presett" is no setting\n  hint: did you mean "pr'),
        (lambda: relay("users", preset="x"), r"relay\(preset=...\): 'x' is none of crud, "),
        (lambda: relay(5), r"relay\(table=...\): 5 is not a text"),
        (lambda: relay("users", region="eu-west-1"), r"takes no region=\n  hint: .*embedded AWS"),
        (lambda: relay("users", state="s.db"), r"takes no state=\n  hint: .*a folder of its own"),
        (lambda: relay("users", metrics_port=9464), r"takes no metrics_port=\n  hint: .*account"),
        (lambda: relay("users", "arn:x"), r'"arn:x" is not a name of a bus\n  hint: bus= with 1'),
        (lambda: relay("users", start="yesterday"), "start= is one of trim-horizon, latest, not"),
        (
            lambda: relay("users", rules={"skip": True}),
            r"rules= is a list of dict.*\n  hint: rules=",
        ),
        (lambda: relay("users", rules=["skip"]), "rules= is a list of dictionaries"),
        (lambda: relay("users", config="nowhere.toml"), "cannot read .*nowhere.toml"),
        (lambda: relay(config=tmp_path / "mapping.toml"), r"mapping.toml:4:\d+: "),
        (lambda: relay("users", rules=wrong_rule), r'relay\(rules=...\): eventName: .*"INSERT"'),
        (lambda: relay("users", provision=False), r"(?s)does not exist.*provision=False"),
        (lambda: events.expect(CREATED), r"relay\(table=...\) comes before"),
        (lambda: events.never({"detail-type": "x"}), r'no event pattern: detail-type: .*\["x"\]'),
        (lambda: events.never("UserCreated"), "no event pattern: a pattern is an object"),
        (
            lambda: events.expect({"detailtype": ["UserCreated"]}),
            r'an event has no field "detailtype"\n  hint: did you mean "detail-type"\?',
        ),
        (
            lambda: events.all({"$or": [{"source": ["a"]}, {"soruce": ["b"]}]}),
            r'an event has no field "soruce"\n  hint: did you mean "source"\?',
        ),
        (lambda: events.expect_in_order(CREATED), "the patterns stand in a list"),
        (lambda: events.expect(CREATED, timeout="5"), "timeout= is a number of seconds.*not '5'"),
        (lambda: events.never(CREATED, within=-1), "within= is a number of seconds.*not -1"),
    ]
    for call, words in cases:
        with pytest.raises(FAILED, match=words):
            call()


def test_only_the_embedded_aws_is_found_while_it_is_patched_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    foreign = {"AWS_PROFILE": "prod", "AWS_SESSION_TOKEN": "x", "AWS_ENDPOINT_URL_SQS": "http://x"}
    for name, value in foreign.items():
        monkeypatch.setenv(name, value)
    earlier = boto3.DEFAULT_SESSION
    local = EmbeddedAws("moto", tmp_path)
    local.url = "http://127.0.0.1:9"
    with pytest.MonkeyPatch.context() as patch:
        local.patch(patch)
        inside = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        client = boto3.client("sqs")
        assert client.meta.endpoint_url == local.url
        assert client.meta.region_name == "us-east-1"
    assert inside == local.environment == aws_environment(local.url)
    assert boto3.DEFAULT_SESSION is earlier
    assert os.environ["AWS_PROFILE"] == "prod"


def test_an_unknown_engine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no engine is called "localstack"'):
        EmbeddedAws("localstack", tmp_path)


@pytest.mark.moto_first
def test_the_embedded_aws_is_emptied(ddbrelay_local: EmbeddedAws) -> None:
    ddbrelay_local.client("sqs").create_queue(QueueName="waiting")
    ddbrelay_local.reset()
    assert not ddbrelay_local.client("sqs").list_queues().get("QueueUrls")


class TestWithARelayOfOnesOwn:
    @pytest.fixture
    def relay(self) -> str:
        return "4 x 100 m"

    def test_the_events_say_so(self, request: pytest.FixtureRequest, relay: str) -> None:
        with pytest.raises(FAILED, match="the fixture relay is one of your own"):
            request.getfixturevalue("events")


def test_every_public_name_of_the_package_is_there() -> None:
    for name in ddbrelay.testing.__all__:
        assert getattr(ddbrelay.testing, name).__name__ == name
        assert name in dir(ddbrelay.testing)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ddbrelay.testing.nothing


def test_the_plugin_loads_nothing_heavy() -> None:
    heavy = ("aiohttp", "boto3", "botocore", "click", "moto", "msgspec", "rich", "uvloop")
    program = (
        "import pytest, sys; before = set(sys.modules); import ddbrelay.testing.plugin;"
        f"print(*sorted((set(sys.modules) - before) & set({heavy})),"
        " len(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (count,) = done.stdout.split()
    assert int(count) <= 5
