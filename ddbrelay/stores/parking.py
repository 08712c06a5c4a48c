"""Dead letters come into the state file and leave it; what left it is counted.

The letters of an item have an order: the shard in which the item was parked first comes first, and
within a shard the sequence number decides. That holds through any number of successions of shards,
since the time of parking never goes back within an item, whatever the clock does.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Protocol

import msgspec

from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import DeadLetter

_Of = tuple[str, str]

_OF = "consumer = ? AND stream_arn = ?"
COLUMNS = "shard_id, sequence, item_key, reason, record, event, attempts, parked_at, behind"
"""Those of a DeadLetter, in its order."""
BY_NUMBER = "length(ltrim(sequence, '0')), ltrim(sequence, '0')"
"""In the order of the sequence numbers, which have different lengths."""


def by_number(sequence: str) -> tuple[int, str]:
    """The sort key for the same order."""
    digits = sequence.lstrip("0")
    return len(digits), digits


# A record that is read again after a kill meets its own letter, and must not wait behind itself.
# Nor may it take a later place: the time of parking stays.
_KEEP = (
    f"INSERT INTO dead_letters (consumer, stream_arn, {COLUMNS})"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
    " reason = excluded.reason, record = excluded.record, event = excluded.event,"
    " attempts = excluded.attempts, behind = excluded.behind, copied = 0"
    " WHERE NOT excluded.behind"
)


class How(Enum):
    """How a dead letter left the store."""

    REDRIVEN = "redriven"
    """Its event was accepted."""
    SKIPPED = "skipped"
    """Today's mapping makes no event of it."""
    DROPPED = "dropped"
    """By hand."""


def letter(row: tuple[str, str, bytes, str, bytes, bytes | None, int, float, int]) -> DeadLetter:
    """A dead letter from its COLUMNS."""
    return DeadLetter(*row[:-1], behind=bool(row[-1]))


