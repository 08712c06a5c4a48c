"""`ddbrelay map`: recorded changes through the mapping, compared and explained."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from conftest import Cli

from ddbrelay.cli.expectations import ExpectationError, differences, expected_in
from ddbrelay.cli.map import command
from ddbrelay.cli.options import Run
from ddbrelay.errors import DdbrelayError
from ddbrelay.flow.capture import Record
from ddbrelay.testing.builders import record

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/users/stream/2026-01-01T00:00:00.000"
RULES = """
redact = ["ssn"]

[source]
table = "users"

[[rule]]
name = "email-changed"
when = { eventName = ["MODIFY"], changed = ["email"] }
source = "myapp.users"
detail_type = "UserEmailChanged"
detail = "{id: keys.id, before: old.email, after: new.email}"
continue = true

[[rule]]
name = "order"
when = { new = { type = [{ prefix = "order#" }] } }
detail_type = "{new.kind}Placed"
bus = "other-bus"

[[rule]]
when = { eventName = ["REMOVE"] }
skip = "deletes are not events here"

[[rule]]
name = "last"
when = { new = { never = [true] } }
"""
ORDER = {"id": "a", "type": "order#5", "kind": "Book"}
CHANGES = [
    record("a", 1, event_id="e1", new=ORDER | {"ssn": "078-05-1120"}),
    record(
        "a", 2, "MODIFY", event_id="e2", new=ORDER | {"email": "b@x"}, old=ORDER | {"email": "a@x"}
    ),
    record("b", 3, event_id="e3", new={"id": "b", "type": "user#1"}, at=None),
    record("b", 4, "REMOVE", event_id="e4"),
]
BROKEN = record("c", 5, event_id="e5", new={"id": "c", "type": "order#6"})


@dataclass
class Done:
    """What a run printed, and the error that it ended with."""

    out: str
    err: str
    error: DdbrelayError | None

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Mapping:
    """`ddbrelay map` in a folder with a mapping file and recorded changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("ddbrelay.toml", RULES)
        self.changes(*CHANGES)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def changes(self, *records: Record) -> None:
        body = msgspec.json.encode({"Records": records})
        (self.folder / "changes.json").write_bytes(body)

    def __call__(self, *words: str, stdin: bytes = b"") -> Done:
        run = Run()
        ended = CliRunner().invoke(command, words, obj=run, input=stdin)
        if ended.exception is not None and not isinstance(ended.exception, DdbrelayError):
            raise ended.exception
        return Done(ended.stdout, ended.stderr, ended.exception)


@pytest.fixture
def mapping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping:
    monkeypatch.chdir(tmp_path)
    return Mapping(tmp_path)


# What is read


def test_a_value_that_an_sdk_wrote_with_every_type_is_the_one_that_is_set(mapping: Mapping) -> None:
    unused = dict.fromkeys(("S", "N", "B", "BOOL", "NULL")) | {"SS": [], "L": [], "M": {}}
    image = {"id": {"S": "a"}, "type": {"S": "order#5"}, "kind": {"S": "Book"}}
    image["count"] = unused | {"N": "3"}
    mapping.changes(typed(image), typed(image | {"where": {"M": {"n": {"S": "x", "N": "5"}}}}))
    done = mapping("changes.json", "--output", "json")
    event, parked = done.objects
    assert event["entry"]["Detail"]["count"] == 3
    assert parked["reason"] == 'rule "order": cannot be read: where.n has several types, N, S'
    assert done.error is not None


def typed(image: dict[str, Any]) -> Record:
    made = record("a", 1)
    raw = msgspec.Raw(msgspec.json.encode(image))
    return msgspec.structs.replace(
        made, dynamodb=msgspec.structs.replace(made.dynamodb, new_image=raw)
    )


def test_a_redacted_name_that_no_record_has_is_reported(mapping: Mapping) -> None:
    done = mapping("changes.json")
    assert "redact" not in done.err
    mapping.write("ddbrelay.toml", RULES.replace('"ssn"', '"sssn", "*.street"'))
    done = mapping("changes.json", "--output", "json")
    assert done.error is None
    assert done.err.splitlines() == [
        'redact: no change has "sssn"; did you mean "ssn"?',
        'redact: no change has "*.street"',
    ]


# What is printed


def test_each_event_and_each_skip_is_a_line(mapping: Mapping) -> None:
    done = mapping("changes.json")
    assert done.error is None
    assert done.out.splitlines() == [
        "2026-01-01T00:00:00Z INSERT id=a BookPlaced preview",
        "2026-01-01T00:00:00Z MODIFY id=a UserEmailChanged preview",
        "2026-01-01T00:00:00Z MODIFY id=a BookPlaced preview",
        "- INSERT id=b - skipped (no rule)",
        "2026-01-01T00:00:00Z REMOVE id=b - skipped (deletes are not events here)",
    ]
    assert done.err.splitlines() == [
        "4 records: 3 events, 2 skipped, 0 parked",
        "next: ddbrelay map changes.json --explain",
    ]


