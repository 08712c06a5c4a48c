"""Copies of dead letters for an SQS queue, where alarms and other programs can see them.

Limits: the `SendMessageBatch` operation of the `sqs` model (ten entries, together at most 1 MiB;
it was 256 KiB until August 2025, which older queues may still have as their `MaximumMessageSize`).
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from botocore import exceptions as boto

from ddbrelay.aws.claims import ClaimChecks, ClaimWriter, NotWrittenError
from ddbrelay.aws.errors import translate, translated, without_frames
from ddbrelay.aws.threads import off_loop
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.change import Origin
from ddbrelay.flow.offloading import KEY, Reference, claim_for
from ddbrelay.flow.tracking import DeadLetter, events_of
from ddbrelay.output.event import EventEntry
from ddbrelay.relay.copies import Sent
from ddbrelay.times import iso

if TYPE_CHECKING:
    from types_boto3_sqs.client import SQSClient
    from types_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

    from ddbrelay.aws.session import Aws

MAX_ENTRIES = 10
MAX_BYTES = 1024 * 1024
"""Of one message, and of all messages of a request together."""
LEAST_BYTES = 32 * 1024
"""A letter without its record and event fits into this: its keys have 3 KB, its ARN and where it
lies in S3 1 KB each."""
_OLD_MAX_BYTES = 256 * 1024
_LONGEST_REASON = 1000
_THREAD = "ddbrelay-letters"
_NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_BAD_MESSAGE = frozenset({"InvalidMessageContents", "InvalidParameterValue"})


class LetterQueue:
    """A `LetterSink`: the letters of one consumer on one stream as messages of a queue.

    A message is a JSON object with consumer, table, streamArn, shardId, sequenceNumber, eventID,
    itemKey (with DynamoDB's types), reason, attempts, parkedAt, behind, record (as the stream gave
    it) and event; of several events the ones after the first stand behind laterEvents. One that is
    too large for the queue has `"truncated": true`, and goes without its events; where that is not
    enough, without its record too. In a FIFO queue the letters of an item are a group, in the order
    of their changes; a letter that is sent again within five minutes is dropped by the queue.

    A queue that is the `only_copy` never gets a letter without its record: such a letter goes to S3
    first, as the message that it would have been, and the message has a `claimCheck` as events
    have. Without an address in S3 the letter is refused.
    """

    def __init__(
        self,
        client: SQSClient,
        url: str,
        limit: int,
        consumer: str,
        origin: Origin,
        only_copy: bool,
        claims: LetterClaims | None,
    ):
        self._client, self._url = client, url
        self._limit = min(limit, MAX_BYTES)
        self._consumer, self._origin = consumer, origin
        self._only_copy, self._claims = only_copy, claims

    @classmethod
    async def open(
        cls,
        aws: Aws,
        queue: str,
        consumer: str,
        origin: Origin,
        *,
        only_copy: bool = False,
        claim_check: str | None = None,
    ) -> LetterQueue:
        """A queue that exists, given by name or URL.

        It takes sqs:GetQueueUrl (for a name), sqs:GetQueueAttributes and sqs:SendMessage. With
        `only_copy`, letters that are too large for it go to the address `claim_check`. Raises
        AwsRefused when there is no such queue or it may not be described, and ConfigError when it
        takes messages of less than 32 KiB only.
        """
        client: SQSClient = aws.client("sqs")
        try:
            url, limit = await off_loop(lambda: _describe(client, queue), _THREAD)
        except AwsRefused as refused:
            if refused.code not in _NO_QUEUE:
                raise
            raise AwsRefused(
                f'queue "{queue}" does not exist ({aws.where})',
                "make it, or check --dead-letter-queue and --region",
                code=refused.code,
            ) from refused.__cause__
        if limit < LEAST_BYTES:
            raise ConfigError(
                f'queue "{queue}" takes messages of {limit:,} bytes at most, too few for a letter',
                f"set its MaximumMessageSize to {LEAST_BYTES:,} or more",
            )
        claims = LetterClaims(aws, claim_check) if only_copy and claim_check is not None else None
        # Whoever copies paces the tries; of those inside botocore each would keep the request.
        sender = aws.new_client(
            "sqs",
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 1},
        )
        return cls(sender, url, limit, consumer, origin, only_copy, claims)

    @property
    def fifo(self) -> bool:
        """Whether it keeps the order: AWS wants the name of such a queue to say so."""
        return self._url.endswith(".fifo")

    async def send(self, letters: Sequence[DeadLetter]) -> Sent:
        sent = Sent()
        chosen = await self._fitting(letters, sent)
        if not chosen:
            return sent
        entries = [
            self._entry(str(index), letter, body) for index, (letter, body) in enumerate(chosen)
        ]
        answer = await off_loop(lambda: self._request(entries), _THREAD)
        failures = {entry["Id"]: entry for entry in answer.get("Failed", ())}
        taken = {entry["Id"] for entry in answer.get("Successful", ())}
        for index, (letter, _) in enumerate(chosen):
            if str(index) in taken:
                sent.copied.append(letter)
                continue
            failure = failures.get(str(index), {})
            code = failure.get("Code", "no result")
            words = f"{code}: {failure.get('Message', '')}".rstrip(": ")
            if code in _BAD_MESSAGE:
                sent.refused.append((letter, words))
            else:
                sent.failed = words
        return sent

    async def _fitting(
        self, letters: Sequence[DeadLetter], sent: Sent
    ) -> list[tuple[DeadLetter, str]]:
        """The first letters that fit into a request, with their bodies.

        `sent` is told of those that no request can hold, or not yet; later ones of their items
        wait.
        """
        chosen: list[tuple[DeadLetter, str]] = []
        size = 0
        waiting: set[bytes] = set()
        for letter in letters:
            if len(chosen) == MAX_ENTRIES:
                break
            if letter.item_key in waiting:
                continue
            try:
                body = await self._body(letter)
            except (NotWrittenError, DdbrelayError) as error:
                waiting.add(letter.item_key)
                if isinstance(error, NotWrittenError):
                    sent.failed = str(error)
                else:
                    sent.refused.append((letter, error.message))
                continue
            size += len(body.encode())
            if chosen and size > self._limit:
                break
            chosen.append((letter, body))
            if self.fifo:
                # Of two entries the first can fail alone: the order of a group would be gone.
                waiting.add(letter.item_key)
        return chosen

    async def _body(self, letter: DeadLetter) -> str:
        """The message of a letter, with as much of it as the queue takes.

        Raises NotWrittenError while what it refers to is not in S3, DdbrelayError when the letter
        cannot be kept.
        """
        content = self._content(letter)
        record = {"record": _value(letter.record)}
        whole = _text(content | record | _events(letter.event))
        if self._fits(whole):
            return whole
        content |= {"reason": letter.reason[:_LONGEST_REASON], "truncated": True}
        # The event can be made of the record again, the record of nothing.
        short = _text(content | record)
        if self._fits(short):
            return short
        if not self._only_copy:
            return _text(content)
        if self._claims is None:
            raise DdbrelayError(
                f"with its record the message has {len(short.encode()):,} bytes, the queue takes "
                f"{self._limit:,}; with relay.claim_check such letters go to S3"
            )
        reference = await self._claims.write(whole.encode(), str(content["eventID"]))
        return _text(content | {KEY: reference.as_object()})

    def _fits(self, text: str) -> bool:
        return len(text.encode()) <= self._limit

    def _content(self, letter: DeadLetter) -> dict[str, object]:
        """What every message has."""
        return {
            "consumer": self._consumer,
            "table": self._origin.table,
            "streamArn": self._origin.stream_arn,
            "shardId": letter.shard_id,
            "sequenceNumber": letter.sequence,
            "eventID": _event_id(letter.record),
            "itemKey": _value(letter.item_key),
            "reason": letter.reason,
            "attempts": letter.attempts,
            "parkedAt": iso(letter.parked_at),
            "behind": letter.behind,
        }

    def _entry(
        self, number: str, letter: DeadLetter, body: str
    ) -> SendMessageBatchRequestEntryTypeDef:
        entry: SendMessageBatchRequestEntryTypeDef = {"Id": number, "MessageBody": body}
        if self.fifo:
            of = (self._consumer, self._origin.stream_arn)
            entry["MessageGroupId"] = _hash(*of, letter.item_key.hex())
            entry["MessageDeduplicationId"] = _hash(
                *of, letter.shard_id, letter.sequence, str(letter.attempts)
            )
        return entry

    def _request(self, entries: list[SendMessageBatchRequestEntryTypeDef]) -> dict[str, Any]:
        try:
            answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries)
        except (boto.BotoCoreError, boto.ClientError) as error:
            doing = "copy dead letters to their queue (sqs:SendMessage)"
            raise translate(error, doing) from without_frames(error)
        return dict(answer)


class LetterClaims:
    """Where letters go that the queue cannot hold; S3 is not spoken to before there is one."""

    def __init__(self, aws: Aws, address: str) -> None:
        self._aws, self._address = aws, address
        self.writer: ClaimWriter | None = None

    async def write(self, body: bytes, event_id: str) -> Reference:
        """Keep a JSON text and return where; raises what `ClaimWriter.write` does."""
        if self.writer is None:
            self.writer = ClaimChecks(self._aws, self._address)
        claim = claim_for(body, self._address, event_id)
        await self.writer.write(claim)
        return claim.reference


def _describe(client: SQSClient, queue: str) -> tuple[str, int]:
    """The URL of a queue, and the longest message that it takes."""
    url = queue
    if "://" not in queue:
        with translated(f"find the queue {queue} (sqs:GetQueueUrl)"):
            url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    with translated(f"describe the queue {queue} (sqs:GetQueueAttributes)"):
        answer = client.get_queue_attributes(QueueUrl=url, AttributeNames=["MaximumMessageSize"])
    limit = answer.get("Attributes", {}).get("MaximumMessageSize")
    return url, _OLD_MAX_BYTES if limit is None else int(limit)


def _text(content: dict[str, object]) -> str:
    text = msgspec.json.encode(content).decode("utf-8", "replace")
    # The two that JSON may hold and SQS may not.
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def _value(text: bytes | None) -> object:
    """A JSON value as it is; what is none as text, so that the rest can be read."""
    if not text:
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return text.decode("utf-8", "replace")
    return msgspec.Raw(text)


def _raw(text: bytes) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(_value(text)))


def _event_id(record: bytes) -> str | None:
    try:
        return msgspec.json.decode(record, type=_Named).event_id
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


class _Named(msgspec.Struct):
    event_id: str | None = msgspec.field(name="eventID", default=None)


def _events(stored: bytes | None) -> dict[str, object]:
    """As `tail --output json` shows an event, the detail as JSON and not as base64."""
    if stored is None:
        return {"event": None}
    try:
        events = events_of(stored)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {"event": _value(stored)}
    first, *later = [
        msgspec.structs.replace(EventEntry.of(event), detail=_raw(event.detail))
        for event in events
        if event is not None
    ]
    return {"event": first, **({"laterEvents": later} if later else {})}


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
