"""Verdicts on event patterns against implementations that are not ours.

`event-ruler` from PyPI is Go's quamina: a part of the language, at full speed. Its `shellstyle`
stands for prefix, suffix and wildcard; alternatives and `$or` are expanded into one pattern each.
It cannot express: case-insensitive operators, numeric ranges, cidr, anything-but with numbers or
operators, escapes and several asterisks in a wildcard, two conditions on one field. ministack's
TestEventPattern takes all of the language.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pattern_cases import Case, Json, cases

from ddbrelay.aws.session import Aws
from ddbrelay.flow.mapping.patterns import PatternError, compile_pattern

event_ruler = pytest.importorskip("event_ruler")
EXPRESSIBLE = frozenset({"exact", "prefix", "suffix", "wildcard", "exists", "but-texts"})
LARGEST = 64


def ours(case: Case) -> bool:
    return compile_pattern(case.pattern).matches(case.document)


def quamina(pattern: Json, document: Json) -> bool:
    return bool(event_ruler.test_event_pattern(json.dumps(document), json.dumps(pattern)))


def expanded(case: Case) -> list[Json] | None:
    """Patterns of which one matches where the case's does; None for what cannot be expressed."""
    found = list(itertools.islice(flattened(case.pattern, ()), LARGEST + 1))
    made = [tree(leaves) for leaves in found]
    if len(found) > LARGEST or any(one is None for one in made):
        return None
    return [one for one in made if one is not None]


Leaves = list[tuple[tuple[str, ...], Any]]


def flattened(pattern: Json, path: tuple[str, ...]) -> Iterator[Leaves]:
    """Every way through the alternatives and the `$or`s, as paths with one value each."""
    ways: list[list[Leaves]] = []
    for name, value in pattern.items():
        if name == "$or":
            ways.append([way for branch in value for way in flattened(branch, path)])
        elif isinstance(value, dict):
            ways.append(list(flattened(value, (*path, name))))
        else:
            ways.append([[((*path, name), one)] for one in value])
    for way in itertools.product(*ways):
        yield [leaf for leaves in way for leaf in leaves]


def tree(leaves: Leaves) -> Json | None:
    made: Json = {}
    for path, value in leaves:
        node = made
        for name in path[:-1]:
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                return None
        if path[-1] in node:
            return None
        if (translated := shellstyle(value)) is None and value is not None:
            return None
        node[path[-1]] = [translated]
    return made


def shellstyle(value: Any) -> Any:
    match value:
        case {"prefix": text}:
            return {"shellstyle": f"{text}*"}
        case {"suffix": text}:
            return {"shellstyle": f"*{text}"}
        case {"wildcard": text}:
            return {"shellstyle": text} if text.count("*") == 1 else None
        case {"anything-but": str(text)}:
            return {"anything-but": [text]}
        case _:
            return value


def known_fault(pattern: Json, document: Json) -> bool:
    """Whether one of quamina's faults, which have tests below, can be in its verdict."""
    text = json.dumps(pattern)
    both = '{"exists": true}' in text and '{"exists": false}' in text
    return both or misread(pattern, document, top=True)


def misread(pattern: Json, value: Any, *, top: bool = False) -> bool:
    """Whether an object stands in an array where values are wanted, or after all that is wanted."""
    if isinstance(value, list):
        return any(misread(pattern, one) for one in value)
    if not isinstance(value, dict):
        return False
    names = list(value)
    after = max((names.index(name) for name in pattern if name in value), default=-1) + 1
    if not top and any(has_object(value[name]) for name in names[after:]):
        return True
    return any(
        misread(wanted, value.get(name))
        if isinstance(wanted, dict)
        else isinstance(value.get(name), list) and has_object(value[name])
        for name, wanted in pattern.items()
    )


def has_object(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(has_object, value)))


