"""How `ddbrelay expect` ends: mistakes in its files, reports that go elsewhere, early readers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Cli
from pipeline import Pipeline, clear_error, running
from test_expect import MET, SWAPPED, UNMET, nothing_is_left, scenario
from test_expect_reports import checked

from ddbrelay.aws.session import Aws

pytestmark = pytest.mark.moto_first

WRONG = UNMET.replace("email", "mail").replace("put", "putt")
Waiter = Callable[[Callable[[], bool], float], None]


def test_mistakes_in_files_stand_in_annotations_and_reports(bare_cli: Cli) -> None:
    bare_cli.environment |= {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": "summary.md"}
    scenario(bare_cli, "good.toml", UNMET)
    scenario(bare_cli, "wrong.toml", WRONG)
    scenario(bare_cli, "broken.toml", "x = [\n")
    files = ("good.toml", "wrong.toml", "broken.toml", "absent.toml")
    done = bare_cli.run("expect", *files, "--junit", "report.xml", "--local")
    clear_error(done, 2, 'wrong.toml:4:1: unknown key "putt"', 'did you mean "put"?')
    said = [line for line in done.stdout.splitlines() if line.startswith("::error ")]
    assert [line.partition(",title")[0] for line in said] == [
        f"::error file={bare_cli.directory}/wrong.toml,line=4,col=1",
        f"::error file={bare_cli.directory}/broken.toml,line=2,col=1",
        f"::error file={bare_cli.directory}/absent.toml,line=1,col=1",
    ]
    assert said[0].endswith('::unknown key "putt"')
    suites = checked((bare_cli.directory / "report.xml").read_text())
    assert [suite.attrib["name"] for suite in suites] == ["good", "wrong", "broken", "absent"]
    assert [suite.attrib["errors"] for suite in suites] == ["0", "1", "1", "1"]
    assert suites[1].findtext("testcase/error") == 'wrong.toml:4:1: unknown key "putt"'
    assert "### ❌ wrong" in (bare_cli.directory / "summary.md").read_text()


@pytest.mark.slow
def test_a_key_that_is_not_the_table_s_is_annotated_at_its_line(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipeline = Pipeline(aws, name)
    cli.environment["GITHUB_ACTIONS"] = "true"
    scenario(cli, "good.toml", UNMET)
    scenario(cli, "other.toml", UNMET.replace('put = { id = "u-{run}",', "put = {"))
    done = cli.run("expect", "good.toml", "other.toml", "--junit", "report.xml")
    clear_error(done, 2, "other.toml:4:1", 'attribute "id" is missing')
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("::error ")]
    assert f"file={cli.directory}/other.toml,line=4,col=1" in line
    suites = checked((cli.directory / "report.xml").read_text())
    assert [suite.attrib["errors"] for suite in suites] == ["0", "1"]
    assert not pipeline.records()


@pytest.mark.slow
def test_a_report_goes_where_it_is_told_and_is_refused_before_the_first_write(
    cli: Cli, aws: Aws, name: str
) -> None:
    pipeline = Pipeline(aws, name)
    file = scenario(cli, "s.toml", UNMET)
    (cli.directory / "full").symlink_to("/dev/full")
    for target in ("/proc/report.xml", "s.toml/below.xml", ".", "full"):
        clear_error(
            cli.run("expect", file, "--junit", target), 2, f"--junit: cannot write {target}"
        )
    assert not pipeline.records()
    done = cli.run("expect", file, "--junit", "/dev/stdout")
    clear_error(done, 6, "did not come")
    checked(done.stdout[done.stdout.index("<?xml") :])


@pytest.mark.slow
def test_a_report_that_cannot_be_written_at_the_end_does_not_hide_the_verdict(
    cli: Cli, aws: Aws, name: str
) -> None:
    Pipeline(aws, name)
    step = '[[step]]\nrun = "rm -r out"\n'
    for text, code in ((UNMET + step, 6), (MET + step, 2)):
        (cli.directory / "out").mkdir()
        file = scenario(cli, "s.toml", text)
        done = cli.run("expect", file, "--junit", "out/report.xml")
        clear_error(done, code, "did not come" if code == 6 else "cannot write out/report.xml")
        assert "cannot write out/report.xml: No such file or directory" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("output", ["lines", "json"])
@pytest.mark.parametrize("together", [False, True])
def test_an_early_reader_does_not_hide_the_verdict(
    cli: Cli, aws: Aws, name: str, output: str, together: bool
) -> None:
    pipeline = Pipeline(aws, name)
    scenario(cli, "unmet.toml", UNMET)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        cli.arguments("expect", "unmet.toml", "--junit", "report.xml", "--output", output),
        cwd=cli.directory,
        env=cli.env(),
        stdout=writer,
        stderr=writer if together else subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 6
    assert together or done.stderr.splitlines()[-2].startswith("error: unmet: expect did not come")
    assert checked((cli.directory / "report.xml").read_text()).attrib["failures"] == "1"
    assert nothing_is_left(aws, pipeline.bus)


@pytest.mark.slow
def test_each_expectation_has_one_verdict_and_a_terminal_says_which_row_counts(
    cli: Cli, aws: Aws, name: str
) -> None:
    Pipeline(aws, name)
    file = scenario(cli, "swapped.toml", SWAPPED)
    done = cli.run("expect", file, "--output", "json")
    objects = [json.loads(line) for line in done.stdout.splitlines()]
    names = [one["name"] for one in objects if one["type"] in {"met", "unmet"}]
    assert sorted(names) == ["changed", "created"]
    done = cli.run("expect", file)
    assert "  ✔ created " in done.stdout
    assert "  ✖ created: must come before " in done.stdout
    assert "(✔ above no longer counts)" in done.stdout


@pytest.mark.slow
def test_a_scenario_to_which_nothing_came_at_all_says_so_though_it_is_met(
    cli: Cli, aws: Aws, name: str
) -> None:
    Pipeline(aws, name)
    text = UNMET.replace("[[expect]]", "[[never]]\nfor = '100ms'")
    file = scenario(cli, "never.toml", text)
    done = cli.ok("expect", file)
    assert "never: no event came at all: is a relay running? --relay runs one" in done.stderr
    assert "no event came at all" not in cli.ok("expect", file, "--relay").stderr


@pytest.mark.slow
def test_two_interrupts_of_a_command_end_with_130_and_a_report(
    cli: Cli, aws: Aws, name: str, wait_until: Waiter
) -> None:
    pipeline = Pipeline(aws, name)
    text = (
        UNMET
        + "\n[[step]]\nrun = \"trap '' TERM; echo $$ >pid; touch begun; sleep 60; sleep 60\"\n"
    )
    file = scenario(cli, "s.toml", text)
    with running(cli, "expect", file, "--timeout", "60s", "--junit", "report.xml") as run:
        wait_until(lambda: (cli.directory / "begun").exists(), 30)
        run.signal(signal.SIGINT)
        run.signal(signal.SIGINT)
        code, said = run.wait()
    assert (code, said.splitlines()[-1]) == (130, "error: interrupted")
    with pytest.raises(ProcessLookupError):
        os.kill(int((cli.directory / "pid").read_text()), 0)
    assert checked((cli.directory / "report.xml").read_text()).attrib["errors"] == "1"
    assert [one.name for one in Path(cli.directory).glob(".ddbrelay-*")] == []
    assert nothing_is_left(aws, pipeline.bus)
