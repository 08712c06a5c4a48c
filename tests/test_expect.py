"""`ddbrelay expect` from write to delivery, and the probes by which a rule is known to deliver."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Cli
from pipeline import Pipeline, clear_error, running
from test_expect_reports import checked
from test_listen import made_for_listening, publish

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused
from ddbrelay.infra.probing import ProbedListener, wait_until_delivering

pytestmark = pytest.mark.moto_first

MET = """
relay = true
[[step]]
put = { id = "u-{run}", email = "a", n = 12345678901234567890.5 }
[[step]]
update = { key = { id = "u-{run}" }, set = { email = "b" } }
[[step]]
run = "test -n $DDBRELAY_EXPECT_RUN && test -n $AWS_ENDPOINT_URL"
[[expect]]
name = "created"
event = { detail = { id = ["u-{run}"], email = ["a"] } }
times = 1
for = "0s"
[[expect]]
name = "changed"
event = { detail = { id = ["u-{run}"], email = ["b"] } }
"""
SWAPPED = MET.replace('["a"]', '["A"]').replace('["b"]', '["a"]').replace('["A"]', '["b"]')
UNMET = """
timeout = "2s"
[[step]]
put = { id = "u-{run}", email = "a" }
[[expect]]
event = { detail = { id = ["u-{run}"], email = ["c"] } }
"""
Waiter = Callable[[Callable[[], bool], float], None]


def scenario(cli: Cli, name: str, text: str) -> str:
    (cli.directory / name).write_text(text)
    return name


def nothing_is_left(aws: Aws, bus: str) -> bool:
    return made_for_listening(aws, bus) == ([], [])


def test_a_listener_delivers_once_its_probes_came_and_gives_out_no_probe(
    aws: Aws, name: str
) -> None:
    bus = f"{name}-bus"
    aws.client("events").create_event_bus(Name=bus)
    with ProbedListener(aws, bus=bus, sources=[f"ddbrelay.{name}"]) as listener:
        (before,) = publish(aws, bus, f"ddbrelay.{name}", {"id": "a"})
        wait_until_delivering(aws, listener, bus, timeout=20)
        (after,) = publish(aws, bus, f"ddbrelay.{name}", {"id": "b"})
        found = [*listener.receive(1), *listener.receive(1)]
        assert [one.event["id"] for one in found] == [before, after]
        listener.probe_source = "of-another"
        with pytest.raises(AwsRefused, match="delivers nothing after 0 s"):
            wait_until_delivering(aws, listener, bus, timeout=0)
    assert nothing_is_left(aws, bus)


@pytest.mark.slow
def test_scenarios_are_run_and_judged_one_after_the_other(cli: Cli, aws: Aws, name: str) -> None:
    pipeline = Pipeline(aws, name)
    cli.environment |= {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(cli.directory / "summary.md"),
        "DDBRELAY_IDLE_INTERVAL": "100ms",
    }
    files = [
        scenario(cli, f"{one}.toml", text)
        for one, text in (("met", MET), ("swapped", SWAPPED), ("unmet", UNMET))
    ]
    pipeline.put("before")
    options = ("--relay", "--keep-going", "--junit", "report.xml", "--output", "json")
    done = cli.run("expect", *files, *options)
    clear_error(done, 6, "swapped: created must come before", "unmet: expect did not come")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    found = [(one["scenario"], one["type"], one.get("name")) for one in objects[:-1]]
    judged = [one for one in found if one[1] != "step"]
    assert sorted(judged[:2]) == [("met", "met", "changed"), ("met", "met", "created")]
    assert ("swapped", "unmet", "created") in judged
    assert judged[-1] == ("unmet", "unmet", "expect")
    disorder = next(one for one in objects if one.get("reason") == "order")
    assert "sequence numbers" in disorder["explanation"][0]
    assert [one["detail"]["email"] for one in disorder["events"]] == ["a", "b"]
    summary = objects[-1]
    assert (summary["met"], summary["unmet"], summary["events"]) == (1, 2, 5)
    suites = checked((cli.directory / "report.xml").read_text())
    assert [suite.attrib["failures"] for suite in suites] == ["0", "1", "1"]
    annotations = [line for line in done.stderr.splitlines() if line.startswith("::error ")]
    assert [line.partition(",col")[0] for line in annotations] == [
        f"::error file={cli.directory}/swapped.toml,line=9",
        f"::error file={cli.directory}/unmet.toml,line=5",
    ]
    assert "❌" in (cli.directory / "summary.md").read_text()
    assert nothing_is_left(aws, pipeline.bus)
    # No checkpoint of anybody was made or moved.
    assert not list(Path(cli.environment["DDBRELAY_STATE_DIR"]).rglob("*.db"))


@pytest.mark.slow
def test_what_never_arrives_is_told_with_what_the_relay_said(cli: Cli, aws: Aws, name: str) -> None:
    pipeline = Pipeline(aws, name)
    (cli.directory / "ddbrelay.toml").write_text('[[rule]]\ndetail_type = "{new.no}"\n')
    never = scenario(cli, "never.toml", UNMET)
    after = scenario(cli, "after.toml", MET)
    done = cli.run("expect", never, after, "--relay", "--junit", "report.xml")
    clear_error(done, 6, "never: expect did not come within 2 s", "1 scenario not run")
    assert "no event came" in done.stdout
    assert "not met: 0 of 1 expectation in 2" in done.stdout
    assert "relay: parked INSERT id=u-" in done.stderr
    root = ElementTree.fromstring((cli.directory / "report.xml").read_text())
    assert [suite.attrib["skipped"] for suite in root] == ["0", "5"]
    assert "parked INSERT" in str(root[0].findtext("system-err"))
    assert nothing_is_left(aws, pipeline.bus)


@pytest.mark.slow
def test_mistakes_and_refusals_end_before_anything_is_written(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipeline = Pipeline(aws, name)
    good = scenario(cli, "good.toml", UNMET)
    wrong = scenario(cli, "wrong.toml", UNMET.replace("email", "mail").replace("put", "putt"))
    clear_error(cli.run("expect", good, wrong), 2, "wrong.toml:4:1", 'did you mean "put"?')
    other = scenario(cli, "other.toml", UNMET.replace('put = { id = "u-{run}",', "put = {"))
    clear_error(cli.run("expect", good, other), 2, "other.toml:4:1", 'attribute "id" is missing')
    clear_error(cli.run("expect", good, "--timeout", "0"), 2, "--timeout: nothing can come")
    clear_error(cli.run("expect", good, "--junit", "no/folder.xml"), 2, "there is no folder no")
    done = cli.run("expect", good, "--bus", "none", "--junit", "report.xml")
    clear_error(done, 5, 'bus "none" does not exist')
    root = checked((cli.directory / "report.xml").read_text())
    assert root.attrib["errors"] == "1"
    assert not pipeline.records()
    assert nothing_is_left(aws, pipeline.bus)


@pytest.mark.slow
def test_a_write_that_is_refused_is_told_with_its_place_and_the_next_file_is_run(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipeline = Pipeline(aws, name)
    cli.environment["GITHUB_ACTIONS"] = "true"
    large = scenario(cli, "large.toml", UNMET.replace('"a"', f'"{"x" * 500_000}"'))
    met = scenario(cli, "met.toml", MET)
    done = cli.run("expect", large, met, "--keep-going", "--junit", "r.xml", "--output", "json")
    clear_error(done, 5, "large.toml:3:1: put (step 1): cannot put an item", "hint: ")
    first, *others = [json.loads(line) for line in done.stdout.splitlines()]
    assert (first["type"], first["ok"], first["line"]) == ("step", False, 3)
    assert (others[-1]["met"], others[-1]["unmet"]) == (1, 1)
    root = checked((cli.directory / "r.xml").read_text())
    assert [suite.attrib["errors"] for suite in root] == ["1", "0"]
    assert f"::error file={cli.directory}/large.toml,line=3," in done.stderr
    done = cli.run("expect", large, met)
    clear_error(done, 5, "large.toml:3:1: put (step 1): cannot put an item", "1 scenario not run")
    assert "✖ put id=u-" in done.stdout
    assert "      at large.toml:3:1" in done.stdout
    assert nothing_is_left(aws, pipeline.bus)


@pytest.mark.slow
def test_an_interrupt_leaves_no_rule_and_no_queue(
    cli: Cli, aws: Aws, name: str, wait_until: Waiter
) -> None:
    pipeline = Pipeline(aws, name)
    file = scenario(cli, "s.toml", UNMET + '\n[[step]]\nrun = "touch begun; sleep 60"\n')
    words = ("expect", file, "--timeout", "60s", "--relay", "--junit", "report.xml")
    with running(cli, *words) as run:
        wait_until(lambda: (cli.directory / "begun").exists(), 30)
        assert not nothing_is_left(aws, pipeline.bus)
        run.signal(signal.SIGINT)
        code, said = run.wait()
    assert (code, said.splitlines()[-1]) == (130, "error: interrupted")
    assert nothing_is_left(aws, pipeline.bus)
    root = checked((cli.directory / "report.xml").read_text())
    assert [one.attrib["message"] for one in root.iter("error")] == ["interrupted"]
