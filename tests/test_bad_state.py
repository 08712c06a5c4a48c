"""A state file that cannot be used: one clear line, and the file is left as it was."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, clear_error, running, state_file

from ddbrelay.aws.session import Aws
from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore

Waiter = Callable[[Callable[[], bool], float], None]
ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/users/stream/2026-11-23T10:31:02.123"
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(bare_cli: Cli) -> Path:
    """A state file with one position."""
    file = state_file(bare_cli)
    file.parent.mkdir(parents=True)
    with closing(Database(file)) as database:
        asyncio.run(SqliteStore(database, "default", ARN).save([Position("s", sequence="1")]))
    return file


@pytest.fixture
def held() -> Iterator[Callable[[Path], None]]:
    """Lets another process hold the file in a transaction until the test ends."""
    holders: list[subprocess.Popen[str]] = []

    def hold(file: Path) -> None:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        holders.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

    yield hold
    for holder in holders:
        with holder:
            assert holder.stdin is not None
            holder.stdin.close()


def change(file: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(statement, values)


def refused(cli: Cli, file: Path, *says: str) -> None:
    """Every kind of use is refused, and the file stays as it is."""
    before = file.read_bytes()
    for words in (("list",), ("save", "x")):
        clear_error(cli.run("positions", *words), 2, str(file), *says)
    assert file.read_bytes() == before


def test_a_file_that_is_no_database_is_called_damaged(bare_cli: Cli) -> None:
    file = state_file(bare_cli)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"not a database, " * 300)
    refused(bare_cli, file, "is damaged", "hint: choose another file")


def test_a_file_with_a_torn_page_is_called_damaged(bare_cli: Cli, state: Path) -> None:
    whole = state.read_bytes()
    state.write_bytes(whole[:100] + b"\xaa" * (len(whole) - 100))
    refused(bare_cli, state, "is damaged", "hint: choose another file")


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"shard_id": 1}', b"\xff", b"[]"])
def test_a_position_that_cannot_be_read_is_called_damaged(
    bare_cli: Cli, state: Path, garbage: bytes
) -> None:
    change(state, "UPDATE positions SET position = ?", garbage)
    clear_error(bare_cli.run("positions", "show"), 2, str(state), "is damaged")


def test_a_bookmark_that_cannot_be_read_is_called_damaged(bare_cli: Cli, state: Path) -> None:
    bare_cli.ok("positions", "save", "mark")
    change(state, "UPDATE bookmarks SET positions = 'x'")
    for words in (("list",), ("show", "mark"), ("export", "mark")):
        clear_error(bare_cli.run("positions", *words), 2, str(state), "is damaged")


@pytest.mark.parametrize("column", ["record", "event"])
def test_a_dead_letter_that_cannot_be_read_is_named_and_can_be_dropped(
    bare_cli: Cli, state: Path, column: str
) -> None:
    with closing(Database(state)) as database:
        parked = DeadLetter("s", "7", b'{"id":{"S":"a"}}', "bad", b"{}", b"{}", 1, 1e9)
        asyncio.run(SqliteStore(database, "default", ARN).park([parked]))
    change(state, f"UPDATE dead_letters SET {column} = '{{'")
    assert bare_cli.json("dead-letters", "list")[0]["id"] == "s:7"
    assert "cannot be read" in bare_cli.ok("dead-letters", "show", "s:7").stdout
    for words in (("show", "s:7", "--output", "json"), ("export",)):
        done = bare_cli.run("dead-letters", *words)
        clear_error(done, 2, "dead letter s:7 is damaged", "drop s:7")
    assert "cannot be read" in bare_cli.ok("dead-letters", "redrive", "--all", "--dry-run").stdout
    bare_cli.ok("dead-letters", "drop", "s:7", "--yes")


def test_a_file_of_a_newer_version(bare_cli: Cli, state: Path) -> None:
    change(state, "PRAGMA user_version = 99")
    refused(bare_cli, state, "written by a newer ddbrelay (format 99)", "pip install --upgrade")


def test_a_database_of_another_program(bare_cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "other.db"
    change(file, "CREATE TABLE theirs (x)")
    bare_cli.environment["DDBRELAY_STATE"] = str(file)
    refused(bare_cli, file, "is a database of another program", "--state")


def test_a_directory_in_place_of_a_file(bare_cli: Cli, tmp_path: Path) -> None:
    done = bare_cli.run("positions", "list", "--state", str(tmp_path))
    clear_error(done, 2, f"the state file {tmp_path} cannot be used: Is a directory", "--state")


def test_a_file_in_place_of_a_directory(bare_cli: Cli, state: Path) -> None:
    below = state / "below.db"
    done = bare_cli.run("positions", "list", "--state", str(below))
    clear_error(done, 2, f"the state file {below} cannot be used", "--state")


@pytest.mark.slow
@ON_MOTO
def test_a_relay_whose_file_another_process_holds_sends_nothing_and_one_under_way_ends(
    cli: Cli, aws: Aws, name: str, held: Callable[[Path], None], wait_until: Waiter
) -> None:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    with running(cli, "tail", "--forward") as tail:
        wait_until(lambda: len(tail.lines) == 1, 20)
        held(state_file(cli))
        pipe.put("b")
        code, words = tail.wait(40)
    assert (code, words.splitlines()[-2]) == (
        2,
        f"error: the state file {state_file(cli)} is locked by another process",
    )
    assert len(pipe.received()) == 2
    done = cli.run("tail", "--forward", "--until-idle", "0")
    clear_error(done, 7, "is locked by another process")
    assert (done.stdout, pipe.received()) == ("", [])
    # Reading is possible all the same.
    assert cli.json("positions", "show")[0]["table"] == name
