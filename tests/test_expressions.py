from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import jmespath
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.mapping.document import FIELDS, Document, encode
from ddbrelay.flow.mapping.expressions import EvaluationError, Expression, ExpressionError
from ddbrelay.flow.mapping.templates import Shape, ShapeError, Template
from ddbrelay.testing.builders import change

ITEM: dict[str, Any] = {
    "id": "a",
    "email": "kaylee@example.com",
    "age": 31,
    "price": Decimal("1.10"),
    "tiny": Decimal("0." + "0" * 20 + "12345678901234567"),
    "long": Decimal("-12345678901234567890123456789012345.678"),
    "big": 99999999999999999999,
    "bigs": [99999999999999999999, 1],
    "huge": Decimal("1E1000000"),
    "prices": [Decimal("1.5"), 2, Decimal("3.25")],
    "address": {"street": "Main St", "zip": "01234"},
    "tags": ["x", "y"],
    "flag": True,
    "nothing": None,
}


@pytest.fixture
def document() -> Document:
    return Document(change("a", new=ITEM, old=ITEM | {"age": 30}, event_name="MODIFY"))


def value(text: str, document: Document, event_id: str = "e1") -> Any:
    return Expression(text)(document, event_id)


def test_a_change_offers_what_the_design_names(document: Document) -> None:
    assert {
        *("eventID", "eventName", "time", "sequenceNumber", "shardId", "table", "streamArn"),
        *("keys", "old", "new", "changed", "diff", "ttl", "id"),
    } == FIELDS
    assert value("eventName", document) == "MODIFY"
    assert value("time", document) == "2026-01-01T00:00:00Z"
    assert value("keys", document) == {"id": "a"}
    assert value("changed", document) == ["age"]
    assert value("diff", document) == {"age": {"before": 30, "after": 31}}
    assert value("ttl", document) is False
    assert value("id", document, "e1.second") == "e1.second"


@pytest.mark.parametrize(
    ("text", "json"),
    [
        ("new.price", "1.10"),
        ("new.tiny", "1.2345678901234567E-21"),
        ("{p: new.price, t: type(new.price)}", '{"p":1.10,"t":"number"}'),
        ("sum(new.prices)", "6.75"),
        ("avg(new.prices)", "2.25"),
        ("max(new.prices)", "3.25"),
        ("sort(new.prices)", "[1.5,2,3.25]"),
        ("to_string(new.price)", '"1.10"'),
        ("to_string(new.address)", '"{\\"street\\":\\"Main St\\",\\"zip\\":\\"01234\\"}"'),
        ("to_number('12')", "12"),
        ("to_number('12345678901234567890.123')", "12345678901234567890.123"),
        ("to_number('x')", "null"),
        ("to_number('NaN')", "null"),
        ("to_number('1E1000000')", "null"),
        ("to_number('-1E126')", "null"),
        ("to_number('0E1000000')", "null"),
        ("to_number('1E-131')", "null"),
        ("to_number('1E125')", "1" + "0" * 125),
        ("to_number('9.9E125')", "9.9E+125"),
        ("to_number('1E-130')", "1E-130"),
        ("ceil(new.huge)", "1E+1000000"),
        ("floor(new.huge)", "1E+1000000"),
        ("ceil(new.price)", "2"),
        ("floor(new.long)", "-12345678901234567890123456789012346"),
        ("new.big", "99999999999999999999"),
        ("new.big > `5`", "true"),
        ("new.bigs[?@ > `5`]", "[99999999999999999999]"),
        ("sum(new.bigs)", "100000000000000000000"),
        ("avg(new.bigs)", "50000000000000000000"),
        ("avg([`9007199254740993`])", "9007199254740993"),
        ("avg([`1`, `2`])", "1.5"),
        ("type(new.big)", '"number"'),
        ("to_string(new.big)", '"99999999999999999999"'),
        ("new.price > `1`", "true"),
        ("new.prices[?@ > `1.6`]", "[2,3.25]"),
        ("new.price == `1.1`", "true"),
        ("new.price <= `1.10`", "true"),
        ("contains(new.prices, `3.25`)", "true"),
        ("sum([new.price, `0.5`])", "1.60"),
        ("new.prices[?@ == `1.5`] | [0]", "1.5"),
        ("abs(new.long)", "12345678901234567890123456789012345.678"),
        ("sum([new.long, `0`])", "-12345678901234567890123456789012345.678"),
        ('`{"a": [0.1]}`', '{"a":[0.1]}'),
        ("new.nick || 'none'", '"none"'),
        ("new.tags[*].length(@)", "[1,1]"),
        ("@.eventName", '"MODIFY"'),
        ("length(@)", str(len(FIELDS))),
    ],
)
def test_jmespath_reads_the_document_and_keeps_every_digit(
    document: Document, text: str, json: str
) -> None:
    assert encode(value(text, document)).decode() == json


