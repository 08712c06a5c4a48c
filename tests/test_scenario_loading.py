"""Scenario files: what they say, and where their mistakes are."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from conftest import Cli

from ddbrelay.errors import ConfigError
from ddbrelay.scenario.loading import load
from ddbrelay.scenario.model import Command, Put, Scenario, Update
from ddbrelay.scenario.writing import Writer

EXPECT = '[[expect]]\nevent = { detail-type = ["UserCreated"] }\n'
TABLE = {
    "TableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/users",
    "KeySchema": [{"AttributeName": "pk"}, {"AttributeName": "sk"}],
    "AttributeDefinitions": [
        {"AttributeName": "sk", "AttributeType": "N"},
        {"AttributeName": "pk", "AttributeType": "S"},
    ],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "signup.toml"


def loaded(file: Path, text: str) -> Scenario:
    file.write_text(text, encoding="utf-8")
    return load(file, "r1")


def test_a_scenario_has_defaults_and_its_run_in_steps_and_events(file: Path) -> None:
    scenario = loaded(
        file,
        """
        [[step]]
        put = { id = "u-{run}", tags = ["{run}"], n = 12345678901234567890.12345, braces = "{x}" }
        [[step]]
        update = { key = { id = "u" }, set = { a = 1 }, remove = ["b"], add = { c = 1.5 } }
        [[step]]
        run = ["python", "-c", "{run}"]
        wait = "200ms"
        [[expect]]
        event = { detail-type = ["UserCreated"], detail = { id = ["u-{run}"] } }
        [[expect]]
        event = { detail-type = ["UserCreated"] }
        times = 2
        [[never]]
        event = { source = ["x"] }
        """,
    )
    assert (scenario.name, scenario.timeout, scenario.relay) == ("signup", 30.0, False)
    assert scenario.order == "carried"
    put, update, command = (step.action for step in scenario.steps)
    assert isinstance(put, Put)
    assert put.item == {
        "id": "u-r1",
        "tags": ["r1"],
        "n": Decimal("12345678901234567890.12345"),
        "braces": "{x}",
    }
    assert isinstance(update, Update)
    assert (update.remove, update.add) == (("b",), {"c": Decimal("1.5")})
    assert command == Command(("python", "-c", "r1"), "python -c '{run}'")
    assert scenario.steps[2].wait == 0.2
    first, second = scenario.expects
    assert first.pattern.matches({"detail-type": "UserCreated", "detail": {"id": "u-r1"}})
    assert (first.name, first.times, first.watch) == ("UserCreated", None, 0.0)
    assert (second.name, second.times, second.watch) == ("UserCreated (2)", 2, 1.0)
    assert scenario.nevers[0].title == "never never"
    assert scenario.watch == 2.0


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("x = [\n", "2:1", "not TOML"),
        ("timout = 5\n" + EXPECT, "1:1", 'unknown key "timout"'),
        ('timeout = "soon"\n' + EXPECT, "1:1", "not a duration"),
        ("timeout = 0\n" + EXPECT, "1:1", "no time at all"),
        ("relay = 1\n" + EXPECT, "1:1", "neither true nor false"),
        ('order = "some"\n' + EXPECT, "1:1", "none of carried, arrival, any"),
        ('name = ""\n' + EXPECT, "1:1", "not a text of one line"),
        ("step = 1\n" + EXPECT, "1:1", "[[step]]"),
        ("[[step]]\n" + EXPECT, "1:1", "one of put, update, delete, run, not none"),
        ("[[step]]\nput = {a=1}\ndelete = {a=1}\n" + EXPECT, "1:1", "not put and delete"),
        ("[[step]]\nput = {}\n" + EXPECT, "2:1", "a table of attributes"),
        ("[[step]]\nput = { a = [{ b = 1979-05-27 }] }\n" + EXPECT, "2:16", "no type for a date"),
        ("[[step]]\nput = { a = 1e200 }\n" + EXPECT, "2:9", "digit for digit"),
        (f"[[step]]\nput = {{ a = {'1' * 39} }}\n" + EXPECT, "2:9", "digit for digit"),
        ("[[step]]\nput = { a = nan }\n" + EXPECT, "2:9", "digit for digit"),
        ("[[step]]\nupdate = { set = {a=1} }\n" + EXPECT, "2:1", "no key"),
        ("[[step]]\nupdate = { key = {a=1} }\n" + EXPECT, "2:1", "changes nothing"),
        ("[[step]]\nupdate = {key={a=1}, sett={}}\n" + EXPECT, "2:22", "unknown key"),
        ("[[step]]\nupdate = {key={a=1}, remove=[1]}\n" + EXPECT, "2:22", "list of names"),
        ("[[step]]\nupdate = {key={a=1}, add={b='x'}}\n" + EXPECT, "2:27", "only numbers"),
        ("[[step]]\nupdate = {key={a=1}, set={b=1}, remove=['b']}\n" + EXPECT, "2:1", "twice"),
        ("[[step]]\nrun = []\n" + EXPECT, "2:1", "a program with its arguments"),
        ("[[step]]\nrun = 'a\\u0000'\n".replace("'", '"') + EXPECT, "2:1", "zero character"),
        ("[[step]]\nrun = 'x'\nwait = true\n" + EXPECT, "3:1", "not a duration"),
        ("[[expect]]\nname = 'x'\n", "1:1", "no event is given"),
        ("[[expect]]\nevent = { detail-typ = ['x'] }\n", "2:11", 'no field "detail-typ"'),
        ("[[expect]]\nevent = { detail-type = 'x' }\n", "2:11", "values stand in a list"),
        ("[[expect]]\nevent = { detail = ['x'] }\n", "2:11", "detail is an object"),
        ("[[expect]]\nevent = { source = { a = ['x'] } }\n", "2:11", "source is no object"),
        ("[[expect]]\nevent = { source = [{ prefx = 'x' }] }\n", "2:23", '"prefix"'),
        (EXPECT + "times = 0\n", "3:1", "above zero"),
        (EXPECT + "for = '1s'\n", "3:1", "give times"),
        (EXPECT + "time = 1\n", "3:1", "unknown key"),
        ("[[never]]\nevent = { id = ['x'] }\ntimes = 1\n", "3:1", "unknown key"),
    ],
)
def test_a_mistake_is_told_with_its_place(file: Path, text: str, place: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(file, text)
    assert caught.value.message.startswith(f"{file}:{place}: ")
    assert said in f"{caught.value.message}\n{caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("x = " + "[" * 600 + "]" * 600, "1:1", "more than 100 levels"),
        ("x = " + "[" * 150 + "]" * 150, "1:105", "more than 100 levels"),
        ("[" + ".".join("a" * 2000) + "]\n", "1:202", "more than 100 levels"),
        (EXPECT + f"\n[[step]]\nput = {{ a = {'[' * 101}{']' * 101} }}", "5:110", "more than 100"),
        (f"name = 'x'\ntimeout = {'9' * 5000}\n", "2:11", "more than 1,000 digits"),
        (f"name = 'x'\ntimeout = 0x{'f' * 5000}\n", "2:1", "more than 1,000 digits"),
        ("\n\ntimeout = 1e9999999999999999999\n", "3:11", "too large to be read"),
        ("\ufeffname = 'x'\n", "1:1", "a byte order mark"),
        ('timeout = "soon"\n' + EXPECT, "1:1", 'timeout: "soon" is not a duration'),
        ("timeout = inf\n" + EXPECT, "1:1", "timeout: inf is not a duration"),
        (f'timeout = "{"x" * 5000}"\n' + EXPECT, "1:1", "x… is not a duration"),
        ("timeout = 1979-05-27\n" + EXPECT, "1:1", "timeout: 1979-05-27 is not"),
        ("timeout = '900000h'\n" + EXPECT, "1:1", '"900000h" is longer than a hundred years'),
        ("[[step]]\nput = { a = -inf }\n" + EXPECT, "2:9", "-inf is no number"),
        ("[[step]]\nput = { a = 1979-05-27T10:31:00 }\n" + EXPECT, "2:9", "a date with a time"),
        ("[[step]]\nupdate = {key={a=1}, add={b='x'}}\n" + EXPECT, "2:27", 'not "x"'),
    ],
)
def test_what_the_parser_cannot_say_is_told_in_plain_words_with_its_place(
    file: Path, text: str, place: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(file, text)
    assert caught.value.message.startswith(f"{file}:{place}: ")
    assert said in caught.value.message
    assert len(caught.value.message.splitlines()) == 1
    assert len(caught.value.message) < len(str(file)) + 200


def test_a_file_in_another_encoding_is_told_with_its_place(file: Path) -> None:
    file.write_bytes('name = "x"\nrelay = true # für'.encode("latin-1"))
    with pytest.raises(ConfigError, match="not UTF-8") as caught:
        load(file, "r1")
    assert caught.value.message.startswith(f"{file}:2:17: ")


def test_a_file_without_expectations_and_one_that_is_not_there_are_told(file: Path) -> None:
    with pytest.raises(ConfigError, match="nothing is expected"):
        loaded(file, "[[step]]\nrun = 'x'\n")
    with pytest.raises(ConfigError, match="cannot read"):
        load(file.with_name("other.toml"), "r1")


@pytest.mark.parametrize(
    ("step", "place", "said"),
    [
        ("put = { pk = 'a' }", "2:1", '"sk" is missing'),
        ("put = { pk = 1, sk = 1 }", "2:1", '"pk" must be a text'),
        ("put = { pk = 'a', sk = '1' }", "2:1", '"sk" must be a number'),
        ("delete = { pk = 'a', sk = 1, x = 1 }", "2:1", '"x" is no key attribute'),
        ("update = { key = { pk = 'a' }, set = { x = 1 } }", "2:12", '"sk" is missing'),
        ("update = { key = { pk = 'a', sk = 1 }, remove = ['pk'] }", "2:1", "no update can change"),
    ],
)
def test_a_key_that_is_not_the_table_s_is_told_before_the_first_write(
    file: Path, bare_cli: Cli, step: str, place: str, said: str
) -> None:
    class Unused:
        def client(self, service: str) -> None:
            raise AssertionError("nothing may be written")

        def address_of(self, table: str) -> str:
            return table

    scenario = loaded(file, f"[[step]]\n{step}\n{EXPECT}")
    with pytest.raises(ConfigError) as caught:
        Writer(Unused(), "users", TABLE).check(scenario)  # type: ignore[arg-type]
    assert caught.value.message.startswith(f"{file}:{place}: ")
    assert said in caught.value.message
