"""`ddbrelay provision` as a process: words, JSON, exit codes, two runs at once."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import Cli
from pipeline import ON_MOTO
from provisioning import everything

from ddbrelay.aws.session import Aws
from ddbrelay.local import engine as engines

pytestmark = pytest.mark.moto_first

ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "DDBRELAY_TABLE": "users",
}


@pytest.fixture
def denying(engine: engines.Engine) -> Iterator[Callable[[str], str]]:
    """A proxy before the engine that answers one call with AccessDenied; gives its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(operation: str) -> str:
        class Proxy(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["X-Amz-Target"].endswith(f".{operation}"):
                    text = {"__type": "AccessDeniedException", "message": "x is not authorized"}
                    self.answer(400, json.dumps(text).encode())
                    return
                request = urllib.request.Request(
                    engines.url(engine.port) + self.path, body, dict(self.headers)
                )
                try:
                    with urllib.request.urlopen(request) as reply:
                        self.answer(reply.status, reply.read())
                except urllib.error.HTTPError as error:
                    with error:
                        self.answer(error.code, error.read())

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return engines.url(server.server_port)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_the_first_run_says_what_it_created_and_what_to_type_next(cli: Cli, name: str) -> None:
    done = cli.ok("provision", "--archive-days", "3")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[:3] for row in rows if len(row) > 1] == [
        ["table", name, "created"],
        ["bus", f"{name}-bus", "created"],
        ["queue", f"ddbrelay-{name}", "created"],
        ["rule", f"{name}-bus/ddbrelay-{name}", "created"],
        ["archive", f"ddbrelay-{name}", "created"],
    ]
    addresses = [row[0] for row in rows if len(row) == 1]
    assert [address.split(":")[2] for address in addresses[:4]] == [
        "dynamodb",
        "dynamodb",
        "events",
        "sqs",
    ]
    assert "/stream/" in addresses[1]
    assert addresses[4].startswith("http")
    assert "stream NEW_AND_OLD_IMAGES" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr.startswith("ready in ")
    assert done.stderr.endswith(" · next: ddbrelay --local seed --count 100\n")