@pytest.mark.parametrize(
    ("text", "offset", "says"),
    [
        ("new.[", 5, "ends too early"),
        ("new..a", 4, "not JMESPath"),
        ("new.a ~", 6, "Unknown token ~"),
        ('"abc', 0, "Unclosed"),
        ("", 0, "empty"),
        ("{a: nwe.id}", 4, 'no field "nwe"'),
        ("new.a | length(@, @)", 8, "takes 1 argument, not 2"),
        ("new.a > `1e400`", 8, "a number that JSON cannot have"),
        ("lenght(new.a)", 0, "no function lenght()"),
    ],
)
def test_a_wrong_expression_says_what_and_where(text: str, offset: int, says: str) -> None:
    with pytest.raises(
        ExpressionError, match=says.replace("(", r"\(").replace(")", r"\)")
    ) as found:
        Expression(text)
    assert found.value.offset == offset


def test_a_misspelt_name_is_answered_with_the_nearest_right_one() -> None:
    with pytest.raises(ExpressionError) as found:
        Expression("nwe.id")
    assert found.value.hint == 'did you mean "new"?'
    with pytest.raises(ExpressionError) as found:
        Expression("lenght(new.a)")
    assert found.value.hint == "did you mean length()?"


def test_names_inside_of_values_are_not_taken_for_fields_of_the_change(document: Document) -> None:
    assert Expression("new.items[?kind == 'x'].name | [0]").fields == {"new"}
    assert Expression("sort_by(new.items, &age)").fields == {"new"}
    assert Expression("{when: time, of: keys.id}").fields == {"time", "keys"}


@pytest.mark.parametrize("text", ["length(new.age)", "sum(new.tags)", "join(',', new.prices)"])
def test_what_cannot_be_evaluated_is_said_without_any_value(document: Document, text: str) -> None:
    with pytest.raises(EvaluationError) as found:
        value(text, document)
    assert "31" not in str(found.value).replace(text, "")
    assert "3.25" not in str(found.value).replace(text, "")


paths = st.lists(
    st.sampled_from([*ITEM, "street", "missing", "x", "old", "new", "keys"]), min_size=1, max_size=4
)


@given(paths)
def test_plain_paths_give_what_the_library_gives(names: list[str]) -> None:
    text = ".".join(["new", *names])
    document = Document(change("a", new=ITEM))
    assert value(text, document) == jmespath.search(text, {"new": document.get("new")})


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{new.address.street}Placed", "Main StPlaced"),
        ("a{{b}}c", "a{b}c"),
        ("{new.price} for {keys.id}", "1.10 for a"),
        ("{new.flag}", "true"),
        ("{new.nick || 'Thing'}Made", "ThingMade"),
        ('{`{"a": "}"}`.a}', "}"),
        ('{new."address".zip}', "01234"),
        ("{{{keys.id}}}", "{a}"),
        ("plain", "plain"),
    ],
)
def test_holes_of_a_template_are_filled(document: Document, text: str, filled: str) -> None:
    assert Template(text)(document, "e1") == filled


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{new.nick}Made", r"\{new.nick\} is missing"),
        ("{new.nothing}", "is missing"),
        ("{new.address}", "is an object"),
        ("{new.tags}", "is an array"),
    ],
)
def test_a_hole_without_a_text_is_said(document: Document, text: str, says: str) -> None:
    with pytest.raises(EvaluationError, match=says):
        Template(text)(document, "e1")


def test_a_hole_of_several_lines_is_said_on_one(document: Document) -> None:
    with pytest.raises(EvaluationError) as found:
        Template("{new.\n  none}")(document, "e1")
    assert str(found.value) == "{new.\\n  none} is missing"


