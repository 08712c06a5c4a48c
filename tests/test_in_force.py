"""Which mapping a run works by: what it says of it, and which files it does not use unnamed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from conftest import Cli
from pipeline import ON_MOTO, Pipeline

from ddbrelay.aws.session import Aws
from ddbrelay.aws_lambda import configuration
from ddbrelay.checkup import settings
from ddbrelay.checkup.findings import Level
from ddbrelay.config import FILE_NAME, Config, find_file, load
from ddbrelay.errors import ConfigError
from ddbrelay.mappings import check_mapping, in_force

_SOMEBODY = 54321
"""A user id that nobody here has."""
AS_ROOT = pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root gives files away"
)
ORDERS = """
[source]
table = "orders"
[bus]
name = "orders-bus"
[[rule]]
name = "drafted"
when = { eventName = ["INSERT"] }
detail_type = "OrderDrafted"
"""
CHANGE = json.dumps(
    {
        "eventID": "1",
        "eventName": "INSERT",
        "dynamodb": {
            "SequenceNumber": "1",
            "Keys": {"id": {"S": "a"}},
            "NewImage": {"id": {"S": "a"}},
        },
    }
)


def written(folder: Path, text: str = ORDERS) -> Path:
    file = folder / "ddbrelay.toml"
    file.write_text(text)
    return file


def give_away(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Let the path belong to another user, which takes root, or else this user be another one."""
    if os.geteuid() == 0:
        os.chown(path, _SOMEBODY, -1, follow_symlinks=False)
    else:
        patch.setattr(os, "geteuid", lambda: _SOMEBODY)


# A file of another user


@pytest.mark.parametrize("whose", ["file", "folder", "link"])
def test_a_found_file_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    project = tmp_path / "project"
    inner = project / "src" / "deep"
    inner.mkdir(parents=True)
    file = project / "ddbrelay.toml"
    if whose == "link":
        file.symlink_to(written(tmp_path))
    else:
        written(project)
    give_away(project if whose == "folder" else file, monkeypatch)
    with pytest.raises(ConfigError) as caught:
        load({}, {}, inner)
    assert "belongs to another user (uid" in caught.value.message
    assert str(project if whose == "folder" else file) in caught.value.message
    assert f"--config {file}" in str(caught.value.hint)
    assert load({"config": str(file)}, {}, inner).settings.table == "orders"
    assert load({}, {"DDBRELAY_CONFIG": str(file)}, inner).settings.table == "orders"


