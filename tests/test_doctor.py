"""`ddbrelay doctor`: against AWS that refuses, against the embedded one, and what it prints."""

from __future__ import annotations

import asyncio
import io
import json
import shlex
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, objects, state_file
from rich.cells import cell_len
from test_checkup import bad, configured, only
from test_readme import ROOT

from ddbrelay.aws.session import Aws
from ddbrelay.checkup import sample, table
from ddbrelay.checkup.asking import QuickAws
from ddbrelay.checkup.examination import examine
from ddbrelay.checkup.findings import Finding, Level, counts
from ddbrelay.cli.console import Console
from ddbrelay.cli.doctor import _judge, _print_rows
from ddbrelay.cli.main import cli as cli_group
from ddbrelay.cli.options import Run
from ddbrelay.config import Config, Settings
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Position
from ddbrelay.infra.names import queue_name
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore

CALLER = (
    "<GetCallerIdentityResponse><GetCallerIdentityResult>"
    "<Arn>arn:aws:sts::444455556666:assumed-role/deploy/ci</Arn><UserId>A:ci</UserId>"
    "<Account>444455556666</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
)
DENIED = '{"__type": "AccessDeniedException", "message": "not authorized"}'


_TABLE = {
    "TableName": "users",
    "TableArn": "arn:aws:dynamodb:eu-west-1:444455556666:table/users",
    "TableStatus": "ACTIVE",
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
}
_NO_LISTING = (
    "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults><member>"
    "<EvalActionName>dynamodb:ListStreams</EvalActionName><EvalResourceName>arn:aws:dynamodb:"
    "eu-west-1:444455556666:table/users/stream/*</EvalResourceName><EvalDecision>implicitDeny"
    "</EvalDecision></member></EvaluationResults></SimulatePrincipalPolicyResult>"
    "</SimulatePrincipalPolicyResponse>"
)


class _Body(io.BytesIO):
    def stream(self, **_: object) -> Any:
        yield self.read()


class Answering(QuickAws):
    """AWS as a test wants it: no request leaves the process.

    `answers` are status and body by the name of the operation, `otherwise` those of every other
    one; `date` is what the answers say of the time, in epoch seconds.
    """

    def __init__(
        self,
        settings: Settings,
        answers: dict[str, tuple[int, str]],
        otherwise: tuple[int, str] = (400, DENIED),
        date: float | None = None,
    ) -> None:
        super().__init__(settings)
        self.asked: list[str] = []
        self._answers, self._otherwise, self._date = answers, otherwise, date

    def new_client(self, service: str, **config: Any) -> Any:
        client = super().new_client(service, **config)
        client.meta.events.register("before-send", self._answer)
        return client

    def _answer(self, request: Any, event_name: str, **_: Any) -> AWSResponse:
        operation = event_name.rpartition(".")[2]
        self.asked.append(operation)
        status, body = self._answers.get(operation, self._otherwise)
        headers = {"date": formatdate(self._date, usegmt=True)}
        return AWSResponse(request.url, status, headers, _Body(body.encode()))


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACANARYCANARY1234")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")


def looked(aws: QuickAws, config: Config, **more: Any) -> list[Finding]:
    return examine(aws, config, "users", most=10, again=lambda words: f"ddbrelay {words}", **more)


def set_up(tmp_path: Path, **flags: Any) -> Config:
    state = str(tmp_path / "state.db")
    return configured(tmp_path, region="eu-west-1", state=state, **flags)


# AWS that refuses


