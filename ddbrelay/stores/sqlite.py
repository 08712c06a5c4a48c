"""Positions, ledger, bookmarks and dead letters in the state file."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import Account, DeadLetter, Usage
from ddbrelay.stores import ledger, parking, timeline
from ddbrelay.stores import usage as billing
from ddbrelay.stores.database import Database
from ddbrelay.stores.ownership import Ownership
from ddbrelay.stores.streams import Tables

AUTOMATIC_KEPT = 20
"""Bookmarks of this many last runs are kept for each consumer and stream."""
CHECKPOINT = "checkpoint"
"""What commands call a consumer's live positions; no bookmark can have this name."""
_NO_BOOKMARK = "ddbrelay positions list shows them; a time or an age goes to replay --since"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")


@dataclass(frozen=True)
class Bookmark:
    """A named copy of a consumer's positions; `automatic` when a run saved it at its start."""

    name: str
    consumer: str
    stream_arn: str
    positions: list[Position]
    saved_at: float
    automatic: bool = False


class SqliteStore:
    """A `Store` for one consumer on one stream."""

    def __init__(
        self,
        database: Database,
        consumer: str,
        stream_arn: str,
        now: Callable[[], float] = time.time,
        host: str | None = None,
    ) -> None:
        self._database = database
        self._of = (consumer, stream_arn)
        self._now = now
        self._ownership = Ownership(database, self._of, now, host)
        self._started_at: float | None = None
        self._folded_in: int | None = None

    async def claim(self) -> None:
        self._ownership.claim()
        self._start()

    async def release(self) -> None:
        self._ownership.release()
        self._started_at = None

    def _start(self) -> float:
        """When the run began under which its usage is kept."""
        if self._started_at is None:
            self._started_at = self._now()
        return self._started_at

    async def load(self) -> dict[str, Position]:
        return {p.shard_id: p for p in positions_of(self._database, *self._of)}

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        started = list(positions)
        moment = datetime.fromtimestamp(self._now(), UTC)
        mark = Bookmark(
            f"run-{moment:%Y%m%dT%H%M%S.%f}Z-{self._of[0]}"[:100],
            *self._of,
            started,
            self._now(),
            automatic=True,
        )
        self._start()
        with self._database.transaction() as cursor:
            self._ownership.check(cursor)
            parking.settle(cursor, self._of, self._now())
            self._replace(cursor, started)
            ledger.add(cursor, self._of, accounts, self._now())
            cursor.execute(_SAVE_BOOKMARK, _bookmark_row(mark))
            cursor.execute(
                "DELETE FROM bookmarks WHERE consumer = ? AND stream_arn = ? AND automatic"
                " AND name NOT IN (SELECT name FROM bookmarks WHERE consumer = ?"
                " AND stream_arn = ? AND automatic ORDER BY saved_at DESC LIMIT ?)",
                (*self._of, *self._of, AUTOMATIC_KEPT),
            )

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        accounts = list(accounts)
        with self._database.transaction() as cursor:
            self._ownership.check(cursor)
            cursor.executemany(_SAVE, self._rows(positions))
            ledger.add(cursor, self._of, accounts, self._now())
            self._count(cursor, accounts)
            if usage is not None:
                billing.add(cursor, self._of, self._start(), usage, self._now())

    def _count(self, cursor: sqlite3.Cursor, accounts: Iterable[Account]) -> None:
        now = self._now()
        timeline.add(cursor, self._of, accounts, now)
        hour = int(now // timeline.HOUR)
        if hour != self._folded_in:
            timeline.fold(cursor, now)
            self._folded_in = hour

    async def replace(self, positions: Iterable[Position]) -> None:
        """These are the consumer's positions from now on, and no others."""
        with self._database.transaction() as cursor:
            self._ownership.check(cursor)
            self._replace(cursor, list(positions))

    def _replace(self, cursor: sqlite3.Cursor, positions: list[Position]) -> None:
        stood = {p.shard_id: p.sequence for p in _positions(cursor, *self._of)}
        moved = [p.shard_id for p in positions if stood.get(p.shard_id) != p.sequence]
        ledger.restart(cursor, self._of, moved)
        cursor.execute("DELETE FROM positions WHERE consumer = ? AND stream_arn = ?", self._of)
        cursor.executemany(_SAVE, self._rows(positions))

    def _rows(self, positions: Iterable[Position]) -> list[tuple[str, str, str, bytes, float]]:
        now = self._now()
        return [(*self._of, p.shard_id, msgspec.json.encode(p), now) for p in positions]

    async def forget(self, shard_ids: Iterable[str]) -> None:
        gone = list(shard_ids)
        with self._database.transaction() as cursor:
            self._ownership.check(cursor)
            cursor.executemany(
                "DELETE FROM positions WHERE consumer = ? AND stream_arn = ? AND shard_id = ?",
                [(*self._of, shard_id) for shard_id in gone],
            )
            ledger.forget(cursor, self._of, gone, self._now())

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        with self._database.transaction() as cursor:
            return parking.keep(cursor, self._of, letters)

    async def uncopied(self, limit: int) -> list[DeadLetter]:
        """Dead letters of which there is no second copy yet, the oldest first."""
        with self._database.reading() as cursor:
            return parking.uncopied(cursor, self._of, limit)

    async def copied(self, letters: Iterable[DeadLetter]) -> None:
        """There is a second copy of these; one that is there no more is passed over."""
        with self._database.transaction() as cursor:
            parking.copied(cursor, self._of, letters)

    async def parked_keys(self) -> set[bytes]:
        with self._database.reading() as cursor:
            rows = cursor.execute(
                "SELECT DISTINCT item_key FROM dead_letters WHERE consumer = ? AND stream_arn = ?",
                self._of,
            )
            return {key for (key,) in rows}


_SAVE = "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)"
_SAVE_BOOKMARK = "INSERT OR REPLACE INTO bookmarks VALUES (?, ?, ?, ?, ?, ?)"


def _bookmark_row(mark: Bookmark) -> tuple[str, str, str, bytes, float, bool]:
    positions = msgspec.json.encode(mark.positions)
    return mark.name, mark.consumer, mark.stream_arn, positions, mark.saved_at, mark.automatic


def positions_of(database: Database, consumer: str, stream_arn: str) -> list[Position]:
    """The live positions of a consumer on a stream."""
    with database.reading() as cursor:
        return _positions(cursor, consumer, stream_arn)


def _positions(cursor: sqlite3.Cursor, consumer: str, stream_arn: str) -> list[Position]:
    rows = cursor.execute(
        "SELECT position FROM positions WHERE consumer = ? AND stream_arn = ? ORDER BY shard_id",
        (consumer, stream_arn),
    )
    return [msgspec.json.decode(row, type=Position) for (row,) in rows]


@dataclass(frozen=True)
class Consumer:
    """A consumer that has positions on a stream."""

    name: str
    stream_arn: str
    shards: int
    saved_at: float
    parked: int


def forget_table(database: Database, table_arn: str) -> int:
    """Drop the checkpoints on all streams of a table that was deleted; how many consumers' ones.

    A run that still reads one of them loses its claim, so that it cannot save another checkpoint.
    """
    tables = Tables(database)
    with database.transaction() as cursor:
        for kind in ("owners", "positions"):
            doomed = [
                of
                for of in cursor.execute(f"SELECT DISTINCT consumer, stream_arn FROM {kind}")
                if tables.of(of[1]).arn == table_arn
            ]
            cursor.executemany(f"DELETE FROM {kind} WHERE consumer = ? AND stream_arn = ?", doomed)
        return len(doomed)


def consumers(database: Database) -> list[Consumer]:
    """Every consumer and stream with positions, the latest first."""
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT consumer, stream_arn, count(*), max(saved_at), (SELECT count(*)"
            " FROM dead_letters d WHERE d.consumer = p.consumer AND d.stream_arn = p.stream_arn)"
            " FROM positions p GROUP BY consumer, stream_arn ORDER BY max(saved_at) DESC"
        )
        return [Consumer(*row) for row in rows]


class Bookmarks:
    """Named copies of positions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Bookmark]:
        """Every bookmark, the latest first."""
        with self._database.reading() as cursor:
            rows = cursor.execute("SELECT * FROM bookmarks ORDER BY saved_at DESC, name")
            return [_bookmark(row) for row in rows]

    def get(self, name: str) -> Bookmark:
        """The bookmark; ConfigError when there is none of this name."""
        with self._database.reading() as cursor:
            row = cursor.execute("SELECT * FROM bookmarks WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise ConfigError(f'there is no bookmark "{name}"', _NO_BOOKMARK)
            return _bookmark(row)

    def save(self, mark: Bookmark, *, replace: bool = False) -> None:
        """Keep a bookmark; ConfigError when the name is taken and `replace` is not set."""
        if not _NAME.fullmatch(mark.name) or mark.name == CHECKPOINT:
            raise ConfigError(
                f'"{mark.name}" is no name for a bookmark',
                "up to 100 letters, digits and . _ : -, a letter or digit first, not checkpoint",
            )
        with self._database.transaction() as cursor:
            taken = cursor.execute("SELECT 1 FROM bookmarks WHERE name = ?", (mark.name,))
            if taken.fetchone() and not replace:
                raise ConfigError(f'a bookmark "{mark.name}" exists already', "--force replaces it")
            cursor.execute(_SAVE_BOOKMARK, _bookmark_row(mark))

    def delete(self, name: str) -> None:
        """Drop a bookmark; ConfigError when there is none of this name."""
        with self._database.transaction() as cursor:
            cursor.execute("DELETE FROM bookmarks WHERE name = ?", (name,))
            if not cursor.rowcount:
                raise ConfigError(f'there is no bookmark "{name}"', _NO_BOOKMARK)


def _bookmark(row: tuple[str, str, str, bytes, float, int]) -> Bookmark:
    name, consumer, stream_arn, positions, saved_at, automatic = row
    decoded = msgspec.json.decode(positions, type=list[Position])
    return Bookmark(name, consumer, stream_arn, decoded, saved_at, bool(automatic))