@pytest.mark.parametrize(
    ("text", "offset"),
    [("a {new.x", 2), ("a } b", 2), ("ab {nwe.x}", 4), ("{new.[}", 6), ("{}", 1)],
)
def test_a_wrong_template_says_where(text: str, offset: int) -> None:
    with pytest.raises(ExpressionError) as found:
        Template(text)
    assert found.value.offset == offset


def test_what_a_template_has_for_sure_is_known() -> None:
    template = Template("ab{new.x}cd")
    assert (template.start, template.shortest, template.constant) == ("ab", 4, None)
    assert Template("{new.x}").start == ""
    assert Template("abc").constant == "abc"


def test_a_table_keeps_the_types_of_what_is_one_hole(document: Document) -> None:
    shape = Shape(
        {
            "age": "{new.age}",
            "both": "{keys.id}-{new.age}",
            "list": ["{new.flag}", 1, True],
            "n": 2.5,
        }
    )
    made = encode(shape(document, "e1")).decode()
    assert made == '{"age":31,"both":"a-31","list":[true,1,true],"n":2.5}'


def test_a_wrong_leaf_of_a_table_says_which() -> None:
    with pytest.raises(ShapeError) as found:
        Shape({"a": {"b": ["x", "{nwe}"]}})
    assert (found.value.path, found.value.offset) == (("a", "b", 1), 1)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("new.items[?k == new.country]", "new.country"),
        ("new.items[?k == 'a' && old.x].old.y", "old.x"),
        ('new.items[?"new".x]', '"new".x'),
        ("new.items[?length(new.x) > `1`]", "new.x"),
        ("new.items[].{sku: sku, order: keys.id}", "keys.id"),
        ("new.items[*].[sku, keys.id]", "keys.id"),
        ("new.items[1:].{k: keys.id}", "keys.id"),
        ("new.*.{a: old.x}", "old.x"),
        ("new.{id: keys.id}", "keys.id"),
        ("new.items | [0].{p: diff.a}", "diff.a"),
        ("new.a | old.b", "old.b"),
        ("map(&new.x, new.items)", "new.x"),
        ("{old: new.old, n: sort_by(new.items, &old.n)[0]}", "old.n"),
        ("new.items[?k == new]", "new]"),
        ("new.items[?k == old]", "old]"),
        ("new.items[?contains(keys, k)]", "keys,"),
        ("new.items[?!diff].k", "diff]"),
        ("new.items[?k == new[0]]", "new[0]"),
        ("new.items[?k == changed[0]]", "changed[0]"),
        ("new.items[?contains(changed, k)]", "changed,"),
        ("new.items[?old[*].k]", "old[*]"),
        ("new.items[*].[k, new]", "new]"),
        ("new.history[].{before: old, after: @.new}", "old,"),
        ("new.items | keys", "keys"),
        ("map(&new, new.items)", "new,"),
    ],
)
def test_a_field_of_the_change_that_an_element_would_be_asked_for_is_refused(
    text: str, wrong: str
) -> None:
    with pytest.raises(ExpressionError, match="is a field of the element here") as found:
        Expression(text)
    assert text[found.value.offset :].startswith(wrong)
    assert found.value.hint is not None
    name = re.match(r'"?(\w+)', wrong)
    assert name is not None
    assert f"@.{name[1]} where" in found.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "new.history[].old.price",
        "new.history[].{before: @.old, after: @.new}",
        "new.history[?@.new == 'a' && contains(@.changed, 'b')].new[0]",
        "new.history[].old",
        "contains(changed, 'b') && new.items[?k] || old",
        "new.items[?@.new.x == `1`].{k: @.keys.id}",
        "new.items[?contains(keys(@), 'x')].sku",
        "new.items[1:2].keys.x",
        "new.items[0].old.x",
        "new.*.old.x",
        "(new.items)[?a].new.b",
        "join(',', new.items[].keys.id)",
        "new.items[].b || keys.id",
        "new.items[].{at: time, table: table, event: eventID}",
        "{a: new.a, b: old.b.keys.c, c: keys.id}",
        "!new.x && old.y",
    ],
)
def test_what_an_element_may_have_is_not_refused(text: str) -> None:
    assert Expression(text).text == text


@pytest.mark.parametrize(("text", "value"), [("new.l[1:3]", [2, 3]), ("new.l[:-1].a | [0]", None)])
def test_a_slice_is_an_expression(text: str, value: Any) -> None:
    source = change("a", new={"id": "a", "l": [1, 2, 3]})
    assert Expression(text)(Document(source), "e") == value
