"""Receiving what a rule delivers to a queue; where there is no queue, through a temporary one.

SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
The envelope: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from ddbrelay.errors import AwsRefused, DdbrelayError
from ddbrelay.flow.offloading import Reference, claim_of, place_of, restore
from ddbrelay.infra.calls import NOT_FOUND, attempt, call
from ddbrelay.infra.events import refuse_failed_entries
from ddbrelay.infra.names import PREFIX
from ddbrelay.infra.plan import DEFAULT_BUS, MANAGED_BY, Place
from ddbrelay.infra.queue import sending_statement

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient

    from ddbrelay.aws.session import Aws

TEMPORARY = "ddbrelay:temporary"
_TAGS = {MANAGED_BY: "ddbrelay", TEMPORARY: "true"}
_TARGET = "queue"
_BATCH = 10
"""Messages in one receive, delete or visibility request of SQS."""
_LONGEST_POLL = 20
_DELETE_ATTEMPTS, _AFTER_INTERRUPT = 4, 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Received:
    """One message.

    `body` is its text as it came; `event` the same decoded, with numbers as Python has them, and
    empty when the text is not a JSON object. `received_at` is in epoch seconds. `claim` and
    `claim_error` are what `followed` found.
    """

    event: dict[str, Any]
    body: str
    message_id: str
    receipt_handle: str
    received_at: float
    claim: Reference | None = None
    claim_error: str | None = None


def followed(aws: Aws, received: Received, buckets: Collection[str] | None) -> Received:
    """The message with the detail that its claim check stands for; itself when it has none.

    Where the detail cannot be had, or is not what was written, `claim_error` says why and the event
    keeps its reference. Anybody who may publish names the bucket, so only those of `buckets` are
    read (None: any).
    """
    from ddbrelay.aws.claims import fetch

    claim = claim_of(received.event.get("detail"))
    if claim is None:
        return received
    if buckets is not None and claim.bucket not in buckets:
        said = (
            f"{claim.url} is not in a bucket that is followed (claim_check, "
            f"--follow-claims {claim.bucket})"
        )
        return replace(received, claim=claim, claim_error=said)
    try:
        body = restore(received.body, fetch(aws, claim))
    except DdbrelayError as error:
        return replace(received, claim=claim, claim_error=error.message)
    except ValueError:
        body = ""
    if event := _decode(body):
        return replace(received, event=event, body=body, claim=claim)
    return replace(received, claim=claim, claim_error=f"{claim.url} holds no JSON object")


def followed_buckets(address: str | None, others: Sequence[str]) -> frozenset[str]:
    """The bucket of the configured `claim_check`, where it is an address, and others."""
    with suppress(ValueError):
        return frozenset([place_of(address or "")[0], *others])
    return frozenset(others)


def find_queue(aws: Aws, queue: str) -> str | None:
    """The URL of a queue given by name or URL, None when no queue has that name."""
    if "://" in queue:
        return queue
    doing = f"find the queue {queue}"
    answer = attempt(aws.client("sqs"), "get_queue_url", doing, NOT_FOUND, QueueName=queue)
    return str(answer["QueueUrl"]) if answer else None


def has_rule(aws: Aws, bus: str, rule: str) -> bool:
    """Whether the bus has a rule of this name; False too when there is no such bus."""
    doing = f"describe the rule {bus}/{rule}"
    events = aws.client("events")
    found = attempt(events, "describe_rule", doing, NOT_FOUND, Name=rule, EventBusName=bus)
    return found is not None


class Listener:
    """A context that receives the messages of a queue, and leaves nothing behind.

    With `queue` (name or URL) it reads that queue; without one it makes a rule on `bus` for the
    events of `sources` (None: all events of the bus) with a queue of its own, and removes both when
    the context ends, however it ends. A message stays in the queue until `done`; what was received
    and not done is visible to others again at the end. `keep` leaves every message in the queue and
    returns each one once.

    Entering raises AwsRefused when the queue or the bus does not exist; leaving raises it when the
    temporary rule or queue could not be removed, and names them. An interrupt during either waits
    until no request is under way, for 5 s at most.
    """

    def __init__(
        self,
        aws: Aws,
        *,
        bus: str = DEFAULT_BUS,
        sources: Sequence[Any] | None = None,
        queue: str | None = None,
        keep: bool = False,
    ) -> None:
        self._aws = aws
        self._sqs: SQSClient = aws.client("sqs")
        self._polls: SQSClient = aws.new_client("sqs", read_timeout=30)
        self._sources = sources
        self._queue = queue
        self._keep = keep
        self._temporary = _Temporary(aws, bus) if queue is None else None
        self._held: dict[str, str] = {}
        self._url = ""

    @property
    def temporary(self) -> bool:
        """Whether rule and queue were made by this listener."""
        return self._temporary is not None

    @property
    def name(self) -> str:
        """The name of the queue; a temporary one's rule has the same."""
        if self._temporary is not None:
            return self._temporary.name
        return str(self._queue).rpartition("/")[2]

    def __enter__(self) -> Self:
        if self._temporary is None:
            url = find_queue(self._aws, str(self._queue))
            if url is None:
                raise AwsRefused(
                    f'queue "{self._queue}" does not exist ({self._aws.region})',
                    "leave out --queue to listen through a temporary one",
                )
            self._url = url
            return self
        temporary = self._temporary
        try:
            _uncut(lambda: temporary.create(self._sources))
        except BaseException:
            self._leave(quietly=True)
            raise
        self._url = temporary.url
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._leave(quietly=error is not None)

    def receive(self, wait: float, limit: int = _BATCH) -> list[Received]:
        """One long poll of at most `wait` seconds (whole ones, up to 20) for 1 to 10 messages."""
        answer = call(
            self._polls,
            "receive_message",
            f"receive from the queue {self.name}",
            QueueUrl=self._url,
            MaxNumberOfMessages=max(1, min(_BATCH, limit)),
            WaitTimeSeconds=max(0, min(_LONGEST_POLL, int(wait))),
        )
        now = time.time()
        fresh = []
        for message in answer.get("Messages", ()):
            number, handle, body = (message[k] for k in ("MessageId", "ReceiptHandle", "Body"))
            if not (self._keep and number in self._held):
                fresh.append(Received(_decode(body), body, number, handle, now))
            self._held[number] = handle
        return fresh

    def done(self, received: Sequence[Received]) -> None:
        """Delete the messages; with `keep` nothing happens.

        Entries that fail on the side of SQS are tried again, and AwsRefused tells how many are
        left. An entry whose receipt has run out is not an error: its message comes again.
        """
        if self._keep:
            return
        handles = iter({r.message_id: r.receipt_handle for r in received}.items())
        while batch := dict(islice(handles, _BATCH)):
            self._delete(batch)
            for number in batch:
                self._held.pop(number, None)

    def _delete(self, handles: dict[str, str]) -> None:
        code = ""
        for number in range(_DELETE_ATTEMPTS):
            if number:
                time.sleep(0.1 * 2**number)
            answer = call(
                self._sqs,
                "delete_message_batch",
                f"delete messages of the queue {self.name}",
                QueueUrl=self._url,
                Entries=[{"Id": i, "ReceiptHandle": handle} for i, handle in handles.items()],
            )
            failed = answer.get("Failed", [])
            for entry in failed:
                code = entry["Code"]
                _log.info("message %s is not deleted: %s", entry["Id"], code)
            handles = {e["Id"]: handles[e["Id"]] for e in failed if not e.get("SenderFault")}
            if not handles:
                return
        raise AwsRefused(
            f"cannot delete {len(handles)} messages from the queue {self.name}: {code}",
            "they will be received again",
            code=code,
        )

    def _leave(self, *, quietly: bool) -> None:
        try:
            _uncut(self._temporary.remove if self._temporary else self._release)
        except DdbrelayError as error:
            if not quietly:
                raise
            _log.warning("%s", f"{error.message} ({error.hint})" if error.hint else error.message)

    def _release(self) -> None:
        handles: Iterator[tuple[str, str]] = iter(self._held.items())
        while batch := list(islice(handles, _BATCH)):
            # An entry fails when its message is visible again already, which is what is wanted.
            call(
                self._sqs,
                "change_message_visibility_batch",
                f"give messages back to the queue {self.name}",
                QueueUrl=self._url,
                Entries=[
                    {"Id": number, "ReceiptHandle": handle, "VisibilityTimeout": 0}
                    for number, handle in batch
                ],
            )


