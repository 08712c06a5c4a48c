"""What a run of `expect` leaves for CI: JUnit XML, annotations, the job's summary."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest

from ddbrelay.config import Settings
from ddbrelay.scenario import github
from ddbrelay.scenario.junit import report
from ddbrelay.scenario.loading import load
from ddbrelay.scenario.model import Command, Scenario
from ddbrelay.scenario.results import Done, Outcome, Verdict
from ddbrelay.scenario.running import Runner
from ddbrelay.scenario.writing import StepFailed, Writer, environment, run_command

SCENARIO = """
name = "a %, of: | users"
timeout = "500ms"
[[step]]
run = "echo writing"
[[step]]
name = "the second"
run = ["true"]
[[expect]]
name = "created"
event = { detail-type = ["UserCreated"] }
times = 1
for = "0s"
[[expect]]
name = "updated"
event = { detail-type = ["UserUpdated"] }
[[never]]
name = "deleted"
event = { detail-type = ["UserDeleted"] }
for = "0s"
"""
TITLE = "a %25%2C of%3A | users"
TABLE = {
    "TableArn": "arn:aws:dynamodb:us-east-1:123456789012:table/users",
    "KeySchema": [{"AttributeName": "id"}],
}
COUNTS = ("tests", "failures", "errors", "skipped")
ALLOWED = {
    "testsuites": {"name", "time", *COUNTS},
    "testsuite": {"name", "time", "timestamp", *COUNTS},
    "testcase": {"name", "classname", "file", "time"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": set(),
    "system-err": set(),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase", "system-err"},
    "testcase": {"failure", "error", "skipped"},
}
"""The part that Jenkins, GitLab and GitHub's actions agree on."""


