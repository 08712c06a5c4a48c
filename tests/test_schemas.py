"""JSON Schemas: what they let through, in which words they refuse, and what is inferred."""

from __future__ import annotations

import json
import random
import socket
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddbrelay.schemas import DIALECT, Inference, SchemaError, formatted, inferred, validator_of

USER = {
    "type": "object",
    "required": ["id"],
    "properties": {
        "id": {"type": "string", "maxLength": 3},
        "email": {"type": "string", "format": "email"},
        "status": {"enum": ["new", "old"]},
        "price": {"type": "number", "multipleOf": 0.01, "maximum": 100},
        "lines": {"items": {"type": "object", "required": ["sku"]}},
        "address": {"anyOf": [{"type": "null"}, {"type": "object", "required": ["city"]}]},
        "either": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        "odd name": {"type": "boolean"},
        "never": False,
    },
    "additionalProperties": False,
}


def wrong(schema: Any, detail: Any) -> str | None:
    body = detail if isinstance(detail, bytes) else json.dumps(detail).encode()
    return validator_of(schema)(body)


# Checking


@pytest.mark.parametrize(
    "detail",
    [
        {"id": "a"},
        {"id": "a", "email": "kaylee@firefly.example", "address": None, "lines": []},
        {"id": "a", "price": 0.07, "either": {"a": 1}},
        {"id": "a", "address": {"city": "Persephone", "more": 1}},
    ],
)
def test_a_detail_that_fits_is_none(detail: dict[str, Any]) -> None:
    assert wrong(USER, detail) is None


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        ({}, "id is missing"),
        ({"id": "a", "never": 1}, "never: an integer is not allowed"),
        ({"id": 5}, 'id: an integer is not of type "string"'),
        ({"id": None}, 'id: null is not of type "string"'),
        ({"id": "abcd"}, "id: a text of 4 characters is longer than 3 characters"),
        ({"id": "a", "email": "none"}, "email: a text of 4 characters is no email"),
        ({"id": "a", "status": "x"}, 'status: a text of 1 character is not one of "new" or "old"'),
        ({"id": "a", "price": 0.075}, "price: a number is not a multiple of 0.01"),
        ({"id": "a", "price": 101}, "price: an integer is greater than the maximum of 100"),
        ({"id": "a", "lines": [{"sku": 1}, {}]}, "lines[1].sku is missing"),
        ({"id": "a", "address": {}}, "address.city is missing"),
        ({"id": "a", "address": 5}, "address: an integer fits none of the alternatives (anyOf)"),
        (
            {"id": "a", "either": {"a": 1, "b": 2}},
            "either: an object of 2 fields fits more than one of the alternatives (oneOf)",
        ),
        (
            {"id": "a", "odd name": []},
            '"odd name": an array of 0 elements is not of type "boolean"',
        ),
        ({"id": "a", "x": 1, "y": 2}, "x is not in the schema"),
        ([], 'the detail: an array of 0 elements is not of type "object"'),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(detail: Any, line: str) -> None:
    assert wrong(USER, detail) == line


SECRETS = ["sesame" * 3, 4111111111111111, 4111.1111, {"sesame": "4111"}, ["sesame", 4111]]


@pytest.mark.parametrize("value", SECRETS)
@pytest.mark.parametrize(
    "schema",
    [
        *({"type": "boolean"}, {"const": 1}, {"enum": ["x", None]}, {"not": {}}, False),
        *({"type": "null"}, {"allOf": [{"type": "boolean"}]}, {"format": "date", "type": "null"}),
        {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
        {"oneOf": [{}, {"minLength": 1}]},
        {"if": {}, "then": {"type": "boolean"}},
        {"maxLength": 1, "maximum": 1, "maxItems": 1, "maxProperties": 0},
        {"pattern": "^$", "multipleOf": 7, "contains": {"type": "null"}, "minProperties": 3},
    ],
)
def test_nothing_of_a_value_is_said(schema: Any, value: Any) -> None:
    for detail, around in (
        ({"a": value}, {"properties": {"a": schema}}),
        ({"a": [value]}, {"properties": {"a": {"items": schema}}}),
        ({"a": value}, {"additionalProperties": schema}),
    ):
        line = wrong(around, detail)
        assert line is not None
        assert line.startswith(("a", "the detail: "))
        assert "sesame" not in line
        assert "4111" not in line


def test_a_line_is_one_line_however_long_the_names_are() -> None:
    name = "a\nb\u2028" + "c" * 5000
    line = wrong({"additionalProperties": False}, {name: 1})
    assert line is not None
    assert len(line.splitlines()) == 1
    assert len(line) <= 300


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "Input data was truncated"),
        (b"\xff", "malformed"),
        (b'{"a": "\\ud800"}', "cannot be read"),
        (b'{"a": 1e99999999999999999999}', "a number is out of range"),
        (b'{"a": ' + b"1" * 5000 + b"}", "out of range"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "it is nested too deeply"),
        (b'{"a":' * 600 + b"1" + b"}" * 600, None),
    ],
)
def test_what_is_no_json_fits_nothing(body: bytes, reason: str | None) -> None:
    line = wrong({"type": "object"}, body)
    if reason is not None:
        assert line is not None
        assert line.startswith("the detail: cannot be read as JSON: ")
        assert reason in line


