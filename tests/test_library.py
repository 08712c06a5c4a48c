"""`from ddbrelay import Mapper`: the mapping of a file in a user's unit test."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from boto3.dynamodb.types import Binary

import ddbrelay
from ddbrelay import Event, Mapper, Reject, Several, Skip
from ddbrelay.errors import ConfigError, RecordsParked
from ddbrelay.testing.builders import record

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/users/stream/2026-01-01T00:00:00.000"
FILE = """
[source]
table = "users"
[bus]
source = "myapp"

[[rule]]
name = "renamed"
when = { eventName = ["MODIFY"], changed = ["name"] }
detail_type = "UserRenamed"
detail = "{to: new.name}"
trace_header = "Root={eventID}"
continue = true

[[rule]]
name = "changed"
when = { eventName = ["MODIFY"] }
detail_type = "UserChanged"
bus = "audit"

[[rule]]
name = "gone"
when = { eventName = ["REMOVE"] }
skip = true

[[rule]]
name = "born"
when = { eventName = ["INSERT"] }
detail_type = "{new.kind}Created"
"""


def wire(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """A record as a dictionary of JSON."""
    found: dict[str, Any] = json.loads(msgspec.json.encode(record(*args, **kwargs)))
    return found


BORN = wire("a", 1, event_id="e1", new={"id": "a", "kind": "User", "n": Decimal("1.20")})
RENAMED = wire("a", 2, "MODIFY", event_id="e2", new={"name": "B"}, old={"name": "A"}, at=None)
GONE = wire("a", 3, "REMOVE", event_id="e3")
BROKEN = wire("a", 4, event_id="e4")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ddbrelay.toml"
    path.write_text(FILE)
    return path


@pytest.fixture
def mapper(file: Path) -> Mapper:
    return Mapper.load(file)


def test_a_record_has_the_entry_that_boto3_takes(mapper: Mapper) -> None:
    assert mapper.entries(BORN) == [
        {
            "Source": "myapp",
            "DetailType": "UserCreated",
            "Detail": '{"id":"a","kind":"User","n":1.20}',
            "Resources": [ARN, "e1"],
            "Time": datetime(2026, 1, 1, tzinfo=UTC),
        }
    ]


def test_a_record_of_two_rules_has_two_entries(mapper: Mapper) -> None:
    first, second = mapper.entries(RENAMED, bus="users-bus")
    assert (first["DetailType"], first["EventBusName"]) == ("UserRenamed", "users-bus")
    assert (first["TraceHeader"], first["Resources"]) == ("Root=e2", [ARN, "e2"])
    assert "Time" not in first
    assert (second["DetailType"], second["EventBusName"]) == ("UserChanged", "audit")
    assert second["Resources"] == [ARN, "e2.changed"]


def test_what_a_rule_skips_has_no_entry(mapper: Mapper) -> None:
    assert mapper.entries(GONE) == []


def test_what_would_be_parked_is_an_error_that_names_record_and_rule(mapper: Mapper) -> None:
    with pytest.raises(RecordsParked, match='record e4 would be parked: rule "born"'):
        mapper.entries([BORN, BROKEN])


def test_map_says_what_becomes_of_one_record(mapper: Mapper) -> None:
    born = mapper.map(BORN)
    assert isinstance(born, Event)
    assert born.rule == "born"
    renamed = mapper.map(RENAMED)
    assert isinstance(renamed, Several)
    assert [event.rule for event in renamed.events] == ["renamed", "changed"]
    assert mapper.map(GONE) == Skip("gone")
    assert isinstance(mapper.map(BROKEN), Reject)
    with pytest.raises(ValueError, match="there are 2 records, not one"):
        mapper.map([BORN, GONE])


@pytest.mark.parametrize(
    "form",
    [
        {"Records": [BORN, GONE], "NextShardIterator": "AAA"},
        [BORN, GONE],
        {"Records": [{**one, "eventSourceARN": ARN} for one in (BORN, GONE)]},
        json.dumps([BORN, GONE]),
        f"{json.dumps(BORN)}\n{json.dumps(GONE)}\n",
        json.dumps([BORN, GONE]).encode(),
        bytearray(json.dumps([BORN, GONE]).encode()),
    ],
)
def test_pages_events_arrays_and_text_have_the_same_entries(mapper: Mapper, form: Any) -> None:
    assert mapper.entries(form) == mapper.entries(BORN)


def test_what_boto3_gives_is_mapped_as_what_aws_sends(mapper: Mapper) -> None:
    image = {"id": "a", "kind": "User", "blob": b"\x00\xff", "set": frozenset({b"a", b"b"})}
    sent = wire("a", 1, event_id="e1", new=image)
    given = json.loads(json.dumps(sent))
    zone = timezone(timedelta(hours=5))
    given["dynamodb"]["ApproximateCreationDateTime"] = datetime(2026, 1, 1, 5, tzinfo=zone)
    given["dynamodb"]["NewImage"]["blob"] = {"B": b"\x00\xff"}
    given["dynamodb"]["NewImage"]["set"] = {"BS": [Binary(b"a"), bytearray(b"b")]}
    assert mapper.entries({"Records": [given]}) == mapper.entries(sent)
    assert json.loads(mapper.entries(sent)[0]["Detail"])["blob"] == "AP8="


@pytest.mark.parametrize(
    "wrong",
    [object(), {"eventID": object()}, {"id": 1}, "x", b"\xff", {"a": 2**70}, "\ud800", [1], {1, 2}],
)
def test_what_is_no_record_is_a_value_error(mapper: Mapper, wrong: Any) -> None:
    with pytest.raises(ValueError):
        mapper.entries(wrong)


def test_the_nearest_file_is_found_as_the_command_line_finds_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = file.parent / "tests" / "unit"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    assert Mapper.load().entries(BORN)[0]["Source"] == "myapp"
    monkeypatch.setenv("DDBRELAY_CONFIG", str(file.parent / "other.toml"))
    with pytest.raises(ConfigError, match=r"cannot read .*other\.toml"):
        Mapper.load()


def test_only_the_mappings_own_variables_count(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DDBRELAY_GRACE", "never")
    monkeypatch.setenv("DDBRELAY_OUTPUT", "sound")
    monkeypatch.setenv("DDBRELAY_SOURCE", "elsewhere")
    assert Mapper.load(file).entries(BORN)[0]["Source"] == "elsewhere"


def test_the_table_is_the_one_given_or_that_of_the_record(tmp_path: Path) -> None:
    file = tmp_path / "bare.toml"
    file.write_text("")
    mapper = Mapper.load(file)
    with pytest.raises(ConfigError, match="record e1 does not tell its table"):
        mapper.entries(BORN)
    other = ARN.replace("users", "orders")
    assert mapper.entries({**BORN, "eventSourceARN": other})[0]["DetailType"] == "OrderCreated"
    assert Mapper.load(file, table="cats").entries(BORN)[0]["Source"] == "ddbrelay.cats"
    (entry,) = Mapper.load(file, stream_arn=other).entries(BORN)
    assert (entry["Source"], entry["Resources"][0]) == ("ddbrelay.orders", other)
    with pytest.raises(ConfigError, match='"orders" is not the ARN of a stream'):
        Mapper.load(file, stream_arn="orders")


def test_a_mistake_in_the_file_is_found_when_it_is_loaded(file: Path) -> None:
    file.write_text(FILE.replace("detail_type =", "detail_typ =", 1))
    with pytest.raises(ConfigError, match=r"ddbrelay\.toml:10:1: .*detail_typ") as caught:
        Mapper.load(file)
    assert caught.value.hint == 'did you mean "detail_type"?'


def test_the_package_offers_its_names_without_importing_them_at_once() -> None:
    code = "import sys, ddbrelay; print(sorted(m for m in sys.modules if 'ddbrelay' in m))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout == "['ddbrelay']\n"
    assert set(ddbrelay.__all__) <= set(dir(ddbrelay))
    assert all(hasattr(ddbrelay, name) for name in ddbrelay.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Mappper'"):
        _ = ddbrelay.Mappper  # type: ignore[attr-defined]
