"""One live owner for each consumer and stream of a state file.

On one machine the kernel says whether an owner lives: it holds a lock file that is freed when it
dies, kill -9 included. So it does for an owner in another container, or on the host that had this
volume before, where only one kernel can have the file system mounted. On a network share an owner
of another host is given up when it has not been heard of for half a minute. What it would still
write is refused by its token.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from ddbrelay.errors import StateUnavailable
from ddbrelay.lock import Lifetime, is_of_one_kernel
from ddbrelay.stores.database import Database
from ddbrelay.stores.streams import Tables

LEASE = 30.0
"""Seconds without a sign of life after which the owner on another machine is given up."""


@dataclass(frozen=True)
class Owner:
    """The last run that claimed a consumer and stream and did not release them; times in seconds.

    `alive` whether it still runs: by its lock file where one kernel has all locks, else by lease.
    """

    host: str
    pid: int
    since: float
    beat_at: float
    alive: bool


class Ownership:
    """The claim of one run on a consumer and stream."""

    def __init__(
        self,
        database: Database,
        of: tuple[str, str],
        now: Callable[[], float],
        host: str | None = None,
    ) -> None:
        self._database, self._of, self._now = database, of, now
        self._host = host or platform.node() or "this machine"
        self._token: str | None = None
        self._alive: Lifetime | None = None
        if database.path != ":memory:":
            name = hashlib.sha256("\0".join(of).encode()).hexdigest()[:16]
            self._alive = Lifetime(Path(f"{database.path}.owners") / name)

    def claim(self) -> None:
        """Become the owner; StateUnavailable while another one lives.

        Again and again does no harm.
        """
        if self._token is not None:
            return
        with self._database.translated():
            taken = self._alive is None or self._alive.take()
        if not taken:
            with self._database.reading() as cursor:
                raise self._busy(self._row(cursor))
        try:
            with self._database.transaction() as cursor:
                row = self._row(cursor)
                if row is not None and self._lives(row, locked=True):
                    raise self._busy(row)
                token, now = uuid4().hex, self._now()
                cursor.execute(
                    "INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (*self._of, token, self._host, os.getpid(), now, now),
                )
            self._token = token
        except BaseException:
            if self._alive is not None:
                self._alive.release()
            raise

    def release(self) -> None:
        """Let the next run claim."""
        token, self._token = self._token, None
        if token is None:
            return
        try:
            with self._database.transaction() as cursor:
                cursor.execute(
                    "DELETE FROM owners WHERE consumer = ? AND stream_arn = ? AND token = ?",
                    (*self._of, token),
                )
        finally:
            if self._alive is not None:
                self._alive.release()

    def check(self, cursor: sqlite3.Cursor) -> None:
        """StateError unless this run may write; also the sign of life of an owner."""
        if self._token is not None:
            cursor.execute(
                "UPDATE owners SET beat_at = ? WHERE consumer = ? AND stream_arn = ? AND token = ?",
                (self._now(), *self._of, self._token),
            )
            if cursor.rowcount == 1:
                return
        row = self._row(cursor)
        if self._token is not None:
            if row is None:
                raise StateUnavailable(
                    f'consumer "{self._of[0]}" was taken away from this run: what is stored of its '
                    "stream was removed",
                    "ddbrelay teardown does so; a new run follows the stream that the table has "
                    "then",
                )
            raise StateUnavailable(
                f'consumer "{self._of[0]}" was taken over by {_who(row)}',
                "this run has stopped; what it had sent and not stored, the other one sends again",
            )
        if row is not None and self._lives(row, locked=False):
            raise self._busy(row)

    def _row(self, cursor: sqlite3.Cursor) -> tuple[str, int, float, float] | None:
        found: tuple[str, int, float, float] | None = cursor.execute(
            "SELECT host, pid, since, beat_at FROM owners WHERE consumer = ? AND stream_arn = ?",
            self._of,
        ).fetchone()
        return found

    def _lives(self, row: tuple[str, int, float, float], *, locked: bool) -> bool:
        """Whether that owner lives; `locked` when we hold the lock file, which nobody else has."""
        host, _, _, beat_at = row
        if self._alive is not None and (host == self._host or is_of_one_kernel(self._alive.path)):
            try:
                return not locked and self._alive.holder() is not None
            except PermissionError:
                # It is another user's: its sign of life tells, as that of one elsewhere does.
                pass
        return abs(self._now() - beat_at) < LEASE

    def _busy(self, row: tuple[str, int, float, float] | None) -> StateUnavailable:
        return StateUnavailable(
            f'consumer "{self._of[0]}" is relaying this stream already: {_who(row)}',
            "stop that run, or give this one another name with --consumer",
        )


def owner_of(
    database: Database,
    consumer: str,
    stream_arn: str,
    now: Callable[[], float] = time.time,
    host: str | None = None,
) -> Owner | None:
    """The owner of a consumer and stream, None when the last one has released it."""
    claim = Ownership(database, (consumer, stream_arn), now, host)
    with database.reading() as cursor:
        row = claim._row(cursor)
    return None if row is None else Owner(*row, alive=claim._lives(row, locked=False))


def owners_of(database: Database, table_arn: str) -> list[tuple[str, Owner]]:
    """The consumers that are relaying a stream of this table now, and who does it."""
    tables = Tables(database)
    with database.reading() as cursor:
        claims = [
            Ownership(database, of, time.time)
            for of in cursor.execute("SELECT consumer, stream_arn FROM owners ORDER BY consumer")
            if tables.of(of[1]).arn == table_arn
        ]
        found = []
        for claim in claims:
            row = claim._row(cursor)
            if row is not None and claim._lives(row, locked=False):
                found.append((claim._of[0], Owner(*row, alive=True)))
        return found


def _who(row: tuple[str, int, float, float] | None) -> str:
    from datetime import UTC, datetime

    if row is None:
        return "another run, which is just starting"
    host, pid, since, _ = row
    return f"pid {pid} on {host}, since {datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%SZ}"
