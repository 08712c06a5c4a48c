"""The event pattern language: what matches, what is refused, what is explained."""

from __future__ import annotations

import json
import tomllib
from decimal import Decimal
from typing import Any

import pytest
from pattern_cases import cases

from ddbrelay.flow.change import Digits
from ddbrelay.flow.mapping.patterns import Finding, PatternError, compile_pattern

Json = dict[str, Any]


def matches(pattern: Json, document: Json) -> bool:
    return compile_pattern(pattern).matches(document)


VERDICTS: list[tuple[list[Any], list[Any], list[Any]]] = [
    (["INSERT", "MODIFY"], ["INSERT", ["x", "MODIFY"]], ["insert", "INSERT ", "", None, 5, [], {}]),
    ([""], [""], [None, " ", [], "x"]),
    ([None], [None, [1, None]], ["", "null", 0, False, []]),
    ([True], [True], [1, "true", False, 1.0]),
    ([False], [False], [0, None, "", True]),
    ([5], [5, 5.0, Decimal("5.00"), Digits("5"), Digits("5E0"), [1, 5]], ["5", True, 6, None]),
    ([1], [1], [True]),
    ([0.1], [0.1, Digits("0.10"), Digits("1E-1")], [Digits("0.10000000000000001"), 0.2]),
    ([12345678901234567890], [12345678901234567890], [12345678901234567891]),
    ([5, "5", None], [5, "5", None], [6, "6", False]),
    ([{"prefix": "or"}], ["order", "or", ["x", "order"]], ["Order", "xor", None, 5, {"or": 1}]),
    ([{"prefix": ""}], ["", "x"], [5, None, True, []]),
    ([{"prefix": {"equals-ignore-case": "oR"}}], ["ORDER", "or"], ["o", "xor", 5]),
    ([{"suffix": ".png"}], ["a.png", ".png"], ["a.PNG", "a.png ", ".png\n", None]),
    ([{"suffix": {"equals-ignore-case": ".png"}}], ["a.PNG", "a\n.pnG"], ["a.pn", ".png\n", 5]),
    ([{"equals-ignore-case": "alice"}], ["ALICE", "alice"], ["alices", "alice\n", None]),
    ([{"equals-ignore-case": "straße"}], ["STRASSE", "STRAßE", "straße"], ["strasse"]),
    ([{"equals-ignore-case": "k"}], ["K", "k"], ["\N{KELVIN SIGN}"]),
    ([{"equals-ignore-case": "a.c"}], ["A.C"], ["abc"]),
    ([{"anything-but": "x"}], ["y", 5, None, True, "", ["x", "y"]], ["x", ["x", "x"], [], {}]),
    ([{"anything-but": 5}], [6, "5", None, True, Digits("5.1")], [5, 5.0, Digits("5.0"), [5]]),
    ([{"anything-but": 1}], [True], [1]),
    ([{"anything-but": ["x", "y"]}], ["z", 0], ["x", "y"]),
    ([{"anything-but": [1, 2.5]}], [2, "1"], [1, 2.5, Digits("2.50")]),
    ([{"anything-but": {"prefix": "in"}}], ["out", 5, None], ["in", "into"]),
    ([{"anything-but": {"prefix": ["in", "out"]}}], ["x"], ["into", "outer"]),
    ([{"anything-but": {"suffix": ".png"}}], ["a.jpg", 5], ["a.png"]),
    ([{"anything-but": {"suffix": [".png", ".jpg"]}}], ["a.gif"], ["a.png", "a.jpg"]),
    ([{"anything-but": {"equals-ignore-case": "init"}}], ["x", 5], ["INIT"]),
    ([{"anything-but": {"equals-ignore-case": ["a", "b"]}}], ["c", "ab"], ["A", "B"]),
    ([{"anything-but": {"wildcard": "*/lib/*"}}], ["a/b", None], ["a/lib/b"]),
    ([{"anything-but": {"wildcard": ["*a*", "*b*"]}}], ["c"], ["xa", "bx"]),
    ([{"numeric": ["=", 301.8]}], [301.8, Digits("301.80")], [301.81, "301.8", None]),
    ([{"numeric": ["<", 10]}], [9, 9.99, -1, Digits("9.9"), -(10**30)], [10, "9", True, False]),
    ([{"numeric": ["<=", 10]}], [10, 10.0], [10.1]),
    ([{"numeric": [">", 0]}], [0.5, 10**30, Digits("1E+99")], [0, 0.0, -1, True, None]),
    ([{"numeric": [">=", 0.1]}], [0.1, Digits("0.1")], [Digits("0.09")]),
    ([{"numeric": [">", 0, "<=", 5]}], [5, 0.01], [0, 5.01]),
    ([{"numeric": [">=", -5e9, "<", 5e9]}], [-5000000000, 0], [5000000000]),
    ([{"cidr": "10.0.0.0/24"}], ["10.0.0.0", "10.0.0.255"], ["10.0.1.0", "::a00:0", "x", 5, ""]),
    ([{"cidr": "10.0.0.77/24"}], ["10.0.0.1"], ["10.0.1.1"]),
    ([{"cidr": "2001:db8::/32"}], ["2001:db8::1", "2001:0DB8:0::1"], ["2001:db9::1", "1.2.3.4"]),
    ([{"cidr": "0.0.0.0/0"}], ["1.2.3.4"], [167772161, "1.2.3", "999.1.1.1", "::1", ":::"]),
    ([{"wildcard": "dir/*.png"}], ["dir/a.png", "dir/.png", "dir/a/b\n.png"], ["dir/a.PNG", "x"]),
    ([{"wildcard": "*"}], ["", "x"], [5, None]),
    ([{"wildcard": "a*b*c"}], ["abc", "aXbXbc"], ["acb", "ab", "abcd"]),
    ([{"wildcard": "ab*ba"}], ["abba", "ab ba"], ["aba"]),
    ([{"wildcard": "*a*b*"}], ["ab", "xaxbx"], ["ba"]),
    ([{"wildcard": r"a\*b"}], ["a*b"], ["axb", r"a\*b"]),
    ([{"wildcard": r"a\\*"}], ["a\\", "a\\x"], ["a", "a*"]),
    ([{"wildcard": "plain"}], ["plain"], ["plainer"]),
    ([{"exists": True}], ["x", None, 0, False, [[], 1]], [{}, {"x": 1}, [], [[], {}]]),
    ([{"exists": False}], [{}, {"x": 1}, [], [{"x": 1}]], ["x", None, 0, [1]]),
    (["x", {"exists": False}], ["x", [], {}], ["y", None]),
    (["x", {"exists": True}], ["x", None], [{}]),
    (["x", {"prefix": "or"}, 7, {"suffix": "er"}], ["x", "or1", 7, "2er"], ["y", 8, None]),
    ([{"exactly": "x"}], ["x"], ["y"]),
]


