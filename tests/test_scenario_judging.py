"""Which event meets which expectation, in which order, and why none does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from ddbrelay.flow.mapping.patterns import compile_pattern
from ddbrelay.scenario.judging import Judge
from ddbrelay.scenario.matching import mismatch
from ddbrelay.scenario.model import Expect, Never, Spot
from ddbrelay.scenario.ordering import Arrival, Comparison, Key, key_of, sequence_of
from ddbrelay.scenario.verdicts import missing

SPOT = Spot(Path("s.toml"), 1, 1)
STREAM = "arn:aws:dynamodb:us-east-1:1:table/users/stream/x"
KEY: Key = (("id", "u1"),)


def expect(name: str, times: int | None = None, **pattern: Any) -> Expect:
    source = {"detail-type": [name]} | pattern
    return Expect(name, compile_pattern(source), times, 0.0, SPOT)


def event(kind: str, number: str = "", *, second: int = 0, **detail: Any) -> dict[str, Any]:
    return {
        "id": number or f"{kind} {second} {detail}",
        "detail-type": kind,
        "source": "ddbrelay.users",
        "time": f"2026-11-23T10:31:{second:02}Z",
        "resources": [STREAM, f"e-{kind}-{second}-{detail}"],
        "detail": {"id": "u1"} | detail,
    }


def judged(
    expects: Sequence[Expect],
    events: Sequence[dict[str, Any]],
    comparison: Comparison | None = None,
    sequences: Sequence[int | None] | None = None,
    nevers: Sequence[Never] = (),
) -> Judge:
    judge = Judge(expects, nevers, comparison or Comparison())
    for place, one in enumerate(events, 1):
        sequence = sequences[place - 1] if sequences else sequence_of(one)
        judge.add(Arrival(one, 0.1 * place, place, key_of(one, ("id",), [KEY]), sequence))
    return judge


def test_an_event_meets_one_expectation_and_the_order_of_arrival_does_not_matter() -> None:
    wide, narrow = expect("U"), expect("U", detail={"n": [1]})
    for events in permutations([event("U", n=1), event("U", n=2)]):
        judge = judged([wide, narrow], events)
        assert judge.complete
        assert not judge.disorder()
    assert [one.name for one, _ in judged([wide, narrow], [event("U", n=1)]).missing] == ["U"]


def test_what_is_met_stays_met_while_events_come() -> None:
    expects = [expect("A"), expect("A", detail={"n": [1]}), expect("B", times=2)]
    judge = Judge(expects, (), Comparison())
    met: list[Expect] = []
    for place, one in enumerate([event("A", n=1), event("B"), event("A", n=3), event("B", n=2)]):
        met += judge.add(Arrival(one, 0.0, place))[0]
    assert met == expects
    assert judge.complete


def test_a_repeat_counts_once_whoever_repeats_it() -> None:
    one = event("U", "1")
    relayed_again = one | {"id": "2", "time": "2026-11-23T10:40:00Z"}
    judge = judged([expect("U", times=1)], [one, one, relayed_again])
    assert (judge.distinct, judge.repeats, judge.surplus) == (1, 2, [])
    unknown = one | {"resources": []}
    judge = judged([expect("U", times=1)], [unknown, unknown | {"id": "2"}])
    assert [len(several) for _, several in judge.surplus] == [1]


def test_events_too_many_are_told_unless_another_expectation_takes_them() -> None:
    events = [event("U", n=n) for n in range(3)]
    ((which, several),) = judged([expect("U", times=2)], events).surplus
    assert (which.name, [one.event["detail"]["n"] for one in several]) == ("U", [2])
    assert not judged([expect("U", times=2), expect("U")], events).surplus


def test_a_forbidden_event_is_told_and_so_is_what_nothing_asked_for() -> None:
    never = Never("deleted", compile_pattern({"detail-type": ["D"]}), 1.0, SPOT)
    judge = judged([expect("U")], [event("X"), event("D"), event("U")], nevers=[never])
    assert [(one.name, came.event["detail-type"]) for one, came in judge.forbidden] == [
        ("deleted", "D")
    ]
    assert [one.event["detail-type"] for one in judge.unasked] == ["X"]
    assert [one.event["detail-type"] for one in judge.arrivals] == ["X", "D", "U"]


@pytest.mark.parametrize(
    ("comparison", "seconds", "sequences", "evidence"),
    [
        (Comparison(), (0, 0), (None, None), None),
        (Comparison(), (1, 0), (None, None), None),
        (Comparison(), (0, 1), (None, None), "times"),
        (Comparison(), (1, 0), (1, 2), "sequence numbers"),
        (Comparison(), (0, 1), (2, 1), None),
        (Comparison(), (0, 0), (9, 10), "sequence numbers"),
        (Comparison(arrival_counts=True), (0, 0), (None, None), "arrival"),
        (Comparison(arrival_counts=True), (1, 0), (None, None), None),
        (Comparison("arrival"), (1, 0), (2, 1), "arrival"),
        (Comparison("any"), (0, 1), (1, 2), None),
    ],
)
def test_order_is_what_the_events_carry_and_arrival_only_where_it_says_something(
    comparison: Comparison,
    seconds: tuple[int, int],
    sequences: tuple[int | None, int | None],
    evidence: str | None,
) -> None:
    came = [event("B", second=seconds[0]), event("A", second=seconds[1])]
    found = judged([expect("A"), expect("B")], came, comparison, sequences).disorder()
    assert [one.evidence for one in found] == ([evidence] if evidence else [])
    for one in found:
        assert (one.wanted_first.name, one.wanted_then.name) == ("A", "B")
        assert [each.event["detail-type"] for each in (one.first, one.then)] == ["B", "A"]


def test_events_of_different_items_come_in_any_order() -> None:
    came = [event("B", second=0), event("A", second=1) | {"detail": {"id": "u2"}}]
    assert not judged([expect("A"), expect("B")], came).disorder()


def test_order_is_broken_only_if_no_choice_of_events_is_in_order() -> None:
    came = [event("A", second=s, n=s) for s in (0, 2)] + [event("B", second=1)]
    assert not judged([expect("A"), expect("B")], came).disorder()
    assert not judged([expect("B"), expect("A")], came).disorder()
    assert judged([expect("A", times=2), expect("B")], came).disorder()


def test_the_item_is_one_that_was_written_or_what_the_detail_says() -> None:
    def found(detail: Any, *names: str) -> Key | None:
        return key_of({"detail": detail}, names or ("id",), [KEY])

    assert found({"metadata": {"id": "e9"}, "data": {"user": {"id": "u1"}}}) == KEY
    assert found({"metadata": {"id": "e9"}, "data": {"id": "u2"}}) == (("id", "u2"),)
    assert found({"data": {"keys": {"id": 5}}}) == (("id", 5),)
    assert found({"metadata": {"id": "e9"}}) is None
    assert found({"id": "u2"}, "id", "at") is None
    assert found("text") is None
    assert key_of({"detail": {"id": "u1"}}, (), []) is None


def test_the_key_in_the_detail_itself_wins_over_one_that_only_stands_in_it() -> None:
    parent, child = (("id", "a"),), (("id", "b"),)

    def found(detail: Any) -> Key | None:
        return key_of({"detail": detail}, ("id",), [parent, child])

    assert found({"id": "b", "parent": {"id": "a"}}) == child
    assert found({"id": "x", "parent": {"id": "a"}}) == (("id", "x"),)
    assert found({"data": {"id": "b", "parent": {"id": "a"}}}) == child
    assert found({"keys": {"id": "b"}, "old": {"id": "a"}}) == child
    assert found({"specversion": "1.0", "id": "e9", "data": {"id": "b"}}) == child
    assert found({"specversion": "1.0", "id": "a", "data": {"user": {"id": "b"}}}) is None


def test_two_written_keys_in_one_detail_leave_it_open_which_item_it_is_about() -> None:
    parent, child = (("id", "a"),), (("id", "b"),)

    def found(detail: Any) -> Key | None:
        return key_of({"detail": detail}, ("id",), [parent, child])

    assert found({"child": {"id": "b"}, "parent": {"id": "a"}}) is None
    assert found({"child": "b", "parent": {"id": "a"}}) is None
    assert found({"children": ["b"], "parent": {"id": "a"}}) is None
    assert found({"name": "c", "parent": {"id": "a"}, "flag": True}) == parent


def test_a_child_that_names_its_parent_is_in_no_order_with_it() -> None:
    came = [event("A", id="u1"), event("B", second=1, id="u2", parent={"id": "u1"})]
    assert not judged([expect("B"), expect("A")], came, Comparison("arrival")).disorder()


def test_a_sequence_number_is_found_in_the_envelopes() -> None:
    long = "1" * 21
    details = [
        {"metadata": {"sequence": "7"}},
        {"specversion": "1.0", "sequence": "8"},
        {"sequenceNumber": long},
        {"metadata": {"sequenceNumber": long}},
    ]
    found = [sequence_of({"detail": detail}) for detail in details]
    assert found == [7, 8, int(long), int(long)]
    for detail in ({"sequence": "8"}, {"sequenceNumber": "12"}, {"metadata": {"sequence": 5}}, "x"):
        assert sequence_of({"detail": detail}) is None


def test_why_nothing_matches_is_shown_by_the_nearest_event() -> None:
    came = [event("UserDeleted", n=5), event("UserUpdated", email="a@x.org", n=1)]
    pattern = {"detail-type": ["UserUpdated"], "detail": {"email": ["b@x.org"], "n": [1]}}
    assert mismatch(pattern, came, width=80) == [
        "2 events came, none matches; the nearest:",
        '  UserUpdated  ddbrelay.users  {"id":"u1","email":"a@x.org","n":1}',
        '    detail.email  wanted "b@x.org"  got "a@x.org"',
    ]
    assert mismatch(pattern, []) == ["no event came"]


def test_of_an_or_the_nearest_branch_is_shown_and_lines_stay_within_the_width() -> None:
    branches = [{"a": [9]}, {"b": [1], "c": [{"prefix": "a long text that is wanted"}]}]
    one = event("U", b=1, c="something else\nand\u202e more of it, which is long as well")
    lines = mismatch({"detail": {"$or": branches, "id": ["u1"]}}, [one], width=50)
    assert lines[0] == "1 event came, and it does not match:"
    assert lines[2:4] == [
        "    detail.$or[1].c",
        '      wanted prefix "a long text that is wanted"',
    ]
    assert all(len(line) <= 50 and line.isprintable() for line in lines)


def test_fields_that_match_only_apart_are_told() -> None:
    one = event("U", items=[{"a": 1, "b": 2}, {"a": 2, "b": 1}])
    pattern = {"$or": [{"detail": {"items": {"a": [1]}}}, {"source": ["x"]}]}
    pattern = {"detail": {"items": {"b": [1]}}, **pattern}
    assert "same object" in mismatch(pattern, [one])[-1]


def test_of_two_equally_near_events_the_one_that_nothing_asked_for_is_shown() -> None:
    wanted, met = expect("UserCreated", detail={"id": ["u2"]}), expect("UserDeleted")
    unclaimed, claimed = event("UserUpdated", n=1), event("UserDeleted", n=2)
    for came in ([unclaimed, claimed], [claimed, unclaimed]):
        judge = judged([wanted, met], came)
        verdict = missing(judge, wanted, 0, at=1.0, timeout=1.0, width=100)
        assert verdict.lines[0] == "2 events came, none matches; the nearest:"
        assert verdict.lines[1].split()[0] == "UserUpdated"
