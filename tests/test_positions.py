"""`ddbrelay positions`: checkpoints and bookmarks in the state file; nothing of AWS is asked."""

from __future__ import annotations

import asyncio
import json
import subprocess
from contextlib import closing
from typing import Any

import pytest
from conftest import Cli
from pipeline import clear_error, rows, state_file

from ddbrelay.flow.capture import Position, Start
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import AUTOMATIC_KEPT, SqliteStore

STREAM = "arn:aws:dynamodb:eu-west-1:123456789012:table/{}/stream/2026-11-23T10:31:02.123"
FIRST = Position(
    "shardId-00000001795439861487-aaaaaaaa",
    start=Start.LATEST,
    start_time=1795430000.25,
    sequence="100000000000000000001",
    iterator="an-iterator",
    iterator_at=1795430100.0,
)
SECOND = Position("shardId-00000001795439861488-bbbbbbbb", FIRST.shard_id, finished=True)
THIRD = Position("shardId-1", start=Start.AT_SEQUENCE, start_sequence="100000000000000000001")


def stand(
    cli: Cli, *positions: Position, table: str = "users", consumer: str = "default", at: float = 1e9
) -> None:
    """Let a consumer have a checkpoint, as a forwarding run leaves it."""
    state_file(cli).parent.mkdir(parents=True, exist_ok=True)
    with closing(Database(state_file(cli))) as database:
        store = SqliteStore(database, consumer, STREAM.format(table), lambda: at)
        asyncio.run(store.save(positions or (FIRST, SECOND)))


def exported(cli: Cli, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cli.ok("positions", "export", *words).stdout)
    return found


def everything(cli: Cli) -> list[tuple[Any, ...]]:
    return rows(cli, "SELECT * FROM positions") + rows(cli, "SELECT * FROM bookmarks")


def test_nothing_stored_yet_says_what_makes_a_checkpoint(bare_cli: Cli) -> None:
    done = bare_cli.ok("positions", "list")
    assert (done.stdout, done.stderr) == (
        "",
        "nothing is stored yet\nnext: ddbrelay tail --forward\n",
    )
    assert bare_cli.ok("positions", "list", "--output", "json").stdout == ""
    for words in (("show",), ("save", "x"), ("export",)):
        done = bare_cli.run("positions", *words, "--table", "users")
        clear_error(done, 2, 'error: consumer "default" has no checkpoint on table "users"')
    assert everything(bare_cli) == []


def test_the_checkpoint_is_listed_and_shown(bare_cli: Cli) -> None:
    stand(bare_cli)
    (listed,) = bare_cli.json("positions", "list")
    assert listed == {
        "type": "checkpoint",
        "consumer": "default",
        "table": "users",
        "streamArn": STREAM.format("users"),
        "shards": 2,
        "parked": 0,
        "savedAt": "2001-09-09T01:46:40Z",
    }
    (shown,) = bare_cli.json("positions", "show")
    assert shown["type"] == "checkpoint"
    assert shown["positions"] == [
        {
            "shardId": FIRST.shard_id,
            "parentShardId": None,
            "start": "latest",
            "startTime": "2026-11-23T10:33:20.250Z",
            "sequenceNumber": "100000000000000000001",
            "iterator": "an-iterator",
            "iteratorAt": "2026-11-23T10:35:00Z",
            "finished": False,
        },
        {
            "shardId": SECOND.shard_id,
            "parentShardId": FIRST.shard_id,
            "start": "trim-horizon",
            "startTime": None,
            "sequenceNumber": None,
            "iterator": None,
            "iteratorAt": None,
            "finished": True,
        },
    ]
    assert bare_cli.ok("positions", "list").stdout == (
        "checkpoint  default  users  2 shards  2001-09-09T01:46:40Z\n"
    )
    assert bare_cli.ok("positions", "show").stdout.splitlines() == [
        "consumer  default",
        f"stream    {STREAM.format('users')}",
        "saved     2001-09-09T01:46:40Z",
        f"{FIRST.shard_id}  after 100000000000000000001  iterator expired",
        f"{SECOND.shard_id}  finished",
    ]


