"""Dead letters for those who look after them: listed, found by id, taken out, and put off again."""

from __future__ import annotations

import hashlib
import itertools
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddbrelay.errors import ConfigError, StateUnavailable
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.lock import Lifetime
from ddbrelay.secrecy import scrubbed
from ddbrelay.stores import parking
from ddbrelay.stores.database import Database
from ddbrelay.stores.parking import How

_MOST_CANDIDATES = 8
_ONE = "consumer = ? AND stream_arn = ? AND shard_id = ? AND sequence = ?"
_TEXT = "CAST(record AS TEXT)"
_EVENT_ID = f"CASE WHEN json_valid({_TEXT}) THEN json_extract({_TEXT}, '$.eventID') END"
_PARKED = (
    f"stream_arn, shard_id, sequence, {_EVENT_ID} AS event_id, item_key, reason, attempts,"
    " parked_at, behind, event IS NOT NULL AS has_event"
)


@dataclass(frozen=True, slots=True)
class Parked:
    """A dead letter without its record and its event; `event_id` is the stable id of the record."""

    stream_arn: str
    shard_id: str
    sequence: str
    event_id: str | None
    item_key: bytes
    reason: str
    attempts: int
    parked_at: float
    behind: bool
    has_event: bool

    @property
    def id(self) -> str:
        """What `Letters.find` finds it by."""
        return self.event_id or self.place

    @property
    def place(self) -> str:
        """`SHARD:SEQUENCE`, for where the ids of records are not unique."""
        return f"{self.shard_id}:{self.sequence}"


@dataclass(frozen=True, slots=True)
class Queue:
    """The letters of one item on one stream, in the order in which they are to be sent."""

    letters: Sequence[Parked]

    @property
    def head(self) -> Parked:
        """The first one; the others wait behind it."""
        return self.letters[0]

    @property
    def waiting(self) -> int:
        """How many wait behind the head."""
        return len(self.letters) - 1


@dataclass(frozen=True, slots=True)
class Kept:
    """A consumer that has dead letters on a stream, and since when the latest one is there."""

    name: str
    stream_arn: str
    letters: int
    parked_at: float


