"""The plugin as a user's own pytest loads it: processes, workers, Ctrl-C, a new environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from test_readme import README, blocks

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "examples" / "pytest"
PLAIN_PYTHON = os.environ.get("DDBRELAY_PLAIN_PYTHON")
"""One that has `ddbrelay[local]` and pytest and nothing else, which takes a while to make."""

pytestmark = pytest.mark.slow


def _pytest(
    folder: Path, test: str, *words: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A run of a project that is this one test module."""
    (folder / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (folder / "test_it.py").write_text(test)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", *words],
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _engines(folder: Path) -> list[int]:
    """The processes that the tests of a project left their numbers of."""
    return [int(file.read_text()) for file in folder.glob("pid-*")]


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # One that ended, and that nobody has asked for yet.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


_NOTE = """
import json, pathlib

def note(tmp_path_factory):
    found = tmp_path_factory.getbasetemp() / "ddbrelay0" / "local" / "running.json"
    running = json.loads(found.read_text())
    pathlib.Path(f"pid-{running['port']}").write_text(str(running["pid"]))
"""
WORKERS = f"""{_NOTE}
def test_of_one_worker(relay, events, ddbrelay_local, tmp_path_factory):
    note(tmp_path_factory)
    relay("users").table.put({{"id": "u1"}})
    events.expect({{"detail-type": ["UserCreated"]}})
    ddbrelay_local.resource("dynamodb").Table("users").put_item(Item={{"id": "u2"}})
    assert len(events) == 2

def test_that_leaves_a_parked_record_on_the_other(relay, tmp_path_factory):
    note(tmp_path_factory)
    relay("users", rules=[{{"detail_type": "{{new.kind}}"}}]).table.put({{"id": "u2"}})
"""


def test_each_worker_has_an_engine_that_ends_with_it(tmp_path: Path) -> None:
    done = _pytest(tmp_path, WORKERS, "-n", "2")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 passed, 1 error" in done.stdout
    assert "the relay of users parked 1 record; relay(..., allow_parked=True)" in done.stdout
    assert "id=u2: " in done.stdout
    pids = _engines(tmp_path)
    assert len(pids) == 2
    assert all(map(_gone, pids))


INTERRUPTED = f"""{_NOTE}
import os, signal

def test_that_is_interrupted(relay, events, tmp_path_factory):
    note(tmp_path_factory)
    relay("users").table.put({{"id": "u1"}})
    os.kill(os.getpid(), signal.SIGINT)
    events.expect({{"detail-type": ["Nothing"]}}, timeout=60)
"""


def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    done = _pytest(tmp_path, INTERRUPTED)
    assert done.returncode == pytest.ExitCode.INTERRUPTED, done.stdout + done.stderr
    assert "KeyboardInterrupt" in done.stdout
    (pid,) = _engines(tmp_path)
    assert _gone(pid)


def test_the_example_in_the_readme_passes(tmp_path: Path) -> None:
    (example,) = [
        block.text
        for block in blocks(README.read_text())
        if block.section == "In CI" and block.language == "python"
    ]
    done = _pytest(tmp_path, example)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


ASKED = """
def test_with_an_engine(ddbrelay_local):
    raise AssertionError("there is none")

def test_without():
    pass
"""


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "moto.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'moto'\", name='moto')"
    )
    done = _pytest(tmp_path, ASKED, PYTHONPATH=str(lacking))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 passed, 1 error" in done.stdout
    said = done.stdout.split("setup of test_with_an_engine")[1].splitlines()
    assert said[1:3] == [
        "the embedded AWS is not installed (moto is missing)",
        "  hint: pip install 'ddbrelay[local]'",
    ]


def _python_with_nothing_else(folder: Path) -> Path:
    if PLAIN_PYTHON:
        return Path(PLAIN_PYTHON)
    # pip of this environment is as good, and it takes a while to install another one.
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-compile", f"{ROOT}[local]", "pytest"], check=True, timeout=300)
    return python


def test_the_sample_project_passes_in_an_environment_of_its_own(tmp_path: Path) -> None:
    python, project = _python_with_nothing_else(tmp_path / "env"), tmp_path / "project"
    shutil.copytree(SAMPLE, project, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    done = subprocess.run(
        [python, "-m", "pytest", "-W", "error"],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (plugins,) = [line for line in done.stdout.splitlines() if line.startswith("plugins: ")]
    assert "ddbrelay-" in plugins
    assert "7 passed" in done.stdout
