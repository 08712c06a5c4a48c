from __future__ import annotations

import base64
import json
import re
from contextlib import suppress
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.change import (
    REDACTED,
    Change,
    UndecodableError,
    decode_lambda_event,
    decode_page,
    plain,
)
from ddbrelay.flow.mapping.document import TypedDocument
from ddbrelay.testing.builders import ORIGIN, attribute, change


def encoded(image: dict[str, Any]) -> bytes:
    return msgspec.json.encode(image)


def written(value: Any) -> str:
    """How a plain value stands in the event's JSON."""
    return msgspec.json.encode(plain(value)).decode()


@st.composite
def dynamodb_numbers(draw: st.DrawFn) -> str:
    """Any number of up to 38 digits as DynamoDB's JSON has it."""
    digits = draw(st.integers(1, 38))
    significand = draw(st.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1))
    places = draw(st.integers(0, 38))
    text = str(significand)
    if places:
        text = text.rjust(places + 1, "0")
        text = f"{text[:-places]}.{text[-places:]}"
    return draw(st.sampled_from(["", "-"])) + text


@given(dynamodb_numbers())
def test_every_digit_of_a_38_digit_number_is_kept(text: str) -> None:
    assert written({"N": text}).strip('"') == text


@given(st.integers(-(10**38), 10**38))
def test_an_integer_is_a_number_within_64_bits_and_text_beyond(number: int) -> None:
    as_json = written({"N": str(number)})
    if -(2**63) <= number < 2**63:
        assert as_json == str(number)
    else:
        assert as_json == f'"{number}"'


@pytest.mark.parametrize(
    ("edge", "as_json"),
    [
        ("9223372036854775807", "9223372036854775807"),
        ("9223372036854775808", '"9223372036854775808"'),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775809", '"-9223372036854775809"'),
        ("-12345678901234567890123456789012345678", '"-12345678901234567890123456789012345678"'),
        ("0.10", "0.10"),
        ("1E+2", "1E+2"),
        ("9.9999999999999999999999999999999999999E+125",) * 2,
    ],
)
def test_a_number_at_an_edge_is_copied(edge: str, as_json: str) -> None:
    assert written({"N": edge}) == as_json


@pytest.mark.parametrize(("typed", "as_json"), [("+1", "1"), (".5", "0.5"), ("007", "7")])
def test_a_number_as_an_emulator_echoes_it_becomes_json(typed: str, as_json: str) -> None:
    assert written({"N": typed}) == as_json


@pytest.mark.parametrize("text", ["", "NaN", "Infinity", "1,5", "one", "0x1f"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UndecodableError, match="not a number"):
        plain({"N": text})


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.text()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sets(st.text(), min_size=1).map(frozenset)
    | st.sets(st.integers(-100, 100), min_size=1).map(frozenset),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def as_event_json(value: Any) -> Any:
    if isinstance(value, frozenset):
        return {"set": sorted(value, key=str)}
    if isinstance(value, list):
        return [as_event_json(inner) for inner in value]
    if isinstance(value, dict):
        return {name: as_event_json(inner) for name, inner in value.items()}
    return value


def marked_sets(value: Any, typed: Any) -> Any:
    """The decoded JSON with sets marked where the typed value has one."""
    ((kind, inner),) = typed.items()
    if kind in {"SS", "NS"}:
        return {"set": sorted(value, key=str)}
    if kind == "L":
        return [marked_sets(v, t) for v, t in zip(value, inner, strict=True)]
    if kind == "M":
        return {name: marked_sets(value[name], inner[name]) for name in inner}
    return value


@given(plain_values)
def test_every_type_comes_out_as_plain_json(value: Any) -> None:
    typed = attribute(value)
    assert marked_sets(json.loads(written(typed)), typed) == as_event_json(value)


@given(st.binary(), st.binary())
def test_binary_stays_base64_text_so_that_different_keys_stay_different(
    one: bytes, other: bytes
) -> None:
    assert plain(attribute(one)) == base64.b64encode(one).decode()
    same_item = change(one).item_key == change(other).item_key
    assert same_item == (one == other)


def test_a_set_of_binaries_is_an_array_of_texts() -> None:
    assert plain({"BS": ["AA==", "AQ=="]}) == ["AA==", "AQ=="]


def test_a_string_a_number_and_a_binary_with_the_same_text_are_different_items() -> None:
    keys = [b'{"id":{"S":"10"}}', b'{"id":{"N":"10"}}', b'{"id":{"B":"10=="}}']
    assert len({change(keys=raw).item_key for raw in keys}) == 3


def test_the_item_key_does_not_depend_on_the_order_of_attributes() -> None:
    one = change(keys=b'{"pk":{"S":"a"},"sk":{"N":"1"}}')
    other = change(keys=b'{ "sk": {"N":"1"}, "pk": {"S":"a"} }')
    assert one.item_key == other.item_key
    assert one.keys == {"pk": "a", "sk": 1}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"X": 1},
        {"N": 5},
        {"N": None},
        {"NS": [1]},
        {"NS": "12"},
        {"SS": "ab"},
        {"M": []},
        {"M": None},
        {"L": {}},
        {"L": 5},
        {"L": ["bare"]},
        {"S": 5},
        {"B": None},
        {"BOOL": "true"},
        "bare",
        None,
        [],
    ],
    ids=str,
)
def test_what_is_no_attribute_value_is_refused(value: Any) -> None:
    with pytest.raises(UndecodableError):
        plain(value)


