"""What commands print for programs: a schema for each, kept to also when something goes wrong."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked
import jsonschema_rs
import pytest
from conftest import Cli
from outputs import NO_JSON, asks_json, check, command_of, commands

import ddbrelay
from ddbrelay.cli.console import Console, confirmer
from ddbrelay.cli.help import topic
from ddbrelay.errors import ConfigError
from ddbrelay.outputs import names, schema_of

RECORD = {
    "eventID": "e1",
    "eventName": "INSERT",
    "eventSource": "aws:dynamodb",
    "dynamodb": {
        "SequenceNumber": "1",
        "Keys": {"id": {"S": "a"}},
        "NewImage": {"id": {"S": "a"}},
    },
}
WITHOUT_TYPE = {("positions.export", "file"), ("export.iam-policy", "policy")}
"""Documents of a form of their own, which are printed as they are."""
NAMES_OF_AWS = {"entry", "policy", "statement"}
ARGUMENTS = {
    "dead-letters.redrive": ["--all"],
    "dead-letters.show": ["x"],
    "dead-letters.drop": ["--all"],
    "expect": ["scenario.toml"],
    "map": ["record.json"],
    "positions.delete": ["x"],
    "positions.import": ["record.json"],
    "positions.save": ["x"],
    "schema": ["record.json"],
    "report": ["--out", "report.html"],
}
"""What a command does not go without."""
TOUCH_STDIN = {"cli/console.py", "cli/files.py", "cli/map.py", "local/leash.py"}
"""The one that asks, and those who read what was given to them."""
STARTS_AN_ENGINE = {"demo", "local.run", "local.start"}


# The schemas


def test_every_command_has_a_schema_or_a_reason_to_have_none() -> None:
    assert names() == sorted(set(commands()) - NO_JSON.keys())


def test_the_topic_names_the_commands_that_end_with_a_summary_and_no_other() -> None:
    text = " ".join(topic("output").split())
    listed, *_ = text.partition('The last line is an object of type "summary" with: ')[2].split(".")
    ending = set()
    for name in names():
        shapes = json.loads(schema_of(name))["$defs"].values()
        if any(one["properties"].get("type") == {"const": "summary"} for one in shapes):
            ending.add(name.replace(".", " "))
    # It ends with one only where it writes files.
    assert set(listed.split(", ")) == ending - {"export iam-policy"}


def test_the_topic_names_the_commands_whose_lines_have_no_type() -> None:
    text = " ".join(topic("output").split())
    said = text.partition("without a `type`: ")[2].partition(".")[0]
    assert all(name.replace(".", " ") in said for name, _ in WITHOUT_TYPE)


def subschemas(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema and every one inside it."""
    if isinstance(schema, dict):
        yield schema
        for key, value in schema.items():
            inner = value.values() if key in {"properties", "$defs"} else [value]
            for one in inner:
                yield from subschemas(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from subschemas(one)


@pytest.mark.parametrize("name", names())
def test_a_schema_is_valid_closed_and_says_what_its_fields_are(name: str) -> None:
    document = json.loads(schema_of(name))
    jsonschema_rs.meta.validate(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert document["title"] == f"ddbrelay {name.replace('.', ' ')} --output json"
    roots = [one["$ref"].removeprefix("#/$defs/") for one in document["oneOf"]]
    used = {one["$ref"] for one in subschemas(document) if "$ref" in one}
    assert used == {f"#/$defs/{one}" for one in document["$defs"]}
    for root in roots:
        first = next(iter(document["$defs"][root]["properties"]))
        assert first == "type" or (name, root) in WITHOUT_TYPE, root
    for shape in document["$defs"].values():
        assert shape["type"] == "object"
        assert shape["description"]
    for one in subschemas(document):
        kinds = [one["type"]] if isinstance(one.get("type"), str) else one.get("type", [])
        if "object" in kinds:
            assert "additionalProperties" in one, one
            assert one["additionalProperties"] is False or "properties" not in one, one
        for field, value in one.get("properties", {}).items():
            told = value.keys() & {"type", "const", "enum", "oneOf", "$ref"}
            assert told or value.get("description"), field


@pytest.mark.parametrize("name", names())
def test_fields_are_in_camel_case_and_times_are_iso_texts_in_utc(name: str) -> None:
    document = json.loads(schema_of(name))
    shapes = {key: one for key, one in document["$defs"].items() if key not in NAMES_OF_AWS}
    for key, shape in shapes.items():
        for one in subschemas(shape):
            for field, value in one.get("properties", {}).items():
                kebab = field.replace("-", "") if field.startswith("would-") else field
                assert re.fullmatch("[a-z][A-Za-z0-9]*", kebab), field
                is_time = re.fullmatch("time|at|since|until|.*At", field)
                if is_time and (name, key) != ("positions.export", "file"):
                    text = "number" if key == "filedPosition" else "string"
                    assert text in value["type"], field
                    assert key == "filedPosition" or value["format"] == "date-time", field


def test_a_shape_that_several_commands_print_is_described_the_same_everywhere() -> None:
    seen: dict[str, dict[str, Any]] = {}
    for name in ("tail", "replay", "demo", "status", "ledger", "dead-letters.show"):
        for key, shape in json.loads(schema_of(name))["$defs"].items():
            if key in {"event", "lost", "change", "receipt", "eventEntry"}:
                assert seen.setdefault(key, shape) == shape, (name, key)
    assert len(seen) == 5


def test_a_command_without_a_schema_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="completion"):
        schema_of("completion")


# What holds output against them


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["tail", "--forward"], "tail"),
        (["--table", "positions", "-q", "tail"], "tail"),
        (["--table=t", "--local", "positions", "--region", "r", "list"], "positions.list"),
        (["-vq", "dead-letters", "show", "list"], "dead-letters.show"),
        (["--no-local", "map", "tail"], "map"),
        (["nothing"], ""),
    ],
)
def test_the_command_is_found_among_options_and_their_values(
    words: list[str], command: str
) -> None:
    assert command_of(words) == command


