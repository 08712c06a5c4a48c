"""The Terraform project is HCL, formatted as Terraform formats it, and complete."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from exporting import RULES, STREAM_ARN, TOPIC, lay_out, project
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.export.hcl import Block, Expression, Template, document, encoded
from ddbrelay.export.model import Choices
from ddbrelay.export.terraform import terraform_project

FULL = Choices(sort_key="at:N", retries=7, max_age=-1, parallelization=10, alarm_topic=TOPIC)
terraform = pytest.mark.skipif(
    shutil.which("terraform") is None, reason="there is no terraform program"
)


def text(value: Any) -> Any:
    return value[1:-1] if isinstance(value, str) and value.startswith('"') else value


def resources(files: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """The blocks of resources, by `kind.name`."""
    import hcl2

    found = {}
    for name, content in files.items():
        if not name.endswith(".tf"):
            continue
        for block in hcl2.loads(content.decode()).get("resource", []):
            [(kind, named)] = [pair for pair in block.items() if pair[0] != "__is_block__"]
            for key, body in named.items():
                if key != "__is_block__":
                    found[f"{text(kind)}.{text(key)}"] = body
    return found


@pytest.mark.slow
def test_every_file_is_hcl_and_every_part_is_there(tmp_path: Path) -> None:
    found = resources(terraform_project(project(tmp_path, choices=FULL)))
    assert found.keys() == {
        "aws_dynamodb_table.this",
        "aws_cloudwatch_event_bus.this",
        "aws_cloudwatch_event_bus.other",
        "aws_sqs_queue.consumer",
        "aws_sqs_queue.consumer_dead",
        "aws_sqs_queue.failed",
        "aws_cloudwatch_event_rule.consumer",
        "aws_cloudwatch_event_target.consumer",
        "aws_sqs_queue_policy.consumer",
        "aws_sqs_queue_policy.consumer_dead",
        "aws_cloudwatch_log_group.function",
        "aws_iam_role.function",
        "aws_iam_role_policy.function",
        "aws_lambda_function.this",
        "aws_lambda_event_source_mapping.stream",
        "aws_cloudwatch_metric_alarm.iterator_age",
        "aws_cloudwatch_metric_alarm.errors",
        "aws_cloudwatch_metric_alarm.failed",
        "aws_cloudwatch_metric_alarm.consumer_dead",
    }
    buses = found["aws_cloudwatch_event_bus.other"]
    assert (text(buses["name"]), buses["for_each"]) == ("${each.value}", '${toset(["audit-bus"])}')
    assert 'aws_cloudwatch_event_bus.other["audit-bus"].arn' in str(
        found["aws_iam_role_policy.function"]
    ).replace("\\", "")
    mapping = found["aws_lambda_event_source_mapping.stream"]
    assert mapping["parallelization_factor"] == 10
    assert mapping["maximum_retry_attempts"] == 7
    assert mapping["maximum_record_age_in_seconds"] == -1
    assert mapping["bisect_batch_on_function_error"] is True
    assert [text(one) for one in mapping["function_response_types"]] == ["ReportBatchItemFailures"]
    [criteria] = mapping["filter_criteria"]
    assert len(criteria["filter"]) == 2


@pytest.mark.slow
def test_an_existing_table_is_not_made_again(tmp_path: Path) -> None:
    choices = Choices(stream_arn=STREAM_ARN, existing_bus=True)
    found = resources(terraform_project(project(tmp_path, choices=choices)))
    assert "aws_dynamodb_table.this" not in found
    assert not [name for name in found if name.startswith("aws_cloudwatch_event_bus.")]
    stream = found["aws_lambda_event_source_mapping.stream"]["event_source_arn"]
    assert text(stream) == STREAM_ARN


@terraform
@pytest.mark.parametrize(
    "choices", [Choices(), FULL, Choices(stream_arn=STREAM_ARN, existing_bus=True)]
)
@pytest.mark.slow
def test_terraform_would_format_nothing_in_another_way(tmp_path: Path, choices: Choices) -> None:
    files = terraform_project(
        project(tmp_path, RULES, choices=choices, claim_check="s3://bucket-x/claims")
    )
    folder = lay_out(tmp_path / "out", files)
    done = formatted(folder)
    assert (done.returncode, done.stdout) == (0, "")


def formatted(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["terraform", "fmt", "-check", "-diff", "-recursive", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TF_CLI_CONFIG_FILE": os.devnull, "CHECKPOINT_DISABLE": "1"},
    )


def test_what_looks_like_a_template_in_a_text_is_a_text() -> None:
    blocks = [
        Block("output", ("it",), {"value": 'a "${quoted}" %{text}', "also": Template("${a.b}")})
    ]
    assert document(blocks) == (
        'output "it" {\n  value = "a \\"$${quoted}\\" %%{text}"\n  also  = "${a.b}"\n}\n'
    )


def test_objects_are_aligned_and_several_lines_stand_apart() -> None:
    value = encoded({"a": 1, "long-name": Expression("x.y"), "aws:Key": ["é"], "in": {"b": None}})
    assert document([Block("locals", (), {"policy": value, "one": True})]) == (
        "locals {\n"
        "  policy = jsonencode({\n"
        "    a         = 1\n"
        "    long-name = x.y\n"
        '    "aws:Key" = ["é"]\n'
        "    in = {\n"
        "      b = null\n"
        "    }\n"
        "  })\n"
        "\n"
        "  one = true\n"
        "}\n"
    )


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=20))
def test_any_text_stays_the_text_that_it_is(value: str) -> None:
    written = document([Block("locals", (), {"it": value})])
    line = written.splitlines()[1].removeprefix("  it = ")
    assert json.loads(line).replace("$${", "${").replace("%%{", "%{") == value