def test_numbers_are_checked_with_all_their_digits() -> None:
    schema = {"properties": {"n": {"type": "number", "multipleOf": 0.01}}}
    assert wrong(schema, b'{"n": 12345678901234567890.12}') is None
    assert wrong(schema, b'{"n": 12345678901234567890.123}') is not None
    assert wrong({"properties": {"n": {"type": "integer"}}}, b'{"n": 1e125}') is None
    assert wrong({"properties": {"n": {"maximum": 5}}}, b'{"n": 1e-130}') is None
    digits = b"1" * 38
    assert wrong({"properties": {"n": {"minimum": 1}}}, b'{"n": ' + digits + b"}") is None


def test_a_megabyte_that_fits_nowhere_is_refused_at_once() -> None:
    body = json.dumps({"lines": ["x"] * 250_000}).encode()
    check = validator_of(USER | {"required": []})
    began = time.process_time()
    assert check(body) == 'lines[0]: a text of 1 character is not of type "object"'
    assert time.process_time() - began < 1


def test_a_pattern_cannot_hang() -> None:
    schema = {"properties": {"a": {"pattern": "^(?=a)(a|aa)+$"}}}
    assert wrong(schema, {"a": "a" * 5000 + "!"}) is not None


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_reference_in_a_circle_ends(schema: dict[str, Any]) -> None:
    assert wrong(schema, {"a": {}}) is None


def test_references_within_a_schema_are_followed() -> None:
    schema = {
        "$id": "https://shop.example/order.json",
        "$defs": {"line": {"$id": "line.json", "required": ["sku"]}},
        "properties": {"first": {"$ref": "line.json"}, "last": {"$ref": "#/$defs/line"}},
    }
    assert wrong(schema, {"first": {}}) == "first.sku is missing"
    assert wrong(schema, {"last": {}}) == "last.sku is missing"


def test_older_drafts_are_checked_by_their_own_rules() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "properties": {"n": {"maximum": 5, "exclusiveMaximum": True}},
    }
    assert wrong(schema, {"n": 4}) is None
    assert wrong(schema, {"n": 5}) is not None


@pytest.mark.parametrize(
    ("schema", "line"),
    [
        (b"{", "no JSON: Expecting property name enclosed in double quotes (line 1, column 2)"),
        (b'{\n "a": }', "no JSON: Expecting value (line 2, column 7)"),
        (b"\xff{}", "no UTF-8 (byte 1)"),
        (b"[]", "a JSON Schema is an object"),
        (b"true", "a JSON Schema is an object"),
        (b"[" * 9000, "no JSON: it is nested too deeply"),
        ({"type": "objct"}, 'type: "objct" is not one of'),
        ({"properties": {"a": {"type": 5}}}, "properties.a.type: 5 is not one of"),
        ({"pattern": "("}, 'pattern: "(" is no regex'),
        ({"required": "id"}, 'required: "id" is not of type "array"'),
        ({"$ref": "#/$defs/x"}, "a reference leads nowhere: Pointer '/$defs/x' does not exist"),
        ({"$schema": "http://x.example/y"}, "$schema: Unknown meta-schema: 'http://x.example/y'"),
        ({"a": {1, 2}}, "cannot be used: Unsupported type: 'set'"),
    ],
)
def test_what_is_no_schema_is_said_in_one_line(schema: Any, line: str) -> None:
    with pytest.raises(SchemaError) as error:
        validator_of(schema)
    assert str(error.value).startswith(line)
    assert len(str(error.value).splitlines()) == 1