# Every type as some SDKs write them, and those of .NET, whose collections and flags are never null.
NULLS = dict.fromkeys(("S", "N", "B", "BOOL", "NULL", "L", "M", "SS", "NS", "BS"))
EMPTIES = NULLS | {"SS": [], "NS": [], "BS": [], "L": [], "M": {}, "BOOL": False, "NULL": False}


@pytest.mark.parametrize("unused", [NULLS, EMPTIES], ids=["null", "empty"])
@pytest.mark.parametrize(
    "value",
    [
        {"S": "x"},
        {"N": "5"},
        {"B": "AA=="},
        {"BOOL": True},
        {"NULL": True},
        {"L": [{"S": "x"}]},
        {"M": {"a": {"S": "x"}}},
        {"SS": ["x"]},
        {"NS": ["5"]},
        {"BS": ["AA=="]},
    ],
    ids=str,
)
def test_types_that_are_not_in_use_do_not_change_a_value(
    value: dict[str, Any], unused: dict[str, Any]
) -> None:
    dumped = {"plain": unused | value, "map": {"M": {"a": unused | value}}}
    dumped["list"] = unused | {"L": [unused | value]}
    simple = {"plain": value, "map": {"M": {"a": value}}, "list": {"L": [value]}}
    one = change("INSERT", keys=encoded({"id": unused | {"S": "a"}}), new=encoded(dumped))
    other = change("INSERT", keys=b'{"id":{"S":"a"}}', new=encoded(simple))
    assert msgspec.json.encode(one.new) == msgspec.json.encode(other.new)
    assert one.item_key == other.item_key
    for typed in ("Keys", "NewImage"):
        assert (
            TypedDocument(one).get("dynamodb")[typed] == TypedDocument(other).get("dynamodb")[typed]
        )
    assert change("MODIFY", old=encoded(simple), new=encoded(dumped)).changed == []
    one.redact([("map", "b"), ("map", "a")])
    assert one.new is not None
    assert one.new["map"] == {"a": REDACTED}


SEVERAL: list[tuple[dict[str, Any], str]] = [
    ({"S": "x", "N": "5"}, "several types, N, S"),
    ({"N": "5", "S": "x"}, "several types, N, S"),
    ({"NULL": True, "BOOL": True}, "several types, BOOL, NULL"),
    ({"SS": ["x"], "BS": ["AA=="]}, "several types, BS, SS"),
    ({"M": {"a": {"S": "x"}}, "L": [{"S": "x"}]}, "several types, L, M"),
    ({"B": "AA==", "S": "x", "N": None}, "several types, B, S"),
    ({"S": "", "M": {}}, "several types, all of them empty"),
    (NULLS, "no type"),
    (EMPTIES, "several types, all of them empty"),
    ({}, "no type"),
]