@pytest.mark.parametrize(("values", "wanted", "unwanted"), VERDICTS, ids=lambda one: str(one)[:40])
def test_a_field_matches_the_values_that_its_list_allows(
    values: list[Any], wanted: list[Any], unwanted: list[Any]
) -> None:
    pattern = compile_pattern({"field": values})
    nested = compile_pattern({"new": {"field": values}})
    for value in wanted:
        assert pattern.matches({"field": value}), value
        assert nested.matches({"new": {"field": value}}), value
    for value in unwanted:
        assert not pattern.matches({"field": value}), value
        assert not nested.matches({"new": [{"field": value}, 5]}), value


def test_a_missing_field_matches_only_where_absence_is_asked_for() -> None:
    for values, _, _ in VERDICTS:
        expected = {"exists": False} in values
        assert matches({"field": values}, {"other": 1}) is expected, values
        for parent in ({}, {"new": None}, {"new": "text"}, {"new": []}, {"new": {"x": 1}}):
            assert matches({"new": {"field": values}}, parent) is expected, (values, parent)


def test_all_fields_must_match() -> None:
    pattern = {"a": [1], "b": [2], "c": {"d": [3], "e": [4]}, "f": [5]}
    full: Json = {"a": 1, "b": 2, "c": {"d": 3, "e": 4}, "f": 5}
    assert matches(pattern, full)
    for name in "abcf":
        assert not matches(pattern, {**full, name: 9})
    assert not matches(pattern, {**full, "c": {"d": 3, "e": 9}})


