"""What AWS bills the last runs of a consumer for: one row a run, and one for all before them."""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass

from ddbrelay.flow.tracking import Usage
from ddbrelay.stores.database import Database

RUNS_KEPT = 20
"""Rows of this many last runs are kept for each consumer and stream; earlier ones become one."""
EARLIER_RUNS = 0.0
"""The start under which the sum of the earlier runs stands."""

_Of = tuple[str, str]


@dataclass(frozen=True, slots=True)
class RunUsage:
    """The usage of the run that began at `started_at`, as of `saved_at`; epoch seconds.

    A `started_at` of EARLIER_RUNS is the sum of all runs before those that are kept.
    """

    started_at: float
    saved_at: float
    usage: Usage


def add(cursor: sqlite3.Cursor, of: _Of, started_at: float, usage: Usage, now: float) -> None:
    """Replace what is kept of the run that began at `started_at`."""
    cursor.execute(
        "INSERT OR REPLACE INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*of, started_at, now, *astuple(usage)),
    )
    # Where the clock was set back, the run that goes on is older than the last ones: it would be
    # added to their sum with each save.
    old = (
        "consumer = ? AND stream_arn = ? AND started_at NOT IN (?, ?) AND started_at NOT IN"
        " (SELECT started_at FROM usage WHERE consumer = ? AND stream_arn = ?"
        " ORDER BY started_at DESC LIMIT ?)"
    )
    which = (*of, EARLIER_RUNS, started_at, *of, RUNS_KEPT)
    if not cursor.execute(f"SELECT 1 FROM usage WHERE {old} LIMIT 1", which).fetchone():
        return
    cursor.execute(
        "INSERT INTO usage SELECT consumer, stream_arn, ?, max(saved_at), sum(reads),"
        f" sum(requests), sum(events), sum(chunks), sum(puts) FROM usage WHERE {old}"
        " GROUP BY consumer, stream_arn ON CONFLICT DO UPDATE SET saved_at = excluded.saved_at,"
        " reads = reads + excluded.reads, requests = requests + excluded.requests,"
        " events = events + excluded.events, chunks = chunks + excluded.chunks,"
        " puts = puts + excluded.puts",
        (EARLIER_RUNS, *which),
    )
    cursor.execute(f"DELETE FROM usage WHERE {old}", which)


def of_consumer(database: Database, consumer: str, stream_arn: str) -> list[RunUsage]:
    """The usage of each kept run, the latest first, and the sum of the earlier ones last."""
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT started_at, saved_at, reads, requests, events, chunks, puts FROM usage"
            " WHERE consumer = ? AND stream_arn = ? ORDER BY started_at DESC",
            (consumer, stream_arn),
        )
        return [RunUsage(row[0], row[1], Usage(*row[2:])) for row in rows]
