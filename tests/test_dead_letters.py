"""`ddbrelay dead-letters`: looking at parked records, sending them again and dropping them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sqlite3
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from conftest import Cli
from pipeline import Pipeline, clear_error, objects, rows, state_file

from ddbrelay.aws.session import Aws
from ddbrelay.cli.console import Console
from ddbrelay.cli.letters import show_table
from ddbrelay.cli.selection import items_of
from ddbrelay.cli.view.rows import Shown
from ddbrelay.errors import StateError
from ddbrelay.flow.capture import Position
from ddbrelay.flow.mapping import CrudMapper
from ddbrelay.flow.tracking import Account, DeadLetter, Fate, Line
from ddbrelay.output.words import outcome_line
from ddbrelay.relay import Outcome
from ddbrelay.stores.database import Database
from ddbrelay.stores.ledger import EARLIER, snapshot
from ddbrelay.stores.letters import Letters, Parked
from ddbrelay.stores.parking import How
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing.builders import change as changed

STREAM = "arn:aws:dynamodb:eu-west-1:123456789012:table/{}/stream/2026-11-2{}T10:31:02.123"
USERS = STREAM.format("users", 3)
AT = 1_795_430_000.0
BEHIND = "an earlier event of this item is parked"


def letter(
    key: str,
    number: int,
    *,
    behind: bool = False,
    reason: str = "MalformedDetail: bad",
    event: bool = True,
    event_id: str | None = None,
    at: float = AT,
    shard: str = "shardId-1",
) -> DeadLetter:
    source = changed(
        key, 10**20 + number, new={"id": key, "n": number}, event_id=event_id, shard_id=shard
    )
    made = CrudMapper("users")(source)
    return DeadLetter(
        shard,
        source.sequence_number,
        source.item_key,
        BEHIND if behind else reason,
        msgspec.json.encode(source.record),
        msgspec.json.encode(made) if event else None,
        0 if behind else 2,
        at + number,
        behind,
    )


def keep(
    cli: Cli, *letters: DeadLetter, stream_arn: str = USERS, consumer: str = "default"
) -> None:
    """Let a consumer have dead letters, as a forwarding run leaves them."""
    state_file(cli).parent.mkdir(parents=True, exist_ok=True)
    with closing(Database(state_file(cli))) as database:
        store = SqliteStore(database, consumer, stream_arn)
        assert asyncio.run(store.park(letters)) == []


def sample() -> list[DeadLetter]:
    """Three of the item ada, and one of bob that has no event."""
    return [
        letter("ada", 1, event_id="aaaa1111"),
        letter("bob", 2, event_id="aaaa2222", reason="cannot be read: no JSON", event=False),
        letter("ada", 3, behind=True, event_id="bbbb3333"),
        letter("ada", 4, behind=True, event_id="cccc4444"),
    ]


def ids(cli: Cli) -> list[str]:
    return [one["id"] for one in cli.json("dead-letters", "list", "--behind")[:-1]]


# Looking


def test_no_dead_letters_is_no_fault(bare_cli: Cli) -> None:
    done = bare_cli.ok("dead-letters", "list")
    assert (done.stdout, done.stderr) == ("", "no dead letters\n")
    assert bare_cli.json("dead-letters", "list") == [
        {"type": "summary", "consumer": "default", "table": None, "items": 0, "deadLetters": 0}
    ]
    assert bare_cli.ok("dead-letters", "export").stdout == ""
    for words in (("redrive", "--all"), ("drop", "--all")):
        assert bare_cli.ok("dead-letters", *words).stdout == ""
    clear_error(bare_cli.run("dead-letters", "show", "x"), 2, 'has no dead letter "x"')


def test_each_item_has_a_line_with_what_waits_behind_its_head(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    done = bare_cli.ok("dead-letters", "list")
    assert done.stdout.splitlines() == [
        "2026-11-23T10:33:21Z aaaa1111 id=ada waiting=2 attempts=2 (MalformedDetail: bad)",
        "2026-11-23T10:33:22Z aaaa2222 id=bob waiting=0 attempts=2 (cannot be read: no JSON)",
    ]
    assert done.stderr.splitlines() == [
        "4 dead letters of 2 items",
        "next: ddbrelay dead-letters redrive --all --remap",
    ]
    assert len(bare_cli.ok("dead-letters", "list", "--behind").stdout.splitlines()) == 4


def test_the_objects_say_the_same_and_where_the_record_stands(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    *found, summary = bare_cli.json("dead-letters", "list", "--behind")
    assert [one["id"] for one in found] == ["aaaa1111", "bbbb3333", "cccc4444", "aaaa2222"]
    assert [one["behind"] for one in found] == [False, True, True, False]
    assert found[0] == {
        "type": "deadLetter",
        "id": "aaaa1111",
        "consumer": "default",
        "table": "users",
        "streamArn": USERS,
        "shardId": "shardId-1",
        "sequenceNumber": str(10**20 + 1),
        "keys": {"id": "ada"},
        "reason": "MalformedDetail: bad",
        "attempts": 2,
        "parkedAt": "2026-11-23T10:33:21Z",
        "behind": False,
        "waiting": 2,
    }
    assert (summary["items"], summary["deadLetters"]) == (2, 4)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (("--key", "id=ada"), ["ada"]),
        (("--key", "id=ada", "--key", "id=bob"), ["ada", "bob"]),
        (("--key", "id=ada", "--key", "other=x"), []),
        (("--reason", "malformed"), ["ada"]),
        (("--until", "2026-11-23T10:33:21Z"), ["ada"]),
        (("--since", "2026-11-23T10:33:22Z"), ["bob"]),
        (("--since", "2026-11-23T10:33:22Z", "--key", "id=ada"), []),
        (("--table", "users"), ["ada", "bob"]),
        (("--table", "orders"), []),
        (("--consumer", "other"), []),
    ],
)
def test_filters_look_at_the_head_of_each_item(
    bare_cli: Cli, words: Sequence[str], keys: list[str]
) -> None:
    keep(bare_cli, *sample())
    found = bare_cli.json("dead-letters", "list", *words)[:-1]
    assert [one["keys"]["id"] for one in found] == keys


def test_a_filter_that_is_none_is_one_clear_line(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    for words, says in (
        (("--key", "ada"), '--key: "ada" is not NAME=VALUE'),
        (("--since", "yesterday"), "--since: 'yesterday' is neither"),
    ):
        clear_error(bare_cli.run("dead-letters", "list", *words), 2, says)


def test_letters_on_two_tables_need_a_table(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    keep(bare_cli, letter("x", 1), stream_arn=STREAM.format("orders", 3))
    done = bare_cli.run("dead-letters", "list")
    clear_error(done, 2, "on several tables: orders, users", "--table")
    assert len(bare_cli.json("dead-letters", "list", "--table", "orders")) == 2


def test_the_letters_on_an_earlier_stream_of_the_table_come_first(bare_cli: Cli) -> None:
    keep(bare_cli, letter("new", 1, event_id="1"), stream_arn=STREAM.format("users", 4))
    keep(bare_cli, letter("old", 2, event_id="2", at=AT + 99), stream_arn=USERS)
    assert ids(bare_cli) == ["2", "1"]


def test_a_letter_is_shown_whole(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    done = bare_cli.ok("dead-letters", "show", "aaaa1")
    for part in (
        "id          aaaa1111",
        "item        id=ada",
        "change      INSERT 2026-01-01T00:00:00Z",
        "reason      MalformedDetail: bad",
        "attempts    2",
        "waiting     2: bbbb3333, cccc4444",
        '"detailType": "UserCreated"',
        '    "n": 1',
    ):
        assert part in done.stdout, part
    assert "next: ddbrelay dead-letters redrive aaaa1111" in done.stderr
    waits = bare_cli.ok("dead-letters", "show", "cccc")
    assert "behind      aaaa1111, 2 letters ahead" in waits.stdout
    none = bare_cli.ok("dead-letters", "show", "aaaa2").stdout
    assert "cannot be sent: no event is stored of it" in none
    remapped = bare_cli.ok("dead-letters", "show", "aaaa2", "--remap", "--entity", "Person").stdout
    assert '"detailType": "PersonCreated"' in remapped


def test_a_letter_as_an_object_has_its_record_and_its_event(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    (found,) = bare_cli.json("dead-letters", "show", "aaaa1111")
    assert found["record"]["dynamodb"]["NewImage"] == {"id": {"S": "ada"}, "n": {"N": "1"}}
    assert found["event"]["detail"] == {"id": "ada", "n": 1}
    assert (found["waitingIds"], found["head"]) == (["bbbb3333", "cccc4444"], "aaaa1111")
    (other,) = bare_cli.json("dead-letters", "show", "aaaa2222")
    assert other["event"] is None


@pytest.mark.slow
def test_an_id_that_may_be_several_names_them(bare_cli: Cli) -> None:
    keep(bare_cli, *sample(), letter("eve", 9, event_id="aaaa1111"))
    done = bare_cli.run("dead-letters", "show", "aaaa")
    clear_error(done, 2, '"aaaa" may be ', "shardId-1:100000000000000000009", "type more of the id")
    for same in ("aaaa1111", "aaaa1"):
        done = bare_cli.run("dead-letters", "show", same)
        clear_error(done, 2, "shardId-1:100000000000000000001, shardId-1:100000000000000000009")
    (found,) = bare_cli.json("dead-letters", "show", "shardId-1:100000000000000000009")
    assert found["keys"] == {"id": "eve"}
    clear_error(bare_cli.run("dead-letters", "show", "%"), 2, 'no dead letter "%"')
    clear_error(bare_cli.run("dead-letters", "show", ""), 2, 'no dead letter ""')


def test_many_ids_are_looked_up_together(database: Database) -> None:
    """Ids from a list that is piped back are as many as there are letters."""
    asyncio.run(
        SqliteStore(database, "default", USERS).park(
            [letter(f"i{n % 7}", n, event_id=f"{n:04}") for n in range(300)]
        )
    )
    statements: list[str] = []
    letters = Letters(database, "default", [USERS])
    database._connection.set_trace_callback(statements.append)
    found = letters.find(*(f"{n:04}" for n in range(300)), "0007")
    items = items_of(letters, [one.id for one in found])
    database._connection.set_trace_callback(None)
    assert [one.event_id for one in found] == [f"{n:04}" for n in range(300)]
    assert len(items) == 7
    reading_all = [one for one in statements if "ORDER BY event_id" in one]
    assert len(reading_all) == 2
    places = [one.place for one in found]
    statements.clear()
    database._connection.set_trace_callback(statements.append)
    assert letters.find(*places) == found
    database._connection.set_trace_callback(None)
    assert not [one for one in statements if "ORDER BY event_id" in one]


def test_a_table_fits_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with closing(Database(":memory:")) as database:
        store = SqliteStore(database, "default", USERS)
        long = [letter("k" * 200, 1, reason="because " * 40), letter("k" * 200, 2, behind=True)]
        asyncio.run(store.park([*long, *(letter(f"i{n}", n) for n in range(3, 80))]))
        found = Letters(database, "default", [USERS]).queues()
        assert show_table(Console("rich"), found, AT + 3600) == (78, 79)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["id", "item", "waiting", "parked", "reason"]
    assert len(lines) == 52
    assert lines[-1] == "28 more items; --output lines shows all"
    assert max(map(len, lines)) == 80
    assert "59 m 59 s ago" in lines[1]


def test_export_writes_whole_letters_in_the_order_of_sending(bare_cli: Cli, tmp_path: Path) -> None:
    keep(bare_cli, *sample())
    done = bare_cli.ok("dead-letters", "export")
    found = objects(done.stdout)
    assert [one["id"] for one in found] == ["aaaa1111", "bbbb3333", "cccc4444", "aaaa2222"]
    assert all(one["record"]["eventID"] == one["id"] for one in found)
    assert done.stderr == "exported 4 dead letters\n"
    target = tmp_path / "letters.jsonl"
    target.write_text("old")
    bare_cli.ok("dead-letters", "export", "--file", str(target), "--key", "id=ada")
    assert [json.loads(line)["id"] for line in target.read_text().splitlines()] == [
        "aaaa1111",
        "bbbb3333",
        "cccc4444",
    ]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    link = tmp_path / "link"
    link.symlink_to(target)
    bare_cli.ok("dead-letters", "export", "--file", str(link), "--key", "id=ada")
    assert link.is_symlink()
    done = bare_cli.run("dead-letters", "export", "--file", "/dev/full")
    clear_error(done, 2, "/dev/full cannot be written: No space left on device")
    assert Path("/dev/full").is_char_device()
    done = bare_cli.run("dead-letters", "export", "--file", str(tmp_path / "no" / "file"))
    clear_error(done, 2, "cannot be written: No such file or directory")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["letters.jsonl", "link", "state"]


# Dropping


@pytest.mark.slow
def test_dropping_the_head_makes_the_next_one_the_head(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    done = bare_cli.ok("dead-letters", "drop", "aaaa1", "--yes")
    assert done.stdout == "dropped aaaa1111 id=ada\n"
    assert done.stderr == "dropped 1 dead letter, 3 left\n"
    head = bare_cli.json("dead-letters", "list", "--key", "id=ada")[0]
    assert (head["id"], head["waiting"], head["behind"]) == ("bbbb3333", 1, False)
    assert head["reason"] == "not sent yet: what it waited for is gone"
    assert rows(bare_cli, "SELECT how, count FROM resolved") == [("dropped", 1)]
    dropped, summary = bare_cli.json("dead-letters", "drop", "cccc", "--yes")
    assert (dropped["type"], dropped["id"]) == ("dropped", "cccc4444")
    whose = {"consumer": "default", "table": "users"}
    assert summary == {"type": "summary", **whose, "dropped": 1, "remaining": 2}
    bare_cli.ok("dead-letters", "drop", "--reason", "cannot be read", "--yes")
    assert ids(bare_cli) == ["bbbb3333"]
    bare_cli.ok("dead-letters", "drop", "--all", "--yes")
    assert rows(bare_cli, "SELECT how, count FROM resolved") == [("dropped", 4)]


@pytest.mark.slow
def test_dropping_needs_a_yes_and_a_choice(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    done = bare_cli.run("dead-letters", "drop", "--key", "id=ada")
    clear_error(done, 2, "dropping 3 dead letters needs a yes", "--yes")
    for words in ((), ("--all", "aaaa1"), ("--all", "--key", "id=ada")):
        clear_error(bare_cli.run("dead-letters", "drop", *words), 2, "in one way")
        clear_error(bare_cli.run("dead-letters", "redrive", *words), 2, "in one way")
    clear_error(bare_cli.run("dead-letters", "drop", "aaaa1", "zz", "--yes"), 2, '"zz"')
    assert len(ids(bare_cli)) == 4


@pytest.mark.parametrize(("answer", "left"), [("n\n", 4), ("y\n", 1)])
def test_a_terminal_is_asked(bare_cli: Cli, answer: str, left: int) -> None:
    keep(bare_cli, *sample())
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        bare_cli.arguments("dead-letters", "drop", "--key", "id=ada"),
        cwd=bare_cli.directory,
        env=bare_cli.env(),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        os.write(ours, answer.encode())
        _, words = process.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert "Drop 3 dead letters of 1 item? They will never be sent." in words
    assert process.returncode == 0
    assert len(ids(bare_cli)) == left


def test_two_at_once_are_refused_by_name_and_a_dead_one_is_not_in_the_way(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    with closing(Database(state_file(bare_cli))) as database:
        letters = Letters(database, "default", [USERS])
        with letters.locked():
            for words in (("drop", "--all", "--yes"), ("redrive", "--all")):
                done = bare_cli.run("dead-letters", *words)
                clear_error(done, 7, f"being sent or dropped by pid {os.getpid()}")
            with Letters(database, "other", [USERS]).locked():
                pass
            assert len(ids(bare_cli)) == 4
        with letters.locked(), pytest.raises(StateError), letters.locked():
            pass
    bare_cli.ok("dead-letters", "drop", "--all", "--yes")


# Choosing what is sent


def test_a_letter_in_the_middle_is_refused_with_the_name_of_the_head(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    done = bare_cli.run("dead-letters", "redrive", "cccc", "--dry-run")
    clear_error(
        done,
        2,
        "cccc4444 waits behind aaaa1111: events of an item are sent in order",
        "ddbrelay dead-letters redrive aaaa1111",
    )
    done = bare_cli.ok("dead-letters", "redrive", "cccc", "aaaa1", "--dry-run")
    assert len(done.stdout.splitlines()) == 3


def test_a_dry_run_says_what_would_become_of_each(bare_cli: Cli) -> None:
    keep(bare_cli, *sample())
    keep(bare_cli, letter("bob", 7, behind=True, event_id="dddd"))
    done = bare_cli.run("dead-letters", "redrive", "--all", "--dry-run", "--output", "json")
    clear_error(done, 3, "2 dead letters would stay parked")
    *found, summary = map(json.loads, done.stdout.splitlines())
    assert [(one["id"], one["state"]) for one in found] == [
        ("aaaa1111", "would-send"),
        ("bbbb3333", "would-send"),
        ("cccc4444", "would-send"),
        ("aaaa2222", "would-stay"),
        ("dddd", "would-stay"),
    ]
    assert found[4]["reason"] == "it would wait behind aaaa2222"
    assert summary == {"type": "summary", "wouldSend": 3, "wouldSkip": 0, "wouldStay": 2}
    words = ("--key", "id=bob", "--dry-run", "--remap", "--entity", "Person")
    done = bare_cli.ok("dead-letters", "redrive", *words)
    assert done.stdout.splitlines() == [
        "2026-01-01T00:00:00Z INSERT id=bob PersonCreated would-send",
        "2026-01-01T00:00:00Z INSERT id=bob PersonCreated would-send",
    ]
    assert "Nothing was sent." in done.stderr
    assert len(ids(bare_cli)) == 5


# The books


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(Database(":memory:")) as made:
        yield made


def parked(count: int, shard: str = "s") -> list[Account]:
    return [Account(shard, [Line(Fate.PARKED, "", count, "1", "9")])] if count else []


def short(number: str, shard: str = "s", *, behind: bool = False) -> DeadLetter:
    return DeadLetter(shard, number, b"k", "bad", b"{}", None, 1, AT, behind)


async def resolve(database: Database, *numbers: str, how: How = How.REDRIVEN) -> None:
    letters = Letters(database, "default", [USERS], lambda: AT)
    found: list[Parked] = [one for queue in letters.queues() for one in queue.letters]
    chosen = [one for one in found if one.sequence in numbers]
    assert letters.resolve(chosen, how) == len(numbers)
    # What is there no more is not counted again.
    assert letters.resolve(chosen, how) == 0


def test_a_letter_that_was_sent_again_no_longer_counts_as_parked_only(bare_cli: Cli) -> None:
    async def keep_three(database: Database) -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.park([short("1"), short("2"), short("3")])
        await store.save([Position("s", sequence="3")], parked(3))
        await resolve(database, "1", "2")
        await resolve(database, "3", how=How.DROPPED)

    state_file(bare_cli).parent.mkdir(parents=True)
    with closing(Database(state_file(bare_cli))) as database:
        asyncio.run(keep_three(database))
    *_, summary = bare_cli.json("ledger")
    assert summary["parked"]["count"] == 3
    assert summary["resolved"] == {"redriven": 2, "skipped": 0, "dropped": 1}
    told = bare_cli.ok("ledger").stdout
    assert "3 records, of which 2 redriven, 1 dropped since" in told
    *_, summary = bare_cli.json("report")
    assert summary["allTime"]["resolved"] == {"redriven": 2, "skipped": 0, "dropped": 1}


def differing(database: Database) -> dict[str, tuple[int, int]]:
    return snapshot(database, "default", USERS).parked_and_kept()


def test_the_ledger_stays_even_when_letters_leave_behind_the_checkpoint(
    database: Database,
) -> None:
    async def test() -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.park([short("1"), short("2"), short("3")])
        await store.save([Position("s", sequence="3")], parked(3))
        await resolve(database, "1")
        await resolve(database, "2", how=How.DROPPED)
        assert differing(database) == {}
        await store.save([Position("s", finished=True)])
        await store.forget(["s"])
        assert differing(database) == {}

    asyncio.run(test())


def test_a_letter_that_leaves_before_the_checkpoint_passed_it_counts_when_it_does(
    database: Database,
) -> None:
    async def test() -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.begin([Position("s", sequence="1")])
        await store.park([short("2"), short("3", behind=True)])
        await resolve(database, "2", "3")
        assert differing(database) == {}
        await store.save([Position("s", sequence="3")], parked(2))
        assert differing(database) == {}
        await store.begin([Position("s", sequence="3")])
        assert differing(database) == {}
        assert snapshot(database, "default", USERS).resolved == {"s": 2}

    asyncio.run(test())


def test_a_letter_that_left_before_a_run_that_reads_it_again_has_no_fate_yet(
    database: Database,
) -> None:
    async def test() -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.begin([Position("s", sequence="1")])
        await store.park([short("2"), short("3", behind=True)])
        await resolve(database, "2", "3")
        await store.begin([Position("s", sequence="1")])
        # The first is published this time, the second parked for a reason of its own.
        await store.park([short("3")])
        await store.save([Position("s", sequence="3")], parked(1))
        assert differing(database) == {}
        await resolve(database, "3")
        assert differing(database) == {}

    asyncio.run(test())


def test_a_record_that_was_sent_while_a_run_came_to_read_it_again_is_not_parked_again(
    database: Database,
) -> None:
    async def test() -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.park([short("2"), short("3", behind=True)])
        await store.begin([Position("s", sequence="1")])
        await resolve(database, "2")
        # It is neither kept, nor handed back to be sent again.
        assert await store.park([short("2", behind=True)]) == []
        await store.save([Position("s", sequence="2")], parked(1))
        assert differing(database) == {}
        await store.save([Position("s", sequence="3")], parked(1))
        await resolve(database, "3")
        # A replay that parks it again long after keeps it.
        await store.park([short("2")])
        assert differing(database) == {}
        assert Letters(database, "default", [USERS]).count() == 1

    asyncio.run(test())


def test_a_letter_that_is_parked_anew_is_not_counted_twice(database: Database) -> None:
    async def test() -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.begin([Position("s", sequence="1")])
        await store.park([short("2")])
        await resolve(database, "2")
        await store.park([short("2")])
        await store.save([Position("s", sequence="2")], parked(1))
        assert differing(database) == {}

    asyncio.run(test())


def test_what_left_the_shards_that_are_long_gone_becomes_one(database: Database) -> None:
    async def test() -> None:
        time = [AT]
        store = SqliteStore(database, "default", USERS, lambda: time[0])
        for shard in "ab":
            await store.park([short("1", shard), short("2", shard)])
            await store.save([Position(shard, sequence="2")], parked(2, shard))
        letters = Letters(database, "default", [USERS])
        (queue,) = letters.queues()
        assert letters.resolve(queue.letters[:2], How.DROPPED) == 2
        await store.save([Position(s, sequence="2", finished=True) for s in "ab"])
        await store.forget("ab")
        time[0] += 8 * 24 * 3600
        await store.forget(["none"])
        found = snapshot(database, "default", USERS)
        assert (set(found.ledgers), found.resolved) == ({EARLIER}, {EARLIER: 2})
        assert differing(database) == {}

    asyncio.run(test())


@pytest.mark.parametrize(
    ("position", "passed"),
    [
        (None, True),
        (Position("s", finished=True), True),
        (Position("s", sequence="99"), False),
        (Position("s", sequence="100"), True),
        (Position("s"), False),
        (Position("s", seen_at=AT), False),
        (Position("s", seen_at=AT + 1), True),
        (Position("s", lost_until=AT - 9), True),
    ],
)
def test_a_letter_is_passed_when_nothing_before_it_can_be_in_flight(
    database: Database, position: Position | None, passed: bool
) -> None:
    async def test() -> None:
        store = SqliteStore(database, "default", USERS, lambda: AT)
        await store.save([] if position is None else [position])
        await store.park([short("100")])
        letters = Letters(database, "default", [USERS])
        ((one,),) = [queue.letters for queue in letters.queues()]
        assert letters.passed(one) is passed

    asyncio.run(test())


def test_ten_thousand_letters_of_one_item_are_parked_and_listed_in_no_time(
    database: Database,
) -> None:
    store = SqliteStore(database, "default", USERS, lambda: AT)
    began = time.perf_counter()
    asyncio.run(store.park([short("1")]))
    for start in range(2, 10_002, 100):
        numbers = range(start, start + 100)
        asyncio.run(store.park([short(str(n), behind=True) for n in numbers]))
    (queue,) = Letters(database, "default", [USERS]).queues()
    assert [int(one.sequence) for one in queue.letters] == list(range(1, 10_002))
    assert time.perf_counter() - began < 10


# End to end


@pytest.mark.slow
@pytest.mark.moto_first
@pytest.mark.moto_first
def test_a_poison_record_from_its_parking_to_the_last_event_behind_it(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipe = Pipeline(aws, name)
    big = {"S": "\x01" * 300_000}
    pipe.put("good", n={"N": "1"})
    pipe.put("bad", n={"N": "1"}, big=big)
    for number in ("2", "3"):
        pipe.put("bad", n={"N": number})
        pipe.put("good", n={"N": number})
    done = cli.run("tail", "--forward", "--until-idle", "0", "--output", "json")
    assert done.returncode == 3
    assert [event["detail"]["id"] for event in pipe.received()] == ["good"] * 3

    head, listed = cli.json("dead-letters", "list")
    assert (head["keys"], head["waiting"], listed["deadLetters"]) == ({"id": "bad"}, 2, 3)
    assert "PutEvents takes less than 1 MB" in head["reason"]
    assert "cannot be sent" in cli.ok("dead-letters", "show", head["id"][:8]).stdout

    # It fails again, and holds its item; so do changes that come now.
    done = cli.run("dead-letters", "redrive", "--all", "--output", "json")
    stays, summary = objects(done.stdout)
    assert (done.returncode, stays["state"], stays["id"]) == (3, "parked", head["id"])
    assert (summary["redriven"], summary["failed"], summary["remaining"]) == (0, 1, 3)
    clear_error(cli.run("dead-letters", "redrive", "--all"), 3, "3 dead letters stay parked")
    pipe.put("bad", n={"N": "4"})
    assert cli.run("tail", "--forward", "--until-idle", "0").returncode == 3
    assert pipe.received() == []

    cli.ok("dead-letters", "drop", head["id"], "--yes")
    words = ("--remap", "--entity", "Thing")
    *sent, summary = cli.json("dead-letters", "redrive", "--all", *words)
    assert [one["state"] for one in sent] == ["redriven"] * 3
    assert (summary["redriven"], summary["remaining"], summary["end"]) == (3, 0, "done")
    arrived = pipe.received()
    assert [event["detail"]["n"] for event in arrived] == [2, 3, 4]
    assert {event["detail-type"] for event in arrived} == {"ThingUpdated"}
    assert [event["id"] for event in arrived] == [one["eventId"] for one in sent]
    assert cli.json("dead-letters", "list")[-1]["deadLetters"] == 0

    pipe.put("bad", n={"N": "5"})
    cli.ok("tail", "--forward", "--until-idle", "0")
    assert [event["detail"]["n"] for event in pipe.received()] == [5]
    *warnings, report = cli.json("ledger", "--verify")
    assert (warnings, report["unaccounted"]) == ([], 0)


@pytest.mark.moto_first
def test_a_bus_that_is_not_there_is_code_5_and_everything_stays(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipe = Pipeline(aws, name)
    keep(cli, letter("a", 1), stream_arn=pipe.stream_arn)
    done = cli.run("dead-letters", "redrive", "--all", "--bus", "nowhere")
    clear_error(done, 5, 'bus "nowhere" does not exist')
    assert len(ids(cli)) == 1
    assert cli.ok("dead-letters", "redrive", "--all").stdout.count(" redriven ") == 1


TRACED = "KeyError in the mapper: 'nope'\n  File \"own.py\", line 2, in fail\n    card[\x1b]"


def test_a_reason_with_a_traceback_is_one_line_in_lists_and_has_its_lines_where_it_is_shown(
    bare_cli: Cli,
) -> None:
    keep(bare_cli, letter("ada", 1, reason=TRACED, event=False, event_id="aaaa1111"))
    for words in (("list",), ("list", "--behind"), ("redrive", "--all", "--dry-run")):
        lines = bare_cli.run("dead-letters", *words).stdout.splitlines()
        assert len(lines) == 1, lines
        assert "\N{REPLACEMENT CHARACTER}" not in lines[0]
    assert "(KeyError in the mapper: 'nope')" in bare_cli.ok("dead-letters", "list").stdout
    shown = bare_cli.ok("dead-letters", "show", "aaaa").stdout.splitlines()
    at = shown.index("reason      KeyError in the mapper: 'nope'")
    assert shown[at + 1 : at + 3] == [
        '              File "own.py", line 2, in fail',
        "                card[\N{REPLACEMENT CHARACTER}]",
    ]
    (found, _) = bare_cli.json("dead-letters", "list")
    assert found["reason"] == TRACED


def test_what_is_parked_with_a_traceback_is_one_line_and_one_row() -> None:
    outcome = Outcome(changed("ada", 1, new={"id": "ada"}), None, Fate.PARKED, reason=TRACED)
    assert outcome_line(outcome).endswith("parked (KeyError in the mapper: 'nope')")
    assert Shown.of(outcome).reason == "KeyError in the mapper: 'nope'"


@pytest.mark.slow
def test_a_reader_that_has_seen_enough_ends_the_list_without_a_word(bare_cli: Cli) -> None:
    keep(bare_cli, *(letter(f"item-{n:04}", n + 1, event_id=f"id-{n:04}") for n in range(300)))
    for words in (("list",), ("list", "--output", "json"), ("export",)):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            bare_cli.arguments("dead-letters", *words),
            cwd=bare_cli.directory,
            env=bare_cli.env(),
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_file_that_is_closed_is_not_called_damaged(tmp_path: Path) -> None:
    database = Database(tmp_path / "state.db")
    database.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"), database.reading():
        pass


def test_what_is_redacted_later_is_hidden_of_letters_that_are_there(bare_cli: Cli) -> None:
    secret = "4111-1111"
    before = letter(secret, 1, event_id="aaaa1111")
    record = before.record.replace(b'"id":{"S":"4111-1111"},"n"', b'"card":{"S":"4111-1111"},"n"')
    assert record != before.record
    renamed = replace(before, record=record, item_key=b'{"id":{"S":"k"}}')
    keys = b'"Keys":{"id":{"S":"4111-1111"}}'
    renamed = replace(renamed, record=record.replace(keys, b'"Keys":{"id":{"S":"k"}}'))
    keep(bare_cli, replace(renamed, reason=f"refused: {secret}"))
    looks = (("show", "aaaa"), ("show", "aaaa", "--output", "json"), ("export",))
    for words in looks:
        assert secret in bare_cli.ok("dead-letters", *words).stdout
    (bare_cli.directory / "ddbrelay.toml").write_text('redact = ["card"]\n')
    for words in (*looks, ("show", "aaaa", "--remap")):
        said = bare_cli.ok("dead-letters", *words).stdout
        assert secret not in said, words
        assert "[redacted]" in said
