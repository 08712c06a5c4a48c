"""`ddbrelay demo`: it proves what it shows, touches nothing else and leaves nothing."""

from __future__ import annotations

import ast
import fcntl
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import termios
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Cli
from rich.cells import cell_len

from ddbrelay.cli.demo import Account

WITNESS = """
import os, sys

log = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def witness(event, arguments):
    if event in {"socket.connect", "socket.bind"}:
        seen = arguments[1]
    elif event == "open" and isinstance(arguments[0], str) and arguments[2] & writing:
        seen = arguments[0]
    elif event in {"socket.getaddrinfo", "sqlite3.connect", "subprocess.Popen"}:
        seen = arguments[0]
    elif event in {"os.exec", "os.fork", "os.posix_spawn", "os.system"}:
        seen = ""
    else:
        return
    os.write(log, f"{event} {seen!r}\\n".encode())

sys.addaudithook(witness)
"""
LOOPBACK = "127.0.0.1"
NEVER = 60
QUICKLY = 10
"""Seconds; the demos that are interrupted here would write for another 15."""


@pytest.fixture
def witness(bare_cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in which the command's process notes what it reaches for outside of itself."""
    folder = tmp_path_factory.mktemp("witness")
    (folder / "sitecustomize.py").write_text(WITNESS)
    log = folder / "log"
    bare_cli.environment |= {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "WITNESS": str(log),
    }
    return log


def noted(log: Path, event: str) -> list[object]:
    """What was reached for by an event, as Python's table of audit events has it."""
    lines = (line.partition(" ") for line in log.read_text().splitlines())
    return [ast.literal_eval(seen) for name, _, seen in lines if name == event]


def ports(log: Path) -> set[int]:
    return {address[1] for address in noted(log, "socket.connect") if isinstance(address, tuple)}


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


def test_the_demo_closes_with_a_table_in_which_nothing_is_missing(bare_cli: Cli) -> None:
    done = bare_cli.ok("demo")
    lines = done.stdout.splitlines()
    assert lines[-4].split() == ["written", "relayed", "received"]
    assert [line.split() for line in lines[-3:]] == [
        ["UserCreated", "25", "25", "25", "✔"],
        ["UserUpdated", "8", "8", "8", "✔"],
        ["UserDeleted", "4", "4", "4", "✔"],
    ]
    assert sum(" published " in line for line in lines) == 37
    assert "37 changes, 37 events, none missing" in done.stderr
    assert "no AWS account was touched" in done.stderr
    assert "next: ddbrelay local start" in done.stderr


def test_the_summary_says_what_was_written_relayed_and_received(bare_cli: Cli) -> None:
    *events, summary = bare_cli.json("demo", "--count", "3")
    assert summary.pop("seconds") > 0
    assert summary == {
        "type": "summary",
        "types": [
            {"detailType": "UserCreated", "written": 3, "relayed": 3, "received": 3},
            {"detailType": "UserUpdated", "written": 1, "relayed": 1, "received": 1},
            {"detailType": "UserDeleted", "written": 0, "relayed": 0, "received": 0},
        ],
        "written": 4,
        "relayed": 4,
        "received": 4,
        "missing": 0,
        "repeated": 0,
        "complete": True,
    }
    assert [event["receipt"]["state"] for event in events] == ["published"] * 4


@pytest.mark.slow
def test_quiet_says_nothing_and_still_judges(bare_cli: Cli) -> None:
    done = bare_cli.ok("demo", "--count", "1", "-q")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_count_that_is_none_is_wrong_usage(bare_cli: Cli, count: str) -> None:
    done = bare_cli.run("demo", "--count", count)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Invalid value for '--count': ")


@pytest.mark.slow
def test_the_demo_reaches_only_this_machine_starts_no_process_and_writes_no_file(
    bare_cli: Cli, witness: Path
) -> None:
    elsewhere = "http://192.0.2.1:9"
    bare_cli.environment |= {
        "AWS_ACCESS_KEY_ID": "real",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_CA_BUNDLE": "/nowhere/ca.pem",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": elsewhere,
        "AWS_ENDPOINT_URL_DYNAMODB": elsewhere,
        "AWS_ENDPOINT_URL_DYNAMODB_STREAMS": elsewhere,
        "AWS_ENDPOINT_URL_EVENTBRIDGE": elsewhere,
        "AWS_ENDPOINT_URL_SQS": elsewhere,
        "AWS_PROFILE": "nobody",
        "AWS_REGION": "eu-west-1",
        "DDBRELAY_ENDPOINT_URL": elsewhere,
        "DDBRELAY_PROFILE": "nobody",
        "DDBRELAY_REGION": "eu-west-1",
        "DDBRELAY_TABLE": "orders",
        "HTTPS_PROXY": elsewhere,
        "HTTP_PROXY": elsewhere,
        "http_proxy": elsewhere,
        "https_proxy": elsewhere,
    }
    bare_cli.ok("demo", "--count", "3")

    hosts = {address[0] for address in noted(witness, "socket.connect")}  # type: ignore[index]
    assert hosts | set(noted(witness, "socket.getaddrinfo")) == {LOOPBACK}
    # urllib3 binds to ::1 to learn whether this machine has IPv6.
    assert {(LOOPBACK, 0)} <= set(noted(witness, "socket.bind")) <= {(LOOPBACK, 0), ("::1", 0)}
    assert noted(witness, "sqlite3.connect") == [":memory:"]
    for started in ("subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "os.system"):
        assert noted(witness, started) == []
    assert set(noted(witness, "open")) <= {os.devnull}
    assert [*bare_cli.directory.iterdir()] == []
    assert [port for port in ports(witness) if answers(port)] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_ends_with_130_and_leaves_nothing(
    bare_cli: Cli, witness: Path, number: signal.Signals
) -> None:
    with bare_cli.start("demo", "--count", "200") as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if " published " in line)
        assert "INSERT" in line
        process.send_signal(number)
        _, words = process.communicate(timeout=QUICKLY)
    assert process.returncode == 130
    assert words.strip() == "error: interrupted"
    assert noted(witness, "subprocess.Popen") == []
    assert [*bare_cli.directory.iterdir()] == []
    assert ports(witness)
    assert [port for port in ports(witness) if answers(port)] == []


@pytest.mark.parametrize("package", ["moto", "flask_cors"])
def test_without_the_local_extra_one_line_says_how_to_get_it(
    bare_cli: Cli, tmp_path: Path, package: str
) -> None:
    folder = tmp_path / "without" / package
    folder.mkdir(parents=True)
    missing = f"raise ModuleNotFoundError(\"No module named '{package}'\", name={package!r})\n"
    (folder / "__init__.py").write_text(missing)
    bare_cli.environment |= {"PYTHONPATH": str(folder.parent)}
    done = bare_cli.run("demo")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the embedded AWS is not installed ({package} is missing)\n"
        "  hint: pip install 'ddbrelay[local]'\n"
    )