def checked(text: str) -> Element:
    """The report, which must have the form that CI systems read, with the right counts."""
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    for element in root.iter():
        assert set(element.keys()) <= ALLOWED[element.tag], element.tag
        assert {one.tag for one in element} <= CHILDREN.get(element.tag, set())
        for name in {"time"} & set(element.keys()):
            assert float(element.attrib[name]) >= 0
    for suite in root:
        time.strptime(suite.attrib["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
    for element in (root, *root):
        cases = list(element.iter("testcase"))
        found = [len(cases)] + [
            sum(case.find(tag) is not None for case in cases)
            for tag in ("failure", "error", "skipped")
        ]
        assert [int(element.attrib[name]) for name in COUNTS] == found
    return root


class Queue:
    """Events that come, one batch for each look."""

    def __init__(self, *batches: list[dict[str, Any]]) -> None:
        self._batches = iter(batches)

    def drain(self) -> None: ...

    def receive(self, wait: float) -> Iterator[dict[str, Any]]:
        yield from next(self._batches, [])


class Quiet:
    """Hears everything."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def begins(self, scenario: Scenario) -> None:
        self.heard.append(scenario)

    def step(self, scenario: Scenario, done: Done) -> None:
        self.heard.append(done)

    def verdict(self, scenario: Scenario, verdict: Verdict) -> None:
        self.heard.append((verdict.about.title, verdict.reason))

    def relay_said(self, words: str) -> None:
        self.heard.append(words)

    def waits(self, what: str, seconds: float) -> None: ...

    def settled(self, outcome: Outcome) -> None: ...

    def ended(self, outcome: Outcome) -> None:
        outcome.over = True


class Stop:
    def __init__(self) -> None:
        self.stopped = False

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, seconds: float | None = None) -> bool:
        time.sleep(min(seconds or 0.0, 0.005))
        return self.stopped


def event(kind: str, **detail: Any) -> dict[str, Any]:
    return {"id": f"{kind}{detail}", "detail-type": kind, "source": "s", "detail": detail}


class Place:
    """An `Aws` of which nothing is asked but where it is."""

    region, endpoint_url, local = "us-east-1", "http://127.0.0.1:1", True

    def address_of(self, table: str) -> str:
        return table


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the scenario with what comes behind the bus given."""

    def do(*batches: list[dict[str, Any]], command: str = "echo writing") -> Outcome:
        file = tmp_path / "signup.toml"
        file.write_text(SCENARIO.replace("echo writing", command))
        outcome = Outcome(load(file, "r1"))
        environ: Mapping[str, str] = os.environ
        runner = Runner(
            Queue(*batches),  # type: ignore[arg-type]
            Writer(Place(), "users", TABLE),  # type: ignore[arg-type]
            Quiet(),
            Stop(),
            environ=lambda _: environ,
            relay=lambda _: pytest.fail("no relay was asked for"),
            arrival_counts=True,
        )
        runner.run(outcome)
        return outcome

    return do


def test_a_scenario_that_is_met_says_so_for_each_part(run: Run) -> None:
    outcome = run([], [event("UserCreated")], [event("UserUpdated")])
    assert outcome.met
    assert [one.about.title for one in outcome.verdicts] == ["created", "updated", "never deleted"]
    (suite,) = checked(report([outcome], "2026-11-23T10:31:07.000"))
    assert [case.attrib["name"] for case in suite] == [
        *("run echo writing", "the second", "created", "updated", "never deleted"),
    ]
    assert not list(github.annotate(outcome, {}))
    assert "### ✅" in github.markdown([outcome])


def test_what_is_wrong_stands_in_every_report(run: Run, tmp_path: Path) -> None:
    came = [event("UserCreated", n=1), event("UserCreated", n=2), event("UserDeleted", x="```")]
    outcome = run(came, [event("UserChanged\x01")])
    outcome.words.append("parked INSERT id=u1: \x00")
    reasons = {one.about.title: one.reason for one in outcome.verdicts}
    assert reasons == {"created": "times", "updated": "missing", "never deleted": "forbidden"}
    (suite,) = checked(report([outcome], "2026-11-23T10:31:07.000"))
    failure = suite.find("testcase[@name='updated']/failure")
    assert failure is not None
    assert failure.attrib == {"message": "did not come within 0.5 s", "type": "missing"}
    assert "signup.toml:14:1: did not come" in str(failure.text)
    assert 'wanted "UserUpdated"' in str(failure.text)
    environ = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(tmp_path)}
    assert github.is_running(environ)
    lines = list(github.annotate(outcome, environ))
    assert len(lines) == 3
    assert any(
        one.startswith(f"::error file=signup.toml,line=14,col=1,title={TITLE}::updated did not")
        for one in lines
    )
    assert all("\n" not in one for one in lines)
    summary = github.markdown([outcome])
    assert "| ❌ | never deleted |" in summary
    assert "````text" in summary
    target = tmp_path / "summary.md"
    github.append_summary([outcome], {"GITHUB_STEP_SUMMARY": str(target)})
    github.append_summary([outcome], {"GITHUB_STEP_SUMMARY": str(target)})
    assert target.read_text() == summary * 2


def test_the_wrong_order_takes_the_place_of_what_was_met(run: Run) -> None:
    outcome = run([event("UserUpdated", id="u1"), event("UserCreated", id="u1")])
    (wrong,) = outcome.failures
    assert (wrong.about.title, wrong.reason) == ("created", "order")
    assert wrong.lines[0] == "both are of id=u1; the order is that of their arrival:"
    assert [one.partition(" ")[0] for one in wrong.lines[1:]] == ["first", "then"]
    assert len(outcome.verdicts) == 3
    assert run([event("UserUpdated", id="u1"), event("UserCreated", id="u2")]).met


def test_a_step_that_fails_ends_the_scenario(run: Run) -> None:
    outcome = run(command="echo to the log; echo why >&2; exit 3")
    failed = outcome.failed_step
    assert failed is not None
    assert (failed.error, failed.lines) == ("ended with 3", ["to the log", "why"])
    assert not outcome.met
    assert not outcome.verdicts
    (suite,) = checked(report([outcome], "2026-11-23T10:31:07.000"))
    assert suite.attrib["skipped"] == "4"
    (line,) = github.annotate(outcome, {})
    assert ",line=4,col=1," in line
    assert line.endswith(": ended with 3%0Ato the log%0Awhy")


def test_an_error_and_what_was_not_run_stand_in_the_report(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text(SCENARIO)
    first, second = (Outcome(load(file, "r1")) for _ in range(2))
    first.begun, first.error = True, 'bus "x,y:z" does not exist'
    suites = checked(report([first, second], "2026-11-23T10:31:07.000"))
    assert [suite.attrib["errors"] for suite in suites] == ["1", "0"]
    assert [suite.attrib["skipped"] for suite in suites] == ["5", "5"]
    (line,) = github.annotate(first, {})
    assert f"file={file},line=1,col=1,title={TITLE}::" in line
    assert line.endswith('::bus "x,y:z" does not exist')
    assert "⏭️" in github.markdown([first, second])


def test_a_command_is_ended_when_its_time_is_over_and_when_it_is_time_to_stop(
    tmp_path: Path,
) -> None:
    def command(words: tuple[str, ...] | str, pause: Callable[[float], bool]) -> None:
        run_command(Command(words, ""), tmp_path, os.environ, timeout=0.2, pause=pause)

    def wait(seconds: float) -> bool:
        time.sleep(0.01)
        return False

    command("echo $PWD >out", wait)
    assert (tmp_path / "out").read_text().strip() == str(tmp_path)
    with pytest.raises(StepFailed, match=r"did not end within 0\.2 s"):
        command(("sleep", "60"), wait)
    with pytest.raises(StepFailed, match="was ended by signal 9"):
        command("kill -9 $$", wait)
    with pytest.raises(StepFailed, match="cannot be started: No such file"):
        command(("./not-there",), wait)
    began = time.monotonic()
    with pytest.raises(StepFailed, match="interrupted"):
        command(("sleep", "60"), lambda _: True)
    assert time.monotonic() - began < 30


def test_a_command_finds_the_aws_that_expect_works_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "https://prod.example.com")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "secret")
    made = environment(Settings(table="users"), Place(), "r1")  # type: ignore[arg-type]
    found = {name: value for name, value in made.items() if name.startswith(("AWS_", "DDBRELAY_"))}
    wanted = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "DDBRELAY_TABLE": "users",
        "DDBRELAY_EXPECT_RUN": "r1",
    }
    assert wanted.items() <= found.items()
    assert not {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_DYNAMODB"} & found.keys()
