"""`ddbrelay rules`: the rules in the order tried, with what came of each so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from conftest import Cli
from pipeline import state_file
from test_ledger import keep, line, shard

from ddbrelay.cli.options import Run
from ddbrelay.cli.rules import command, in_short
from ddbrelay.errors import ConfigError
from ddbrelay.flow.tracking import Fate

RULES = """
[source]
table = "users"

[[rule]]
name = "email-changed"
when = { eventName = ["MODIFY"], changed = ["email"] }
detail_type = "UserEmailChanged"
continue = true

[[rule]]
name = "order"
when = { eventName = ["INSERT"], new = { type = [{ prefix = "order#" }] } }
detail_type = "{new.kind}Placed"
bus = "other-bus"

[[rule]]
when = { eventName = ["REMOVE"] }
skip = "deletes are not events here"

[[rule]]
when = { eventName = ["INSERT"] }
"""
SEVERAL = (
    line(Fate.PUBLISHED, 1200, 1, 9, "order"),
    line(Fate.PUBLISHED, 30, 1, 9, "email-changed + order"),
    line(Fate.SKIPPED, 7, 1, 9, "deletes are not events here"),
    line(Fate.SKIPPED, 5, 1, 9, "no rule"),
    line(Fate.PARKED, 2, 1, 9, "order"),
    line(Fate.PUBLISHED, 4, 1, 9, "of last year"),
)


@pytest.fixture
def listing(bare_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A folder with a mapping file; the state directory is not there yet."""
    monkeypatch.chdir(bare_cli.directory)
    for name, value in bare_cli.environment.items():
        monkeypatch.setenv(name, value)
    (bare_cli.directory / "ddbrelay.toml").write_text(RULES)
    return bare_cli


def printed(*words: str) -> str:
    done = CliRunner().invoke(command, words, obj=Run(), catch_exceptions=False)
    return done.stdout


def objects(*words: str) -> dict[str, dict[str, Any]]:
    found = [json.loads(one) for one in printed(*words, "--output", "json").splitlines()]
    return {one["name"]: one for one in found}


def hits(one: Mapping[str, Any]) -> tuple[int, int, int]:
    return one["published"], one["skipped"], one["parked"]


def test_the_rules_are_listed_in_their_order_without_a_state_file(listing: Cli) -> None:
    rows = [row.split("  ") for row in printed().splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    zeros = ["0", "0", "0"]
    assert cells == [
        ["rule", "matches", "makes", "flags", "published", "skipped", "parked"],
        ["email-changed", "MODIFY, changed email", "UserEmailChanged", "continue", *zeros],
        ["order", "INSERT, new.type prefix order#", "{new.kind}Placed", "bus other-bus", *zeros],
        ["deletes are not events here", "REMOVE", "skipped", "skip", *zeros],
        ["rule 4", "INSERT", "UserCreated …", "–", *zeros],
        ["no rule", "everything else", "skipped", "skip", *zeros],
    ]
    assert not state_file(listing).parent.exists()


def test_each_rule_of_a_record_has_the_hit(listing: Cli) -> None:
    keep(listing, shard(1, *SEVERAL), shard(2, line(Fate.PUBLISHED, 3, 1, 9, "order")))
    keep(listing, shard(1, *SEVERAL[:1]), label="2026-11-22T10:31:02.123")
    keep(listing, shard(1, *SEVERAL), consumer="audit")
    keep(listing, shard(1, *SEVERAL), table="orders")
    found = objects()
    assert hits(found["order"]) == (1200 + 30 + 3 + 1200, 0, 2)
    assert hits(found["email-changed"]) == (30, 0, 0)
    assert hits(found["deletes are not events here"]) == (0, 7, 0)
    assert hits(found["rule 4"]) == (0, 0, 0)


def test_names_that_are_in_the_ledger_only_follow(listing: Cli) -> None:
    keep(listing, shard(1, *SEVERAL))
    rows = printed().splitlines()
    assert [row.split("  ")[0] for row in rows[5:]] == ["of last year", "no rule"]
    assert "no longer in the mapping" in rows[5]
    assert rows[6].split()[-3:] == ["0", "5", "0"]
    assert {name for name, one in objects().items() if not one["inFile"]} == {
        "no rule",
        "of last year",
    }


def test_a_program_gets_what_the_file_says(listing: Cli) -> None:
    found = objects()
    assert found["order"] == {
        "type": "rule",
        "name": "order",
        "inFile": True,
        "place": found["order"]["place"],
        "when": {"eventName": ["INSERT"], "new": {"type": [{"prefix": "order#"}]}},
        "source": None,
        "detailType": "{new.kind}Placed",
        "skip": False,
        "continue": False,
        "schema": None,
        "bus": "other-bus",
        "rest": False,
        "published": 0,
        "skipped": 0,
        "parked": 0,
    }
    assert found["email-changed"]["continue"]
    assert found["deletes are not events here"]["skip"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["created", "updated", "deleted", "expired", ""]),
        ('preset = "outbox"', ["outbox", "only inserts count"]),
        ('preset = "single-table"', ["created", "updated", "deleted", "expired", "no entity"]),
    ],
)
def test_a_mapping_without_rules_has_the_names_of_its_preset(
    listing: Cli, text: str, names: list[str]
) -> None:
    Path("ddbrelay.toml").write_text(text)
    assert list(objects("--table", "users")) == names
    keep(listing, shard(1, line(Fate.PUBLISHED, 3, 1, 9, names[0])))
    assert hits(objects()[names[0]]) == (3, 0, 0)


