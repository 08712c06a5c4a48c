"""What is said of patterns without a document: which never match, which hide which."""

from __future__ import annotations

from typing import Any

import pytest
from pattern_cases import Json, cases

from ddbrelay.flow.mapping.patterns import compile_pattern, covers, impossible

NAMES = ("INSERT", "MODIFY", "REMOVE")
VALUES: dict[str, Any] = {"eventName": NAMES, "ttl": (True, False), "table": ("users",)}
IS = "eventName: is always"
ALL = f'{IS} "INSERT" or "MODIFY" or "REMOVE", never'


@pytest.mark.parametrize(
    ("pattern", "why", "path"),
    [
        ({"eventName": ["INSRT"]}, f'{ALL} "INSRT", did you mean "INSERT"?', ("eventName",)),
        ({"eventName": ["modify"]}, f'{ALL} "modify", did you mean "MODIFY"?', ("eventName",)),
        ({"eventName": [5, None]}, f"{ALL} 5 or null", ("eventName",)),
        ({"eventName": [{"prefix": "X"}]}, f'{ALL} prefix "X"', ("eventName",)),
        ({"eventName": [{"wildcard": "*Q*"}]}, f'{ALL} wildcard "*Q*"', ("eventName",)),
        ({"eventName": [{"exists": False}]}, f"{ALL} absent", ("eventName",)),
        ({"eventName": [{"anything-but": list(NAMES)}]}, f"{ALL} anything but", ("eventName",)),
        ({"ttl": ["true"]}, 'ttl: is always true or false, never "true"', ("ttl",)),
        ({"table": [{"suffix": "x"}]}, 'table: is always "users", never suffix "x"', ("table",)),
        ({"eventName": {"x": [1]}}, "eventName: is never an object, it is", ("eventName",)),
        (
            {"$or": [{"eventName": ["X"]}, {"ttl": ["x"]}]},
            '$or[0].eventName: is always "INSERT" or',
            ("$or", 0, "eventName"),
        ),
        (
            {"eventName": ["INSERT"], "$or": [{"eventName": ["MODIFY"]}, {"ttl": ["x"]}]},
            '$or[0].eventName: is always "INSERT", never "MODIFY"',
            ("$or", 0, "eventName"),
        ),
        (
            {"new": {"a": [{"exists": False}], "$or": [{"a": ["x"]}, {"a": ["y"]}]}},
            'new.$or[0].a: cannot be "x" and absent in one document',
            ("new", "$or", 0, "a"),
        ),
    ],
)
def test_a_pattern_that_can_never_match_says_why(
    pattern: Json, why: str, path: tuple[str | int, ...]
) -> None:
    error = impossible(compile_pattern(pattern), VALUES)
    assert error is not None
    assert str(error).startswith(why)
    assert error.path == path


@pytest.mark.parametrize(
    "pattern",
    [
        {"eventName": ["INSRT", "MODIFY"]},
        {"eventName": [{"prefix": "M"}], "ttl": [False]},
        {"eventName": {"x": [{"exists": False}]}},
        {"$or": [{"eventName": ["X"]}, {"ttl": [True]}]},
        {"a": ["x"], "$or": [{"a": ["y"]}, {"b": [1]}]},
        {"a": [{"exists": False}], "$or": [{"a": {"b": [1]}}, {"a": {"c": [1]}}]},
        {"a": ["x", {"exists": False}], "$or": [{"a": ["x"]}, {"a": ["y"]}]},
    ],
)
def test_a_pattern_that_may_match_is_not_called_impossible(pattern: Json) -> None:
    assert impossible(compile_pattern(pattern), VALUES) is None


def covered(earlier: Any, later: Any) -> bool:
    return covers(compile_pattern(earlier), compile_pattern(later))


