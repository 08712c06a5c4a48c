"""A filter lets through every record that a rule may be for, and says what it leaves out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddbrelay.export.filters import MAX_LENGTH, Filters, filters_of, text_of
from ddbrelay.export.values import ABSENT
from ddbrelay.flow.change import Change, Origin
from ddbrelay.flow.mapping import CrudMapper
from ddbrelay.flow.mapping.document import Document, TypedDocument
from ddbrelay.flow.mapping.making import Defaults
from ddbrelay.flow.mapping.patterns import PatternError, compile_pattern
from ddbrelay.flow.mapping.rules import Rule, compile_rules
from ddbrelay.offline import change_of, records_of

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/users/stream/2026-11-23T10:00:00.000"
DEFAULTS = Defaults("users", None, None, "none", False, (), lambda name: lambda detail: None)


def rules_of(*specs: dict[str, Any]) -> list[Rule]:
    named = [
        {"name": f"rule-{number}", "detail_type": "Changed", **spec}
        for number, spec in enumerate(specs, 1)
    ]
    return compile_rules(named, DEFAULTS, CrudMapper("users"))


def filters(*whens: dict[str, Any], **more: Any) -> Filters:
    return filters_of(rules_of(*({"when": when} for when in whens)), **more)


def only(*whens: dict[str, Any], **more: Any) -> dict[str, Any]:
    [pattern] = filters(*whens, **more).patterns
    return pattern


def change(
    name: str,
    *,
    new: dict[str, Any] | None = None,
    old: dict[str, Any] | None = None,
    keys: dict[str, Any] | None = None,
    expired: bool = False,
) -> Change:
    images = {"NewImage": new, "OldImage": old}
    record: dict[str, Any] = {
        "eventID": "e1",
        "eventName": name,
        "dynamodb": {
            "Keys": keys or {"id": {"S": "1"}},
            "SequenceNumber": "111",
            **{key: image for key, image in images.items() if image is not None},
        },
    }
    if expired:
        record["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    [found] = records_of(json.dumps(record).encode())
    return change_of(found, Origin("users", ARN))


def passes(found: Filters, one: Change) -> bool:
    document = TypedDocument(one)
    return not found.patterns or any(
        compile_pattern(pattern).matches(document) for pattern in found.patterns
    )


def test_a_text_is_looked_for_where_the_attribute_is_a_text() -> None:
    found = only({"new": {"type": [{"prefix": "order#"}]}})
    assert found == {
        "eventName": ["INSERT", "MODIFY"],
        "dynamodb": {"NewImage": {"type": {"S": [{"prefix": "order#"}, {"exists": False}]}}},
    }


def test_a_declared_type_makes_a_filter_tight() -> None:
    found = only({"new": {"type": ["order"]}}, types={("type",): "S"})
    assert found["dynamodb"] == {"NewImage": {"type": {"S": ["order"]}}}


def test_maps_are_followed_and_numbers_are_texts() -> None:
    found = only({"old": {"address": {"number": [5, 7.5]}}}, types={("address", "number"): "N"})
    assert found["eventName"] == ["MODIFY", "REMOVE"]
    assert found["dynamodb"] == {"OldImage": {"address": {"M": {"number": {"N": ["5", "7.5"]}}}}}


def test_time_to_live_is_the_principal() -> None:
    assert only({"ttl": [True]}) == {"userIdentity": {"principalId": ["dynamodb.amazonaws.com"]}}
    kept = filters({"ttl": [False], "eventName": ["REMOVE"]})
    assert passes(kept, change("REMOVE", old={}))
    assert not passes(kept, change("REMOVE", old={}, expired=True))


@pytest.mark.parametrize(
    "field",
    [
        {"changed": ["email"]},
        {"diff": {"a": {"before": [1]}}},
        {"new": {"n": [{"numeric": [">", 1]}]}},
    ],
    ids=["changed", "diff", "a range of numbers"],
)
def test_what_a_filter_cannot_say_is_left_out_and_noted(field: dict[str, Any]) -> None:
    found = filters({"eventName": ["MODIFY"], **field})
    assert found.patterns == ({"eventName": ["MODIFY"]},)
    assert found.notes[0].startswith('rule "rule-1": ')
    assert "cannot be in a filter" in found.notes[0]


def test_a_name_with_dots_is_left_out_of_a_filter() -> None:
    found = filters({"eventName": ["INSERT"], "new": {"address.city": ["Oslo"]}})
    assert found.patterns == ({"eventName": ["INSERT"]},)
    assert found.notes == ('rule "rule-1": new.address.city cannot be in a filter',)


def test_a_name_with_dots_is_one_filter_as_it_is_written() -> None:
    image = {"S": ["Oslo", {"exists": False}]}
    when = {"dynamodb": {"NewImage": {"address.city.x": image}}, "eventName": ["INSERT"]}
    found = [pattern["dynamodb"]["NewImage"] for pattern in filters(when).patterns]
    assert found == [{"address.city.x": {"S": ["Oslo"]}}, {"address.city.x": {"S": [ABSENT]}}]


def test_many_ways_through_a_pattern_are_not_all_walked() -> None:
    names = [f"a{number}" for number in range(12)]
    when = {"eventName": ["INSERT"], "new": {f"{name}.b.c.d": ["x"] for name in names}}
    found = filters(when)
    assert found.patterns == ()
    assert found.notes[0] == 'rule "rule-1": too many combinations of $or for filters'


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ([{"numeric": ["=", 5]}], [{"numeric": ["=", 5]}]),
        ([{"numeric": [">", 0.5]}], [{"numeric": [">", 0.5]}]),
        ([{"numeric": ["<=", -1]}], [{"numeric": ["<=", -1]}]),
        ([{"numeric": [">=", 1, "<", 2.5]}], [{"numeric": [">=", 1, "<", 2.5]}]),
        ([3, {"exists": False}], [3, {"exists": False}]),
    ],
)
def test_comparisons_of_numbers_are_written_as_the_rule_has_them(
    leaf: list[Any], expected: list[Any]
) -> None:
    when = {"dynamodb": {"SizeBytes": leaf, "Keys": {"id": {"S": ["1"]}}}}
    assert only(when)["dynamodb"]["SizeBytes"] == expected


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ([{"exactly": "a"}], ["a"]),
        ([{"wildcard": "a\\*b*c"}], [{"prefix": "a*b"}]),
        ([{"equals-ignore-case": "a"}], [{"equals-ignore-case": "a"}]),
        ([{"suffix": "a"}, "b", {"exists": False}], [{"suffix": "a"}, "b", ABSENT]),
        ([{"anything-but": "a"}], [{"anything-but": ["a"]}]),
    ],
)
def test_operators_on_texts_are_written_as_a_filter_has_them(
    leaf: list[Any], expected: list[Any]
) -> None:
    found = only({"new": {"type": leaf}}, types={("type",): "S"})
    assert found["dynamodb"] == {"NewImage": {"type": {"S": expected}}}


@pytest.mark.parametrize(
    "leaf",
    [[{"cidr": "10.0.0.0/8"}], [{"prefix": {"equals-ignore-case": "a"}}], [{"wildcard": "*a"}]],
)
def test_an_operator_that_a_filter_lacks_is_left_out(leaf: list[Any]) -> None:
    found = filters({"eventName": ["INSERT"], "new": {"type": leaf}}, types={("type",): "S"})
    assert found.patterns == ({"eventName": ["INSERT"]},)
    assert found.notes == ('rule "rule-1": new.type cannot be in a filter',)


def test_a_rule_for_everything_leaves_no_filter() -> None:
    found = filters_of(rules_of({"when": {"eventName": ["INSERT"]}}, {}))
    assert found.patterns == ()
    assert found.notes == ('rule "rule-2" is for every record: there is no filter',)


def test_a_rule_that_skips_needs_no_record() -> None:
    found = filters_of(
        compile_rules(
            [
                {"name": "gone", "when": {"eventName": ["REMOVE"]}, "skip": True},
                {"name": "new", "when": {"eventName": ["INSERT"]}, "detail_type": "New"},
            ],
            DEFAULTS,
            CrudMapper("users"),
        )
    )
    assert found.patterns == ({"eventName": ["INSERT"]},)


def test_lambdas_own_form_stays_as_it_is() -> None:
    when = {"dynamodb": {"NewImage": {"type": {"S": ["order"]}}}, "eventName": ["INSERT"]}
    assert only(when) == when


def test_filters_that_another_one_covers_are_dropped() -> None:
    found = filters({"eventName": ["INSERT"], "keys": {"id": ["1"]}}, {"eventName": ["INSERT"]})
    assert found.patterns == ({"eventName": ["INSERT"]},)
    # Nothing more goes through, so there is nothing to say.
    assert not [note for note in found.notes if "joined" in note]


def test_too_many_filters_are_joined_and_it_is_said() -> None:
    found = filters(*({"keys": {"id": [f"user-{number}"]}} for number in range(8)), limit=5)
    assert len(found.patterns) <= 5
    assert any("joined" in note for note in found.notes)
    for number in range(8):
        assert passes(found, change("INSERT", keys={"id": {"S": f"user-{number}"}}, new={}))
    assert not passes(found, change("INSERT", keys={"id": {"S": "user-9"}}, new={}))


def test_filters_that_have_nothing_in_common_end_in_no_filter() -> None:
    whens = [{"keys": {f"k{number}": ["x"]}} for number in range(7)]
    assert filters(*whens, limit=1).patterns == ()


def test_no_filter_is_longer_than_aws_takes() -> None:
    long = [f"{number:040d}" for number in range(200)]
    found = filters({"keys": {"id": long}, "eventName": ["INSERT"]})
    assert found.patterns == ({"eventName": ["INSERT"]},)
    assert any("too long" in note for note in found.notes)


ATTRIBUTES = ("type", "age", "address", "tags")
TEXTS = st.sampled_from(["", "order", "order#1", "user", "5", "true", "AQ==", "9" * 20])
NUMBERS = st.sampled_from([0, 1, 5, -3, 2.5, 10**20])
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
OPERATORS = st.one_of(
    st.builds(lambda text: {"prefix": text}, TEXTS.filter(bool)),
    st.builds(lambda text: {"suffix": text}, TEXTS.filter(bool)),
    st.builds(lambda text: {"equals-ignore-case": text.upper()}, TEXTS.filter(bool)),
    st.builds(lambda text: {"wildcard": f"{text}*"}, TEXTS.filter(bool)),
    st.builds(
        lambda values: {"anything-but": values},
        st.one_of(
            st.lists(TEXTS, min_size=1, max_size=2),
            st.lists(NUMBERS, min_size=1, max_size=2),
            TEXTS,
            st.builds(lambda text: {"prefix": text}, TEXTS.filter(bool)),
        ),
    ),
    st.builds(lambda number: {"numeric": [">=", number]}, st.integers(-5, 5)),
    st.builds(lambda flag: {"exists": flag}, st.booleans()),
)
LEAVES = st.lists(st.one_of(SCALARS, OPERATORS), min_size=1, max_size=3)
ITEMS = st.dictionaries(
    st.sampled_from(ATTRIBUTES),
    st.one_of(LEAVES, st.dictionaries(st.sampled_from(["city", "zip"]), LEAVES, min_size=1)),
    min_size=1,
    max_size=2,
)
NAMES = st.lists(st.sampled_from(["INSERT", "MODIFY", "REMOVE"]), min_size=1, unique=True)
FIELDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "eventName": NAMES,
        "new": ITEMS,
        "old": ITEMS,
        "keys": st.dictionaries(st.just("id"), LEAVES, min_size=1),
        "ttl": st.lists(st.booleans(), min_size=1, max_size=1),
        "changed": st.lists(st.sampled_from(ATTRIBUTES), min_size=1, max_size=2),
    },
).filter(bool)
WHENS = st.one_of(
    FIELDS,
    st.builds(
        lambda either, rest: {**rest, "$or": either},
        st.lists(FIELDS, min_size=2, max_size=3),
        FIELDS,
    ),
)
NUMERALS = st.sampled_from(["0", "1", "5", "-3", "2.5", "100000000000000000000"])
TYPED = st.recursive(
    st.one_of(
        st.builds(lambda text: {"S": text}, TEXTS),
        st.builds(lambda text: {"N": text}, NUMERALS),
        st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
        st.just({"NULL": True}),
        st.just({"B": "AQ=="}),
        st.builds(lambda texts: {"SS": texts}, st.lists(TEXTS, min_size=1, unique=True)),
        st.builds(lambda texts: {"NS": texts}, st.lists(NUMERALS, min_size=1, unique=True)),
    ),
    lambda inner: st.one_of(
        st.builds(lambda values: {"L": values}, st.lists(inner, max_size=3)),
        st.builds(
            lambda values: {"M": values},
            st.dictionaries(st.sampled_from(["city", "zip"]), inner, max_size=2),
        ),
    ),
    max_leaves=4,
)
IMAGES = st.dictionaries(st.sampled_from(ATTRIBUTES), TYPED, max_size=4)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    name = draw(st.sampled_from(["INSERT", "MODIFY", "REMOVE"]))
    images = {"INSERT": ("new",), "MODIFY": ("new", "old"), "REMOVE": ("old",)}[name]
    key = draw(st.one_of(st.builds(lambda t: {"S": t}, TEXTS.filter(bool)), st.just({"B": "AQ=="})))
    found = {image: draw(IMAGES) for image in images}
    expired = name == "REMOVE" and draw(st.booleans())
    return change(name, keys={"id": key}, expired=expired, **found)


RULES = st.lists(WHENS, min_size=1, max_size=6)


@settings(max_examples=60)
@given(whens=RULES, one=changes(), limit=st.integers(1, 5))
def test_a_change_that_a_rule_matches_passes_the_filters(
    whens: list[dict[str, Any]], one: Change, limit: int
) -> None:
    check(whens, one, limit)


@pytest.mark.slow
@settings(max_examples=200)
@given(whens=RULES, one=changes(), limit=st.integers(1, 5))
def test_of_many_changes_none_that_a_rule_matches_is_filtered_out(
    whens: list[dict[str, Any]], one: Change, limit: int
) -> None:
    check(whens, one, limit)


def check(whens: list[dict[str, Any]], one: Change, limit: int) -> None:
    rules = []
    for number, when in enumerate(whens):
        try:
            pattern = compile_pattern(when)
        except PatternError:
            continue
        rules.append(Rule(f"r{number}", {}, pattern, False, False, False, ()))
    found = filters_of(rules, limit=limit)
    if any(rule.matches(Document(one), TypedDocument(one)) for rule in rules):
        assert passes(found, one), (found, whens)
    assert len(found.patterns) <= limit
    assert all(len(text_of(pattern)) <= MAX_LENGTH for pattern in found.patterns)


def test_the_rules_of_the_property_do_match_and_filter() -> None:
    found = filters({"new": {"type": ["order"]}}, {"new": {"tags": [{"prefix": "user"}]}})
    assert passes(found, change("INSERT", new={"type": {"S": "order"}}))
    assert passes(found, change("INSERT", new={"type": {"L": [{"L": [{"S": "order"}]}]}}))
    assert not passes(found, change("INSERT", new={"type": {"S": "x"}, "tags": {"S": "y"}}))
    assert not passes(found, change("REMOVE", old={"type": {"S": "order"}}))
