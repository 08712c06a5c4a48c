"""The state file, and where the consumer stands by it.

SQLite's write-ahead log does not work over a network file system: https://sqlite.org/wal.html
"""

from __future__ import annotations

import os
import platform
import shlex
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.errors import StateError
from ddbrelay.lock import filesystem_of
from ddbrelay.stores.database import VERSION, Database
from ddbrelay.stores.opening import check_kind, read_only
from ddbrelay.stores.ownership import Owner, owner_of
from ddbrelay.stores.sqlite import Bookmark, Bookmarks, consumers, positions_of
from ddbrelay.stores.streams import Tables

if TYPE_CHECKING:
    from ddbrelay.flow.capture import Position

AREA = Area("state")
_REMOTE = frozenset(
    {"9p", "afs", "cephfs", "cifs", "davfs", "fuse.sshfs", "glusterfs", "nfs", "nfs4", "smb3"}
)
_RECENT = 3600.0
"""Seconds since its last sign of life after which a consumer elsewhere is not taken to read."""


@dataclass(frozen=True)
class StateFile:
    """The file; `writable` of what is there, or of the folder where it would be made.

    `filesystem` is the kind of the file system, None where the system does not say; `version` the
    format of the file, None where there is none.
    """

    path: Path
    exists: bool
    writable: bool
    filesystem: str | None = None
    version: int | None = None


@dataclass(frozen=True)
class Kept:
    """A checkpoint of the consumer on one stream."""

    stream_arn: str
    positions: Sequence[Position]
    saved_at: float

    @property
    def finished(self) -> bool:
        """Whether the stream was read to its end."""
        return all(position.finished for position in self.positions)


@dataclass(frozen=True)
class Standing:
    """What the file holds of a table: the consumer's checkpoints, bookmarks, others that read it.

    `owner` is the run that relays now. `others` are further consumers that are read for: here by
    their lock file, on another host by a sign of life within the last hour.
    """

    kept: Sequence[Kept] = ()
    marks: Sequence[Bookmark] = ()
    owner: Owner | None = None
    others: Sequence[str] = ()


def look(path: Path) -> StateFile:
    """The file, without making or changing it. Raises StateError for what is no state file."""
    check_kind(path)
    exists = path.exists()
    there = path if exists else next(one for one in path.absolute().parents if one.exists())
    folder = path.parent if exists else there
    writable = os.access(there, os.W_OK) and os.access(folder, os.W_OK)
    version = _version(path) if exists and os.access(path, os.R_OK) else None
    return StateFile(path, exists, writable, filesystem_of(there), version)


def _version(path: Path) -> int | None:
    try:
        with closing(read_only(path)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.Error as error:
        raise StateError(
            f"the state file {path} cannot be read: {error}", "choose another file with --state"
        ) from error


def standing(path: Path, consumer: str, table_arn: str, now: float) -> Standing:
    """What is kept of the table; nothing where there is no file. Raises StateError."""
    if not path.exists():
        return Standing()
    with closing(Database(path, reading=True)) as database:
        tables = Tables(database)
        known = [one for one in consumers(database) if tables.of(one.stream_arn).arn == table_arn]
        mine = sorted(
            (one for one in known if one.name == consumer), key=lambda one: one.stream_arn
        )
        owners = [owner_of(database, consumer, one.stream_arn) for one in mine]
        alive = [owner for owner in owners if owner is not None and owner.alive]
        return Standing(
            [
                Kept(
                    one.stream_arn,
                    positions_of(database, consumer, one.stream_arn),
                    one.saved_at,
                )
                for one in mine
            ],
            [
                one
                for one in Bookmarks(database).all()
                if tables.of(one.stream_arn).arn == table_arn
            ],
            alive[-1] if alive else None,
            sorted(
                {
                    one.name
                    for one in known
                    if one.name != consumer and _lives(database, one.name, one.stream_arn, now)
                }
            ),
        )


def _lives(database: Database, consumer: str, stream_arn: str, now: float) -> bool:
    owner = owner_of(database, consumer, stream_arn)
    if owner is None or owner.alive:
        return owner is not None
    # A relay with nothing to store gives no sign of life; of one on this host the kernel knows.
    elsewhere = owner.host != (platform.node() or "this machine")
    return elsewhere and now - owner.beat_at < _RECENT


def judge(subject: Subject, seen: StateFile) -> list[Finding]:
    """Whether positions can be kept there."""
    found = []
    if not seen.writable:
        words = f"{seen.path} cannot be written"
        why = "positions cannot be kept, and the relay does not start"
        found.append(AREA.error("state-file", words, why, "another --state, or chmod"))
    if seen.filesystem in _REMOTE:
        words = f"{seen.path} is on a network file system ({seen.filesystem})"
        why = "SQLite's write-ahead log needs a local disk: two hosts would damage the file"
        found.append(AREA.warning("state-disk", words, why, "--state on a local disk"))
    if seen.version is not None and seen.version > VERSION:
        words = f"{seen.path} was written by a newer ddbrelay (format {seen.version})"
        mend = "pip install --upgrade ddbrelay"
        found.append(AREA.error("state-file", words, "this one does not start with it", mend))
    elif seen.version is not None and 0 < seen.version < VERSION:
        words = f"{seen.path} was written by an older ddbrelay (format {seen.version})"
        why = "the next run converts it, and an older ddbrelay can no longer read it then"
        found.append(AREA.note("state-file", words, why, _copy(seen.path)))
    if not found:
        made = "" if seen.exists else ", made by the first run"
        found.append(AREA.ok("state-file", f"{seen.path}{made}"))
    return found


def _copy(path: Path) -> str:
    return shlex.join(["cp", str(path), f"{path}.before"])


def readable(seen: StateFile) -> bool:
    """Whether it can be looked into without converting it."""
    return seen.version == VERSION
