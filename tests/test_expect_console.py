"""What `expect` shows while it runs: its rows, the line that moves, and readers who leave."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from test_expect_reports import SCENARIO

from ddbrelay.cli.expect_console import Steady
from ddbrelay.cli.expecting import Lines, Objects
from ddbrelay.scenario.loading import load
from ddbrelay.scenario.model import Command, Scenario
from ddbrelay.scenario.results import Done, Outcome, Verdict
from ddbrelay.scenario.writing import StepFailed, run_command


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scenario:
    monkeypatch.chdir(tmp_path)
    Path("signup.toml").write_text(SCENARIO)
    return load(Path("signup.toml"), "r1")


def verdicts(scenario: Scenario) -> list[Verdict]:
    created, _ = scenario.expects
    return [Verdict(created, 0.1, 1), Verdict(created, 0.2, 1, "order", "must come before it")]


def test_a_row_that_takes_the_place_of_another_says_so_and_names_its_line(
    scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = Lines(Steady("lines"))
    lines.begins(scenario)
    for verdict in verdicts(scenario):
        lines.verdict(scenario, verdict)
    lines.step(scenario, Done(scenario.steps[0], None, 0.1, "ended with 3"))
    shown = capsys.readouterr().out.splitlines()
    assert shown[1].startswith("  ✔ created ")
    assert shown[2:] == [
        "  ✖ created: must come before it (✔ above no longer counts)",
        "      at signup.toml:9:1",
        "  ✖ run echo writing: ended with 3",
        "      at signup.toml:4:1",
    ]


def test_an_expectation_is_one_json_object_and_the_last_verdict_is_it(
    scenario: Scenario, capsys: pytest.CaptureFixture[str]
) -> None:
    objects, outcome = Objects(Steady("json")), Outcome(scenario)
    for verdict in verdicts(scenario):
        objects.verdict(scenario, verdict)
    outcome.verdicts.append(verdict)
    assert not capsys.readouterr().out
    objects.settled(outcome)
    (line,) = capsys.readouterr().out.splitlines()
    assert '"type":"unmet"' in line


def test_a_script_is_shown_by_its_first_line(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SCENARIO.replace('"echo writing"', '"""\nset -e\necho hi\nexit 3"""'))
    assert load(file, "r1").steps[0].title == "run set -e …"


def test_what_a_failed_command_said_is_cut_where_a_line_has_no_end(tmp_path: Path) -> None:
    command = Command("printf '%0600d\\nshort\\n' 1; exit 3", "")
    with pytest.raises(StepFailed) as caught:
        run_command(command, tmp_path, os.environ, timeout=60, pause=lambda _: False)
    long, short = caught.value.lines
    assert (len(long), long[-1], short) == (500, "…", "short")
    with pytest.raises(StepFailed, match=r"did not end within 0\.01 s"):
        run_command(
            Command("sleep 60", ""), tmp_path, os.environ, timeout=0.01001, pause=lambda _: False
        )


WAITING = """
from ddbrelay.cli.expect_console import Steady
console = Steady({output!r}, {verbosity})
console.waiting("  … waiting for created  1 s")
console.data("a row")
console.waiting("  … waiting for created  2 s")
console.waiting("  … waiting for created  2 s")
console.still()
"""


def seen(code: str, **environment: str) -> str:
    """What a terminal gets, on both streams."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in {"CI", "TERM"}}
    done = subprocess.Popen(
        [sys.executable, "-c", code], stdout=theirs, stderr=theirs, env={**env, **environment}
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        found += piece
        if not piece:
            break
    os.close(ours)
    assert done.wait(60) == 0
    return found.decode()


def test_a_terminal_says_on_one_line_what_is_waited_for_and_takes_it_back() -> None:
    shown = seen(WAITING.format(output="rich", verbosity=0), TERM="xterm")
    erase = "\r\x1b[2K"
    assert shown == (
        f"{erase}  … waiting for created  1 s{erase}a row\r\n"
        f"{erase}  … waiting for created  2 s{erase}"
    )


@pytest.mark.parametrize(
    ("output", "verbosity", "environment"),
    [
        ("lines", 0, {"TERM": "xterm"}),
        ("rich", 0, {"TERM": "dumb"}),
        ("rich", 0, {"TERM": "xterm", "CI": "true"}),
        ("rich", -1, {"TERM": "xterm"}),
    ],
)
def test_where_nothing_can_be_taken_back_nothing_is_said_of_waiting(
    output: str, verbosity: int, environment: dict[str, str]
) -> None:
    shown = seen(WAITING.format(output=output, verbosity=verbosity), **environment)
    assert shown == ("" if verbosity else "a row\r\n")


@pytest.mark.parametrize("say", ["data('x')", "words('x')", "object({})", "raw('x', stderr=True)"])
def test_a_reader_that_left_ends_nothing(say: str) -> None:
    code = f"""
from ddbrelay.cli.expect_console import Steady
console = Steady("lines")
for _ in range(3):
    console.{say}
"""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=write, check=False)
    os.close(write)
    assert done.returncode == 0
