"""Records in every form in which people have them, and places for what is none."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.arns import table_in
from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import decode_page
from ddbrelay.offline import RecordError, change_of, records_of, stream_of
from ddbrelay.testing.builders import ORIGIN, record
from ddbrelay.testing.clock import EPOCH
from ddbrelay.values import iso

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/users/stream/2026-01-01T00:00:00.000"


def wire(one: Record) -> dict[str, Any]:
    """A record as GetRecords answers it."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(one))
    return found


def printed(one: Record) -> dict[str, Any]:
    """A record as the AWS CLI prints it."""
    found = wire(one)
    at = found["dynamodb"].get("ApproximateCreationDateTime")
    if at is not None:
        found["dynamodb"]["ApproximateCreationDateTime"] = iso(at).replace("Z", "+00:00")
    return found


def handed(one: Record) -> dict[str, Any]:
    """A record as Lambda hands it to a function."""
    found = {**wire(one), "eventSource": "aws:dynamodb", "eventSourceARN": ARN, "eventVersion": "1"}
    if "userIdentity" in found:
        by = found["userIdentity"]
        found["userIdentity"] = {"type": by["Type"], "principalId": by["PrincipalId"]}
    return found


def text(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent).encode()


def lines(values: Sequence[Any]) -> bytes:
    return b"\n".join(text(value) for value in values) + b"\n"


FORMS: dict[str, Callable[[Sequence[Record]], bytes]] = {
    "GetRecords": lambda many: text(
        {"Records": [wire(one) for one in many], "NextShardIterator": "AAA"}
    ),
    "AWS CLI": lambda many: text({"Records": [printed(one) for one in many]}, indent=4),
    "Lambda": lambda many: text({"Records": [handed(one) for one in many]}),
    "array": lambda many: text([wire(one) for one in many]),
    "array of events": lambda many: text([{"Records": [handed(one)]} for one in many], indent=1),
    "JSON lines": lambda many: lines([wire(one) for one in many]),
    "lines of events": lambda many: lines([{"Records": [handed(one)]} for one in many]),
    "one after the other": lambda many: b"\n\n".join(text(printed(one), indent=2) for one in many),
    "dead letters": lambda many: lines(
        [{"type": "deadLetter", "streamArn": ARN, "record": wire(one)} for one in many]
    ),
    "byte order mark": lambda many: b"\xef\xbb\xbf" + text([wire(one) for one in many]),
}

MANY = [
    record("a", new={"id": "a", "n": 1, "blob": b"\x00\xff", "tags": {"x", "y"}}),
    record("a", event_name="MODIFY", new={"id": "a", "n": 2}, old={"id": "a", "n": 1}, at=None),
    record("ü\n", event_name="REMOVE", old={"id": "ü\n"}, ttl=True, at=EPOCH + 61),
]


def meaning(one: Record) -> tuple[Any, ...]:
    change = change_of(one, ORIGIN)
    return (
        *(change.event_id, change.event_name, change.sequence_number, change.time),
        *(change.keys, change.new, change.old, change.ttl, change.item_key),
    )


@pytest.mark.parametrize("form", FORMS)
def test_the_same_records_come_out_of_every_form(form: str) -> None:
    found = records_of(FORMS[form](MANY))
    assert [meaning(one) for one in found] == [meaning(one) for one in MANY]


@pytest.mark.parametrize("form", FORMS)
def test_a_record_tells_its_stream_where_the_form_does(form: str) -> None:
    tells = form in {"Lambda", "array of events", "lines of events", "dead letters"}
    assert {stream_of(one) for one in records_of(FORMS[form](MANY))} == {ARN if tells else None}


def test_what_is_read_offline_is_what_a_page_gives() -> None:
    body = FORMS["GetRecords"](MANY)
    page = decode_page(body).records
    assert [meaning(one) for one in records_of(body)] == [meaning(one) for one in page]


def test_images_stay_as_they_are_written() -> None:
    image = b'{ "id" : {"S":"a"}, "n": {"N":"1.0e5"} }'
    body = b'{"eventID":"1","eventName":"INSERT","dynamodb":{"SequenceNumber":"1","Keys":{},'
    (one,) = records_of(body + b'"NewImage":' + image + b',"OldImage":null}}')
    assert bytes(one.dynamodb.new_image) == image
    assert one.dynamodb.old_image is msgspec.UNSET
    assert change_of(one, ORIGIN).shard_id == ""
    assert change_of(one, ORIGIN, "shard-7").shard_id == "shard-7"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1767225600", EPOCH),
        ("1.7672256E9", EPOCH),
        ("1767225600.0", EPOCH),
        ('"2026-01-01T00:00:00Z"', EPOCH),
        ('"2026-01-01T01:00:00+01:00"', EPOCH),
        ('"2026-01-01T00:00:00"', EPOCH),
        ("null", None),
    ],
)
def test_times_of_every_form_are_epoch_seconds(written: str, seconds: float | None) -> None:
    body = text(wire(record("a", at=12345))).replace(b"12345.0", written.encode())
    (one,) = records_of(body)
    assert one.dynamodb.created_at == seconds


def test_a_page_without_records_has_none() -> None:
    assert records_of(b'{"Records": []}') == []
    assert records_of(b"[]") == []


