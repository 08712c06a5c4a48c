"""The state file: the contract of a store, and what becomes of a file that cannot be used."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from ddbrelay import lock
from ddbrelay.errors import ConfigError, StateError, StateUnavailable
from ddbrelay.flow.capture import Position, Record
from ddbrelay.flow.tracking import Account, DeadLetter, Fate, Line, Usage
from ddbrelay.stores import opening
from ddbrelay.stores.database import VERSION, Database
from ddbrelay.stores.ledger import EARLIER, ShardLedger, of_consumer
from ddbrelay.stores.letters import waiting
from ddbrelay.stores.ownership import LEASE, owners_of
from ddbrelay.stores.sqlite import (
    AUTOMATIC_KEPT,
    Bookmark,
    Bookmarks,
    SqliteStore,
    consumers,
    forget_table,
)
from ddbrelay.stores.usage import EARLIER_RUNS, RUNS_KEPT
from ddbrelay.stores.usage import of_consumer as usage_of
from ddbrelay.testing.builders import record
from ddbrelay.testing.contracts import Feature, StoreContract

ARN = "arn:stream"
START = 1_767_225_600.0


class SqliteHarness:
    def __init__(self, path: Path | str) -> None:
        self._path = path
        self.lacks = {Feature.DURABILITY} if path == ":memory:" else set()
        self.database = Database(path)

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        async def main() -> None:
            await test()

        asyncio.run(main())

    def open(self, consumer: str = "default", stream_arn: str = ARN) -> SqliteStore:
        return SqliteStore(self.database, consumer, stream_arn)

    def reopen(self) -> None:
        self.database.close()
        self.database = Database(self._path)

    def ledger(self, consumer: str = "default") -> dict[str, ShardLedger]:
        return of_consumer(self.database, consumer, ARN)


class TestSqliteFile(StoreContract):
    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[SqliteHarness]:
        made = SqliteHarness(tmp_path / "state" / "ddbrelay.db")
        yield made
        made.database.close()


class TestSqliteMemory(StoreContract):
    @pytest.fixture
    def harness(self) -> Iterator[SqliteHarness]:
        made = SqliteHarness(":memory:")
        yield made
        made.database.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ddbrelay.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    made = Database(path)
    yield made
    made.close()


def store(database: Database, now: float = START, consumer: str = "default") -> SqliteStore:
    return SqliteStore(database, consumer, ARN, lambda: now)


def begin(database: Database, now: float, *positions: Position) -> None:
    asyncio.run(store(database, now).begin(positions))


# The file


@pytest.fixture
def open_to_all() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """The rights of a folder and of all that is in it, by name."""
    found = [folder, *folder.rglob("*")]
    return {str(one.relative_to(folder)): stat.S_IMODE(one.stat().st_mode) for one in found}


@pytest.mark.usefixtures("open_to_all")
def test_only_its_owner_may_use_the_state_file_and_the_folders_made_for_it(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b" / "state.db"
    with closing(Database(file)) as database:
        asyncio.run(store(database).claim())
        found = modes(tmp_path / "a")
        assert {"b/state.db-wal", "b/state.db-shm"} < set(found)
        folders = {name for name in found if (tmp_path / "a" / name).is_dir()}
        assert folders == {".", "b", "b/state.db.owners"}
        assert {found[name] for name in folders} == {0o700}
        assert {found[name] for name in set(found) - folders} == {0o600}


@pytest.mark.usefixtures("open_to_all")
def test_what_others_may_read_is_closed_to_them_with_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "ddbrelay"
    file = folder / "state.db"
    with closing(Database(file)) as database, closing(Database(file)) as again:
        asyncio.run(store(database).claim())
        assert caplog.messages == []
        for one in (folder, file, folder / "state.db-wal", folder / "state.db.owners"):
            one.chmod(0o755 if one.is_dir() else 0o664)
        with closing(Database(file)):
            assert set(modes(folder).values()) == {0o700, 0o600}
        again.close()
    (word,) = caplog.messages
    assert "only its owner can" in word
    for name in ("state.db, ", "state.db-wal", "state.db.owners"):
        assert str(folder / name) in word


def test_a_folder_that_holds_only_the_state_is_closed_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "local").mkdir()
    folder.chmod(0o755)
    for _ in range(2):
        Database(folder / "state.db").close()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (word,) = caplog.messages
    assert word == f"others could use {folder}; from now on only its owner can"


@pytest.mark.parametrize(
    ("mode", "theirs", "warned"),
    [
        (0o777, True, True),
        (0o770, True, True),
        (0o755, True, False),
        (0o1777, True, False),
        (0o1777, False, False),
        (0o2750, False, False),
        (0o2770, False, True),
    ],
)
def test_a_folder_that_is_shared_keeps_its_rights_and_is_warned_of_where_others_may_write(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, theirs: bool, warned: bool
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    (shared / "state.db").touch()
    (shared / "state.db").chmod(0o644)
    if theirs:
        (shared / "theirs.txt").touch()
    for _ in range(2):
        Database(shared / "state.db").close()
    assert stat.S_IMODE(shared.stat().st_mode) == mode
    assert stat.S_IMODE((shared / "state.db").stat().st_mode) == 0o600
    words = [word for word in caplog.messages if "only its owner can" not in word]
    assert len(words) == warned
    assert all(f"chmod go-w {shared}" in word for word in words)
    assert len(caplog.messages) == 1 + warned


def test_missing_directories_are_made(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "ddbrelay.db"
    Database(deep).close()
    assert deep.exists()


HOLD = """
import sqlite3, sys
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_file_locked_by_another_process_is_one_clear_line(path: Path, database: Database) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        hasty = Database(path, lock_timeout=0.05)
        with pytest.raises(StateError, match="is locked by another process") as refused:
            begin(hasty, START, Position("a"))
        assert refused.value.hint is not None
        assert refused.value.exit_code == 7
        hasty.close()
    begin(database, START, Position("a"))