def terminal(cli: Cli, columns: int, *words: str, keys: bytes = b"") -> tuple[int, str]:
    """Run in a terminal of 24 rows; the exit code and the screen's bytes, as text.

    `keys` are typed when the first event is shown.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {k: v for k, v in cli.env().items() if k not in {"COLUMNS", "LINES", "NO_COLOR"}}
    with subprocess.Popen(
        cli.arguments(*words),
        cwd=cli.directory,
        env=environment | {"TERM": "xterm-256color"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        # Ctrl-C reaches who has the terminal as its own.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(slave)
        screen = b""
        while chunk := _read(master):
            screen += chunk
            if keys and "✔".encode() in screen:
                os.write(master, keys)
                keys = b""
        os.close(master)
        return process.wait(NEVER), screen.decode()


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:
        # Linux answers EIO when the last one has closed the other side.
        return b""


def rows(screen: str) -> list[str]:
    """What was written between two movements of the cursor, without colour."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", screen)
    return [row for row in re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]+", plain) if row]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 100])
def test_in_a_terminal_no_row_is_wider_than_it(bare_cli: Cli, columns: int) -> None:
    code, screen = terminal(bare_cli, columns, "demo", "--count", "6")
    assert code == 0
    shown = rows(screen)
    assert [row for row in shown if cell_len(row) > columns] == []
    assert "users ─▶ users-bus   embedded AWS on 127.0.0.1" in shown
    assert sum(row.startswith("UserCreated") and row.endswith("✔") for row in shown) == 1
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "the cursor is hidden"


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_gives_the_cursor_back(bare_cli: Cli, witness: Path) -> None:
    code, screen = terminal(bare_cli, 80, "demo", "--count", "200", keys=b"\x03")
    assert code == 130
    assert rows(screen)[-1] == "error: interrupted"
    assert screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l"), "the cursor is hidden"
    assert [port for port in ports(witness) if answers(port)] == []


