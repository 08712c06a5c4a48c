"""Running a scenario: its deadline, its steps, and what is said of events that do not meet it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from test_expect_reports import TABLE, Quiet, Stop, checked, event

from ddbrelay.scenario import github
from ddbrelay.scenario.junit import report
from ddbrelay.scenario.loading import load
from ddbrelay.scenario.results import Outcome
from ddbrelay.scenario.running import Runner
from ddbrelay.scenario.writing import Writer

CREATED = '[[expect]]\nname = "created"\nevent = { detail-type = ["UserCreated"] }\n'
AGAIN = CREATED.replace('"created"', '"created again"')
NEVER = '[[never]]\nname = "deleted"\nevent = { detail-type = ["UserDeleted"] }\nfor = "0s"\n'
Timed = tuple[float, dict[str, Any]]


class Later:
    """A queue in which each event arrives so many seconds after it was drained."""

    def __init__(self, *events: Timed) -> None:
        self._events = list(events)
        self._began = time.monotonic()

    def drain(self) -> None:
        self._began = time.monotonic()

    def receive(self, wait: float) -> Iterator[dict[str, Any]]:
        until = time.monotonic() + wait
        while self._events:
            due = self._began + self._events[0][0]
            if due > max(until, time.monotonic()):
                break
            time.sleep(max(0.0, due - time.monotonic()))
            until = 0.0
            yield self._events.pop(0)[1]
        time.sleep(max(0.0, until - time.monotonic()))


class Client:
    """DynamoDB, which takes everything but an item with a mark."""

    def __init__(self) -> None:
        self.meta = self
        self.method_to_api_mapping = {"put_item": "PutItem"}
        self.service_model = self
        self.endpoint_prefix = "dynamodb"

    def put_item(self, *, TableName: str, Item: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        if "refuse" in Item:
            answer = {"Error": {"Code": "ValidationException", "Message": "too large"}}
            raise ClientError(answer, "PutItem")  # type: ignore[arg-type]
        return {}


class Place:
    def client(self, service: str) -> Client:
        return Client()

    def address_of(self, table: str) -> str:
        return table


Run = Callable[..., Outcome]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a scenario with the events that come given."""

    def do(
        text: str, *events: Timed, stop: Stop | None = None, teller: Quiet | None = None
    ) -> Outcome:
        file = tmp_path / "signup.toml"
        file.write_text(text)
        outcome = Outcome(load(file, "r1"))
        runner = Runner(
            Later(*events),  # type: ignore[arg-type]
            Writer(Place(), "users", TABLE),
            teller or Quiet(),
            stop or Stop(),
            environ=lambda _: os.environ,
            relay=lambda _: pytest.fail("no relay was asked for"),
            arrival_counts=True,
        )
        runner.run(outcome)
        return outcome

    return do


def test_an_event_that_comes_after_the_time_does_not_meet_it_though_a_step_waits(run: Run) -> None:
    text = f'timeout = "100ms"\n[[step]]\nput = {{ id = "a" }}\nwait = "900ms"\n{CREATED}'
    outcome = run(text, (0.7, event("UserCreated")))
    (verdict,) = outcome.verdicts
    assert (verdict.reason, verdict.what) == ("missing", "did not come within 0.1 s")
    assert verdict.lines[0].startswith("one came after 0.")
    assert verdict.lines[0].endswith("which is too late:")
    assert outcome.events == 1


def test_an_event_that_comes_in_time_meets_it_though_the_steps_take_longer(run: Run) -> None:
    text = f'timeout = "200ms"\n[[step]]\nput = {{ id = "a" }}\nwait = "400ms"\n{CREATED}'
    assert run(text, (0.05, event("UserCreated"))).met
    command = f'timeout = "5s"\n[[step]]\nrun = "sleep 0.3"\n{CREATED}'
    assert run(command, (0.1, event("UserCreated"))).met


def test_what_must_never_come_is_forbidden_after_the_time_too(run: Run) -> None:
    text = f'timeout = "100ms"\n[[step]]\nput = {{ id = "a" }}\nwait = "400ms"\n{CREATED}{NEVER}'
    outcome = run(text, (0.2, event("UserDeleted")))
    assert [one.reason for one in outcome.failures] == ["forbidden", "missing"]


