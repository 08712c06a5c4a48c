"""What is wrong before anything is read or sent: one clear line, and nothing half-written."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest
from conftest import Cli
from pipeline import (
    ON_MOTO,
    Pipeline,
    checkpoint,
    clear_error,
    objects,
    rows,
    seen_keys,
    state_file,
)

from ddbrelay.aws.session import Aws
from ddbrelay.infra.names import rule_name

FORWARD = ("tail", "--forward", "--until-idle", "0")
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "x" * 40}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that nobody listens on while the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@pytest.mark.parametrize("words", [("tail",), ("tail", "--forward"), ("replay", "--since", "1h")])
def test_without_a_table_it_says_the_three_ways_to_give_one(
    bare_cli: Cli, words: tuple[str, ...]
) -> None:
    done = bare_cli.run(*words)
    clear_error(done, 2, "error: no table is given", "--table, DDBRELAY_TABLE, or source.table")


def test_without_credentials(bare_cli: Cli) -> None:
    done = bare_cli.run("tail", "--table", "users", "--region", "eu-west-1", "--forward")
    clear_error(done, 5, "error: no AWS credentials were found", "--profile NAME", "--local")
    assert not state_file(bare_cli).exists()


def test_without_a_region(bare_cli: Cli) -> None:
    bare_cli.environment |= KEYS
    done = bare_cli.run("tail", "--table", "users", "--forward")
    clear_error(done, 2, "error: no AWS region is configured", "--region eu-west-1")
    assert not state_file(bare_cli).exists()


def test_with_a_profile_that_does_not_exist(bare_cli: Cli) -> None:
    done = bare_cli.run("tail", "--table", "users", "--profile", "nosuch", "--region", "eu-west-1")
    clear_error(done, 2, "nosuch", "aws configure list-profiles")


def test_when_the_embedded_aws_does_not_run(bare_cli: Cli) -> None:
    done = bare_cli.run("tail", "--table", "users", "--local", "--forward")
    clear_error(done, 5, "error: the embedded AWS is not running", "hint: ddbrelay local start")
    assert not state_file(bare_cli).exists()


@pytest.mark.parametrize("words", [("tail", "--forward"), ("replay", "--since", "1h")])
def test_an_endpoint_that_nobody_answers_is_given_up_soon(
    bare_cli: Cli, closed_port: int, words: tuple[str, ...]
) -> None:
    bare_cli.environment |= KEYS
    url = f"http://127.0.0.1:{closed_port}"
    began = time.monotonic()
    done = bare_cli.run(*words, "--table", "users", "--region", "us-east-1", "--endpoint-url", url)
    clear_error(done, 5, "error: no answer from AWS, to describe the table", url, "the network")
    assert time.monotonic() - began < 30
    assert not rows(bare_cli, "SELECT * FROM positions")


def test_an_endpoint_of_a_standard_variable_that_is_no_address(bare_cli: Cli) -> None:
    bare_cli.environment |= KEYS | {"AWS_ENDPOINT_URL_DYNAMODB": "nonsense"}
    done = bare_cli.run("tail", "--table", "users", "--region", "us-east-1")
    clear_error(done, 2, "Invalid endpoint: nonsense", "AWS_ENDPOINT_URL")


@pytest.mark.slow
@pytest.mark.parametrize("url", ["nonsense", "http://", "http://127.0.0.1:port", "ftp://x", "//x"])
def test_an_endpoint_that_is_no_address(bare_cli: Cli, url: str) -> None:
    bare_cli.environment |= KEYS
    done = bare_cli.run("tail", "--table", "u", "--region", "us-east-1", "--endpoint-url", url)
    clear_error(done, 2, f'the endpoint "{url}" is no address', "http://127.0.0.1:4566")
    assert not state_file(bare_cli).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--until-idle", "soon"), "'--until-idle': 'soon' is not a duration such as 5, 250ms"),
        (("--until-idle", "-1"), "'--until-idle': '-1' is not a duration"),
        (("--timeout", "1w"), "'--timeout': '1w' is not a duration"),
        (("--max-records", "0"), "'--max-records': 0 is not in the range x>=1"),
        (("--max-records", "many"), "'--max-records': 'many' is not a valid integer"),
        (("--grace", "forever"), "--grace: 'forever' is not a duration"),
        (("--max-in-flight", "0"), "--max-in-flight: '0' is not a whole number above zero"),
        (("--output", "xml"), "--output: 'xml' is none of rich, lines, json"),
        (("--max-record", "1"), 'no option "--max-record"'),
        (("--region", "not a region"), "not a region"),
        (("--table", "us ers!"), '"us ers!" is not a name of a table'),
        (("--table", "arn:aws:dynamodb:us-east-1:1:table/users"), "is not the ARN of a table"),
    ],
)
def test_a_value_that_cannot_be_right(bare_cli: Cli, words: tuple[str, ...], says: str) -> None:
    bare_cli.environment |= KEYS | {"DDBRELAY_TABLE": "users", "DDBRELAY_REGION": "us-east-1"}
    bare_cli.environment["DDBRELAY_ENDPOINT_URL"] = "http://127.0.0.1:9"
    clear_error(bare_cli.run("tail", "--forward", *words), 2, says)
    assert not state_file(bare_cli).exists()


@ON_MOTO
def test_a_table_that_is_missing_or_in_another_region(cli: Cli, aws: Aws, name: str) -> None:
    done = cli.run(*FORWARD)
    clear_error(done, 5, f'error: table "{name}" does not exist (us-east-1', "provision")
    Pipeline(aws, name)
    elsewhere = cli.run(*FORWARD, "--region", "eu-central-1")
    clear_error(elsewhere, 5, f'error: table "{name}" does not exist (eu-central-1', "--region")
    assert not state_file(cli).exists()


@ON_MOTO
def test_a_table_without_a_stream(cli: Cli, aws: Aws, name: str) -> None:
    aws.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    done = cli.run(*FORWARD)
    clear_error(done, 5, f'error: table "{name}" has no stream (us-east-1', "--apply-changes")
    assert not state_file(cli).exists()


@pytest.mark.slow
@ON_MOTO
def test_a_missing_bus_is_noticed_before_anything_is_sent_or_kept(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    for words in (FORWARD, ("replay", "--since", "1h", "--forward")):
        done = cli.run(*words, "--bus", f"{name}-other")
        clear_error(done, 5, f'error: bus "{name}-other" does not exist (us-east-1', "--bus")
    clear_error(cli.run(*FORWARD, "--state", "."), 2, "the state file . cannot be used")
    assert not rows(cli, "SELECT * FROM positions")
    assert pipe.received() == []
    # A preview needs no bus.
    assert seen_keys(cli.json("tail", "--until-idle", "0", "--bus", f"{name}-other")) == ["a"]


@pytest.mark.slow
@ON_MOTO
def test_a_stream_that_was_made_anew_is_not_taken_for_the_old_one(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    cli.ok(*FORWARD)
    old, kept = pipe.stream_arn, checkpoint(cli)
    dynamodb = aws.client("dynamodb")
    dynamodb.delete_table(TableName=name)
    aws.client("events").remove_targets(
        Rule=rule_name(name), EventBusName=f"{name}-bus", Ids=["queue"]
    )
    pipe = Pipeline(aws, name)
    assert pipe.stream_arn != old
    pipe.put("b")
    pipe.received()
    clear_error(cli.run(*FORWARD, "--on-gap", "stop"), 4, "no longer exists", "--on-gap continue")
    assert pipe.received() == []
    done = cli.run(*FORWARD, "--output", "json")
    clear_error(done, 4, "error: records of 1 shard were lost")
    lost, event, summary = objects(done.stdout)
    assert (lost["type"], lost["after"]) == ("lost", kept)
    assert seen_keys([event]) == ["b"]
    assert summary["lost"] == [lost]
    # It is accounted for now, and the next run has nothing to say of it.
    pipe.put("c")
    assert seen_keys(cli.json(*FORWARD)) == ["c"]