def consumers(database: Database) -> list[Kept]:
    """Every consumer and stream with dead letters, the latest first."""
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT consumer, stream_arn, count(*), max(parked_at) FROM dead_letters"
            " GROUP BY consumer, stream_arn ORDER BY max(parked_at) DESC"
        )
        return [Kept(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Reason:
    """So many dead letters that are parked for one reason, since when; epoch seconds.

    `behind` is set for those that wait only because an earlier one of their item is parked.
    """

    reason: str
    behind: bool
    letters: int
    oldest: float
    latest: float


def reasons(database: Database, consumer: str, stream_arns: Sequence[str]) -> list[Reason]:
    """Why letters of a consumer on these streams are parked, the most frequent reason first."""
    places = ", ".join("?" * len(stream_arns))
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT reason, behind, count(*), min(parked_at), max(parked_at)"
            f" FROM dead_letters WHERE consumer = ? AND stream_arn IN ({places})"
            " GROUP BY reason, behind ORDER BY count(*) DESC, reason",
            (consumer, *stream_arns),
        )
        return [Reason(row[0], bool(row[1]), *row[2:]) for row in rows]


class Letters:
    """The dead letters of a consumer on some streams of a table, which come in this order."""

    def __init__(
        self,
        database: Database,
        consumer: str,
        stream_arns: Sequence[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._consumer, self._now = database, consumer, now
        self.stream_arns = tuple(stream_arns)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else sends or drops letters of this consumer meanwhile.

        A relay may run: it only adds letters. StateUnavailable, which names the process, while
        another one has the lock. It is freed when its holder dies.
        """
        if self._database.path == ":memory:":
            yield
            return
        name = hashlib.sha256(self._consumer.encode()).hexdigest()[:16]
        lock = Lifetime(Path(f"{self._database.path}.owners") / f"letters-{name}")
        if not lock.take():
            raise StateUnavailable(
                f'the dead letters of consumer "{self._consumer}" are being sent or dropped by '
                f"pid {lock.holder()}",
                "wait for it to end, or stop it",
            )
        try:
            yield
        finally:
            lock.release()

    # Looking

    def count(self) -> int:
        """How many there are."""
        with self._database.reading() as cursor:
            (found,) = cursor.execute(
                f"SELECT count(*) FROM dead_letters WHERE {self._mine}", self._of
            ).fetchone()
            return int(found)

    def count_of(self, items: Iterable[Parked]) -> int:
        """How many there are of the items of these letters."""
        with self._database.reading() as cursor:
            return sum(
                cursor.execute(
                    "SELECT count(*) FROM dead_letters"
                    " WHERE consumer = ? AND stream_arn = ? AND item_key = ?",
                    (self._consumer, one.stream_arn, one.item_key),
                ).fetchone()[0]
                for one in items
            )

    def queues(self) -> Generator[Queue, None, None]:
        """The letters by item: stream by stream, and the item that was parked first comes first.

        The file must not be written through the same database, nor closed, before the iterator is
        exhausted or closed.
        """
        for arn in self.stream_arns:
            with self._database.reading() as cursor:
                rows = self._ordered(cursor, "consumer = ? AND stream_arn = ?", arn)
                for _, letters in itertools.groupby(rows, lambda one: one.item_key):
                    yield Queue(tuple(letters))

    def of_item(self, stream_arn: str, item_key: bytes) -> list[Parked]:
        """The letters of one item in their order."""
        where = "consumer = ? AND stream_arn = ? AND item_key = ?"
        with self._database.reading() as cursor:
            return list(self._ordered(cursor, where, stream_arn, item_key))

    def _ordered(self, cursor: sqlite3.Cursor, where: str, *values: object) -> Iterator[Parked]:
        rows = cursor.execute(
            f"SELECT {_PARKED}, min(parked_at) OVER (PARTITION BY item_key) AS item_at,"
            " min(parked_at) OVER (PARTITION BY item_key, shard_id) AS shard_at"
            f" FROM dead_letters WHERE {where}"
            f" ORDER BY item_at, item_key, shard_at, shard_id, {parking.BY_NUMBER}",
            (self._consumer, *values),
        )
        return (_parked(row) for row in rows)

    def find(self, text: str) -> Parked:
        """The letter of this id, or with an id that begins so, or at this `SHARD:SEQUENCE`.

        Raises ConfigError where there is none, and where there are several it names them.
        """
        shard_id, _, sequence = text.rpartition(":")
        with self._database.reading() as cursor:
            rows = cursor.execute(
                f"SELECT {_PARKED} FROM dead_letters WHERE {self._mine}"
                " AND (shard_id = ? AND sequence = ? OR substr(event_id, 1, ?) = ?)"
                " ORDER BY event_id LIMIT ?",
                (*self._of, shard_id, sequence, len(text), text, _MOST_CANDIDATES + 1),
            )
            found = [_parked(row) for row in rows] if text else []
        exact = [one for one in found if text in {one.event_id, one.place}]
        if len(exact) == 1 or len(found) == 1:
            return (exact or found)[0]
        if not found:
            raise ConfigError(
                f'consumer "{self._consumer}" has no dead letter "{text}"',
                "ddbrelay dead-letters list shows their ids",
            )
        same = len({one.id for one in found}) < len(found)
        names = [one.place if same else one.id for one in found[:_MOST_CANDIDATES]]
        more = " and more" if len(found) > _MOST_CANDIDATES else ""
        raise ConfigError(f'"{text}" may be {", ".join(names)}{more}', "type more of the id")

    def get(self, parked: Parked) -> DeadLetter | None:
        """The whole letter; None when it is there no more."""
        with self._database.reading() as cursor:
            row = cursor.execute(
                f"SELECT {parking.COLUMNS} FROM dead_letters WHERE {_ONE}", self._key(parked)
            ).fetchone()
            return None if row is None else parking.letter(row)

    def passed(self, parked: Parked) -> bool:
        """Whether the checkpoint is behind it, so that every earlier change of its item is settled.

        Before that, an earlier one may still be on its way to the bus.
        """
        with self._database.reading() as cursor:
            of = self._consumer, parked.stream_arn
            position = parking.position_of(cursor, of, parked.shard_id)
        return parking.passed(position, parked.sequence, parked.parked_at)

    # Taking out

    def resolve(self, letters: Iterable[Parked], how: How) -> int:
        """Take letters out and count them, all of them or none; how many were still there."""
        with self._database.transaction() as cursor:
            return sum(
                parking.resolve(
                    cursor,
                    (self._consumer, one.stream_arn),
                    one,
                    how,
                    self._now(),
                )
                for one in letters
            )

    def put_off(
        self, parked: Parked, reason: str, attempts: int, kept: DeadLetter | None = None
    ) -> None:
        """It stays, for this reason of its own, after so many attempts more.

        Where `kept` is given, its record and its event take the place of those that are stored.
        """
        with self._database.transaction() as cursor:
            if kept is not None:
                cursor.execute(
                    f"UPDATE dead_letters SET record = ?, event = ? WHERE {_ONE}",
                    (kept.record, kept.event, *self._key(parked)),
                )
            cursor.execute(
                "UPDATE dead_letters SET reason = ?, attempts = attempts + ?, behind = 0"
                f" WHERE {_ONE}",
                (scrubbed(reason), attempts, *self._key(parked)),
            )

    def keep(self, left: Iterable[tuple[Parked, bytes]]) -> None:
        """Of each of these letters only so much is still to be sent, as `stored_events` has it."""
        with self._database.transaction() as cursor:
            cursor.executemany(
                f"UPDATE dead_letters SET event = ? WHERE {_ONE}",
                [(events, *self._key(parked)) for parked, events in left],
            )

    @property
    def _mine(self) -> str:
        places = ", ".join("?" * len(self.stream_arns))
        return f"consumer = ? AND stream_arn IN ({places})"

    @property
    def _of(self) -> tuple[str, ...]:
        return self._consumer, *self.stream_arns

    def _key(self, parked: Parked) -> tuple[str, str, str, str]:
        return self._consumer, parked.stream_arn, parked.shard_id, parked.sequence


def _parked(row: tuple[Any, ...]) -> Parked:
    arn, shard_id, sequence, event_id, key, reason, attempts, at, behind, has_event = row[:10]
    return Parked(
        arn,
        shard_id,
        sequence,
        event_id,
        key,
        reason,
        attempts,
        at,
        behind=bool(behind),
        has_event=bool(has_event),
    )
