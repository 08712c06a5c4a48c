"""The script that does what a new user types, in a folder that has a configuration of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from test_readme import ROOT, shell_environment

SCRIPT = ROOT / "examples" / "ci" / "new-user.sh"

pytestmark = pytest.mark.slow


def test_the_folder_in_which_it_is_started_has_no_say(tmp_path: Path) -> None:
    environment = shell_environment(tmp_path)
    # What it would install is there.
    pip = tmp_path / "bin" / "pip"
    pip.write_text('#!/bin/sh\npwd >pip.log\necho "$@" >>pip.log\n')
    pip.chmod(0o755)
    (tmp_path / "ddbrelay.toml").write_text('[source]\ntabel = "users"\n')
    before = {"bin", "ddbrelay.toml"}
    done = subprocess.run(
        ["bash", SCRIPT],
        cwd=tmp_path,
        env={**environment, "DDBRELAY_VENV": ".", "DDBRELAY_PACKAGE": "./clone[local]"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("new-user: ok, from the installation to the assertion\n")
    assert (tmp_path / "pip.log").read_text() == f"{tmp_path}\ninstall --quiet ./clone[local]\n"
    assert {one.name for one in tmp_path.iterdir()} == before | {"pip.log"}
