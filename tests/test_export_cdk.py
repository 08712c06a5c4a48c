"""The CDK project synthesises to the template that was asked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exporting import RULES, STREAM_ARN, TOPIC, lay_out, lint, project

from ddbrelay.export.cdk import cdk_project
from ddbrelay.export.model import Choices

FULL = Choices(
    sort_key="at:N", retries=7, max_age=-1, batch_size=500, parallelization=10, alarm_topic=TOPIC
)
PYTHON = os.environ.get("DDBRELAY_CDK_PYTHON")
"""No test sees the variable itself."""
_CDK_CHOICES = "W3005"
"""The CDK says twice that a function needs its role first."""


@pytest.fixture(scope="module")
def cdk_python() -> str:
    """A Python that has aws-cdk-lib, which takes Node.js as well."""
    python = PYTHON
    missing = "DDBRELAY_CDK_PYTHON names no Python with aws-cdk-lib"
    if python is None or shutil.which("node") is None:
        why = missing if python is None else "there is no Node.js"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return python


def synthesised(python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "CDK_OUTDIR": str(folder / "cdk.out"),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
    }
    return subprocess.run(
        [python, "app.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "choices",
    [FULL, Choices(stream_arn=STREAM_ARN, existing_bus=True)],
    ids=["a new table", "an existing table"],
)
def test_the_app_synthesises_and_cfn_lint_takes_the_template(
    tmp_path: Path, cdk_python: str, choices: Choices
) -> None:
    made = project(tmp_path, choices=choices, claim_check="s3://bucket-x/{region}")
    folder = lay_out(tmp_path / "out", cdk_project(made))
    without = synthesised(cdk_python, folder)
    assert "there is no build/ yet: python3 bundle.py" in without.stderr
    shutil.copytree(folder / "function", folder / "build")
    done = synthesised(cdk_python, folder)
    assert done.returncode == 0, done.stderr
    template = folder / "cdk.out" / f"{made.function}.template.json"
    assert lint(template, "--ignore-checks", _CDK_CHOICES) == ""
    resources: dict[str, dict[str, Any]] = json.loads(template.read_text())["Resources"]
    # What looks like a placeholder in a prefix is none.
    assert ":s3:::bucket-x/{region}/*" in template.read_text()
    kinds = [one["Type"] for one in resources.values()]
    assert kinds.count("AWS::DynamoDB::Table") == (0 if choices.stream_arn else 1)
    assert kinds.count("AWS::Events::EventBus") == (0 if choices.existing_bus else 2)
    assert kinds.count("AWS::CloudWatch::Alarm") == 4
    assert "AWS::IAM::Policy" not in kinds
    [mapping] = [
        one["Properties"]
        for one in resources.values()
        if one["Type"] == "AWS::Lambda::EventSourceMapping"
    ]
    assert mapping["MaximumRetryAttempts"] == choices.retries
    assert mapping["MaximumRecordAgeInSeconds"] == choices.max_age
    assert mapping["BatchSize"] == choices.batch_size
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert len(mapping["FilterCriteria"]["Filters"]) == 2


def test_what_the_stack_consists_of_stands_in_json(tmp_path: Path) -> None:
    files = cdk_project(project(tmp_path, choices=FULL))
    relay = json.loads(files["relay.json"])
    assert relay["keys"] == [{"name": "id", "type": "S"}, {"name": "at", "type": "N"}]
    assert relay["otherBuses"] == ["audit-bus"]
    [publish] = [one for one in relay["statements"] if one["Sid"] == "PublishTheEvents"]
    assert publish["Resource"] == ["${bus}", "${otherBus:audit-bus}"]
    assert relay["mapping"]["parallelization"] == 10
    assert relay["rule"]["pattern"]["source"][0] == "myapp.users"
    assert {"app.py", "stack.py", "cdk.json", "bundle.py", "function/ddbrelay.toml"} <= set(files)


@pytest.mark.parametrize("name", ["app.py", "stack.py", "bundle.py"])
def test_the_code_of_the_project_passes_the_linter(tmp_path: Path, name: str) -> None:
    code = cdk_project(project(tmp_path))[name]
    compile(code, name, "exec")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("ruff")),
            "check",
            "--isolated",
            "--select",
            "E,F,B,UP",
            "--line-length",
            "100",
            "-",
        ],
        input=code,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize(
    ("runtime", "architecture", "expected"),
    [
        ("python3.13", "arm64", ["manylinux2014_aarch64", "manylinux_2_28_aarch64"]),
        ("python3.11", "x86_64", ["manylinux2014_x86_64"]),
    ],
)
def test_the_package_is_bundled_for_the_machine_of_the_function(
    tmp_path: Path, runtime: str, architecture: str, expected: list[str]
) -> None:
    choices = Choices(runtime=runtime, architecture=architecture)
    script = cdk_project(project(tmp_path, choices=choices))["bundle.py"].decode()
    assert f'PYTHON = "{runtime.removeprefix("python")}"' in script
    assert json.dumps(expected)[1:-1] in script


@pytest.mark.slow
def test_the_app_of_a_table_with_an_underscore_synthesises(tmp_path: Path, cdk_python: str) -> None:
    made = project(tmp_path, RULES.replace('"users"', '"user_events"'))
    folder = lay_out(tmp_path / "out", cdk_project(made))
    shutil.copytree(folder / "function", folder / "build")
    done = synthesised(cdk_python, folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "cdk.out" / f"{made.stack}.template.json").is_file()
