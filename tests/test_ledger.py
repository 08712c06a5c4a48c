"""`ddbrelay ledger`: what became of each record, and the proof of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, clear_error, rows, state_file
from rich.cells import cell_len
from test_screens import terminal

from ddbrelay.aws.session import Aws
from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.tracking import Account, Fate, Line
from ddbrelay.stores.database import Database
from ddbrelay.stores.ledger import EARLIER
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing.clock import EPOCH

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/{}/stream/{}"
LABEL = "2026-11-23T10:31:02.123"
SHARD = "shardId-00000001795439861487-{:08x}"


def line(fate: Fate, count: int, first: int, last: int, rule: str = "", at: float = EPOCH) -> Line:
    return Line(fate, rule, count, str(10**20 + first), str(10**20 + last), at, at + 600)


def keep(
    cli: Cli,
    *accounts: Account,
    table: str = "users",
    consumer: str = "default",
    label: str = LABEL,
    at: float = EPOCH,
) -> None:
    """Let a consumer have a ledger, as a forwarding run leaves it."""
    state_file(cli).parent.mkdir(parents=True, exist_ok=True)
    with closing(Database(state_file(cli))) as database:
        store = SqliteStore(database, consumer, ARN.format(table, label), lambda: at)
        positions = [Position(one.shard_id) for one in accounts if one.shard_id]
        asyncio.run(store.save(positions, accounts))


def shard(number: int, *lines: Line, gaps: tuple[Gap, ...] = ()) -> Account:
    return Account(SHARD.format(number), lines or (line(Fate.PUBLISHED, 1, 1, 1),), gaps=gaps)


LOST = Gap(SHARD.format(2), str(10**20 + 70), "trimmed", EPOCH, EPOCH + 50, str(10**20 + 90))
ACCOUNTS = (
    Account(EARLIER, [Line(Fate.PUBLISHED, "", 1_234_567, "", "", EPOCH - 9e6, EPOCH - 8e6)]),
    shard(
        1,
        line(Fate.PUBLISHED, 1204, 1, 2000, "created"),
        line(Fate.PUBLISHED, 96, 5, 3000, "updated", EPOCH + 60),
        line(Fate.SKIPPED, 3, 7, 9, "noise"),
        line(Fate.SKIPPED, 301, 8, 99, "deletes are not events here, said at some length " * 2),
    ),
    shard(2, line(Fate.PARKED, 2, 1, 60, "too large"), gaps=(LOST,)),
)


def test_each_shard_is_a_line_with_whole_numbers_where_the_output_is_piped(bare_cli: Cli) -> None:
    keep(bare_cli, *ACCOUNTS)
    done = bare_cli.ok("ledger", "--table", "users")
    lines = done.stdout.splitlines()
    assert lines[:2] == ["consumer    default", f"table       users, stream {LABEL}"]
    headings = ["shard", "published", "skipped", "parked", "lost", "first", "last"]
    assert [line.split() for line in lines[2:7]] == [
        [*headings, "since", "until"],
        ["earlier", "1,234,567", "0", "0", "0", "–", "–", *iso_times(EPOCH - 9e6, EPOCH - 8e6)],
        [SHARD.format(1), "1,300", "304", "0", "0", *ends(1, 3000), *iso_times(0, 660)],
        [SHARD.format(2), "0", "0", "2", "1", *ends(1, 60), *iso_times(0, 600)],
        ["total", "1,235,867", "304", "2", "1", *ends(1, 3000), *iso_times(EPOCH - 9e6, 660)],
    ]
    assert lines[7].startswith("skipped     301  deletes are not events")
    assert lines[8] == "skipped     3  noise"
    assert lines[9].startswith(f"lost        records of shard {LOST.shard_id} after {LOST.after}")
    assert LOST.before in lines[9]
    assert len(lines) == 10
    assert done.stderr == "next: ddbrelay ledger --table users --verify\n"


def iso_times(*times: float) -> list[str]:
    found = [t if t > 1e6 else EPOCH + t for t in times]
    return [time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t)) for t in found]


def ends(first: int, last: int) -> list[str]:
    return [str(10**20 + first), str(10**20 + last)]


@pytest.mark.parametrize(("width", "whole"), [(80, False), (120, True)])
def test_a_terminal_shows_what_fits_its_width(bare_cli: Cli, width: int, whole: bool) -> None:
    keep(bare_cli, *ACCOUNTS)
    bare_cli.environment |= {"COLUMNS": str(width), "TZ": "UTC"}
    lines = bare_cli.ok("ledger", "--output", "rich").stdout.splitlines()
    assert max(map(len, lines)) <= width
    (row,) = [line for line in lines if "1,300" in line]
    name = SHARD.format(1)
    assert row.startswith(name if whole else f"…{name[-8:]} ")
    assert row.endswith("…00001–…03000  01-01 00:00–00:11")
    (parked,) = [line for line in lines if "1 gap  …00001" in line]
    assert parked.split()[1:5] == ["0", "0", "2", "1"]
    (lost,) = [n for n, line in enumerate(lines) if line.startswith("lost ")]
    said = " ".join(" ".join(lines[lost:]).split())
    assert "after …00070 and before …00090" in said
    assert said.endswith("are lost: trimmed")


def test_of_many_shards_a_terminal_shows_those_that_something_happened_to(bare_cli: Cli) -> None:
    many = [shard(n) for n in range(3, 40)]
    keep(bare_cli, *ACCOUNTS, *many)
    lines = bare_cli.ok("ledger", "--output", "rich").stdout.splitlines()
    assert [line.split()[0] for line in lines[3:6]] == ["shard", f"…{LOST.shard_id[-8:]}", "total"]
    assert lines[6] == "39 more shards with nothing parked or lost; --output lines shows all"
    assert len(bare_cli.ok("ledger").stdout.splitlines()) == 10 + 37


def test_the_ledger_as_objects_one_a_shard_and_a_summary(bare_cli: Cli) -> None:
    keep(bare_cli, *ACCOUNTS)
    old = Gap(SHARD.format(0), None, "gone")
    keep(bare_cli, shard(0, gaps=(old,)), label="2026-11-01T00:00:00.000", at=EPOCH - 1e6)
    *shards, summary = bare_cli.json("ledger", "-q")
    assert [(one["type"], one["shardId"]) for one in shards] == [
        ("shard", EARLIER),
        ("shard", SHARD.format(1)),
        ("shard", SHARD.format(2)),
    ]
    first, last = ends(1, 3000)
    since, until = iso_times(0, 660)
    assert shards[1]["published"] == {
        "count": 1300,
        "first": first,
        "last": last,
        "since": since,
        "until": until,
    }
    assert [(one["rule"][:7], one["count"]) for one in shards[1]["skipped"]] == [
        ("deletes", 301),
        ("noise", 3),
    ]
    assert shards[2]["parked"]["count"] == 2
    lost = {"type": "lost", "shardId": LOST.shard_id, "after": LOST.after, "before": LOST.before}
    (gap,) = shards[2]["lost"]
    assert gap == lost | {"reason": "trimmed", "since": since, "until": iso_times(50)[0]}
    assert summary["lost"] == [gap]
    assert (summary["type"], summary["consumer"], summary["table"], summary["shards"]) == (
        "summary",
        "default",
        "users",
        2,
    )
    assert summary["streamArn"] == ARN.format("users", LABEL)
    assert summary["published"]["count"] == 1_235_867
    (earlier,) = summary["earlierStreams"]
    assert (earlier["published"]["count"], len(earlier["lost"])) == (1, 1)
    lines = bare_cli.ok("ledger").stdout.splitlines()
    assert lines[-2] == (
        "earlier     stream 2026-11-01T00:00:00.000: published 1, skipped 0, parked 0"
    )
    assert lines[-1].endswith("from its start are lost: gone")


def test_a_ledger_that_is_not_there_is_one_clear_line(bare_cli: Cli) -> None:
    done = bare_cli.run("ledger", "--table", "users")
    clear_error(done, 2, 'consumer "default" has no ledger on table "users"', "tail --forward")
    keep(bare_cli, shard(1))
    keep(bare_cli, shard(1), table="orders", consumer="audit")
    keep(bare_cli, shard(1), table="orders")
    done = bare_cli.run("ledger", "--consumer", "nobody", "--verify")
    clear_error(done, 2, 'consumer "nobody" has no ledger')
    assert "hint: there are ledgers of audit on orders, default on orders, default" in done.stderr
    done = bare_cli.run("ledger")
    clear_error(done, 2, "has ledgers on several tables: orders, users", "--table")


def test_a_state_file_that_is_damaged_is_one_clear_line(bare_cli: Cli) -> None:
    keep(bare_cli, shard(1))
    with closing(sqlite3.connect(state_file(bare_cli))) as connection:
        connection.execute("UPDATE ledger SET fate = 'vanished'")
        connection.commit()
    clear_error(bare_cli.run("ledger"), 2, "is damaged")
    state_file(bare_cli).write_text("no database")
    clear_error(bare_cli.run("ledger"), 2, "is damaged, or no state file")


def test_a_position_without_a_record_is_an_empty_ledger(bare_cli: Cli) -> None:
    keep(bare_cli, Account(SHARD.format(1)))
    done = bare_cli.ok("ledger")
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.splitlines() == [
        "nothing is in the ledger yet",
        "next: ddbrelay tail --forward",
    ]


# On the embedded AWS


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


@pytest.mark.slow
@pytest.mark.moto_first
def test_every_record_is_verified_and_a_ledger_that_misses_one_is_told_which(
    cli: Cli, pipe: Pipeline
) -> None:
    for number in range(30):
        pipe.put(f"k{number}")
    cli.ok("tail", "--forward", "--until-idle", "0")
    pipe.put("late")
    *nothing, summary = cli.json("ledger", "--verify")
    assert nothing == []
    records = pipe.records()
    assert {
        key: summary[key]
        for key in ("type", "verified", "accounted", "before", "waiting", "unaccounted")
    } == {
        "type": "summary",
        "verified": 30,
        "accounted": 30,
        "before": 0,
        "waiting": 1,
        "unaccounted": 0,
    }
    victim = records[11]["dynamodb"]["SequenceNumber"]
    ((total,),) = rows(cli, "SELECT total FROM blocks")
    with closing(sqlite3.connect(state_file(cli))) as connection:
        connection.execute(
            "UPDATE blocks SET count = count - 1, total = ?", (str(int(total) - int(victim)),)
        )
        connection.execute("UPDATE ledger SET fate = 'parked'")
        connection.commit()
    done = cli.run("ledger", "--verify", "--output", "json")
    clear_error(done, 4, "1 record of the stream is not accounted for", f":{victim} shows")
    unaccounted, warning, summary = (json.loads(line) for line in done.stdout.splitlines())
    assert (unaccounted["type"], unaccounted["first"]) == ("unaccounted", victim)
    assert (unaccounted["shardId"], unaccounted["count"]) == (pipe.shard, 1)
    assert unaccounted["eventID"] == records[11]["eventID"]
    assert (warning["type"], warning["parked"], warning["deadLetters"]) == ("warning", 30, 0)
    assert (summary["accounted"], summary["unaccounted"]) == (29, 1)
    # What the hint says brings the event back.
    events = cli.json("replay", "--sequence", f"{pipe.shard}:{victim}", "--max-records", "1")
    assert events[0]["change"]["eventID"] == records[11]["eventID"]


@pytest.mark.slow
@ON_MOTO
def test_the_verification_in_words(cli: Cli, pipe: Pipeline) -> None:
    for number in range(5):
        pipe.put(f"k{number}")
    cli.ok("tail", "--forward", "--max-records", "4")
    done = cli.ok("ledger", "--verify")
    lines = done.stdout.splitlines()
    assert lines[2].startswith("verified    4 records written since 20")
    assert lines[2].endswith("Z, in 1 shard")
    assert [line.split(maxsplit=1) for line in lines[3:]] == [
        ["4", "accounted for"],
        ["1", "not read yet"],
        ["0", "not accounted for"],
    ]
    assert done.stderr == ""
    with closing(sqlite3.connect(state_file(cli))) as connection:
        connection.execute("UPDATE blocks SET count = count + 2")
        connection.commit()
    done = cli.run("ledger", "--verify", "-q")
    clear_error(done, 4, "counts 2 records too many")
    assert done.stdout == ""
    pipe.aws.client("dynamodb").delete_table(TableName=pipe.table)
    with closing(sqlite3.connect(state_file(cli))) as connection:
        gone = ARN.format(pipe.table, LABEL)
        connection.execute("UPDATE positions SET stream_arn = ?", (gone,))
        connection.execute("UPDATE ledger SET stream_arn = ?", (gone,))
        connection.commit()
    clear_error(cli.run("ledger", "--verify"), 5, "no longer exists")


@pytest.mark.slow
@ON_MOTO
def test_a_terminal_shows_how_far_the_walk_is_and_what_is_wrong_in_red(
    cli: Cli, pipe: Pipeline
) -> None:
    pipe.put("a")
    pipe.put("b")
    cli.ok("tail", "--forward", "--max-records", "2")
    with closing(sqlite3.connect(state_file(cli))) as connection:
        connection.execute("UPDATE blocks SET last = first, count = 1, total = first")
        connection.commit()
    with terminal(cli, 80, "ledger", "--verify") as shown:
        assert shown.wait() == 4
    assert "reading the stream: 2 records, 0 of 1 shard done" in shown.written
    assert "\x1b[31m1  not accounted for" in shown.written
    assert max(map(cell_len, shown.screen()[:-3])) <= 80
    assert shown.written.rindex("\x1b[?25h") > shown.written.rindex("\x1b[?25l")
