"""The example workflows are what GitHub and GitLab take, and their commands run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_expect_reports import checked
from test_readme import ROOT, shell_environment

CI = ROOT / "examples" / "ci"
GITHUB, GITLAB = CI / "github-actions.yml", CI / "gitlab-ci.yml"


def read(file: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(file.read_text())
    return document


def commands(lines: list[str]) -> list[str]:
    return [one for line in lines for one in line.splitlines() if one.startswith("ddbrelay ")]


def github_commands(job: str) -> list[str]:
    return commands([step.get("run", "") for step in read(GITHUB)["jobs"][job]["steps"]])


def gitlab_commands(job: str) -> list[str]:
    found = read(GITLAB)[job]
    return commands([*found["script"], *found.get("after_script", ())])


def test_both_workflows_do_the_same() -> None:
    assert github_commands("local") == gitlab_commands("events")
    assert github_commands("deployed") == gitlab_commands("events-deployed")
    local = read(GITHUB)["jobs"]["local"]["env"]
    assert local == read(GITLAB)["events"]["variables"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schema", "file"), [("vendor.github-workflows", GITHUB), ("vendor.gitlab-ci", GITLAB)]
)
def test_a_workflow_fits_the_public_schema(schema: str, file: Path) -> None:
    words = ["--builtin-schema", schema, file]
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_commands_of_the_local_job_run(tmp_path: Path) -> None:
    shutil.copytree(CI, tmp_path / "ci")
    environment = shell_environment(tmp_path) | read(GITHUB)["jobs"]["local"]["env"]
    lines = github_commands("local")
    assert lines[-1] == "ddbrelay local stop"
    script = "\n".join(["set -e", "trap 'ddbrelay local stop' EXIT", *lines[:-1]])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment | {"CI": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert "met: 4 of 4 expectations" in done.stdout
    (suite,) = checked((tmp_path / "events.xml").read_text())
    assert suite.attrib["tests"] == "7"
