"""A stream of another view type than the mapping needs: every run says so before it reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Cli
from lambda_runtime import Context, event_of, took
from pipeline import ARN, ON_MOTO, clear_error, rows
from test_checkup import configured
from wire import Server, serving

from ddbrelay.arns import table_arn_in
from ddbrelay.aws.session import Aws
from ddbrelay.aws.table import TableStream
from ddbrelay.aws_lambda import Function
from ddbrelay.cli import succession
from ddbrelay.config import Config, Settings
from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Position, Record
from ddbrelay.mappings import rules_of
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing.builders import record
from ddbrelay.view_types import Harm, check_view_type, needs_of, unmet

RULE = """
[[rule]]
name = "email-changed"
when = { eventName = ["MODIFY"], changed = ["email"] }
detail_type = "EmailChanged"
detail = "{after: new.email}"
"""
WORDS = 'the stream has KEYS_ONLY, and rule "email-changed" needs changed: the rule can never match'
MEND = "--view-type NEW_AND_OLD_IMAGES --apply-changes gives the table a stream that has them"


# What is known of a pattern


def when(pattern: str) -> str:
    return f'[[rule]]\nwhen = {pattern}\ndetail_type = "A"\ndetail = {{ id = "{{keys.id}}" }}\n'


@pytest.mark.parametrize(
    ("pattern", "view", "harms"),
    [
        # Of inserts the new image alone says what changed.
        ('{ changed = ["email"] }', "NEW_IMAGE", [Harm.SOME_NEVER_MATCH]),
        ('{ changed = ["email"] }', "KEYS_ONLY", [Harm.NEVER_MATCHES]),
        ('{ eventName = ["INSERT"], changed = ["email"] }', "NEW_IMAGE", []),
        # A delete has no new image on any stream.
        ('{ new = { kind = ["a"] } }', "NEW_IMAGE", []),
        ('{ old = { kind = ["a"] } }', "NEW_IMAGE", [Harm.NEVER_MATCHES]),
        ("{ old = { kind = [{ exists = false }] } }", "NEW_IMAGE", []),
        ("{ old = { at = { kind = [{ exists = false }] } } }", "KEYS_ONLY", []),
        (
            '{ "$or" = [{ eventName = ["REMOVE"] }, { new = { kind = ["a"] } }] }',
            "KEYS_ONLY",
            [Harm.SOME_NEVER_MATCH],
        ),
        (
            '{ "$or" = [{ old = { kind = ["a"] } }, { new = { kind = ["a"] } }] }',
            "KEYS_ONLY",
            [Harm.NEVER_MATCHES],
        ),
        ('{ dynamodb = { NewImage = { k = { S = ["a"] } } } }', "OLD_IMAGE", [Harm.NEVER_MATCHES]),
        ('{ eventName = [{ prefix = "INS" }], old = { k = ["a"] } }', "KEYS_ONLY", []),
    ],
)
def test_a_pattern_is_said_not_to_match_only_where_that_is_certain(
    tmp_path: Path, pattern: str, view: str, harms: list[Harm]
) -> None:
    config = configured(tmp_path, when(pattern))
    needs = needs_of(config, rules_of(config, "users"))
    assert [need.harm for need in unmet(needs, view)] == harms


def test_nothing_is_said_where_nothing_is_certain(tmp_path: Path) -> None:
    own = Config(Settings(table="users", mapper="m:f"), {}, None)
    for config, view_type in (
        (own, "KEYS_ONLY"),
        (configured(tmp_path, RULE), "unknown"),
        (configured(tmp_path, RULE), "NEW_AND_OLD_IMAGES"),
    ):
        check_view_type(config, "users", view_type, pytest.fail, strict=True)


@pytest.mark.parametrize(
    ("text", "view_type", "words"),
    [
        ("", "KEYS_ONLY", "the default mapping needs new and old for deletes"),
        ("", "NEW_IMAGE", "the default mapping needs old for deletes"),
        ('preset = "single-table"\n', "OLD_IMAGE", "the preset single-table needs new"),
        ('preset = "outbox"\n', "KEYS_ONLY", "the preset outbox needs each new item"),
        (RULE, "NEW_IMAGE", 'rule "email-changed" needs changed'),
    ],
)
def test_presets_and_rules_are_told_alike_and_refused_when_strict(
    tmp_path: Path, text: str, view_type: str, words: str
) -> None:
    config = configured(tmp_path, text)
    told: list[str] = []
    check_view_type(config, "users", view_type, told.append, strict=False)
    (line,) = told
    assert line.startswith(f"the stream has {view_type}, and {words}: ")
    assert line.endswith(f"; ddbrelay provision --table users {MEND}")
    with pytest.raises(ConfigError) as refused:
        check_view_type(config, "users", view_type, pytest.fail, strict=True)
    assert f"{refused.value.message}; {refused.value.hint}" == line


# Runs


@pytest.fixture
def keys_only(cli: Cli, aws: Aws, name: str) -> Cli:
    """A table whose stream has only keys, with a change that a rule is for."""
    cli.ok("provision", "--view-type", "KEYS_ONLY")
    (cli.directory / "ddbrelay.toml").write_text(RULE)
    for email in ("a@example.org", "b@example.org"):
        item = {"id": {"S": "a"}, "email": {"S": email}}
        aws.client("dynamodb").put_item(TableName=name, Item=item)
    return cli


@ON_MOTO
def test_a_run_says_at_its_start_what_its_stream_does_not_carry(keys_only: Cli) -> None:
    for command in (
        ("tail", "--forward", "--until-idle", "0"),
        ("replay", "--since", "1h"),
        ("replay", "--from", "checkpoint"),
    ):
        done = keys_only.ok(*command)
        assert done.stderr.count(WORDS) == 1, command
        assert done.stderr.index(WORDS) < done.stderr.index(
            "preview" if command[0] == "replay" else "consumer"
        )


@ON_MOTO
def test_a_strict_run_ends_with_2_before_its_checkpoint_moves(keys_only: Cli) -> None:
    keys_only.environment["DDBRELAY_STRICT"] = "true"
    for command in (
        ("tail", "--forward", "--until-idle", "0"),
        ("tail", "--until-idle", "0"),
        ("replay", "--since", "1h"),
    ):
        clear_error(keys_only.run(*command), 2, WORDS, MEND)
    assert rows(keys_only, "SELECT * FROM positions") == []


@pytest.mark.slow
@ON_MOTO
def test_the_relay_of_a_scenario_says_it_too(keys_only: Cli) -> None:
    (keys_only.directory / "mail.toml").write_text(
        """
