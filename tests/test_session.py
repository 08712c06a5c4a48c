"""Where requests go and who signs them: never out of this machine under --local."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from conftest import Cli

from ddbrelay.aws.errors import translated
from ddbrelay.aws.session import Aws, is_loopback
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused, ConfigError

REAL = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_SESSION_TOKEN": "a-real-looking-token",
}


@dataclass
class Received:
    """What a server on this machine was asked: signing key, and target or action."""

    url: str
    keys: list[str] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    targets: list[str | None] = field(default_factory=list)


@pytest.fixture
def servers() -> Iterator[list[Received]]:
    """Three servers that answer every request with empty lists."""
    received: list[Received] = []
    running: list[ThreadingHTTPServer] = []
    threads: list[threading.Thread] = []

    def handler(log: list[Received], index: int) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                signature = self.headers["Authorization"]
                log[index].keys.append(signature.split("Credential=")[1].split("/")[0])
                log[index].tokens.append(self.headers.get("X-Amz-Security-Token"))
                log[index].targets.append(self.headers.get("X-Amz-Target"))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-json-1.0")
                body = b'{"TableNames": [], "Streams": []}'
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler

    for index in range(3):
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(received, index))
        received.append(Received(f"http://127.0.0.1:{server.server_port}"))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        running.append(server)
        threads.append(thread)
    yield received
    for server, thread in zip(running, threads, strict=True):
        server.shutdown()
        server.server_close()
        thread.join()


def call_all(aws: Aws) -> None:
    aws.client("dynamodb").list_tables()
    aws.client("dynamodbstreams").list_streams()
    aws.client("events").list_event_buses()
    aws.client("sqs").list_queues()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        REAL,
        {"AWS_PROFILE": "missing"},
        {"AWS_DEFAULT_PROFILE": "missing"},
        {"AWS_ENDPOINT_URL": "{other}"},
        {"AWS_ENDPOINT_URL_DYNAMODB": "{other}", "AWS_ENDPOINT_URL_SQS": "{other}"},
        {"HTTP_PROXY": "{other}", "HTTPS_PROXY": "{other}", "http_proxy": "{other}"},
        {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_ACCOUNT_ID": "123456789012", "AWS_ACCOUNT_ID_ENDPOINT_MODE": "required"},
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/r", "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere"},
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "{other}/credentials"},
        {"AWS_CA_BUNDLE": "/nowhere", "REQUESTS_CA_BUNDLE": "/nowhere"},
        {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_under_local_the_environment_leads_nowhere_else(
    servers: list[Received], monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    embedded, other, _ = servers
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(other=other.url))
    aws = Aws(Settings(local=True, endpoint_url=embedded.url))
    call_all(aws)
    assert embedded.keys == ["ddbrelay-local"] * 4
    assert embedded.tokens == [None] * 4
    assert other.keys == []
    assert aws.region == "us-east-1"
    assert aws.credentials().access_key == "ddbrelay-local"


def test_under_local_the_shared_files_are_not_read(
    servers: list[Received], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    embedded, other, _ = servers
    credentials = tmp_path / "credentials"
    credentials.write_text(
        "[default]\naws_access_key_id = AKIAREAL\naws_secret_access_key = real\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[default]\nregion = eu-west-1\nendpoint_url = {other.url}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    aws = Aws(Settings(local=True, profile="default", endpoint_url=embedded.url))
    call_all(aws)
    assert embedded.keys == ["ddbrelay-local"] * 4
    assert other.keys == []
    assert aws.region == "us-east-1"


def test_under_local_a_chosen_region_is_kept(servers: list[Received]) -> None:
    aws = Aws(Settings(local=True, endpoint_url=servers[0].url, region="ap-south-1"))
    assert aws.client("dynamodb").meta.region_name == "ap-south-1"


def test_under_local_a_client_forced_to_another_host_is_refused_before_it_connects(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Should the guard ever fail, the request ends here.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    aws = Aws(Settings(local=True, endpoint_url="http://127.0.0.1:1"))
    forced = aws.session.client("dynamodb", endpoint_url="http://127.0.0.2:1")
    with pytest.raises(Exception, match=r"must not reach http://127\.0\.0\.2:1"):
        forced.list_tables()
    default = aws.session.client("dynamodb")
    with pytest.raises(Exception, match=r"must not reach https://.*amazonaws\.com"):
        default.list_tables()


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:4566", True),
        ("http://localhost:4566", True),
        ("http://[::1]:4566", True),
        ("https://example.com", False),
        ("http://127.0.0.1.example.com", False),
        ("http://127.0.0.1@example.com", False),
        ("http://localhost.example.com", False),
        ("", False),
    ],
)
def test_only_this_machine_counts_as_loopback(url: str, here: bool) -> None:
    assert is_loopback(url) is here


def test_local_when_nothing_runs_says_what_to_type(bare_cli: Cli) -> None:
    done = bare_cli.run("--local", "provision", "--table", "users")
    assert done.returncode == 5
    assert done.stderr == ("error: the embedded AWS is not running\n  hint: ddbrelay local start\n")


def test_local_with_an_endpoint_elsewhere_is_refused(bare_cli: Cli) -> None:
    bare_cli.environment["DDBRELAY_LOCAL"] = "1"
    done = bare_cli.run("--endpoint-url", "https://example.com", "provision", "--table", "users")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --local never leaves this machine, but the endpoint is https://example.com\n"
        "  hint: leave out --local, or the endpoint\n"
    )


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user's shell has: a region and credentials, of no account that exists."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name, value in REAL.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("account")
def test_without_local_the_standard_variables_are_honoured(
    servers: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    general, streams, events = servers
    monkeypatch.setenv("AWS_ENDPOINT_URL", general.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", streams.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTBRIDGE", events.url)
    aws = Aws(Settings())
    call_all(aws)
    assert [(target or "").split(".")[-1] for target in general.targets] == [
        "ListTables",
        "ListQueues",
    ]
    assert [(target or "").split(".")[-1] for target in streams.targets] == ["ListStreams"]
    assert [(target or "").split(".")[-1] for target in events.targets] == ["ListEventBuses"]
    assert set(general.keys) == {REAL["AWS_ACCESS_KEY_ID"]}
    assert set(general.tokens) == {REAL["AWS_SESSION_TOKEN"]}
    assert aws.region == "eu-west-1"


@pytest.mark.usefixtures("account")
def test_an_endpoint_setting_wins_over_the_variables(
    servers: list[Received], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, other, _ = servers
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", other.url)
    call_all(Aws(Settings(endpoint_url=chosen.url)))
    assert (len(chosen.keys), other.keys) == (4, [])


def test_a_profile_gives_region_credentials_and_endpoints(
    servers: list[Received], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text(
        "[profile shop]\n"
        "region = sa-east-1\n"
        "aws_access_key_id = AKIASHOP\n"
        "aws_secret_access_key = secret\n"
        "services = here\n"
        "[services here]\n"
        f"dynamodb =\n  endpoint_url = {servers[0].url}\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    aws = Aws(Settings(profile="shop"))
    aws.client("dynamodb").list_tables()
    assert aws.region == "sa-east-1"
    assert servers[0].keys == ["AKIASHOP"]


def test_the_region_variable_of_all_sdks_wins_over_the_one_of_boto3(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert Aws(Settings()).region == "eu-north-1"
    assert Aws(Settings(region="sa-east-1")).region == "sa-east-1"


@pytest.mark.slow
def test_the_guard_of_local_holds_without_assertions() -> None:
    program = (
        "from ddbrelay.aws.session import Aws; from ddbrelay.config import Settings;"
        "aws = Aws(Settings(local=True, endpoint_url='http://127.0.0.1:1'));"
        "aws.session.client('dynamodb', endpoint_url='http://127.0.0.2:1').list_tables()"
    )
    done = subprocess.run([sys.executable, "-O", "-c", program], capture_output=True, text=True)
    assert "must not reach http://127.0.0.2:1" in done.stderr


def test_no_region_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="no AWS region") as caught:
        Aws(Settings())
    assert caught.value.hint is not None
    assert "--region" in caught.value.hint


@pytest.mark.parametrize("how", ["setting", "variable"])
def test_a_profile_that_does_not_exist_is_a_clear_error(bare_cli: Cli, how: str) -> None:
    words = ["--profile", "missing"] if how == "setting" else []
    if how == "variable":
        bare_cli.environment["AWS_PROFILE"] = "missing"
    done = bare_cli.run("--region", "eu-west-1", "provision", "--table", "users", *words)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error == "error: The config profile (missing) could not be found"
    assert "aws configure list-profiles" in hint


def test_no_credentials_are_a_clear_error(bare_cli: Cli) -> None:
    done = bare_cli.run("--region", "eu-west-1", "provision", "--table", "users")
    assert done.returncode == 5
    error, hint = done.stderr.splitlines()
    assert error == "error: no AWS credentials were found"
    assert "--local" in hint
    with pytest.raises(AwsRefused, match="no AWS credentials"):
        Aws(Settings(region="eu-west-1")).credentials()


@pytest.mark.usefixtures("account")
def test_an_endpoint_that_does_not_answer_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    aws = Aws(Settings(endpoint_url=url))
    doing = "list the tables"
    with (
        pytest.raises(AwsRefused, match=f"no answer from AWS, to {doing}") as caught,
        translated(doing),
    ):
        aws.client("dynamodb").list_tables()
    assert url in caught.value.message
    assert isinstance(caught.value.__cause__, BotoCoreError)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ExpiredTokenException", "AWS refused the credentials, to list the tables"),
        ("UnrecognizedClientException", "AWS refused the credentials"),
        ("AccessDeniedException", "not allowed to list the tables: the words of AWS"),
        ("ResourceNotFoundException", "cannot list the tables: ResourceNotFoundException"),
    ],
)
def test_what_aws_refuses_is_one_line_with_its_code(code: str, says: str) -> None:
    body = {"Error": {"Code": code, "Message": "the words of AWS\nand a second line"}}
    with pytest.raises(AwsRefused) as caught, translated("list the tables"):
        raise ClientError(body, "ListTables")
    assert caught.value.code == code
    assert caught.value.message.startswith(says)
    assert "\n" not in caught.value.message


def test_the_tests_themselves_see_no_account() -> None:
    assert os.environ["AWS_CONFIG_FILE"] == os.devnull
    assert Aws(Settings(region="eu-west-1")).session.get_credentials() is None
