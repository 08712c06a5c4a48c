"""Golden pairs: the same change, as GetRecords gives it and as Lambda does, is the same event."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lambda_runtime import event_of

from ddbrelay import config
from ddbrelay.aws_lambda.records import decode
from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import TTL_PRINCIPAL, Change, decode_page
from ddbrelay.flow.mapping import Event, MapFunction, Several
from ddbrelay.mappings import mapper_of
from ddbrelay.testing.builders import ORIGIN, record
from ddbrelay.testing.server import SimulatorProcess

FILES = {
    "crud": "",
    "rules": """
redact = ["secret"]
[[rule]]
name = "gone"
when = { eventName = ["REMOVE"] }
detail = "{id: keys.id, at: time, ttl: ttl, was: old}"
[[rule]]
name = "changed"
when = { eventName = ["MODIFY"] }
detail_type = "UserChanged"
detail = "{id: id, sequence: sequenceNumber, diff: diff, changed: changed}"
continue = true
[[rule]]
name = "all"
when = { dynamodb = { StreamViewType = ["NEW_AND_OLD_IMAGES"] } }
detail_type = "UserWritten"
detail = { new = "{new}", who = "user {keys.id}", from = "{streamArn}" }
trace_header = "Root={eventID}"
envelope = "metadata"
""",
    "cloudevents": 'envelope = "cloudevents"',
    "outbox": 'preset = "outbox"',
    "single table": 'preset = "single-table"\n[single_table]\nkey = "id"\nseparator = "-"',
}

_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_numbers = st.one_of(
    st.integers(-(10**37), 10**37).map(str),
    st.decimals(
        allow_nan=False, allow_infinity=False, places=12, min_value=-1e9, max_value=1e9
    ).map(lambda number: format(number.normalize(), "f")),
    st.sampled_from(["0", "-0", "1E+125", "1.5E-130", "123456789012345678901234567890.12345678"]),
)
_binaries = st.binary(max_size=20).map(lambda value: base64.b64encode(value).decode())
_scalars = st.one_of(
    _texts.map(lambda value: {"S": value}),
    _numbers.map(lambda value: {"N": value}),
    _binaries.map(lambda value: {"B": value}),
    st.booleans().map(lambda value: {"BOOL": value}),
    st.just({"NULL": True}),
    st.lists(_texts, min_size=1, max_size=3, unique=True).map(lambda value: {"SS": value}),
    st.lists(_numbers, min_size=1, max_size=3, unique=True).map(lambda value: {"NS": value}),
    st.lists(_binaries, min_size=1, max_size=3, unique=True).map(lambda value: {"BS": value}),
)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda value: {"L": value}),
        st.dictionaries(_texts, inner, max_size=4).map(lambda value: {"M": value}),
    ),
    max_leaves=12,
)
_images = st.dictionaries(
    st.sampled_from(["name", "payload", "eventType", "aggregateId", "secret", "ünï \"q\" \\"]),
    _values,
    max_size=6,
)  # fmt: skip


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record as AWS may give it, of any kind of change and view type."""
    key = {"id": draw(_texts.filter(bool).map(lambda value: {"S": value}))}
    images = [json.dumps({**key, **draw(_images)}).encode() for _ in range(2)]
    name = draw(st.sampled_from(["INSERT", "MODIFY", "REMOVE"]))
    return record(
        event_name=name,
        sequence=draw(st.integers(10**20, 10**39)),
        keys=json.dumps(key).encode(),
        new=None if name == "REMOVE" else images[0],
        old=None if name == "INSERT" else images[1],
        images=draw(st.booleans()),
        ttl=name == "REMOVE" and draw(st.booleans()),
        at=draw(st.sampled_from([1_767_225_600, 1_767_225_600.0, 1.7672256e9])),
    )


def by_get_records(one: Record) -> Record:
    """The record in an answer of GetRecords, whose JSON is not written as ours."""
    whole = event_of(one)["Records"][0]
    del whole["eventSourceARN"]
    if (by := one.identity) is not None:
        whole["userIdentity"] = {"Type": by.type_upper, "PrincipalId": by.principal_upper}
    body = json.dumps({"Records": [whole], "NextShardIterator": "next"}, indent=1)
    (read,) = decode_page(body.encode()).records
    return read


def by_lambda(one: Record) -> Record:
    """The record in the function's event, as the runtime client hands it over."""
    event = json.loads(json.dumps(event_of(one)))
    ((origin, (read,)),) = decode(event).items()
    assert origin == ORIGIN
    return read


@pytest.fixture(scope="module", params=FILES, ids=str)
def mapper(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MapFunction:
    file: Path = tmp_path_factory.mktemp("mapping") / "ddbrelay.toml"
    file.write_text(FILES[request.param])
    return mapper_of(config.load({"config": file}, {}), ORIGIN.table)


@given(records())
@settings(max_examples=60)
def test_the_same_change_maps_to_the_same_bytes(mapper: MapFunction, one: Record) -> None:
    polled, pushed = (Change(read(one), "", ORIGIN) for read in (by_get_records, by_lambda))
    assert mapper(polled) == mapper(pushed)
    assert polled.item_key == pushed.item_key
    assert polled.ttl is pushed.ttl


def test_a_record_without_a_time_maps_to_an_event_without_one(mapper: MapFunction) -> None:
    pushed = Change(by_lambda(record("a", at=None)), "", ORIGIN)
    mapped = mapper(pushed)
    for event in mapped.events if isinstance(mapped, Several) else [mapped]:
        assert not isinstance(event, Event) or event.time is None


def test_what_a_stream_gives_is_what_lambda_gives(name: str) -> None:
    value: dict[str, Any] = {
        "text": 'é "quoted" \\ \u2028',
        "bytes": b"\x00\xff",
        "set": {b"a", b"b"},
        "list": [1, {"deep": None}, True],
        "empty": "",
    }
    with SimulatorProcess() as simulator:
        arn = simulator.create_table(name)
        simulator.put(name, {"id": "a", **value}, {"id": "a", "n": 10**30}, {"id": "b"})
        simulator.delete(name, {"id": "a"})
        simulator.delete(name, {"id": "b"}, ttl=True)
        written = [one.record for one in simulator.records(name)]
    assert len(written) == 5
    assert written[-1].identity is not None
    assert written[-1].identity.principal_upper == TTL_PRINCIPAL
    ((origin, pushed),) = decode(event_of(*written, arn=arn)).items()
    mapper = mapper_of(config.load({"config": "/dev/null"}, {}), name)
    for polled, from_lambda in zip(written, pushed, strict=True):
        assert mapper(Change(polled, "", origin)) == mapper(Change(from_lambda, "", origin))