relay = true
timeout = "1s"
[[step]]
put = { id = "b", email = "a" }
[[expect]]
event = { detail-type = ["EmailChanged"] }
"""
    )
    assert WORDS in keys_only.run("expect", "mail.toml").stderr
    keys_only.environment["DDBRELAY_STRICT"] = "true"
    clear_error(keys_only.run("expect", "mail.toml"), 2, WORDS)


def test_an_earlier_stream_has_its_own_view_type_and_one_that_is_gone_none() -> None:
    """What the streams of a table have in common is only its name."""
    prefix = ARN.rpartition("/")[0]
    first = f"{prefix}/2026-01-01T00:00:00.000"
    views = {first: "KEYS_ONLY", f"{prefix}/2026-01-02T00:00:00.000": None}

    class Streams:
        def list_streams(self, TableName: str) -> dict[str, Any]:  # noqa: N803
            return {"Streams": [{"StreamArn": arn} for arn in (*views, latest.arn)]}

        def describe_stream(self, StreamArn: str, Limit: int) -> dict[str, Any]:  # noqa: N803
            if (view := views[StreamArn]) is None:
                code = {"Error": {"Code": "ResourceNotFoundException", "Message": "gone"}}
                raise ClientError(code, "DescribeStream")  # type: ignore[arg-type]
            return {"StreamDescription": {"StreamStatus": "DISABLED", "StreamViewType": view}}

    latest = TableStream(
        "users",
        f"{prefix}/2026-01-03T00:00:00.000",
        "NEW_AND_OLD_IMAGES",
        True,
        table_arn=str(table_arn_in(ARN)),
    )
    with closing(Database(":memory:")) as database:
        store = SqliteStore(database, "default", first)
        asyncio.run(store.begin([Position("s1")]))
        aws: Any = SimpleNamespace(client=lambda service: Streams(), table_arn=None)
        legs = succession.older(aws, database, "default", latest, pytest.fail)
    assert [leg.stream.view_type for leg in legs] == ["KEYS_ONLY", "unknown"]


# The function


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[SimpleNamespace]:
    with serving() as bus:
        bus.respond = took
        for variable, value in {
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_EVENTBRIDGE": bus.url,
            "LAMBDA_TASK_ROOT": str(tmp_path),
            "DDBRELAY_BUS": "default",
        }.items():
            monkeypatch.setenv(variable, value)
        (tmp_path / "ddbrelay.toml").write_text(RULE)
        made = Function()
        yield SimpleNamespace(call=made, bus=bus)
        made.close()


def of_view_type(view_type: str | None) -> dict[str, object]:
    """What the function gets for a change of a stream of this view type."""
    one: Record = record("a", 1, "MODIFY", images=False)
    event = event_of(one)
    event["Records"][0]["dynamodb"].pop("StreamViewType")
    if view_type is not None:
        event["Records"][0]["dynamodb"]["StreamViewType"] = view_type
    return event


def test_on_lambda_it_is_said_once_an_environment(
    function: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert function.call(of_view_type("KEYS_ONLY"), Context()) == {"batchItemFailures": []}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["level"] for one in lines] == ["WARN", "INFO", "INFO", "INFO"]
    assert lines[0]["message"].startswith(WORDS)


def test_on_lambda_nothing_is_said_of_a_record_that_does_not_tell_its_view_type(
    function: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    function.call(of_view_type(None), Context())
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["level"] for one in lines] == ["INFO", "INFO"]
    assert [one["message"].partition(":")[0] for one in lines] == ["mapping", "relayed"]


def test_on_lambda_with_strict_nothing_is_settled(
    function: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DDBRELAY_STRICT", "true")
    for _ in range(2):
        with pytest.raises(ConfigError, match="can never match"):
            function.call(of_view_type("KEYS_ONLY"), Context())
    bus: Server = function.bus
    assert bus.requests == []
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["level"] for one in lines] == ["ERROR"] * 2