def test_nothing_is_fetched(tmp_path: Any) -> None:
    there = tmp_path / "there.json"
    there.write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.json"
        for reference in (address, there.as_uri(), str(there), "there.json", "urn:a:b"):
            with pytest.raises(SchemaError, match="nothing is fetched"):
                validator_of({"properties": {"a": {"$ref": reference}}})
        with pytest.raises(BlockingIOError):
            server.accept()


# Inferring

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**63), max_value=2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01", "a@b.example", "x" * 300]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from("abc") | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=8,
)
DETAILS = st.lists(
    st.dictionaries(st.sampled_from("abcd"), JSON, max_size=4), min_size=1, max_size=6
)


@settings(max_examples=50)
@given(DETAILS)
def test_every_example_fits_what_is_inferred_from_it(details: list[dict[str, Any]]) -> None:
    bodies = [json.dumps(detail).encode() for detail in details]
    check = validator_of(formatted(inferred(bodies, "UserCreated")).encode())
    assert [check(body) for body in bodies] == [None] * len(bodies)


@settings(max_examples=50)
@given(DETAILS, st.randoms(use_true_random=False))
def test_the_order_of_the_examples_does_not_matter(
    details: list[dict[str, Any]], rng: random.Random
) -> None:
    def shuffled(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = list(value)
        rng.shuffle(names)
        return {name: shuffled(value[name]) for name in names}

    bodies = [json.dumps(detail).encode() for detail in details]
    others = [json.dumps(shuffled(detail)).encode() for detail in details]
    rng.shuffle(others)
    assert formatted(inferred(bodies, "T")) == formatted(inferred(others, "T"))


def test_a_schema_has_types_required_fields_nulls_and_formats() -> None:
    schema = inferred(
        [
            b'{"id":"7f3a91c2-0000-4000-8000-000000000001","at":"2026-01-01T00:00:00Z","n":1,'
            b'"day":"2026-01-01","mail":"a@b.example","by":null,"lines":[{"q":1}],"empty":[]}',
            b'{"id":"7f3a91c2-0000-4000-8000-000000000002","at":"2026-01-01T00:00:00.5+02:00",'
            b'"n":1.5,"day":"today","by":{"name":"x"},"lines":[{"q":2,"sku":"a"}],"empty":[]}',
        ],
        "OrderPlaced",
    )
    assert list(schema) == ["$schema", "title", "type", "properties", "required"]
    assert schema == {
        "$schema": DIALECT,
        "title": "OrderPlaced",
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "by": {
                "type": ["null", "object"],
                "properties": {"name": {"type": "string"}},
                "required": ["name"],
            },
            "day": {"type": "string"},
            "empty": {"type": "array"},
            "id": {"type": "string", "format": "uuid"},
            "lines": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"q": {"type": "integer"}, "sku": {"type": "string"}},
                    "required": ["q"],
                },
            },
            "mail": {"type": "string", "format": "email"},
            "n": {"type": "number"},
        },
        "required": ["at", "by", "day", "empty", "id", "lines", "n"],
    }


def test_fields_that_no_example_has_are_not_forbidden() -> None:
    assert wrong(inferred([b'{"a": 1}']), {"a": 1, "new": True}) is None


def test_names_that_are_keywords_are_only_names() -> None:
    body = b'{"$ref":"x","type":1,"properties":{"required":[]},"anyOf":[1],"format":null}'
    assert wrong(inferred([body]), body) is None


def test_integers_that_went_as_text_make_a_union() -> None:
    schema = inferred([b'{"n": 5}', b'{"n": "99999999999999999999"}'])
    assert schema["properties"]["n"] == {"type": ["integer", "string"]}


def test_without_examples_any_object_fits() -> None:
    assert inferred([]) == {"$schema": DIALECT, "type": "object"}


@pytest.mark.parametrize("depth", [32, 100])
def test_deep_examples_are_inferred_and_checked(depth: int) -> None:
    body = b'{"a":[' * (depth // 2) + b"1" + b"]}" * (depth // 2)
    assert wrong(inferred([body]), body) is None


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b"[]", "the detail is an array of 0 elements, not an object"),
        (b'"x"', "the detail is a text of 1 character, not an object"),
        (b"{", "the detail cannot be read as JSON: Input data was truncated"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "the detail is nested more than 100 levels deep"),
    ],
)
def test_what_is_no_object_is_no_example(body: bytes, line: str) -> None:
    inference = Inference()
    inference.add(b'{"a": 1}')
    with pytest.raises(SchemaError) as error:
        inference.add(body)
    assert str(error.value) == line
    assert inference.examples == 1
    assert wrong(inference.schema(), {"a": 1}) is None
