"""Each example's mapping gives the same events offline, polled, on Lambda and in the library."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from lambda_runtime import Context

from ddbrelay import Mapper
from ddbrelay.aws.session import Aws
from ddbrelay.aws_lambda import Function
from ddbrelay.testing.server import SimulatorProcess
from ddbrelay.times import iso

loads = partial(json.loads, parse_float=str)
"""Every digit counts."""
EXAMPLES = Path(__file__).parent.parent / "examples"
KEYS = {
    "users": ("--key", "id"),
    "outbox": ("--key", "id"),
    "single-table": ("--key", "PK", "--sort-key", "SK"),
}


def changes(example: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = loads((EXAMPLES / example / "changes.json").read_text())[
        "Records"
    ]
    return found


def expected(example: str) -> list[dict[str, Any]]:
    text = (EXAMPLES / example / "expected.jsonl").read_text()
    return [loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("example", KEYS)
def test_the_recorded_changes_become_what_is_expected(example: str) -> None:
    folder = EXAMPLES / example
    command = [sys.executable, "-m", "ddbrelay", "map", "--config", str(folder / "ddbrelay.toml")]
    files = [str(folder / "changes.json"), "--expect", str(folder / "expected.jsonl")]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", KEYS)
def test_the_library_gives_the_same_entries(example: str) -> None:
    mapper = Mapper.load(EXAMPLES / example / "ddbrelay.toml")
    fine = {one["eventID"] for one in expected(example) if one["type"] != "parked"}
    made = [
        entry | {"Detail": loads(entry["Detail"]), "Time": iso(entry["Time"].timestamp())}
        for record in changes(example)
        if record["eventID"] in fine
        for entry in mapper.entries(record)
    ]
    assert made == [one["entry"] for one in expected(example) if one["type"] == "event"]


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as process:
        for variable, value in {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_EVENTBRIDGE": process.url,
            "DDBRELAY_BUS": "default",
        }.items():
            monkeypatch.setenv(variable, value)
        yield process


@pytest.mark.parametrize("example", KEYS)
def test_the_same_changes_on_lambda_become_the_same_entries(
    bus: SimulatorProcess, monkeypatch: pytest.MonkeyPatch, example: str
) -> None:
    monkeypatch.setenv("DDBRELAY_CONFIG", str(EXAMPLES / example / "ddbrelay.toml"))
    wanted = [one["entry"] for one in expected(example) if one["type"] == "event"]
    arn = wanted[0]["Resources"][0]
    parked = {one["eventID"] for one in expected(example) if one["type"] == "parked"}
    records = [
        lambda_form(record, arn) for record in changes(example) if record["eventID"] not in parked
    ]
    function = Function()
    try:
        assert function({"Records": records}, Context()) == {"batchItemFailures": []}
    finally:
        function.close()
    sent = [one.entry for one in bus.events("default", 0)]
    for entry in sent:
        assert entry.pop("EventBusName") == "default"
        entry["Detail"] = loads(entry["Detail"])
        entry["Time"] = iso(entry["Time"])
    # Different items go in any order.
    assert sorted(sent, key=stable_id) == sorted(wanted, key=stable_id)


def stable_id(entry: dict[str, Any]) -> str:
    return str(entry["Resources"][1])


def lambda_form(record: dict[str, Any], arn: str) -> dict[str, Any]:
    """The same record as Lambda hands it over."""
    given = record | {"eventSourceARN": arn}
    if "userIdentity" in given:
        by = given["userIdentity"]
        given["userIdentity"] = {"type": by["Type"], "principalId": by["PrincipalId"]}
    return given


@pytest.mark.slow
@pytest.mark.parametrize("after", ["delete", "expire"])
def test_relayed_items_of_an_outbox_are_tidied(cli: Cli, aws: Aws, name: str, after: str) -> None:
    text = (EXAMPLES / "outbox" / "ddbrelay.toml").read_text() + f'after = "{after}"\n'
    (cli.directory / "ddbrelay.toml").write_text(text.replace("shop-outbox", name))
    cli.ok("provision")
    for record in changes("outbox"):
        if record["eventName"] == "INSERT":
            aws.client("dynamodb").put_item(TableName=name, Item=record["dynamodb"]["NewImage"])
    done = cli.run("tail", "--forward", "--until-idle", "1s")
    assert done.returncode == 3, done.stderr
    left = aws.client("dynamodb").scan(TableName=name)["Items"]
    kept = {item["id"]["S"] for item in left if "expiresAt" not in item}
    assert kept == {"0003"}, "only what is parked stays as it was"
    assert len(left) == (1 if after == "delete" else 4)
    again = cli.json("tail", "--forward", "--until-idle", "1s")[-1]
    assert (again["published"], again["parked"]) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("example", KEYS)
def test_the_same_changes_polled_from_a_stream_become_the_same_events(
    cli: Cli, aws: Aws, example: str
) -> None:
    config = str(EXAMPLES / example / "ddbrelay.toml")
    del cli.environment["DDBRELAY_TABLE"], cli.environment["DDBRELAY_BUS"]
    cli.ok("provision", "--config", config, *KEYS[example])
    (shown,) = cli.json("config", "show", "--config", config)
    table = shown["settings"]["source.table"]["value"]
    # No emulator deletes by Time to Live.
    written = [record for record in changes(example) if "userIdentity" not in record]
    database = aws.client("dynamodb")
    for record in written:
        part = record["dynamodb"]
        if record["eventName"] == "REMOVE":
            database.delete_item(TableName=table, Key=part["Keys"])
        else:
            database.put_item(TableName=table, Item=part["NewImage"])
    done = cli.run(
        "tail", "--forward", "--until-idle", "1s", "--config", config, "--output", "json"
    )
    parked = [one for one in expected(example) if one["type"] == "parked"]
    assert done.returncode == (3 if parked else 0), done.stderr
    *lines, summary = (loads(line) for line in done.stdout.splitlines())
    assert summary["read"] == len(written)
    assert polled(lines) == translated(example, written, lines)


def polled(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What became of each change, in the form of `ddbrelay map`, the changes in their order."""
    found = []
    for line in sorted(lines, key=order):
        change, event, receipt = line["change"], line["event"], line["receipt"]
        one: dict[str, Any] = {"eventID": change["eventID"], "type": receipt["state"]}
        if receipt["state"] == "published":
            one["type"] = "event"
            one["rule"] = event["rule"]
            one["entry"] = {
                "Source": event["source"],
                "DetailType": event["detailType"],
                "Detail": event["detail"],
                "Resources": event["resources"],
                "Time": event["time"],
            }
        elif receipt["state"] == "skipped":
            one["rule"] = receipt["reason"]
        else:
            one["reason"] = receipt["reason"]
        found.append(one)
    return found


