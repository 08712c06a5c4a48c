from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from ddbrelay import config
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Event, Reject, Skip, envelopes, presets
from ddbrelay.flow.mapping.making import Defaults, MappingError
from ddbrelay.flow.mapping.presets import Outbox, SingleTable
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules
from ddbrelay.testing.builders import ORIGIN, change
from ddbrelay.testing.clock import EPOCH

DEFAULTS = Defaults("outbox")
ITEM: dict[str, Any] = {
    "id": "m1",
    "eventType": "OrderPlaced",
    "aggregateId": "order-7",
    "payload": {"total": Decimal("12.50"), "lines": 2},
    "occurredAt": "2026-02-03T04:05:06Z",
}


def outbox(defaults: Defaults = DEFAULTS, **options: Any) -> Outbox:
    return Outbox(defaults, options)


def placed(**attributes: Any) -> Change:
    given = {name: value for name, value in (ITEM | attributes).items() if value is not ...}
    return change("m1", 10**20, new=given, event_id="e1")


def test_the_configuration_knows_the_names_that_the_mapping_knows() -> None:
    assert config.PRESETS == presets.PRESETS
    assert config.ENVELOPES == envelopes.ENVELOPES


def test_an_item_of_an_outbox_is_the_event_that_stands_in_it() -> None:
    assert outbox()(placed()) == Event(
        "ddbrelay.outbox",
        "OrderPlaced",
        b'{"total":12.50,"lines":2}',
        (ORIGIN.stream_arn, "e1"),
        1770091506.0,
        "outbox",
    )


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ('{"a": 1, "b": 1.10}', b'{"a":1,"b":1.10}'),
        ('{"big": 12345678901234567890123, "s": "a  b"}', None),
        ({}, b"{}"),
        ("{}", b"{}"),
    ],
)
def test_a_payload_is_a_map_or_json_text_copied_digit_for_digit(
    payload: Any, detail: bytes | None
) -> None:
    event = outbox()(placed(payload=payload))
    assert isinstance(event, Event)
    assert event.detail == detail or b"12345678901234567890123" in event.detail


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"payload": "{broken"}, 'the payload, attribute "payload", is no JSON object'),
        ({"payload": "[1]"}, 'the payload, attribute "payload", is no JSON object'),
        ({"payload": "null"}, 'the payload, attribute "payload", is no JSON object'),
        ({"payload": "[" * 5000}, 'the payload, attribute "payload", is no JSON object'),
        ({"payload": 5}, "is neither a map nor JSON text"),
        ({"payload": ...}, "is neither a map nor JSON text"),
        ({"eventType": ...}, 'the event type, attribute "eventType", is no text'),
        ({"eventType": "x" * 129}, "the detail type is longer than 128 characters"),
        ({"eventType": ""}, "the detail type is empty"),
        ({"occurredAt": "1_770_091_506"}, "it is neither an ISO time"),
        ({"occurredAt": "yesterday"}, 'attribute "occurredAt": it is neither an ISO time'),
        ({"source": "aws.orders"}, "must not begin with aws."),
        ({"source": 5}, 'the source, attribute "source", is no text'),
    ],
)
def test_an_item_that_is_no_event_is_rejected(attributes: dict[str, Any], reason: str) -> None:
    result = outbox()(placed(**attributes))
    assert isinstance(result, Reject)
    assert result.reason.startswith("outbox: ")
    assert reason in result.reason


@pytest.mark.parametrize("name", ["MODIFY", "REMOVE"])
def test_only_inserts_count(name: str) -> None:
    assert outbox()(change("m1", event_name=name, old=b"{broken", new=b"{broken")) == Skip(
        "only inserts count"
    )


@pytest.mark.parametrize(
    ("occurred", "time"),
    [
        (1770091506, 1770091506.0),
        (1770091506123, 1770091506.123),
        ("1770091506", 1770091506.0),
        ("20260203", 1770076800.0),
        ("2026-02-03T05:05:06+01:00", 1770091506.0),
        (..., EPOCH),
    ],
)
def test_the_time_is_when_it_occurred(occurred: Any, time: float) -> None:
    event = outbox()(placed(occurredAt=occurred))
    assert isinstance(event, Event)
    assert event.time == time


def test_the_attributes_names_can_be_said() -> None:
    mapper = outbox(event_type="type", payload="body", aggregate_id="agg", source="from")
    event = mapper(placed(type="A", body={"x": 1}, **{"from": "shop"}))
    assert isinstance(event, Event)
    assert (event.detail_type, event.detail, event.source) == ("A", b'{"x":1}', "shop")


def test_events_of_one_aggregate_follow_one_another() -> None:
    first, second = placed(), change("m2", new=ITEM | {"id": "m2"})
    other = change("m3", new=ITEM | {"id": "m3", "aggregateId": "order-8"})
    for source in (first, second, other):
        assert isinstance(outbox()(source), Event)
    assert first.item_key == second.item_key == b'{"aggregateId":{"S":"order-7"}}'
    assert other.item_key != first.item_key
    rejected = change("m4", new=ITEM | {"payload": 5})
    outbox()(rejected)
    assert rejected.item_key == first.item_key


