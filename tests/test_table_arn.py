"""A table that is named by its ARN, as one of another account must be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, clear_error
from wire import KEY, SECRET, Server, http, operation_of, serving

from ddbrelay.aws.session import Aws
from ddbrelay.aws.sweeping import OutboxTable
from ddbrelay.aws.table import TableStream, stream_of
from ddbrelay.aws.transport import Transport
from ddbrelay.cli.succession import _between
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.infra.plan import refuse_table_arn

TABLE_ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users"
STREAM = f"{TABLE_ARN}/stream/2026-11-01T00:00:00.000"
NAMED = Settings(table="users", table_arn=TABLE_ARN, region="eu-west-1")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with serving() as started:
        monkeypatch.setenv("AWS_ENDPOINT_URL", started.url)
        yield started


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


def asked(server: Server) -> list[tuple[str, str]]:
    """Operation and TableName of each request."""
    return [(operation_of(one), json.loads(one[3])["TableName"]) for one in server.requests]


def test_dynamodb_is_asked_by_the_arn_and_everything_else_goes_by_the_name(server: Server) -> None:
    described = {
        "TableArn": TABLE_ARN,
        "LatestStreamArn": STREAM,
        "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    }
    server.answer = http(200, json.dumps({"Table": described}).encode())
    aws = Aws(NAMED)
    found = stream_of(aws, "users")
    assert (found.table, found.arn) == ("users", STREAM)
    assert aws.address_of("orders") == "orders"

    async def main() -> None:
        async with Transport(aws) as transport:
            await (await OutboxTable.open(transport, "users")).sweep(
                json.dumps({"TableName": transport.address_of("users")}).encode()
            )

    asyncio.run(main())
    assert asked(server) == [("DescribeTable", TABLE_ARN), ("DeleteItem", TABLE_ARN)]


def test_a_table_that_is_not_there_or_has_no_stream_is_not_to_be_provisioned(
    server: Server,
) -> None:
    server.answer = http(400, b'{"__type": "ResourceNotFoundException"}')
    with pytest.raises(AwsRefused, match=f'table "{TABLE_ARN}" does not exist') as gone:
        stream_of(Aws(NAMED), "users")
    server.answer = http(200, json.dumps({"Table": {"TableArn": TABLE_ARN}}).encode())
    with pytest.raises(AwsRefused, match="has no stream") as without:
        stream_of(Aws(NAMED), "users")
    for refused in (gone.value, without.value):
        assert "provision" not in str(refused.hint)
    assert Aws(NAMED).provision("users-bus") == "aws events create-event-bus --name users-bus"


def test_streams_of_a_table_of_the_same_name_in_another_account_do_not_come_between(
    server: Server,
) -> None:
    own = "arn:aws:dynamodb:eu-west-1:777788889999:table/users/stream/2026-10-01T00:00:00.000"
    server.answer = http(200, json.dumps({"Streams": [{"StreamArn": own}]}).encode())
    words: list[str] = []
    latest = TableStream("users", STREAM, "NEW_AND_OLD_IMAGES", True)
    before = f"{TABLE_ARN}/stream/2026-09-01T00:00:00.000"
    assert _between(Aws(NAMED), before, latest, words.append) == set()
    assert words == ["streams that the table had in between are not known: it is another account's"]


def test_an_arn_of_another_region_is_refused_with_the_region_to_take(server: Server) -> None:
    with pytest.raises(ConfigError, match="is in eu-west-1, and the region is us-east-1") as other:
        Aws(Settings(table="users", table_arn=TABLE_ARN, region="us-east-1"))
    assert other.value.hint == "--region eu-west-1"


def test_nothing_is_made_or_deleted_by_an_arn() -> None:
    with pytest.raises(ConfigError, match="takes no ARN") as refused:
        refuse_table_arn(NAMED, "provision")
    assert "--table users" in str(refused.value.hint)
    refuse_table_arn(Settings(table="users"), "provision")


@pytest.mark.slow
@ON_MOTO
def test_every_command_takes_the_arn_where_it_takes_the_name(cli: Cli, pipe: Pipeline) -> None:
    arn = pipe.stream_arn.partition("/stream/")[0]
    cli.ok("seed", "--table", arn, "--count", "3", "--updates", "0", "--deletes", "0")
    *events, summary = cli.json("tail", "--table", arn, "--forward", "--until-idle", "1s")
    assert summary["published"] == len(events) == 3
    assert {one["event"]["source"] for one in events} == {f"ddbrelay.{pipe.table}"}
    assert cli.json("status", "--table", arn)[-1]["table"] == pipe.table
    for command in ("doctor", "ledger", "schema", "replay --since 1h", "dead-letters list"):
        assert cli.run(*command.split(), "--table", arn).returncode == 0, command
    policy = cli.ok("export", "iam-policy", "--table", arn).stdout
    assert f'"{arn}"' in policy
    assert f'"{arn}/stream/*"' in policy
    for command in ("provision", "teardown --yes"):
        clear_error(cli.run(*command.split(), "--table", arn), 2, "takes no ARN", "--table")
    project = cli.run("export", "sam", "--table", arn, "--stdout")
    clear_error(project, 2, "names one that is there", "--existing-table")
