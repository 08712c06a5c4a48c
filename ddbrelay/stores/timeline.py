"""What became of records by the minute, for a day, and by the hour, for ninety days."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ddbrelay.flow.tracking import Account, Fate
from ddbrelay.stores.database import Database

MINUTE = 60
HOUR = 3600
MINUTES_KEPT = 24 * 3600.0
HOURS_KEPT = 90 * 24 * 3600.0
MOST_NAMES = 100
"""A minute names so many detail types, rules and reasons; those beyond share a row each fate."""
OTHERS = "(others)"

_Of = tuple[str, str]
_ADD = (
    " ON CONFLICT DO UPDATE SET count = count + excluded.count, timed = timed + excluded.timed,"
    " lag_sum = lag_sum + excluded.lag_sum, lag_max = max(lag_max, excluded.lag_max)"
)


@dataclass(slots=True)
class Row:
    """What was settled in the `seconds` from `start` on with one fate and under one name.

    `count` is of events where they were published, of records otherwise; `name` is the detail type,
    or the rule or reason where no event was made. Of `timed` of them the lag is known: the seconds
    from the write, which AWS rounds down to the second, to the checkpoint that passed the record.
    """

    seconds: int
    start: int
    fate: Fate
    name: str
    count: int
    timed: int
    lag_sum: float
    lag_max: int


def add(cursor: sqlite3.Cursor, of: _Of, accounts: Iterable[Account], now: float) -> None:
    """Add what was passed until now to the minute that it is."""
    sums: dict[tuple[str, str], list[float]] = {}
    for account in accounts:
        for passed in account.passed:
            # A clock behind that of AWS makes no lag below zero.
            lags = max(passed.timed * now - passed.written, 0.0)
            latest = 0.0 if passed.oldest is None else max(now - passed.oldest, 0.0)
            for name in passed.names:
                total = sums.setdefault((passed.fate.value, name), [0, 0, 0.0, 0.0])
                total[0] += passed.count
                total[1] += passed.timed
                total[2] += lags
                total[3] = max(total[3], latest)
    if not sums:
        return
    minute = (*of, MINUTE, int(now // MINUTE) * MINUTE)
    known = set(
        cursor.execute(
            "SELECT fate, name FROM timeline"
            " WHERE consumer = ? AND stream_arn = ? AND seconds = ? AND start = ?",
            minute,
        )
    )
    rows = []
    for (fate, name), (count, timed, lag_sum, lag_max) in sums.items():
        if (fate, name) not in known:
            if len(known) >= MOST_NAMES:
                name = OTHERS
            known.add((fate, name))
        rows.append((*minute, fate, name, int(count), int(timed), lag_sum, int(lag_max)))
    cursor.executemany(f"INSERT INTO timeline VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?){_ADD}", rows)


def folded_before(now: float) -> int:
    """Where the minutes begin; what is before them is kept by the hour."""
    # Only whole hours become one: the minutes of one that is begun would be apart from its rest.
    return int((now - MINUTES_KEPT) // HOUR) * HOUR


def fold(cursor: sqlite3.Cursor, now: float) -> None:
    """Minutes of more than a day ago become hours, hours of more than ninety days ago go.

    Those of all consumers and streams: nobody else would do it for a stream that is read no more.
    """
    old = folded_before(now)
    cursor.execute(
        "INSERT INTO timeline SELECT consumer, stream_arn, ?, start / ? * ?, fate, name,"
        " sum(count), sum(timed), sum(lag_sum), max(lag_max) FROM timeline"
        " WHERE seconds = ? AND start < ?"
        f" GROUP BY consumer, stream_arn, start / ?, fate, name{_ADD}",
        (HOUR, HOUR, HOUR, MINUTE, old, HOUR),
    )
    cursor.execute(
        "DELETE FROM timeline WHERE (seconds = ? AND start < ?) OR (seconds = ? AND start < ?)",
        (MINUTE, old, HOUR, now - HOURS_KEPT),
    )


def of_consumer(
    database: Database, consumer: str, stream_arns: Sequence[str], since: float
) -> list[Row]:
    """The rows of these streams that end after `since`, the earliest first."""
    places = ", ".join("?" * len(stream_arns))
    with database.reading() as cursor:
        rows = cursor.execute(
            "SELECT seconds, start, fate, name, sum(count), sum(timed), sum(lag_sum), max(lag_max)"
            f" FROM timeline WHERE consumer = ? AND stream_arn IN ({places})"
            " AND start + seconds > ? GROUP BY seconds, start, fate, name"
            " ORDER BY start, seconds, fate, name",
            (consumer, *stream_arns, since),
        )
        try:
            return [Row(row[0], row[1], Fate(row[2]), *row[3:]) for row in rows]
        except ValueError as error:
            raise sqlite3.DatabaseError(f"in the timeline, {error}") from error


def first_of(database: Database, consumer: str, stream_arns: Sequence[str]) -> int | None:
    """The start of the earliest row of these streams; None where there is none."""
    places = ", ".join("?" * len(stream_arns))
    with database.reading() as cursor:
        (found,) = cursor.execute(
            f"SELECT min(start) FROM timeline WHERE consumer = ? AND stream_arn IN ({places})",
            (consumer, *stream_arns),
        ).fetchone()
        return None if found is None else int(found)
