"""Dead letters for those who look after them: listed, found by id, taken out, and put off again."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ddbrelay.errors import ConfigError, StateUnavailable
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.lock import Lifetime
from ddbrelay.secrecy import scrubbed
from ddbrelay.stores import parking
from ddbrelay.stores.database import Database
from ddbrelay.stores.parking import How
from ddbrelay.stores.streams import Tables

_MOST_CANDIDATES = 8
_ONE = "consumer = ? AND stream_arn = ? AND shard_id = ? AND sequence = ?"
_TEXT = "CAST(record AS TEXT)"
_EVENT_ID = f"CASE WHEN json_valid({_TEXT}) THEN json_extract({_TEXT}, '$.eventID') END"
_PARKED = (
    f"stream_arn, shard_id, sequence, {_EVENT_ID} AS event_id, item_key, reason, attempts,"
    " parked_at, behind, event IS NOT NULL AS has_event"
)


class ItemOf(NamedTuple):
    """An item on a stream that has dead letters."""

    stream_arn: str
    item_key: bytes


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
    def item(self) -> ItemOf:
        """The item whose events it stands among."""
        return ItemOf(self.stream_arn, self.item_key)

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


def waiting(database: Database, consumer: str, stream_arn: str) -> int:
    """How many letters a consumer has on this stream and the others of its table."""
    tables = Tables(database)
    table = tables.of(stream_arn)
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT stream_arn, count(*) FROM dead_letters WHERE consumer = ? GROUP BY stream_arn",
            (consumer,),
        )
        return sum(letters for arn, letters in rows if tables.of(arn) == table)


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
        with self._database.translated():
            taken = lock.take()
        if not taken:
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

    def count_of(self, items: Iterable[ItemOf]) -> int:
        """How many there are of these items."""
        with self._database.reading() as cursor:
            return sum(
                cursor.execute(
                    "SELECT count(*) FROM dead_letters"
                    " WHERE consumer = ? AND stream_arn = ? AND item_key = ?",
                    (self._consumer, *item),
                ).fetchone()[0]
                for item in items
            )

    def items(self) -> list[ItemOf]:
        """The items: stream by stream, and the one that was parked first comes first."""
        with self._database.reading() as cursor:
            return [
                ItemOf(arn, key)
                for arn in self.stream_arns
                for (key,) in cursor.execute(
                    "SELECT item_key FROM dead_letters WHERE consumer = ? AND stream_arn = ?"
                    " GROUP BY item_key ORDER BY min(parked_at), item_key",
                    (self._consumer, arn),
                )
            ]

    def queues(self) -> Iterator[Queue]:
        """The letters of each of the `items`, as they are when the iterator comes to it."""
        for item in self.items():
            if letters := self.of_item(item):
                yield Queue(tuple(letters))

    def of_item(self, item: ItemOf) -> list[Parked]:
        """The letters of one item in their order."""
        # Left to itself, SQLite reads all letters of the stream here.
        with self._database.reading() as cursor:
            rows = cursor.execute(
                f"SELECT {_PARKED} FROM dead_letters INDEXED BY dead_letters_by_key"
                " WHERE consumer = ? AND stream_arn = ? AND item_key = ?",
                (self._consumer, *item),
            )
            letters = [_parked(row) for row in rows]
        since: dict[str, float] = {}
        for one in letters:
            since[one.shard_id] = min(one.parked_at, since.get(one.shard_id, one.parked_at))
        return sorted(
            letters,
            key=lambda one: (since[one.shard_id], one.shard_id, parking.by_number(one.sequence)),
        )

    def find(self, *texts: str) -> list[Parked]:
        """The letters of these ids, or with ids that begin so, or at these `SHARD:SEQUENCE`.

        Each comes once. Raises ConfigError where there is none of a text, and where there are
        several it names them.
        """
        ids: list[tuple[str, ...]] | None = None
        found: dict[Parked, None] = {}
        with self._database.reading() as cursor:
            for text in texts:
                candidates = self._at_place(cursor, text)
                if not candidates:
                    # No index leads to an id: all ids are read, once for all texts.
                    ids = self._ids(cursor) if ids is None else ids
                    candidates = self._with_id(cursor, ids, text)
                found[self._exact(text, candidates)] = None
        return list(found)

    def _at_place(self, cursor: sqlite3.Cursor, text: str) -> list[Parked]:
        """The letters at a `SHARD:SEQUENCE`; several streams may have it."""
        shard_id, _, sequence = text.rpartition(":")
        rows = cursor.execute(
            f"SELECT {_PARKED} FROM dead_letters"
            f" WHERE {self._mine} AND shard_id = ? AND sequence = ?",
            (*self._of, shard_id, sequence),
        )
        return [_parked(row) for row in rows]

    def _ids(self, cursor: sqlite3.Cursor) -> list[tuple[str, ...]]:
        """The ids of all letters in order, each followed by the rest of the primary key."""
        return cursor.execute(
            f"SELECT {_EVENT_ID} AS event_id, stream_arn, shard_id, sequence FROM dead_letters"
            f" WHERE {self._mine} AND event_id IS NOT NULL ORDER BY event_id",
            self._of,
        ).fetchall()

    def _with_id(
        self, cursor: sqlite3.Cursor, ids: Sequence[tuple[str, ...]], text: str
    ) -> list[Parked]:
        """The letters with ids that begin with a text: as many as can be named, and one more."""
        start = bisect_left(ids, (text,)) if text else len(ids)
        return [
            _parked(row)
            for event_id, *key in ids[start : start + _MOST_CANDIDATES + 1]
            if event_id.startswith(text)
            for row in cursor.execute(
                f"SELECT {_PARKED} FROM dead_letters WHERE {_ONE}", (self._consumer, *key)
            )
        ]

    def _exact(self, text: str, found: Sequence[Parked]) -> Parked:
        """The letter that a text means, of those that it may mean."""
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
