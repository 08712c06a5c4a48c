"""What became of records by the minute and by the hour."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tracking import read

from ddbrelay.errors import StateError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Mapped, Skip
from ddbrelay.flow.tracking import Account, Fate, Frontier, Passed
from ddbrelay.stores import database as format_of
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.stores.timeline import (
    HOUR,
    HOURS_KEPT,
    MINUTE,
    MOST_NAMES,
    OTHERS,
    Row,
    folded_before,
    of_consumer,
)
from ddbrelay.testing.clock import EPOCH, now
from ddbrelay.testing.world import World, simulated

ARN = "arn:stream"
DAY = 24 * HOUR
NOON = EPOCH + 12 * HOUR


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(Database(":memory:")) as opened:
        yield opened


def save(database: Database, at: float, *passed: Passed, arn: str = ARN) -> None:
    """A checkpoint at this time, by a run of its own."""
    store = SqliteStore(database, "default", arn, lambda: at)
    asyncio.run(store.save([], [Account("s", passed=passed)]))


def rows(database: Database, *arns: str, since: float = 0.0) -> list[Row]:
    return of_consumer(database, "default", arns or (ARN,), since)


def published(count: int, at: float, *lags: float, kind: str = "UserCreated") -> Passed:
    written = [at - lag for lag in lags]
    oldest = min(written, default=None)
    return Passed(Fate.PUBLISHED, kind, count, len(written), sum(written), oldest)


# Between two saves


def test_a_save_gets_sums_by_fate_and_detail_type_of_what_was_passed_since_the_last_one() -> None:
    frontier = Frontier(Position("s"))
    one, two, three, four = read(frontier, 1, 2, 3, 4)
    one.settle(Fate.PUBLISHED, "created", "UserCreated")
    three.settle(Fate.PUBLISHED, "other rule", "UserCreated")
    first = frontier.draft()[1].passed
    two.time = None
    two.settle(Fate.PUBLISHED, "created", "UserCreated")
    four.settle(Fate.SKIPPED, "noise")
    assert first == (Passed(Fate.PUBLISHED, "UserCreated", 1, 1, EPOCH, EPOCH),)
    assert frontier.draft()[1].passed == (
        Passed(Fate.PUBLISHED, "UserCreated", 2, 1, EPOCH, EPOCH),
        Passed(Fate.SKIPPED, "noise", 1, 1, EPOCH, EPOCH),
    )
    assert frontier.draft()[1].passed == ()


def test_each_event_of_a_record_counts_under_its_own_type_and_a_parked_record_once() -> None:
    types = ("UserCreated", "MailWanted")
    assert Passed(Fate.PUBLISHED, types).names == types
    assert Passed(Fate.PARKED, types).names == ("UserCreated",)
    assert Passed(Fate.SKIPPED, "noise").names == ("noise",)


# Minutes


def test_saves_of_a_minute_are_one_row_with_its_highest_lag_and_their_sum(
    database: Database,
) -> None:
    save(database, NOON + 1, published(3, NOON + 1, 1, 2))
    save(database, NOON + 59.5, published(1, NOON + 59.5, 7.5))
    save(database, NOON + 60, published(1, NOON + 60, kind="UserDeleted"))
    assert rows(database) == [
        Row(MINUTE, int(NOON), Fate.PUBLISHED, "UserCreated", 4, 3, pytest.approx(10.5), 7),
        Row(MINUTE, int(NOON) + 60, Fate.PUBLISHED, "UserDeleted", 1, 0, 0.0, 0),
    ]
    assert len(rows(database, since=NOON + 60)) == 1


def test_shards_and_streams_of_a_minute_come_together(database: Database) -> None:
    store = SqliteStore(database, "default", ARN, lambda: NOON)
    part = published(2, NOON, 1, 1)
    asyncio.run(store.save([], [Account("a", passed=[part]), Account("b", passed=[part])]))
    save(database, NOON, published(5, NOON, 9), arn="arn:earlier")
    assert [(row.count, row.lag_max) for row in rows(database)] == [(4, 1)]
    assert [(row.count, row.lag_max) for row in rows(database, ARN, "arn:earlier")] == [(9, 9)]


def test_a_clock_behind_that_of_the_stream_makes_no_lag_below_zero(database: Database) -> None:
    save(database, NOON, published(2, NOON, -5, -3))
    assert [(row.timed, row.lag_sum, row.lag_max) for row in rows(database)] == [(2, 0.0, 0)]


def test_a_minute_names_so_many_and_the_rest_share_a_row(database: Database) -> None:
    for half in (0, 1):
        names = [f"Type{n}" for n in range(half * MOST_NAMES // 2, half * 25 + MOST_NAMES)]
        save(database, NOON, *(published(1, NOON, 1, kind=name) for name in names))
    found = rows(database)
    assert len(found) == MOST_NAMES + 1
    assert {row.name: row.count for row in found}[OTHERS] == 25
    assert sum(row.count for row in found) == MOST_NAMES + 75


def test_the_timeline_moves_with_the_checkpoint_or_not_at_all(database: Database) -> None:
    owner = SqliteStore(database, "default", ARN, lambda: NOON)
    asyncio.run(owner.claim())
    with pytest.raises(StateError):
        save(database, NOON, published(1, NOON, 1))
    assert rows(database) == []
    asyncio.run(owner.release())


# Hours


def test_minutes_of_more_than_a_day_ago_become_whole_hours(database: Database) -> None:
    for minute in (0, 30, 59, 60, 61):
        at = NOON + minute * 60
        save(database, at, published(2, at, 3, minute))
    later = NOON + DAY + 90 * 60
    save(database, later, published(1, later, 1))
    found = rows(database)
    assert [(row.seconds, row.start - int(NOON), row.count) for row in found] == [
        (HOUR, 0, 6),
        (MINUTE, HOUR, 2),
        (MINUTE, HOUR + 60, 2),
        (MINUTE, DAY + 90 * 60, 1),
    ]
    assert (found[0].timed, found[0].lag_sum, found[0].lag_max) == (6, 98.0, 59)


def test_hours_go_after_ninety_days_those_of_a_stream_that_is_read_no_more_too(
    database: Database,
) -> None:
    save(database, NOON, published(1, NOON, 1), arn="arn:earlier")
    save(database, NOON + DAY, published(1, NOON, 1))
    save(database, NOON + HOURS_KEPT + HOUR, published(1, NOON, 1))
    assert rows(database, "arn:earlier") == []
    assert [row.start - int(NOON) for row in rows(database)] == [DAY, int(HOURS_KEPT) + HOUR]


@given(st.lists(st.tuples(st.integers(0, 3 * DAY), st.integers(0, 99)), max_size=25))
def test_folding_loses_no_record_and_no_lag(saves: list[tuple[int, int]]) -> None:
    with closing(Database(":memory:")) as database:
        clock = [NOON]
        store = SqliteStore(database, "default", ARN, lambda: clock[0])
        for after, lag in sorted(saves):
            clock[0] = NOON + after
            account = Account("s", passed=[published(1, clock[0], lag)])
            asyncio.run(store.save([], [account]))
        found = rows(database)
        assert sum(row.count for row in found) == len(saves)
        assert sum(row.lag_sum for row in found) == pytest.approx(sum(lag for _, lag in saves))
        assert max((row.lag_max for row in found), default=0) == max(
            (lag for _, lag in saves), default=0
        )
        for row in found:
            assert row.seconds == (HOUR if row.start < folded_before(clock[0]) else MINUTE)


# The file


def test_a_file_of_the_third_format_is_taken_on_and_keeps_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as raw:
        for version in (1, 2, 3):
            raw.executescript(format_of._SCHEMA[version])
        raw.execute(
            "INSERT INTO ledger VALUES ('default', ?, 's', 'published', '', 7, '1', '9', 1, 2, 3)",
            (ARN,),
        )
        raw.execute(f"PRAGMA application_id = {format_of._APPLICATION_ID}")
        raw.execute("PRAGMA user_version = 3")
        raw.commit()
    with closing(Database(path)) as database:
        assert rows(database) == []
        save(database, NOON, published(1, NOON, 1))
        with database.reading() as cursor:
            assert cursor.execute("SELECT sum(count) FROM ledger").fetchone() == (7,)
    with closing(Database(path)) as database:
        assert len(rows(database)) == 1


def test_a_row_that_is_none_is_a_damaged_file(database: Database) -> None:
    with database.transaction() as cursor:
        cursor.execute(
            "INSERT INTO timeline VALUES ('default', ?, 60, 0, 'eaten', '', 1, 0, 0, 0)", (ARN,)
        )
    with pytest.raises(StateError, match="damaged"):
        rows(database)


# The relay


def some(change: Change) -> Mapped:
    return Skip("noise") if change.item_key == b'{"id":{"S":"x"}}' else CrudMapper("users")(change)


@simulated("a b")
async def test_a_run_leaves_each_record_in_the_minute_in_which_it_settled(world: World) -> None:
    world.fill("abcx", 10)
    world.bus.fail_entries("MalformedDetail", lambda item: b'"c"' in item.key)
    began = now()
    world.mapper = some
    tally = await world.run()
    found = of_consumer(world.database, "default", (world.stream.arn,), 0.0)
    counts: Counter[Fate] = Counter()
    for row in found:
        counts[row.fate] += row.count
        assert row.seconds == MINUTE
        assert began - MINUTE <= row.start <= now()
        assert 0 <= row.lag_sum <= row.timed * (row.lag_max + 1)
    assert counts == tally.fates
    assert set(counts) == set(Fate)
