"""The SAM project deployed to ministack by CloudFormation: write an item, receive its event."""

from __future__ import annotations

import io
import json
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from exporting import project

import ddbrelay
from ddbrelay.aws.session import Aws
from ddbrelay.export.model import Choices, Project
from ddbrelay.export.sam import sam_document

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("shared_engine", ["ministack"], indirect=True),
]
RULES = """
[source]
table = "TABLE"

[[rule]]
name = "placed"
when = { eventName = ["INSERT"], new = { type = [{ prefix = "order#" }] } }
detail_type = "OrderPlaced"
detail = "{id: keys.id, amount: new.amount}"
"""


def package(files: Mapping[str, bytes]) -> bytes:
    """What `sam build` and `sam package` make of the function's folder."""
    code = Path(ddbrelay.__file__).parent
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in code.rglob("*.py"):
            archive.write(file, file.relative_to(code.parent))
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def template(made: Project, bucket: str) -> dict[str, Any]:
    """The template as CloudFormation gets it, after the transform."""
    from samtranslator.translator.transform import transform

    document = json.loads(json.dumps(sam_document(made)))
    function = document["Resources"]["Function"]["Properties"]
    function["CodeUri"] = f"s3://{bucket}/package.zip"
    # The dependencies, which the package itself has on AWS.
    function["Environment"]["Variables"]["PYTHONPATH"] = sysconfig.get_path("purelib")

    class NoPolicies:
        def load(self) -> dict[str, str]:
            return {}

    transformed: dict[str, Any] = transform(document, {}, NoPolicies())
    return transformed


def test_what_is_written_to_the_table_reaches_the_consumer(
    aws: Aws,
    name: str,
    tmp_path: Path,
    wait_until: Callable[[Callable[[], bool], float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", aws.region)
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    made = project(
        tmp_path,
        RULES.replace("TABLE", name),
        choices=Choices(runtime=python, architecture="x86_64"),
    )
    aws.client("s3").create_bucket(Bucket=name)
    aws.client("s3").put_object(Bucket=name, Key="package.zip", Body=package(made.files))
    stacks = aws.client("cloudformation")
    stacks.create_stack(
        StackName=name,
        TemplateBody=json.dumps(template(made, name)),
        Capabilities=["CAPABILITY_IAM"],
    )
    described: list[dict[str, Any]] = []

    def settled() -> bool:
        described[:] = stacks.describe_stacks(StackName=name)["Stacks"]
        return not described[0]["StackStatus"].endswith("IN_PROGRESS")

    wait_until(settled, 60)
    assert described[0]["StackStatus"] == "CREATE_COMPLETE"
    items = aws.client("dynamodb")
    for key, kind in (("1", "user"), ("2", "order#1")):
        item = {"id": {"S": key}, "type": {"S": kind}, "amount": {"N": "12.50"}}
        items.put_item(TableName=name, Item=item)
    queues = aws.client("sqs")
    url = queues.get_queue_url(QueueName=made.queue)["QueueUrl"]
    events: list[dict[str, Any]] = []

    def received() -> bool:
        answer = queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
        events.extend(json.loads(message["Body"]) for message in answer.get("Messages", []))
        return bool(events)

    wait_until(received, 60)
    assert [(one["detail-type"], one["detail"]["id"]) for one in events] == [("OrderPlaced", "2")]
    assert events[0]["source"] == f"ddbrelay.{name}"