@pytest.mark.usefixtures("keys")
def test_what_is_denied_is_said_and_the_other_checks_go_on(tmp_path: Path) -> None:
    config = set_up(tmp_path)
    aws = Answering(config.settings, {"GetCallerIdentity": (200, CALLER)})
    found = looked(aws, config)
    assert "assumed-role/deploy/ci" in only(found, "identity").what
    assert bad(found) == [
        ("table", "error"),
        ("skipped", "note"),
        ("bus", "note"),
        ("rules", "note"),
    ]
    rest = "not looked at: targets, sample, permissions, readers, positions"
    assert only(found, "skipped").what == rest
    assert "events:ListRules" in only(found, "rules").what
    assert only(found, "state-file").level is Level.OK
    assert "canary" not in str(found)
    assert "AKIA" not in str(found)


@pytest.mark.usefixtures("keys")
def test_credentials_that_have_expired_end_the_look(tmp_path: Path) -> None:
    config = set_up(tmp_path)
    expired = (
        "<ErrorResponse><Error><Code>ExpiredToken</Code><Message>The security token included in "
        "the request is expired</Message></Error></ErrorResponse>"
    )
    found = looked(Answering(config.settings, {"GetCallerIdentity": (403, expired)}), config)
    assert bad(found) == [("identity", "error"), ("skipped", "note")]
    assert "ExpiredToken" in only(found, "identity").what


