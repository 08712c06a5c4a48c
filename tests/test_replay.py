"""`ddbrelay replay`: from every kind of position, and the live checkpoint stays where it is."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, clear_error, event_ids, objects, rows, seen_keys, state_file

from ddbrelay.aws.session import Aws
from ddbrelay.flow.capture import Position
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore

pytestmark = pytest.mark.moto_first

Waiter = Callable[[Callable[[], bool], float], None]
FORWARD = ("tail", "--forward", "--until-idle", "0")


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


@pytest.fixture
def relayed(cli: Cli, pipe: Pipeline) -> Pipeline:
    """A and B are created and relayed, then A is changed and deleted, and C created."""
    pipe.put("a")
    pipe.put("b")
    at = Position(pipe.shard, sequence=pipe.sequences()[-1])
    state_file(cli).parent.mkdir(parents=True)
    with closing(Database(state_file(cli))) as database:
        store = SqliteStore(database, "default", pipe.stream_arn)
        asyncio.run(store.begin([Position(pipe.shard)]))
        asyncio.run(store.save([at]))
    pipe.put("a")
    pipe.delete("a")
    pipe.put("c")
    return pipe


def live(cli: Cli) -> list[tuple[Any, ...]]:
    """Every checkpoint, to the byte."""
    return rows(cli, "SELECT * FROM positions ORDER BY consumer, stream_arn, shard_id")


def said(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Item and detail type of each event; sorted, since items go in parallel."""
    events = [one for one in found if one["type"] == "event"]
    return sorted((e["change"]["keys"]["id"], e["event"]["detailType"][-7:]) for e in events)


def write_bookmark(cli: Cli, pipe: Pipeline, name: str, **position: Any) -> None:
    """A file that `positions import` takes in, with one shard."""
    mark = {
        "format": "ddbrelay-positions",
        "version": 1,
        "name": name,
        "consumer": "default",
        "streamArn": pipe.stream_arn,
        "savedAt": time.time(),
        "positions": [{"shardId": pipe.shard} | position],
    }
    file = cli.directory / f"{name}.json"
    file.write_text(json.dumps(mark))
    cli.ok("positions", "import", str(file), "--force")


@pytest.mark.slow
def test_a_preview_from_the_checkpoint_sends_nothing_and_a_forwarding_one_does(
    cli: Cli, relayed: Pipeline
) -> None:
    before = live(cli)
    shown = cli.json("replay", "--from", "checkpoint")
    assert said(shown) == [("a", "Deleted"), ("a", "Updated"), ("c", "Created")]
    assert {e["receipt"]["state"] for e in shown[:-1]} == {"preview"}
    assert (shown[-1]["forward"], shown[-1]["end"]) == (False, "idle")
    assert relayed.received() == []

    sent = cli.json("replay", "--from", "checkpoint", "--forward", "--max-records", "3")
    assert said(sent) == said(shown)
    assert {e["receipt"]["state"] for e in sent[:-1]} == {"published"}
    ids = [record["eventID"] for record in relayed.records()]
    arrived = relayed.received()
    assert sorted(event_ids(arrived)) == sorted(ids[2:])
    assert [e["detail-type"][-7:] for e in arrived if e["detail"]["id"] == "a"] == [
        "Updated",
        "Deleted",
    ]
    assert live(cli) == before
    # The relay goes on from its own checkpoint, whatever was replayed.
    assert said(cli.json(*FORWARD)) == said(shown)


@pytest.mark.slow
def test_bookmarks_of_the_user_and_of_each_run(cli: Cli, relayed: Pipeline) -> None:
    cli.ok("positions", "save", "before-deploy")
    cli.ok(*FORWARD)
    before = live(cli)
    mine = cli.json("replay", "--from", "before-deploy", "--max-records", "3")
    assert said(mine) == [("a", "Deleted"), ("a", "Updated"), ("c", "Created")]
    automatic = [m["name"] for m in cli.json("positions", "list") if m.get("automatic")]
    assert len(automatic) == 2
    latest = cli.json("replay", "--from", automatic[0], "--max-records", "3")
    assert said(latest) == said(mine)
    first = cli.json("replay", "--from", automatic[1], "--max-records", "5")
    assert seen_keys(first)[:2] == ["a", "b"]
    assert first[-1]["read"] == 5
    assert live(cli) == before


@pytest.mark.parametrize("age", [0, 16 * 60])
def test_a_stored_iterator_that_no_longer_works_gives_way_to_the_sequence_number(
    cli: Cli, relayed: Pipeline, age: float
) -> None:
    write_bookmark(
        cli,
        relayed,
        "old",
        sequence=relayed.sequences()[2],
        iterator=f"{relayed.stream_arn}|1|rubbish",
        iteratorAt=time.time() - age,
    )
    done = cli.ok("replay", "--from", "old", "--max-records", "2", "--output", "json")
    assert said(objects(done.stdout)) == [("a", "Deleted"), ("c", "Created")]
    assert done.stderr == "mapping: default mapping\n"


def test_a_shard_and_a_sequence_number(cli: Cli, relayed: Pipeline) -> None:
    before = live(cli)
    where = f"{relayed.shard}:{relayed.sequences()[3]}"
    found = cli.json("replay", "--sequence", where, "--max-records", "2")
    assert said(found) == [("a", "Deleted"), ("c", "Created")]
    assert live(cli) == before