def test_a_preset_behind_the_rules_is_listed_behind_them(listing: Cli) -> None:
    last = '[[rule]]\nwhen = { eventName = ["INSERT"] }\n'
    Path("ddbrelay.toml").write_text('preset = "crud"\n' + RULES.removesuffix(last))
    keep(listing, shard(1, line(Fate.PUBLISHED, 3, 1, 9, "updated")))
    found = objects()
    assert list(found)[3:] == ["created", "updated", "deleted", "expired", ""]
    row = printed().splitlines()[-4]
    assert row.split()[:3] == ["updated", "MODIFY", "UserUpdated"]
    assert hits(found["updated"]) == (3, 0, 0)


@pytest.mark.parametrize(
    ("text", "name", "matches", "makes"),
    [
        (RULES, "no rule", "everything else", "skipped"),
        ("strict = true" + RULES, "", "everything else", "parked"),
        ('preset = "crud"' + RULES, "", "everything else", "parked"),
        ('preset = "outbox"' + RULES, "only inserts count", "everything else: MODIFY", "skipped"),
        ('preset = "single-table"', "no entity", "everything else: a key without", "skipped"),
        ("", "", "everything else", "parked"),
        ('mapper = "mine:mapped"', "", "everything else", "parked"),
    ],
)
def test_the_last_row_says_what_becomes_of_everything_else(
    listing: Cli,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    name: str,
    matches: str,
    makes: str,
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    Path("ddbrelay.toml").write_text(text)
    keep(listing, shard(1, *SEVERAL))
    *others, last = [
        json.loads(row) for row in printed("--table", "users", "--output", "json").splitlines()
    ]
    assert (last["name"], last["rest"], last["skip"]) == (name, True, makes == "skipped")
    assert not any(one["rest"] for one in others)
    for output in ("lines", "rich"):
        row = printed("--table", "users", "--output", output).splitlines()[-1]
        assert row.startswith(f"{name or '–'} ")
        assert matches in row
        assert makes in row


def test_without_a_table_the_one_of_the_ledger_counts(listing: Cli) -> None:
    Path("ddbrelay.toml").write_text("")
    with pytest.raises(ConfigError, match="no table is given"):
        printed()
    keep(listing, shard(1), table="orders")
    assert "OrderCreated" in printed()
    keep(listing, shard(1), table="users")
    with pytest.raises(ConfigError, match="no table is given"):
        printed()


@pytest.mark.parametrize(("width", "flags"), [(80, False), (100, True), (140, True)])
def test_a_terminal_shows_what_fits_its_width(
    listing: Cli, monkeypatch: pytest.MonkeyPatch, width: int, flags: bool
) -> None:
    keep(listing, shard(1, *SEVERAL))
    monkeypatch.setenv("COLUMNS", str(width))
    rows = printed("--output", "rich").splitlines()
    assert max(map(len, rows)) <= width
    assert ("flags" in rows[0]) is flags
    assert rows[0].endswith("published  skipped  parked")
    assert rows[2].split()[-3:] == ["1,230", "0", "2"]


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ({"eventName": ["INSERT", "MODIFY"]}, "INSERT|MODIFY"),
        ({"new": {"n": [{"numeric": [">", 0, "<=", 5]}]}}, "new.n numeric > 0 <= 5"),
        ({"new": {"x": [{"exists": False}]}, "ttl": [True]}, "new.x exists false, ttl true"),
        ({"new": {"x": [None, ""]}}, 'new.x null|""'),
        ({"new": {"x": [{"anything-but": {"prefix": "a"}}]}}, "new.x anything-but prefix a"),
        (
            {"$or": [{"eventName": ["INSERT"]}, {"new": {"x": [1], "y": [2]}}]},
            "(INSERT or new.x 1 and new.y 2)",
        ),
    ],
)
def test_a_pattern_in_short(pattern: dict[str, Any], words: str) -> None:
    assert in_short(pattern) == words


def test_what_is_redacted_is_said_and_who_knows_whether_it_hides_anything(listing: Cli) -> None:
    hiding = RULES.replace('bus = "other-bus"', 'redact = ["card.number"]')
    (listing.directory / "ddbrelay.toml").write_text('redact = ["ssn"]\n' + hiding)
    ended = CliRunner().invoke(command, [], obj=Run())
    assert "redact card.number" in ended.stdout
    assert ended.stderr.splitlines()[-3:-1] == [
        "redact hides ssn from every rule",
        "map FILE and doctor say which names of redact no change has",
    ]


def test_the_command_line_lists_the_rules(listing: Cli) -> None:
    done = listing.ok("rules")
    assert len(done.stdout.splitlines()) == 6
    assert done.stderr.splitlines() == [
        'consumer "default" has no hits yet',
        "next: ddbrelay map FILE --explain",
    ]