def test_without_credentials_only_what_is_here_is_looked_at(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    config = set_up(tmp_path, metrics_port=str(port))
    aws = Answering(config.settings, {})
    found = looked(aws, config)
    assert bad(found) == [("found", "error"), ("skipped", "note")]
    assert {one.area for one in found} == {"credentials", "state", "settings"}
    assert aws.asked == []


@pytest.mark.usefixtures("keys")
def test_a_clock_that_is_off_is_seen_in_the_date_of_a_refusal(tmp_path: Path) -> None:
    config = set_up(tmp_path)
    aws = Answering(config.settings, {}, date=1_000_000_000.0)
    skew = only(looked(aws, config), "skew")
    assert skew.level is Level.ERROR
    assert "ahead of AWS" in skew.what


@pytest.mark.usefixtures("keys")
def test_a_role_is_simulated_by_the_name_that_iam_has_of_it(tmp_path: Path) -> None:
    role = "arn:aws:iam::444455556666:role/ci/deploy"
    denied = (
        "<SimulatePrincipalPolicyResponse><SimulatePrincipalPolicyResult><EvaluationResults>"
        "<member><EvalActionName>events:PutEvents</EvalActionName><EvalResourceName>"
        "arn:aws:events:eu-west-1:444455556666:event-bus/users-bus</EvalResourceName>"
        "<EvalDecision>implicitDeny</EvalDecision></member></EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"
    )
    answers = {
        "GetCallerIdentity": (200, CALLER),
        "DescribeTable": (200, json.dumps({"Table": _TABLE})),
        "GetRole": (
            200,
            "<GetRoleResponse><GetRoleResult><Role><Path>/ci/</Path><RoleName>deploy</RoleName>"
            f"<RoleId>R</RoleId><Arn>{role}</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate>"
            "</Role></GetRoleResult></GetRoleResponse>",
        ),
        "SimulatePrincipalPolicy": (200, denied),
    }
    config = set_up(tmp_path)
    aws = Answering(config.settings, answers)
    sent: list[str] = []
    aws.client("iam").meta.events.register(
        "before-call.iam.SimulatePrincipalPolicy",
        lambda params, **_: sent.append(params["body"]["PolicySourceArn"]),
    )
    found = examine(aws, config, "users", most=0, again=lambda words: f"ddbrelay {words}")
    assert set(sent) == {role}
    refused = only(found, "simulation")
    assert (refused.level, refused.mend) == (
        Level.ERROR,
        "ddbrelay export iam-policy --for relay --account 444455556666",
    )
    assert bad(found)[0] == ("stream", "error")


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.usefixtures("keys")
def test_that_streams_may_be_listed_is_proven_by_a_list_of_them_alone(
    tmp_path: Path, allowed: bool
) -> None:
    answers = {
        "GetCallerIdentity": (200, CALLER),
        "DescribeTable": (200, json.dumps({"Table": _TABLE})),
        "SimulatePrincipalPolicy": (200, _NO_LISTING),
    }
    if allowed:
        answers["ListStreams"] = (200, json.dumps({"Streams": []}))
    config = set_up(tmp_path)
    found = examine(
        Answering(config.settings, answers), config, "users", most=0, again=lambda words: words
    )
    assert only(found, "simulation").level is (Level.OK if allowed else Level.ERROR)


@pytest.mark.usefixtures("keys")
def test_who_asks_is_not_simulated_where_it_is_not_known(tmp_path: Path) -> None:
    config = set_up(tmp_path)
    answers = {"DescribeTable": (200, json.dumps({"Table": _TABLE}))}
    found = examine(
        Answering(config.settings, answers), config, "users", most=0, again=lambda words: words
    )
    assert only(found, "simulation").what == "not looked at: who asks is not known"


# Nothing that answers as AWS does


@contextmanager
def answering(status: int, body: bytes, wait: float = 0.0) -> Iterator[str]:
    """The address of a server that gives this answer to everything, after so many seconds."""

    class Same(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            left.wait(wait)
            with suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            """Nothing: the test's output stays its own."""

    left = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Same) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            left.set()
            server.shutdown()
            thread.join()


HTML = b"<html><body>It works!</body></html>"


@pytest.mark.slow
@pytest.mark.parametrize(
    "answer",
    [
        None,
        (500, b"broken"),
        (200, HTML),
        (404, HTML),
        pytest.param((500, b"late", 60.0), marks=pytest.mark.slow),
    ],
    ids=["nobody", "500", "html", "html-404", "frozen"],
)
@pytest.mark.usefixtures("keys")
def test_an_address_where_nothing_answers_as_aws_does_is_an_error(
    bare_cli: Cli, answer: tuple[Any, ...] | None
) -> None:
    with nullcontext("http://127.0.0.1:9") if answer is None else answering(*answer) as address:
        done = bare_cli.run(
            *("--region", "us-east-1", "--endpoint-url", address),
            *("doctor", "--table", "users", "--output", "json"),
        )
    *found, summary = objects(done.stdout)
    assert done.returncode == 5
    assert summary["errors"] == 2
    errors = [(one["area"], one["check"]) for one in found if one["level"] == "error"]
    assert errors == [("table", "table"), ("bus", "bus")]
    assert [one["what"] for one in found if one["check"] == "mapping"] == ["default mapping"]
    assert "nothing is wrong" not in done.stderr
    assert "next:" not in done.stderr


# The embedded AWS


@pytest.mark.moto_first
def test_all_is_well_after_provision(cli: Cli, aws: Aws, name: str) -> None:
    pipe = Pipeline(aws, name)
    for key in "abc":
        pipe.put(key)
    found = cli.json("doctor", "--strict")
    summary = found.pop()
    assert [one["check"] for one in found if one["level"] not in ("ok", "note")] == []
    assert summary["type"] == "summary"
    assert (summary["warnings"], summary["errors"]) == (0, 0)
    sizes = [one["what"] for one in found if one["check"] == "entry-size"]
    assert sizes[0].startswith("the largest of 3 sampled events (changes in the stream)")
    assert pipe.received() == []
    assert not state_file(cli).exists()


@pytest.mark.slow
@ON_MOTO
def test_a_second_relay_is_not_suggested_while_one_runs(cli: Cli, aws: Aws, name: str) -> None:
    pipe = Pipeline(aws, name)
    state_file(cli).parent.mkdir(parents=True)
    with closing(Database(state_file(cli))) as database:
        store = SqliteStore(database, "default", pipe.stream_arn)
        asyncio.run(store.save([Position(pipe.shard, sequence="1")]))
        asyncio.run(store.claim())
        running = cli.run("doctor")
        asyncio.run(store.release())
    assert "a relay of consumer" in running.stdout
    assert running.stderr.splitlines()[-1] == "next: ddbrelay --local status"
    assert cli.run("doctor").stderr.splitlines()[-1] == "next: ddbrelay --local tail --forward"


@ON_MOTO
def test_what_is_behind_the_rules_are_targets(cli: Cli, aws: Aws, name: str) -> None:
    Pipeline(aws, name)
    areas = {one["check"]: one["area"] for one in cli.json("doctor")[:-1]}
    assert areas["queue"] == "targets"
    assert "consumers" not in cli.ok("doctor").stdout


@ON_MOTO
def test_the_example_workflows_ask_for_the_rights_without_which_the_doctor_finds_an_error(
    aws: Aws, name: str
) -> None:
    Pipeline(aws, name)
    seen = table.look(aws, name).value
    assert seen is not None
    settings = Settings(local=True, endpoint_url=aws.endpoint_url, table=name)
    needed = {"dynamodb:DescribeTable", *sample.look(QuickAws(settings), seen, 0).dry}
    assert len(needed) == 4
    for file in ("github-actions.yml", "gitlab-ci.yml"):
        lines = (ROOT / "examples" / "ci" / file).read_text().splitlines()
        comments = " ".join(line for line in lines if line.lstrip().startswith("#"))
        assert needed <= {word.strip(",.;:()") for word in comments.split()}, file


_BROKEN = """
[relay]
dead_letter_queue = "no-such-queue"
claim_check = "s3://no-such-bucket-of-ours/x"
[[rule]]
when = { eventName = ["MODIFY"], changed = ["email"] }
detail_type = "EmailChanged"
detail = "{before: old.email}"
[[rule]]
when = { eventName = ["INSERT"] }
detail_type = "{new.kind}Placed"
[[rule]]
when = { eventName = ["REMOVE"] }
detail_type = "Gone"
bus = "no-such-bus"
"""


@pytest.mark.moto_first
def test_each_fault_of_a_broken_set_up_is_found(cli: Cli, aws: Aws, name: str) -> None:
    (cli.directory / "ddbrelay.toml").write_text(_BROKEN)
    dynamodb, events, sqs = (aws.client(one) for one in ("dynamodb", "events", "sqs"))
    made = dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["TableDescription"]
    dynamodb.put_item(TableName=name, Item={"id": {"S": "a"}, "kind": {"S": "Order"}})
    bus, source = f"{name}-bus", f"ddbrelay.{name}"
    events.create_event_bus(Name=bus)
    for rule, pattern, state in (
        ("typo", {"source": [source], "detail-type": ["EmailChnged"]}, "ENABLED"),
        ("off", {"source": [source]}, "DISABLED"),
        ("mails", {"source": [source], "detail-type": ["EmailChanged"]}, "ENABLED"),
        ("nowhere", {"detail-type": ["EmailChanged"]}, "ENABLED"),
    ):
        events.put_rule(Name=rule, EventBusName=bus, EventPattern=json.dumps(pattern), State=state)
    sqs.create_queue(QueueName=f"{name}-closed")
    place = made["TableArn"].split(":table/")[0].replace("dynamodb", "sqs")
    events.put_targets(
        Rule="mails",
        EventBusName=bus,
        Targets=[
            {"Id": str(number), "Arn": f"{place}:{queue}"}
            for number, queue in enumerate((f"{name}-closed", f"{name}-gone"))
        ],
    )
    gone = f"{made['TableArn']}/stream/2020-01-01T00:00:00.000"
    state_file(cli).parent.mkdir(parents=True)
    with closing(Database(state_file(cli))) as database:
        store = SqliteStore(database, "default", gone)
        asyncio.run(store.save([Position("shardId-1", sequence="1")]))

    done = cli.run("doctor", "--output", "json")
    *found, summary = objects(done.stdout)
    assert done.returncode == 5
    errors, warnings = summary["errors"], summary["warnings"]
    assert done.stderr.startswith(f"error: {warnings} warnings, {errors} errors\n  hint: ")
    wrong = {(one["check"], one["level"]) for one in found if one["level"] in ("warning", "error")}
    assert wrong == {
        ("view-type", "error"),
        ("view-type", "warning"),
        ("bus", "error"),
        ("never-fed", "warning"),
        ("disabled", "warning"),
        ("unheard", "warning"),
        ("queue", "error"),
        ("queue-policy", "error"),
        ("targets", "warning"),
        ("parked", "warning"),
        ("stale-stream", "warning"),
        ("dead-letter-queue", "error"),
        ("claim-check", "error"),
    }


@pytest.mark.moto_first
def test_a_table_that_is_not_there(aws: Aws, name: str, tmp_path: Path) -> None:
    state = tmp_path / "state.db"
    settings = Settings(local=True, endpoint_url=aws.endpoint_url, table=name, state=state)
    config = Config(settings, {"region": "default"}, None)
    found = examine(QuickAws(settings), config, name, most=10, again=lambda w: f"ddbrelay {w}")
    assert bad(found) == [("table", "error"), ("bus", "error")]
    assert queue_name(name) not in str(found)


@pytest.mark.moto_first
def test_a_consumer_that_has_read_all(aws: Aws, name: str, tmp_path: Path) -> None:
    pipe, state = Pipeline(aws, name), tmp_path / "state.db"
    pipe.put("a")
    with closing(Database(state)) as database:
        store = SqliteStore(database, "default", pipe.stream_arn)
        asyncio.run(store.save([Position(pipe.shard, sequence=pipe.sequences()[-1])]))
    settings = Settings(local=True, endpoint_url=aws.endpoint_url, table=name, state=state)
    config = Config(settings, {"region": "default"}, None)
    found = examine(QuickAws(settings), config, name, most=10, again=lambda w: f"ddbrelay {w}")
    assert only(found, "checkpoint").what.endswith("all is read")
    assert bad(found) == [("simulation", "note")]


# Commands to type next

_GIVEN = {
    "table": "users",
    "consumer": "audit",
    "state": "my state.db",
    "entity": "Person",
    "source": "shop",
    "preset": "crud",
    "mapper": "m:f",
    "claim_check": "s3://our-bucket/x",
    "dead_letter_queue": "dead",
    "metrics_port": "9100",
    "endpoint_url": "http://me:secret@127.0.0.1:1",
}
_OF_EVERY_COMMAND = "--endpoint-url http://127.0.0.1:1 --table users"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("status", f"status {_OF_EVERY_COMMAND} --consumer audit --state 'my state.db'"),
        (
            "tail --forward",
            f"tail {_OF_EVERY_COMMAND} --consumer audit --state 'my state.db' --entity Person "
            "--source shop --preset crud --mapper m:f --claim-check s3://our-bucket/x "
            "--dead-letter-queue dead --metrics-port 9100 --forward",
        ),
        (
            "provision --apply-changes",
            f"provision {_OF_EVERY_COMMAND} --source shop --apply-changes",
        ),
        (
            "positions delete 'my mark'",
            f"positions {_OF_EVERY_COMMAND} delete --state 'my state.db' 'my mark'",
        ),
        (
            "export iam-policy --for relay",
            f"export {_OF_EVERY_COMMAND} iam-policy --entity Person --source shop --preset crud "
            "--mapper m:f --claim-check s3://our-bucket/x --dead-letter-queue dead --for relay",
        ),
        ("teardown --yes", f"teardown {_OF_EVERY_COMMAND} --yes"),
    ],
)
def test_a_command_to_type_next_repeats_the_options_that_it_takes(words: str, said: str) -> None:
    run = Run({**_GIVEN, "local": True, "output": "json", "quiet": True})
    assert run.again(words) == f"ddbrelay --local {said}"
    # It is parsed to its end before the help is shown: an option that is not taken is refused.
    assert cli_group.main([*shlex.split(said), "--help"], standalone_mode=False, obj=Run()) == 0


