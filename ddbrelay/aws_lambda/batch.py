"""The records of one invocation: mapped, sent, and parked in the dead-letter queue."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED
from ddbrelay.aws.sweeping import Sweeper, SweepingSink
from ddbrelay.aws_lambda.log import Log
from ddbrelay.errors import AwsRefused, ConfigError, DdbrelayError
from ddbrelay.flow.capture import Page, Position, Record
from ddbrelay.flow.change import Change, Origin
from ddbrelay.flow.mapping import MapFunction
from ddbrelay.flow.sink import Sink, retry_delay
from ddbrelay.flow.tracking import DeadLetter, Fate, Frontier, Ticket
from ddbrelay.own import OwnMapper
from ddbrelay.relay import Options
from ddbrelay.relay.copies import LetterSink, Sent
from ddbrelay.relay.delivery import Delivery
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD
from ddbrelay.relay.tasks import Tasks
from ddbrelay.stores.preview import FixedPositions

NO_SHARD = ""
"""Lambda's event names none."""
_NO_QUEUE = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})
_FOR_LETTERS = 0.2
"""Share of the time that the queue has after the bus."""
_FOR_UNKNOWN = 0.25
"""Share of the bus's time after which an event is given up that is refused for unknown reasons."""
_FOR_TIDYING = 0.1
"""Share of the time that the tidying of an outbox has at the end."""
_NO_QUEUE_WORDS = (
    "not settled, since no dead_letter_queue is configured: Lambda sends the record again, and in "
    "the end to the on-failure destination of its event source mapping"
)
_NOT_PARKED = "not settled, since the dead-letter queue does not have it: Lambda sends it again"
_REFUSED = "not settled, since the dead-letter queue cannot have it ({}): Lambda sends it again"


@dataclass(frozen=True)
class Lane:
    """The way of one stream's records.

    `queue` takes those that cannot be delivered, `items` removes the items of those that were.
    """

    origin: Origin
    mapper: MapFunction
    sink: Sink
    queue: LetterSink | None
    options: Options
    items: Sweeper | None = None


@dataclass(frozen=True)
class Delivered:
    """What became of the records of a stream; those that are not settled come again.

    `error` is what ended the delivery early.
    """

    settled: Sequence[Record]
    unsettled: Sequence[Record]
    published: int = 0
    skipped: int = 0
    parked: int = 0
    retried: int = 0
    error: BaseException | None = None

    @property
    def lowest(self) -> str | None:
        """The sequence number from which on Lambda must send the records again."""
        return min((one.sequence_number for one in self.unsettled), key=int, default=None)


async def deliver(records: Sequence[Record], lane: Lane, deadline: float, log: Log) -> Delivered:
    """Deliver records of one stream, in order per item, until the loop's time `deadline`.

    What the bus will never take, and what cannot be mapped, goes to the queue, and later events of
    its item behind it; without a queue it is not settled.
    """
    if lane.items is None:
        return await _deliver(records, lane, lane.sink, deadline, log)
    # What was relayed is tidied before the answer: the process is frozen after it.
    grace = (deadline - asyncio.get_running_loop().time()) * _FOR_TIDYING
    async with SweepingSink(lane.sink, lane.items, log.warn, grace=max(0.0, grace)) as sink:
        return await _deliver(records, lane, sink, deadline - grace, log)


async def _deliver(
    records: Sequence[Record], lane: Lane, sink: Sink, deadline: float, log: Log
) -> Delivered:
    failures: list[BaseException] = []
    held = _HeldLetters()
    rng = random.Random()
    began = asyncio.get_running_loop().time()
    left = deadline - began
    for_bus = max(0.0, left if lane.queue is None else left * (1 - _FOR_LETTERS))
    # What would be tried again beyond this invocation would never get to the queue.
    patience = min(lane.options.refusal_timeout, for_bus * _FOR_UNKNOWN)
    options = replace(lane.options, refusal_timeout=patience)
    delivery = Delivery(
        lane.mapper, sink, held, log, options, time.time, rng, Tasks(failures.append)
    )
    if isinstance(lane.mapper, OwnMapper):
        # A mapper that hangs parks its record before Lambda ends the invocation of all of them.
        left = deadline - asyncio.get_running_loop().time()
        lane.mapper.bound(time.monotonic() + left)
    tickets = await _route(records, delivery, lane.origin)
    dispatch = delivery.dispatch
    assert dispatch is not None
    for_bus -= asyncio.get_running_loop().time() - began
    if unanswered := await dispatch.close(max(0.0, for_bus)):
        log.warn(
            f"{unanswered:,} {'event was' if unanswered == 1 else 'events were'} not acknowledged "
            "in time: Lambda sends their records again"
        )
    if dispatch.held is not None and not failures:
        failures.append(AwsRefused(dispatch.held, "make the bus, or correct bus.name"))
    parked = await _park(held.letters, lane.queue, deadline, rng, log)
    lost = {one.sequence for one in held.letters} - parked
    settled = {one.sequence for one in tickets if one.settled} - lost
    tally = delivery.tally
    return Delivered(
        [one for one in records if one.sequence_number in settled],
        [one for one in records if one.sequence_number not in settled],
        tally[Fate.PUBLISHED],
        tally[Fate.SKIPPED],
        len(parked),
        tally.retried,
        failures[0] if failures else None,
    )