@pytest.mark.parametrize("content", [b"not a database at all" * 100, b"\x00" * 4096, b"x"])
def test_a_damaged_file_is_one_clear_line_and_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StateError, match="is damaged") as refused:
        Database(path)
    assert str(path) in refused.value.message
    assert path.read_bytes() == content


def test_damage_inside_the_file_is_found_when_it_is_read(path: Path) -> None:
    database = Database(path)
    begin(database, START, *(Position(f"shard-{n}") for n in range(500)))
    database.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    with pytest.raises(StateError, match="is damaged"):
        asyncio.run(store(Database(path)).load())


def test_a_position_that_cannot_be_decoded_is_damage(path: Path, database: Database) -> None:
    begin(database, START, Position("a"))
    with sqlite3.connect(path) as raw:
        raw.execute("UPDATE positions SET position = '{\"shard_id\": 5}'")
        raw.execute("UPDATE bookmarks SET positions = 'x'")
    raw.close()
    with pytest.raises(StateError, match="is damaged"):
        asyncio.run(store(database).load())
    (name,) = names(path)
    with pytest.raises(StateError, match="is damaged"):
        Bookmarks(database).get(name)
    with pytest.raises(StateError, match="is damaged"):
        Bookmarks(database).all()


def names(path: Path) -> list[str]:
    with sqlite3.connect(path) as raw:
        found = [name for (name,) in raw.execute("SELECT name FROM bookmarks")]
    raw.close()
    return found


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    Database(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version = {VERSION + 1}")
    raw.close()
    with pytest.raises(StateError, match=rf"newer ddbrelay \(format {VERSION + 1}\)") as refused:
        Database(path)
    assert "upgrade" in (refused.value.hint or "")


def test_a_database_of_another_program_is_refused_and_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as raw:
        raw.execute("CREATE TABLE theirs (x)")
    raw.close()
    before = path.read_bytes()
    with pytest.raises(StateError, match="another program"):
        Database(path)
    assert path.read_bytes() == before


def test_a_directory_is_no_state_file(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="directory"):
        Database(tmp_path)


def test_a_path_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    regular = tmp_path / "file"
    regular.write_text("")
    with pytest.raises(StateError, match="cannot be used") as refused:
        Database(regular / "ddbrelay.db")
    assert "--state" in (refused.value.hint or "")


def test_two_processes_may_make_the_file_at_the_same_time(path: Path) -> None:
    make = f"from ddbrelay.stores.database import Database; Database({str(path)!r}).close()"
    both = [subprocess.Popen([sys.executable, "-c", make]) for _ in range(2)]
    assert [process.wait(20) for process in both] == [0, 0]
    Database(path).close()


def test_a_full_disk_keeps_the_last_checkpoint_and_the_file_stays_usable(path: Path) -> None:
    database = Database(path)
    kept = Position("a", sequence="1")
    begin(database, START, kept)
    database._connection.execute("PRAGMA max_page_count = 1")
    many = [Position(f"shard-{n}", iterator="x" * 1000) for n in range(200)]
    for _ in range(2):
        with pytest.raises(StateUnavailable, match="full") as refused:
            asyncio.run(store(database).save(many))
        assert refused.value.exit_code == 7
    database._connection.execute("PRAGMA max_page_count = 100000")
    assert asyncio.run(store(database).load()) == {"a": kept}
    asyncio.run(store(database).save([Position("a", sequence="2")]))
    assert asyncio.run(store(database).load())["a"].sequence == "2"
    database.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ESTALE])
