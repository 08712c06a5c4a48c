"""The ledger in the state file: a few rows a shard, whatever went through it."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.tracking import Account, Block, Fate, Line
from ddbrelay.stores import parking
from ddbrelay.stores.database import Database

BLOCK_RECORDS = 10_000
"""A block takes in what follows it up to so many records."""
EARLIER = ""
"""The shard id under which the counts of shards stand that are long gone."""
_FOLDED_AFTER = 7 * 24 * 3600.0

_Of = tuple[str, str]


@dataclass
class ShardLedger:
    """What became of the records of one shard; blocks and gaps in the order of the shard."""

    shard_id: str
    lines: list[Line] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def count(self, fate: Fate) -> int:
        """Records with this fate."""
        return sum(line.count for line in self.lines if line.fate is fate)


def add(cursor: sqlite3.Cursor, of: _Of, accounts: Iterable[Account], now: float) -> None:
    """Add to the ledgers of some shards."""
    for account in accounts:
        shard = (*of, account.shard_id)
        cursor.executemany(
            "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET count = count + excluded.count, last = excluded.last,"
            " since = min(coalesce(since, excluded.since), coalesce(excluded.since, since)),"
            " until = max(coalesce(until, excluded.until), coalesce(excluded.until, until)),"
            " saved_at = excluded.saved_at",
            [
                (*shard, x.fate.value, x.rule, x.count, x.first, x.last, x.since, x.until, now)
                for x in account.lines
            ],
        )
        for block in account.blocks:
            _add_block(cursor, shard, block)
        cursor.executemany(
            "INSERT OR REPLACE INTO gaps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*shard, gap.after or "", gap.since or 0.0, gap.until, gap.before, gap.reason, now)
                for gap in account.gaps
            ],
        )


def _add_block(cursor: sqlite3.Cursor, shard: tuple[str, str, str], block: Block) -> None:
    where = "WHERE consumer = ? AND stream_arn = ? AND shard_id = ? AND last = ?"
    found = None
    if block.after is not None:
        found = cursor.execute(
            f"SELECT count, total FROM blocks {where} AND count + ? <= ?",
            (*shard, block.after, block.count, BLOCK_RECORDS),
        ).fetchone()
    if found is not None:
        cursor.execute(
            f"UPDATE blocks SET last = ?, count = ?, total = ? {where}",
            (
                block.last,
                found[0] + block.count,
                str(int(found[1]) + block.total),
                *shard,
                block.after,
            ),
        )
    else:
        cursor.execute(
            "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*shard, block.last, block.first, block.after, block.count, str(block.total)),
        )


def forget(cursor: sqlite3.Cursor, of: _Of, shard_ids: Iterable[str], now: float) -> None:
    """Drop the blocks of shards that are gone; the counts of those gone for a week become one."""
    restart(cursor, of, shard_ids)
    old = (
        "consumer = ? AND stream_arn = ? AND shard_id != ? AND saved_at < ? AND shard_id NOT IN"
        " (SELECT shard_id FROM positions WHERE consumer = ? AND stream_arn = ?)"
    )
    which = (*of, EARLIER, now - _FOLDED_AFTER, *of)
    cursor.execute(
        "INSERT INTO ledger SELECT consumer, stream_arn, ?, fate, rule, sum(count), '', '',"
        f" min(since), max(until), max(saved_at) FROM ledger WHERE {old} GROUP BY fate, rule"
        " ON CONFLICT DO UPDATE SET count = count + excluded.count,"
        " since = min(coalesce(since, excluded.since), coalesce(excluded.since, since)),"
        " until = max(coalesce(until, excluded.until), coalesce(excluded.until, until)),"
        " saved_at = excluded.saved_at",
        (EARLIER, *which),
    )
    cursor.execute(f"DELETE FROM ledger WHERE {old}", which)
    _fold_resolved(cursor, of)


def _fold_resolved(cursor: sqlite3.Cursor, of: _Of) -> None:
    """The dead letters of shards that are counted as one, and left the store, become one too."""
    gone = (
        "consumer = ? AND stream_arn = ? AND sequence = '' AND shard_id != ? AND shard_id NOT IN"
        " (SELECT shard_id FROM positions WHERE consumer = ? AND stream_arn = ?) AND shard_id NOT"
        " IN (SELECT shard_id FROM ledger WHERE consumer = ? AND stream_arn = ?)"
    )
    which = (*of, EARLIER, *of, *of)
    cursor.execute(
        "INSERT INTO resolved SELECT consumer, stream_arn, ?, '', how, sum(count), max(saved_at)"
        f" FROM resolved WHERE {gone} GROUP BY how ON CONFLICT DO UPDATE SET"
        " count = count + excluded.count, saved_at = excluded.saved_at",
        (EARLIER, *which),
    )
    cursor.execute(f"DELETE FROM resolved WHERE {gone}", which)


def restart(cursor: sqlite3.Cursor, of: _Of, shard_ids: Iterable[str]) -> None:
    """Begin the blocks of some shards anew: they are read from somewhere else now.

    So are those without a position, which will be read from their beginning.
    """
    cursor.executemany(
        "DELETE FROM blocks WHERE consumer = ? AND stream_arn = ? AND shard_id = ?",
        [(*of, shard_id) for shard_id in shard_ids],
    )
    cursor.execute(
        "DELETE FROM blocks WHERE consumer = ? AND stream_arn = ? AND shard_id NOT IN"
        " (SELECT shard_id FROM positions WHERE consumer = ? AND stream_arn = ?)",
        (*of, *of),
    )


@dataclass(frozen=True)
class Kept:
    """A consumer of which something is kept on a stream; `saved_at` is when it was saved last."""

    name: str
    stream_arn: str
    saved_at: float


def consumers(database: Database) -> list[Kept]:
    """Every consumer and stream with a ledger or with positions, the latest first."""
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT consumer, stream_arn, max(at) FROM ("
            "SELECT consumer, stream_arn, saved_at AS at FROM positions"
            " UNION ALL SELECT consumer, stream_arn, saved_at FROM ledger"
            " UNION ALL SELECT consumer, stream_arn, found_at FROM gaps"
            ") GROUP BY consumer, stream_arn ORDER BY max(at) DESC"
        )
        return [Kept(*row) for row in rows]


@dataclass(frozen=True)
class Snapshot:
    """All that is kept of a consumer on a stream at one moment, by shard id.

    `letters` are the sequence numbers of the dead letters, `resolved` is how many of them left the
    store after they had been counted: sent, skipped or dropped.
    """

    positions: dict[str, Position]
    ledgers: dict[str, ShardLedger]
    letters: dict[str, list[str]]
    resolved: dict[str, int] = field(default_factory=dict)

    def parked_and_kept(self) -> dict[str, tuple[int, int]]:
        """Where they differ: records counted as parked, and dead letters of them.

        These are there, or were resolved. A letter that the checkpoint has not passed yet is not
        counted yet.
        """
        counted = {
            shard_id: ledger.count(Fate.PARKED)
            for shard_id, ledger in self.ledgers.items()
            if ledger.count(Fate.PARKED)
        }
        kept: Counter[str] = Counter()
        for shard_id, numbers in self.letters.items():
            position = self.positions.get(shard_id)
            at = None if position is None else position.sequence
            passed = [n for n in numbers if at is None or int(n) <= int(at)]
            kept[shard_id if shard_id in self.ledgers else EARLIER] += len(passed)
        for shard_id, count in self.resolved.items():
            kept[shard_id if shard_id in self.ledgers else EARLIER] += count
        differing = sorted(s for s in counted.keys() | kept.keys() if counted.get(s, 0) != kept[s])
        return {shard_id: (counted.get(shard_id, 0), kept[shard_id]) for shard_id in differing}


def snapshot(database: Database, consumer: str, stream_arn: str) -> Snapshot:
    """The state of a consumer on a stream, consistent even while a relay writes it."""
    of = (consumer, stream_arn)
    where = "WHERE consumer = ? AND stream_arn = ?"
    letters: dict[str, list[str]] = {}
    with database.reading() as cursor:
        ledgers = _ledgers(cursor, of)
        rows = cursor.execute(f"SELECT position FROM positions {where}", of)
        decoded = [msgspec.json.decode(row, type=Position) for (row,) in rows]
        for shard_id, number in cursor.execute(
            f"SELECT shard_id, sequence FROM dead_letters {where}", of
        ):
            letters.setdefault(shard_id, []).append(number)
        resolved = parking.resolved(cursor, of)
    positions = {position.shard_id: position for position in decoded}
    return Snapshot(positions, ledgers, letters, resolved)


def of_consumer(database: Database, consumer: str, stream_arn: str) -> dict[str, ShardLedger]:
    """The ledger of a consumer on a stream by shard id, the oldest shard first."""
    with database.reading() as cursor:
        return _ledgers(cursor, (consumer, stream_arn))


def resolved_of(database: Database, consumer: str, stream_arn: str) -> dict[parking.How, int]:
    """How many of the records that are counted as parked were sent since, skipped or dropped."""
    with database.reading() as cursor:
        return parking.resolved_by(cursor, (consumer, stream_arn))


def gaps_of(database: Database, consumer: str, stream_arn: str) -> list[tuple[Gap, float]]:
    """The losses of a consumer on a stream, the latest found first, and when each was found."""
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT shard_id, after, reason, since, until, before, found_at FROM gaps"
            " WHERE consumer = ? AND stream_arn = ? ORDER BY found_at DESC, shard_id",
            (consumer, stream_arn),
        )
        return [(_gap(row), row[6]) for row in rows]


def _gap(row: tuple[Any, ...]) -> Gap:
    return Gap(row[0], row[1] or None, row[2], row[3] or None, row[4], row[5])


def _ledgers(cursor: sqlite3.Cursor, of: _Of) -> dict[str, ShardLedger]:
    found: dict[str, ShardLedger] = {}
    try:
        _read(cursor, of, lambda shard_id: found.setdefault(shard_id, ShardLedger(shard_id)))
    except ValueError as error:
        raise sqlite3.DatabaseError(f"in the ledger, {error}") from error
    for ledger in found.values():
        ledger.blocks.sort(key=lambda block: int(block.first))
    return dict(sorted(found.items()))


def _read(cursor: sqlite3.Cursor, of: _Of, shard: Callable[[str], ShardLedger]) -> None:
    """ValueError where a value is not what is written there."""
    where = "WHERE consumer = ? AND stream_arn = ?"
    for row in cursor.execute(
        "SELECT shard_id, fate, rule, count, first, last, since, until"
        f" FROM ledger {where} ORDER BY shard_id, fate, rule",
        of,
    ):
        shard(row[0]).lines.append(Line(Fate(row[1]), *row[2:]))
    for shard_id, after, first, last, count, total in cursor.execute(
        f"SELECT shard_id, after, first, last, count, total FROM blocks {where}", of
    ):
        int(first), int(last), int(after or 0)
        shard(shard_id).blocks.append(Block(after, first, last, int(count), int(total)))
    for row in cursor.execute(
        f"SELECT shard_id, after, reason, since, until, before FROM gaps {where} ORDER BY found_at",
        of,
    ):
        shard(row[0]).gaps.append(_gap(row))