class _Temporary:
    """A rule and a queue of one name that no other listener has; `remove` works at any point."""

    def __init__(self, aws: Aws, bus: str) -> None:
        self.name = f"{PREFIX}listen-{uuid4().hex[:8]}"
        self.url = ""
        self._aws = aws
        self._bus = bus
        self._events = aws.client("events")
        self._sqs = aws.client("sqs")

    def create(self, sources: Sequence[Any] | None) -> None:
        """Rule, queue, and the one as the target of the other."""
        rule = attempt(
            self._events,
            "put_rule",
            f"make the temporary rule {self.name}",
            NOT_FOUND,
            Name=self.name,
            EventBusName=self._bus,
            EventPattern=json.dumps({"source": [*(sources or [{"prefix": ""}])]}),
            Description="ddbrelay listen; removed when it ends",
            Tags=[{"Key": key, "Value": value} for key, value in _TAGS.items()],
        )
        if rule is None:
            raise AwsRefused(
                f'bus "{self._bus}" does not exist ({self._aws.where})',
                f"{self._aws.provision(self._bus)} makes it",
            )
        queue_arn = Place.of(rule["RuleArn"]).queue(self.name)
        statement = sending_statement(queue_arn, rule["RuleArn"])
        queue = call(
            self._sqs,
            "create_queue",
            f"make the temporary queue {self.name}",
            QueueName=self.name,
            Attributes={"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})},
            tags=_TAGS,
        )
        self.url = str(queue["QueueUrl"])
        doing = f"add the queue to the temporary rule {self.name}"
        answer = call(
            self._events,
            "put_targets",
            doing,
            Rule=self.name,
            EventBusName=self._bus,
            Targets=[{"Id": _TARGET, "Arn": queue_arn}],
        )
        refuse_failed_entries(answer, doing)

    def remove(self) -> None:
        """Remove whatever of it exists; AwsRefused names what is left."""
        failures: list[str] = []
        for step in (self._remove_target, self._remove_rule, self._remove_queue):
            try:
                step()
            except DdbrelayError as error:
                failures.append(error.message)
        if failures:
            raise AwsRefused(
                f"the temporary rule or queue {self.name} is left behind on bus {self._bus}: "
                + "; ".join(failures),
                "remove them with the AWS console or the aws command",
            )

    def _remove_target(self) -> None:
        doing = f"remove the target of the temporary rule {self.name}"
        answer = attempt(
            self._events,
            "remove_targets",
            doing,
            NOT_FOUND,
            Rule=self.name,
            EventBusName=self._bus,
            Ids=[_TARGET],
        )
        refuse_failed_entries(answer or {}, doing)

    def _remove_rule(self) -> None:
        attempt(
            self._events,
            "delete_rule",
            f"remove the temporary rule {self.name}",
            NOT_FOUND,
            Name=self.name,
            EventBusName=self._bus,
        )

    def _remove_queue(self) -> None:
        # Without an address its making may still have gone through: the answer can get lost.
        url = self.url or find_queue(self._aws, self.name)
        doing = f"remove the temporary queue {self.name}"
        if url is not None:
            attempt(self._sqs, "delete_queue", doing, NOT_FOUND, QueueUrl=url)


def _decode(body: str) -> dict[str, Any]:
    try:
        event = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _uncut(work: Callable[[], None]) -> None:
    """Do it where no signal can cut it in two: Python's handlers run in the main thread only."""
    errors: list[BaseException] = []
    finished = threading.Event()

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            finished.set()

    # Not joined: an interrupt may come before `start` has seen the thread run.
    try:
        threading.Thread(target=run, name="ddbrelay-listen", daemon=True).start()
        finished.wait()
    except KeyboardInterrupt:
        finished.wait(_AFTER_INTERRUPT)
        raise
    if errors:
        raise errors[0]