EMPLOYEES = {
    "employees": [
        [{"first": "John", "last": "Doe"}, {"first": "Anna", "last": "Smith"}],
        [{"first": "Peter", "last": "Jones", "roles": [{"name": "cook"}, {"name": "chef"}]}],
    ]
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"first": ["Anna"]}, True),
        ({"first": ["Anna"], "last": ["Smith"]}, True),
        ({"first": ["Anna"], "last": ["Jones"]}, False),
        ({"first": ["Peter"], "roles": {"name": ["chef"]}}, True),
        ({"first": ["Anna"], "roles": {"name": ["chef"]}}, False),
        ({"first": ["Anna"], "roles": {"name": [{"exists": False}]}}, True),
        ({"roles": {"name": [{"exists": False}]}}, False),
        ({"age": [{"exists": False}]}, True),
        ({"first": ["Eve", {"exists": False}]}, False),
        ({"$or": [{"first": ["Eve"]}, {"last": ["Jones"]}]}, True),
    ],
)
def test_one_element_of_an_array_meets_all_conditions(pattern: Json, expected: bool) -> None:
    assert matches({"employees": pattern}, EMPLOYEES) is expected


NO = {"x": ["no"]}
MISSING = {"y": [{"exists": False}]}


@pytest.mark.parametrize(
    "pattern",
    [
        {"a": MISSING},
        {"a": {"$or": [NO, MISSING]}},
        {"$or": [{"a": NO}, {"a": MISSING}]},
        {"a": {"$or": [NO, {"$or": [{"z": [1]}, MISSING]}]}},
    ],
)
def test_a_missing_field_is_missing_in_every_element_whatever_other_branches_ask(
    pattern: Json,
) -> None:
    assert not matches(pattern, {"a": [{"y": 1}, {"x": "z"}]})
    assert matches(pattern, {"a": [{"y": {}}, {"x": "z"}]})
    inner = {"b": pattern}
    assert not matches(inner, {"b": {"a": [{"y": 1}, {"x": "z"}]}})
    assert not matches(inner, {"b": [{"a": {"y": 1}}, {"a": {"x": "z"}}]})
    assert matches(inner, {"b": [{"a": {}}, {"a": {"x": "z"}}]})


def test_one_element_meets_the_conditions_beside_an_or_and_inside_of_it() -> None:
    beside: Json = {"employees": {"first": ["Anna"]}}
    for last, expected in (("Smith", True), ("Jones", False)):
        branches = [{"employees": {"last": [last]}}, {"x": [1]}]
        assert matches({**beside, "$or": branches}, EMPLOYEES) is expected
        inner = [{"$or": [{"employees": {"last": [last]}}, {"x": [1]}], **beside}, {"x": [2]}]
        assert matches({"$or": inner}, EMPLOYEES) is expected


def test_a_branch_of_an_or_is_enough_at_any_level() -> None:
    pattern = {
        "source": ["s"],
        "$or": [
            {"metric": ["CPU"]},
            {"type": ["T"], "space": ["EC2"], "$or": [{"id": [1]}, {"no": [2]}]},
        ],
        "detail": {"$or": [{"a": [{"numeric": [">", 0]}]}, {"b": [None]}]},
    }
    ok: Json = {"source": "s", "detail": {"b": None}}
    assert matches(pattern, {**ok, "metric": "CPU"})
    assert matches(pattern, {**ok, "type": "T", "space": "EC2", "no": 2})
    assert not matches(pattern, {**ok, "type": "T", "space": "EC2", "no": 3})
    assert not matches(pattern, {"metric": "CPU", "detail": {"b": None}})
    assert not matches(pattern, {"source": "s", "metric": "CPU", "detail": {"a": 0}})


