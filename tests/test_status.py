"""`ddbrelay status`: what it says of a consumer, with and without a running relay."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import signal
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, clear_error, objects, poisoned, rows, running, state_file
from rich.cells import cell_len
from test_screens import terminal

from ddbrelay.aws.session import Aws
from ddbrelay.aws.table import TableStream
from ddbrelay.cli.console import Console
from ddbrelay.cli.standing import Standing, print_objects, print_rows
from ddbrelay.config import Settings
from ddbrelay.cost import Bills, Prices
from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.tracking import Fate, Usage
from ddbrelay.relay.backlog import Unread
from ddbrelay.relay.survey import ShardBacklog, State, Survey
from ddbrelay.stores.database import Database
from ddbrelay.stores.ownership import LEASE, Owner, owner_of
from ddbrelay.stores.parking import How
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.stores.usage import EARLIER_RUNS, RunUsage
from ddbrelay.stores.usage import add as add_usage
from ddbrelay.text import short_shard

Waiter = Callable[[Callable[[], bool], float], None]
FORWARD = ("tail", "--forward", "--until-idle", "0")
NOW, HOUR = 1_795_430_000.0, 3600.0
PRICES = Prices.of(Settings())
ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users/stream/2026-11-23T10:31:02.123"


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


def stand(cli: Cli, stream_arn: str, *positions: Position) -> None:
    """Let the consumer have this checkpoint."""
    state_file(cli).parent.mkdir(parents=True, exist_ok=True)
    with closing(Database(state_file(cli))) as database:
        asyncio.run(SqliteStore(database, "default", stream_arn).save(positions))


def use(cli: Cli, stream_arn: str, started_at: float, usage: Usage) -> None:
    """Let the consumer have had a run that used so much."""
    state_file(cli).parent.mkdir(parents=True, exist_ok=True)
    of = ("default", stream_arn)
    with closing(Database(state_file(cli))) as database, database.transaction() as cursor:
        add_usage(cursor, of, started_at, usage, started_at + 60)


# The command


@pytest.mark.slow
@pytest.mark.moto_first
def test_before_and_after_a_run(cli: Cli, pipe: Pipeline) -> None:
    for key in "abc":
        pipe.put(key)
    shard, summary = cli.json("status")
    assert (shard["type"], shard["shardId"], shard["state"]) == ("shard", pipe.shard, "not-begun")
    assert (shard["unread"], shard["trimmed"], shard["sequenceNumber"]) == (True, False, None)
    assert 0 < shard["lagSeconds"] < 60
    assert 23.9 < shard["hoursLeft"] < 24
    assert summary["type"] == "summary"
    assert summary["consumer"] == "default"
    assert (summary["table"], summary["streamArn"]) == (pipe.table, pipe.stream_arn)
    assert (summary["owner"], summary["heardAt"], summary["published"]) == (None, None, 0)
    for key in ("lagSeconds", "hoursLeft", "oldestUnreadAt"):
        assert summary[key] == shard[key]
    clear_error(cli.run("status", "--fail-if-lag", "0"), 6, f"shard {pipe.shard} is", "behind")
    assert cli.run("status", "--fail-if-lag", "10m").returncode == 0
    assert rows(cli, "SELECT * FROM positions") == []

    cli.ok(*FORWARD)
    shard, summary = cli.json("status", "--fail-if-lag", "0")
    assert (shard["state"], shard["unread"], shard["lagSeconds"]) == ("idle", False, None)
    assert shard["sequenceNumber"] == pipe.sequences()[-1]
    assert (summary["lagSeconds"], summary["hoursLeft"]) == (None, None)
    assert (summary["published"], summary["skipped"], summary["lost"]) == (3, 0, 0)
    assert summary["owner"] is None
    assert summary["heardAt"]

    pipe.put("d")
    done = cli.run("status", "--fail-if-lag", "0", "--output", "json")
    shard, summary = objects(done.stdout)
    assert (done.returncode, shard["state"], summary["unread"]) == (6, "behind", 1)


@pytest.mark.slow
@ON_MOTO
def test_who_relays_and_since_when_nobody_does(
    cli: Cli, pipe: Pipeline, wait_until: Waiter
) -> None:
    pipe.put("a")
    with running(cli, "tail", "--forward") as tail:
        wait_until(lambda: len(tail.lines) == 1, 20)
        owner = cli.json("status")[-1]["owner"]
        assert (owner["pid"], owner["host"]) == (tail.process.pid, platform.node())
        assert owner["since"] <= owner["heardAt"]
        said = cli.ok("status").stdout
        assert f"relay     running as pid {tail.process.pid} on {platform.node()}\n" in said
        tail.signal(signal.SIGKILL)
        tail.wait()
    summary = cli.json("status")[-1]
    assert summary["owner"] is None
    assert summary["heardAt"] >= owner["heardAt"]
    pipe.put("b")
    done = cli.ok("status")
    assert "relay     not running, last heard of 20" in done.stdout
    assert done.stderr.splitlines()[-1].endswith("tail --forward")


@pytest.mark.slow
@ON_MOTO
def test_lines_are_plain_and_silence_is_kept(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    done = cli.ok("status", "--consumer", "other")
    said = done.stdout.splitlines()
    label = pipe.stream_arn.rpartition("/")[2]
    assert said[:3] == [
        "consumer  other",
        f"table     {pipe.table}, stream {label}",
        "relay     not running, there is no checkpoint yet",
    ]
    assert said[3].split() == ["shard", "state", "position", "oldest", "unread", "trimmed", "in"]
    assert said[4].split()[:4] == [short_shard(pipe.shard), "not", "begun", "–"]
    assert said[5:7] == [
        "shards    1 shard",
        "so far    published 0   skipped 0   parked 0   lost 0 gaps",
    ]
    assert said[7].startswith("lag       oldest unread ")
    assert len(said) == 8
    assert "\x1b" not in done.stdout
    quiet = cli.ok("status", "-q")
    assert (quiet.stdout, quiet.stderr) == ("", "")


@ON_MOTO
def test_what_is_lost_already_weighs_more_than_what_is_late(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    gone = "shardId-00000000000000000001-00000001"
    stand(
        cli, pipe.stream_arn, Position(gone, sequence="123456789012345678901", seen_at=time.time())
    )
    *_, lost, summary = cli.json("status")
    assert (lost["type"], lost["shardId"]) == ("lost", gone)
    assert lost["after"] == "123456789012345678901"
    assert (summary["trimmed"], summary["lost"]) == (1, 0)
    done = cli.run("status", "--fail-if-lag", "0")
    clear_error(done, 4, "unread records of 1 shard have left the stream", gone)
    assert "lost      …00000001 after …45678901: unread, and no longer in the stream" in done.stdout


@ON_MOTO
def test_an_open_shard_that_is_stored_as_read_to_its_end_is_told(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    stand(cli, pipe.stream_arn, Position(pipe.shard, finished=True))
    summary = cli.json("status")[-1]
    assert (summary["reopened"], summary["finished"]) == ([pipe.shard], 0)
    said = cli.ok("status").stdout
    assert "reopened  1 open shard stored as read to the end: the next run reads on\n" in said


@pytest.mark.slow
@ON_MOTO
def test_dead_letters_that_wait_are_counted(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    done = cli.run(*FORWARD, *poisoned(cli))
    assert done.returncode == 3
    summary = cli.json("status")[-1]
    assert (summary["parked"], summary["deadLetters"]) == (1, 1)
    assert "parked    1 dead letter waits" in cli.ok("status").stdout
    clear_error(cli.run("status", "--fail-if-parked"), 3, "1 dead letter waits", "dead-letters")
    cli.ok("dead-letters", "drop", "--all", "--yes")
    assert cli.run("status", "--fail-if-parked").returncode == 0


@pytest.mark.slow
@ON_MOTO
def test_an_unfinished_checkpoint_on_an_older_stream_is_told(cli: Cli, pipe: Pipeline) -> None:
    base = pipe.stream_arn.rpartition("/")[0]
    stand(cli, f"{base}/2020-01-01T00:00:00.000", Position("s", sequence="1"))
    stand(cli, f"{base}/2020-01-02T00:00:00.000", Position("s", sequence="1", finished=True))
    stand(cli, base.replace(pipe.table, "other") + "/stream/1", Position("s", sequence="1"))
    done = cli.ok("status", "--output", "json")
    assert done.stderr == (
        'consumer "default" has an unfinished checkpoint on an older stream, '
        "2020-01-01T00:00:00.000\n"
    )
    assert json.loads(done.stdout.splitlines()[-1])["unfinishedStreams"] == [
        "2020-01-01T00:00:00.000"
    ]


@pytest.mark.slow
@ON_MOTO
def test_usage_is_priced_as_the_settings_say(cli: Cli, pipe: Pipeline) -> None:
    use(cli, pipe.stream_arn, NOW, Usage(100_000, 9, 10, 20, 3))
    use(cli, pipe.stream_arn, NOW + HOUR, Usage(50_000, 1, 1, 1))
    use(cli, f"{pipe.stream_arn}x", NOW, Usage(7, 7, 7, 7, 7))
    usage = cli.json("status")[-1]["usage"]
    assert usage["run"]["reads"] == 50_000
    assert usage["run"]["startedAt"] == "2026-11-23T11:33:20Z"
    assert usage["total"] == {
        "reads": 150_000,
        "requests": 10,
        "events": 11,
        "chunks": 21,
        "puts": 3,
        "cost": 0.030036,
    }
    (cli.directory / "ddbrelay.toml").write_text("[prices]\nreads = 2\nevents = 0\nputs = 0\n")
    said = cli.ok("status").stdout.splitlines()
    assert said[-2:] == [
        "last run   50,000       1          1             0  about $1.00",
        "in total  150,000      11         21             3  about $3.00",
    ]


@ON_MOTO
def test_bad_input_is_one_clear_line(cli: Cli, pipe: Pipeline) -> None:
    clear_error(cli.run("status", "--table", "nope"), 5, 'table "nope" does not exist', "provision")
    clear_error(cli.run("status", "--fail-if-lag", "soon"), 2, "soon")
    pipe.aws.client("dynamodb").create_table(
        TableName=f"{pipe.table}-plain",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    done = cli.run("status", "--table", f"{pipe.table}-plain")
    clear_error(done, 5, "has no stream", "--apply-changes")
    file = state_file(cli)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"not a database, " * 300)
    clear_error(cli.run("status"), 2, str(file), "is damaged")


def test_what_cannot_be_asked_is_one_clear_line(bare_cli: Cli) -> None:
    clear_error(bare_cli.run("status"), 2, "no table is given", "DDBRELAY_TABLE")
    words = ("status", "--table", "users", "--region", "eu-west-1")
    clear_error(bare_cli.run(*words), 5, "no AWS credentials were found")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{listening.getsockname()[1]}"
        done = bare_cli.run("status", "--table", "users", "--local", "--endpoint-url", nobody)
    clear_error(done, 5, "no answer from AWS, to describe the table")


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("width", [80, 120])
def test_in_a_terminal_it_fits_and_waits_have_a_colour(
    cli: Cli, pipe: Pipeline, width: int
) -> None:
    pipe.put("a")
    with terminal(cli, width, "status") as shown:
        assert shown.wait() == 0
    lines = shown.screen()
    assert max(map(cell_len, lines)) <= width
    assert [line.split()[0] for line in lines if line][:5] == [
        "consumer",
        "table",
        "relay",
        "shard",
        short_shard(pipe.shard),
    ]
    assert "\x1b[33mnot running" in shown.written
    assert "\x1b[2mshard" in shown.written
    cli.environment["NO_COLOR"] = "1"
    with terminal(cli, width, "status") as shown:
        assert shown.wait() == 0
    assert "\x1b" not in shown.written


# What it prints


def shard(
    number: int, state: State, age: float | None = None, *, unread: bool = True, lost: bool = False
) -> ShardBacklog:
    name = f"shardId-0000000179543986148{number}-aaaaaa0{number}"
    position = Position(name, "parent", sequence=f"{number}" * 30)
    return ShardBacklog(
        position,
        state,
        Unread(name, None if age is None else NOW - age) if unread else None,
        Gap(name, position.sequence, "trimmed", NOW - 30 * HOUR, NOW - 24 * HOUR) if lost else None,
    )


SHARDS = (
    shard(1, State.BEHIND, 3 * HOUR, lost=True),
    shard(2, State.BEHIND, 23.5 * HOUR),
    shard(3, State.WAITING, 20 * HOUR),
    shard(4, State.NOT_BEGUN),
    shard(5, State.IDLE, unread=False),
)

RUNS = (
    RunUsage(NOW - 2 * HOUR, NOW - 1, Usage(28804, 4900, 48112, 48300, 2)),
    RunUsage(EARLIER_RUNS, NOW - 3 * HOUR, Usage(10, 1, 3, 3)),
)


def standing(*shards: ShardBacklog, host: str = "web-1", **changed: Any) -> Standing:
    gaps = [one.gap for one in shards if one.gap is not None]
    known: dict[str, Any] = {
        "owner": Owner(host, 4711, NOW - 2 * HOUR, NOW - 1, True),
        "heard_at": NOW - 1,
        "counts": {Fate.PUBLISHED: 48112, Fate.SKIPPED: 301, Fate.PARKED: 2},
        "gaps": 1,
        "dead_letters": 2,
        "resolved": dict.fromkeys(How, 0),
        "unfinished": [],
        "bills": Bills.of([], PRICES),
        "at": NOW,
    }
    stream = TableStream("users", ARN, "NEW_IMAGE", True)
    return Standing("default", stream, Survey(shards, gaps, 3), **known | changed)


def test_the_rows_stand_in_columns_within_80_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(Console("lines"), standing(*SHARDS))
    said = capsys.readouterr().out
    assert said == (
        "consumer  default\n"
        "table     users, stream 2026-11-23T10:31:02.123\n"
        "relay     running as pid 4711 on web-1\n"
        "          since 2026-11-23T08:33:20Z, 2 h 0 m ago\n"
        "shard      state                   position   oldest unread  trimmed in\n"
        "…aaaaaa01  behind                  …11111111  3 h 0 m ago    records are lost\n"
        "…aaaaaa02  behind                  …22222222  23 h 30 m ago  30 m 0 s\n"
        "…aaaaaa03  waiting for its parent  …33333333  20 h 0 m ago   4 h 0 m\n"
        "…aaaaaa04  not begun               …44444444  unknown        unknown\n"
        "…aaaaaa05  idle                    …55555555  none           –\n"
        "shards    8 shards, 3 finished, 1 waiting\n"
        "so far    published 48,112   skipped 301   parked 2   lost 1 gap\n"
        "parked    2 dead letters wait\n"
        "lost      …aaaaaa01 after …11111111: unread, and no longer in the stream\n"
        "lag       oldest unread 23 h 30 m, trimmed in 30 m 0 s\n"
    )
    assert max(map(cell_len, said.splitlines())) <= 80


def usage_rows(capsys: pytest.CaptureFixture[str], *runs: RunUsage) -> list[str]:
    print_rows(Console("lines"), standing(bills=Bills.of(runs, PRICES)))
    said = capsys.readouterr().out.splitlines()
    assert max(map(cell_len, said)) <= 80
    return said[said.index("lag       all read") + 1 :]


def test_usage_has_a_column_for_each_thing_that_is_billed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert usage_rows(capsys, *RUNS) == [
        "usage      reads  events  billed as  claim checks  estimated cost",
        "last run  28,804  48,112     48,300             2  about $0.054",
        "in total  28,814  48,115     48,303             2  about $0.054",
    ]


def test_usage_says_nothing_of_what_did_not_happen(capsys: pytest.CaptureFixture[str]) -> None:
    assert usage_rows(capsys) == []
    assert usage_rows(capsys, RunUsage(NOW, NOW, Usage(3, 1, 4, 4))) == [
        "usage     reads  events  estimated cost",
        "last run      3       4  about $0.0000046",
        "in total      3       4  about $0.0000046",
    ]
    assert usage_rows(capsys, RUNS[1])[1:] == ["in total     10       3  about $0.0000050"]


def test_usage_of_years_fits_into_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    years = Usage(126_144_000, 10**8, 999_999_999, 999_999_998, 99_999_999)
    assert usage_rows(capsys, RunUsage(NOW, NOW, years))[1] == (
        "last run  126,144,000  999,999,999  999,999,998    99,999,999  about $1,525.23"
    )


def test_the_objects_have_times_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    print_objects(Console("json"), standing(*SHARDS, bills=Bills.of(RUNS, PRICES)))
    *shards, lost, summary = objects(capsys.readouterr().out)
    assert [one["state"] for one in shards] == [
        "behind",
        "behind",
        "waiting",
        "not-begun",
        "idle",
    ]
    assert shards[1] == {
        "type": "shard",
        "shardId": "shardId-00000001795439861482-aaaaaa02",
        "parentShardId": "parent",
        "state": "behind",
        "sequenceNumber": "2" * 30,
        "unread": True,
        "oldestUnreadAt": "2026-11-22T11:03:20Z",
        "lagSeconds": 23.5 * HOUR,
        "hoursLeft": 0.5,
        "trimmed": False,
    }
    assert (shards[3]["unread"], shards[3]["lagSeconds"]) == (True, None)
    assert (lost["type"], lost["shardId"]) == ("lost", shards[0]["shardId"])
    assert summary == {
        "type": "summary",
        "consumer": "default",
        "table": "users",
        "streamArn": ARN,
        "owner": {
            "pid": 4711,
            "host": "web-1",
            "since": "2026-11-23T08:33:20Z",
            "heardAt": "2026-11-23T10:33:19Z",
        },
        "heardAt": "2026-11-23T10:33:19Z",
        "oldestUnreadAt": "2026-11-22T11:03:20Z",
        "lagSeconds": 23.5 * HOUR,
        "hoursLeft": 0.5,
        "shards": 8,
        "unread": 4,
        "finished": 3,
        "reopened": [],
        "trimmed": 1,
        "published": 48112,
        "skipped": 301,
        "parked": 2,
        "lost": 1,
        "deadLetters": 2,
        "resolved": {"redriven": 0, "skipped": 0, "dropped": 0},
        "unfinishedStreams": [],
        "usage": {
            "run": {
                "startedAt": "2026-11-23T08:33:20Z",
                "savedAt": "2026-11-23T10:33:19Z",
                "reads": 28804,
                "requests": 4900,
                "events": 48112,
                "chunks": 48300,
                "puts": 2,
                "cost": 0.0540708,
            },
            "total": {
                "reads": 28814,
                "requests": 4901,
                "events": 48115,
                "chunks": 48303,
                "puts": 2,
                "cost": 0.0540758,
            },
        },
        "at": "2026-11-23T10:33:20Z",
    }


def test_a_stream_without_shards_and_strange_names_are_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(Console("lines"), standing(host="a\x1b[2Jb", dead_letters=0))
    said = capsys.readouterr().out
    assert "shards    3 shards, 3 finished\n" in said
    assert said.endswith("lag       all read\n")
    assert "\x1b" not in said


def test_every_state_has_its_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Console, "colour", True)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    print_rows(Console("rich"), standing(*SHARDS))
    said = capsys.readouterr().out
    for words in ("records are lost", "30 m 0 s", "2 dead letters wait"):
        assert f"\x1b[31m{words}" in said
    assert "\x1b[33m4 h 0 m" in said


# The owner


def test_the_lock_file_says_whether_an_owner_on_this_machine_lives(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with closing(Database(file)) as database:
        assert owner_of(database, "default", ARN) is None
        store = SqliteStore(database, "default", ARN, lambda: NOW, "here")
        asyncio.run(store.claim())
        # However long ago it was heard of.
        later = owner_of(database, "default", ARN, lambda: NOW + HOUR, "here")
        assert later == Owner("here", os.getpid(), NOW, NOW, True)
        assert owner_of(database, "other", ARN) is None
        asyncio.run(store.release())
        assert owner_of(database, "default", ARN) is None


def test_what_was_redriven_is_told_beside_what_was_parked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    resolved = {How.REDRIVEN: 2, How.SKIPPED: 0, How.DROPPED: 1}
    print_rows(Console("lines"), standing(dead_letters=0, resolved=resolved))
    assert "resolved  2 redriven, 1 dropped, of those that were parked" in capsys.readouterr().out
    print_objects(Console("json"), standing(dead_letters=0, resolved=resolved))
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["resolved"] == {"redriven": 2, "skipped": 0, "dropped": 1}


def test_the_lease_says_whether_an_owner_on_another_machine_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ddbrelay.lock.filesystem_of", lambda _: "nfs4")
    with closing(Database(tmp_path / "state.db")) as database:
        store = SqliteStore(database, "default", ARN, lambda: NOW, "elsewhere")
        asyncio.run(store.claim())
        for seconds, alive in ((LEASE - 1, True), (LEASE + 1, False)):
            now = NOW + seconds
            found = owner_of(database, "default", ARN, lambda now=now: now, "here")  # type: ignore[misc]
            assert found == Owner("elsewhere", os.getpid(), NOW, NOW, alive)
        asyncio.run(store.release())
