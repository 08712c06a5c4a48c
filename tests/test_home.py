"""A user without a home directory, as a container has it that runs with any number as its user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddbrelay.aws_lambda import configuration
from ddbrelay.config import Settings, named_file
from ddbrelay.errors import ConfigError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no passwd")
NO_PLACE = "there is no place for state: HOME is not set, and this user has no home directory"
PROGRAM = """
import pwd, sys
def nobody(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = nobody
from ddbrelay.cli.main import main
main(sys.argv[1:])
"""
"""The command line of a user whom the list of users does not have."""


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No home directory, in this process and in those that it starts."""

    def nobody(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_STATE_HOME", "DDBRELAY_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("positions", "list"), NO_PLACE),
        (("local", "status"), NO_PLACE),
        (
            ("--config", "~/users.toml", "config", "show"),
            "--config: '~/users.toml' names a home directory that is not known; "
            "write the whole path, or set HOME",
        ),
        (
            ("positions", "list", "--state", "~/state.db"),
            "--state: '~/state.db' names a home directory that is not known; "
            "write the whole path, or set HOME",
        ),
    ],
)
def test_without_a_home_directory_one_line_says_what_to_set(
    tmp_path: Path, words: tuple[str, ...], error: str
) -> None:
    done = run(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    first, *others = done.stderr.splitlines()
    assert first == f"error: {error}"
    if error == NO_PLACE:
        hint = "set DDBRELAY_STATE_DIR (or --state for the state file alone), or HOME"
        assert others.pop() == f"  hint: {hint}"
    assert others == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("homeless")
def test_what_needs_no_state_needs_no_home_directory(tmp_path: Path) -> None:
    assert run(tmp_path, "init", "--table", "users").returncode == 0
    shown = run(tmp_path, "config", "show", "--output", "json")
    assert json.loads(shown.stdout)["settings"]["relay.state_dir"]["value"] is None
    for given in ({"DDBRELAY_STATE_DIR": str(tmp_path)}, {"HOME": str(tmp_path)}):
        done = run(tmp_path, "positions", "list", **given)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert configuration.load({"LAMBDA_TASK_ROOT": str(tmp_path)}).settings.table == "users"


@pytest.mark.usefixtures("homeless")
def test_a_state_file_that_is_named_needs_no_directory(tmp_path: Path) -> None:
    assert Settings(state=tmp_path / "state.db").state_file == tmp_path / "state.db"
    assert Settings(state_dir=tmp_path).state_file == tmp_path / "state.db"
    with pytest.raises(ConfigError, match=NO_PLACE) as caught:
        _ = Settings().state_file
    assert "DDBRELAY_STATE_DIR" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="home directory that is not known"):
        named_file("~/ddbrelay.toml")