def test_a_field_may_be_asked_for_beside_an_or_and_inside_of_it() -> None:
    pattern = {"a": ["1", "2"], "$or": [{"a": ["2", "3"]}, {"b": ["4"]}]}
    assert matches(pattern, {"a": "2"})
    assert not matches(pattern, {"a": "3"})
    assert matches(pattern, {"a": "1", "b": "4"})


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ({"a.b": [1]}, [{"a.b": 1}, {"a": {"b": 1}}, {"a": [{"b": 2}, {"b": [1]}]}], [{"b": 1}]),
        (
            {"a.b.c": ["x"]},
            [{"a": {"b": {"c": "x"}}}, {"a.b": {"c": "x"}}, {"a": {"b.c": "x"}}, {"a.b.c": "x"}],
            [{"a": {"b": "x"}}, {"c": "x"}],
        ),
        (
            {"a.b": {"c": ["x"], "d": [{"exists": False}]}},
            [{"a": {"b": {"c": "x"}}}, {"a.b": {"c": "x"}}],
            [{"a": {"b": {"c": "x", "d": 1}}}, {"a.b": {"c": "x"}, "a": {"b": {"d": 1}}}],
        ),
        ({"a.b": [{"exists": False}]}, [{}, {"a": {"c": 1}}], [{"a": {"b": 1}}, {"a.b": 1}]),
        (
            {"a.b": ["x", {"exists": False}]},
            [{}, {"a": {"b": "x"}}, {"a.b": "x", "a": {"b": "y"}}],
            [{"a": {"b": "y"}}, {"a.b": "y"}],
        ),
        (
            {"a.b": [{"anything-but": "x"}]},
            [{"a.b": "y"}, {"a": {"b": "y"}}],
            [{"a.b": "x"}, {}],
        ),
        (
            {"a.b": ["x"], "a": {"c": ["y"]}},
            [{"a": {"b": "x", "c": "y"}}, {"a.b": "x", "a": {"c": "y"}}],
            [{"a": [{"b": "x"}, {"c": "y"}]}, {"a.b": "x"}],
        ),
        (
            {"$or": [{"a.b": ["x"]}, {"c": ["y"]}]},
            [{"a": {"b": "x"}}, {"a.b": "x"}, {"c": "y"}],
            [{}],
        ),
        ({"a.": ["x"], ".": [1]}, [{"a.": "x", ".": 1}], [{"a": {"": "x"}, ".": 1}]),
    ],
    ids=str,
)
def test_a_name_with_dots_is_a_path_and_a_name(
    pattern: Json, matching: list[Json], others: list[Json]
) -> None:
    assert all(matches(pattern, document) for document in matching)
    assert not any(matches(pattern, document) for document in others)


def test_a_name_with_dots_is_explained_by_both_readings() -> None:
    findings = compile_pattern({"new": {"a.b": ["x"]}}).explain({"new": {"a": {"b": "x"}}})
    assert {(one.path, one.found, one.ok) for one in findings} == {
        ("new.a.b", '"x"', True),
        ('new."a.b"', "absent", False),
    }