def compare_with_quamina(seed: int, count: int) -> None:
    matched = compared = 0
    for case in cases(seed, count, EXPRESSIBLE):
        patterns = expanded(case)
        if patterns is None or any(known_fault(one, case.document) for one in patterns):
            continue
        theirs = any(quamina(one, case.document) for one in patterns)
        assert ours(case) == theirs, case
        matched += theirs
        compared += 1
    assert compared > count * 0.6
    assert 0.3 < matched / compared < 0.7


def test_thousands_of_verdicts_are_those_of_event_ruler() -> None:
    compare_with_quamina(seed=1, count=5000)


@pytest.mark.slow
def test_tens_of_thousands_of_verdicts_are_those_of_event_ruler() -> None:
    compare_with_quamina(seed=2, count=20_000)


@pytest.mark.parametrize(
    ("pattern", "document", "expected"),
    [
        pytest.param(
            {"a": [5]},
            {"a": 5.0},
            True,
            id="numbers are compared as numbers (AWS: numeric equality), quamina compares texts",
        ),
        pytest.param(
            {"a": [{"exists": True}], "b": [{"exists": False}]},
            {"a": 1},
            True,
            id="both kinds of exists may be asked for (AWS: all fields must match)",
        ),
        pytest.param(
            {"a": {"x": [{"exists": True}], "y": [{"exists": True}]}},
            {"a": {"x": [{"x": 1, "y": 2}]}},
            False,
            id="a.x[].x is not a.x (AWS: same nesting), quamina confuses them in an array",
        ),
        pytest.param(
            {"a": {"x": {"y": [1]}, "y": {"y": [2]}}},
            {"a": {"x": {"y": 1, "z": {}}, "y": {"y": 2}}},
            True,
            id="fields that are not asked for are ignored, quamina loses its place after an object",
        ),
        pytest.param(
            {"a": {"x": [{"exists": False}], "y": [2]}},
            {"a": [{"x": 1}, {"y": 2}]},
            True,
            id="the element that meets the other conditions has no x (AWS: one element meets all "
            "conditions), quamina looks at all elements",
        ),
    ],
)
def test_where_event_ruler_differs_from_aws(pattern: Json, document: Json, expected: bool) -> None:
    assert ours(Case(pattern, document)) is expected
    assert quamina(pattern, document) is not expected


on_ministack = pytest.mark.parametrize("shared_engine", ["ministack"], indirect=True)
"""moto has no TestEventPattern."""


@pytest.fixture
def ministack(aws: Aws) -> Any:
    return aws.client("events")


ENVELOPE: Json = {
    "id": "1",
    "account": "123456789012",
    "source": "s",
    "time": "2026-11-23T10:31:07Z",
    "region": "us-east-1",
    "resources": [],
    "detail-type": "t",
}


def by_service(client: Any, case: Case) -> bool:
    answer = client.test_event_pattern(
        EventPattern=json.dumps({"detail": case.pattern}),
        Event=json.dumps({**ENVELOPE, "detail": case.document}),
    )
    return bool(answer["Result"])


def asked_twice(pattern: Json) -> bool:
    """Whether some way through the `$or`s has two conditions on one field."""
    return any(
        one[: len(other)] == other
        for way in {tuple(path for path, _ in leaves) for leaves in flattened(pattern, ())}
        for one, other in itertools.permutations(way, 2)
    )


def absent_in_array(pattern: Json, value: Any, *, inside: bool = False) -> bool:
    """Whether a field of an array's elements is asked to be missing."""
    if isinstance(value, list):
        return any(absent_in_array(pattern, one, inside=True) for one in value)
    if not isinstance(value, dict):
        return False
    for name, wanted in pattern.items():
        if isinstance(wanted, dict):
            found = absent_in_array(wanted, value.get(name), inside=inside)
        elif name == "$or":
            found = any(absent_in_array(one, value, inside=inside) for one in wanted)
        else:
            found = inside and {"exists": False} in wanted
        if found:
            return True
    return False