def test_who_called_sudo_may_own_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path)
    owner = os.stat(file).st_uid or _SOMEBODY
    if os.geteuid() == 0:
        os.chown(file, owner, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    if owner == _SOMEBODY:
        with pytest.raises(ConfigError):
            find_file(tmp_path)
    monkeypatch.setenv("SUDO_UID", str(owner))
    assert find_file(tmp_path) == file


def test_the_file_beside_the_code_of_a_function_may_be_of_whoever_packaged_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(written(tmp_path), monkeypatch)
    found = configuration.load({"LAMBDA_TASK_ROOT": str(tmp_path)})
    assert found.settings.table == "orders"


@AS_ROOT
@pytest.mark.parametrize(
    "words",
    [
        ("tail", "--forward"),
        ("replay", "--since", "1h"),
        ("map", "../change.json"),
        ("rules",),
        ("schema", "../change.json"),
        ("doctor",),
        ("export", "sam"),
        ("dead-letters", "redrive", "--all", "--remap"),
    ],
    ids=" ".join,
)
def test_no_command_imports_the_mapper_of_another_users_file(
    bare_cli: Cli, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = written(tmp_path, 'mapper = "theirs:mapped"\nsource.table = "users"\n')
    marker = tmp_path / "imported"
    (tmp_path / "theirs.py").write_text(
        f"open({str(marker)!r}, 'w')\ndef mapped(change):\n    return None\n"
    )
    (tmp_path / "change.json").write_text(CHANGE)
    os.chown(file, _SOMEBODY, -1)
    bare_cli.directory = tmp_path / "src"
    bare_cli.directory.mkdir()
    done = bare_cli.run(*words)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith(f"error: {file} belongs to another user (uid {_SOMEBODY})")
    assert hint.startswith(f"  hint: --config {file}")
    assert not marker.exists()
    assert "belongs to" not in bare_cli.ok("help").stderr
    if words[0] == "map":
        bare_cli.ok("--config", str(file), *words)
        assert marker.exists()


def test_listing_rules_and_policies_imports_no_mapper(bare_cli: Cli, tmp_path: Path) -> None:
    written(tmp_path, 'mapper = "mine:mapped"\nsource.table = "users"\n')
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')\n")
    assert bare_cli.json("rules")[0]["name"] == "own"
    assert bare_cli.json("export", "iam-policy")[0]["Version"] == "2012-10-17"
    assert bare_cli.run("map", os.devnull).returncode == 2


# A file of another table


@pytest.mark.parametrize(
    "words",
    [
        ("tail", "--forward"),
        ("replay", "--since", "1h", "--forward"),
        ("dead-letters", "redrive", "--all"),
        ("provision",),
        ("export", "sam"),
        ("export", "iam-policy"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("by", ["flag", "variable"])
def test_what_sends_or_makes_refuses_a_found_file_of_another_table(
    bare_cli: Cli, tmp_path: Path, words: tuple[str, ...], by: str
) -> None:
    file = written(tmp_path)
    if by == "flag":
        words = (*words, "--table", "users")
    else:
        bare_cli.environment["DDBRELAY_TABLE"] = "users"
    done = bare_cli.run(*words)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    origin = "flag --table" if by == "flag" else "environment (DDBRELAY_TABLE)"
    assert error == (
        f'error: table "users" ({origin}) is not the one of {file}, which is about "orders"'
    )
    assert hint.startswith(f"  hint: --config {file} uses it for this table too")


def test_what_only_shows_says_that_the_file_is_of_another_table(
    bare_cli: Cli, tmp_path: Path
) -> None:
    written(tmp_path)
    (tmp_path / "change.json").write_text(CHANGE)
    done = bare_cli.ok("map", "change.json", "--table", "users")
    assert "OrderDrafted" in done.stdout
    assert 'is about "orders"; its mapping is used all the same' in done.stderr
    for named in ("orders", "arn:aws:dynamodb:eu-west-1:444455556666:table/orders"):
        assert "is about" not in bare_cli.ok("map", "change.json", "--table", named).stderr
    for name in ("--config", "DDBRELAY_CONFIG"):
        words = ["map", "change.json", "--table", "users"]
        if name == "--config":
            words += ["--config", "ddbrelay.toml"]
        else:
            bare_cli.environment[name] = "ddbrelay.toml"
        assert "is about" not in bare_cli.ok(*words).stderr


@ON_MOTO
def test_a_named_file_sends_for_another_table(cli: Cli, aws: Aws, name: str) -> None:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    written(cli.directory)
    run = ("tail", "--forward", "--until-idle", "0")
    assert cli.run(*run).returncode == 2
    assert pipe.received() == []
    cli.ok(*run, "--config", "ddbrelay.toml")
    assert [event["detail-type"] for event in pipe.received()] == ["OrderDrafted"]


# What a run says of its mapping


def configured(folder: Path, text: str, **environ: str) -> Config:
    return load({"config": str(written(folder, text))}, environ, folder)


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        ("", {}, "default mapping"),
        ('source.table = "users"', {}, "default mapping"),
        (ORDERS, {}, "rules ./ddbrelay.toml (1), everything else skipped"),
        ("strict = true\n" + ORDERS, {}, "rules ./ddbrelay.toml (1), everything else parked"),
        (
            'preset = "crud"\n' + ORDERS,
            {},
            "rules ./ddbrelay.toml (1), everything else mapped by preset crud",
        ),
        ('preset = "outbox"', {}, "preset outbox (./ddbrelay.toml)"),
        ("", {"DDBRELAY_PRESET": "outbox"}, "preset outbox"),
        ('mapper = "mine:mapped"', {}, "mapper mine:mapped (./ddbrelay.toml)"),
        ("", {"DDBRELAY_MAPPER": "mine:mapped"}, "mapper mine:mapped"),
    ],
)
def test_a_mapping_has_a_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    environ: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert in_force(configured(tmp_path, text, **environ)) == words


def test_a_file_elsewhere_has_the_shorter_of_its_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    config = configured(tmp_path, ORDERS)
    assert in_force(config).startswith("rules ../../ddbrelay.toml (1)")
    monkeypatch.chdir("/")
    assert in_force(config).startswith(f"rules .{tmp_path}/ddbrelay.toml (1)")


def test_a_mapper_is_checked_without_being_imported(tmp_path: Path) -> None:
    both = configured(tmp_path, 'mapper = "nowhere:mapped"\npreset = "crud"\n')
    with pytest.raises(ConfigError, match="takes the place of a preset"):
        check_mapping(both, "users")
    check_mapping(configured(tmp_path, 'mapper = "nowhere:mapped"\n'), "users")


@ON_MOTO
def test_the_first_line_of_a_run_says_which_mapping_is_in_force(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipe = Pipeline(aws, name)
    pipe.put("a")
    pipe.put("a")
    once = ("--until-idle", "0")
    default = "mapping: default mapping"
    assert cli.ok("tail", *once).stderr.splitlines()[0] == default
    written(cli.directory, ORDERS.replace('"orders"', f'"{name}"').replace("orders-bus", pipe.bus))
    ruled = "mapping: rules ./ddbrelay.toml (1), everything else skipped"
    for words in (
        ("tail", *once),
        ("tail", *once, "--output", "json"),
        ("tail", "--forward", *once),
        ("replay", "--since", "1h"),
    ):
        assert cli.ok(*words).stderr.splitlines()[0] == ruled
    assert cli.ok("tail", *once, "-q").stderr == ""
    for quiet in ((), ("-q",)):
        logged = cli.ok("tail", *once, *quiet, "--log-format", "json").stderr.splitlines()[0]
        assert json.loads(logged)["message"] == ruled
        assert json.loads(logged)["level"] == "info"
    text = "strict = true\n" + (cli.directory / "ddbrelay.toml").read_text()
    (cli.directory / "ddbrelay.toml").write_text(text)
    pipe.delete("a")
    assert cli.run("tail", "--forward", *once).returncode == 3
    redrive = cli.run("dead-letters", "redrive", "--all", "--remap")
    assert redrive.stderr.splitlines()[0] == ruled.replace("skipped", "parked")


@pytest.mark.parametrize("kind", ["a link that leads nowhere", "a FIFO"])
def test_a_configuration_that_is_there_and_is_no_file_is_not_left_out(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / FILE_NAME
    if kind == "a FIFO":
        os.mkfifo(file)
    else:
        file.symlink_to(tmp_path / "elsewhere")
    (tmp_path / "work").mkdir()
    with pytest.raises(ConfigError, match="not a file that can be read") as refused:
        load({}, {}, tmp_path / "work")
    assert "--config" in str(refused.value.hint)


def test_the_doctor_says_that_a_found_file_is_about_another_table(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text('source.table = "orders"\n')
    found = load({"table": "users"}, {}, tmp_path)
    (finding,) = settings.judge_table(found)
    assert finding.level is Level.ERROR
    assert 'about the table "orders"' in finding.what
    named = load({"table": "users", "config": tmp_path / FILE_NAME}, {}, tmp_path)
    assert settings.judge_table(named) == []