@pytest.mark.parametrize(("value", "said"), SEVERAL, ids=str)
def test_a_value_with_several_types_is_undecodable_wherever_it_stands(
    value: dict[str, Any], said: str
) -> None:
    places = {
        "a": {"a": value},
        "a.b": {"a": {"M": {"b": value}}},
        "a[1].b": {"a": {"L": [{"S": "x"}, {"M": {"b": value}}]}},
    }
    for path, image in places.items():
        expected = re.escape(f"{path} has {said}")
        new = encoded(image)
        with pytest.raises(UndecodableError, match=f"^{expected}$"):
            _ = change("INSERT", new=new).new
        with pytest.raises(UndecodableError, match=expected):
            TypedDocument(change("INSERT", new=new)).get("dynamodb")
        with pytest.raises(UndecodableError, match=expected):
            _ = change("MODIFY", old=b'{"a":{"S":"y"}}', new=new).changed
        with pytest.raises(UndecodableError, match=expected):
            change("INSERT", new=new).attribute("a")
    with pytest.raises(UndecodableError, match=said):
        plain(value)
    for read in ("keys", "typed_keys"):
        with pytest.raises(UndecodableError, match=f"id has {said}"):
            getattr(change(keys=encoded({"id": value})), read)


@pytest.mark.parametrize("path", [("a",), ("a", "b"), ("a", "b", "c")], ids=".".join)
def test_hiding_an_attribute_does_not_make_one_type_of_two(path: tuple[str, ...]) -> None:
    image = encoded({"a": {"M": {"b": {"S": '{"c": 1}', "N": "5"}}, "NS": []}})
    one = change("INSERT", new=image)
    one.redact([path])
    if path == ("a",):
        assert one.new == {"a": REDACTED}
    else:
        with pytest.raises(UndecodableError, match=r"cannot be read: a\.b has several types, N, S"):
            _ = one.new


@pytest.mark.parametrize("keys", [b"[]", b"5", b"{", b'"id"', b"null"])
def test_keys_that_are_no_object_are_undecodable(keys: bytes) -> None:
    with pytest.raises(UndecodableError):
        _ = change(keys=keys).item_key


GET_RECORDS = b"""{
  "NextShardIterator": "next",
  "Records": [{
    "awsRegion": "us-east-1", "eventID": "e1", "eventName": "REMOVE", "eventVersion": "1.1",
    "eventSource": "aws:dynamodb",
    "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
    "dynamodb": {
      "ApproximateCreationDateTime": 1.767225601E9, "Keys": {"id": {"S": "a"}},
      "OldImage": {"id": {"S": "a"}, "big": {"N": "-12345678901234567890123456789012345678"}},
      "SequenceNumber": "100000000000000000001", "SizeBytes": 26, "StreamViewType": "OLD_IMAGE"
    }
  }]
}"""
LAMBDA_EVENT = GET_RECORDS.replace(b'"Type"', b'"type"').replace(b'"PrincipalId"', b'"principalId"')


def test_both_forms_of_a_record_say_the_same() -> None:
    page = decode_page(GET_RECORDS)
    assert page.next_iterator == "next"
    assert page.size == len(GET_RECORDS)
    polled = Change(page.records[0], "s", ORIGIN)
    invoked = Change(decode_lambda_event(LAMBDA_EVENT)[0], "s", ORIGIN)
    for seen in (polled, invoked):
        assert seen.event_id == "e1"
        assert seen.event_name == "REMOVE"
        assert seen.sequence_number == "100000000000000000001"
        assert seen.time == 1767225601.0
        assert seen.keys == {"id": "a"}
        assert seen.old == {"id": "a", "big": Decimal("-12345678901234567890123456789012345678")}
        assert seen.new is None
        assert seen.ttl


def test_a_lambda_event_may_lack_the_time() -> None:
    without = LAMBDA_EVENT.replace(b'"ApproximateCreationDateTime": 1.767225601E9,', b"")
    assert Change(decode_lambda_event(without)[0], "s", ORIGIN).time is None


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b'{"Records": [{}]}'])
def test_what_is_no_page_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_page(body)


@pytest.mark.parametrize("number", [b"", b"abc", b"-1", b"1.5", b"1_0"])
def test_a_sequence_number_that_is_no_decimal_number_is_a_decode_error(number: bytes) -> None:
    whole = b"100000000000000000001"
    with pytest.raises(msgspec.DecodeError, match="SequenceNumber"):
        decode_page(GET_RECORDS.replace(whole, number))
    with pytest.raises(msgspec.DecodeError, match="SequenceNumber"):
        decode_lambda_event(LAMBDA_EVENT.replace(whole, number))


def test_a_delete_by_time_to_live_is_told_from_a_users_delete() -> None:
    assert change("a", event_name="REMOVE", ttl=True).ttl
    assert not change("a", event_name="REMOVE").ttl