@pytest.mark.slow
@on_ministack
def test_thousands_of_verdicts_on_the_whole_language_are_those_of_ministack(
    ministack: Any,
) -> None:
    matched = compared = 0
    for case in cases(seed=3, count=5000):
        if not (asked_twice(case.pattern) or absent_in_array(case.pattern, case.document)):
            verdict = ours(case)
            assert verdict == by_service(ministack, case), case
            matched += verdict
            compared += 1
    assert compared > 4000
    assert 0.35 < matched / compared < 0.65


DOTTED: list[Json] = [
    *({"a.b": [1]}, {"a.b": [{"exists": False}]}, {"a.b": [{"anything-but": 1}]}),
    *({"a.b": [1, {"exists": False}]}, {"a.b": {"c": [1]}}, {"a.b": [1], "a": {"c": [1]}}),
]
DOCUMENTS: list[Json] = [
    *({}, {"a": {"b": 1}}, {"a": {"b": 2}}, {"a": {"c": 1}}, {"a": {"b": {"c": 1}}}),
    *({"a": {"b": 1, "c": 1}}, {"a": [{"b": 1}, {"c": 1}]}, {"a": [{"b": 1, "c": 1}]}),
]
"""A name with dots in a document is a path to AWS, and nothing to ministack."""


@pytest.mark.slow
@on_ministack
def test_a_name_with_dots_leads_where_ministack_follows_it(ministack: Any) -> None:
    for pattern, document in itertools.product(DOTTED, DOCUMENTS):
        case = Case(pattern, document)
        in_array = isinstance(document.get("a"), list)
        if not (in_array and "exists" in json.dumps(pattern)):
            assert ours(case) == by_service(ministack, case), case


@pytest.mark.slow
@on_ministack
@pytest.mark.parametrize(
    ("pattern", "document", "expected"),
    [
        pytest.param(
            {"a": ["1"], "$or": [{"a": ["2"]}, {"b": ["3"]}]},
            {"a": "2"},
            False,
            id="a field beside an $or and inside of it meets both (AWS: all fields must match), "
            "event-ruler keeps the last condition",
        ),
        pytest.param(
            {"a.b": ["x"]},
            {"a.b": "x"},
            True,
            id="a name with dots is matched by itself (event-ruler), ministack takes it for steps",
        ),
        pytest.param(
            {"a": {"b": [{"exists": False}]}},
            {"a": [{"b": 1}, {"c": 2}]},
            False,
            id="a field exists where any element has it (event-ruler, quamina), ministack asks "
            "for one element without it",
        ),
    ],
)
def test_where_ministack_differs(
    ministack: Any, pattern: Json, document: Json, expected: bool
) -> None:
    case = Case(pattern, document)
    assert ours(case) is expected
    assert by_service(ministack, case) is not expected


@pytest.mark.slow
@on_ministack
@pytest.mark.parametrize(
    "values",
    [
        *([], [[]], [{}], [{"prefx": "x"}], [{"prefix": 1}], [{"prefix": "x", "suffix": "y"}]),
        *([{"wildcard": "a**"}], [{"wildcard": r"a\b"}], [{"exists": "x"}], [{"numeric": [">"]}]),
        *(
            [{"numeric": ["<", 5, ">", 3]}],
            [{"numeric": [">=", 5, "<=", 5]}],
            [{"cidr": "1.2.3.4"}],
        ),
        *([{"cidr": "10.0.0.1/32"}], [{"anything-but": []}], [{"anything-but": ["x", 1]}]),
        *([{"anything-but": {"prefix": ""}}], [{"anything-but": {"cidr": "10.0.0.0/8"}}]),
    ],
    ids=str,
)
def test_what_ministack_refuses_is_refused(ministack: Any, values: list[Any]) -> None:
    with pytest.raises(PatternError):
        compile_pattern({"a": values})
    with pytest.raises(ministack.exceptions.InvalidEventPatternException):
        by_service(ministack, Case({"a": values}, {}))
