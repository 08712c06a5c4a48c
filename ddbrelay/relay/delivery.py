"""From a record in hand to its durable fate: map, pack, send, try again, park, settle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping import Event, Mapper, Reject, Skip
from ddbrelay.flow.packing import Item, Packer, oversize
from ddbrelay.flow.sink import Receipt, Sink, retry_delay
from ddbrelay.flow.tracking import DeadLetter, Fate, Store, Tally, Ticket
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Observer, Options, Outcome
from ddbrelay.relay.tasks import Tasks, cancel

_RECORD_BYTES = 2048
"""What a record takes at least while it is on its way."""
_BEHIND = "an earlier event of this item is parked"


@dataclass(slots=True, eq=False)
class _HeldPage:
    """The records of a page share its memory until the last one is settled."""

    size: int
    unsettled: int


class Delivery:
    """The second half of the engine.

    Two events of one item key are never in flight together and never swapped; one that cannot be
    delivered is parked, and later events of its item are parked behind it. Without a sink nothing
    is sent and nothing is stored.
    """

    def __init__(
        self,
        mapper: Mapper,
        sink: Sink | None,
        store: Store,
        observer: Observer,
        options: Options,
        now: Callable[[], float],
        rng: random.Random,
        tasks: Tasks,
    ) -> None:
        self._mapper, self._sink, self._store = mapper, sink, store
        self._observer, self._options = observer, options
        self._now, self._rng, self._tasks = now, rng, tasks
        self._packer = Packer()
        self._parked: set[bytes] = set()
        self._senders: set[asyncio.Task[None]] = set()
        self._retries: dict[bytes, asyncio.TimerHandle] = {}
        self._letters: list[tuple[Outcome, Ticket]] = []
        self._room = asyncio.Event()
        self._quiet = asyncio.Event()
        self._closed = False
        self._held = 0
        self.in_flight = 0
        self.tally = Tally()
        self.last_receipt = 0.0

    @property
    def pending(self) -> int:
        """Events that wait or are in flight."""
        return len(self._packer) + self.in_flight

    async def begin(self) -> None:
        """Learn which items have dead letters that later events must queue behind."""
        if self._sink is not None:
            self._parked = await self._store.parked_keys()

    async def room(self) -> None:
        """Return once there is room for another page."""
        while not self._has_room:
            self._room.clear()
            await self._room.wait()

    @property
    def _has_room(self) -> bool:
        options = self._options
        return self.pending < options.max_pending and self._held < options.max_held

    def hold(self, tickets: Sequence[Ticket], size: int) -> None:
        """These are the records of a page of so many bytes; `route` must follow for each."""
        page = _HeldPage(max(size, _RECORD_BYTES * len(tickets)), len(tickets))
        for ticket in tickets:
            ticket.page = page
        if tickets:
            self._held += page.size

    def _release(self, ticket: Ticket) -> None:
        page: _HeldPage = ticket.page
        page.unsettled -= 1
        if not page.unsettled:
            self._held -= page.size
            if self._has_room:
                self._room.set()

    def route(self, change: Change, ticket: Ticket) -> None:
        """Map a change and queue, skip or mark for parking; `flush` must follow."""
        try:
            key = change.item_key
        except UndecodableError as error:
            self._letters.append((Outcome(change, None, Fate.PARKED, reason=str(error)), ticket))
            return
        result = self._mapper(change)
        if self._options.wanted is not None and not self._options.wanted(change, result):
            ticket.settle()
            self._release(ticket)
            return
        if isinstance(result, Skip):
            self._settle(Outcome(change, None, Fate.SKIPPED, reason=result.reason), ticket)
            return
        event = result if isinstance(result, Event) else None
        reason = result.reason if isinstance(result, Reject) else None
        if event is not None and oversize(event):
            reason = f"the entry has {event.size:,} bytes, PutEvents takes less than 1 MB"
        if key in self._parked:
            reason = _BEHIND
        if reason is not None:
            self._parked.add(key)
            self._letters.append((Outcome(change, event, Fate.PARKED, reason=reason), ticket))
        elif event is not None and self._sink is None:
            self._settle(Outcome(change, event, None), ticket)
        elif event is not None:
            self._packer.add(Item(change, event, event.size, ticket=ticket))

    async def flush(self) -> None:
        """Park what `route` marked, send what it queued."""
        letters, self._letters = self._letters, []
        if letters and self._sink is not None:
            await self._store.park([self._letter(outcome) for outcome, _ in letters])
        for outcome, ticket in letters:
            self._settle(outcome, ticket)
        self._pump()

    async def settled(self) -> None:
        """Return once nothing waits and nothing is in flight."""
        while self.pending:
            self._quiet.clear()
            await self._quiet.wait()

    async def drain(self) -> None:
        """Finish what is in hand within the grace time; what is left is not settled."""
        # A reader that was cancelled while it parked has not sent what it queued.
        self._pump()
        pointless = self._tasks.failed and not self._senders
        if self.pending and not pointless:
            self._quiet.clear()
            try:
                async with asyncio.timeout(self._options.grace):
                    await self._quiet.wait()
            except TimeoutError:
                left = self.pending
                self._observer.trouble(
                    f"{left:,} {'event was' if left == 1 else 'events were'} not acknowledged in "
                    f"time, the next run sends {'it' if left == 1 else 'them'}"
                )
        # What a cancelled sender leaves behind must not be sent by the next one.
        self._closed = True
        for handle in self._retries.values():
            handle.cancel()
        await cancel(self._senders)

    def _pump(self) -> None:
        sink = self._sink
        while (
            sink is not None
            and not self._closed
            and not self._tasks.failed
            and len(self._senders) < self._options.max_in_flight
            and (items := self._packer.take())
        ):
            self.in_flight += len(items)
            task = self._tasks.spawn(self._send(sink, items))
            self._senders.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._senders.discard(task)
        self._pump()
        if self._has_room:
            self._room.set()
        if not self.pending or (self._tasks.failed and not self._senders):
            self._quiet.set()

    async def _send(self, sink: Sink, items: list[Item]) -> None:
        try:
            receipt = await sink.send(items)
        finally:
            self.in_flight -= len(items)
        self.last_receipt = asyncio.get_running_loop().time()
        await self._apply(receipt)

    async def _apply(self, receipt: Receipt) -> None:
        for item, event_id in receipt.accepted:
            self._packer.release(item.key)
            sent = Outcome(
                item.change, item.event, Fate.PUBLISHED, event_id, attempts=item.attempts + 1
            )
            self._settle(sent, item.ticket)
        if receipt.retry:
            self._retry(receipt.retry)
        for item, reason in receipt.rejected:
            self._reject(item, reason)
        await self.flush()

    def _retry(self, failed: list[tuple[Item, str]]) -> None:
        for item, reason in failed:
            item.attempts += 1
            self.tally.retried += 1
            self._packer.put_back(item)
            if item.attempts % RETRIES_BEFORE_WORD == 0:
                self._observer.trouble(f"the bus did not take an event, trying again: {reason}")
        # They wait together: a throttled request must not come back as ten.
        keys = [item.key for item, _ in failed]
        delay = retry_delay(max(item.attempts for item, _ in failed), self._rng)
        self._retries[keys[0]] = asyncio.get_running_loop().call_later(delay, self._try_again, keys)

    def _try_again(self, keys: list[bytes]) -> None:
        del self._retries[keys[0]]
        for key in keys:
            self._packer.release(key)
        self._pump()

    def _reject(self, item: Item, reason: str) -> None:
        self._parked.add(item.key)
        refused = Outcome(
            item.change, item.event, Fate.PARKED, reason=reason, attempts=item.attempts + 1
        )
        self._letters.append((refused, item.ticket))
        for later in self._packer.withdraw(item.key):
            waits = Outcome(later.change, later.event, Fate.PARKED, reason=_BEHIND)
            self._letters.append((waits, later.ticket))
        self._packer.release(item.key)

    def _settle(self, outcome: Outcome, ticket: Ticket) -> None:
        if outcome.fate is None:
            self.tally.previewed += 1
        else:
            self.tally.fates[outcome.fate] += 1
        if outcome.fate is Fate.SKIPPED:
            self.tally.skipped_by[outcome.reason or ""] += 1
        ticket.settle(outcome.fate, _rule(outcome))
        self._release(ticket)
        self._observer.outcome(outcome)

    def _letter(self, outcome: Outcome) -> DeadLetter:
        change = outcome.change
        try:
            key = change.item_key
        except UndecodableError:
            key = bytes(change.record.dynamodb.keys)
        return DeadLetter(
            shard_id=change.shard_id,
            sequence=change.sequence_number,
            item_key=key,
            reason=outcome.reason or "",
            record=msgspec.json.encode(change.record),
            event=msgspec.json.encode(outcome.event) if outcome.event is not None else None,
            attempts=outcome.attempts,
            parked_at=self._now(),
            behind=outcome.reason == _BEHIND,
        )


def _rule(outcome: Outcome) -> str:
    if outcome.fate is Fate.SKIPPED:
        return outcome.reason or ""
    return (outcome.event.rule or "") if outcome.event is not None else ""