def test_json_has_the_entries_as_they_would_be_sent(mapping: Mapping) -> None:
    first, second, third, *skips = mapping("changes.json", "--output", "json").objects
    assert first == {
        "type": "event",
        "eventID": "e1",
        "rule": "order",
        "entry": {
            "Source": "ddbrelay.users",
            "DetailType": "BookPlaced",
            "Detail": ORDER | {"ssn": "[redacted]"},
            "Resources": [ARN, "e1"],
            "Time": "2026-01-01T00:00:00Z",
            "EventBusName": "other-bus",
        },
    }
    assert second["entry"]["Detail"] == {"id": "a", "before": "a@x", "after": "b@x"}
    assert "EventBusName" not in second["entry"]
    assert third["entry"]["Resources"] == [ARN, "e2.order"]
    assert skips == [
        {"type": "skipped", "eventID": "e3", "rule": "no rule"},
        {"type": "skipped", "eventID": "e4", "rule": "deletes are not events here"},
    ]


def test_nothing_of_what_is_redacted_is_shown(mapping: Mapping) -> None:
    for words in (["--detail"], ["--explain"], ["--output", "json"], ["--output", "rich"]):
        done = mapping("changes.json", *words)
        assert "078-05" not in done.out + done.err


def test_a_detail_stands_below_its_event(mapping: Mapping) -> None:
    lines = mapping("changes.json", "--detail").out.splitlines()
    assert lines[1:4] == ["    {", '      "id": "a",', '      "type": "order#5",']


