from __future__ import annotations

import base64
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.config import load
from ddbrelay.errors import ConfigError
from ddbrelay.flow.change import REDACTED, Change, UndecodableError
from ddbrelay.flow.mapping import CrudMapper, Event, Reject
from ddbrelay.flow.mapping.making import Defaults, MappingError
from ddbrelay.flow.mapping.redaction import Sightings, redaction_paths
from ddbrelay.flow.mapping.rules import RuleMapper, compile_rules
from ddbrelay.flow.tracking import DeadLetter, events_of, stored_events
from ddbrelay.mappings import check_redaction
from ddbrelay.relay.concealing import concealed
from ddbrelay.testing.builders import change

SECRET = "4111-1111"
ITEM: dict[str, Any] = {
    "id": "a",
    "card": SECRET,
    "name": "Kaylee",
    "address": {"street": SECRET, "zip": "01234"},
    "orders": [{"card": SECRET, "n": 1}, {"n": 2}],
}


def redacted(*paths: tuple[str, ...], **images: Any) -> Change:
    source = change("a", new=ITEM, old=ITEM | {"card": "4222", "n": 1}, event_name="MODIFY")
    source.redact(paths)
    return source


def test_what_is_redacted_stands_nowhere_in_the_change_any_more() -> None:
    source = redacted(("card",), ("address", "street"), ("orders", "card"))
    assert source.new == {
        "id": "a",
        "card": REDACTED,
        "name": "Kaylee",
        "address": {"street": REDACTED, "zip": "01234"},
        "orders": [{"card": REDACTED, "n": 1}, {"n": 2}],
    }
    stored = msgspec.json.encode(source.record).decode()
    assert SECRET not in stored
    assert "4222" not in stored
    assert SECRET not in json.dumps(source.diff)


def test_what_differed_is_still_known() -> None:
    source = redacted(("card",))
    assert source.changed == ["card", "n"]
    assert source.diff["card"] == {"before": REDACTED, "after": REDACTED}
    assert source.diff["n"] == {"before": 1}


def test_an_attribute_that_is_not_there_is_not_made_up() -> None:
    assert redacted(("ssn",), ("name", "first"), ("address", "city")).new == ITEM


def test_the_key_stays() -> None:
    source = redacted(("id",))
    assert source.keys == {"id": "a"}
    assert source.new == ITEM


def test_a_second_redaction_adds_to_the_first_and_both_can_be_taken_back() -> None:
    source = redacted(("card",))
    source.redact([("name",)])
    assert source.new is not None
    assert (source.new["card"], source.new["name"]) == (REDACTED, REDACTED)
    assert source.is_redacted
    source.reveal()
    assert source.new == ITEM
    assert not source.is_redacted


@pytest.mark.parametrize("image", [b"{broken", b"[1]", b'{"card": {"S": "4111-1111"', b"\xff"])
def test_an_image_that_cannot_be_read_is_left_out(image: bytes) -> None:
    source = change("a", new=image)
    source.redact([("card",)])
    with pytest.raises(UndecodableError, match="must not be shown cannot be read"):
        _ = source.new
    assert SECRET.encode() not in msgspec.json.encode(source.record)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ('{"card": "4111", "n": 1.10}', '{"card":"[redacted]","n":1.10}'),
        ('[{"card": 1}, {"n": 2}]', '[{"card":"[redacted]"},{"n": 2}]'),
        ('{"inner": {"card": 1}}', '{"inner": {"card": 1}}'),
        ("no JSON", "no JSON"),
        ("", ""),
    ],
)
def test_a_path_goes_into_json_text_too(text: str, hidden: str) -> None:
    source = change("a", new={"id": "a", "payload": text})
    source.redact([("payload", "card")])
    assert source.new == {"id": "a", "payload": hidden}


def explained(when: dict[str, Any], *redact: str, **rule: Any) -> str:
    defaults, crud = Defaults("users", redact=redact), CrudMapper("users")
    specs = [{"when": when, "detail_type": "A", "continue": True}, {"detail_type": "B", **rule}]
    mapper = RuleMapper(compile_rules(specs, defaults, crud), defaults)
    source = change("a", new=ITEM, old=ITEM | {"card": "4222"}, event_name="MODIFY")
    return "".join(repr(verdict.findings) for verdict in mapper.explain(source))


@pytest.mark.parametrize(
    ("when", "redact"),
    [
        ({"diff": {"card": {"before": ["x"]}}}, "card"),
        ({"new": {"address": {"street": ["x"]}}}, "address.street"),
        ({"new": {"address": [{"exists": True}]}}, "address.street"),
        (
            {"dynamodb": {"NewImage": {"address": {"M": {"street": {"S": ["x"]}}}}}},
            "address.street",
        ),
        ({"new": {"orders": {"card": ["x"]}}}, "orders.card"),
    ],
)
def test_an_explanation_shows_nothing_of_what_is_redacted(
    when: dict[str, Any], redact: str
) -> None:
    assert SECRET in explained(when) or "4222" in explained(when)
    for hidden in (explained(when, redact), explained(when, redact=[redact])):
        assert SECRET not in hidden
        assert "4222" not in hidden
        assert REDACTED in hidden


@pytest.mark.parametrize("image", [b"[1]", b'{"id": {"S": "a"}, "card": {"S": "\\ud800"}}'])
def test_what_cannot_be_read_is_not_published_without_what_is_redacted(image: bytes) -> None:
    defaults, crud = Defaults("users", redact=("card",)), CrudMapper("users")
    mapper = RuleMapper([], defaults, crud)
    result = mapper(change("a", new=image))
    assert isinstance(result, Reject)


