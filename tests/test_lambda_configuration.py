"""Where the function finds its configuration, and what it says of one that cannot be right."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from lambda_runtime import Context, event_of, json_answer
from wire import Request, http, operation_of, serving

from ddbrelay.aws_lambda import Function
from ddbrelay.aws_lambda.configuration import load
from ddbrelay.config import Config
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.mappings import mapper_of
from ddbrelay.testing.builders import record

FILE = """
[bus]
name = "users-bus"
[[rule]]
when = { eventName = ["INSERT"] }
detail_type = "UserCreated"
schema = "schemas/user.json"
[[rule]]
detail_type = "UserChanged"
schema = "../shared.json"
"""
SCHEMA = '{"type": "object"}'


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The folder of the function's code."""
    folder = tmp_path / "code"
    folder.mkdir()
    return folder


@pytest.fixture
def stored() -> dict[str, str]:
    """What lies in S3 by `/bucket/key`, and in the Parameter Store by name."""
    return {}


@pytest.fixture
def environ(
    code: Path, stored: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The variables of a function; its S3 and its Parameter Store hold what is stored."""

    def respond(request: Request) -> bytes:
        method, path, _, body = request
        if operation_of(request) == "GetParameter":
            asked = json.loads(body)
            assert asked["WithDecryption"] is True
            if asked["Name"] in stored:
                return json_answer({"Parameter": {"Value": stored[asked["Name"]]}})
            return json_answer({"__type": "ParameterNotFound", "message": ""}, 400)
        assert method == "GET"
        found = stored.get(urlsplit(path).path)
        if found is None:
            return http(404, b"<Error><Code>NoSuchKey</Code><Message>no key</Message></Error>")
        return http(200, found.encode())

    with serving() as server:
        server.respond = respond
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", server.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        yield {"LAMBDA_TASK_ROOT": str(code)}


def settled_by_schemas(found: Config) -> None:
    """Fail unless the schemas lie where the rules look for them."""
    assert found.settings.bus == "users-bus"
    assert len(found.mapping.rules) == 2
    mapper_of(found, "users")


def test_by_default_it_lies_beside_the_code(code: Path, environ: dict[str, str]) -> None:
    (code / "ddbrelay.toml").write_text('[bus]\nname = "b"')
    assert load(environ).settings.bus == "b"


def test_without_any_file_the_defaults_and_the_variables_count(environ: dict[str, str]) -> None:
    found = load({**environ, "DDBRELAY_BUS": "b"})
    assert (found.file, found.settings.bus) == (None, "b")


@pytest.mark.parametrize("absolute", [True, False])
def test_a_path_counts_from_the_folder_of_the_code(
    code: Path, environ: dict[str, str], absolute: bool
) -> None:
    (code / "config").mkdir()
    (code / "config" / "relay.toml").write_text('[bus]\nname = "b"')
    named = f"{code}/config/relay.toml" if absolute else "config/relay.toml"
    assert load({**environ, "DDBRELAY_CONFIG": named}).settings.bus == "b"


def test_it_can_lie_in_s3_with_its_schemas_beside_it(
    environ: dict[str, str], stored: dict[str, str]
) -> None:
    stored["/configs/app/users/relay.toml"] = FILE
    stored["/configs/app/users/schemas/user.json"] = stored["/configs/app/shared.json"] = SCHEMA
    found = load({**environ, "DDBRELAY_CONFIG": "s3://configs/app/users/relay.toml"})
    settled_by_schemas(found)
    # An error of the mapping names this path.
    assert str(found.file).endswith("/configs/app/users/relay.toml")


def test_it_can_lie_in_the_parameter_store_with_its_schemas_beside_it(
    environ: dict[str, str], stored: dict[str, str]
) -> None:
    stored["/app/users/relay.toml"] = FILE
    stored["/app/users/schemas/user.json"] = stored["/app/shared.json"] = SCHEMA
    settled_by_schemas(load({**environ, "DDBRELAY_CONFIG": "ssm:/app/users/relay.toml"}))


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("s3://configs/none.toml", r"s3://configs/none.toml \(s3:GetObject\): NoSuchKey"),
        ("ssm:/none", r"parameter /none \(ssm:GetParameter\): ParameterNotFound"),
    ],
)
def test_what_cannot_be_fetched_is_named(environ: dict[str, str], named: str, words: str) -> None:
    with pytest.raises(AwsRefused, match=words):
        load({**environ, "DDBRELAY_CONFIG": named})


def test_a_schema_that_cannot_be_fetched_is_named(
    environ: dict[str, str], stored: dict[str, str]
) -> None:
    stored["/configs/relay.toml"] = '[[rule]]\ndetail_type = "X"\nschema = "gone.json"'
    with pytest.raises(AwsRefused, match=r"s3://configs/gone\.json"):
        load({**environ, "DDBRELAY_CONFIG": "s3://configs/relay.toml"})


@pytest.mark.parametrize("named", ["s3://configs", "s3:/configs/key", "s3://UPPER/key"])
def test_an_address_that_is_none_is_told(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match="no address of an object in S3") as told:
        load({**environ, "DDBRELAY_CONFIG": named})
    assert "s3://bucket/key" in str(told.value.hint)


@pytest.mark.parametrize("schema", ["../../../etc/passwd", "a//b", "/", ".."])
def test_no_schema_leads_out_of_the_bucket(
    environ: dict[str, str], stored: dict[str, str], schema: str
) -> None:
    stored["/configs/relay.toml"] = f'[[rule]]\ndetail_type = "X"\nschema = "{schema}"'
    with pytest.raises((ConfigError, AwsRefused)):
        load({**environ, "DDBRELAY_CONFIG": "s3://configs/relay.toml"})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[bus", "not TOML"),
        ('[bus]\nnmae = "b"', 'unknown key "bus.nmae"'),
        ('[[rule]]\ndetail_type = "X"\ndetail = "{a: "', r"relay.toml:3:\d+: "),
    ],
)
def test_a_wrong_file_is_one_line_that_names_it_and_is_read_anew_with_the_next_event(
    environ: dict[str, str],
    stored: dict[str, str],
    content: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    variables = {**environ, "DDBRELAY_CONFIG": "s3://configs/relay.toml"}
    stored["/configs/relay.toml"] = content

    def bus(request: Request) -> bytes:
        return json_answer({"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]})

    function, event = Function(variables), event_of(record("a", 1))
    with serving() as server:
        server.respond = bus
        monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", server.url)
        with pytest.raises(ConfigError, match=words):
            function(event, Context())
        line: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert line["level"] == "ERROR"
        assert "/configs/relay.toml" in line["message"]
        stored["/configs/relay.toml"] = '[bus]\nname = "b"'
        assert function(event, Context()) == {"batchItemFailures": []}
        function.close()


@pytest.mark.slow
@pytest.mark.parametrize("named", ["s3://configs/relay.toml", "ssm:/relay"])
def test_a_configuration_that_does_not_come_fails_within_the_time_of_the_invocation(
    environ: dict[str, str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Connections are taken, and nothing is ever said.
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", url)
        function, context = Function({**environ, "DDBRELAY_CONFIG": named}), Context(2.5)
        with pytest.raises(AwsRefused, match="did not answer in the time of the invocation"):
            function(event_of(record("a", 1)), context)
        assert context.get_remaining_time_in_millis() > 0
    line: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert line["level"] == "ERROR"
    assert "read the configuration" in line["message"]
