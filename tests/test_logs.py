"""What is logged, how much and in which form; and that stderr is objects where that is wanted."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from botocore.credentials import Credentials
from wire import KEY, SECRET, calls, http, remote, serving

from ddbrelay import config, logs, secrecy
from ddbrelay.cli import main as command_line
from ddbrelay.cli.console import Console
from ddbrelay.cli.screens import LineScreen, LiveScreen
from ddbrelay.flow.capture import Fault, Gap
from ddbrelay.testing.world import World, simulated


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    logs.release()
    logging.getLogger(logs.ROOT).setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def said(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stderr() -> io.StringIO:
    return io.StringIO()


# The forms


def test_text_has_the_time_from_info_on_and_json_has_all_fields(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    log = logging.getLogger("ddbrelay.a.b")
    logs.configure("warning", "text")
    log.info("too little")
    log.warning("%d shards", 3)
    assert stderr.getvalue() == "WARNING ddbrelay.a.b: 3 shards\n"
    logs.configure("info", "text")
    log.info("more")
    assert stderr.getvalue().splitlines()[1].endswith("Z INFO ddbrelay.a.b: more")
    stderr.truncate(stderr.seek(0))
    logs.configure("debug", "json")
    log.debug("one\nline", extra=logs.fields(shardId="s", after=None, ms=1.5))
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("it failed")
    first, second = said(stderr)
    assert list(first) == ["time", "level", "logger", "message", "shardId", "ms"]
    assert (first["level"], first["logger"], first["message"]) == (
        "debug",
        "ddbrelay.a.b",
        "one\nline",
    )
    assert first["time"].endswith("Z")
    assert second["level"] == "error"
    assert second["traceback"].endswith("ValueError: broken")


def test_what_anyone_writes_to_stderr_becomes_an_object_a_line(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure("warning", "json")
    print("some words\n\n  and more", file=sys.stderr)
    sys.stderr.write("Drop it? [y/N]: ")
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    logging.getLogger("asyncio").error("never retrieved")
    logging.getLogger("botocore.hooks").info("not ours")
    with pytest.raises(TypeError):
        sys.stderr.write(b"bytes")  # type: ignore[arg-type]
    assert not sys.stderr.isatty()
    assert sys.stderr.writable()
    logs.release()
    assert sys.stderr is stderr
    *words, question, failed = said(stderr)
    assert [one["message"] for one in words] == ["some words", "and more"]
    assert question["message"] == "Drop it? [y/N]:"
    assert (failed["logger"], failed["message"]) == ("asyncio", "never retrieved")


def test_the_aws_libraries_speak_only_where_everyone_may_and_never_in_detail(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    theirs = logging.getLogger("botocore.credentials")
    logs.configure("debug", "text")
    theirs.warning("silent")
    logs.configure("debug", "text", others=True)
    theirs.info("found")
    logging.getLogger("botocore.auth").debug("the signature")
    logging.getLogger("ddbrelay.x").info("ours, once")
    lines = [line.partition("Z ")[2] for line in stderr.getvalue().splitlines()]
    assert lines == ["INFO botocore.credentials: found", "INFO ddbrelay.x: ours, once"]


def test_in_a_terminal_logs_go_through_what_the_live_view_puts_in_place_of_stderr(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for bound, expected in ((Terminal(), "above"), (io.StringIO(), "bound")):
        above = io.StringIO()
        monkeypatch.setattr(sys, "stderr", bound)
        logs.configure("warning", "text")
        monkeypatch.setattr(sys, "stderr", above)
        logging.getLogger("ddbrelay.x").warning("hello")
        found = above if expected == "above" else bound
        assert found.getvalue() == "WARNING ddbrelay.x: hello\n"


def test_a_stderr_that_is_closed_or_broken_does_not_end_a_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    for stream in (None, Broken()):
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("warning", "json")
        logging.getLogger("ddbrelay.x").warning("hello")
        logs.release()


def test_something_frequent_is_told_seldom_and_counted() -> None:
    now = 0.0
    seldom = logs.Seldom(30, lambda: now)
    assert [seldom.count("a") for _ in range(3)] == [1, 0, 0]
    assert seldom.count("b") == 1
    now = 30.0
    assert [seldom.count("a") for _ in range(2)] == [3, 0]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://me:secret@host:1/a@b", "http://host:1/a@b"),
        ("https://host", "https://host"),
        ("users", "users"),
        ("a@b", "a@b"),
        ('to "http://me:p@ss@host" and ftp://b@c', 'to "http://host" and ftp://c'),
        ("http://me:pa/ss@host:1/x", "http://host:1/x"),
        ("http://127.0.0.1:4566/queue@x", "http://127.0.0.1:4566/queue@x"),
        ("me:secret@host", "host"),
        ("me:pa/ss@host:1", "host:1"),
        (
            "arn:aws:sts::1:assumed-role/dev/me@corp.com",
            "arn:aws:sts::1:assumed-role/dev/me@corp.com",
        ),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
    ],
)
def test_the_password_of_an_address_is_left_out(url: str, shown: str) -> None:
    assert logs.without_password(url) == shown


LOST = Gap("s-1", "12", "trimmed", before="34")
FIELDS = {"shardId": "s-1", "after": "12", "before": "34", "reason": "trimmed"}


@pytest.mark.parametrize("verbosity", [-1, 0])
def test_a_loss_is_an_error_with_its_place_and_a_trouble_a_warning(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch, verbosity: int
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure("warning", "json")
    console = Console("lines", verbosity)
    screen = LineScreen(console, None)
    screen.gap(LOST)
    screen.trouble("cannot read shard s-1, trying again: InternalServerError")
    console.words("only told")
    lost, trouble, *informing = said(stderr)
    assert (lost["level"], trouble["level"]) == ("error", "warning")
    assert lost["message"].startswith("lost: records of shard s-1 after 12 and before 34 are lost")
    assert FIELDS.items() <= lost.items()
    assert trouble["message"].startswith("cannot read shard s-1")
    assert [one["level"] for one in informing] == ([] if verbosity else ["info"])


@pytest.mark.parametrize(
    ("level", "verbosity", "expected"),
    [
        ("warning", 0, ["lost", "trying"]),
        ("warning", -1, ["ERROR", "WARNING"]),
        ("error", -1, ["ERROR"]),
    ],
)
def test_as_text_a_person_reads_words_and_a_quiet_run_has_its_log(
    stderr: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    level: str,
    verbosity: int,
    expected: list[str],
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure(level, "text")
    screen = LineScreen(Console("lines", verbosity), None)
    screen.gap(LOST)
    screen.trouble("trying again")
    assert [line.split()[0].strip(":") for line in stderr.getvalue().splitlines()] == expected


def test_a_quiet_run_logs_what_goes_wrong_and_nothing_else(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure(logs.level_of(-1), "text")
    console = Console("lines", -1)
    console.words("which shard is read")
    console.trouble("the bus does not take an event")
    logging.getLogger("ddbrelay.relay").info("a shard begins")
    assert stderr.getvalue() == "WARNING ddbrelay.cli.console: the bus does not take an event\n"
    assert [logs.level_of(n) for n in (0, 1, 2, 3)] == ["warning", "info", "debug", "debug"]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_the_live_view_has_its_troubles_logged_where_the_log_is_a_file(
    monkeypatch: pytest.MonkeyPatch, stream: type[io.StringIO]
) -> None:
    bound, noted = stream(), []
    monkeypatch.setattr(sys, "stderr", bound)
    logs.configure("warning", "text")
    screen = object.__new__(LiveScreen)
    screen._view = SimpleNamespace(gap=noted.append, trouble=noted.append)  # type: ignore[assignment]
    screen.gap(LOST)
    screen.trouble("trying again")
    assert noted == [LOST, "trying again"]
    lines = [line.split()[0] for line in bound.getvalue().splitlines()]
    assert lines == ([] if stream is Terminal else ["ERROR", "WARNING"])


SECRET_VALUES = ("secret+key/of=us", "token/of/us==")


@pytest.fixture
def in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_VALUES[0])
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET_VALUES[1])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:pa'/ss word@host")


@pytest.mark.parametrize("form", logs.FORMATS)
def test_no_line_of_a_log_holds_a_credential_in_its_message_its_fields_or_its_traceback(
    stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch, in_environment: None, form: str
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    logs.configure("debug", form)
    key, token = SECRET_VALUES
    log = logging.getLogger("ddbrelay.x")
    log.info("with %s", key, extra=logs.fields(a={"b": [token]}, c=ValueError(key)))
    try:
        raise ValueError(f"x-amz-security-token:{token}&{quote(token, safe='')}")
    except ValueError:
        log.exception("failed at http://me:pa/ss@host")
    if form == "json":
        print(f"printed {key}", file=sys.stderr)
    text = stderr.getvalue()
    assert "[redacted]" in text
    assert "at http://host" in text
    for value in (*SECRET_VALUES, quote(token, safe=""), "pa/ss"):
        assert value not in text


@pytest.mark.parametrize("output", ["lines", "json"])
def test_what_is_printed_holds_no_credential_and_data_are_else_as_they_are(
    capsys: pytest.CaptureFixture[str], in_environment: None, output: str
) -> None:
    console = Console(output)
    key, token = SECRET_VALUES
    told = f"{key} {token} at http://me:other@host"
    console.data(told)
    console.object({"told": told})
    console.words(told)
    console.data("at http://me:pa'/ss word@host")
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "[redacted] [redacted] at http://me:other@host",
        '{"told":"[redacted] [redacted] at http://me:other@host"}',
        "at http://host",
    ]
    assert err == "[redacted] [redacted] at http://host\n"


def test_credentials_are_hidden_as_long_as_they_live_and_after_they_were_refreshed() -> None:
    source = Credentials("AKIA", "the first secret", "the first token")
    secrecy.watch(source)
    source.secret_key, source.token = "the second secret", "short"
    for text in ("the first secret", "the first token", "the second secret"):
        assert secrecy.hidden(text) == "[redacted]"
    # Half of all words would be hidden.
    assert secrecy.hidden("short") == "short"


def test_the_settings_that_were_given_are_told_with_where_they_came_from(tmp_path: Path) -> None:
    (tmp_path / "ddbrelay.toml").write_text('redact = ["a", "b"]\n')
    loaded = config.load(
        {"endpoint_url": "http://me:secret@127.0.0.1:1"}, {"DDBRELAY_TABLE": "users"}, tmp_path
    )
    assert config.given(loaded) == {
        "aws.endpoint_url": ("http://127.0.0.1:1", "flag --endpoint-url"),
        "source.table": ("users", "environment (DDBRELAY_TABLE)"),
        "redact": ("a,b", f"file ({tmp_path}/ddbrelay.toml: redact)"),
    }


# The command line


@pytest.mark.slow
def test_with_json_logs_every_line_of_stderr_is_an_object_and_errors_have_code_and_hint(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken.toml").write_text("[source]\ntabel = 1\n")
    (tmp_path / "json.toml").write_text('log_format = "json"\nlog_level = "info"\n')
    as_json = ("--log-format", "json")
    broken = ("config", "show", "--config", "broken.toml")
    lines: list[tuple[tuple[str, ...], int, str | None]] = [
        (("config", "show", *as_json), 0, None),
        (("config", "show", "--config", "json.toml"), 0, None),
        (("config", "show", "--config", "json.toml", "--log-level", "error"), 0, None),
        ((*broken, *as_json), 2, 'did you mean "source.table"?'),
        ((*broken, "-vv", "--log-format=json"), 2, 'did you mean "source.table"?'),
        (("tail", "--zzz", *as_json), 2, "ddbrelay tail --help"),
        (("tial", *as_json), 2, 'did you mean "tail"?'),
        (as_json, 2, "ddbrelay --help"),
        (("local", "stop", "-v", *as_json), 0, None),
        (("tail", "--local", "--table", "users", "-v", *as_json), 5, "ddbrelay local start"),
    ]
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "forked.py")],
        input=json.dumps([words for words, _, _ in lines]),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "DDBRELAY_STATE_DIR": str(tmp_path / "state")},
    )
    for (words, code, hint), (ended, _, err) in zip(lines, json.loads(done.stdout), strict=True):
        assert ended == code, (words, err)
        objects = [json.loads(line) for line in err.splitlines()]
        for one in objects:
            assert list(one)[:4] == ["time", "level", "logger", "message"], words
        if code:
            assert (objects[-1]["code"], objects[-1]["level"]) == (code, "error"), words
            assert objects[-1]["hint"].startswith(str(hint)), words
        assert any("traceback" in one for one in objects) is ("-vv" in words)
        told = [one for one in objects if one["level"] == "info" and "command" in one]
        if "-v" in words or words[-1] == "json.toml":
            assert told[0]["settings"]
            assert told[-1]["code"] == code
            assert told[-1]["seconds"] >= 0
        elif "--log-level" in words:
            assert not told


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_is_broken_between_words_in_a_terminal_only(
    monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    text = "the bus users-bus does not exist in eu-west-1, in the account 444455556666"
    stream = Terminal() if terminal else io.StringIO()
    stream.fileno = lambda: 2  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((50, 24)))
    fitted = command_line._fitted("error: ", text)
    if terminal:
        assert fitted == (
            "the bus users-bus does not exist in\n       eu-west-1, in the account 444455556666"
        )
        long = "/a/path/that/is/longer/than/the/terminal/is/wide/and/stays/whole"
        assert command_line._fitted("  hint: ", long) == long
        monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
        assert command_line._fitted("error: ", text).count("\n") == 1
    else:
        assert fitted == text


# What is told


class Told(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[str, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "ddbrelay", {})
        self.lines.append((record.levelname, record.getMessage(), fields))

    def starting(self, text: str) -> list[dict[str, Any]]:
        return [fields for _, message, fields in self.lines if message.startswith(text)]

    def __enter__(self) -> Told:
        self._logger = logging.getLogger(logs.ROOT)
        self._logger.addHandler(self)
        self._logger.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(logging.NOTSET)


def test_each_request_is_told_with_status_time_id_and_retries_and_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    throttled = http(400, b'{"__type": "ThrottlingException", "message": "slow down"}')
    answers = iter([http(200, b"{}", "x-amzn-RequestId: r1"), throttled, throttled])

    def respond(_: Any) -> bytes:
        return next(answers)

    with serving() as server, Told() as told:
        server.respond = respond
        aws = remote(server.url)
        assert calls(aws, "PutEvents", b'{"secret": 1}') == [b"{}"]
        for _ in range(2):
            with pytest.raises(Exception, match="slow down"):
                calls(aws, "PutEvents", b"{}")
        server.respond = lambda _: http(200, b'{"TableNames": []}', "x-amzn-RequestId: r2")
        aws.client("dynamodb").list_tables()
        server.respond = lambda _: http(400, b'{"__type": "ResourceNotFoundException"}')
        with pytest.raises(Exception, match="ResourceNotFound"):
            aws.client("dynamodb").describe_table(TableName="users")
    first, second, _ = told.starting("PutEvents: ")
    assert first.pop("durationMs") > 0
    assert first == {"operation": "PutEvents", "status": 200, "requestId": "r1", "retries": 0}
    assert second["status"] == "400 ThrottlingException"
    assert told.starting("PutEvents is throttled")[0]["times"] == 1
    [listed] = told.starting("ListTables")
    assert (listed["status"], listed["requestId"], listed["retries"]) == (200, "r2", 0)
    assert told.starting("DescribeTable")[0]["status"] == "400 ResourceNotFoundException"
    assert not told.starting("DescribeStream")
    # boto3 prepares the calls that are never sent through it.
    assert len(told.starting("PutEvents: ")) == 3
    found = told.starting("credentials were found")
    assert found[0] == {"method": "env", "accessKeyEnd": KEY[-4:], "refreshed": False}
    everything = str(told.lines)
    for secret in (KEY, SECRET, "secret", "slow down"):
        assert secret not in everything


@simulated("a")
async def test_the_story_of_the_shards_is_told_in_large(world: World) -> None:
    with Told() as told:
        world.fill("abc", 3)
        world.source.faults.fail_next("GetRecords", "ThrottlingException", 3)
        children = world.stream.split("a")
        world.fill("def")
        await world.run()
    [stream] = told.starting(f"stream {world.stream.arn}: ")
    assert (stream["shards"], stream["closed"], stream["stored"]) == (3, 1, 0)
    shards = [shard.id for shard in world.stream.shards.values()]
    assert len(children) == 2
    for shard in shards:
        assert told.starting(f"shard {shard}: reading from trim-horizon")
    assert len(told.starting(f"shard {shards[0]} is read to its end")) == 1
    failures = [fields["failures"] for fields in told.starting("shard ") if "failures" in fields]
    assert failures == [1, 2]
    assert {Fault.THROTTLED.value} == {f["fault"] for f in told.starting("shard ") if "fault" in f}
    assert {level for level, _, _ in told.lines} == {"INFO"}


def test_words_come_again_once_stderr_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log disk that is full for a moment must not silence a relay for good."""

    class Full(io.StringIO):
        full = True

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(text)

    stderr, before = Full(), os.fstat(2)
    monkeypatch.setattr(sys, "stderr", stderr)
    handler = logs._Handler(stderr)
    record = logging.LogRecord("ddbrelay", logging.ERROR, "f", 1, "the bus is gone", None, None)
    handler.handle(record)
    with logs.optional():
        stderr.write("lost")
    stderr.full = False
    handler.handle(record)
    assert stderr.getvalue() == "the bus is gone\n"
    assert os.path.samestat(os.fstat(2), before)
