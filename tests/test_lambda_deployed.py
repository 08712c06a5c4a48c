"""The function deployed to ministack: write to the table, receive behind the bus."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lambda_runtime import HANDLER
from pipeline import Pipeline

import ddbrelay
from ddbrelay.aws.session import Aws
from ddbrelay.local import engine as engines
from ddbrelay.local.ministack import program

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize("shared_engine", ["ministack"], indirect=True),
]
Waiter = Callable[[Callable[[], bool], float], None]
RULES = """
[[rule]]
name = "order-placed"
when = {{ eventName = ["INSERT"] }}
source = "ddbrelay.{table}"
detail_type = "{{new.kind}}Placed"
detail = "{{id: keys.id, amount: new.amount}}"
[[rule]]
name = "closed"
when = {{ eventName = ["REMOVE"] }}
detail_type = "OrderClosed"
"""


@pytest.fixture(scope="module", autouse=True)
def same_python() -> None:
    """ministack runs functions in its own interpreter, which must load what is built for ours."""
    found = shutil.which(program() or "ministack")
    if found is None:
        return
    interpreter = Path(found).read_text(errors="replace").splitlines()[0].removeprefix("#!")
    asked = [interpreter, "-c", "import sys; print(sys.version_info[:2])"]
    theirs = subprocess.check_output(asked, text=True).strip()
    if theirs != str(sys.version_info[:2]):
        pytest.skip(f"ministack runs on Python {theirs}, the tests on {sys.version_info[:2]}")


def package(**files: str) -> bytes:
    """The deployment package: ddbrelay as it is, and configuration beside it."""
    code = Path(ddbrelay.__file__).parent
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in code.rglob("*.py"):
            archive.write(file, file.relative_to(code.parent))
        for name, text in files.items():
            archive.writestr(f"{name}.toml", text)
    return made.getvalue()


def deploy(aws: Aws, pipe: Pipeline, code: bytes, **variables: str) -> Any:
    """The function, and the mapping from the pipeline's stream to it; the client of Lambda."""
    client = aws.new_client("lambda")
    client.create_function(
        FunctionName=pipe.table,
        Runtime=f"python{sys.version_info.major}.{sys.version_info.minor}",
        Role="arn:aws:iam::000000000000:role/relay",
        Handler=HANDLER,
        Timeout=30,
        MemorySize=256,
        Code={"ZipFile": code},
        # The dependencies, which a layer or the package itself has on AWS.
        Environment={"Variables": {"PYTHONPATH": sysconfig.get_path("purelib"), **variables}},
    )
    client.create_event_source_mapping(
        FunctionName=pipe.table,
        EventSourceArn=pipe.stream_arn,
        StartingPosition="TRIM_HORIZON",
        BatchSize=100,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    return client


@pytest.fixture
def pipe(aws: Aws, name: str) -> Pipeline:
    return Pipeline(aws, name)


def received(pipe: Pipeline, count: int, wait_until: Waiter) -> list[dict[str, Any]]:
    """The events that come out of the queue, at least so many."""
    found: list[dict[str, Any]] = []

    def enough() -> bool:
        found.extend(pipe.received())
        return len(found) >= count

    wait_until(enough, 60)
    return found


def test_what_is_written_to_the_table_arrives_behind_the_bus(
    aws: Aws, pipe: Pipeline, wait_until: Waiter
) -> None:
    letters = aws.client("sqs").create_queue(QueueName=f"{pipe.table}-letters")["QueueUrl"]
    file = f'[bus]\nname = "{pipe.bus}"\n[relay]\ndead_letter_queue = "{pipe.table}-letters"\n'
    deploy(aws, pipe, package(ddbrelay=file + RULES.format(table=pipe.table)))
    number = "123456789012345678901234567890.5"
    for key in "abc":
        pipe.put(key, kind={"S": "Order"}, amount={"N": number}, proof={"B": b"\x00"})
    pipe.put("poison", amount={"N": "1"})
    pipe.put("a", kind={"S": "Order"}, amount={"N": "2"})
    pipe.delete("b")
    events = received(pipe, 4, wait_until)
    seen = [(one["detail-type"], one["detail"]["id"]) for one in events]
    assert sorted(seen) == [("OrderClosed", "b"), *(("OrderPlaced", key) for key in "abc")]
    assert seen.index(("OrderPlaced", "b")) < seen.index(("OrderClosed", "b"))
    assert {one["source"] for one in events} == {f"ddbrelay.{pipe.table}"}
    assert [one["resources"][0] for one in events] == [pipe.stream_arn] * 4
    sqs = aws.client("sqs")
    parked: list[dict[str, Any]] = []

    def one_is_parked() -> bool:
        got = sqs.receive_message(QueueUrl=letters, MaxNumberOfMessages=10).get("Messages", [])
        parked.extend(json.loads(message["Body"]) for message in got)
        return bool(parked)

    wait_until(one_is_parked, 30)
    (letter,) = parked
    assert letter["itemKey"] == {"id": {"S": "poison"}}
    assert letter["reason"].startswith('rule "order-placed": ')
    assert pipe.received() == []


def test_what_comes_while_the_configuration_is_missing_is_relayed_once_it_is_there(
    aws: Aws, pipe: Pipeline, engine: engines.Engine, wait_until: Waiter
) -> None:
    s3, bucket = aws.client("s3"), f"{pipe.table}-configs"
    s3.create_bucket(Bucket=bucket)
    named = f"s3://{bucket}/relay/users.toml"
    client = deploy(aws, pipe, package(), DDBRELAY_CONFIG=named)
    pipe.put("a")
    pipe.put("b")

    def it_failed() -> bool:
        (mapping,) = client.list_event_source_mappings(FunctionName=pipe.table)[
            "EventSourceMappings"
        ]
        return str(mapping.get("LastProcessingResult")) == "FAILED"

    wait_until(it_failed, 60)
    file = f'[bus]\nname = "{pipe.bus}"\nsource = "ddbrelay.{pipe.table}"\n'
    s3.put_object(Bucket=bucket, Key="relay/users.toml", Body=file.encode())
    assert [one["detail"]["id"] for one in received(pipe, 2, wait_until)] == ["a", "b"]