def test_the_last_output_option_counts() -> None:
    assert asks_json(["tail", "--output", "json"], {})
    assert asks_json(["--output=lines", "tail", "--output=json"], {})
    assert asks_json(["tail"], {"DDBRELAY_OUTPUT": "json"})
    assert not asks_json(["tail", "--output", "lines"], {"DDBRELAY_OUTPUT": "json"})
    assert not asks_json(["map", "json"], {})


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ('{"type":"deleted"}\n', '"name" is a required'),
        ('{"type":"deleted","name":"x","more":1}\n', "Additional properties"),
        ('{"type":"gone","name":"x"}\n', "no shape has the type 'gone'"),
        ('{"type":"deleted","name":"x"}', "half a line"),
    ],
)
def test_what_does_not_fit_is_found_and_named(printed: str, said: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(said)):
        check(["positions", "delete", "x"], printed)


# Programs read stdout, and nobody is there to answer


def words_of(name: str, *more: str) -> list[str]:
    return [*name.split("."), *ARGUMENTS.get(name, []), *more]


def run_all(cli: Cli, lines: list[list[str]]) -> list[tuple[list[str], int, str, str]]:
    done = subprocess.run(
        [sys.executable, forked.__file__],
        cwd=cli.directory,
        env=cli.env() | {"CI": "true"},
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [(words, *one) for words, one in zip(lines, json.loads(done.stdout), strict=True)]


@pytest.mark.slow
def test_whatever_is_wrong_stdout_has_whole_objects_and_stderr_the_words(bare_cli: Cli) -> None:
    (bare_cli.directory / "record.json").write_text("{}")
    (bare_cli.directory / "scenario.toml").write_text("")
    with_json = [name for name in names() if name not in STARTS_AN_ENGINE]
    no_table = [words_of(name, "--output", "json") for name in with_json]
    no_credentials = [[*words, "--table", "users", "--region", "eu-west-1"] for words in no_table]
    no_option = [["--output", "json", *words_of(name, "--no-such-option")] for name in names()]
    ends = set()
    for words, code, out, err in run_all(bare_cli, no_table + no_credentials + no_option):
        assert code in {0, 2, 5, 6}, (words, code, err)
        check(words, out)
        assert "{" not in err, (words, err)
        assert "Traceback" not in err, (words, err)
        assert not code or "error: " in err or command_of(words) == "local.status", words
        if "--no-such-option" in words:
            assert (code, out) == (2, ""), words
        ends.add(code)
    assert ends >= {0, 2, 5}


@pytest.mark.slow
def test_quiet_leaves_stderr_to_errors_and_json_to_stdout(bare_cli: Cli) -> None:
    (bare_cli.directory / "record.json").write_text(json.dumps(RECORD))
    silent = ["init", "config show", "positions list", "dead-letters export"]
    silent += ["rules --table users", "map record.json --table users --explain"]
    silent += ["schema record.json --table users", "export iam-policy --table users"]
    silent += ["export cdk --table users", "local stop"]
    lines = [[*line.split(), "-q"] for line in silent]
    for words, code, _, err in run_all(bare_cli, lines):
        assert (code, err) == (0, ""), words
    for words, code, out, err in run_all(
        bare_cli, [[*words, "--output", "json"] for words in lines[1:]]
    ):
        assert (code, err) == (0, ""), words
        listed = words[1] in {"list", "export"} and words[0] != "config"
        assert check(words, out) or listed, words


@pytest.mark.parametrize("stdin", ["closed", "null", "endless", "terminal of a CI job"])
def test_no_command_waits_for_a_yes_that_nobody_can_give(bare_cli: Cli, stdin: str) -> None:
    ours, theirs = pty.openpty() if "CI" in stdin else os.pipe()[::-1]
    source = {"closed": None, "null": subprocess.DEVNULL}.get(stdin, theirs)
    bare_cli.environment |= {"CI": "true"} if "CI" in stdin else {}
    try:
        done = subprocess.run(
            bare_cli.arguments("teardown", "--table", "users", "--output", "json"),
            cwd=bare_cli.directory,
            env=bare_cli.env(),
            stdin=source,
            preexec_fn=(lambda: os.close(0)) if source is None else None,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.splitlines() == [
        "error: teardown of users needs a yes, and there is no terminal to ask at",
        "  hint: --yes deletes without asking, --dry-run shows what would be deleted",
    ]


def test_a_question_leaves_stdout_alone_and_wants_a_clear_answer(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    monkeypatch.delenv("CI", raising=False)
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        agreed = confirmer("dropping it", "--yes")
        os.write(ours, b"perhaps\nYes\n\n")
        assert (agreed("Drop it?"), agreed("And this?")) == (True, False)
        monkeypatch.setenv("CI", "1")
        with pytest.raises(ConfigError, match="dropping it needs a yes"):
            confirmer("dropping it", "--yes")
    os.close(ours)
    asked = "Drop it? [y/N]: "
    words = f"{asked}Please answer y or n.\n{asked}And this? [y/N]: "
    assert capfd.readouterr() == ("", words)


def test_the_terminal_of_a_ci_job_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    chosen = {}
    for value in ("", "0", "false", "true", "1", "woodpecker"):
        monkeypatch.setenv("CI", value)
        chosen[value] = Console.for_run(None, 0).output
    assert list(chosen.values()) == ["rich"] * 3 + ["lines"] * 3
    assert Console.for_run("rich", 0).output == "rich"


def test_whoever_asks_goes_through_the_one_that_knows_whether_somebody_is_there() -> None:
    package = Path(ddbrelay.__file__).parent
    asking = {"confirm", "prompt", "confirmation_prompt", "getchar", "pause", "stdin", "input"}
    askers = {"getpass", "rich.prompt"}
    for file in package.rglob("*.py"):
        text, name = file.read_bytes(), str(file.relative_to(package))
        if not any(word.encode() in text for word in asking | askers):
            continue
        found = set()
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Attribute(ast.Name("click" | "sys"), word) if word in asking:
                    found.add(word)
                case ast.Call(ast.Name("input")):
                    found.add("input")
                case ast.Call(ast.Attribute(ast.Name("click"), "option"), _, options):
                    found |= asking & {one.arg for one in options}
                case ast.ImportFrom("click" | "sys", names):
                    found |= asking & {one.name for one in names}
                case ast.ImportFrom(module):
                    found |= askers & {module}
                case ast.Import(names):
                    found |= askers & {one.name for one in names}
        assert found <= ({"stdin"} if name in TOUCH_STDIN else set()), name