async def _route(records: Sequence[Record], delivery: Delivery, origin: Origin) -> list[Ticket]:
    # Nothing of it is kept: Lambda's own checkpoint is the answer.
    tickets = Frontier(Position(NO_SHARD)).read(records, Page(records, None), 0.0)
    delivery.hold(tickets, 0)
    for record, ticket in zip(records, tickets, strict=True):
        delivery.route(Change(record, NO_SHARD, origin), ticket)
    await delivery.flush()
    return tickets


class _HeldLetters(FixedPositions):
    """The store of one invocation: dead letters wait here for their queue, nothing else is kept."""

    def __init__(self) -> None:
        super().__init__(())
        self.letters: list[DeadLetter] = []

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        self.letters += letters
        return []


# Dead letters


async def _park(
    letters: Sequence[DeadLetter],
    queue: LetterSink | None,
    deadline: float,
    rng: random.Random,
    log: Log,
) -> set[str]:
    """Send letters to the queue until the deadline; the sequence numbers of those it has."""
    parked: set[str] = set()
    refused: dict[str, str] = {}
    if queue is not None and letters:
        try:
            async with asyncio.timeout_at(deadline):
                await _send(letters, queue, parked, refused, rng, log)
        except TimeoutError:
            log.warn("the dead-letter queue did not take all in time")
    for letter in letters:
        fields = {
            "sequenceNumber": letter.sequence,
            "reason": letter.reason,
            "attempts": letter.attempts,
            "behind": letter.behind,
        }
        if letter.sequence in parked:
            log.warn("parked in the dead-letter queue", **fields)
        elif letter.sequence in refused:
            log.error(_REFUSED.format(refused[letter.sequence]), **fields)
        else:
            log.error(_NO_QUEUE_WORDS if queue is None else _NOT_PARKED, **fields)
    return parked


async def _send(
    letters: Sequence[DeadLetter],
    queue: LetterSink,
    parked: set[str],
    refused: dict[str, str],
    rng: random.Random,
    log: Log,
) -> None:
    """Send letters, those of an item in order, until the queue has them or never takes them.

    `parked` gets the sequence numbers of the first, `refused` those of the others with the reason.
    """
    waiting, stuck, failures = list(letters), set[bytes](), 0
    while waiting:
        try:
            sent = await queue.send(waiting)
        except DdbrelayError as error:
            if _is_final(error):
                log.error(error.message, hint=error.hint)
                return
            sent = Sent(failed=error.message)
        parked.update(letter.sequence for letter in sent.copied)
        for letter, reason in sent.refused:
            stuck.add(letter.item_key)
            refused[letter.sequence] = reason
        waiting = [
            one for one in waiting if one.sequence not in parked and one.item_key not in stuck
        ]
        failures = failures + 1 if sent.failed else 0
        if sent.failed:
            if failures % RETRIES_BEFORE_WORD == 0:
                log.warn(f"dead letters do not get to their queue, trying again: {sent.failed}")
            await asyncio.sleep(retry_delay(failures, rng))


def _is_final(refused: DdbrelayError) -> bool:
    """Whether trying again cannot help within the time of an invocation."""
    final = DENIED | BAD_CREDENTIALS | _NO_QUEUE
    return isinstance(refused, ConfigError) or (
        isinstance(refused, AwsRefused) and refused.code in final
    )
