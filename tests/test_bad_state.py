"""A state file that cannot be used: one clear line, and the file is left as it was."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import socket
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
from ddbrelay.checkup.state import look
from ddbrelay.errors import StateError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.stores.database import VERSION, Database
from ddbrelay.stores.letters import Letters
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
    assert "cannot be read" in bare_cli.run("dead-letters", "redrive", "--all", "--dry-run").stdout
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


@pytest.mark.parametrize("kind", ["FIFO", "socket", "device"])
@pytest.mark.parametrize("words", [("list",), ("save", "x")])
def test_what_is_no_file_is_refused_at_once(
    bare_cli: Cli, tmp_path: Path, kind: str, words: tuple[str, ...]
) -> None:
    target = tmp_path / "odd"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        if kind == "FIFO":
            os.mkfifo(target)
        elif kind == "socket":
            listening.bind(str(target))
        else:
            target = Path(os.devnull)
        done = bare_cli.run("positions", *words, "--state", str(target))
    clear_error(done, 2, f"the state file {target} is a {kind}", "--state")


READING = (
    ("positions", "list"),
    ("positions", "show"),
    ("positions", "export"),
    ("ledger",),
    ("report", "--out", "-"),
    ("rules", "--table", "users"),
    ("dead-letters", "list"),
    ("dead-letters", "export"),
    ("dead-letters", "redrive", "--all", "--dry-run"),
)


@pytest.mark.slow
def test_an_emptied_file_that_was_in_use_is_told_of_until_it_is_started_anew(
    bare_cli: Cli, state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(Database(state)) as database:
        asyncio.run(SqliteStore(database, "default", ARN).claim())
    state.write_bytes(b"")
    for ending in ("-wal", "-shm"):
        state.with_name(state.name + ending).unlink(missing_ok=True)
    said = f"the state file {state} was in use before and is empty now"
    for words in READING * 2:
        assert bare_cli.run(*words).stderr.count(said) == 1, words
        assert state.read_bytes() == b"", words
    with closing(Database(state)):
        assert said in caplog.text
    assert "in use before" not in bare_cli.run("positions", "list").stderr


@pytest.mark.slow
@pytest.mark.parametrize("older", [False, True])
def test_who_only_looks_changes_nothing_and_leaves_no_file(
    bare_cli: Cli, state: Path, older: bool
) -> None:
    if older:
        of_an_older_format(state)
    state.chmod(0o640)

    def seen() -> dict[str, tuple[bytes, int]]:
        return {
            file.name: (file.read_bytes(), file.stat().st_mode)
            for file in state.parent.iterdir()
            if file.is_file()
        }

    before = seen()
    for words in READING:
        done = bare_cli.run(*words)
        assert "the state file" not in done.stderr, (words, done.stderr)
        assert seen() == before, words


def test_the_doctor_leaves_no_file_either_and_tells_of_an_emptied_one(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(state.parent.iterdir())
    assert look(state).version == VERSION
    assert set(state.parent.iterdir()) == before
    state.with_name(f"{state.name}.owners").mkdir()
    state.write_bytes(b"")
    assert look(state).version == 0
    assert f"the state file {state} was in use before and is empty now" in caplog.text


def test_a_reader_sees_what_a_writer_that_is_at_work_has_saved(state: Path) -> None:
    with closing(Database(state)) as writer, closing(Database(state, reading=True)) as reader:
        asyncio.run(SqliteStore(writer, "later", ARN).save([Position("s", sequence="2")]))
        loaded = asyncio.run(SqliteStore(reader, "later", ARN).load())
        assert loaded["s"].sequence == "2"
        with pytest.raises(StateError, match="readonly"), reader.transaction() as cursor:
            cursor.execute("DELETE FROM positions")


def test_a_writer_that_starts_beside_a_reader_is_not_held_and_is_seen(state: Path) -> None:
    with closing(Database(state, reading=True)) as reader:
        with closing(Database(state)) as writer:
            asyncio.run(SqliteStore(writer, "later", ARN).save([Position("s", sequence="2")]))
        assert asyncio.run(SqliteStore(reader, "later", ARN).load())["s"].sequence == "2"
    with closing(Database(state, reading=True)) as reader:
        assert asyncio.run(SqliteStore(reader, "later", ARN).load())["s"].sequence == "2"


def test_a_new_empty_file_is_nothing_to_talk_about(bare_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "new.db").touch()
    done = bare_cli.ok("positions", "list", "--state", str(tmp_path / "new.db"))
    assert "in use before" not in done.stderr


def test_looking_makes_no_file(bare_cli: Cli, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "state.db"
    for words in (("positions", "list"), ("dead-letters", "list")):
        bare_cli.ok(*words, "--state", str(missing))
    assert not missing.parent.exists()


# A file that can only be read


def as_reader(cli: Cli, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command for whom permission bits hold, also where the tests run as root."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    if os.geteuid() != 0:
        drop = []
    elif shutil.which("setpriv") is None:
        pytest.skip("root may write everything, and setpriv is not installed")
    return subprocess.run(
        [*drop, *cli.arguments(*words)],
        cwd=cli.directory,
        env=cli.env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def killed(state: Path) -> None:
    """The last run was killed: what it saved is in the write-ahead log only."""
    with closing(Database(state)) as database:
        asyncio.run(SqliteStore(database, "later", ARN).save([Position("s", sequence="2")]))
        kept = {end: state.with_name(state.name + end).read_bytes() for end in ("", "-wal")}
    for end, content in kept.items():
        state.with_name(state.name + end).write_bytes(content)


def of_an_older_format(state: Path) -> None:
    change(state, "DROP TABLE streams")
    change(state, "PRAGMA user_version = 4")


@pytest.mark.parametrize("mode", [0o500, 0o700], ids=["folder", "file"])
@pytest.mark.parametrize(
    ("happened", "consumers"),
    [
        (lambda _: None, {"default"}),
        (killed, {"default", "later"}),
        (of_an_older_format, {"default"}),
    ],
    ids=["closed", "killed", "older"],
)
def test_what_cannot_be_written_can_be_looked_at(
    bare_cli: Cli,
    state: Path,
    mode: int,
    happened: Callable[[Path], None],
    consumers: set[str],
) -> None:
    happened(state)
    for file in state.parent.iterdir():
        file.chmod(0o400 if file.is_file() else 0o500)
    before = {file: file.read_bytes() for file in state.parent.iterdir() if file.is_file()}
    state.parent.chmod(mode)
    try:
        done = as_reader(bare_cli, "positions", "list", "--output", "json")
        assert (done.returncode, done.stderr) == (0, "")
        assert {json.loads(line)["consumer"] for line in done.stdout.splitlines()} == consumers
        clear_error(as_reader(bare_cli, "positions", "save", "x"), 2, str(state), "--state")
    finally:
        state.parent.chmod(0o700)
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.slow
def test_every_command_that_only_looks_can(bare_cli: Cli, state: Path) -> None:
    letter = DeadLetter("s", "7", b'{"id":{"S":"a"}}', "bad", b"{}", None, 1, 1.0, False)
    with closing(Database(state)) as database:
        asyncio.run(SqliteStore(database, "default", ARN).park([letter]))
    state.chmod(0o400)
    state.parent.chmod(0o500)
    try:
        for words in (
            ("positions", "show"),
            ("positions", "export"),
            ("ledger",),
            ("report", "--out", "-"),
            ("rules", "--table", "users"),
            ("dead-letters", "list"),
            ("dead-letters", "show", "s:7"),
            ("dead-letters", "export"),
            ("dead-letters", "redrive", "--all", "--dry-run"),
        ):
            done = as_reader(bare_cli, *words)
            # What the stored record lacks would keep it parked.
            code = 3 if "redrive" in words else 0
            assert (done.returncode, "cannot" in done.stderr) == (code, False), (words, done.stderr)
    finally:
        state.parent.chmod(0o700)


# A file system without locks


def test_a_share_without_locks_is_one_clear_line(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with closing(Database(state)) as database, closing(Database(state, lock_timeout=0)) as hasty:
        monkeypatch.setattr("fcntl.flock", none)
        monkeypatch.setattr("fcntl.lockf", none)
        letters = Letters(database, "default", [ARN])
        with pytest.raises(StateError, match="its file system has no locks") as refused:
            asyncio.run(SqliteStore(database, "default", ARN).claim())
        assert (refused.value.exit_code, "local disk" in str(refused.value.hint)) == (2, True)
        with pytest.raises(StateError, match="no locks"), letters.locked():
            pass
        # SQLite says "locked" of it.
        with (
            database.transaction(),
            pytest.raises(StateError, match="no locks"),
            hasty.transaction(),
        ):
            pass


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
        7,
        f"error: the state file {state_file(cli)} is locked by another process",
    )
    assert len(pipe.received()) == 2
    done = cli.run("tail", "--forward", "--until-idle", "0")
    clear_error(done, 7, "is locked by another process")
    assert (done.stdout, pipe.received()) == ("", [])
    # Reading is possible all the same.
    assert cli.json("positions", "show")[0]["table"] == name
