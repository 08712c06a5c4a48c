"""A dead-letter queue that is configured is the one that every project and policy means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exporting import RULES, config_of, project

from ddbrelay.export.cdk import cdk_project
from ddbrelay.export.choices import Choices
from ddbrelay.export.iam import Scope
from ddbrelay.export.model import Project, project_of, types_of
from ddbrelay.export.pipes import pipes_of
from ddbrelay.export.policies import policy_for
from ddbrelay.export.sam import sam_document, sam_project
from ddbrelay.export.terraform import terraform_project

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/letters"
ARN = "arn:aws:sqs:eu-west-1:123456789012:letters"


def made(folder: Path, queue: str | None) -> Project:
    return project(folder, dead_letter_queue=queue)


def statements(document: dict[str, Any]) -> dict[str, Any]:
    return {one["Sid"]: one for one in document["Statement"]}


def of_sam(one: Project) -> tuple[Any, Any]:
    found = sam_document(one)["Resources"]
    policy = found["FunctionRole"]["Properties"]["Policies"][0]["PolicyDocument"]
    copies = statements(policy).get("CopyDeadLetters", {})
    variables = found["Function"]["Properties"]["Environment"]["Variables"]
    return variables["DDBRELAY_DEAD_LETTER_QUEUE"], copies.get("Resource")


def test_sam_gives_the_function_the_queue_and_the_right_to_send_to_it(tmp_path: Path) -> None:
    here = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:letters"
    assert of_sam(made(tmp_path, "letters")) == ("letters", {"Fn::Sub": here})
    there = "arn:${AWS::Partition}:sqs:eu-west-1:123456789012:letters"
    assert of_sam(made(tmp_path, URL)) == (URL, {"Fn::Sub": there})
    assert of_sam(made(tmp_path, None)) == ({"Ref": "FailedQueue"}, None)


def test_the_cdk_and_terraform_do_the_same(tmp_path: Path) -> None:
    files = cdk_project(made(tmp_path, "letters"))
    relay = json.loads(files["relay.json"])
    assert relay["function"]["deadLetterQueue"] == "letters"
    [copies] = [one for one in relay["statements"] if one["Sid"] == "CopyDeadLetters"]
    assert copies["Resource"] == ["arn:${partition}:sqs:${region}:${account}:letters"]
    assert b'function["deadLetterQueue"]' in files["stack.py"]
    values = json.loads(terraform_project(made(tmp_path, "letters"))["relay.auto.tfvars.json"])
    assert values == {"relay": relay}
    plain = json.loads(cdk_project(made(tmp_path, None))["relay.json"])
    assert plain["function"]["deadLetterQueue"] is None
    assert "CopyDeadLetters" not in [one["Sid"] for one in plain["statements"]]


@pytest.mark.parametrize("role", ["relay", "lambda"])
def test_the_policy_is_for_the_queue_of_the_url_wherever_it_is(tmp_path: Path, role: str) -> None:
    config = config_of(tmp_path, dead_letter_queue=URL)
    said = statements(policy_for(role, config, "users", Scope.of("us-east-1", None)))
    assert said["CopyDeadLetters"]["Resource"] == ARN


def test_which_queue_gets_what_is_said(tmp_path: Path) -> None:
    one = made(tmp_path, "letters")
    assert one.function_notes == (
        "dead letters go to letters, which is not made here and has no alarm; "
        "ddbrelay-users-failed gets what Lambda gave up on",
    )
    readme = sam_project(one)["README.md"].decode()
    assert "goes to your queue `letters`, which has no alarm here." in readme
    assert "a record that no rule can handle, whole" not in readme
    assert made(tmp_path, None).function_notes == ()


def test_what_a_pipe_does_not_do_with_letters_and_claims_is_said(tmp_path: Path) -> None:
    config = config_of(tmp_path, dead_letter_queue="letters", claim_check="s3://bucket-x/claims")
    choices = Choices(types=types_of(["id:S", "name:S", "type:S"]))
    notes = pipes_of(config, project_of(config, choices)).notes
    assert notes == (
        "letters gets no dead letters: a pipe reports what it gave up on to ddbrelay-users-failed",
        "a pipe writes no claim checks to s3://bucket-x/claims: what is too large for an event "
        "fails",
    )


# What else is said of a function


def test_an_outbox_on_your_own_table_expires_where_time_to_live_is_on(tmp_path: Path) -> None:
    from exporting import STREAM_ARN

    text = 'preset = "outbox"\n[source]\ntable = "users"\n[outbox]\nafter = "expire"\n'
    [note] = project(tmp_path, text, choices=Choices(stream_arn=STREAM_ARN)).function_notes
    assert note.startswith("relayed items expire only where Time to Live is switched on for expi")
    assert note.endswith("Enabled=true,AttributeName=expiresAt")
    assert project(tmp_path, text).function_notes == ()
    assert project(tmp_path, RULES, choices=Choices(stream_arn=STREAM_ARN)).function_notes == ()
