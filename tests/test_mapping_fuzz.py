"""Whatever DynamoDB can hold is mapped, skipped or rejected; nothing is raised or half made."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddbrelay.flow.capture import Record, StreamRecord
from ddbrelay.flow.change import (
    REDACTED,
    Change,
    decode_lambda_event,
    decode_page,
    typed_image,
)
from ddbrelay.flow.change.attributes import attributes_of, decoded
from ddbrelay.flow.mapping import (
    CrudMapper,
    Event,
    MapFunction,
    Reject,
    Several,
    Skip,
    event_of,
)
from ddbrelay.flow.mapping.document import small_integers
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.presets import Outbox, SingleTable, preset_of
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules
from ddbrelay.own import OwnMapper
from ddbrelay.testing.builders import ORIGIN

INT64 = 2**63
HIDDEN = {"S": REDACTED}
NAMES = ["id", "type", "a", "b", "eventType", "payload", "aggregateId", "secret", ""]
RULES: list[dict[str, Any]] = [
    {
        "name": "typed",
        "when": {"new": {"type": [{"prefix": "o"}, {"numeric": [">", 0]}, None, True]}},
        "detail_type": "{new.type}Placed",
        "detail": "{all: new, first: new.a[0], n: new.b || `1`, d: diff, c: changed}",
        "continue": True,
    },
    {
        "name": "lambda",
        "when": {"dynamodb": {"NewImage": {"a": {"S": [{"anything-but": ["x"]}]}}}},
        "detail": {"a": "{new.a}", "list": ["{keys}"]},
        "redact": ["b", "a.b"],
    },
    {
        "name": "timed",
        "when": {"old": {"a": [{"exists": True}]}},
        "time": "new.b",
        "source": "{new.a}",
    },
    {"name": "gone", "when": {"eventName": ["REMOVE"]}, "skip": True},
]


WHOLE: list[dict[str, Any]] = [
    {
        "detail_type": "Whole",
        "detail": "{new: new, old: old, keys: keys, text: to_string(new)}",
        "continue": True,
    },
    {"detail_type": "Table", "detail": {"keys": "{keys}", "list": ["{keys}", "{{}}"]}},
]


def own(change: Change) -> Event:
    return event_of("Own", {"new": change.new, "old": change.old, "keys": change.keys})


def mappers() -> dict[str, MapFunction]:
    defaults = Defaults("users", redact=("secret",))
    strict = Defaults("users", redact=("secret",), strict=True)
    crud = CrudMapper("users")
    return {
        "crud": crud,
        "rules": RuleMapper(compile_rules(RULES, defaults, crud), defaults, crud),
        "strict": RuleMapper(compile_rules(RULES, strict, crud), strict),
        "outbox": Outbox(Defaults("users", envelope="metadata"), {}),
        "single": SingleTable(Defaults("users"), {"key": "id"}),
        "whole": RuleMapper(compile_rules(WHOLE, defaults, crud), defaults),
        "own": OwnMapper(own, Defaults("users", envelope="metadata")),
        "cloudevents": preset_of(
            "crud", Defaults("users", envelope="cloudevents"), outbox={}, single_table={}
        ),
    }


MAPPERS = mappers()

LONG_RUN = "12345678901234567890"
escapes = st.sampled_from(["\n", '"', "\\", "\x00", "\u2028", "é", "🚌", "{", "}", "[", ",", ":"])
texts = (
    st.text(max_size=8)
    | st.sampled_from(["", "\x00", "\u2028", "🚌", "order#1"])
    | st.lists(escapes | st.sampled_from(["a", "1", LONG_RUN]), max_size=6).map("".join)
)
numbers = (
    st.integers(-INT64, INT64 - 1).map(str)
    | st.integers(10**37, 10**38 - 1).map(str)
    | st.integers(-(10**38) + 1, 10**38 - 1).flatmap(
        lambda n: st.integers(-128, 88).map(lambda e: f"{n}E{e}")
    )
    | st.decimals(allow_nan=False, allow_infinity=False, places=9).map(str)
    | st.sampled_from(["0", "-0", "1e125", "0.10", "-1E-130", "9" * 38])
)
scalars = st.one_of(
    texts.map(lambda s: {"S": s}),
    numbers.map(lambda n: {"N": n}),
    st.booleans().map(lambda b: {"BOOL": b}),
    st.just({"NULL": True}),
    st.binary(max_size=6).map(lambda b: {"B": msgspec.json.decode(msgspec.json.encode(b))}),
    st.lists(texts, max_size=3).map(lambda s: {"SS": s}),
    st.lists(numbers, max_size=3).map(lambda s: {"NS": s}),
    st.lists(st.binary(min_size=1, max_size=6), max_size=3).map(
        lambda several: {"BS": [base64.b64encode(one).decode() for one in several]}
    ),
)
attributes = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: {"L": v})
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3).map(lambda v: {"M": v})
    ),
    max_leaves=10,
)
json_texts = st.dictionaries(
    texts,
    st.recursive(
        texts | st.integers(-(2**70), 2**70) | st.booleans() | st.none(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
).map(lambda value: {"S": json.dumps(value, ensure_ascii=False)})
outbox_items = st.fixed_dictionaries(
    {"eventType": st.just({"S": "Happened"}), "payload": json_texts | attributes}
)
images = st.dictionaries(st.sampled_from(NAMES), attributes, max_size=6) | outbox_items
BROKEN = [
    b"",
    b"{",
    b"[]",
    b"5",
    b'{"a": 5}',
    b'{"a": {}}',
    b'{"a": {"S": 5}}',
    b'{"a": {"X": "y"}}',
]


def changed(name: str, new: bytes | None, old: bytes | None, keys: bytes) -> Change:
    def raw(image: bytes | None) -> msgspec.Raw | msgspec.UnsetType:
        return msgspec.UNSET if image is None else msgspec.Raw(image)

    part = StreamRecord(
        sequence_number="100000000000000000001",
        keys=msgspec.Raw(keys),
        new_image=raw(new),
        old_image=raw(old),
        created_at=1_770_000_000.0,
    )
    return Change(Record(event_id="e1", event_name=name, dynamodb=part), "s", ORIGIN)


def image_in(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any]:
    return {"NULL": True} if (image := typed_image(raw)) is None else {"M": image}


def parts_of(event: Event, mapper: MapFunction, change: Change) -> list[tuple[Any, Any]]:
    """Pieces of a detail, each with the attribute value that it must be."""
    record = change.record.dynamodb
    detail = json.loads(event.detail, parse_int=Decimal, parse_float=Decimal)
    if isinstance(mapper, Outbox):
        payload = image_in(record.new_image)["M"]["payload"]
        return [(detail["data"], payload)] if "M" in payload else []
    if event.rule in {"created", "updated", "deleted"}:
        image = image_in(record.old_image if change.event_name == "REMOVE" else record.new_image)
        data = detail["data"] if "specversion" in detail else detail
        return [(data, image_in(record.keys) if "NULL" in image else image)]
    if event.rule == "typed":
        return [(detail["all"], image_in(record.new_image))]
    keys = image_in(record.keys)
    if event.detail_type == "Table":
        return [(detail["keys"], keys), (detail["list"][0], keys), (detail["list"][1], {"S": "{}"})]
    if event.detail_type == "Own":
        detail = detail["data"]
    elif event.detail_type != "Whole":
        return []
    new = image_in(record.new_image)
    said = [
        (detail["keys"], keys),
        (detail["new"], new),
        (detail["old"], image_in(record.old_image)),
    ]
    if "text" in detail:
        text = json.loads(detail["text"], parse_int=Decimal, parse_float=Decimal)
        said.append((text, new))
    return said


def same(written: Any, typed: dict[str, Any]) -> bool:
    """Whether a piece of a detail is this attribute value, digit for digit."""
    ((kind, value),) = typed.items()
    match kind:
        case "N":
            return Decimal(written) == Decimal(value)
        case "NS":
            return list(map(Decimal, written)) == list(map(Decimal, value))
        case "NULL":
            return written is None
        case "M":
            return written.keys() == value.keys() and all(
                same(written[name], one) for name, one in value.items()
            )
        case "L":
            return len(written) == len(value) and all(map(same, written, value))
        case _:
            return bool(written == value)


def check(mapper: MapFunction, change: Change) -> None:
    """One result of the allowed kinds, whose details are JSON objects that PutEvents takes.

    Every value of the item that they carry is the item's.
    """
    result = mapper(change)
    assert isinstance(result, Event | Several | Skip | Reject)
    again = mapper(change)
    assert again == result, "the same change gives the same result"
    for event in result.events if isinstance(result, Several) else (result,):
        if isinstance(event, Event):
            detail = json.loads(event.detail)
            assert isinstance(detail, dict)
            assert all(-INT64 <= number < INT64 for number in integers(detail))
            for written, typed in parts_of(event, mapper, change):
                assert same(written, typed), (written, typed)
            assert 0 < len(event.detail_type) <= 128
            assert event.source
            assert event.size > 0
    if isinstance(result, Reject):
        assert result.reason
    if isinstance(mapper, RuleMapper):
        record = change.record.dynamodb
        for raw in (record.new_image, record.old_image):
            image = attributes_of(raw) or {}
            assert "secret" not in image or decoded(image["secret"]) == HIDDEN


def integers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [n for one in value.values() for n in integers(one)]
    if isinstance(value, list):
        return [n for one in value for n in integers(one)]
    return [value] if isinstance(value, int) and not isinstance(value, bool) else []


@pytest.mark.parametrize("name", MAPPERS)
@given(
    event_name=st.sampled_from(["INSERT", "MODIFY", "REMOVE"]),
    new=st.none() | images,
    old=st.none() | images,
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_item_is_mapped_skipped_or_rejected(
    name: str, event_name: str, new: Any, old: Any
) -> None:
    key = (new or old or {}).get("id", {"S": "a"})
    encoded = [None if image is None else json.dumps(image).encode() for image in (new, old)]
    check(MAPPERS[name], changed(event_name, *encoded, json.dumps({"id": key}).encode()))


@pytest.mark.parametrize("name", MAPPERS)
@pytest.mark.parametrize("broken", BROKEN)
def test_an_image_or_key_that_cannot_be_read_is_rejected_and_never_raised(
    name: str, broken: bytes
) -> None:
    fine = b'{"id": {"S": "order#1"}, "type": {"S": "order"}}'
    for event_name in ("INSERT", "MODIFY", "REMOVE"):
        for new, old in ((broken, fine), (fine, broken), (broken, broken)):
            check(MAPPERS[name], changed(event_name, new, old, b'{"id": {"S": "a"}}'))
        check(MAPPERS[name], changed(event_name, fine, fine, broken))


def nested(depth: int) -> bytes:
    value: Any = {"S": "x"}
    for level in range(depth):
        value = {"M": {"a": value}} if level % 2 else {"L": [value]}
    return json.dumps({"id": {"S": "a"}, "a": value, "type": {"S": "order"}}).encode()


@pytest.mark.parametrize("name", MAPPERS)
def test_nesting_to_32_levels_is_kept(name: str) -> None:
    check(MAPPERS[name], changed("INSERT", nested(32), None, b'{"id": {"S": "a"}}'))
    event = CrudMapper("users")(changed("INSERT", nested(32), None, b'{"id": {"S": "a"}}'))
    assert isinstance(event, Event)
    assert event.detail.count(b"[") == 16


@pytest.mark.parametrize("name", MAPPERS)
@pytest.mark.parametrize("depth", [900, 5_000, 50_000])
def test_nesting_that_dynamodb_never_writes_is_no_crash(name: str, depth: int) -> None:
    deep = b'{"a": ' + b'{"L": [' * depth + b'{"S": "x"}' + b"]}" * depth + b"}"
    check(MAPPERS[name], changed("INSERT", deep, None, b'{"id": {"S": "a"}}'))


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPPERS)
def test_an_item_of_400_kb_is_mapped(name: str) -> None:
    image = json.dumps(
        {
            "id": {"S": "order#a"},
            "type": {"S": "order"},
            "eventType": {"S": "Big"},
            "payload": {"M": {"text": {"S": "ü" * 100_000}}},
            "a": {"L": [{"N": "1.5"}] * 10_000},
        },
        ensure_ascii=False,
    ).encode()
    assert len(image) > 300_000
    check(MAPPERS[name], changed("INSERT", image, None, b'{"id": {"S": "order#a"}}'))


LONE = "\\ud800"


@pytest.mark.parametrize("name", MAPPERS)
def test_a_lone_surrogate_is_rejected_and_not_sent_as_something_else(name: str) -> None:
    """No UTF-8 text has one; a JSON escape can spell it, and nothing that we send could."""
    image = f'{{"id": {{"S": "order#{LONE}"}}, "type": {{"S": "order"}}}}'.encode()
    result = MAPPERS[name](changed("INSERT", image, None, b'{"id": {"S": "a"}}'))
    if isinstance(result, Event):
        assert "\\ud800" not in result.detail.decode()
    else:
        assert isinstance(result, Reject | Skip)


@given(st.binary(max_size=60) | images.map(lambda image: json.dumps(image).encode()))
def test_no_answer_makes_a_decoder_crash(body: bytes) -> None:
    for decode in (decode_page, decode_lambda_event):
        for text in (
            body,
            b'{"Records": [{"eventID": "1", "eventName": "INSERT", "dynamodb": %s}]}' % body,
        ):
            try:
                decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue


@given(numbers)
def test_every_number_keeps_its_value(text: str) -> None:
    image = json.dumps({"id": {"S": "a"}, "n": {"N": text}}).encode()
    event = CrudMapper("users")(changed("INSERT", image, None, b'{"id": {"S": "a"}}'))
    assert isinstance(event, Event)
    written = json.loads(event.detail, parse_float=Decimal, parse_int=Decimal)["n"]
    assert Decimal(written) == Decimal(text)


@given(json_texts)
def test_json_text_in_an_outbox_keeps_every_value(payload: dict[str, str]) -> None:
    item = json.dumps({"id": {"S": "a"}, "eventType": {"S": "Happened"}, "payload": payload})
    mapper = Outbox(Defaults("users"), {})
    event = mapper(changed("INSERT", item.encode(), None, b'{"id": {"S": "a"}}'))
    assert isinstance(event, Event)
    assert json.loads(event.detail) == small(json.loads(payload["S"]))


def small(value: Any) -> Any:
    """The same with each integer beyond 64 bits as text."""
    if isinstance(value, dict):
        return {name: small(one) for name, one in value.items()}
    if isinstance(value, list):
        return [small(one) for one in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -INT64 <= value < INT64 else str(value)
    return value


@pytest.mark.parametrize(
    ("detail", "small_one"),
    [
        (
            rb'{"a":"line\nbreak","t":"12345678901234567890","n":9223372036854775808}',
            rb'{"a":"line\nbreak","t":"12345678901234567890","n":"9223372036854775808"}',
        ),
        (rb'{"a":"12345678901234567890\n"}', rb'{"a":"12345678901234567890\n"}'),
        (rb'{"a":"\\","n":-9223372036854775809}', rb'{"a":"\\","n":"-9223372036854775809"}'),
        (rb'{"a":"\"12345678901234567890"}', rb'{"a":"\"12345678901234567890"}'),
        (b'{"n":%s}' % (b"9" * 5000), b'{"n":"%s"}' % (b"9" * 5000)),
        (b'{"n":9223372036854775807}', b'{"n":9223372036854775807}'),
        (b'{"n":12345678901234567890.5}', b'{"n":12345678901234567890.5}'),
    ],
)
def test_only_integers_beyond_64_bits_become_text(detail: bytes, small_one: bytes) -> None:
    assert small_integers(detail) == small_one