@pytest.mark.parametrize(
    "identity",
    [
        b'{"Type": "User", "PrincipalId": "dynamodb.amazonaws.com"}',
        b'{"Type": "Service", "PrincipalId": "replication.dynamodb.amazonaws.com"}',
        b"{}",
        b"null",
    ],
)
def test_another_identity_is_not_time_to_live(identity: bytes) -> None:
    ttl = b'{"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}'
    page = decode_page(GET_RECORDS.replace(ttl, identity))
    assert not Change(page.records[0], "s", ORIGIN).ttl


def test_changed_names_the_top_level_attributes_that_differ() -> None:
    seen = change(
        "a",
        event_name="MODIFY",
        old={"id": "a", "same": {"x": 1}, "gone": 1, "turned": 1},
        new={"id": "a", "same": {"x": 1}, "come": 1, "turned": "1"},
    )
    assert seen.changed == ["come", "gone", "turned"]


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ('{"SS": ["a", "b"]}', '{"SS": ["b", "a"]}', []),
        ('{"NS": ["1", "2"]}', '{"NS": ["2", "1"]}', []),
        ('{"BS": ["YQ==", "Yg=="]}', '{"BS": ["Yg==", "YQ=="]}', []),
        ('{"M": {"s": {"L": [{"SS": ["a", "b"]}]}}}', '{"M":{"s":{"L":[{"SS":["b","a"]}]}}}', []),
        ('{"SS": ["a", "b"]}', '{"SS": ["a", "c"]}', ["x"]),
        ('{"SS": ["a", "b"]}', '{"SS": ["a"]}', ["x"]),
        ('{"L": [{"S": "a"}, {"S": "b"}]}', '{"L": [{"S": "b"}, {"S": "a"}]}', ["x"]),
        ('{"M": {"SS": {"S": "a"}}}', '{"M": {"SS": {"S": "b"}}}', ["x"]),
        ('{"SS": ["1"]}', '{"NS": ["1"]}', ["x"]),
        ('{"SS": [5, "a"]}', '{"SS": ["a", 5]}', ["x"]),
    ],
)
def test_sets_that_differ_in_order_alone_are_the_same(
    old: str, new: str, changed: list[str]
) -> None:
    images = (f'{{"id": {{"S": "a"}}, "x": {one}}}'.encode() for one in (old, new))
    before, after = images
    assert change("a", event_name="MODIFY", old=before, new=after).changed == changed


def test_values_nested_deeper_than_dynamodb_nests_are_compared_or_undecodable() -> None:
    deep = [b'{"L": [' * 900 + b'{"S": "%s"}' % text + b"]}" * 900 for text in (b"a", b"b")]
    old, new = (b'{"id": {"S": "a"}, "x": %s}' % one for one in deep)
    with suppress(UndecodableError):
        assert change("a", event_name="MODIFY", old=old, new=new).changed == ["x"]


def test_a_view_without_images_has_none() -> None:
    body = GET_RECORDS.replace(b'"OldImage"', b'"Ignored"')
    seen = Change(decode_page(body).records[0], "s", ORIGIN)
    assert seen.new is None
    assert seen.old is None
    assert seen.changed == []


@given(dynamodb_numbers())
def test_a_builders_number_is_exact(text: str) -> None:
    assert Decimal(attribute(Decimal(text))["N"]) == Decimal(text)


@pytest.mark.parametrize("lone", ["\\ud800", "\\uDFFF x"])
def test_half_a_surrogate_pair_makes_one_image_unreadable_and_not_the_page(lone: str) -> None:
    def record(number: int, text: str) -> str:
        image = f'{{"id": {{"S": "{number}"}}, "text": {{"S": "{text}"}}}}'
        part = f'"SequenceNumber": "{number}", "Keys": {{}}, "NewImage": {image}'
        return f'{{"eventID": "{number}", "eventName": "INSERT", "dynamodb": {{{part}}}}}'

    body = f'{{"Records": [{record(1, lone)}, {record(2, "fine")}]}}'.encode()
    for records in (decode_page(body).records, decode_lambda_event(body)):
        broken, whole = (Change(one, "s", ORIGIN) for one in records)
        with pytest.raises(UndecodableError):
            _ = broken.new
        assert whole.new == {"id": "2", "text": "fine"}


def test_a_page_that_is_no_json_stays_none_with_such_an_escape_in_it() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_page(b'{"Records": [{"\\ud800')