def test_in_a_terminal_of_80_columns_only_addresses_are_longer(cli: Cli) -> None:
    cli.environment |= {"TERM": "xterm", "COLUMNS": "80"}
    ours, theirs = pty.openpty()
    with open(ours, "rb", buffering=0) as terminal:
        process = subprocess.Popen(
            cli.arguments("provision"),
            cwd=cli.directory,
            env=cli.env(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        written = b""
        # A terminal whose other side has closed is an error to read on Linux, and its end.
        with suppress(OSError):
            while part := terminal.read(4096):
                written += part
        assert process.wait(30) == 0
    assert b"\x1b[32mcreated\x1b[0m" in written
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|.*\r(?!\n)", "", written.decode())
    lines = [line for line in shown.splitlines() if "arn:aws:" not in line and "http" not in line]
    assert len([line for line in lines if " created" in line]) == 4
    assert max(map(len, lines)) <= 80


def test_the_next_command_carries_the_flags_that_this_one_had(cli: Cli, name: str) -> None:
    endpoint = cli.environment.pop("DDBRELAY_ENDPOINT_URL")
    del cli.environment["DDBRELAY_TABLE"]
    done = cli.ok("provision", "--table", name, "--endpoint-url", endpoint)
    expected = f"ddbrelay --local seed --endpoint-url {endpoint} --table {name} --count 100"
    assert done.stderr.endswith(f"next: {expected}\n")


def test_a_second_run_says_that_nothing_is_to_change(cli: Cli) -> None:
    cli.ok("provision")
    done = cli.ok("provision")
    assert done.stdout.count(" exists") == 4
    assert "created" not in done.stdout
    assert done.stderr.startswith("nothing to change, all of it exists: ready in ")


def test_json_has_an_object_for_each_thing_and_a_summary_with_every_address(
    cli: Cli, aws: Aws, name: str
) -> None:
    *resources, summary = cli.json("provision", "--archive-days", "3")
    assert [(r["type"], r["kind"], r["state"]) for r in resources] == [
        ("resource", kind, "created") for kind in ("table", "bus", "queue", "rule", "archive")
    ]
    assert all(set(r) == {"type", "kind", "name", "state", "arn", "detail"} for r in resources)
    arns = {f"{r['kind']}Arn": r["arn"] for r in resources}
    table = aws.client("dynamodb").describe_table(TableName=name)["Table"]
    url = aws.client("sqs").get_queue_url(QueueName=f"ddbrelay-{name}")["QueueUrl"]
    assert summary.pop("seconds") > 0
    assert summary == arns | {
        "type": "summary",
        "dryRun": False,
        "counts": {"created": 5},
        "streamArn": table["LatestStreamArn"],
        "queueUrl": url,
    }


@ON_MOTO
def test_quiet_prints_nothing_but_json_results(cli: Cli) -> None:
    quiet = cli.ok("provision", "-q")
    assert quiet.stdout == quiet.stderr == ""
    assert len(cli.json("provision", "-q")) == 5


@pytest.mark.slow
@ON_MOTO
def test_what_differs_is_shown_and_refused_with_2(cli: Cli, aws: Aws, name: str) -> None:
    cli.ok("provision")
    before = everything(aws, name)
    done = cli.run("provision", "--source", "myapp.users")
    assert done.returncode == 2
    assert f"{name}-bus/ddbrelay-{name} differs" in done.stdout
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: rule {name}-bus/ddbrelay-{name} differs: pattern ")
    assert error.endswith("nothing was written")
    assert hint == "  hint: the same command with --apply-changes makes these changes"
    assert everything(aws, name) == before
    *resources, summary = map(
        json.loads,
        cli.run("provision", "--source", "myapp.users", "--output", "json").stdout.splitlines(),
    )
    assert [r["state"] for r in resources] == ["exists", "exists", "exists", "differs"]
    assert summary["counts"] == {"exists": 3, "differs": 1}
    changed = cli.ok("provision", "--source", "myapp.users", "--apply-changes")
    assert changed.stdout.count(" updated ") == 1
    assert changed.stderr.startswith("ready in ")


@ON_MOTO
def test_another_key_is_refused_with_the_flags_that_fit(cli: Cli) -> None:
    cli.ok("provision", "--key", "pk:N", "--sort-key", "at")
    done = cli.run("provision", "--apply-changes")
    assert done.returncode == 2
    assert "key pk:N + at:S, wanted id:S" in done.stderr
    assert "hint: a key cannot be changed: --key pk:N --sort-key at:S, or another --table" in (
        done.stderr
    )


def test_another_view_type_warns_of_the_new_stream(cli: Cli) -> None:
    cli.ok("provision", "--view-type", "keys_only")
    done = cli.run("provision")
    assert done.returncode == 2
    assert "stream KEYS_ONLY, wanted NEW_AND_OLD_IMAGES" in done.stderr
    assert "makes these changes: a new stream with a new ARN" in done.stderr


def test_a_dry_run_shows_the_plan_and_writes_nothing(cli: Cli, aws: Aws, name: str) -> None:
    before = everything(aws, name)
    done = cli.ok("provision", "--archive-days", "0", "--dry-run")
    assert everything(aws, name) == before
    assert done.stdout.count("would-create") == 5
    assert "events kept without an end" in done.stdout
    assert done.stderr == (
        "nothing was written: 5 to create, 0 to change · next: the same without --dry-run\n"
    )
    *resources, summary = cli.json("provision", "--dry-run")
    assert {r["arn"] for r in resources} == {None}
    assert (summary["dryRun"], summary["streamArn"], summary["queueUrl"]) == (True, None, None)


@pytest.mark.slow
def test_two_runs_at_once_both_end_well(cli: Cli, aws: Aws, name: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = [*pool.map(lambda _: cli.json("provision"), range(2))]
    assert {r["state"] for run in runs for r in run[:-1]} <= {"created", "exists"}
    assert runs[0][-1]["streamArn"] == runs[1][-1]["streamArn"]
    assert {r["state"] for r in cli.json("provision")[:-1]} == {"exists"}


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("CreateTable", "dynamodb:CreateTable"),
        ("CreateEventBus", "events:CreateEventBus"),
        ("CreateQueue", "sqs:CreateQueue"),
    ],
)
def test_a_missing_permission_names_the_call_and_ends_with_5(
    cli: Cli, denying: Callable[[str], str], operation: str, action: str
) -> None:
    done = cli.run("provision", "--endpoint-url", denying(operation))
    assert done.returncode == 5
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: not allowed to create the ")
    assert f"({action}): x is not authorized" in error
    assert hint.startswith("  hint: ")
    assert cli.ok("provision").stderr.startswith("ready in ")


def test_without_a_table_it_says_how_to_give_one(cli: Cli) -> None:
    del cli.environment["DDBRELAY_TABLE"]
    done = cli.run("provision")
    assert done.returncode == 2
    assert "no table is given" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["--key", "id:X"],
        ["--view-type", "EVERYTHING"],
        ["--archive-days", "-1"],
        ["--table", "a b"],
        ["--source", "aws.users"],
        ["--sort-key", "id"],
    ],
)
def test_bad_input_ends_with_2_before_aws_is_asked(bare_cli: Cli, words: list[str]) -> None:
    bare_cli.environment |= {"DDBRELAY_TABLE": "users", "AWS_DEFAULT_REGION": "us-east-1"}
    done = bare_cli.run("provision", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["provision"], ["teardown", "--yes"]])
def test_no_credentials_end_with_5(bare_cli: Cli, words: list[str]) -> None:
    bare_cli.environment |= {"DDBRELAY_TABLE": "users", "AWS_DEFAULT_REGION": "us-east-1"}
    done = bare_cli.run(*words)
    assert done.returncode == 5
    assert done.stderr.startswith("error: no AWS credentials were found\n  hint: --profile NAME")


@pytest.mark.parametrize("words", [["provision"], ["teardown", "--yes"]])
def test_an_address_where_nobody_answers_ends_with_5_soon(bare_cli: Cli, words: list[str]) -> None:
    bare_cli.environment |= ACCOUNT
    started = time.monotonic()
    done = bare_cli.run(*words, "--endpoint-url", "http://127.0.0.1:9", timeout=30)
    assert time.monotonic() - started < 25
    assert done.returncode == 5
    assert done.stderr.startswith("error: no answer from AWS, to ")
    assert "check the network" in done.stderr


def test_no_region_ends_with_2(bare_cli: Cli) -> None:
    bare_cli.environment |= {"DDBRELAY_TABLE": "users"}
    done = bare_cli.run("provision")
    assert done.returncode == 2
    assert "no AWS region is configured" in done.stderr


@pytest.mark.parametrize("command", ["provision", "teardown"])
def test_the_help_shows_examples(bare_cli: Cli, command: str) -> None:
    text = bare_cli.ok(command, "--help").stdout
    assert "Examples:" in text
    assert "--dry-run" in text
