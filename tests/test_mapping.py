from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.mapping import (
    MAX_DETAIL_TYPE,
    MAX_SOURCE,
    CrudMapper,
    Event,
    Reject,
    entity_of,
    refused,
)
from ddbrelay.testing.builders import ORIGIN, change
from ddbrelay.testing.clock import EPOCH


def event_of(*args: object, mapper: CrudMapper | None = None, **kwargs: object) -> Event:
    result = (mapper or CrudMapper("users"))(change(*args, **kwargs))
    assert isinstance(result, Event), result
    return result


@pytest.mark.parametrize(
    ("event_name", "ttl", "detail_type"),
    [
        ("INSERT", False, "UserCreated"),
        ("MODIFY", False, "UserUpdated"),
        ("REMOVE", False, "UserDeleted"),
        ("REMOVE", True, "UserExpired"),
    ],
)
def test_the_event_is_named_after_what_happened(
    event_name: str, ttl: bool, detail_type: str
) -> None:
    assert event_of("a", event_name=event_name, ttl=ttl).detail_type == detail_type


def test_the_default_entry_says_where_what_and_when() -> None:
    event = event_of("a", new={"id": "a", "n": 5}, event_id="e1")
    assert event.source == "ddbrelay.users"
    assert event.time == EPOCH
    assert json.loads(event.detail) == {"id": "a", "n": 5}
    assert event.resources == (ORIGIN.stream_arn, "e1")


def test_the_detail_is_the_new_image_and_for_a_delete_the_old_one() -> None:
    images = {"old": {"id": "a", "v": 1}, "new": {"id": "a", "v": 2}}
    assert json.loads(event_of("a", event_name="MODIFY", **images).detail)["v"] == 2
    deleted = event_of("a", event_name="REMOVE", old={"id": "a", "v": 1})
    assert json.loads(deleted.detail)["v"] == 1


@pytest.mark.parametrize("event_name", ["INSERT", "MODIFY", "REMOVE"])
def test_the_detail_is_the_keys_where_the_view_leaves_the_image_out(event_name: str) -> None:
    event = event_of("a", event_name=event_name, images=False)
    assert event.detail == b'{"id":"a"}'


@given(st.text(), st.integers(-(10**38), 10**38))
def test_the_same_change_gives_the_same_bytes(text: str, number: int) -> None:
    image = {"id": "a", "text": text, "n": number, "inner": {"list": [text, number, None]}}
    one, other = (event_of("a", 5, new=image) for _ in range(2))
    assert one == other


def test_a_38_digit_number_reaches_the_detail_digit_for_digit() -> None:
    number = "-12345678901234567890123456789012345678"
    image = b'{"id":{"S":"a"},"n":{"N":"%s"},"f":{"N":"0.%s"}}' % (
        number.encode(),
        number[1:].encode(),
    )
    event = event_of("a", new=image)
    assert event.detail == f'{{"id":"a","n":"{number}","f":0.{number[1:]}}}'.encode()


@pytest.mark.parametrize(
    "image", [b'{"id":{"X":1}}', b'{"id":', b"[]", b'{"id":{"M":[]}}', b'{"id":{"L":5}}']
)
def test_an_image_that_cannot_be_read_is_rejected_and_raises_nothing(image: bytes) -> None:
    result = CrudMapper("users")(change("a", new=image))
    assert isinstance(result, Reject)
    assert "cannot be read" in result.reason


def test_an_unknown_event_name_is_rejected() -> None:
    assert CrudMapper("users")(change("a", event_name="TRUNCATE")) == Reject(
        "unknown event name 'TRUNCATE'"
    )


def test_a_detail_type_over_128_characters_is_refused_before_it_is_sent() -> None:
    longest = "É" * (MAX_DETAIL_TYPE - len("Created"))
    assert isinstance(CrudMapper("t", entity=longest)(change()), Event)
    result = CrudMapper("t", entity=longest + "x")(change())
    assert result == Reject("the detail type is longer than 128 characters")


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (Event("s", "", b"{}"), "detail type is empty"),
        (Event("", "T", b"{}"), "source is empty"),
        (Event("s" * (MAX_SOURCE + 1), "T", b"{}"), "source is longer than 256"),
        (Event("aws.users", "T", b"{}"), "must not begin with aws."),
        (Event("s", "T", b"[]"), "not a JSON object"),
        (Event("s", "T", b'"text"'), "not a JSON object"),
        (Event("s", "T", b"null"), "not a JSON object"),
    ],
)
def test_what_put_events_never_takes_is_refused(event: Event, why: str) -> None:
    result = refused(event)
    assert result is not None
    assert why in result.reason


def test_an_ordinary_event_is_not_refused() -> None:
    assert refused(Event("awsome.users", "T" * MAX_DETAIL_TYPE, b"{}")) is None


def test_the_size_counts_bytes_as_aws_does() -> None:
    event = Event("sé", "Tü", b'{"a":1}', ("arn:ä",), 1.0)
    assert event.size == 14 + 3 + 3 + 7 + 6
    assert Event("s", "T", b"{}").size == 4


@pytest.mark.parametrize(
    ("table", "entity"),
    [
        ("users", "User"),
        ("order-categories", "OrderCategory"),
        ("prod_addresses", "ProdAddress"),
        ("boxes", "Box"),
        ("branches", "Branch"),
        ("status", "Status"),
        ("analysis", "Analysis"),
        ("UserProfiles", "UserProfile"),
        ("s", "S"),
        ("...", "Item"),
        ("news", "New"),
    ],
)
def test_the_noun_comes_from_the_tables_name(table: str, entity: str) -> None:
    assert entity_of(table) == entity


@given(st.from_regex(r"[a-zA-Z0-9_.-]{3,255}", fullmatch=True))
def test_every_table_name_gives_a_noun(table: str) -> None:
    assert entity_of(table).isalnum()


def test_the_noun_and_the_source_can_be_given() -> None:
    event = event_of("a", mapper=CrudMapper("users", entity="Member", source="shop.members"))
    assert (event.detail_type, event.source) == ("MemberCreated", "shop.members")
