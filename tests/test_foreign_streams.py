"""Streams of servers that are not AWS, whose ARNs do not tell the table: every command knows it."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from pipeline import clear_error, state_file

from ddbrelay.aws.table import TableStream
from ddbrelay.cli import main as cli_main
from ddbrelay.flow.capture import Position
from ddbrelay.flow.tracking import Account, DeadLetter, Fate, Line
from ddbrelay.stores.database import Database
from ddbrelay.stores.letters import waiting
from ddbrelay.stores.ownership import owners_of
from ddbrelay.stores.sqlite import Bookmarks, SqliteStore, consumers, forget_table
from ddbrelay.stores.streams import Tables, note

AWS = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-11-23T10:31:02.123"
ALTERNATOR = "S8ad65ac0-1b4d-11f0-8b3a-4d1f6b8c0b7e"
KEYSPACE = "arn:scylla:dynamodb:::table/alternator_items@items_scylla_cdc_log/stream/2026"
UNKNOWN = "S00000000-1b4d-11f0-8b3a-4d1f6b8c0b7e"
TABLE_ARN = "arn:scylla:alternator:ks:scylla:table/{}"
FORMS = [(ALTERNATOR, "users"), (KEYSPACE, "items")]


def keep(database: Database, arn: str) -> None:
    """A checkpoint, a bookmark, a ledger and a dead letter on this stream."""
    store = SqliteStore(database, "default", arn)
    asyncio.run(store.begin([Position("s", sequence="7")]))
    parked = Account("s", [Line(Fate.PARKED, "", 1, "7", "7")])
    asyncio.run(store.save([Position("s", sequence="7")], [parked]))
    letter = DeadLetter("s", "7", b'{"id":{"S":"ada"}}', "bad", b"{}", None, 1, 1.0, False)
    asyncio.run(store.park([letter]))


@pytest.fixture
def state(bare_cli: Cli) -> Path:
    file = state_file(bare_cli)
    file.parent.mkdir(parents=True)
    with closing(Database(file)) as database:
        for arn, name in FORMS:
            note(database, arn, name, TABLE_ARN.format(name))
        for arn in (AWS, ALTERNATOR, KEYSPACE, UNKNOWN):
            keep(database, arn)
    return file


@pytest.mark.usefixtures("state")
def test_a_list_has_every_stream_under_the_name_of_its_table(bare_cli: Cli) -> None:
    listed = bare_cli.json("positions", "list")
    named = {(one["type"], one["table"]) for one in listed}
    tables = ("orders", "users", "items", UNKNOWN)
    assert named == {(kind, table) for kind in ("checkpoint", "bookmark") for table in tables}
    lines = bare_cli.ok("positions", "list").stdout.splitlines()
    assert len(lines) == 8
    only = bare_cli.json("positions", "list", "--table", "users")
    assert {one["streamArn"] for one in only} == {ALTERNATOR}


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("table", ["orders", "users", "items", UNKNOWN])
@pytest.mark.parametrize(
    "words",
    [("positions", "show"), ("ledger",), ("report",), ("dead-letters", "list")],
    ids=lambda words: " ".join(words),
)
def test_each_command_finds_the_table_by_its_name(
    bare_cli: Cli, words: tuple[str, ...], table: str
) -> None:
    found = bare_cli.json(*words, "--table", table)
    assert {one["table"] for one in found if "table" in one} == {table}


@pytest.mark.usefixtures("state")
def test_who_names_no_table_is_told_which_there_are(bare_cli: Cli) -> None:
    for words in (("ledger",), ("positions", "show"), ("dead-letters", "list"), ("report",)):
        done = bare_cli.run(*words)
        clear_error(done, 2, f"on several tables: {UNKNOWN}, items, orders, users", "--table")


@pytest.mark.usefixtures("state")
def test_a_replay_from_a_bookmark_of_another_table_names_both(bare_cli: Cli) -> None:
    listed = bare_cli.json("positions", "list", "--table", "users")
    (mark,) = [one for one in listed if one["type"] == "bookmark"]
    done = bare_cli.run("replay", "--from", mark["name"], "--table", "orders")
    clear_error(done, 2, 'is of table "users", not of "orders"')


@pytest.mark.parametrize("arn", [arn for arn, _ in FORMS])
@pytest.mark.usefixtures("state")
def test_what_is_exported_brings_the_table_along(bare_cli: Cli, tmp_path: Path, arn: str) -> None:
    table = dict(FORMS)[arn]
    text = bare_cli.ok("positions", "export", "--table", table).stdout
    assert json.loads(text)["table"] == {"name": table, "arn": TABLE_ARN.format(table)}
    (tmp_path / "p.json").write_text(text)
    elsewhere = ("--state", str(tmp_path / "other.db"))
    bare_cli.ok("positions", "import", str(tmp_path / "p.json"), "--checkpoint", *elsewhere)
    listed = bare_cli.json("positions", "list", *elsewhere)
    assert {(one["table"], one["streamArn"]) for one in listed} == {(table, arn)}


def test_a_file_that_names_no_table_is_refused(bare_cli: Cli, tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "format": "ddbrelay-positions",
        "version": 1,
        "name": "x",
        "consumer": "default",
        "streamArn": UNKNOWN,
        "savedAt": 1.0,
        "positions": [],
    }
    (tmp_path / "p.json").write_text(json.dumps(said))
    clear_error(bare_cli.run("positions", "import", str(tmp_path / "p.json")), 2, "$.streamArn")


def test_a_deleted_table_takes_its_checkpoints_along_and_no_others(state: Path) -> None:
    with closing(Database(state)) as database:
        store = SqliteStore(database, "default", ALTERNATOR)
        asyncio.run(store.claim())
        ((consumer, _),) = owners_of(database, TABLE_ARN.format("users"))
        assert consumer == "default"
        asyncio.run(store.release())
        assert forget_table(database, TABLE_ARN.format("users")) == 1
        assert {one.stream_arn for one in consumers(database)} == {AWS, KEYSPACE, UNKNOWN}


def test_dead_letters_of_a_table_are_counted_on_all_its_streams_and_no_others(state: Path) -> None:
    later, longer = f"{ALTERNATOR[:-1]}f", f"{KEYSPACE.partition('@')[0]}_old@x/stream/2026"
    with closing(Database(state)) as database:
        note(database, later, "users", TABLE_ARN.format("users"))
        note(database, longer, "items_old", TABLE_ARN.format("items_old"))
        for arn in (later, longer, AWS.replace("orders", "orders-old"), f"{AWS[:-3]}456"):
            keep(database, arn)
        counts = [(ALTERNATOR, 2), (later, 2), (KEYSPACE, 1), (longer, 1), (AWS, 2), (UNKNOWN, 1)]
        assert [(arn, waiting(database, "default", arn)) for arn, _ in counts] == counts
        assert waiting(database, "another", ALTERNATOR) == 0


def test_a_relay_stores_the_table_before_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Reading(Exception):
        pass

    def reading(*_: Any) -> None:
        raise Reading

    arn = TABLE_ARN.format("users")
    stream = TableStream("users", ALTERNATOR, "NEW_AND_OLD_IMAGES", True, table_arn=arn)
    monkeypatch.setattr("ddbrelay.aws.table.stream_of", lambda *_: stream)
    monkeypatch.setattr("ddbrelay.aws.table.check_bus", lambda *_: None)
    monkeypatch.setattr("ddbrelay.cli.tail._run", reading)
    monkeypatch.setenv("DDBRELAY_STATE_DIR", str(tmp_path))
    words = ["tail", "--table", "users", "--forward", "--region", "eu-west-1"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Reading):
        cli_main.cli.main(words, standalone_mode=False, obj=cli_main.Run())
    (file,) = tmp_path.rglob("*.db")
    with closing(Database(file)) as database:
        assert Tables(database).of(ALTERNATOR) == ("users", arn)
        assert Bookmarks(database).all() == []