GOOD = text(wire(record("a", 111)))
KINESIS = b"""{"eventID": "e1", "eventName": "INSERT", "recordFormat": "application/json",
  "tableName": "users", "dynamodb": {"Keys": {"id": {"S": "a"}}, "SizeBytes": 8}}"""


def without(name: str, *, inside: bool = False) -> bytes:
    value = wire(record("a", 111))
    del (value["dynamodb"] if inside else value)[name]
    return text(value)


def having(name: str, value: Any, *, inside: bool = False) -> bytes:
    whole = wire(record("a", 111))
    (whole["dynamodb"] if inside else whole)[name] = value
    return text(whole)


@pytest.mark.parametrize(
    ("body", "line", "what"),
    [
        (b"", 1, "there is nothing in it"),
        (b" \n ", 2, "there is nothing in it"),
        (b"{", 1, "no JSON: Expecting property name"),
        (GOOD + b"\n" + GOOD[:-1], 2, "no JSON: Expecting ',' delimiter"),
        (GOOD + b"\n\nxyz", 3, "no JSON: Expecting value"),
        (b'{"Records": [NaN]}', 1, "no JSON: NaN is no JSON"),
        (GOOD + b"\n\xff", 2, "no UTF-8"),
        (b"[" * 100_000, 1, "it is nested too deeply"),
        (b'\n"text"', 2, "a text is no stream record: expected a GetRecords answer"),
        (b"12", 1, "a number is no stream record"),
        (b'{"id": 1}', 1, "this is no stream record"),
        (b'{"Records": {}}', 1, "Records must be an array"),
        (b'{"Records": [\n1]}', 2, "a record must be an object"),
        (b'{"record": null}', 1, "record must be an object"),
        (without("eventID"), 1, "the record has no eventID"),
        (without("dynamodb"), 1, "the record has no dynamodb"),
        (without("SequenceNumber", inside=True), 1, "the record has no SequenceNumber"),
        (
            KINESIS,
            1,
            "this change comes from Kinesis Data Streams for DynamoDB: it has no sequence",
        ),
        (b'{"Records": [{"kinesis": {}}]}', 1, "this is a record of a Kinesis data stream: it has"),
        (without("Keys", inside=True), 1, "the record has no Keys"),
        (having("eventID", 5), 1, "eventID is no text that can be printed"),
        (having("eventID", "\x1b[2J"), 1, "eventID is no text that can be printed"),
        (having("eventID", "\ud800"), 1, "eventID cannot be read"),
        (having("eventID", ""), 1, "eventID is empty"),
        (having("eventName", None), 1, "eventName is empty"),
        (having("dynamodb", 5), 1, "dynamodb must be an object"),
        (having("userIdentity", "me"), 1, "userIdentity cannot be read"),
        (having("Keys", None, inside=True), 1, "Keys must be an object"),
        (having("NewImage", [], inside=True), 1, "NewImage must be an object"),
        (having("SequenceNumber", "-5", inside=True), 1, "SequenceNumber is no decimal number"),
        (having("SizeBytes", 1.5, inside=True), 1, "SizeBytes is no whole number"),
    ],
)
def test_what_is_no_record_is_refused_with_its_place(body: bytes, line: int, what: str) -> None:
    with pytest.raises(RecordError) as caught:
        records_of(body)
    assert caught.value.line == line
    assert caught.value.what.startswith(what)
    assert str(caught.value) == f"line {line}, column {caught.value.column}: {caught.value.what}"


def test_the_column_is_that_of_the_wrong_value() -> None:
    body = '[\n  {"é": 0, "eventID": 7, "eventName": "INSERT",\n   "dynamodb": {}}]'.encode()
    with pytest.raises(RecordError, match="line 3, column 16: the record has no SequenceNumber"):
        records_of(body)
    body = body.replace(b"{}", b'{"SequenceNumber": "1", "Keys": {}}')
    with pytest.raises(RecordError, match="line 2, column 23: eventID"):
        records_of(body)


@given(st.binary() | st.text().map(str.encode) | st.builds(lambda at: GOOD[:at], st.integers(0)))
def test_no_text_is_answered_with_another_error(body: bytes) -> None:
    with suppress(RecordError):
        records_of(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*wire(MANY[1]), *wire(MANY[1])["dynamodb"]]), inner)
    ),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from([*wire(MANY[1]), *wire(MANY[0])["dynamodb"]]), JSON)))
def test_a_record_with_wrong_values_is_read_or_refused(changes: list[tuple[str, Any]]) -> None:
    value = wire(MANY[0])
    for name, wrong in changes:
        inner = value.get("dynamodb")
        if isinstance(inner, dict) and name in inner:
            inner[name] = wrong
        else:
            value[name] = wrong
    with suppress(RecordError):
        records_of(text(value))


@pytest.mark.parametrize(
    ("arn", "table"),
    [
        (ARN, "users"),
        ("arn:aws-cn:dynamodb:cn-north-1:000000000000:table/a.b-c/stream/x", "a.b-c"),
        ("arn:aws:dynamodb:ddblocal:000000000000:table/users/stream/x", "users"),
        ("arn:aws:sqs:eu-west-1:123456789012:queue", None),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/users", None),
    ],
)
def test_a_streams_arn_names_its_table(arn: str, table: str | None) -> None:
    assert table_in(arn) == table
