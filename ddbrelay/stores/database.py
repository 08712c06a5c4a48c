"""The state file: an SQLite database, one for all consumers of a user.

Write-ahead logging keeps a commit cheap and survives a kill at any instant; the file is made with
the rights of its owner only, since dead letters hold items.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from ddbrelay.errors import PASSING, StateError, StateUnavailable
from ddbrelay.stores import opening

VERSION = 5
_APPLICATION_ID = 0x64647231
_LOCK_TIMEOUT = 5.0
_MEMORY = ":memory:"
_LOCKED = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# SQLite calls an exceeded quota an I/O error.
_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_MAKE_ROOM = (
    "look at the disk, its quota and the limit of open files; what was saved before is kept"
)
_SCHEMA = {
    1: """
CREATE TABLE positions (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    position BLOB NOT NULL,
    saved_at REAL NOT NULL,
    PRIMARY KEY (consumer, stream_arn, shard_id)
) WITHOUT ROWID;
CREATE TABLE bookmarks (
    name TEXT NOT NULL PRIMARY KEY,
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    positions BLOB NOT NULL,
    saved_at REAL NOT NULL,
    automatic INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    sequence TEXT NOT NULL,
    item_key BLOB NOT NULL,
    reason TEXT NOT NULL,
    record BLOB NOT NULL,
    event BLOB,
    attempts INTEGER NOT NULL,
    parked_at REAL NOT NULL,
    behind INTEGER NOT NULL,
    PRIMARY KEY (consumer, stream_arn, shard_id, sequence)
) WITHOUT ROWID;
CREATE INDEX dead_letters_by_key ON dead_letters (consumer, stream_arn, item_key);
""",
    2: """
CREATE TABLE owners (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    token TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    since REAL NOT NULL,
    beat_at REAL NOT NULL,
    PRIMARY KEY (consumer, stream_arn)
) WITHOUT ROWID;
CREATE TABLE ledger (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    fate TEXT NOT NULL,
    rule TEXT NOT NULL,
    count INTEGER NOT NULL,
    first TEXT NOT NULL,
    last TEXT NOT NULL,
    since REAL,
    until REAL,
    saved_at REAL NOT NULL,
    PRIMARY KEY (consumer, stream_arn, shard_id, fate, rule)
) WITHOUT ROWID;
CREATE TABLE blocks (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    last TEXT NOT NULL,
    first TEXT NOT NULL,
    after TEXT,
    count INTEGER NOT NULL,
    total TEXT NOT NULL,
    PRIMARY KEY (consumer, stream_arn, shard_id, last)
) WITHOUT ROWID;
CREATE TABLE gaps (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    after TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL,
    before TEXT,
    reason TEXT NOT NULL,
    found_at REAL NOT NULL,
    PRIMARY KEY (consumer, stream_arn, shard_id, after, since)
) WITHOUT ROWID;
""",
    3: """
ALTER TABLE dead_letters ADD COLUMN copied INTEGER NOT NULL DEFAULT 0;
DROP INDEX dead_letters_by_key;
CREATE INDEX dead_letters_by_key ON dead_letters (consumer, stream_arn, item_key, parked_at);
CREATE INDEX dead_letters_uncopied ON dead_letters (consumer, stream_arn, parked_at)
    WHERE NOT copied;
CREATE TABLE resolved (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    sequence TEXT NOT NULL,
    how TEXT NOT NULL,
    count INTEGER NOT NULL,
    saved_at REAL NOT NULL,
    PRIMARY KEY (consumer, stream_arn, shard_id, sequence, how)
) WITHOUT ROWID;
CREATE TABLE usage (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    started_at REAL NOT NULL,
    saved_at REAL NOT NULL,
    reads INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    events INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    puts INTEGER NOT NULL,
    PRIMARY KEY (consumer, stream_arn, started_at)
) WITHOUT ROWID;
""",
    4: """
CREATE TABLE timeline (
    consumer TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    start INTEGER NOT NULL,
    fate TEXT NOT NULL,
    name TEXT NOT NULL,
    count INTEGER NOT NULL,
    timed INTEGER NOT NULL,
    lag_sum REAL NOT NULL,
    lag_max INTEGER NOT NULL,
    PRIMARY KEY (consumer, stream_arn, seconds, start, fate, name)
) WITHOUT ROWID;
""",
    5: """