def test_a_terminal_shows_reasons_whole(mapping: Mapping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    mapping.changes(BROKEN)
    done = mapping("changes.json", "--output", "rich")
    assert max(map(len, done.out.splitlines())) <= 80
    assert 'parked: rule "order": {new.kind} is missing' in " ".join(done.out.split())


def test_a_record_that_would_be_parked_ends_with_code_3(mapping: Mapping) -> None:
    mapping.changes(*CHANGES, BROKEN)
    done = mapping("changes.json", "--output", "json")
    assert done.error is not None
    assert (done.error.exit_code, done.error.message) == (3, "1 of 5 records would be parked")
    parked = done.objects[-1]
    assert (parked["type"], parked["eventID"], parked["rule"]) == ("parked", "e5", "order")
    assert parked["reason"].startswith('rule "order": {new.kind}')


def test_a_record_whose_key_or_size_the_relay_would_park_is_parked_here(mapping: Mapping) -> None:
    mapping.write("ddbrelay.toml", '[source]\ntable = "users"\n')
    mapping.changes(
        record("a", keys=b'{"id":{"S":"\\ud800"}}', event_id="e1"),
        record("a", new={"id": "a", "text": "x" * (1024 * 1024)}, event_id="e2"),
    )
    key, size = mapping("changes.json", "--output", "json").objects
    assert (key["type"], size["type"]) == ("parked", "parked")
    assert key["reason"].startswith("no JSON: ")
    assert "less than 1 MB, and there is no --claim-check" in size["reason"]


def test_a_large_detail_is_a_reference_where_the_relay_would_send_one(mapping: Mapping) -> None:
    mapping.write(
        "ddbrelay.toml", '[source]\ntable = "users"\n[relay]\nclaim_check = "s3://bucket/x"\n'
    )
    mapping.changes(record("a", new={"id": "a", "text": "x" * (1024 * 1024)}, event_id="e1"))
    (event,) = mapping("changes.json", "--output", "json").objects
    assert event["entry"]["Detail"]["claimCheck"]["bucket"] == "bucket"


def test_standard_input_is_read_where_no_file_is_named(mapping: Mapping) -> None:
    body = (mapping.folder / "changes.json").read_bytes()
    expected = mapping("changes.json").out
    assert mapping(stdin=body).out == expected
    assert mapping("-", stdin=body).out == expected
    assert mapping("changes.json", "-", stdin=body).out == expected * 2


def test_the_table_is_that_of_the_stream_which_a_record_tells(mapping: Mapping) -> None:
    mapping.write("ddbrelay.toml", "")
    wire = json.loads(msgspec.json.encode(CHANGES[0])) | {
        "eventSourceARN": ARN.replace("users", "order-items")
    }
    (event,) = mapping("--output", "json", stdin=json.dumps(wire).encode()).objects
    assert event["entry"]["Source"] == "ddbrelay.order-items"
    assert event["entry"]["DetailType"] == "OrderItemCreated"
    assert event["entry"]["Resources"][0] == wire["eventSourceARN"]


def test_a_stream_can_be_named_for_records_that_tell_none(mapping: Mapping) -> None:
    mapping.write("ddbrelay.toml", "")
    arn = ARN.replace("123456789012", "000000000000")
    first = mapping("changes.json", "--output", "json", "--stream-arn", arn).objects[0]
    assert first["entry"]["Resources"][0] == arn
    assert first["entry"]["Source"] == "ddbrelay.users"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.json"], "cannot read missing.json: No such file or directory"),
        (["changes.json", "bad.json"], "bad.json:2:2: no JSON: Expecting value"),
        (["changes.json", "--expect", "bad.json"], "bad.json:2:2: no JSON: Expecting value"),
        (["changes.json", "--expect", "changes.json"], "changes.json:1:1: no object with an"),
        (["changes.json", "--stream-arn", "users"], '"users" is not the ARN of a stream'),
        (["changes.json", "--config", "bare.toml"], "record e1 does not tell its table"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_shown(
    mapping: Mapping, words: list[str], message: str
) -> None:
    mapping.write("bad.json", "\n x")
    mapping.write("bare.toml", "")
    done = mapping(*words)
    assert done.error is not None
    assert done.error.message.startswith(message)
    assert (done.error.exit_code, done.out) == (2, "")


def test_the_traceback_of_a_function_of_the_users_own_is_shown_but_not_compared(
    mapping: Mapping,
) -> None:
    mapping.write("own_mapping_that_fails.py", "def made(change):\n    return 1 / 0\n")
    mapping.write(
        "ddbrelay.toml", 'mapper = "own_mapping_that_fails:made"\n[source]\ntable = "users"\n'
    )
    mapping.changes(CHANGES[0])
    shown = mapping("changes.json").out
    assert "ZeroDivisionError in the mapper: division by zero" in shown
    assert "return 1 / 0" in shown
    (parked,) = mapping("changes.json", "--output", "json").objects
    assert parked["reason"] == "ZeroDivisionError in the mapper: division by zero"


# --explain


def test_an_explanation_names_the_attribute_that_a_rule_wanted(mapping: Mapping) -> None:
    mapping.changes(CHANGES[2])
    assert mapping("changes.json", "--explain").out.splitlines() == [
        "- INSERT id=b - skipped (no rule)",
        "  ✖ email-changed",
        '      ✖ eventName: wanted "MODIFY", found "INSERT"',
        '      ✖ changed: wanted "email", found ["id", "type"]',
        "  ✖ order",
        '      ✖ new.type: wanted prefix "order#", found "user#1"',
        "  ✖ deletes are not events here",
        '      ✖ eventName: wanted "REMOVE", found "INSERT"',
        "  ✖ last",
        "      ✖ new.never: wanted true, found absent",
        "  – no rule matches",
    ]


def test_an_explanation_says_what_a_rule_made_and_what_was_not_tried(mapping: Mapping) -> None:
    mapping.changes(CHANGES[1])
    lines = mapping("changes.json", "--explain").out.splitlines()
    assert "  ✔ email-changed → UserEmailChanged, and on to the next rule" in lines
    assert "  ✔ order → BookPlaced" in lines
    assert lines[-1] == "  · 2 later rules not tried"


def test_an_explanation_ends_where_the_mapping_does(mapping: Mapping) -> None:
    mapping.changes(record("a", 1, event_id="e1", new=b'{"type": {"N": 5}}'))
    lines = mapping("changes.json", "--explain").out.splitlines()
    assert any(line.startswith('  ✖ order → parked: rule "order": cannot be') for line in lines)
    assert lines[-1] == "  · 2 later rules not tried"


def test_a_program_gets_the_explanation_as_an_object(mapping: Mapping) -> None:
    mapping.changes(CHANGES[3])
    explanation, skipped = mapping("changes.json", "--explain", "--output", "json").objects
    assert (explanation["type"], explanation["eventID"]) == ("explanation", "e4")
    assert [one["matched"] for one in explanation["rules"]] == [False, False, True]
    assert explanation["rules"][2]["findings"] == [
        {"path": "eventName", "wanted": '"REMOVE"', "found": '"REMOVE"', "ok": True}
    ]
    assert explanation["rules"][2]["result"] == {"type": "skipped"}
    assert skipped["type"] == "skipped"


def test_without_rules_there_is_nothing_to_explain(mapping: Mapping) -> None:
    mapping.write("ddbrelay.toml", '[source]\ntable = "users"\n')
    done = mapping("changes.json", "--explain")
    assert "there are no rules to explain" in done.err
    assert len(done.out.splitlines()) == len(CHANGES)


# --expect


def saved(mapping: Mapping, *words: str) -> str:
    return mapping("changes.json", "--output", "json", *words).out


def test_what_was_printed_before_is_as_expected(mapping: Mapping) -> None:
    mapping.changes(*CHANGES, BROKEN)
    mapping.write("expected.jsonl", saved(mapping))
    done = mapping("changes.json", "--expect", "expected.jsonl")
    assert done.error is None
    assert (done.out, done.err) == ("", "5 records as expected\n")


def test_an_array_and_other_orders_and_spaces_are_as_expected(mapping: Mapping) -> None:
    objects = [dict(reversed(json.loads(line).items())) for line in saved(mapping).splitlines()]
    objects = [*objects[3:], *objects[:3]]
    mapping.write("expected.json", json.dumps(objects, indent=3))
    assert mapping("changes.json", "--expect", "expected.json").error is None


def test_explanations_among_what_is_expected_are_left_out(mapping: Mapping) -> None:
    mapping.write("expected.jsonl", saved(mapping, "--explain"))
    assert mapping("changes.json", "--expect", "expected.jsonl").error is None


def test_what_differs_is_shown_as_a_diff_of_its_record(mapping: Mapping) -> None:
    mapping.write("expected.jsonl", saved(mapping).replace('"before":"a@x"', '"before":"z@x"'))
    done = mapping("changes.json", "--expect", "expected.jsonl", "--explain")
    assert done.error is not None
    assert done.error.exit_code == 6
    assert done.error.message == "1 record is not mapped as expected.jsonl says"
    lines = done.err.splitlines()
    assert lines[:2] == ["--- expected e2", "+++ mapped   e2"]
    assert {'-      "before": "z@x",', '+      "before": "a@x",'} <= set(lines)
    assert "  ✔ email-changed → UserEmailChanged, and on to the next rule" in lines
    assert done.out == ""


def test_records_that_are_missing_or_too_many_differ(mapping: Mapping) -> None:
    lines = saved(mapping).splitlines()
    other = lines[3].replace("e3", "e9")
    mapping.write("expected.jsonl", "\n".join([*lines[:3], lines[4], other]))
    done = mapping("changes.json", "--expect", "expected.jsonl", "--output", "json")
    assert done.error is not None
    assert done.objects == [{"type": "summary", "records": 4, "different": ["e3", "e9"]}]


def test_digits_count_as_they_are_sent() -> None:
    mapped: list[dict[str, Any]] = [{"eventID": "1", "n": msgspec.Raw(b"1.0")}]
    assert list(differences(expected_in(b'{"n": 1.0, "eventID": "1"}'), mapped)) == []
    ((event_id, diff),) = differences(expected_in(b'{"eventID": "1", "n": 1}'), mapped)
    assert event_id == "1"
    assert diff[-3:] == ['-  "n": 1', '+  "n": 1.0', " }"]
    long = b"[" + b"9" * 5000 + b"]"
    (one,) = expected_in(b'{"eventID": "1", "n": ' + long + b"}")["1"]
    assert msgspec.json.encode(one["n"]) == long


@pytest.mark.parametrize(
    ("text", "line"),
    [(b'{"eventID":"1"}\n5', 2), (b'[\n{"eventID":1}]', 2), (b'{"eventID":"\\ud800"}', 1)],
)
def test_what_cannot_be_expected_is_refused_with_its_place(text: bytes, line: int) -> None:
    with pytest.raises(ExpectationError) as caught:
        expected_in(text)
    assert caught.value.line == line


def test_nothing_is_expected_of_an_empty_file() -> None:
    assert expected_in(b"\n") == {}


# As a process


def test_the_command_line_ends_with_the_codes_of_the_design(bare_cli: Cli) -> None:
    mapping = Mapping(bare_cli.directory)
    mapping.changes(*CHANGES, BROKEN)
    done = bare_cli.run("map", "changes.json", "--output", "json")
    assert (done.returncode, len(done.stdout.splitlines())) == (3, 6)
    mapping.write("expected.jsonl", done.stdout)
    assert bare_cli.run("map", "changes.json", "--expect", "expected.jsonl").returncode == 0
    mapping.changes(*CHANGES)
    done = bare_cli.run("map", "changes.json", "--expect", "expected.jsonl", "-q")
    assert done.returncode == 6
    assert done.stderr.splitlines() == [
        "error: 1 record is not mapped as expected.jsonl says",
        "  hint: --explain says why; --output json prints what the mapping makes now",
    ]
    assert not (bare_cli.directory / "state").exists()
