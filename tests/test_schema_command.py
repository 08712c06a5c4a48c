"""`ddbrelay schema`: schemas from recorded changes and from the stream, in files, and checked."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline, clear_error, running

from ddbrelay.cli.inferring import file_name
from ddbrelay.schemas import validator_of

MAPPING = """
[source]
table = "users"

[[rule]]
name = "created"
when = { eventName = ["INSERT"] }
detail_type = "UserCreated"
detail = "{id: keys.id, email: new.email, n: new.n}"
#schema

[[rule]]
when = { eventName = ["MODIFY"] }
detail_type = "UserUpdated"
detail = { id = "{keys.id}", email = "{new.email}" }

[[rule]]
skip = "deletes are not events here"
"""
FILE = "user-created.json"


def record(
    number: int, name: str = "INSERT", email: str | None = "a@b.example", n: str = "1"
) -> dict[str, Any]:
    image = {"id": {"S": f"k{number}"}, "n": {"N": n}}
    if email is not None:
        image["email"] = {"S": email}
    return {
        "eventID": f"e{number}",
        "eventName": name,
        "dynamodb": {
            "SequenceNumber": str(100 + number),
            "Keys": {"id": {"S": f"k{number}"}},
            "NewImage": image,
        },
    }


@pytest.fixture
def home(bare_cli: Cli, tmp_path: Path) -> Path:
    """A folder with a mapping, and `a.json` with changes of each kind."""
    (tmp_path / "ddbrelay.toml").write_text(MAPPING)
    write(
        tmp_path / "a.json", record(1), record(2, n="2.5"), record(3, "MODIFY"), record(4, "REMOVE")
    )
    return tmp_path


def write(path: Path, *records: dict[str, Any]) -> None:
    path.write_text(json.dumps({"Records": records}))


def with_schema(home: Path, line: str) -> None:
    (home / "ddbrelay.toml").write_text(MAPPING.replace("#schema", line))


# Inferring


def test_one_schema_goes_to_stdout_and_can_be_saved_as_it_is(bare_cli: Cli, home: Path) -> None:
    done = bare_cli.ok("schema", "a.json", "--detail-type", "UserCreated")
    assert json.loads(done.stdout) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "UserCreated",
        "type": "object",
        "properties": {
            "email": {"type": "string", "format": "email"},
            "id": {"type": "string"},
            "n": {"type": "number"},
        },
        "required": ["email", "id", "n"],
    }
    assert done.stderr.splitlines() == [
        "UserCreated, inferred from 2 examples",
        f'next: save it as {FILE}, and put schema = "{FILE}" into the rule of UserCreated',
    ]


def test_several_schemas_need_a_choice(bare_cli: Cli, home: Path) -> None:
    done = bare_cli.run("schema", "a.json")
    clear_error(done, 2, "events of 2 types: UserCreated, UserUpdated", "--detail-type", "--dir")
    assert done.stdout == ""


def test_as_json_each_schema_is_a_line(bare_cli: Cli, home: Path) -> None:
    created, updated = bare_cli.json("schema", "a.json")
    assert list(created) == ["type", "detailType", "examples", "schema"]
    assert (created["type"], created["detailType"], created["examples"]) == (
        "schema",
        "UserCreated",
        2,
    )
    assert created["schema"]["title"] == "UserCreated"
    assert (updated["detailType"], updated["examples"]) == ("UserUpdated", 1)


def test_each_detail_type_gets_a_file(bare_cli: Cli, home: Path) -> None:
    done = bare_cli.ok("schema", "a.json", "--dir", "schemas/v1")
    assert done.stdout.splitlines() == [
        f"written    schemas/v1/{FILE}  UserCreated from 2 examples",
        "written    schemas/v1/user-updated.json  UserUpdated from 1 example",
    ]
    assert done.stderr.splitlines()[0] == (
        f'next: put schema = "schemas/v1/{FILE}" into the rule of UserCreated'
    )
    assert sorted(os.listdir(home / "schemas/v1")) == [FILE, "user-updated.json"]
    assert (home / "schemas/v1" / FILE).read_text().endswith("}\n")
    again = bare_cli.ok("schema", "a.json", "--dir", "schemas/v1")
    assert [line.split()[0] for line in again.stdout.splitlines()] == ["unchanged", "unchanged"]


def test_the_line_for_the_rule_is_right_wherever_the_mapping_file_is(
    bare_cli: Cli, home: Path
) -> None:
    (home / "mapping").mkdir()
    (home / "ddbrelay.toml").rename(home / "mapping" / "ddbrelay.toml")
    words = ("--config", "mapping/ddbrelay.toml", "--detail-type", "UserCreated")
    done = bare_cli.ok("schema", "a.json", "--dir", "schemas", *words)
    assert f'schema = "../schemas/{FILE}"' in done.stderr


def test_a_file_that_differs_is_not_overwritten_and_no_other_is_written(
    bare_cli: Cli, home: Path
) -> None:
    (home / "schemas").mkdir()
    (home / "schemas" / "user-updated.json").write_text("{}")
    done = bare_cli.run("schema", "a.json", "--dir", "schemas")
    clear_error(done, 2, "schemas/user-updated.json differs", "--force")
    assert os.listdir(home / "schemas") == ["user-updated.json"]
    assert (home / "schemas" / "user-updated.json").read_text() == "{}"

    states = bare_cli.json("schema", "a.json", "--dir", "schemas", "--force")
    assert [one["state"] for one in states] == ["written", "replaced"]
    assert json.loads((home / "schemas" / "user-updated.json").read_text())["title"]
    assert sorted(os.listdir(home / "schemas")) == [FILE, "user-updated.json"]


def test_a_file_that_says_the_same_in_other_lines_stays(bare_cli: Cli, home: Path) -> None:
    bare_cli.ok("schema", "a.json", "--dir", ".", "--detail-type", "UserCreated")
    compact = json.dumps(json.loads((home / FILE).read_text()))
    (home / FILE).write_text(compact)
    bare_cli.ok("schema", "a.json", "--dir", ".", "--detail-type", "UserCreated")
    assert (home / FILE).read_text() == compact


def test_a_place_that_cannot_be_written_is_named(bare_cli: Cli, home: Path) -> None:
    (home / "schemas").write_text("a file")
    done = bare_cli.run("schema", "a.json", "--dir", "schemas")
    clear_error(done, 2, f"schemas/{FILE}")


def test_two_types_of_one_file_name_are_refused(bare_cli: Cli, home: Path) -> None:
    (home / "ddbrelay.toml").write_text(MAPPING.replace('"UserUpdated"', '"user created"'))
    done = bare_cli.run("schema", "a.json", "--dir", "schemas")
    clear_error(done, 2, f"UserCreated would both be in schemas/{FILE}")
    assert not (home / "schemas").exists()


def test_a_rules_own_schema_does_not_keep_its_examples_out(bare_cli: Cli, home: Path) -> None:
    (home / FILE).write_text('{"required": ["more"]}')
    with_schema(home, f'schema = "{FILE}"')
    (created, _) = bare_cli.json("schema", "a.json")
    assert created["examples"] == 2


def test_what_cannot_be_mapped_is_left_out_and_said(bare_cli: Cli, home: Path) -> None:
    write(home / "b.json", record(1), record(2, "MODIFY", email=None))
    done = bare_cli.ok("schema", "b.json")
    assert json.loads(done.stdout)["title"] == "UserCreated"
    assert done.stderr.startswith("1 record left out, no event can be made of it: ")
    assert "UserUpdated" in done.stderr


def test_without_events_there_is_no_schema(bare_cli: Cli, home: Path) -> None:
    write(home / "b.json", record(1, "REMOVE"))
    clear_error(bare_cli.run("schema", "b.json"), 6, "no event to infer a schema from")
    done = bare_cli.run("schema", "a.json", "--detail-type", "UserMoved")
    clear_error(done, 6, "no event to infer a schema from")


def test_several_files_and_stdin_are_read(bare_cli: Cli, home: Path) -> None:
    write(home / "b.json", record(5))
    words = bare_cli.arguments("schema", "b.json", "-", "--output", "json")
    done = subprocess.run(
        words,
        cwd=home,
        env=bare_cli.env(),
        input=json.dumps(record(6)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["examples"] == 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("none.json",), ("cannot read none.json: No such file",)),
        (("ddbrelay.toml",), ("ddbrelay.toml:2:2: no JSON",)),
        (("a.json", "--timeout", "5"), ("are for a stream, not a file",)),
        (("a.json", "--force"), ("--force replaces the files of --dir",)),
        (("a.json", "--check"), ("no rule names a schema", 'schema = "FILE"')),
        (("a.json", "--check", "--dir", "none"), ("there is no directory none",)),
    ],
)
def test_what_cannot_be_meant_is_refused(
    bare_cli: Cli, home: Path, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    clear_error(bare_cli.run("schema", *words), 2, *parts)


@pytest.mark.parametrize(
    ("detail_type", "name"),
    [
        ("UserCreated", "user-created.json"),
        ("userEmailChanged", "user-email-changed.json"),
        ("HTTPRequest2Sent", "http-request2-sent.json"),
        ("order.placed/v2", "order-placed-v2.json"),
        ("../../etc/passwd", "etc-passwd.json"),
        ("ÉtéPassé", "étépassé.json"),
        ("!", "event.json"),
    ],
)
def test_a_detail_type_names_its_file(detail_type: str, name: str) -> None:
    assert file_name(detail_type) == name


# Checking


def test_events_that_fit_the_schemas_of_a_folder(bare_cli: Cli, home: Path) -> None:
    bare_cli.ok("schema", "a.json", "--dir", "schemas")
    done = bare_cli.ok("schema", "a.json", "--check", "--dir", "schemas")
    assert done.stdout == ""
    assert done.stderr == "3 events fit\n"


def test_an_event_that_does_not_fit_is_shown_and_ends_with_6(bare_cli: Cli, home: Path) -> None:
    bare_cli.ok("schema", "a.json", "--dir", "schemas", "--detail-type", "UserCreated")
    write(home / "b.json", record(7, email="no address"), record(8), record(9, "MODIFY"))
    done = bare_cli.run("schema", "b.json", "--check", "--dir", "schemas")
    assert done.stdout == "UserCreated  e7  email: a text of 10 characters is no email\n"
    clear_error(done, 6, "1 of 2 events does not fit the schema", "no schema for UserUpdated (1)")

    done = bare_cli.run("schema", "b.json", "--check", "--dir", "schemas", "--output", "json")
    assert done.returncode == 6
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        {
            "type": "mismatch",
            "detailType": "UserCreated",
            "eventID": "e7",
            "rule": "created",
            "reason": "email: a text of 10 characters is no email",
        },
        {
            "type": "summary",
            "checked": 2,
            "unfit": 1,
            "failed": 0,
            "withoutSchema": {"UserUpdated": 1},
        },
    ]


def test_events_are_checked_by_the_schemas_of_their_rules(bare_cli: Cli, home: Path) -> None:
    (home / FILE).write_text('{"properties": {"n": {"maximum": 2}}}')
    with_schema(home, f'schema = "{FILE}"')
    done = bare_cli.run("schema", "a.json", "--check")
    assert done.stdout == "UserCreated  e2  n: a number is greater than the maximum of 2\n"
    assert done.returncode == 6
    # The relay parks it for the same reason.
    assert "n: a number is greater than the maximum of 2" in bare_cli.run("map", "a.json").stdout
    done = bare_cli.run("schema", "a.json", "--check", "--detail-type", "UserUpdated")
    clear_error(done, 6, "no schema for UserUpdated (1)", "no event was checked")


def test_a_record_without_its_event_does_not_pass(bare_cli: Cli, home: Path) -> None:
    bare_cli.ok("schema", "a.json", "--dir", "schemas")
    write(home / "b.json", record(1), record(2, "MODIFY", email=None))
    done = bare_cli.run("schema", "b.json", "--check", "--dir", "schemas")
    assert done.stdout.startswith('-  e2  rule "UserUpdated": ')
    clear_error(done, 6, "no event can be made of 1 record")


def test_a_schema_that_is_none_is_named_with_its_file(bare_cli: Cli, home: Path) -> None:
    (home / "schemas").mkdir()
    (home / "schemas" / FILE).write_text('{"type": "objct"}')
    done = bare_cli.run("schema", "a.json", "--check", "--dir", "schemas")
    clear_error(done, 2, f"schemas/{FILE} is no JSON Schema: type: ")


# From the stream


@pytest.fixture
def pipe(aws: Any, name: str) -> Pipeline:
    return Pipeline(aws, name)


@pytest.mark.moto_first
def test_a_stream_is_read_from_its_beginning_without_moving_anything(
    cli: Cli, pipe: Pipeline
) -> None:
    for number in range(3):
        pipe.put(f"k{number}", n={"N": str(number)})
    pipe.delete("k0")
    words = ("--until-idle", "0", "--entity", "User", "--output", "json")
    created, deleted = cli.json("schema", *words)
    assert (created["detailType"], created["examples"]) == ("UserCreated", 3)
    assert (deleted["detailType"], deleted["examples"]) == ("UserDeleted", 1)
    assert created["schema"]["properties"]["n"] == {"type": "integer"}
    assert validator_of(created["schema"])(b'{"id": "x", "n": 5}') is None
    assert pipe.received() == []
    assert not (Path(cli.environment["DDBRELAY_STATE_DIR"]) / "local" / "state.db").exists()


@ON_MOTO
def test_as_many_records_as_were_asked_for_are_read(cli: Cli, pipe: Pipeline) -> None:
    for number in range(4):
        pipe.put(f"k{number}")
    done = cli.ok("schema", "--max-records", "2", "--timeout", "20", "--entity", "User")
    assert json.loads(done.stdout)["title"] == "UserCreated"
    said = done.stderr.splitlines()
    assert said[0].startswith("reading the stream of ")
    assert said[1].startswith("read 2 records in ")
    assert said[2] == "UserCreated, inferred from 2 examples"


@ON_MOTO
@pytest.mark.slow
def test_a_stream_is_checked_too(cli: Cli, pipe: Pipeline, tmp_path: Path) -> None:
    words = ("schema", "--until-idle", "0", "--entity", "User", "--dir", "schemas")
    pipe.put("a", n={"N": "1"})
    cli.ok(*words)
    pipe.put("b", n={"S": "one"})
    done = cli.run(*words, "--check")
    assert done.stdout.endswith('n: a text of 3 characters is not of type "integer"\n')
    clear_error(done, 6, "1 of 2 events does not fit")


@ON_MOTO
def test_an_empty_stream_gives_no_schema(cli: Cli, pipe: Pipeline) -> None:
    clear_error(cli.run("schema", "--until-idle", "0"), 6, "no event to infer a schema from")


@ON_MOTO
@pytest.mark.slow
def test_ctrl_c_ends_the_reading_and_gives_what_was_found(cli: Cli, pipe: Pipeline) -> None:
    pipe.put("a")
    with running(cli, "schema", "--timeout", "60", "--entity", "User") as reading:
        assert reading.process.stderr is not None
        said = reading.process.stderr.readline()
        assert said.startswith("reading the stream")
        # Its next words are those of its progress, so it reads.
        assert reading.process.stderr.readline() == "1 record so far\n"
        reading.signal(signal.SIGINT)
        code, _ = reading.wait()
    assert code == 0
    assert json.loads("".join(reading.lines))["title"] == "UserCreated"


@pytest.mark.parametrize("table", [(), ("--table", "users")])
def test_without_a_stream_it_says_what_is_missing(bare_cli: Cli, table: tuple[str, ...]) -> None:
    done = bare_cli.run("--local", "schema", *table)
    clear_error(done, 5 if table else 2)