def test_a_bookmark_is_saved_shown_replaced_and_deleted(bare_cli: Cli) -> None:
    stand(bare_cli)
    done = bare_cli.ok("positions", "save", "before-deploy")
    assert done.stdout == ""
    assert done.stderr.splitlines()[0] == 'saved "before-deploy", 2 shards'
    assert done.stderr.splitlines()[1].endswith("replay --from before-deploy")
    kept = exported(bare_cli, "before-deploy")

    stand(bare_cli, Position(FIRST.shard_id, sequence="100000000000000000009"))
    twice = bare_cli.run("positions", "save", "before-deploy")
    clear_error(twice, 2, 'a bookmark "before-deploy" exists already', "hint: --force replaces it")
    assert exported(bare_cli, "before-deploy") == kept

    (saved,) = bare_cli.json("positions", "save", "before-deploy", "--force")
    assert (saved["type"], saved["name"], saved["automatic"]) == (
        "bookmark",
        "before-deploy",
        False,
    )
    (shown,) = bare_cli.json("positions", "show", "before-deploy")
    assert shown["positions"][0]["sequenceNumber"] == "100000000000000000009"
    assert shown["savedAt"] == saved["savedAt"] > "2026"

    assert bare_cli.json("positions", "delete", "before-deploy") == [
        {"type": "deleted", "name": "before-deploy"}
    ]
    for words in (("delete",), ("show",), ("export",)):
        done = bare_cli.run("positions", *words, "before-deploy")
        clear_error(done, 2, 'there is no bookmark "before-deploy"', "positions list")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", " ", "-x", "a b", "../x", "ä", "x" * 101, "checkpoint"])
def test_a_name_that_is_none_is_refused(bare_cli: Cli, name: str) -> None:
    stand(bare_cli)
    clear_error(bare_cli.run("positions", "save", "--", name), 2, "is no name for a bookmark")
    assert rows(bare_cli, "SELECT * FROM bookmarks") == []


@pytest.mark.slow
def test_an_exported_bookmark_comes_back_the_same_elsewhere(bare_cli: Cli) -> None:
    stand(bare_cli, FIRST, SECOND, THIRD)
    bare_cli.ok("positions", "save", "mark")
    file = bare_cli.directory / "mark.json"
    file.write_text(bare_cli.ok("positions", "export", "mark").stdout)
    here = bare_cli.json("positions", "show", "mark")

    bare_cli.environment["DDBRELAY_STATE_DIR"] = str(bare_cli.directory / "another")
    bare_cli.ok("positions", "import", str(file))
    assert bare_cli.json("positions", "show", "mark") == here
    assert bare_cli.ok("positions", "export", "mark").stdout == file.read_text()
    assert rows(bare_cli, "SELECT * FROM positions") == []

    clear_error(bare_cli.run("positions", "import", str(file)), 2, "exists already", "--force")
    bare_cli.ok("positions", "import", str(file), "--name", "other")
    bare_cli.ok("positions", "import", str(file), "--force")
    names = [one["name"] for one in bare_cli.json("positions", "list")]
    assert sorted(names) == ["mark", "other"]


def test_an_exported_checkpoint_becomes_the_checkpoint_elsewhere(bare_cli: Cli) -> None:
    stand(bare_cli)
    file = bare_cli.directory / "checkpoint.json"
    file.write_text(bare_cli.ok("positions", "export").stdout)
    (there,) = bare_cli.json("positions", "show")
    # A checkpoint that is further, with a shard that the imported one does not know.
    further = Position(FIRST.shard_id, sequence="100000000000000000009")
    child = Position("shardId-00000001795439861489-cccccccc", FIRST.shard_id, sequence="1" * 21)
    stand(bare_cli, further, SECOND, child)

    (kept,) = bare_cli.json("positions", "import", str(file), "--name", "only-kept")
    assert kept["checkpoint"] is False
    (made,) = bare_cli.json("positions", "import", str(file), "--checkpoint")
    assert made["checkpoint"] is True
    (here,) = bare_cli.json("positions", "show")
    assert here["positions"] == there["positions"]
    assert here["streamArn"] == there["streamArn"]


