"""What a shell offers behind Tab, and the scripts that make it ask."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import shell_complete
from conftest import Cli
from test_readme import shell_environment

from ddbrelay.aws import session
from ddbrelay.cli import completing
from ddbrelay.cli.main import cli
from ddbrelay.config import Settings
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Position
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import Bookmark, Bookmarks

ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users/stream/2026-11-23T10:31:02.123"
Offered = Callable[..., list[str]]


@pytest.fixture
def offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Offered:
    """What a shell is given for a line with the cursor at its end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DDBRELAY_STATE_DIR", str(tmp_path / "state"))

    def complete(line: str, shell: str = "bash") -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
        shell_complete(cli, {}, "ddbrelay", "_DDBRELAY_COMPLETE", f"{shell}_complete")
        said = capsys.readouterr()
        assert said.err == ""
        lines = [line for line in said.out.splitlines() if line or shell == "zsh"]
        if shell == "zsh":
            return lines[1::3]
        return [re.split(r"[\t\n]", entry.partition(",")[2])[0] for entry in lines]

    return complete


class FakeAws:
    """Two pages of tables and of buses; `made` are the settings of every session."""

    made: list[Settings]

    def __init__(self, settings: Settings) -> None:
        if settings.region == "nowhere":
            raise AwsRefused("no credentials")
        self.made.append(settings)

    def new_client(self, service: str, **config: Any) -> FakeAws:
        assert config["read_timeout"] <= 1
        assert config["retries"]["total_max_attempts"] == 1
        return self

    def list_tables(self, **more: Any) -> dict[str, Any]:
        if more:
            assert more == {"ExclusiveStartTableName": "users"}
            return {"TableNames": ["orders"]}
        return {"TableNames": ["users"], "LastEvaluatedTableName": "users"}

    def list_event_buses(self, **more: Any) -> dict[str, Any]:
        if "NextToken" in more:
            time.sleep(0)
            return {"EventBuses": [{"Name": "users-bus"}]}
        return {"EventBuses": [{"Name": "user-bus"}, {"Name": "default"}], "NextToken": "2"}