COVERED: list[tuple[list[Any], list[Any]]] = [
    (["a", "b"], ["a"]),
    ([5, None, True], [5.0, None]),
    ([{"exists": True}], ["a", 5, None]),
    ([{"exists": True}], [{"prefix": "a"}, {"numeric": [">", 5]}, {"exists": True}]),
    ([{"exists": False}, "x"], [{"exists": False}]),
    ([{"prefix": "or"}], ["order", {"prefix": "order"}]),
    ([{"prefix": "or"}], [{"wildcard": "or*x"}]),
    ([{"prefix": ""}], [{"suffix": "x"}, {"cidr": "10.0.0.0/8"}]),
    ([{"prefix": {"equals-ignore-case": "OR"}}], ["order", {"equals-ignore-case": "order"}]),
    ([{"prefix": {"equals-ignore-case": "OR"}}], [{"prefix": {"equals-ignore-case": "ord"}}]),
    ([{"suffix": ".png"}], ["a.png", {"suffix": "x.png"}, {"wildcard": "*.png"}]),
    ([{"equals-ignore-case": "Ab"}], [{"equals-ignore-case": "aB"}, "AB"]),
    ([{"wildcard": "a*"}], ["a", {"prefix": "ab"}, {"wildcard": "ab*c"}]),
    ([{"wildcard": "*a"}], [{"suffix": "ba"}]),
    ([{"wildcard": "*"}], [{"suffix": "x"}, {"wildcard": "a*b"}]),
    ([{"numeric": [">", 0]}], [{"numeric": [">", 0, "<", 5]}, {"numeric": ["=", 3]}, 7]),
    ([{"numeric": [">=", 0, "<=", 9]}], [{"numeric": [">=", 0, "<", 9]}]),
    ([5], [{"numeric": ["=", 5]}]),
    ([{"cidr": "10.0.0.0/8"}], [{"cidr": "10.1.0.0/16"}, "10.9.9.9"]),
    ([{"anything-but": "x"}], ["y", 5, {"prefix": "y"}, {"numeric": [">", 1]}]),
    ([{"anything-but": "x"}], [{"anything-but": ["x", "y"]}]),
    ([{"anything-but": 5}], [{"prefix": "a"}, {"numeric": [">", 5]}]),
    ([{"anything-but": {"prefix": "ab"}}], [{"prefix": "b"}, {"anything-but": {"prefix": "a"}}]),
    ([{"anything-but": {"suffix": "x"}}], [{"suffix": "y"}, {"equals-ignore-case": "Zy"}]),
]
NOT_COVERED: list[tuple[list[Any], list[Any]]] = [
    (["a"], ["a", "b"]),
    (["5"], [5]),
    ([1], [True]),
    ([{"exists": True}], [{"exists": False}]),
    ([{"exists": False}], ["x"]),
    ([{"prefix": "order"}], [{"prefix": "or"}]),
    ([{"prefix": "or"}], [{"prefix": {"equals-ignore-case": "order"}}]),
    ([{"prefix": "or"}], [{"suffix": "or"}]),
    ([{"suffix": "or"}], [{"wildcard": "or*"}]),
    ([{"equals-ignore-case": "ß"}], [{"equals-ignore-case": "SS"}]),
    ([{"wildcard": "a*c"}], [{"prefix": "abc"}]),
    ([{"numeric": [">", 0]}], [{"numeric": [">=", 0]}]),
    ([{"numeric": ["<", 9]}], [{"numeric": [">", 1]}]),
    ([{"cidr": "10.1.0.0/16"}], [{"cidr": "10.0.0.0/8"}]),
    ([{"cidr": "10.0.0.0/8"}], [{"prefix": "10."}]),
    ([{"anything-but": "x"}], [{"prefix": "x"}]),
    ([{"anything-but": ["x", "y"]}], [{"anything-but": "x"}]),
    ([{"anything-but": {"prefix": "a"}}], [{"suffix": "b"}]),
    ([{"anything-but": {"prefix": "ab"}}], [{"prefix": "a"}]),
    ([{"anything-but": {"prefix": "ab"}}], [{"prefix": {"equals-ignore-case": "AB"}}]),
]


@pytest.mark.parametrize(("earlier", "later"), COVERED, ids=str)
def test_a_wider_list_covers_a_narrower_one(earlier: list[Any], later: list[Any]) -> None:
    assert covered({"a": earlier}, {"a": later})
    assert covered({"new": {"a": earlier}}, {"new": {"a": later, "b": ["x"]}, "c": [1]})


@pytest.mark.parametrize(("earlier", "later"), NOT_COVERED, ids=str)
def test_a_narrower_list_does_not_cover_a_wider_one(earlier: list[Any], later: list[Any]) -> None:
    assert not covered({"a": earlier}, {"a": later})


@pytest.mark.parametrize(
    ("earlier", "later", "expected"),
    [
        ({"a": [1]}, {"a": [1], "b": [2]}, True),
        ({"a": [1], "b": [2]}, {"a": [1]}, False),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, {"$or": [{"a": [1]}, {"b": [2]}]}, True),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, {"b": [2]}, True),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, {"c": [3]}, False),
        ({"a": [1, 2]}, {"$or": [{"a": [1]}, {"a": [2], "b": [3]}]}, True),
        ({"a": [1]}, {"$or": [{"a": [1]}, {"b": [3]}]}, False),
        ({"a": [1]}, {"a": [1], "$or": [{"a": [2]}, {"b": [3]}]}, True),
        ({"new": {"x": [{"exists": False}]}}, {"new": {"x": [{"exists": False}], "y": [1]}}, True),
        ({"new": {"x": [{"exists": False}]}}, {"old": {"y": [1]}}, False),
        (
            {"new": {"l": {"x": [{"exists": False}]}}},
            {"new": {"l": {"x": [{"exists": False}], "y": [1]}}},
            False,
        ),
        (
            {"new": {"l": {"x": [{"exists": False}]}}},
            {"new": {"l": {"x": [{"exists": False}]}, "y": [1]}},
            True,
        ),
        (
            {"dynamodb": {"NewImage": {"ttl": {"N": [{"exists": False}]}}}},
            {"dynamodb": {"NewImage": {"ttl": {"N": [{"exists": False}], "S": ["x"]}}}},
            True,
        ),
    ],
)
def test_fields_objects_and_branches_are_compared(
    earlier: Json, later: Json, expected: bool
) -> None:
    assert covered(earlier, later) is expected


def test_a_pattern_covers_itself_whatever_it_is() -> None:
    for case in cases(seed=5, count=500):
        assert covered(case.pattern, case.pattern), case.pattern


def a_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) for one in value)


def test_what_is_covered_is_matched_and_what_is_impossible_is_not() -> None:
    found = list(cases(seed=7, count=3000))
    patterns = [(case.pattern, compile_pattern(case.pattern)) for case in found]
    hidden = 0
    for number, case in enumerate(found):
        _, later = patterns[number]
        values = {name: [value] for name, value in case.document.items()}
        if later.matches(case.document):
            assert impossible(later, values) is None, case
        if any(map(a_list_of_objects, case.document.values())):
            continue
        for near in range(number - 40, number):
            pattern, earlier = patterns[near]
            if earlier.fields <= later.fields and covers(earlier, later):
                hidden += 1
                if later.matches(case.document):
                    assert earlier.matches(case.document), (pattern, case)
    assert hidden > 100
