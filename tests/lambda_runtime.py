"""Lambda on this machine: its runtime API, its event, its context, and a queue beside it.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

from wire import Request, http, operation_of

from ddbrelay.flow.capture import Record
from ddbrelay.testing.builders import ORIGIN

_API = "/2018-06-01/runtime"
HANDLER = "ddbrelay.aws_lambda.handler"


def event_of(*records: Record, arn: str = ORIGIN.stream_arn) -> dict[str, Any]:
    """What the function gets for these records, as its runtime decodes it."""
    return {"Records": [_in_event(record, arn) for record in records]}


def _in_event(record: Record, arn: str) -> dict[str, Any]:
    of = record.dynamodb
    change: dict[str, Any] = {
        "Keys": json.loads(bytes(of.keys)),
        "SequenceNumber": of.sequence_number,
        "SizeBytes": of.size or 59,
        "StreamViewType": of.view_type or "NEW_AND_OLD_IMAGES",
    }
    for name, image in (("NewImage", of.new_image), ("OldImage", of.old_image)):
        if image:
            change[name] = json.loads(bytes(image))
    if of.created_at is not None:
        change["ApproximateCreationDateTime"] = of.created_at
    made = {
        "eventID": record.event_id,
        "eventName": record.event_name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": arn.split(":")[3],
        "dynamodb": change,
        "eventSourceARN": arn,
    }
    if (by := record.identity) is not None:
        made["userIdentity"] = {"type": by.type_upper, "principalId": by.principal_upper}
    return made


class Context:
    """What the handler is told of its invocation; the time begins to run when this is made."""

    def __init__(self, seconds: float = 20.0) -> None:
        self.aws_request_id = str(uuid4())
        self._ends_at = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self._ends_at - time.monotonic()) * 1000))


@dataclass
class Queue:
    """A dead-letter queue as SQS answers; `says` gives another answer to a request."""

    letters: list[dict[str, Any]] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    """Sequence numbers whose messages it never takes."""
    says: Callable[[str], bytes | None] = lambda operation: None
    asked: list[str] = field(default_factory=list)

    def respond(self, request: Request) -> bytes:
        operation = operation_of(request)
        self.asked.append(operation)
        if (answer := self.says(operation)) is not None:
            return answer
        if operation == "GetQueueUrl":
            return json_answer({"QueueUrl": "http://127.0.0.1/1/letters"})
        if operation == "GetQueueAttributes":
            return json_answer({"Attributes": {"MaximumMessageSize": "1048576"}})
        entries = json.loads(request[3])["Entries"]
        bodies = {entry["Id"]: json.loads(entry["MessageBody"]) for entry in entries}
        failed = [i for i, one in bodies.items() if one["sequenceNumber"] in self.refuses]
        self.letters += [one for i, one in bodies.items() if i not in failed]
        return json_answer(
            {
                "Successful": [{"Id": i, "MessageId": "m"} for i in bodies if i not in failed],
                "Failed": [
                    {"Id": i, "Code": "InvalidMessageContents", "SenderFault": True} for i in failed
                ],
            }
        )

    def parked(self) -> list[tuple[str, bool]]:
        return [(one["sequenceNumber"], one["behind"]) for one in self.letters]


def json_answer(value: Any, status: int = 200) -> bytes:
    return http(status, json.dumps(value).encode(), "Content-Type: application/x-amz-json-1.0")


def refused(code: str, status: int = 400) -> bytes:
    return json_answer({"__type": f"com.amazonaws.sqs#{code}", "message": "simulated"}, status)


def took(request: Request) -> bytes:
    """The answer of a bus that takes every entry."""
    entries = json.loads(request[3])["Entries"]
    return json_answer({"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in entries]})


@dataclass
class Answer:
    """How an invocation ended: `error` is set where the handler raised."""

    body: Any
    error: bool = False


@dataclass
class _Invocation:
    event: Any
    seconds: float
    id: str = field(default_factory=lambda: str(uuid4()))
    answer: Answer | None = None
    answered: threading.Event = field(default_factory=threading.Event)


class Runtime:
    """One execution environment: AWS's own runtime client in a process, and the API it asks."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._waiting: queue.Queue[_Invocation | None] = queue.Queue()
        self._open: dict[str, _Invocation] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        # A request for the next invocation has no answer when the process is killed.
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self._output = directory / "output.log"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", HANDLER],
                cwd=directory,
                env={
                    **os.environ,
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
                    "AWS_LAMBDA_FUNCTION_NAME": "relay",
                    "LAMBDA_TASK_ROOT": str(directory),
                    **environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def invoke(self, event: Any, seconds: float = 20.0) -> Answer:
        """Hand an event to the function and wait for its answer."""
        invocation = _Invocation(event, seconds)
        self._open[invocation.id] = invocation
        self._waiting.put(invocation)
        deadline = time.monotonic() + seconds + 20
        while not invocation.answered.wait(0.1):
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
        assert invocation.answer is not None
        return invocation.answer

    def next(self) -> _Invocation | None:
        return self._waiting.get()

    def end(self, request_id: str, answer: Answer) -> None:
        invocation = self._open.pop(request_id)
        invocation.answer = answer
        invocation.answered.set()

    def output(self) -> str:
        """All that the function has written to its log."""
        return self._output.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """Its JSON log lines."""
        return [json.loads(one) for one in self.output().splitlines() if one.startswith("{")]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._waiting.put(None)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(runtime: Runtime) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.path == f"{_API}/invocation/next", self.path
            invocation = runtime.next()
            if invocation is None:
                self.close_connection = True
                return
            # As Lambda gives them: the client crashes without a Content-Type.
            self._answer(
                200,
                json.dumps(invocation.event).encode(),
                {
                    "Lambda-Runtime-Aws-Request-Id": invocation.id,
                    "Lambda-Runtime-Deadline-Ms": str(
                        round((time.time() + invocation.seconds) * 1000)
                    ),
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:1:function:f",
                    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0",
                    "Content-Type": "application/json",
                },
            )

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            *_, request_id, what = self.path.split("/")
            runtime.end(request_id, Answer(body, what == "error"))
            self._answer(202, b'{"status":"OK"}', {})

        def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    return Handler


@contextmanager
def running(directory: Path, environment: dict[str, str]) -> Iterator[Runtime]:
    """An environment until the block is left; `directory` is where the function's code lies."""
    runtime = Runtime(directory, environment)
    try:
        yield runtime
    finally:
        runtime.close()


def lowest(answer: dict[str, Any]) -> str | None:
    """The sequence number from which on Lambda sends the records again, as it reads the answer."""
    found: Sequence[dict[str, str]] = answer["batchItemFailures"]
    return min((one["itemIdentifier"] for one in found), key=int, default=None)