def test_events_that_a_rule_takes_before_the_outbox_stay_in_the_line_of_their_aggregate() -> None:
    specs = [{"when": {"new": {"eventType": ["OrderPlaced"]}}, "detail_type": "Placed"}]
    rules = compile_rules(specs, DEFAULTS, CrudMapper("outbox"))
    mapper = RuleMapper(rules, DEFAULTS, outbox())
    first, second = placed(), placed(eventType="OrderPaid")
    assert [one.rule for one in map(mapper, (first, second)) if isinstance(one, Event)] == [
        "Placed",
        "outbox",
    ]
    assert first.item_key == second.item_key == b'{"aggregateId":{"S":"order-7"}}'


@pytest.mark.parametrize(
    ("payload", "detail"),
    [
        ('{"a": 92233720368547758080}', b'{"a":"92233720368547758080"}'),
        ('{"a": [-9223372036854775809, 9223372036854775807, 1e30, "99999999999999999999"]}', None),
        ({"a": 10**30}, b'{"a":"1000000000000000000000000000000"}'),
    ],
)
def test_an_integer_beyond_64_bits_becomes_text(payload: Any, detail: bytes | None) -> None:
    event = outbox()(placed(payload=payload))
    assert isinstance(event, Event)
    expected = b'{"a":["-9223372036854775809",9223372036854775807,1e30,"99999999999999999999"]}'
    assert event.detail == (detail or expected)


def test_without_an_aggregate_the_item_is_on_its_own() -> None:
    source = placed(aggregateId=...)
    assert isinstance(outbox()(source), Event)
    assert source.item_key == b'{"id":{"S":"m1"}}'


def test_an_envelope_says_the_aggregate() -> None:
    wrapped = outbox(Defaults("outbox", envelope="metadata"))(placed())
    assert isinstance(wrapped, Event)
    assert json.loads(wrapped.detail)["metadata"] == {
        "id": "e1",
        "sequence": "100000000000000000000",
        "at": "2026-02-03T04:05:06Z",
        "table": "users",
        "aggregateId": "order-7",
    }
    cloud = outbox(Defaults("outbox", envelope="cloudevents"))(placed())
    assert isinstance(cloud, Event)
    assert json.loads(cloud.detail)["subject"] == "order-7"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"paylod": "x"}, ("outbox", "paylod")),
        ({"payload": 5}, ("outbox", "payload")),
        ({"after": "burn"}, ("outbox", "after")),
    ],
)
def test_a_wrong_option_of_the_outbox_says_which(options: dict[str, Any], path: Any) -> None:
    with pytest.raises(MappingError) as found:
        outbox(**options)
    assert found.value.path == path


# Single-table designs


def single(**options: Any) -> SingleTable:
    return SingleTable(Defaults("app"), options)


def entry(pk: Any, sk: Any = "PROFILE", **kwargs: Any) -> Change:
    keys = {"PK": pk, "SK": sk}
    name = kwargs.get("event_name")
    image = {("old" if name == "REMOVE" else "new"): keys | {"n": 1}}
    return change(keys=keys, **image, **kwargs)


@pytest.mark.parametrize(
    ("pk", "event_name", "detail_type"),
    [
        ("USER#1", "INSERT", "UserCreated"),
        ("ORDER_ITEM#1", "MODIFY", "OrderItemUpdated"),
        ("invoice#1#2", "REMOVE", "InvoiceDeleted"),
    ],
)
def test_the_entity_comes_from_the_prefix_of_the_key(
    pk: str, event_name: str, detail_type: str
) -> None:
    event = single()(entry(pk, event_name=event_name))
    assert isinstance(event, Event)
    assert (event.detail_type, event.source) == (detail_type, "ddbrelay.app")


@pytest.mark.parametrize("pk", ["no-prefix", 5, b"USER#1", "###", ""])
def test_an_item_without_a_prefix_is_skipped(pk: Any) -> None:
    assert single()(entry(pk)) == Skip("no entity")


def test_entities_give_the_noun_and_leave_out_the_rest() -> None:
    mapper = single(key="SK", entities={"PROFILE": "User", "ORDER": "Purchase"})
    made = [mapper(entry("USER#1", sk)) for sk in ("PROFILE", "ORDER#7", "SESSION#1")]
    types = [one.detail_type if isinstance(one, Event) else one for one in made]
    assert types == ["UserCreated", "PurchaseCreated", Skip("no entity")]


def test_the_only_key_has_the_prefix_and_of_two_one_must_be_named() -> None:
    event = single(separator="|")(change("USER|1"))
    assert isinstance(event, Event)
    assert event.detail_type == "UserCreated"
    result = single()(change(keys={"a": "USER#1", "b": "x"}))
    assert result == Reject("single-table: which of a, b has the prefix? (single_table.key)")
    missing = single(key="c")(change(keys={"a": "USER#1", "b": "x"}))
    assert missing == Reject('single-table: the key has no attribute "c" (single_table.key)')


@pytest.mark.parametrize(
    "options", [{"keys": "PK"}, {"separator": ""}, {"entities": {}}, {"entities": {"A": 5}}]
)
def test_a_wrong_option_of_a_single_table_says_which(options: dict[str, Any]) -> None:
    with pytest.raises(MappingError) as found:
        single(**options)
    assert found.value.path[0] == "single_table"