@pytest.fixture
def fake_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeAws]]:
    FakeAws.made = []
    monkeypatch.setattr(session, "Aws", FakeAws)
    return FakeAws


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ddbrelay pro", {"provision"}),
        ("ddbrelay --table users pro", {"provision"}),
        ("ddbrelay config s", {"show"}),
        ("ddbrelay local st", {"start", "status", "stop"}),
        ("ddbrelay config show --tab", {"--table"}),
        ("ddbrelay --no-l", {"--no-local"}),
        ("ddbrelay config show --output ", {"rich", "lines", "json"}),
        ("ddbrelay --output j", {"json"}),
        ("ddbrelay --log-format ", {"text", "json"}),
        ("ddbrelay tail --log-level w", {"warning"}),
        ("ddbrelay tail --on-gap s", {"stop"}),
        ("ddbrelay tail --preset out", {"outbox"}),
        ("ddbrelay tail --from t", {"trim-horizon"}),
        ("ddbrelay tail --region eu-w", {"eu-west-1", "eu-west-2", "eu-west-3"}),
        ("ddbrelay local start --engine m", {"moto", "ministack"}),
        ("ddbrelay completion ", {"bash", "zsh", "fish"}),
        ("ddbrelay help del", {"delivery"}),
        ("ddbrelay help pos", {"positions"}),
        ("ddbrelay help dead-letters r", {"redrive"}),
        ("ddbrelay help output positions.s", {"positions.save", "positions.show"}),
    ],
)
def test_a_shell_gets_what_completes_a_line(
    offered: Offered, line: str, expected: set[str]
) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert set(offered(line, shell)) == expected, shell


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("map ", "file"),
        ("map --expect ", "file"),
        ("schema ", "file"),
        ("schema --dir ", "dir"),
        ("expect ", "file"),
        ("expect --junit ", "file"),
        ("positions import ", "file"),
        ("report --out ", "file"),
        ("tail --record ", "file"),
        ("tail --config ", "file"),
        ("tail --state = st", "file"),
        ("export sam --dir ", "dir"),
    ],
)
def test_a_shell_is_asked_for_its_files_and_folders(
    offered: Offered, capsys: pytest.CaptureFixture[str], line: str, kind: str
) -> None:
    offered(f"ddbrelay {line}")
    shell_complete(cli, {}, "ddbrelay", "_DDBRELAY_COMPLETE", "bash_complete")
    assert capsys.readouterr().out.split(",")[0] == kind


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "how"),
    [("map ", "default"), ("tail --record = ru", "default"), ("schema --dir ", "dirnames")],
)
def test_the_script_lets_bash_complete_files_and_folders(
    bare_cli: Cli, tmp_path: Path, line: str, how: str
) -> None:
    words = shlex.split(f"ddbrelay {line}") + [""] * line.endswith(" ")
    # Outside of a completion the shell refuses compopt: this one tells what it was asked for.
    script = (
        f"{bare_cli.ok('completion', 'bash').stdout}\n"
        'compopt() { echo "$2"; }\n'
        f"COMP_WORDS=({shlex.join(words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        "_ddbrelay_completion ddbrelay\n"
        'echo "${#COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env=shell_environment(tmp_path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert (done.stdout.split(), done.stderr) == ([how, "0"], "")


@pytest.mark.parametrize(
    "line",
    [
        "tail --table users --show ",
        "listen --table users --show ",
        "replay --table users --detail-type ",
        "schema --table=users --detail-type ",
        # As bash has it.
        "tail --table = users --show = ",
    ],
)
def test_event_types_are_offered_where_one_is_asked_for(offered: Offered, line: str) -> None:
    assert offered(f"ddbrelay {line}") == [
        "UserCreated",
        "UserUpdated",
        "UserDeleted",
        "UserExpired",
    ]
    assert offered(f"ddbrelay {line}UserD") == ["UserDeleted"]


def test_what_stands_behind_an_equals_sign_is_completed_as_every_shell_has_it(
    offered: Offered,
) -> None:
    assert offered("ddbrelay tail --output = j") == ["json"]
    assert offered("ddbrelay tail --output =") == ["rich", "lines", "json"]
    assert offered("ddbrelay --output=lines tail --on-gap=s", "zsh") == ["stop"]
    assert offered("ddbrelay --output=lines tail --on-gap=s", "fish") == ["stop"]


def test_tables_and_buses_come_from_the_account_that_the_flags_name(
    offered: Offered, fake_aws: type[FakeAws]
) -> None:
    assert offered("ddbrelay --region eu-west-1 tail --profile shop --table ") == [
        "orders",
        "users",
    ]
    assert offered("ddbrelay status --local --table us") == ["users"]
    assert offered("ddbrelay --local listen --bus user") == ["user-bus", "users-bus"]
    first, *local = fake_aws.made
    assert (first.region, first.profile, first.local) == ("eu-west-1", "shop", False)
    assert [one.local for one in local] == [True, True]


@pytest.mark.parametrize(
    "words",
    ["--region nowhere", "--config missing.toml", "--output wrong", "--no-local"],
)
def test_what_fails_offers_nothing_and_says_nothing(
    offered: Offered, monkeypatch: pytest.MonkeyPatch, fake_aws: type[FakeAws], words: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(FakeAws, "list_tables", refuse)
    assert offered(f"ddbrelay tail {words} --table ") == []


def test_an_aws_that_does_not_answer_is_not_waited_for(
    offered: Offered, monkeypatch: pytest.MonkeyPatch, fake_aws: type[FakeAws]
) -> None:
    answered = threading.Event()

    def first_page_only(self: FakeAws, **more: Any) -> dict[str, Any]:
        if more:
            answered.wait(30)
        return {"TableNames": ["users"], "LastEvaluatedTableName": "users"}

    monkeypatch.setattr(completing, "DEADLINE", 0.05)
    monkeypatch.setattr(FakeAws, "list_tables", first_page_only)
    assert offered("ddbrelay tail --table ") == ["users"]
    answered.set()


def test_bookmarks_and_consumers_come_from_the_state_file(offered: Offered, tmp_path: Path) -> None:
    assert offered("ddbrelay positions show ") == []
    assert not (tmp_path / "state").exists()
    file = tmp_path / "my state.db"
    with closing(Database(file)) as database:
        marks = Bookmarks(database)
        for name, automatic in (("run-1", True), ("before-deploy", False)):
            marks.save(Bookmark(name, "audit", ARN, [Position("s")], 1.0, automatic))
        with database.transaction() as cursor:
            row = ("audit", ARN, "s", b"{}", 1.0)
            cursor.execute("INSERT INTO positions VALUES (?, ?, ?, ?, ?)", row)
    before = file.read_bytes()
    file.rename(tmp_path / "state.db")
    for line in ("positions show", "positions delete", "positions export"):
        assert offered(f"ddbrelay {line} --state state.db ") == ["before-deploy", "run-1"]
    assert offered("ddbrelay replay --state state.db --from b") == ["before-deploy"]
    assert offered("ddbrelay --state state.db positions show b") == []
    assert offered("ddbrelay positions --table t show --state state.db b") == ["before-deploy"]
    assert offered("ddbrelay tail --state state.db --consumer ") == ["audit"]
    assert (tmp_path / "state.db").read_bytes() == before
    assert sorted(one.name for one in tmp_path.glob("state.db*")) == ["state.db"]


def test_what_a_run_has_not_put_into_the_state_file_itself_counts(
    offered: Offered, tmp_path: Path
) -> None:
    with closing(Database(tmp_path / "state.db")) as database:
        Bookmarks(database).save(Bookmark("mine", "audit", ARN, [Position("s")], 1.0, False))
        assert (tmp_path / "state.db-wal").stat().st_size
        assert offered("ddbrelay positions show --state state.db ") == ["mine"]


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 4096])
def test_a_state_file_that_is_none_offers_nothing(
    offered: Offered, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "state.db").write_bytes(content)
    assert offered("ddbrelay positions show --state state.db ") == []
    assert (tmp_path / "state.db").read_bytes() == content


