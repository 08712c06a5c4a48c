"""The relay as a Lambda function behind the event source mapping of a DynamoDB stream.

`ddbrelay.aws_lambda.handler` is the function's handler. It reads the same `ddbrelay.toml` as the
command line, from what DDBRELAY_CONFIG names: a path (by default `ddbrelay.toml` beside the code),
`s3://bucket/key` or `ssm:/parameter/name`; the other DDBRELAY_… variables work as everywhere.
Switch on ReportBatchItemFailures in the event source mapping: without it Lambda takes every answer
for a success. https://docs.aws.amazon.com/lambda/latest/dg/services-ddb-batchfailurereporting.html
"""

from __future__ import annotations

import asyncio
import atexit
import os
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from ddbrelay.aws_lambda import configuration
from ddbrelay.aws_lambda.batch import Delivered, deliver
from ddbrelay.aws_lambda.environment import Environment
from ddbrelay.aws_lambda.log import Log
from ddbrelay.aws_lambda.records import decode
from ddbrelay.config import ignored_variables
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import Change, Origin, UndecodableError

__all__ = ["Context", "Function", "handler"]

_MARGIN = 0.5
"""Seconds kept for the answer: a function with little memory has little processor, too."""


class Context(Protocol):
    """What is used of Lambda's context object."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""


class Function:
    """One execution environment: its event loop and its connections outlive the invocations."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ
        self._runner: asyncio.Runner | None = None
        self._environment: Environment | None = None
        self._noted: set[str] = set()

    def __call__(self, event: object, context: Context) -> dict[str, Any]:
        """Relay the records of an event; which of them Lambda must send again.

        The first record that is not settled has the lowest sequence number of those, and all
        records behind it come again. Raises the DdbrelayError after which nothing can be relayed
        before something outside is mended; then the whole event comes again.
        """
        began = time.monotonic()
        left = context.get_remaining_time_in_millis() / 1000 - _MARGIN
        log = Log(context.aws_request_id)
        try:
            streams = decode(event, partial(self._note, log))
            if self._environment is None:
                for message in ignored_variables(self._environ):
                    log.warn(message)
                spare = left - (time.monotonic() - began)
                self._environment = Environment(configuration.load(self._environ, spare))
            if self._runner is None:
                self._runner = asyncio.Runner()
            work = _relay(self._environment, streams, began, left, log)
            return {"batchItemFailures": self._runner.run(work)}
        except DdbrelayError as error:
            log.error(error.message, hint=error.hint)
            if isinstance(error, ConfigError):
                # The file may be another one when Lambda tries again.
                self.close()
            raise

    def _note(self, log: Log, note: str) -> None:
        """Say once what is odd about the stream."""
        if note not in self._noted:
            self._noted.add(note)
            log.warn(note)

    def close(self) -> None:
        """Close the connections and the loop."""
        if self._runner is not None:
            if self._environment is not None:
                self._runner.run(self._environment.close())
            self._runner.close()
        self._runner = self._environment = None


_function = Function()
atexit.register(_function.close)


def handler(event: object, context: Context) -> dict[str, Any]:
    """The function's handler, to be configured as `ddbrelay.aws_lambda.handler`."""
    return _function(event, context)


async def _relay(
    environment: Environment,
    streams: Mapping[Origin, Sequence[Record]],
    began: float,
    left: float,
    log: Log,
) -> list[dict[str, str]]:
    """The batch item failures; `left` are the seconds that there were at `began`."""
    deadline = asyncio.get_running_loop().time() + left - (time.monotonic() - began)
    failures: list[dict[str, str]] = []
    for origin, records in streams.items():
        new = [one for one in records if not environment.memory.settled(origin, one)]
        try:
            async with asyncio.timeout_at(deadline):
                first = records[0]
                lane = await environment.lane(
                    origin, _keys(first, origin), first.dynamodb.view_type, log
                )
        except TimeoutError:
            raise AwsRefused(
                "AWS did not answer in the time of the invocation",
                "more timeout or memory; in a VPC, endpoints of EventBridge, SQS and S3",
            ) from None
        done = await deliver(new, lane, deadline, log)
        environment.memory.keep(origin, done.settled, done.lowest)
        _tell(log, origin, len(records), done, began)
        if done.error is not None:
            environment.forget(origin)
            _judge(done.error, moved=done.lowest != records[0].sequence_number, log=log)
        if done.lowest is not None:
            failures.append({"itemIdentifier": done.lowest})
    return failures


def _keys(record: Record, origin: Origin) -> Collection[str]:
    try:
        return Change(record, "", origin).keys
    except UndecodableError:
        return ()


def _tell(log: Log, origin: Origin, records: int, done: Delivered, began: float) -> None:
    repeated = records - len(done.settled) - len(done.unsettled)
    say = log.warn if done.unsettled else log.info
    say(
        "relayed",
        table=origin.table,
        records=records,
        published=done.published,
        skipped=done.skipped,
        parked=done.parked,
        unsettled=len(done.unsettled),
        # Settled by an earlier invocation, and sent again by Lambda because of another record.
        repeated=repeated or None,
        retried=done.retried or None,
        lowestUnsettled=done.lowest,
        ms=round((time.monotonic() - began) * 1000),
    )


def _judge(error: BaseException, *, moved: bool, log: Log) -> None:
    """Raise the error, so that Lambda counts it; not when that would undo what was reached."""
    if not moved or not isinstance(error, DdbrelayError):
        raise error
    log.error(error.message, hint=error.hint)