def test_a_file_may_come_from_standard_input(bare_cli: Cli) -> None:
    stand(bare_cli)
    bare_cli.ok("positions", "save", "mark")
    text = bare_cli.ok("positions", "export", "mark").stdout
    done = subprocess.run(
        bare_cli.arguments("positions", "import", "-", "--name", "piped"),
        cwd=bare_cli.directory,
        env=bare_cli.env(),
        input=text,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert exported(bare_cli, "piped")["positions"] == json.loads(text)["positions"]


def _changed(**fields: Any) -> str:
    good: dict[str, Any] = {
        "format": "ddbrelay-positions",
        "version": 1,
        "name": "mark",
        "consumer": "default",
        "streamArn": STREAM.format("users"),
        "savedAt": 1e9,
        "positions": [{"shardId": "s"}],
    }
    return json.dumps({k: v for k, v in (good | fields).items() if v is not ...})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read: Input data was truncated"),
        ("no JSON", "cannot be read: JSON is malformed"),
        ("\x00\xff", "cannot be read"),
        ("[]", "holds no positions"),
        ('{"a": 1}', "holds no positions"),
        (_changed(format="other"), "holds no positions"),
        (_changed(version=2), "was written by a newer ddbrelay (format 2)"),
        (_changed(surprise=1), "unknown field `surprise`"),
        (_changed(consumer=...), "missing required field `consumer`"),
        (_changed(positions=[{"shardId": 1}]), "`$.positions[0].shardId`"),
        (_changed(positions=[{"shardId": "s", "sequnce": "1"}]), "unknown field `sequnce`"),
        (_changed(positions=[{"shardId": "s", "start": "soon"}]), "$.positions[0].start"),
        (_changed(streamArn="users"), "streamArn"),
        (_changed(savedAt=1e300), "savedAt"),
        (_changed(name="../../x"), "is no name for a bookmark"),
    ],
)
def test_a_bad_file_is_one_line_that_says_where(bare_cli: Cli, text: str, says: str) -> None:
    file = bare_cli.directory / "bad.json"
    file.write_bytes(text.encode("latin-1"))
    clear_error(bare_cli.run("positions", "import", str(file), "--checkpoint"), 2, says)
    assert everything(bare_cli) == []


def test_a_missing_file_and_a_directory_are_one_line(bare_cli: Cli) -> None:
    clear_error(bare_cli.run("positions", "import", "nosuch.json"), 2, "nosuch.json")
    clear_error(bare_cli.run("positions", "import", "."), 2, "cannot read .")
    assert not state_file(bare_cli).exists()


def test_a_consumer_on_several_tables_is_asked_which(bare_cli: Cli) -> None:
    stand(bare_cli, table="users")
    stand(bare_cli, FIRST, table="orders")
    stand(bare_cli, table="third", consumer="other")
    for words in (("show",), ("save", "x"), ("export",)):
        done = bare_cli.run("positions", *words)
        clear_error(
            done,
            2,
            'consumer "default" has checkpoints on several tables: orders, users',
            "--table",
        )
    (shown,) = bare_cli.json("positions", "show", "--table", "orders")
    assert (shown["table"], shown["shards"]) == ("orders", 1)
    (shown,) = bare_cli.json("positions", "show", "--consumer", "other")
    assert shown["table"] == "third"


def test_the_bookmarks_of_the_last_runs_are_kept_and_those_of_users_always(bare_cli: Cli) -> None:
    stand(bare_cli)
    bare_cli.ok("positions", "save", "mine")
    clock = iter(range(2 * AUTOMATIC_KEPT * 10))
    with closing(Database(state_file(bare_cli))) as database:
        for _ in range(AUTOMATIC_KEPT + 5):
            at = float(next(clock))
            for consumer in ("default", "other"):
                store = SqliteStore(database, consumer, STREAM.format("users"), lambda at=at: at)
                asyncio.run(store.begin([FIRST]))
    marks = [one for one in bare_cli.json("positions", "list") if one["type"] == "bookmark"]
    assert [mark["name"] for mark in marks if not mark["automatic"]] == ["mine"]
    for consumer in ("default", "other"):
        kept = [m["savedAt"] for m in marks if m["automatic"] and m["consumer"] == consumer]
        assert len(kept) == AUTOMATIC_KEPT
        assert kept[-1] == "1970-01-01T00:00:05Z"