class Lazy:
    """A document that remembers what was asked of it."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.asked: list[str] = []

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.append(name)
        return self.fields.get(name, default)


def test_cheap_fields_are_looked_at_first() -> None:
    pattern = compile_pattern(
        {
            "new": {"type": ["x"]},
            "$or": [{"keys": {"id": ["1"]}}, {"ttl": [True]}],
            "changed": ["email"],
            "eventName": ["MODIFY"],
        },
        first=("eventName", "ttl", "keys", "changed"),
    )
    assert pattern.fields == {"new", "keys", "ttl", "changed", "eventName"}
    document = Lazy(eventName="INSERT", new={"type": "x"})
    assert not pattern.matches(document)
    assert document.asked == ["eventName"]
    document = Lazy(eventName="MODIFY", ttl=True, changed=["email"], new={"type": "x"})
    assert pattern.matches(document)
    assert document.asked == ["eventName", "keys", "ttl", "changed", "new"]


@pytest.mark.parametrize("stars", [3, 12])
def test_a_wildcard_does_not_run_wild(stars: int) -> None:
    pattern = compile_pattern({"a": [{"wildcard": "*a" * stars + "*b"}]})
    assert not pattern.matches({"a": "a" * 20_000})


def test_a_pattern_is_explained_field_by_field() -> None:
    pattern = compile_pattern(
        {
            "eventName": ["INSERT", "MODIFY"],
            "new": {"type": [{"prefix": "order#"}], "total": [{"numeric": [">", 0, "<=", 5]}]},
            "$or": [
                {"old": {"state": [{"anything-but": ["a", "b"]}]}},
                {"changed": [{"exists": False}, None]},
            ],
        }
    )
    document = {"eventName": "INSERT", "new": {"type": "user#1", "total": Digits("4.50")}}
    assert pattern.explain(document) == [
        Finding("eventName", '"INSERT" or "MODIFY"', '"INSERT"', True),
        Finding("new.type", 'prefix "order#"', '"user#1"', False),
        Finding("new.total", "> 0 and <= 5", "4.50", True),
        Finding("$or[0].old.state", 'anything but "a" or "b"', "absent", False),
        Finding("$or[1].changed", "absent or null", "absent", True),
    ]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([{"suffix": {"equals-ignore-case": ".png"}}], 'suffix ".png" in any case'),
        ([{"equals-ignore-case": "x"}], '"x" in any case'),
        ([{"exists": True}], "exists"),
        ([{"cidr": "10.0.0.0/8"}], "cidr 10.0.0.0/8"),
        ([{"wildcard": "a*"}], 'wildcard "a*"'),
        ([{"anything-but": {"prefix": "x"}}], 'anything but prefix "x"'),
        ([True, 1.5, "é"], 'true or 1.5 or "é"'),
        (list(range(20)), "0 or 1 or 2 or 3 or 4 or 5 or 14 more"),
    ],
)
def test_every_operator_has_words(values: list[Any], wanted: str) -> None:
    (finding,) = compile_pattern({"a": values}).explain({})
    assert finding == Finding("a", wanted, "absent", {"exists": False} in values)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("x" * 100, '"' + "x" * 58 + "…"),
        ({"b": Digits("1.0"), "c": [None, True]}, '{"b": 1.0, "c": [null, true]}'),
        ("a\ud800\n", r'"a\ud800\n"'),
        (["y"] * 100_000, '["y", "y", "y", "y", "y", "y", "y", "y", "y", "y", "y", "y"…'),
    ],
)
def test_what_was_found_is_shown_in_sixty_characters(value: Any, found: str) -> None:
    (finding,) = compile_pattern({"a": ["q"]}).explain({"a": value})
    assert finding.found == found
    assert len(found) <= 60


def oks(pattern: Json, document: Json) -> list[bool]:
    return [one.ok for one in compile_pattern(pattern).explain(document)]


def test_an_explanation_does_not_contradict_the_verdict() -> None:
    seen = set()
    for case in cases(seed=11, count=4000):
        if "$or" in json.dumps(case.pattern):
            continue
        matched = matches(case.pattern, case.document)
        assert all(oks(case.pattern, case.document)) is matched, case
        seen.add(matched)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"a": MISSING}, [False]),
        ({"a": {"$or": [NO, MISSING]}}, [False, False]),
        ({"a": {"$or": [{"x": ["z"]}, MISSING]}}, [True, True]),
        ({"a": {"b": MISSING}}, [True]),
        ({"a": {"y": [1, {"exists": False}]}}, [True]),
        ({"a": {"y": [2, {"exists": False}]}}, [False]),
    ],
)
def test_a_missing_field_of_an_array_is_explained_as_it_is_judged(
    pattern: Json, expected: list[bool]
) -> None:
    document = {"a": [{"y": 1}, {"x": "z"}]}
    assert oks(pattern, document) == expected
    assert matches(pattern, document) is any(expected)


def test_what_is_hidden_is_told_as_such_of_the_element_that_was_judged() -> None:
    pattern = compile_pattern({"a": {"x": [1], "y": ["secret"]}, "b": {"c": {"d": [5]}}, "e": [1]})
    document = {
        "a": [{"x": 2, "y": "other"}, {"x": 1, "y": "secret"}],
        "b": {"c": {"d": 5}},
        "e": 1,
    }
    hidden = {"a": [{"x": 2, "y": "-"}, {"x": 1, "y": "-"}], "b": {"c": "-"}, "e": 1}
    told = [(one.found, one.ok) for one in pattern.explain(document, hidden)]
    assert told == [("1", True), ("1", True), ('"-"', True), ('"[redacted]"', True)]
    assert {one.found for one in pattern.explain(document, None)} == {'"[redacted]"'}


def test_of_an_array_the_element_that_comes_closest_is_explained() -> None:
    pattern = compile_pattern({"employees": {"first": ["Anna"], "last": ["Jones"]}})
    assert [(one.found, one.ok) for one in pattern.explain(EMPLOYEES)] == [
        ('"Anna"', True),
        ('"Smith"', False),
    ]


def deep(levels: int) -> Json:
    pattern: Json = {"a": ["x"]}
    for _ in range(levels):
        pattern = {"a": pattern}
    return pattern


MISTAKES: list[tuple[Any, tuple[str | int, ...], str]] = [
    ([1], (), "a pattern is an object, not [1]"),
    ({}, (), "an empty object asks for nothing: leave it out"),
    ({"a": {}}, ("a",), "a: an empty object asks for nothing"),
    ({"a": []}, ("a",), "a: an empty list matches nothing"),
    ({"a": "x"}, ("a",), 'a: values stand in a list: ["x"]'),
    ({"a": {"b": 5}}, ("a", "b"), "a.b: values stand in a list: [5]"),
    ({"a": {"prefix": "x"}}, ("a",), 'a: operators stand in a list: [{"prefix": "x"}]'),
    ({"a": {"exists": True}}, ("a",), 'a: operators stand in a list: [{"exists": true}]'),
    ({"a": {"numeric": [">", 5]}}, ("a",), 'operators stand in a list: [{"numeric": [">", 5]}]'),
    ({"a": [["x"]]}, ("a", 0), "a[0]: a list inside of the list"),
    ({"a": ["x", {}]}, ("a", 1), "a[1]: one operator in each object, not none"),
    ({"a": [{"prefix": "x", "suffix": "y"}]}, ("a", 0), "not prefix and suffix"),
    (
        {"a": [{"prefx": "x"}]},
        ("a", 0, "prefx"),
        'unknown operator "prefx", did you mean "prefix"?',
    ),
    ({"a\n": {"": "x"}}, ("a\n", ""), '"a\\n".'),
    ({"a": [{"x\ny": 1}]}, ("a", 0, "x\ny"), r'unknown operator "x\ny"'),
    ({"a": [{"regex": "x"}]}, ("a", 0, "regex"), 'unknown operator "regex", known here: prefix,'),
    ({"a": [{"prefix": 5}]}, ("a", 0, "prefix"), "a[0].prefix: takes a text, not 5"),
    ({"a": [{"suffix": {"prefix": "x"}}]}, ("a", 0, "suffix", "prefix"), "equals-ignore-case"),
    ({"a": [{"equals-ignore-case": None}]}, ("a", 0, "equals-ignore-case"), "not null"),
    ({"a": [{"wildcard": "a**"}]}, ("a", 0, "wildcard"), "two asterisks in a row at character 2"),
    ({"a": [{"wildcard": r"a\b"}]}, ("a", 0, "wildcard"), "the backslash at character 2"),
    ({"a": [{"wildcard": "a\\"}]}, ("a", 0, "wildcard"), "the backslash at character 2"),
    ({"a": [{"wildcard": ["a"]}]}, ("a", 0, "wildcard"), "takes a text"),
    ({"a": [{"exists": "yes"}]}, ("a", 0, "exists"), 'takes true or false, not "yes"'),
    ({"a": [{"numeric": 5}]}, ("a", 0, "numeric"), 'takes a list such as [">", 0]'),
    ({"a": [{"numeric": [">"]}]}, ("a", 0, "numeric"), "takes a list such as"),
    ({"a": [{"numeric": ["=>", 5]}]}, ("a", 0, "numeric", 0), '"=>" is none of = < <= > >='),
    ({"a": [{"numeric": [[], 5]}]}, ("a", 0, "numeric", 0), "[] is none of"),
    ({"a": [{"numeric": [">", "5"]}]}, ("a", 0, "numeric", 1), '"5" is not a number'),
    ({"a": [{"numeric": [">", True]}]}, ("a", 0, "numeric", 1), "true is not a number"),
    (
        {"a": [{"numeric": ["<", 5, ">", 3]}]},
        ("a", 0, "numeric"),
        "a lower bound and then an upper",
    ),
    (
        {"a": [{"numeric": ["=", 5, "<", 7]}]},
        ("a", 0, "numeric"),
        "a lower bound and then an upper",
    ),
    ({"a": [{"numeric": [">=", 5, "<=", 5]}]}, ("a", 0, "numeric"), 'write ["=", 5]'),
    ({"a": [5, {"numeric": [">", 5, "<", 0]}]}, ("a", 1, "numeric"), "no number is > 5 and < 0"),
    ({"a": [{"numeric": [">", 5, "<", 5]}]}, ("a", 0, "numeric"), "no number is > 5 and < 5"),
    ({"a": [{"numeric": [">", 5, "<=", 5]}]}, ("a", 0, "numeric"), "no number is > 5 and <= 5"),
    (
        {"$or": [{"b": [1]}, {"a": [{"numeric": [">", 2, "<", 1]}]}]},
        ("$or", 1, "a", 0, "numeric"),
        "no number is > 2 and < 1",
    ),
    ({"a.b.c.d.e": [1]}, ("a.b.c.d.e",), "too many dots"),
    ({"a.b": {"$or": [{"c": [1]}, {"d": [1]}]}}, ("a.b",), "stands before values, or names"),
    ({"a.b": {"c.d": [1]}}, ("a.b",), "stands before values, or names"),
    ({"a": [{"numeric": [">", 5000000001]}]}, ("a", 0, "numeric", 1), "is beyond 5e9"),
    ({"a": [{"anything-but": 6e9}]}, ("a", 0, "anything-but"), "is beyond 5e9"),
    ({"a": [{"anything-but": ["x", 1]}]}, ("a", 0, "anything-but"), "a list of either alone"),
    ({"a": [{"anything-but": None}]}, ("a", 0, "anything-but"), "not null"),
    ({"a": [{"anything-but": True}]}, ("a", 0, "anything-but"), "not true"),
    ({"a": [{"anything-but": []}]}, ("a", 0, "anything-but"), "an empty list denies nothing"),
    (
        {"a": [{"anything-but": {"sufix": "x"}}]},
        ("a", 0, "anything-but", "sufix"),
        'did you mean "suffix"?',
    ),
    (
        {"a": [{"anything-but": {"prefix": ["x", ""]}}]},
        ("a", 0, "anything-but", "prefix", 1),
        "takes texts here, none of them empty",
    ),
    ({"a": [{"cidr": "10.0.0.0"}]}, ("a", 0, "cidr"), "is not an address with a mask: 10.0.0.0/24"),
    ({"a": [{"cidr": "10.0.0.300/8"}]}, ("a", 0, "cidr"), "is no network"),
    ({"a": [{"cidr": "10.0.0.0/33"}]}, ("a", 0, "cidr"), "is no network"),
    ({"a": [{"cidr": "10.0.0.1/32"}]}, ("a", 0, "cidr"), 'write "10.0.0.1" as a value'),
    ({"a": [float("nan")]}, ("a", 0), "a[0]: nan is no number that JSON has"),
    ({"a": [{"numeric": ["<", float("inf")]}]}, ("a", 0, "numeric", 1), "inf is no number"),
    ({"$or": {"a": ["x"]}}, ("$or",), "$or: takes a list of two or more objects"),
    ({"$or": [{"a": ["x"]}]}, ("$or",), "takes a list of two or more objects"),
    (
        {"$or": [{"a": ["x"]}, "b"]},
        ("$or", 1),
        '$or[1]: is a branch and must be an object, not "b"',
    ),
    ({"$or": [{"a": ["x"]}, {}]}, ("$or", 1), "$or[1]: an empty object"),
    ({"$or": [{"prefix": ["x"]}, {"a": [1]}]}, ("$or", 0, "prefix"), "the name of an operator"),
    (
        {"a": {"$or": [{"b": [{"x": 1}]}, {"c": [1]}]}},
        ("a", "$or", 0, "b", 0, "x"),
        "a.$or[0].b[0]",
    ),
    (deep(200), ("a",) * 101, "nested deeper than 100 levels"),
    (
        {f"x{n}": {"$or": [{"a": [i]} for i in range(11)]} for n in range(3)},
        ("$or",),
        "1331 combinations of $or, EventBridge takes 1000",
    ),
]


@pytest.mark.parametrize(("pattern", "path", "text"), MISTAKES, ids=lambda one: str(one)[:40])
def test_a_mistake_is_one_line_with_its_place(
    pattern: Any, path: tuple[str | int, ...], text: str
) -> None:
    with pytest.raises(PatternError) as caught:
        compile_pattern(pattern)
    assert caught.value.path == path
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "  " not in str(caught.value)


def test_a_date_of_toml_is_not_a_value() -> None:
    with pytest.raises(PatternError, match=r"time\[0\]: 2026-01-01 is date, .* quote it"):
        compile_pattern(tomllib.loads("time = [2026-01-01]"))
