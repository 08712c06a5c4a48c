"""Settings: where they come from, which place wins, and what a wrong one gets."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli

from ddbrelay import config
from ddbrelay.config import Settings, ignored_variables, load
from ddbrelay.config_template import render
from ddbrelay.errors import ConfigError
from ddbrelay.values import parse_duration, parse_time

NOW = 1_795_430_000.0
KEYS = {field.name: str(field.metadata["toml"]) for field in fields(Settings)}


def written(folder: Path, text: str) -> Path:
    file = folder / "ddbrelay.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(folder: Path, text: str) -> ConfigError:
    written(folder, text)
    with pytest.raises(ConfigError) as caught:
        load({}, {}, folder)
    assert str(folder / "ddbrelay.toml") in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("flags", "environ", "text", "value", "origin"),
    [
        (
            {"table": "flag"},
            {"DDBRELAY_TABLE": "variable"},
            'source.table = "file"',
            "flag",
            "flag --table",
        ),
        (
            {},
            {"DDBRELAY_TABLE": "variable"},
            'source.table = "file"',
            "variable",
            "environment (DDBRELAY_TABLE)",
        ),
        (
            {"table": None},
            {"DDBRELAY_TABLE": ""},
            'source.table = "file"',
            "file",
            "file ({file}: source.table)",
        ),
        ({}, {}, "", None, "default"),
    ],
)
def test_flags_win_over_the_environment_over_the_file_over_the_default(
    tmp_path: Path,
    flags: dict[str, Any],
    environ: dict[str, str],
    text: str,
    value: str | None,
    origin: str,
) -> None:
    file = written(tmp_path, text)
    loaded = load(flags, environ, tmp_path)
    assert loaded.settings.table == value
    assert loaded.origins["table"] == origin.format(file=file)


USERS_ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users"


@pytest.mark.parametrize("key", ["table", "table_arn"])
def test_a_table_can_be_named_by_its_arn(tmp_path: Path, key: str) -> None:
    found = load({key: USERS_ARN}, {}, tmp_path)
    settings = found.settings
    assert (settings.table, settings.table_arn) == ("users", USERS_ARN)
    assert (settings.bus_name, settings.event_source) == ("users-bus", "ddbrelay.users")
    assert found.origins["table"] == found.origins["table_arn"] == f"flag --{key.replace('_', '-')}"


def test_the_arn_of_another_table_than_the_one_that_is_named_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, f'[source]\ntable_arn = "{USERS_ARN}"\n')
    assert load({}, {}, tmp_path).settings.table == "users"
    same = load({"table": "users"}, {}, tmp_path).settings
    assert (same.table, same.table_arn) == ("users", USERS_ARN)
    other = load({"table": "orders"}, {}, tmp_path)
    assert (other.settings.table, other.settings.table_arn) == ("orders", None)
    assert other.origins["table_arn"] == "default"


@pytest.mark.parametrize(
    "arn",
    [
        f"{USERS_ARN}/stream/2026-01-01T00:00:00.000",
        "arn:aws:dynamodb:eu-west-1:4444:table/users",
        "arn:aws:sqs:eu-west-1:444455556666:users",
    ],
)
def test_what_is_no_arn_of_a_table_is_refused_with_the_form_of_one(
    tmp_path: Path, arn: str
) -> None:
    with pytest.raises(ConfigError, match="arn:aws:dynamodb:REGION:ACCOUNT:table/NAME"):
        load({"table": arn}, {}, tmp_path)


def test_a_global_endpoint_is_known_and_refused(tmp_path: Path) -> None:
    file = written(tmp_path, '[bus]\nendpoint_id = "abcde.veo"\n')
    with pytest.raises(ConfigError, match="global endpoints are not supported") as refused:
        load({}, {}, tmp_path)
    assert f"{file}:2" in refused.value.message
    assert "SigV4A" in refused.value.message


def test_a_variable_with_a_global_endpoint_is_refused_and_not_taken_for_a_url(
    tmp_path: Path,
) -> None:
    environ = {"DDBRELAY_ENDPOINT_ID": "abcde.veo"}
    assert ignored_variables(environ) == []
    with pytest.raises(ConfigError, match="DDBRELAY_ENDPOINT_ID: global endpoints") as refused:
        load({}, environ, tmp_path)
    assert "bus.name" in (refused.value.hint or "")
    assert load({}, {"DDBRELAY_ENDPOINT_ID": ""}, tmp_path).settings.endpoint_url is None


def test_every_setting_can_be_given_as_a_variable_and_in_the_file(tmp_path: Path) -> None:
    texts = {
        "output": "json",
        "log_format": "json",
        "log_level": "debug",
        "local": "true",
        "strict": "true",
        "preset": "outbox",
        "envelope": "metadata",
        "on_gap": "stop",
        "claim_check": "s3://bucket/prefix",
        "table_arn": USERS_ARN,
        **dict.fromkeys(("max_in_flight", "metrics_port"), "7"),
        **dict.fromkeys(("price_events", "price_reads", "price_puts"), "7"),
    }
    for name, key in KEYS.items():
        text = texts.get(name, "9s")
        variable = load({}, {config.env_name(name): text}, tmp_path)
        assert variable.origins[name] == f"environment ({config.env_name(name)})"
        file = written(tmp_path, f"{key} = {text if text in {'true', '7'} else repr(text)}\n")
        in_file = load({}, {}, tmp_path)
        assert in_file.origins[name] == f"file ({file}: {key})"
        file.unlink()
        assert getattr(in_file.settings, name) != getattr(Settings(), name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(word, True) for word in ("1", "true", "YES", "on")]
    + [(word, False) for word in ("0", "false", "no", "Off", "")],
)
def test_local_can_be_switched_by_a_variable(tmp_path: Path, text: str, expected: bool) -> None:
    assert load({}, {"DDBRELAY_LOCAL": text}, tmp_path).settings.local is expected


def test_a_switch_that_is_neither_on_nor_off_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DDBRELAY_LOCAL: 'maybe' is neither true nor false"):
        load({}, {"DDBRELAY_LOCAL": "maybe"}, tmp_path)


def test_no_local_wins_over_the_variable_and_the_file(bare_cli: Cli) -> None:
    bare_cli.environment["DDBRELAY_LOCAL"] = "1"
    written(bare_cli.directory, "[aws]\nlocal = true\n")
    for words in (("--no-local", "config", "show"), ("config", "show", "--no-local")):
        [shown] = bare_cli.json(*words)
        assert shown["settings"]["aws.local"] == {"value": False, "origin": "flag --no-local"}
    [shown] = bare_cli.json("config", "show", "--no-local", "--local")
    assert shown["settings"]["aws.local"] == {"value": True, "origin": "flag --local"}


def test_the_file_is_found_upwards_and_the_nearest_one_is_taken(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "c"
    deep.mkdir(parents=True)
    written(tmp_path, '[source]\ntable = "far"\n')
    assert load({}, {}, deep).settings.table == "far"
    near = written(tmp_path / "a" / "b", '[source]\ntable = "near"\n')
    loaded = load({}, {}, deep)
    assert (loaded.settings.table, loaded.file) == ("near", near)


def test_a_named_file_is_taken_instead_of_the_one_that_would_be_found(tmp_path: Path) -> None:
    written(tmp_path, '[source]\ntable = "found"\n')
    other = tmp_path / "other.toml"
    other.write_text('[source]\ntable = "named"\n')
    assert load({"config": str(other)}, {}, tmp_path).settings.table == "named"
    assert load({}, {"DDBRELAY_CONFIG": str(other)}, tmp_path).settings.table == "named"


def test_a_named_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*absent\.toml: No such file") as caught:
        load({"config": str(tmp_path / "absent.toml")}, {}, tmp_path)
    assert caught.value.hint is not None
    assert "ddbrelay init" in caught.value.hint


def test_paths_in_the_file_are_relative_to_it_and_others_to_the_working_directory(
    tmp_path: Path,
) -> None:
    written(tmp_path, '[relay]\nstate = "relay.db"\n')
    assert load({}, {}, tmp_path).settings.state_file == tmp_path / "relay.db"
    given = load({"state": "relay.db"}, {}, tmp_path).settings
    assert given.state_file == Path("relay.db")


@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[aws]\nregoin = 'x'", "aws.regoin", "aws.region"),
        ("[source]\ntabel = 'x'", "source.tabel", "source.table"),
        ("[relay]\npol_interval = 1", "relay.pol_interval", "relay.poll_interval"),
        ("[sorce]\ntable = 'x'", "sorce", "source"),
        ("[relay]\ntable = 'x'", "relay.table", "source.table"),
        ("table = 'x'", "table", "source.table"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(
    tmp_path: Path, text: str, key: str, meant: str
) -> None:
    error = refused(tmp_path, text)
    assert f'unknown key "{key}"' in error.message
    assert error.hint == f'did you mean "{meant}"?'


def test_an_unknown_key_that_resembles_none_lists_those_of_its_section(tmp_path: Path) -> None:
    hint = refused(tmp_path, "[bus]\nzzzzzz = 1\n").hint
    assert hint == "known keys: bus.name, bus.source"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[source]\ntable = 5", "source.table: 5 is not a text"),
        ("[relay]\nconsumer = ''", "relay.consumer: the text is empty"),
        ('[source]\ntable = "a\\nb"', "characters that cannot be printed"),
        ("[source]\ntable = ['a']", "source.table: ['a'] is not a text"),
        ("[aws]\nlocal = 1", "aws.local: 1 is neither true nor false"),
        ("[relay]\nstate = 5", "relay.state: 5 is not a text"),
        ("[relay]\nstate = '~nobody-has-this-name/x'", "home directory"),
        ("[relay]\nmax_in_flight = 0", "0 is not a whole number above zero"),
        ("[relay]\nmax_in_flight = true", "True is not a whole number above zero"),
        ("[relay]\nmax_in_flight = 1.5", "1.5 is not a whole number above zero"),
        ("[relay]\ngrace = -1", "-1 is not a duration"),
        ("[relay]\ngrace = true", "True is not a duration"),
        ("[relay]\ngrace = inf", "inf is not a duration"),
        ("[relay]\ngrace = '5 parsecs'", "'5 parsecs' is not a duration"),
        ("output = 'xml'", "output: 'xml' is none of rich, lines, json"),
        ("output = ['json']", "is none of rich, lines, json"),
        ("source = 'users'", "source must be a section, written [source]"),
        ("[[aws]]\nregion = 'x'", "aws must be a section, written [aws]"),
        ("[aws\n", "not TOML"),
        ("[aws]\nregion = 'a'\nregion = 'b'\n", "not TOML"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_its_place(
    tmp_path: Path, text: str, says: str
) -> None:
    assert says in refused(tmp_path, text).message


def test_a_file_that_is_not_utf_8_or_not_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ddbrelay.toml").write_bytes(b'[aws]\nregion = "\xff"\n')
    with pytest.raises(ConfigError, match="not TOML"):
        load({}, {}, tmp_path)
    with pytest.raises(ConfigError, match="cannot read"):
        load({"config": str(tmp_path)}, {}, tmp_path)


def test_a_directory_called_like_the_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "ddbrelay.toml").mkdir()
    assert load({}, {}, tmp_path).file is None


@pytest.mark.parametrize(
    ("flags", "environ", "says"),
    [
        ({"table": ""}, {}, "--table: the text is empty"),
        ({}, {"DDBRELAY_GRACE": "soon"}, "DDBRELAY_GRACE: 'soon' is not a duration"),
        ({}, {"DDBRELAY_FROM": " "}, "DDBRELAY_FROM: the text is empty"),
        ({"output": "xml"}, {}, "--output: 'xml' is none of rich, lines, json"),
    ],
)
def test_a_wrong_flag_or_variable_is_named(
    tmp_path: Path, flags: dict[str, Any], environ: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ, tmp_path)
    assert caught.value.message == says or caught.value.message.startswith(says)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5", 5.0),
        (5, 5.0),
        (0.5, 0.5),
        ("5s", 5.0),
        ("1.5m", 90.0),
        ("4h", 14400.0),
        ("1d", 86400.0),
        (" 15 m ", 900.0),
        ("0", 0.0),
    ],
)
def test_durations_are_read_with_their_unit(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "-1s", "+1s", "1w", "1e3", "nan", "1,5s", "5ss", "٣s", "99999999999d"]
)
def test_what_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a duration|hundred years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T10:31:00Z", 1795429860.0),
        ("2026-11-23T10:31:00+00:00", 1795429860.0),
        ("2026-11-23T12:31:00+02:00", 1795429860.0),
        ("2026-11-23T10:31:00", 1795429860.0),
        ("2026-11-23 10:31:00.5", 1795429860.5),
        ("2026-11-23", 1795392000.0),
        (" 2026-11-23T10:31:00Z ", 1795429860.0),
        ("15m", NOW - 900),
        ("0s", NOW),
        ("90d", NOW - 90 * 86400),
    ],
)
def test_times_are_iso_in_utc_unless_they_say_otherwise_or_ages(text: str, expected: float) -> None:
    assert parse_time(text, NOW) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("99999999999d", "hundred years"),
        ("99y", "neither an ISO time"),
        ("-15m", "neither an ISO time"),
        ("15", "neither an ISO time"),
        ("", "neither an ISO time"),
        ("yesterday", "neither an ISO time"),
        ("2026-13-01", "neither an ISO time"),
        ("2026-11-23T12:31:00", "lies in the future"),
        ("2026-11-23T10:31:00-05:00", "lies in the future"),
        ("9999-12-31T23:59:59-23:59", "lies in the future"),
        ("0001-01-01T00:00:00+23:59", "lies before 1970"),
        ("36000d", "lies before 1970"),
    ],
)
def test_what_is_not_a_time_in_the_past_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_time(text, NOW)


def test_defaults_follow_from_the_table() -> None:
    settings = Settings(table="users")
    assert (settings.bus_name, settings.event_source) == ("users-bus", "ddbrelay.users")
    values = config.effective(settings)
    assert (values["bus"], values["source"]) == ("users-bus", "ddbrelay.users")
    unnamed = config.effective(Settings())
    assert (unnamed["bus"], unnamed["source"]) == (None, None)


def test_the_rendered_file_has_every_key_with_its_default_and_loads_to_the_defaults(
    tmp_path: Path,
) -> None:
    text = render({})
    assert tomllib.loads(text) == {
        section: {} for section in ("aws", "source", "bus", "relay", "prices")
    }
    uncommented = "\n".join(
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in text.splitlines()
    )
    document = tomllib.loads(uncommented)
    shown = {
        f"{section}.{key}": value
        for section, keys in document.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    } | {key: value for key, value in document.items() if not isinstance(value, dict)}
    assert set(shown) == set(KEYS.values())
    for field in fields(Settings):
        assert f"# {field.metadata['help']}\n" in text

    without_a_default = {key for key, value in shown.items() if value == ""}
    kept = "\n".join(line for line in uncommented.splitlines() if not line.endswith('= ""'))
    written(tmp_path, kept)
    loaded = load({}, {}, tmp_path)
    for name, key in KEYS.items():
        if key not in without_a_default and name not in {"state", "state_dir"}:
            assert getattr(loaded.settings, name) == getattr(Settings(), name), key
    assert loaded.settings.state_file == Settings().state_file
    assert loaded.settings.state_dir == Settings().state_folder


def test_what_is_given_is_set_in_the_rendered_file_digit_for_digit(tmp_path: Path) -> None:
    given = {
        "table": 'quo"ted\\back',
        "bus": "büs-🚌",
        "entity": "User",
        "grace": 0.25,
        "max_in_flight": 3,
        "local": True,
        "state": Path.home() / "relay.db",
        "output": "json",
    }
    written(tmp_path, render(given))
    loaded = load({}, {}, tmp_path)
    assert {name: getattr(loaded.settings, name) for name in given} == given
    origins = {name for name, origin in loaded.origins.items() if origin.startswith("file")}
    assert origins == set(given)


def test_init_writes_a_file_that_the_next_command_uses(bare_cli: Cli) -> None:
    done = bare_cli.ok(
        *("--region", "eu-west-1", "init", "--table", "users", "--bus", "shop"),
        *("--entity", "Customer", "--consumer", "audit"),
    )
    file = bare_cli.directory / "ddbrelay.toml"
    assert done.stdout == f"wrote {file}\n"
    assert "next: ddbrelay provision" in done.stderr
    assert [path.name for path in bare_cli.directory.iterdir()] == ["ddbrelay.toml"]
    [shown] = bare_cli.json("config", "show")
    assert shown["file"] == str(file)
    values = {
        key: entry["value"]
        for key, entry in shown["settings"].items()
        if entry["origin"] == f"file ({file}: {key})"
    }
    assert values == {
        "aws.region": "eu-west-1",
        "source.table": "users",
        "source.entity": "Customer",
        "bus.name": "shop",
        "relay.consumer": "audit",
    }


def test_init_refuses_to_overwrite_unless_forced_even_a_broken_file(bare_cli: Cli) -> None:
    file = written(bare_cli.directory, "[broken\n")
    done = bare_cli.run("init", "--table", "users")
    assert done.returncode == 2
    assert done.stderr == f"error: {file} exists\n  hint: --force replaces it\n"
    assert file.read_text() == "[broken\n"
    bare_cli.ok("init", "--table", "users", "--force")
    assert load({}, {}, bare_cli.directory).settings.table == "users"


def test_init_without_a_table_says_what_is_missing_and_writes_what_config_names(
    bare_cli: Cli,
) -> None:
    [made] = bare_cli.json("init", "--config", "other.toml")
    target = str(bare_cli.directory / "other.toml")
    assert made == {"type": "file", "path": target, "state": "written"}
    done = bare_cli.ok("init", "--config", "third.toml")
    assert "next: set table in third.toml" in done.stderr
    assert not (bare_cli.directory / "ddbrelay.toml").exists()


def test_init_refuses_a_value_that_could_not_be_loaded_and_writes_nothing(bare_cli: Cli) -> None:
    done = bare_cli.run("init", "--table", "")
    assert (done.returncode, done.stderr) == (2, "error: --table: the text is empty\n")
    absent = bare_cli.run("init", "--config", "absent/ddbrelay.toml")
    assert absent.returncode == 2
    assert "cannot write" in absent.stderr
    assert list(bare_cli.directory.iterdir()) == []


def test_config_show_says_where_each_value_came_from_in_aligned_columns(bare_cli: Cli) -> None:
    file = written(bare_cli.directory, "[relay]\ngrace = '2s'\n")
    bare_cli.environment["DDBRELAY_BUS"] = "shop"
    lines = bare_cli.ok("--table", "users", "config", "show").stdout.splitlines()
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines}
    assert list(rows) == list(KEYS.values())
    assert rows["source.table"] == ["users", "flag --table"]
    assert rows["bus.name"] == ["shop", "environment (DDBRELAY_BUS)"]
    assert rows["relay.grace"] == ["2s", f"file ({file}: relay.grace)"]
    assert rows["bus.source"] == ["ddbrelay.users", "default"]
    assert rows["aws.profile"] == ["-", "default"]
    starts = {line.index(rows[line.split()[0]][0], len(line.split()[0])) for line in lines}
    assert len(starts) == 1


def test_config_show_works_where_the_working_directory_is_gone(bare_cli: Cli) -> None:
    gone = bare_cli.directory / "gone"
    gone.mkdir()
    program = (
        "import os; os.rmdir(os.getcwd());"
        "from ddbrelay.cli.main import main; main(['config', 'show'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=gone,
        env=bare_cli.env(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "error: the working directory no longer exists" in done.stderr