def test_an_iterator_fresh_from_the_sdk(cli: Cli, relayed: Pipeline) -> None:
    iterator = relayed.iterator(
        ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=relayed.sequences()[1]
    )
    sent = cli.json("replay", "--iterator", iterator, "--max-records", "3", "--forward")
    assert said(sent) == [("a", "Deleted"), ("a", "Updated"), ("c", "Created")]
    assert len(relayed.received()) == 3


@pytest.mark.slow
def test_a_stretch_of_time(cli: Cli, pipe: Pipeline, wait_until: Waiter) -> None:
    def next_second() -> datetime:
        now = int(time.time())
        wait_until(lambda: int(time.time()) > now, 5)
        return datetime.fromtimestamp(now + 1, UTC)

    pipe.put("before")
    since = next_second()
    pipe.put("within")
    until = next_second()
    # The end itself belongs to it, in whole seconds, since AWS keeps no finer time.
    wait_until(lambda: time.time() > until.timestamp() + 1, 5)
    pipe.put("after")
    stretch = ("--since", since.isoformat(), "--until", until.isoformat())
    bounded = cli.json("replay", *stretch, "--max-records", "2", "--timeout", "20s")
    assert seen_keys(bounded) == ["within"]
    # Without an end it ends with what was written before it began.
    assert seen_keys(cli.json("replay", "--since", "1h")) == ["before", "within", "after"]
    assert not rows(cli, "SELECT * FROM positions")


@pytest.mark.slow
@ON_MOTO
def test_filters_by_key_detail_type_and_rule(cli: Cli, relayed: Pipeline) -> None:
    def found(*filters: str) -> list[tuple[str, str]]:
        return said(cli.json("replay", "--since", "1h", "--max-records", "5", *filters))

    entity = relayed.table[0].upper() + relayed.table[1:]
    assert found("--key", "id=a", "--rule", "deleted") == [("a", "Deleted")]
    assert found("--key", "id=b", "--key", "id=c") == [("b", "Created"), ("c", "Created")]
    assert found("--detail-type", f"{entity}Updated") == [("a", "Updated")]
    assert found("--rule", "created", "--key", "id=a") == [("a", "Created")]
    assert found("--key", "other=a") == []


@pytest.mark.slow
def test_what_can_no_longer_be_read_is_a_clear_error(
    cli: Cli, relayed: Pipeline, engine: Any
) -> None:
    before = live(cli)
    gone = "shardId-00000001000000000000-deadbeef"
    write_bookmark(cli, relayed, "gone", shardId=gone, sequence="1" * 21)
    done = cli.run("replay", "--from", "gone", "--forward")
    clear_error(done, 4, f"the records of shard {gone} after {'1' * 21} cannot be read any more")
    clear_error(cli.run("replay", "--sequence", f"{gone}:{'1' * 21}"), 4, gone)
    clear_error(cli.run("replay", "--iterator", "rubbish"), 4, "older than 15 minutes")
    if engine.name == "ministack":
        # moto trims nothing; this one answers TrimmedDataAccessException for what it has not.
        write_bookmark(cli, relayed, "trimmed", sequence="1" * 21)
        done = cli.run("replay", "--from", "trimmed", "--forward")
        clear_error(done, 4, f"after {'1' * 21}", "trim horizon", "--since TIME")
    assert relayed.received() == []
    assert live(cli) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "say where to start, in one way"),
        (("--since", "1h", "--from", "x"), "say where to start, in one way"),
        (("--from", "nosuch"), 'there is no bookmark "nosuch"'),
        (("--from", "checkpoint"), 'consumer "default" has no checkpoint on table "users"'),
        (("--sequence", "12345"), '--sequence: "12345" is not SHARD:NUMBER'),
        (("--sequence", "shard:12x"), '--sequence: "shard:12x" is not SHARD:NUMBER'),
        (("--since", "tomorrow"), "--since: 'tomorrow' is neither an ISO time"),
        (("--since", "1h", "--until", "2999-01-01"), "--until: '2999-01-01' lies in the future"),
        (("--since", "1h", "--until", "2h"), "--until lies before --since"),
        (("--since", "1h", "--key", "id"), '--key: "id" is not NAME=VALUE'),
        (("--since", "1h", "--max-records", "0"), "'--max-records': 0 is not in the range x>=1"),
        (("--since", "1h", "--timeout", "soon"), "'soon' is not a duration"),
    ],
)
def test_wrong_usage_is_one_line(bare_cli: Cli, words: tuple[str, ...], says: str) -> None:
    bare_cli.environment |= {"DDBRELAY_LOCAL": "1", "DDBRELAY_ENDPOINT_URL": "http://127.0.0.1:9"}
    clear_error(bare_cli.run("replay", "--table", "users", *words), 2, says)
    assert not rows(bare_cli, "SELECT * FROM bookmarks")


@ON_MOTO
def test_a_bookmark_of_another_table_is_refused(cli: Cli, relayed: Pipeline) -> None:
    cli.ok("positions", "save", "mine")
    done = cli.run("replay", "--from", "mine", "--table", "orders")
    clear_error(done, 2, f'bookmark "mine" is of table "{relayed.table}", not of "orders"')
    # Without a table in the settings the bookmark says which one.
    del cli.environment["DDBRELAY_TABLE"]
    assert cli.json("replay", "--from", "mine", "--max-records", "3")[-1]["read"] == 3
    assert state_file(cli).exists()
