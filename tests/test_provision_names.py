"""Names within the limits of each service."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.config import Settings
from ddbrelay.errors import ConfigError
from ddbrelay.infra.names import archive_name, queue_name, rule_name
from ddbrelay.infra.plan import Key, Wanted

tables = st.from_regex(r"[a-zA-Z0-9_.-]{3,255}", fullmatch=True)


@given(tables)
def test_every_name_is_one_that_its_service_takes(table: str) -> None:
    assert re.fullmatch(r"[.\-_A-Za-z0-9]{1,64}", rule_name(table))
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", queue_name(table))
    assert re.fullmatch(r"[.\-_A-Za-z0-9]{1,48}", archive_name(table))


@given(tables, tables)
def test_two_tables_never_share_a_name(one: str, other: str) -> None:
    for name in (rule_name, queue_name, archive_name):
        assert (name(one) == name(other)) == (one == other)


def test_a_short_name_is_the_table_behind_a_prefix() -> None:
    assert {rule_name("users"), queue_name("users"), archive_name("users")} == {"ddbrelay-users"}


def test_a_long_name_keeps_its_beginning_and_ends_in_a_hash_that_never_changes() -> None:
    name = rule_name("a" * 255)
    assert len(name) == 64
    assert name.startswith("ddbrelay-aaa")
    assert name.endswith("-b0f3323e")


def test_tables_that_differ_in_a_dot_have_queues_of_their_own() -> None:
    assert queue_name("my.users") != queue_name("my-users")
    assert queue_name("my-users") == "ddbrelay-my-users"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("id", Key("id", "S")),
        ("id:S", Key("id", "S")),
        ("at:N", Key("at", "N")),
        ("a:b:B", Key("a:b", "B")),
    ],
)
def test_a_key_is_a_name_and_a_type(text: str, key: Key) -> None:
    assert Key.parse(text) == key


@pytest.mark.parametrize("text", ["", ":S", "id:", "id:X", "id:s", "x" * 256])
def test_what_is_not_a_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a key"):
        Key.parse(text)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"table": "ab"}, "not a name of a table"),
        ({"table": "arn:aws:dynamodb:eu-west-1:123456789012:table/users"}, "not a name of a table"),
        ({"bus": "my bus"}, "not a name of a bus"),
        ({"bus": "b" * 257}, "not a name of a bus"),
        ({"source": "aws.users"}, "cannot be the source"),
        ({"source": "s" * 257}, "cannot be the source"),
        ({"view_type": "EVERYTHING"}, "not a view type"),
        ({"sort_key": Key("id", "N")}, "partition key and sort key at once"),
        ({"archive_days": -1}, "less than 0 days"),
    ],
)
def test_what_aws_would_refuse_is_refused_before_it_is_asked(changed: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Wanted(**({"table": "users", "bus": "users-bus", "source": "ddbrelay.users"} | changed))


def test_settings_without_a_table_say_how_to_give_one() -> None:
    with pytest.raises(ConfigError) as refused:
        Wanted.from_settings(Settings())
    assert "--table" in (refused.value.hint or "")


def test_settings_give_table_bus_and_source() -> None:
    wanted = Wanted.from_settings(Settings(table="users"), key="pk:N", sort_key="sk")
    assert (wanted.table, wanted.bus, wanted.source) == ("users", "users-bus", "ddbrelay.users")
    assert (wanted.key, wanted.sort_key) == (Key("pk", "N"), Key("sk", "S"))