def order(line: dict[str, Any]) -> int:
    return int(line["change"]["sequenceNumber"])


def translated(
    example: str, written: list[dict[str, Any]], lines: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What is expected, with the ids, numbers and times that the changes got in this stream."""
    actual: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in sorted(lines, key=order):
        change = line["change"]
        seen = actual[json.dumps(change["keys"])]
        if not seen or seen[-1]["eventID"] != change["eventID"]:
            seen.append(change)
    texts = {one["eventID"]: [] for one in written}  # type: dict[str, list[str]]
    for one in expected(example):
        if one["eventID"] in texts:
            one.pop("rule") if one["type"] == "parked" else None
            texts[one["eventID"]].append(json.dumps(one))
    found = []
    for record in written:
        typed = sorted(record["dynamodb"]["Keys"].items())
        keys = {name: next(iter(value.values())) for name, value in typed}
        change = actual[json.dumps(keys)].pop(0)
        stamp = loads(texts[record["eventID"]][0]).get("entry", {}).get("Time")
        (arn,) = {
            one["entry"]["Resources"][0] for one in expected(example) if one["type"] == "event"
        }
        names = {
            record["eventID"]: change["eventID"],
            record["dynamodb"]["SequenceNumber"]: change["sequenceNumber"],
            arn: change["streamArn"],
        }
        if stamp is not None and ":40:" in stamp:
            names[stamp] = change["time"]
        for text in texts[record["eventID"]]:
            for old, new in names.items():
                text = text.replace(old, new)
            found.append(loads(text))
    return found
