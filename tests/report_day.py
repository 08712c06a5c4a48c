"""A consumer's day in a state file, as a relay leaves it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.tracking import Account, DeadLetter, Fate, Line, Passed, Usage
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore

TABLE_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/{}"
LABELS = ("2026-11-20T09:00:00.000", "2026-11-23T10:31:02.123")
SHARD = "shardId-00000001795439861487-{:08x}"
HOSTILE = "<script>alert('x')</script>&\"'"
TYPES = {
    "OrderPlaced": 9.0,
    "OrderPaid": 8.0,
    "OrderShipped": 6.0,
    "UserCreated": 4.0,
    "UserEmailChanged": 2.5,
    "InvoiceSent": 2.0,
    "BasketAbandoned": 1.5,
    "CouponRedeemed": 1.0,
    "RefundIssued": 0.4,
    HOSTILE: 0.2,
}


def arn(table: str = "orders", label: str = LABELS[1]) -> str:
    """The ARN of a stream of the table."""
    return f"{TABLE_ARN.format(table)}/stream/{label}"


def passed(fate: Fate, kind: str, count: int, at: float, lag: float, worst: float) -> Passed:
    """So many records settled at this time, with this average and highest lag."""
    return Passed(fate, kind, count, count, count * (at - lag), at - worst)


def account(at: float, *parts: Passed, gaps: tuple[Gap, ...] = ()) -> Account:
    """The account of a save with these parts, whose ledger lines agree with them."""
    lines = [Line(one.fate, str(one.kind), one.count, "1", "2", at - 60, at) for one in parts]
    return Account(SHARD.format(1), lines, gaps=gaps, passed=parts)


def write(path: Path, now: float, table: str = "orders", *, every: int = 1) -> None:
    """A busy day with a slow half hour, a pause, dead letters, a loss, and the stream before it.

    A checkpoint `every` so many minutes.
    """
    rng = random.Random(7)
    time = [now - 86400.0]
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(Database(path)) as database:

        def store(label: str) -> SqliteStore:
            return SqliteStore(database, "default", arn(table, label), lambda: time[0])

        async def day() -> None:
            earlier, latest = store(LABELS[0]), store(LABELS[1])
            before = passed(Fate.PUBLISHED, "OrderPlaced", 120, time[0], 1, 4)
            await earlier.save(
                [Position(SHARD.format(9), sequence="1" * 30, finished=True)],
                [account(time[0], before)],
                Usage(900, 12, 120, 120, 0),
            )
            await latest.begin([Position(SHARD.format(1))])
            for minute in range(0, 1440, every):
                time[0] = now - 86400 + minute * 60 + 30
                parts = list(_minute(rng, minute, time[0]))
                gaps = (_loss(now),) if minute == 1000 else ()
                if parts or gaps:
                    await latest.save([], [account(time[0], *parts, gaps=gaps)])
            time[0] = now - 4
            await latest.save(
                [
                    Position(SHARD.format(1), sequence="4" * 30, finished=True),
                    Position(SHARD.format(2), sequence="5" * 27 + "881", seen_at=now - 4),
                    Position(SHARD.format(3), sequence="5" * 27 + "907", seen_at=now - 70_000),
                    Position(SHARD.format(4), SHARD.format(2)),
                ],
                [],
                Usage(86_000, 5_300, 48_000, 48_200, 3),
            )
            await latest.park(list(_letters(now)))

        asyncio.run(day())


def _minute(rng: random.Random, minute: int, at: float) -> Iterator[Passed]:
    if 380 <= minute < 425:
        return
    hour = ((at / 3600) % 24 - 3) / 24
    load = 1.2 + math.sin((hour - 0.25) * 2 * math.pi)
    slow = 1 + 90 * math.exp(-(((minute - 760) / 14) ** 2))
    for name, weight in TYPES.items():
        if count := int(rng.expovariate(1 / (load * weight * 1.2))):
            lag = slow * rng.uniform(0.4, 0.9)
            yield passed(Fate.PUBLISHED, name, count, at, lag, lag * rng.uniform(1.2, 3))
    if count := int(rng.expovariate(1 / 2.2)):
        yield passed(Fate.SKIPPED, "deletes are not events here", count, at, 1, 2)
    if minute in {700, 1100, 1101}:
        yield passed(Fate.PARKED, "OrderPlaced", 1, at, 1, 1)


def _loss(now: float) -> Gap:
    return Gap(
        SHARD.format(2), "4" * 27 + "070", "trimmed", now - 110_000, now - 108_000, "4" * 27 + "090"
    )


def _letters(now: float) -> Iterator[DeadLetter]:
    reasons = (
        ('rule "placed": {new.total} cannot be evaluated: invalid value: SECRET-4711', False),
        ("the entry has 1,363,148 bytes, PutEvents takes less than 1 MB", False),
        ("an earlier event of this item is parked", True),
    )
    for number, (reason, behind) in enumerate(reasons):
        yield DeadLetter(
            SHARD.format(2),
            str(10**20 + number),
            b"item" if behind or not number else b"other",
            reason,
            b'{"eventID":"e","note":"SECRET-4711"}',
            None,
            1,
            now - 20_000 + number,
            behind,
        )