DROP INDEX dead_letters_uncopied;
CREATE INDEX dead_letters_uncopied ON dead_letters (
    consumer, stream_arn, parked_at, length(ltrim(sequence, '0')), ltrim(sequence, '0')
) WHERE NOT copied;
CREATE TABLE streams (
    stream_arn TEXT NOT NULL PRIMARY KEY,
    table_name TEXT NOT NULL,
    table_arn TEXT NOT NULL
) WITHOUT ROWID;
""",
}
"""What each version of the format added."""


class Database:
    """An open state file.

    Raises StateError, on opening and in every `transaction`, when the file is damaged, no file of
    ours, written by a newer version, or cannot be written; StateUnavailable where that can pass,
    because the disk is full, or another process has locked the file for five seconds.
    """

    def __init__(
        self, path: Path | str, *, reading: bool = False, lock_timeout: float = _LOCK_TIMEOUT
    ) -> None:
        """`reading` for who only looks: nothing is made or changed, and no file need be there.

        A file of an older format is then converted in memory.
        """
        self.path = _MEMORY if reading and _is_missing(path) else str(path)
        self._lock_timeout = lock_timeout
        self._identity: tuple[int, int] | None = None
        if reading and self.path != _MEMORY:
            self._open_for_reading()
        else:
            self._open_for_writing()

    def _open_for_writing(self) -> None:
        with self.translated():
            if self.path != _MEMORY:
                opening.make_private(Path(self.path))
            self._connection = sqlite3.connect(
                self.path, timeout=self._lock_timeout, isolation_level=None, check_same_thread=False
            )
            try:
                self._identity = None if self.path == _MEMORY else _identity(self.path)
                version = self._version()
                self._write_ahead()
                self._connection.execute("PRAGMA synchronous = NORMAL")
                self._convert(version)
            except BaseException:
                self._connection.close()
                raise

    def _open_for_reading(self) -> None:
        self._identity = None
        with self.translated():
            self._connection = opening.read_only(Path(self.path))
            try:
                version = self._version()
                if version < VERSION:
                    with closing(self._connection) as old:
                        self._connection = opening.in_memory(old)
                    self._convert(version)
            except BaseException:
                self._connection.close()
                raise

    def _version(self) -> int:
        """The format of the file, 0 for an empty one; StateError for one that is not ours."""
        # Another process may be making the file: all of these before it is done, or all after.
        with self.reading() as cursor:
            version = int(cursor.execute("PRAGMA user_version").fetchone()[0])
            application = int(cursor.execute("PRAGMA application_id").fetchone()[0])
            empty = not cursor.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        if application != _APPLICATION_ID and not empty:
            raise StateError(
                f"{self.path} is a database of another program", "choose another file with --state"
            )
        if version > VERSION:
            raise StateError(
                f"the state file {self.path} was written by a newer ddbrelay (format {version})",
                "pip install --upgrade ddbrelay, or choose another file with --state",
            )
        return version

    def _convert(self, version: int) -> None:
        if version == VERSION:
            return
        with self.transaction() as cursor:
            # Another process may have made the tables while this one waited for the lock.
            made = int(cursor.execute("PRAGMA user_version").fetchone()[0])
            for step in range(made + 1, VERSION + 1):
                for statement in _SCHEMA[step].split(";"):
                    cursor.execute(statement)
            cursor.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            cursor.execute(f"PRAGMA user_version = {VERSION}")

    def _write_ahead(self) -> None:
        # SQLite does not wait for another process here, whatever the time-out.
        deadline = time.monotonic() + self._lock_timeout
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Cursor]:
        """All that is written inside is kept together, or nothing of it."""
        with self.translated():
            self._still_there()
            cursor = self._connection.cursor()
            cursor.execute("BEGIN IMMEDIATE")
            try:
                yield cursor
                cursor.execute("COMMIT")
            except BaseException:
                # SQLite rolls back by itself on some errors, a full disk among them.
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")
                raise

    def _still_there(self) -> None:
        # SQLite goes on writing into a file that has no name any more, and all of it is lost.
        if self.path != _MEMORY and self._identity not in {None, _identity(self.path)}:
            raise StateUnavailable(
                f"the state file {self.path} was removed or replaced while it was in use",
                "the next run starts from what is there now",
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Cursor]:
        """A consistent look without taking the lock of a writer."""
        with self.translated():
            cursor = self._connection.cursor()
            cursor.execute("BEGIN")
            try:
                yield cursor
            finally:
                if self._connection.in_transaction:
                    cursor.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file; it holds all that was committed."""
        self._connection.close()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise a StateError in place of what SQLite and the file system raise."""
        try:
            yield
        except sqlite3.OperationalError as error:
            code = opening.primary_code(error)
            if code in _LOCKED and self.path != _MEMORY:
                # SQLite takes a lock that there cannot be for one that another process has.
                if not opening.keeps_locks(Path(self.path)):
                    raise self._no_locks() from error
                raise StateUnavailable(
                    f"the state file {self.path} is locked by another process",
                    "wait for it to end, or choose another file with --state",
                ) from error
            unusable = f"the state file {self.path} cannot be used: {error}"
            if code in _FULL:
                raise StateUnavailable(unusable, _MAKE_ROOM) from error
            raise StateError(unusable, "choose another file with --state") from error
        except sqlite3.ProgrammingError:
            # A file that was closed before is a mistake of ours; the file is as it was.
            raise
        except (sqlite3.DatabaseError, msgspec.DecodeError) as error:
            raise StateError(
                f"{self.path} is damaged, or no state file: {error}",
                "choose another file with --state; or move a damaged one away, and the next run "
                "starts at the trim horizon",
            ) from error
        except OSError as error:
            if opening.lacks_locks(error):
                raise self._no_locks() from error
            unusable = f"the state file {self.path} cannot be used: {error.strerror}"
            if error.errno in PASSING:
                raise StateUnavailable(unusable, _MAKE_ROOM) from error
            raise StateError(unusable, "choose another file with --state") from error

    def _no_locks(self) -> StateError:
        return StateError(
            f"the state file {self.path} cannot be used: its file system has no locks",
            "--state on a local disk; a network share must be mounted with locks",
        )


def _is_missing(path: Path | str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    except OSError:
        # Opening the file says what is wrong.
        return False
    return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