values = st.recursive(
    st.text(max_size=5) | st.integers(-5, 5) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "secret"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.sampled_from(["a", "b", "secret"]), values, max_size=3),
    st.lists(st.lists(st.sampled_from(["a", "b", "secret"]), min_size=1, max_size=3), max_size=3),
)
def test_any_image_loses_what_lies_at_the_paths_and_nothing_else(
    item: dict[str, Any], paths: list[list[str]]
) -> None:
    source = change("a", new={"id": "a"} | item)
    source.redact(paths)
    expected: Any = {"id": "a"} | item
    for path in paths:
        expected = without(expected, path)
    assert source.new == expected


def without(value: Any, path: list[str]) -> Any:
    if not path:
        return REDACTED
    if isinstance(value, list):
        return [without(one, path) for one in value]
    if not isinstance(value, dict) or path[0] not in value:
        return value
    return value | {path[0]: without(value[path[0]], path[1:])}


# Both readings of a dotted name, and wildcards

PLACES: dict[str, Any] = {
    "id": "a",
    "card.number": "1",
    "card": {"number": "2", "number.last": "3", "holder": "x"},
    "cards": [{"card": {"number": "4"}}, [{"number": "5"}]],
    "home": {"street": "6", "town": "y"},
    "home.street": "7",
    "aws:rep:deleting": True,
    "aws:rep:": "8",
    "json": '{"street": "9", "card.number": "10"}',
}
HIDDEN_BY: dict[str, list[str]] = {
    "card.number": ["card.number", "card/number"],
    "card.number.last": ["card/number.last"],
    '"card.number"': ["card.number"],
    'card."number"': ["card/number"],
    'card."number.last"': ["card/number.last"],
    "cards.card.number": ["cards/0/card/number"],
    "cards.number": ["cards/1/0/number"],
    "cards.*.number": ["cards/0/card/number"],
    "*.street": ["home/street", "home.street", "json/street"],
    "*.card.number": ["json/card.number", "cards/0/card/number"],
    "aws:rep:*": ["aws:rep:deleting", "aws:rep:"],
    "*e": ["home"],
    "c*.n*": ["card.number", "card/number", "card/number.last", "cards/1/0/number"],
    "*": [name for name in PLACES if name != "id"],
    "adress.street": [],
    "street": [],
}


def hidden_places(value: Any, before: str = "") -> list[str]:
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)
    if value == REDACTED:
        return [before]
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    return [
        place
        for name, one in inside
        for place in hidden_places(one, f"{before}/{name}".lstrip("/"))
    ]


@pytest.mark.parametrize("name", HIDDEN_BY)
def test_every_attribute_that_a_name_can_mean_is_hidden_and_no_other(name: str) -> None:
    source = change("a", new=PLACES)
    defaults = Defaults("users", redact=(name,))
    RuleMapper([], defaults, CrudMapper("users"))(source)
    assert sorted(hidden_places(source.new)) == sorted(HIDDEN_BY[name])


def test_binary_that_is_json_is_looked_through() -> None:
    source = change("a", new={"card": b'{"number": "4111", "n": 1.10}', "x": b"{"})
    source.redact([("card", "number"), ("x", "number")])
    assert source.new is not None
    assert base64.b64decode(source.new["card"]) == b'{"number":"[redacted]","n":1.10}'
    assert source.new["x"] == base64.b64encode(b"{").decode()


def test_what_a_letter_holds_is_hidden_by_every_reading_too() -> None:
    record = change("a", new=PLACES | {"card.number": "4111-1111", "home": {"street": "Elm 5 B"}})
    event = Event("s", "t", b'{"at": "Elm 5 B", "home.street": 1, "n": "no 4111-1111"}')
    stored = stored_events([event])
    raw = msgspec.json.encode(record.record)
    letter = DeadLetter("s", "7", b"{}", "no 4111-1111", raw, stored, 1, 1e9)
    paths = redaction_paths(("card.number", "*.street"), ("redact",))
    hidden = concealed(letter, paths)
    kept = b"".join((hidden.record, hidden.event or b"", hidden.reason.encode()))
    assert b"4111-1111" not in kept
    assert b"Elm" not in kept
    assert hidden.event is not None
    assert b'"home.street":"[redacted]"' in events_of(hidden.event)[0].detail


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("id", True),
        ("i*", True),
        ("*.id", False),
        ("*", False),
        ("id.x", True),
        ("*.street", False),
    ],
)
def test_a_name_that_asks_for_the_key_is_refused(
    name: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ddbrelay.toml").write_text(f"redact = ['{name}']\n[source]\ntable = 'users'\n")
    config = load({}, {})
    with pytest.raises(ConfigError, match='"id" is a key') if refused else nullcontext():
        check_redaction(config, ["id"])


def test_a_name_of_many_parts_must_say_which_dots_are_names() -> None:
    with pytest.raises(MappingError, match="too many readings") as caught:
        redaction_paths(("a.b.c.d.e.f.g",), ("redact",))
    assert caught.value.hint == 'double quotes around each name: "a"."b"."c"."d"."e"."f"."g"'
    assert redaction_paths(('"a"."b"."c"."d"."e"."f"."g"',), ()) == (tuple("abcdefg"),)


def test_a_name_that_no_change_has_is_reported_with_the_nearest_one() -> None:
    sightings = Sightings(["home.street", "hom.street", "*.steet", "nick", "card.number", "ssn"])
    assert sightings.complaints() == []
    sightings.see(change("a", new=PLACES))
    sightings.see(change("a", "REMOVE", old={"ssn": 5}, new=None))
    sightings.see(change("a", new=b"{broken"))
    assert sightings.complaints() == [
        'redact: no change has "hom.street"; did you mean "home.street"?',
        'redact: no change has "*.steet"',
        'redact: no change has "nick"',
    ]
