"""The filter of a pipe lets through the records that its rule takes, and no others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export_filters import change

from ddbrelay.export.expressible import PipeRule, pipe_rules
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping.checks import pattern_of
from ddbrelay.flow.mapping.document import Document, TypedDocument
from ddbrelay.flow.mapping.making import MappingError
from ddbrelay.flow.mapping.patterns import compile_pattern
from ddbrelay.flow.mapping.rules import Rule

TYPES = {("kind",): "S", ("age",): "N", ("on",): "BOOL", ("gone",): "NULL", ("raw",): "B"} | {
    ("tags",): "SS",
    ("parts",): "L",
    ("address", "city"): "S",
    ("address", "number"): "N",
    ("id",): "S",
}


def exported(*whens: dict[str, Any]) -> tuple[list[Rule], dict[str, PipeRule]]:
    """The rules with these patterns, and those of them that are pipes, by their names."""
    made = {"detail_type": "Changed", "detail": "{e: eventID}", "resources": ["{eventID}"]}
    rules = [
        Rule(f"r{number}", {**made, "when": when}, compile_pattern(when), False, False, False, ())
        for number, when in enumerate(whens)
    ]
    found, _ = pipe_rules(rules, table="users", source="x", envelope="none", redact=(), types=TYPES)
    return rules, {one.name: one for one in found}


def passes(pipe: PipeRule, one: Change) -> bool:
    document = TypedDocument(one)
    return not pipe.filters or any(
        compile_pattern(pattern).matches(document) for pattern in pipe.filters
    )


def taken(rules: list[Rule], one: Change) -> str | None:
    document, typed = Document(one), TypedDocument(one)
    return next((rule.name for rule in rules if rule.matches(document, typed)), None)


# One by one


@pytest.mark.parametrize(
    "ttl",
    [
        [True, True],
        [True, {"exists": False}],
        [False],
        [True, False],
        [{"exists": True}],
        [False, {"exists": True}],
    ],
)
def test_a_filter_on_expiry_is_what_the_rule_asks(ttl: list[Any]) -> None:
    rules, pipes = exported({"ttl": ttl, "eventName": ["REMOVE"]})
    for expired in (True, False):
        one = change("REMOVE", old={}, expired=expired)
        assert passes(pipes["r0"], one) == (taken(rules, one) is not None)


def test_a_name_with_dots_is_no_pipe() -> None:
    rules, pipes = exported({"new": {"kind": ["a"]}}, {"new": {"address.city": ["Oslo"]}})
    assert (len(rules), list(pipes)) == (2, ["r0"])


def test_an_attribute_that_may_be_there_or_not_is_no_condition() -> None:
    leaf = [{"exists": True}, {"exists": False}]
    _, pipes = exported({"eventName": ["INSERT"], "new": {"kind": leaf}})
    assert pipes["r0"].filters == ({"eventName": ["INSERT"]},)
    _, pipes = exported({"new": {"kind": leaf}})
    assert pipes["r0"].filters == ()


def test_a_path_that_is_asked_for_twice_in_the_same_way_is_asked_for_once() -> None:
    name = {"eventName": ["INSERT"]}
    _, pipes = exported({**name, "$or": [{**name, "new": {"kind": ["a"]}}, {"ttl": [False]}]})
    assert [one["eventName"] for one in pipes["r0"].filters] == [["INSERT"], ["INSERT"]]


def test_an_integer_of_any_length_is_a_number_as_rules_have_it() -> None:
    small, large = "1000000000000000000", "10000000000000000000"
    rules, pipes = exported({"new": {"age": [int(small), int(large)]}})
    for text in (small, large):
        one = change("INSERT", new={"age": {"N": text}})
        assert passes(pipes["r0"], one)
        assert taken(rules, one) is not None


def test_one_and_true_are_two_filters() -> None:
    rules, pipes = exported({"$or": [{"new": {"x": [1]}}, {"new": {"x": [True]}}]})
    for value in ({"N": "1"}, {"BOOL": True}):
        one = change("INSERT", new={"x": value})
        assert passes(pipes["r0"], one)
        assert taken(rules, one) is not None


# Whatever the rule


TEXTS = st.sampled_from(["", "order", "order#1", "user", "5", "AQ==", "9" * 18, "9" * 20])
NUMBERS = st.sampled_from([0, 1, 5, -3, 2.5, 10**20])
LEAVES = st.lists(
    st.one_of(
        st.one_of(TEXTS, NUMBERS, st.booleans(), st.none()),
        st.builds(lambda text: {"prefix": text}, TEXTS.filter(bool)),
        st.builds(lambda text: {"wildcard": f"{text}*"}, TEXTS.filter(bool)),
        st.builds(
            lambda values: {"anything-but": values},
            st.one_of(st.lists(TEXTS, min_size=1), st.lists(st.sampled_from([0, 5]), min_size=1)),
        ),
        st.builds(lambda flag: {"exists": flag}, st.booleans()),
    ),
    min_size=1,
    max_size=2,
)
ADDRESS = st.dictionaries(st.sampled_from(["city", "number"]), LEAVES, min_size=1)
PLAIN = ("kind", "age", "on", "gone", "raw", "tags", "parts")
WANTED_ITEMS = st.one_of(
    st.dictionaries(st.sampled_from(PLAIN), LEAVES, min_size=1, max_size=2),
    st.builds(lambda address: {"address": address}, ADDRESS),
)
NAMES = st.lists(st.sampled_from(["INSERT", "MODIFY", "REMOVE"]), min_size=1, unique=True)
FIELDS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "eventName": NAMES,
        "new": WANTED_ITEMS,
        "old": WANTED_ITEMS,
        "keys": st.fixed_dictionaries({"id": LEAVES}),
        "ttl": st.lists(
            st.one_of(st.booleans(), st.builds(lambda flag: {"exists": flag}, st.booleans())),
            min_size=1,
            max_size=2,
        ),
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
NUMERALS = st.sampled_from(["0", "1", "5", "-3", "2.5", "100000000000000000000", "9" * 18])
CITY = st.fixed_dictionaries(
    {},
    optional={
        "city": st.builds(lambda text: {"S": text}, TEXTS),
        "number": st.builds(lambda text: {"N": text}, NUMERALS),
    },
)
IMAGES = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.builds(lambda text: {"S": text}, TEXTS),
        "age": st.builds(lambda text: {"N": text}, NUMERALS),
        "on": st.builds(lambda flag: {"BOOL": flag}, st.booleans()),
        "gone": st.just({"NULL": True}),
        "raw": st.sampled_from([{"B": "AQ=="}, {"B": "Ag=="}]),
        "tags": st.builds(lambda texts: {"SS": texts}, st.lists(TEXTS, min_size=1, unique=True)),
        "parts": st.sampled_from([{"L": []}, {"L": [{"S": "user"}]}]),
        "address": st.builds(lambda inner: {"M": inner}, CITY),
    },
)


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """A change of an item whose attributes are of the types that were given, or absent."""
    name = draw(st.sampled_from(["INSERT", "MODIFY", "REMOVE"]))
    images = {"INSERT": ("new",), "MODIFY": ("new", "old"), "REMOVE": ("old",)}[name]
    found = {image: draw(IMAGES) for image in images}
    expired = name == "REMOVE" and draw(st.booleans())
    key = {"id": {"S": draw(TEXTS.filter(bool))}}
    return change(name, keys=key, expired=expired, **found)


RULES = st.lists(WHENS, min_size=1, max_size=3)


@settings(max_examples=60)
@given(whens=RULES, many=st.lists(changes(), min_size=1, max_size=5))
def test_the_filter_of_a_pipe_lets_through_what_its_rule_takes_and_nothing_else(
    whens: list[dict[str, Any]], many: list[Change]
) -> None:
    check(whens, many)


@pytest.mark.slow
@settings(max_examples=600)
@given(whens=RULES, many=st.lists(changes(), min_size=1, max_size=5))
def test_of_many_changes_the_filters_of_pipes_let_through_what_their_rules_take(
    whens: list[dict[str, Any]], many: list[Change]
) -> None:
    check(whens, many)


def check(whens: list[dict[str, Any]], many: list[Change]) -> None:
    sound = []
    for when in whens:
        try:
            pattern_of(when, ())
        except MappingError:
            continue
        sound.append(when)
    rules, pipes = exported(*sound)
    for one in many if pipes else ():
        chosen = taken(rules, one)
        for name, pipe in pipes.items():
            assert passes(pipe, one) == (name == chosen), (pipe.filters, sound)