def keep(cursor: sqlite3.Cursor, of: _Of, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
    """Park in the order given; returned are those that would wait behind nothing."""
    lasts: dict[bytes, tuple[float, str] | None] = {}
    returned: list[DeadLetter] = []
    freed: set[bytes] = set()
    for one in letters:
        if one.behind and _resolved_before_passed(cursor, of, one):
            continue
        if one.item_key not in lasts:
            lasts[one.item_key] = _last(cursor, of, one.item_key)
        last = lasts[one.item_key]
        if one.behind and (last is None or one.item_key in freed):
            freed.add(one.item_key)
            returned.append(one)
            continue
        parked_at = one.parked_at
        if last is not None and parked_at <= last[0]:
            parked_at = last[0] if last[1] == one.shard_id else math.nextafter(last[0], math.inf)
        lasts[one.item_key] = (parked_at, one.shard_id)
        cursor.execute(
            _KEEP,
            (
                *of,
                one.shard_id,
                one.sequence,
                one.item_key,
                one.reason,
                one.record,
                one.event,
                one.attempts,
                parked_at,
                one.behind,
            ),
        )
        _forget_resolution(cursor, of, one)
    return returned


def _last(cursor: sqlite3.Cursor, of: _Of, item_key: bytes) -> tuple[float, str] | None:
    """When and in which shard the item was parked last."""
    found: tuple[float, str] | None = cursor.execute(
        f"SELECT parked_at, shard_id FROM dead_letters WHERE {_OF} AND item_key = ?"
        " ORDER BY parked_at DESC LIMIT 1",
        (*of, item_key),
    ).fetchone()
    return found


def uncopied(cursor: sqlite3.Cursor, of: _Of, limit: int) -> list[DeadLetter]:
    """Those of which there is no second copy yet, the oldest first."""
    rows = cursor.execute(
        f"SELECT {COLUMNS} FROM dead_letters WHERE {_OF} AND NOT copied"
        f" ORDER BY parked_at, {BY_NUMBER} LIMIT ?",
        (*of, limit),
    )
    return [letter(row) for row in rows]


def copied(cursor: sqlite3.Cursor, of: _Of, letters: Iterable[DeadLetter]) -> None:
    """There is a second copy of these, unless one was parked anew meanwhile."""
    cursor.executemany(
        f"UPDATE dead_letters SET copied = 1 WHERE {_OF} AND shard_id = ? AND sequence = ?"
        " AND attempts = ? AND reason = ?",
        [(*of, one.shard_id, one.sequence, one.attempts, one.reason) for one in letters],
    )


# What left the store. A record that the checkpoint has passed was counted as parked. Of one that it
# has not passed this is not known yet: the run may end before, and the next one reads it again. So
# its sequence number stays until a run begins.


class Placed(Protocol):
    """A letter, as far as it takes to find it."""

    @property
    def shard_id(self) -> str: ...
    @property
    def sequence(self) -> str: ...
    @property
    def parked_at(self) -> float: ...


def resolve(cursor: sqlite3.Cursor, of: _Of, one: Placed, how: How, now: float) -> bool:
    """Take a letter out and count it; False when it is there no more."""
    shard = (*of, one.shard_id)
    cursor.execute(
        f"DELETE FROM dead_letters WHERE {_OF} AND shard_id = ? AND sequence = ?",
        (*shard, one.sequence),
    )
    if not cursor.rowcount:
        return False
    if passed(position_of(cursor, of, one.shard_id), one.sequence, one.parked_at):
        _count(cursor, shard, how.value, 1, now)
    else:
        cursor.execute(
            "INSERT OR REPLACE INTO resolved VALUES (?, ?, ?, ?, ?, 1, ?)",
            (*shard, one.sequence, how.value, now),
        )
    return True


def resolved(cursor: sqlite3.Cursor, of: _Of) -> dict[str, int]:
    """By shard, records that were counted as parked and of which the letter left the store."""
    found: Counter[str] = Counter()
    for shard_id, _, count in _resolved(cursor, of):
        found[shard_id] += count
    return found


def resolved_by(cursor: sqlite3.Cursor, of: _Of) -> dict[How, int]:
    """The same by how they left the store."""
    found = dict.fromkeys(How, 0)
    for _, how, count in _resolved(cursor, of):
        found[How(how)] += count
    return found


def _resolved(cursor: sqlite3.Cursor, of: _Of) -> Iterator[tuple[str, str, int]]:
    rows = cursor.execute(
        f"SELECT shard_id, sequence, how, count, saved_at FROM resolved WHERE {_OF}", of
    )
    for shard_id, sequence, how, count, at in rows.fetchall():
        if not sequence or passed(position_of(cursor, of, shard_id), sequence, at):
            yield shard_id, how, count


def settle(cursor: sqlite3.Cursor, of: _Of, now: float) -> None:
    """A run begins: what the checkpoint has not passed is read again, and has no fate yet."""
    rows = cursor.execute(
        "SELECT shard_id, sequence, how, count, saved_at FROM resolved"
        f" WHERE {_OF} AND sequence != ''",
        of,
    )
    for shard_id, sequence, how, count, at in rows.fetchall():
        if passed(position_of(cursor, of, shard_id), sequence, at):
            _count(cursor, (*of, shard_id), how, count, now)
    cursor.execute(f"DELETE FROM resolved WHERE {_OF} AND sequence != ''", of)


def _count(
    cursor: sqlite3.Cursor, shard: tuple[str, str, str], how: str, count: int, now: float
) -> None:
    cursor.execute(
        "INSERT INTO resolved VALUES (?, ?, ?, '', ?, ?, ?) ON CONFLICT DO UPDATE SET"
        " count = count + excluded.count, saved_at = excluded.saved_at",
        (*shard, how, count, now),
    )


def _forget_resolution(cursor: sqlite3.Cursor, of: _Of, one: DeadLetter) -> None:
    """It is there again, so that it must not be counted among those that left."""
    cursor.execute(
        f"DELETE FROM resolved WHERE {_OF} AND shard_id = ? AND sequence = ?",
        (*of, one.shard_id, one.sequence),
    )


def _resolved_before_passed(cursor: sqlite3.Cursor, of: _Of, one: DeadLetter) -> bool:
    """Whether it left the store while this run was on its way to read it again."""
    found = cursor.execute(
        f"SELECT 1 FROM resolved WHERE {_OF} AND shard_id = ? AND sequence = ?",
        (*of, one.shard_id, one.sequence),
    ).fetchone()
    return bool(found) and not passed(
        position_of(cursor, of, one.shard_id), one.sequence, one.parked_at
    )


def position_of(cursor: sqlite3.Cursor, of: _Of, shard_id: str) -> Position | None:
    """Where the checkpoint stands in a shard."""
    row = cursor.execute(
        f"SELECT position FROM positions WHERE {_OF} AND shard_id = ?", (*of, shard_id)
    ).fetchone()
    return None if row is None else msgspec.json.decode(row[0], type=Position)


def passed(position: Position | None, sequence: str, at: float) -> bool:
    """Whether the checkpoint is behind a record that was parked at this time, or later.

    A shard without a position was read to its end and forgotten.
    """
    if position is None or position.finished:
        return True
    if position.sequence is not None:
        return int(sequence) <= int(position.sequence)
    # Nothing that the run read is settled; what was there before it is of an earlier run.
    return position.lost_until is not None or (
        position.seen_at is not None and at < position.seen_at
    )