def account() -> Account:
    """Two users written, one of them changed; all of it relayed and received."""
    kept = Account(seeded=True)
    for name in ("INSERT", "INSERT", "MODIFY"):
        kept.write(name)
    kept.relayed = {"a": "UserCreated", "b": "UserCreated", "c": "UserUpdated"}
    kept.received = Counter("abc")
    kept.received_types = Counter({"UserCreated": 2, "UserUpdated": 1})
    return kept


def test_an_account_in_which_all_agrees_is_complete() -> None:
    kept = account()
    assert (kept.complete, kept.missing, kept.repeated) == (True, 0, 0)
    assert kept.progress == (3, 3, 3)


def test_an_account_is_not_complete_before_everything_is_written() -> None:
    kept = account()
    kept.seeded = False
    assert not kept.complete
    assert Account().complete is False


def not_relayed(kept: Account) -> None:
    del kept.relayed["c"], kept.received["c"], kept.received_types["UserUpdated"]


def not_received(kept: Account) -> None:
    del kept.received["c"], kept.received_types["UserUpdated"]


def received_twice(kept: Account) -> None:
    kept.received["a"] += 1
    kept.received_types["UserCreated"] += 1


def one_twice_and_one_never(kept: Account) -> None:
    not_received(kept)
    received_twice(kept)


def received_as_another_type(kept: Account) -> None:
    kept.received_types = Counter({"UserCreated": 3})


def a_stranger_received(kept: Account) -> None:
    not_received(kept)
    kept.received["x"] = 1
    kept.received_types["UserUpdated"] = 1


def relayed_as_another_type(kept: Account) -> None:
    kept.relayed["c"] = "UserDeleted"
    kept.received_types = Counter({"UserCreated": 2, "UserDeleted": 1})


@pytest.mark.parametrize(
    ("fault", "missing", "repeated"),
    [
        (not_relayed, 1, 0),
        (not_received, 1, 0),
        (received_twice, 0, 1),
        (one_twice_and_one_never, 1, 1),
        (received_as_another_type, 0, 0),
        (a_stranger_received, 1, 0),
        (relayed_as_another_type, 0, 0),
    ],
)
def test_an_account_with_a_fault_is_not_complete(
    fault: Callable[[Account], None], missing: int, repeated: int
) -> None:
    kept = account()
    fault(kept)
    assert not kept.complete
    assert (kept.missing, kept.repeated) == (missing, repeated)


FAULTY = """
import ddbrelay.cli.demo as demo
from ddbrelay.infra.listener import Listener

demo._PATIENCE = 3.0
receive = Listener.receive
Listener.receive = lambda self, *words: {result}
from ddbrelay.cli.main import main
main(["demo", "--count", "2", "--output", "json"])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("result", "missing", "repeated", "message"),
    [
        ("[]", 3, 0, "3 events are missing, 0 came more than once"),
        ("receive(self, *words) * 2", 0, None, "0 events are missing, "),
    ],
)
def test_events_that_do_not_come_once_end_with_6(
    bare_cli: Cli, result: str, missing: int, repeated: int | None, message: str
) -> None:
    done = subprocess.run(
        [*bare_cli.arguments()[:1], "-c", FAULTY.format(result=result)],
        cwd=bare_cli.directory,
        env=bare_cli.env(),
        capture_output=True,
        text=True,
        timeout=NEVER,
    )
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, summary["complete"], summary["missing"]) == (6, False, missing)
    assert summary["repeated"] == repeated or summary["repeated"] > 0
    assert done.stderr.startswith(f"error: {message}")