def test_a_locked_state_file_is_not_waited_for(offered: Offered, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("CREATE TABLE bookmarks (name, consumer, saved_at, automatic)")
        other.execute("BEGIN EXCLUSIVE")
        (tmp_path / "state.db-wal").touch()
        began = time.monotonic()
        assert offered("ddbrelay positions show --state state.db ") == []
        assert time.monotonic() - began < 5


def test_event_types_are_those_that_the_mapping_can_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import click

    from ddbrelay.cli.options import Run

    monkeypatch.chdir(tmp_path)
    context = click.Context(cli, obj=Run({"table": "users"}))
    parameter = click.Option(["--show"])

    def types(incomplete: str = "") -> list[str]:
        context.obj.__dict__.pop("config", None)
        return [one.value for one in completing.event_types(context, parameter, incomplete)]

    assert types() == ["UserCreated", "UserUpdated", "UserDeleted", "UserExpired"]
    (tmp_path / "ddbrelay.toml").write_text(
        '[[rule]]\ndetail_type = "UserEmailChanged"\nname = "mail"\n'
        '[[rule]]\ndetail_type = "{new.plan}Bought"\n'
        "[[rule]]\nskip = true\n"
    )
    assert types() == ["UserEmailChanged"]
    assert types("X") == []


@pytest.mark.parametrize(
    ("shell", "marker"),
    [
        ("bash", "complete -"),
        ("zsh", "compdef"),
        ("fish", "complete --no-files --command ddbrelay"),
    ],
)
def test_completion_prints_a_script_that_calls_back(bare_cli: Cli, shell: str, marker: str) -> None:
    script = bare_cli.ok("completion", shell).stdout
    assert f"_DDBRELAY_COMPLETE={shell}_complete" in script
    assert marker in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_a_shell_that_is_not_named_is_asked_for_in_a_line(bare_cli: Cli) -> None:
    done = bare_cli.run("completion")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: no shell is named",
        "  hint: ddbrelay completion bash|zsh|fish",
    ]
    assert "[OPTIONS] bash|zsh|fish" in bare_cli.ok("completion", "--help").stdout


def test_a_completion_is_cut_off_from_the_terminal_and_prints_no_error(tmp_path: Path) -> None:
    program = (
        "import getpass, os, subprocess, sys\n"
        "from ddbrelay.cli import completing\n"
        "def look(run, incomplete):\n"
        "    sys.stderr.write('torn')\n"
        "    os.write(2, b'torn')\n"
        "    subprocess.run(['sh', '-c', 'echo torn >&2; echo torn > /dev/tty'])\n"
        "    yield 'ok', None\n"
        "    getpass.getpass('your code: ')\n"
        "completing._OF_SETTINGS['table'] = completing._looked_up(look)\n"
        "from ddbrelay.cli.main import main\n"
        "main()\n"
    )
    environment = {
        **os.environ,
        "_DDBRELAY_COMPLETE": "bash_complete",
        "COMP_WORDS": "ddbrelay tail --table ",
        "COMP_CWORD": "3",
    }
    import pty

    master, slave = pty.openpty()
    with os.fdopen(slave, "wb") as terminal:
        done = subprocess.run(
            [
                *(sys.executable, "-c"),
                # As a shell does: a session whose terminal this is, and a child in its group.
                "import fcntl, os, subprocess, sys, termios\n"
                "os.setsid()\n"
                "fcntl.ioctl(2, termios.TIOCSCTTY, 0)\n"
                f"sys.exit(subprocess.run([sys.executable, '-c', {program!r}]).returncode)",
            ],
            env=environment,
            cwd=tmp_path,
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=terminal,
            timeout=30,
        )
        terminal.write(b"end")
    shown = os.read(master, 10_000)
    os.close(master)
    assert (shown, done.returncode) == (b"end", 0)
    assert done.stdout == b"plain,ok\n"