def test_a_command_to_type_next_leaves_the_embedded_aws_as_it_was_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DDBRELAY_LOCAL", "1")
    assert Run({"local": False}).again("tail") == "ddbrelay --no-local tail"
    assert Run().again("tail") == "ddbrelay --local tail"


# What is printed

_FOUND = [
    Finding("table", "table", Level.OK, "table users is ACTIVE, account 444455556666"),
    Finding(
        "table",
        "view-type",
        Level.WARNING,
        "the stream has KEYS_ONLY, and the default mapping needs new and old for deletes",
        "the event carries only the key",
        "ddbrelay --local provision --table users --view-type NEW_AND_OLD_IMAGES --apply-changes",
    ),
    Finding("bus", "others", Level.NOTE, "1 rule for other events than ours: billing"),
]


@pytest.mark.parametrize("width", [80, 120])
def test_rows_fit_the_terminal_and_commands_can_be_copied(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    _print_rows(Console("rich"), _FOUND)
    printed = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, printed)) <= width
    assert printed[0] == "table        ✔ table users is ACTIVE, account 444455556666"
    assert printed[-1] == "bus          · 1 rule for other events than ours: billing"
    mend = printed[[line.strip()[:1] for line in printed].index("→") : -1]
    command = "\n".join(line.strip().removeprefix("→ ") for line in mend).replace("\\\n", "")
    assert command == _FOUND[1].mend
    assert len(mend) == (2 if width == 80 else 1)