def test_no_step_is_begun_when_the_time_is_over(run: Run) -> None:
    step = '[[step]]\nput = { id = "a" }\nwait = "200ms"\n'
    outcome = run(f'timeout = "100ms"\n{step}{step}{CREATED}')
    assert len(outcome.steps) == 1
    assert [one.reason for one in outcome.verdicts] == ["missing"]
    late = f'timeout = "100ms"\n{step}[[step]]\nrun = "true"\n{CREATED}'
    outcome = run(late, (0.0, event("UserCreated")))
    assert outcome.failed_step is not None
    assert outcome.failed_step.error == "was not begun: its 0.1 s are over"


def test_an_event_that_came_once_too_seldom_is_not_said_not_to_have_come(run: Run) -> None:
    text = f'timeout = "200ms"\n{CREATED}times = 5\n'
    two = [(0.0, event("UserCreated", n=n)) for n in range(2)]
    (verdict,) = run(text, *two).verdicts
    assert verdict.what == "came 2 of 5 times within 0.2 s"
    assert list(verdict.lines) == ["no other event came"]
    (verdict,) = run(text, *two, (0.0, event("UserUpdated", n=3))).verdicts
    assert verdict.lines[0] == "1 other event came, and it does not match:"


def test_an_event_that_another_expectation_has_is_said_to_match(run: Run) -> None:
    text = f'timeout = "200ms"\n{CREATED}{AGAIN}'
    outcome = run(text, (0.0, event("UserCreated", n=1)))
    (verdict,) = outcome.failures
    assert verdict.about.title == "created again"
    assert list(verdict.lines) == [
        '1 event matches, but was counted for "created":',
        '  UserCreated  s  {"n":1}',
    ]
    (verdict,) = run(text, (0.0, event("UserCreated")), (0.0, event("X"))).failures
    assert list(verdict.lines[2:]) == ["nothing asked for 1 event:", "  X  s  {}"]


def test_an_item_that_dynamodb_refuses_is_a_step_that_failed_with_its_place(
    run: Run, tmp_path: Path
) -> None:
    outcome = run(f'[[step]]\nput = {{ id = "a", refuse = true }}\n[[step]]\nrun = "x"\n{CREATED}')
    failed = outcome.failed_step
    assert failed is not None
    assert failed.fault == "refused"
    assert "dynamodb:PutItem): ValidationException: too large" in str(failed.error)
    assert not outcome.met
    (suite,) = checked(report([outcome], "2026-11-23T10:31:07.000"))
    assert [suite.attrib[name] for name in ("failures", "errors", "skipped")] == ["0", "1", "2"]
    assert f"{tmp_path}/signup.toml:1:1: cannot put" in str(suite.findtext("testcase/error"))
    (line,) = github.annotate(outcome, {})
    assert f"file={tmp_path}/signup.toml,line=1,col=1," in line
    assert f"{tmp_path}/signup.toml:1:1: put (step 1) cannot put" in github.markdown([outcome])


def test_what_is_waited_for_is_told_all_the_while(run: Run) -> None:
    class Hears(Quiet):
        def waits(self, what: str, seconds: float) -> None:
            if what not in self.heard:
                self.heard.append(what)

    teller = Hears()
    text = f'timeout = "500ms"\n[[step]]\nrun = "sleep 0.1"\nwait = "50ms"\n{CREATED}{NEVER}'
    run(text.replace("0s", "200ms"), (0.3, event("UserCreated")), teller=teller)
    assert [one for one in teller.heard if isinstance(one, str)] == [
        "run sleep 0.1",
        "waiting after run sleep 0.1",
        "waiting for created",
        "watching what else comes",
    ]


def test_a_command_that_is_interrupted_is_not_done(run: Run) -> None:
    class Soon(Stop):
        def wait(self, seconds: float | None = None) -> bool:
            self.stopped = True
            return True

    outcome = run(f'[[step]]\nrun = "sleep 60"\n{CREATED}', stop=Soon())
    (done,) = outcome.steps
    assert (done.error, done.fault, outcome.error) == ("interrupted",) * 3
    (suite,) = checked(report([outcome], "2026-11-23T10:31:07.000"))
    assert [case.attrib["name"] for case in suite if case.find("error") is not None] == [
        "run sleep 60"
    ]
    assert len(list(github.annotate(outcome, {}))) == 1