def test_what_keeps_the_file_from_being_opened_only_for_now_can_be_cured_by_a_restart(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(opening, "make_private", fails)
    with pytest.raises(StateUnavailable, match="cannot be used") as refused:
        Database(path)
    assert refused.value.exit_code == 7


def test_a_save_is_all_or_nothing(database: Database) -> None:
    begin(database, START, Position("a"))

    def broken() -> Iterator[Position]:
        yield Position("a", sequence="1")
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        asyncio.run(store(database).save(broken()))
    assert asyncio.run(store(database).load()) == {"a": Position("a")}


KILLED = """
import asyncio, os, sys
from ddbrelay.flow.capture import Position
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
database = Database(sys.argv[1])
store = SqliteStore(database, "default", "arn:stream")
asyncio.run(store.begin([Position("a")]))
asyncio.run(store.save([Position("a", sequence="42")]))
os.kill(os.getpid(), 9)
"""


def test_what_was_saved_outlives_a_sigkill(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=20, check=False)
    assert done.returncode == -9
    again = Database(path)
    assert asyncio.run(store(again).load())["a"].sequence == "42"
    again.close()


# Owners

OWNER = """
import asyncio, os, signal, sys
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
store = SqliteStore(Database(sys.argv[1]), "default", "arn:stream")
asyncio.run(store.claim())
print("claimed", flush=True)
sys.stdin.read()
"""


def test_an_owner_in_another_process_is_named_and_taken_over_as_soon_as_it_is_dead(
    path: Path, database: Database
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "claimed\n"
        mine = store(database)
        with pytest.raises(StateError, match=rf"already: pid {owner.pid} on .*, since 20"):
            asyncio.run(mine.claim())
        owner.kill()
        owner.wait()
        asyncio.run(mine.claim())
        asyncio.run(mine.begin([Position("a")]))
        asyncio.run(mine.release())


def test_a_dead_owner_in_another_container_is_taken_over_at_once(path: Path) -> None:
    """The names differ, but the volume has one kernel, which has freed the lock."""
    with closing(Database(path)) as first, closing(Database(path)) as second:
        dead = SqliteStore(first, "default", ARN, lambda: START, "container-1")
        next_one = SqliteStore(second, "default", ARN, lambda: START, "container-2")
        asyncio.run(dead.claim())
        with pytest.raises(StateUnavailable, match="on container-1"):
            asyncio.run(next_one.claim())
        # As the kernel does when a process dies.
        dead._ownership._alive.release()
        asyncio.run(next_one.claim())
        asyncio.run(next_one.save([Position("a", sequence="1")]))
        with pytest.raises(StateUnavailable, match="was taken over"):
            asyncio.run(dead.save([]))


def test_an_owner_on_another_machine_is_given_up_after_a_silence_and_can_move_nothing_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each machine has a lock file of its own kernel.
    monkeypatch.setattr("ddbrelay.lock.filesystem_of", lambda _: "nfs4")
    first, second = Database(path), Database(path)
    time = [START]
    one = SqliteStore(first, "default", ARN, lambda: time[0], "one")
    two = SqliteStore(second, "default", ARN, lambda: time[0], "two")
    two._ownership._alive.path = path.parent / "elsewhere" / "lock"
    asyncio.run(one.claim())
    asyncio.run(one.begin([Position("a")]))
    time[0] += LEASE - 1
    asyncio.run(one.save([]))
    time[0] += LEASE - 1
    with pytest.raises(StateError, match="on one, since 2026-01-01T00:00:00Z"):
        asyncio.run(two.claim())
    time[0] += 2
    asyncio.run(two.claim())
    asyncio.run(two.save([Position("a", sequence="7")]))
    for write in (
        lambda: one.save([Position("a", sequence="1")]),
        lambda: one.begin([]),
        lambda: one.forget(["a"]),
        lambda: one.replace([]),
    ):
        with pytest.raises(StateError, match=r"was taken over by pid .* on two"):
            asyncio.run(write())
    asyncio.run(one.release())
    assert asyncio.run(two.load())["a"].sequence == "7"
    asyncio.run(two.save([Position("a", sequence="8")]))
    asyncio.run(two.release())
    first.close()
    second.close()


def test_a_run_on_a_table_that_was_torn_down_can_move_nothing(database: Database) -> None:
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/users"
    owner = SqliteStore(database, "default", f"{table}/stream/2026-11-23T10:31:00.000")
    asyncio.run(owner.claim())
    asyncio.run(owner.begin([Position("a")]))
    assert [(consumer, one.alive) for consumer, one in owners_of(database, table)] == [
        ("default", True)
    ]
    assert owners_of(database, f"{table}x") == []
    assert forget_table(database, table) == 1
    assert owners_of(database, table) == []
    with pytest.raises(StateError, match="what is stored of its stream was removed"):
        asyncio.run(owner.save([Position("a", sequence="1")]))
    assert asyncio.run(owner.load()) == {}
    asyncio.run(owner.release())


def test_an_owner_whose_claim_was_taken_away_can_move_nothing(database: Database) -> None:
    owner = store(database)
    asyncio.run(owner.claim())
    asyncio.run(owner.begin([Position("a")]))
    with database.transaction() as cursor:
        cursor.execute("DELETE FROM owners")
    with pytest.raises(StateError, match="was taken away from this run"):
        asyncio.run(owner.save([Position("a", sequence="1")]))
    assert asyncio.run(owner.load()) == {"a": Position("a")}
    asyncio.run(owner.release())


# The ledger


def test_the_counts_of_shards_that_are_long_gone_become_one(database: Database) -> None:
    time = [START]
    made = SqliteStore(database, "default", ARN, lambda: time[0])
    for number in range(3):
        shard = f"s{number}"
        line = Line(Fate.PUBLISHED, "created", 10, "1", "9", START + number, START + number)
        asyncio.run(made.save([Position(shard, finished=True)], [Account(shard, [line])]))
        time[0] += 3 * 24 * 3600
    asyncio.run(made.forget(["s0", "s1"]))
    assert set(of_consumer(database, "default", ARN)) == {EARLIER, "s1", "s2"}
    time[0] += 3 * 24 * 3600
    asyncio.run(made.forget(["s2"]))
    found = of_consumer(database, "default", ARN)
    assert {s: ledger.count(Fate.PUBLISHED) for s, ledger in found.items()} == {
        EARLIER: 20,
        "s2": 10,
    }
    assert (found[EARLIER].lines[0].since, found[EARLIER].lines[0].until) == (START, START + 1)


FIRST_FORMAT = """
CREATE TABLE positions (consumer TEXT NOT NULL, stream_arn TEXT NOT NULL, shard_id TEXT NOT NULL,
    position BLOB NOT NULL, saved_at REAL NOT NULL, PRIMARY KEY (consumer, stream_arn, shard_id)
) WITHOUT ROWID;
CREATE TABLE bookmarks (name TEXT NOT NULL PRIMARY KEY, consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL, positions BLOB NOT NULL, saved_at REAL NOT NULL,
    automatic INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE dead_letters (consumer TEXT NOT NULL, stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL, sequence TEXT NOT NULL, item_key BLOB NOT NULL, reason TEXT NOT NULL,
    record BLOB NOT NULL, event BLOB, attempts INTEGER NOT NULL, parked_at REAL NOT NULL,
    behind INTEGER NOT NULL, PRIMARY KEY (consumer, stream_arn, shard_id, sequence)
) WITHOUT ROWID;
CREATE INDEX dead_letters_by_key ON dead_letters (consumer, stream_arn, item_key);
INSERT INTO positions VALUES ('default', 'arn:stream', 'a', '{"shard_id":"a","sequence":"5"}', 1.0);
INSERT INTO dead_letters VALUES ('default', 'arn:stream', 'a', '4', x'6b', 'bad', '{}', NULL, 1,
    1.0, 0);
PRAGMA application_id = 1684304433;
PRAGMA user_version = 1;
"""


def test_a_file_of_the_first_format_is_taken_on_with_all_that_it_holds(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(FIRST_FORMAT)
    for _ in range(2):
        with closing(Database(path)) as database:
            assert asyncio.run(store(database).load()) == {"a": Position("a", sequence="5")}
            (old,) = asyncio.run(store(database).uncopied(10))
            assert (old.sequence, old.item_key, old.behind) == ("4", b"k", False)
            asyncio.run(
                store(database).save([], [Account("a", [Line(Fate.PARKED, "", 1, "6", "6")])])
            )
    with closing(Database(path)) as database:
        assert of_consumer(database, "default", ARN)["a"].count(Fate.PARKED) == 2


# Dead letters


def letter(source: Record) -> DeadLetter:
    return DeadLetter(
        shard_id="a",
        sequence=source.sequence_number,
        item_key=b'{"id":{"B":"AAE="}}',
        reason="MalformedDetail: ü",
        record=msgspec.json.encode(source),
        event=b'{"detail":"e30="}',
        attempts=3,
        parked_at=START + 0.25,
    )


def test_a_dead_letter_keeps_the_whole_record(path: Path, database: Database) -> None:
    source = record(b"\x00\x01", new={"id": b"\x00\x01", "n": 10**37}, ttl=True)
    asyncio.run(store(database).park([letter(source)]))
    with sqlite3.connect(path) as raw:
        row = raw.execute("SELECT * FROM dead_letters").fetchone()
    raw.close()
    assert row[:2] == ("default", ARN)
    assert DeadLetter(*row[2:10], behind=bool(row[10])) == letter(source)
    (again,) = asyncio.run(store(database).uncopied(10))
    assert again == letter(source)
    assert msgspec.json.decode(row[6], type=Record) == source


def test_a_letter_that_was_parked_anew_is_copied_anew(database: Database) -> None:
    first = letter(record("a"))
    anew = dataclasses.replace(first, reason="ThrottlingException", attempts=9)

    async def scene() -> list[DeadLetter]:
        mine = store(database)
        await mine.park([first])
        await mine.copied([first])
        assert await mine.uncopied(10) == []
        await mine.park([anew])
        # The copy of what it was before came too late to count.
        await mine.copied([first])
        return await mine.uncopied(10)

    assert asyncio.run(scene()) == [anew]


# Usage


def test_the_usage_of_a_run_is_replaced_and_that_of_old_runs_becomes_one(
    database: Database,
) -> None:
    for run in range(RUNS_KEPT + 3):
        time = [START + run]
        made = SqliteStore(database, "default", ARN, lambda time=time: time[0])
        asyncio.run(made.claim())
        for reads in (1, 2):
            time[0] += 0.1
            asyncio.run(made.save([], usage=Usage(reads, 3, 4, 5, 6)))
        asyncio.run(made.release())
    found = usage_of(database, "default", ARN)
    assert [one.started_at for one in found] == [
        *(START + run for run in range(RUNS_KEPT + 2, 2, -1)),
        EARLIER_RUNS,
    ]
    assert {round(one.saved_at - one.started_at, 3) for one in found[:-1]} == {0.2}
    assert {*(str(one.usage) for one in found[:-1])} == {str(Usage(2, 3, 4, 5, 6))}
    assert found[-1].usage == Usage(6, 9, 12, 15, 18)
    assert usage_of(database, "other", ARN) == usage_of(database, "default", "arn:other") == []


def test_a_run_of_a_clock_set_back_is_not_added_to_the_old_ones_with_each_save(
    database: Database,
) -> None:
    for run in range(RUNS_KEPT + 1):
        asyncio.run(store(database, START + run).save([], usage=Usage(reads=1)))
    late = store(database, START - 3600)
    for reads in (1, 2, 3):
        asyncio.run(late.save([], usage=Usage(reads=reads)))
    assert sum(one.usage.reads for one in usage_of(database, "default", ARN)) == RUNS_KEPT + 1 + 3


def test_a_store_that_is_claimed_again_begins_another_run(database: Database) -> None:
    time = [START]
    made = SqliteStore(database, "default", ARN, lambda: time[0])
    for _ in range(2):
        asyncio.run(made.claim())
        asyncio.run(made.claim())
        time[0] += 1
        asyncio.run(made.save([], usage=Usage(reads=1)))
        asyncio.run(made.release())
    assert [one.started_at for one in usage_of(database, "default", ARN)] == [START + 1, START]


# Bookmarks


def test_every_run_leaves_a_bookmark_and_the_last_twenty_are_kept(database: Database) -> None:
    for run in range(AUTOMATIC_KEPT + 5):
        begin(database, START + run, Position("a", sequence=str(run)))
    marks = Bookmarks(database).all()
    assert len(marks) == AUTOMATIC_KEPT
    assert [mark.positions[0].sequence for mark in marks] == [
        str(run) for run in range(AUTOMATIC_KEPT + 4, 4, -1)
    ]
    assert all(mark.automatic for mark in marks)


def test_pruning_touches_no_bookmark_of_a_user_and_of_no_other_consumer(
    database: Database,
) -> None:
    marks = Bookmarks(database)
    marks.save(Bookmark("mine", "default", ARN, [], START))
    asyncio.run(store(database, START, "other").begin([Position("a")]))
    for run in range(AUTOMATIC_KEPT + 5):
        begin(database, START + 1 + run)
    kept = marks.all()
    assert "mine" in {mark.name for mark in kept}
    assert sum(mark.consumer == "other" for mark in kept) == 1


def test_a_bookmark_comes_back_as_it_was_saved(database: Database) -> None:
    mark = Bookmark("before-deploy", "default", ARN, [Position("a", sequence="9" * 40)], START)
    Bookmarks(database).save(mark)
    assert Bookmarks(database).get("before-deploy") == mark


def test_a_bookmark_is_replaced_only_when_asked(database: Database) -> None:
    marks = Bookmarks(database)
    marks.save(Bookmark("m", "default", ARN, [], START))
    with pytest.raises(ConfigError, match="exists already"):
        marks.save(Bookmark("m", "default", ARN, [Position("a")], START))
    marks.save(Bookmark("m", "default", ARN, [Position("a")], START), replace=True)
    assert len(marks.get("m").positions) == 1


def test_a_bookmark_that_does_not_exist_is_one_clear_line(database: Database) -> None:
    for use in (Bookmarks(database).get, Bookmarks(database).delete):
        with pytest.raises(ConfigError, match='no bookmark "nope"'):
            use("nope")


@pytest.mark.parametrize("name", ["", "-x", "a b", "x" * 101, "ü"])
def test_a_name_that_the_shell_would_trip_over_is_refused(database: Database, name: str) -> None:
    with pytest.raises(ConfigError, match="is no name for a bookmark"):
        Bookmarks(database).save(Bookmark(name, "default", ARN, [], START))


def test_a_deleted_bookmark_is_gone(database: Database) -> None:
    marks = Bookmarks(database)
    marks.save(Bookmark("m", "default", ARN, [], START))
    marks.delete("m")
    assert marks.all() == []


def test_the_dead_letters_that_wait_are_those_of_all_streams_of_the_table(
    database: Database,
) -> None:
    table = "arn:aws:dynamodb:eu-west-1:111122223333:table/users"
    latest, older = f"{table}/stream/2026", f"{table}/stream/2020"
    for consumer, arn in (
        *(("default", latest), ("default", older), ("other", latest)),
        *(("default", f"{table}0/stream/2026"), ("default", "S-of-another-form")),
    ):
        asyncio.run(SqliteStore(database, consumer, arn).park([letter(record())]))
    assert waiting(database, "default", latest) == 2
    assert waiting(database, "other", latest) == 1
    assert waiting(database, "default", "S-of-another-form") == 1
    assert waiting(database, "default", "S-of-no-letters") == 0


def test_each_consumer_is_listed_with_its_shards_and_dead_letters(database: Database) -> None:
    begin(database, START, Position("a"), Position("b"))
    asyncio.run(store(database, START + 1, "other").begin([Position("a")]))
    asyncio.run(store(database).park([letter(record())]))
    found = [(c.name, c.shards, c.parked, c.saved_at) for c in consumers(database)]
    assert found == [("other", 1, 0, START + 1), ("default", 2, 1, START)]


def test_a_deleted_table_takes_its_own_checkpoints_along_and_no_others() -> None:
    account = "arn:aws:dynamodb:us-east-1:000000000000:table"
    streams = [f"{account}/{table}/stream/1" for table in ("a_b", "axb", "A_B", "a_b_c")]
    with closing(Database(":memory:")) as database:
        for stream in streams:
            asyncio.run(SqliteStore(database, "default", stream).save([Position("shard")]))
        assert forget_table(database, f"{account}/a_b") == 1
        assert {known.stream_arn for known in consumers(database)} == set(streams[1:])
        assert forget_table(database, f"{account}/a_b") == 0


@pytest.mark.parametrize("name", ["données".encode(), b"a b", b"\xff", b"back\\slash"])
def test_a_share_is_known_by_its_mount_whatever_that_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    share = os.fsencode(tmp_path) + b"/" + name
    listed = share.replace(b"\\", b"\\134").replace(b" ", b"\\040")
    mounts = tmp_path / "mounts"
    mounts.write_bytes(b"/dev/vda / ext4 rw 0 0\nhost:/x " + listed + b" nfs4 rw 0 0\n")
    monkeypatch.setattr(lock, "_MOUNTS", mounts)
    assert lock.filesystem_of(Path(os.fsdecode(share)) / "state.db") == "nfs4"
    assert lock.filesystem_of(tmp_path / "state.db") == "ext4"