_COMMAND = (
    "aws --region eu-west-1 events put-rule --name ddbrelay-users --event-bus-name ghost-bus "
    """--event-pattern '{"source": ["ddbrelay.ghost", {"prefix": "it is long enough to fold"}]}' """
    r"""--description "say \"hello\" to \$HOME" --state EN\ ABLED 'don'\''t' --x ''"""
)


@pytest.mark.parametrize("width", range(40, 140, 13))
def test_a_command_that_was_folded_is_the_same_to_a_shell(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    _print_rows(Console("rich"), [Finding("bus", "b", Level.WARNING, "w", "why", _COMMAND)])
    (_, command) = capsys.readouterr().out.split("→ ")
    assert command.count("\n") > 1

    def heard(text: str) -> list[str]:
        script = f"""aws() {{ printf '%s\\n' "$@"; }}\n{text}"""
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
        assert done.stderr == ""
        return done.stdout.splitlines()

    assert heard(command) == heard(_COMMAND)
    assert len(heard(command)) == 17


def test_the_last_words_at_a_terminal_hold_no_command_that_the_width_would_break() -> None:
    found = [Finding("bus", "b", Level.ERROR, "w", "why", _COMMAND)]
    for output, hint in (
        ("rich", "begin with bus: what mends it stands above"),
        ("lines", f"mend first: {_COMMAND}"),
    ):
        with pytest.raises(AwsRefused) as ended:
            _judge(Run({"output": output}), found, counts(found), strict=False)
        assert ended.value.hint == hint


def test_lines_have_words_and_no_width(capsys: pytest.CaptureFixture[str]) -> None:
    _print_rows(Console("lines"), _FOUND)
    assert capsys.readouterr().out.splitlines() == [
        "table        ok       table users is ACTIVE, account 444455556666",
        f"             warning  {_FOUND[1].what}",
        "                      the event carries only the key",
        f"                      → {_FOUND[1].mend}",
        "bus          note     1 rule for other events than ours: billing",
    ]


def test_quiet_prints_errors_only(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Finding("bus", "bus", Level.ERROR, "no bus", "nothing can be published")
    _print_rows(Console("lines", -1), [*_FOUND, wrong])
    assert capsys.readouterr().out.splitlines() == [
        "bus          error    no bus",
        "                      nothing can be published",
    ]
