"""From a record in hand to its durable fate: map, send or park, settle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping import Event, MapFunction, Several, Skip
from ddbrelay.flow.offloading import billed_chunks
from ddbrelay.flow.packing import MAX_BYTES, Item, offloaded, packed, rule_of, too_large
from ddbrelay.flow.sink import Sink
from ddbrelay.flow.tracking import (
    DeadLetter,
    Fate,
    Frontier,
    Store,
    Tally,
    Ticket,
    Usage,
    stored_events,
)
from ddbrelay.relay.dispatch import Dispatch
from ddbrelay.relay.outcome import Observer, Options, Outcome
from ddbrelay.relay.tasks import Tasks
from ddbrelay.secrecy import scrubbed

_RECORD_BYTES = 2048
"""What a record takes at least while it is on its way."""
_COPIES = 2
"""What a page takes: itself, and the details that are made from it."""
_BEHIND = "an earlier event of this item is parked"
_NO_CLAIM_CHECK = ", and there is no --claim-check"


@dataclass(slots=True, eq=False)
class _HeldPage:
    """The records of a page share its memory until the last one is settled."""

    size: int
    unsettled: int


@dataclass(slots=True, eq=False)
class _Letter:
    """A record to be parked, and its item where it could be sent but for an earlier one.

    `whole` are its events where there are several, with None for one that was not to be sent.
    """

    outcome: Outcome
    ticket: Ticket
    item: Item | None = None
    whole: tuple[Event | None, ...] = ()


class Delivery:
    """The second half of the engine.

    Two events of one item key are never in flight together and never swapped; one that cannot be
    delivered is parked, and later events of its item are parked behind it. Without a sink nothing
    is sent and nothing is stored.
    """

    def __init__(
        self,
        mapper: MapFunction,
        sink: Sink | None,
        store: Store,
        observer: Observer,
        options: Options,
        now: Callable[[], float],
        rng: random.Random,
        tasks: Tasks,
    ) -> None:
        self._mapper, self._store, self._observer = mapper, store, observer
        self._options, self._now, self._tasks = options, now, tasks
        self.tally = Tally()
        self.usage = Usage()
        self.dispatch = (
            None
            if sink is None
            else Dispatch(sink, self, observer, options, self.tally, self.usage, rng, tasks)
        )
        self._parked: set[bytes] = set()
        self._letters: list[_Letter] = []
        self._parking = asyncio.Lock()
        self._room = asyncio.Event()
        self.paused = False
        self._held = 0
        # Most of them are the names of a few rules.
        self._skip_reason = lru_cache(maxsize=1024)(scrubbed)

    @property
    def pending(self) -> int:
        """Events that wait or are in flight."""
        return 0 if self.dispatch is None else self.dispatch.pending

    @property
    def last_receipt(self) -> float:
        """The loop's time of the last answer; 0 before the first."""
        return 0.0 if self.dispatch is None else self.dispatch.last_receipt

    async def begin(self) -> None:
        """Learn which items have dead letters that later events must queue behind."""
        if self.dispatch is not None:
            self._parked = await self._store.parked_keys()

    async def drain(self) -> None:
        """Finish what is in hand within the grace time; what is left is not settled."""
        left = 0 if self.dispatch is None else await self.dispatch.close(self._options.grace)
        if left and not self._tasks.failed:
            self._observer.trouble(
                f"{left:,} {'event was' if left == 1 else 'events were'} not acknowledged in "
                f"time, the next run sends {'it' if left == 1 else 'them'}"
            )

    # Room

    async def room(self) -> None:
        """Return once there is room for another page."""
        while not self._has_room:
            self._room.clear()
            await self._room.wait()

    @property
    def _has_room(self) -> bool:
        options = self._options
        if self.paused:
            return False
        return self.pending < options.max_pending and self._held < options.max_held

    def make_room(self) -> None:
        """Let readers go on that wait for room, if there is some."""
        if self._has_room:
            self._room.set()

    def reserve(self, size: int) -> None:
        """A page of about so many bytes is asked for; `free` must follow."""
        self._held += size

    def free(self, size: int) -> None:
        """What was reserved has come, or will not come."""
        self._held -= size
        self.make_room()

    def hold(self, tickets: Sequence[Ticket], size: int) -> int:
        """These are the records of a page of so many bytes; `route` must follow for each.

        How many bytes are taken until all of them are settled.
        """
        page = _HeldPage(max(_COPIES * size, _RECORD_BYTES * len(tickets)), len(tickets))
        for ticket in tickets:
            ticket.page = page
        if tickets:
            self._held += page.size
        return page.size

    def _release(self, ticket: Ticket) -> None:
        page: _HeldPage = ticket.page
        page.unsettled -= 1
        if not page.unsettled:
            self._held -= page.size

    # Mapping

    def route(self, change: Change, ticket: Ticket) -> None:
        """Map a change and queue, skip or mark for parking; `flush` must follow."""
        # First of all: it takes out of the change what must not be stored or shown.
        result = self._mapper(change)
        try:
            key = change.item_key
        except UndecodableError as error:
            self._park(Outcome(change, None, Fate.PARKED, None, str(error)), ticket)
            return
        if isinstance(result, Several):
            self._queue_several(change, key, result.events, ticket)
        elif self._options.wanted is not None and not self._options.wanted(change, result):
            self._pass(ticket)
        elif isinstance(result, Event):
            self._queue(change, key, result, ticket)
        elif isinstance(result, Skip):
            reason = self._skip_reason(result.reason)
            self._settle(Outcome(change, None, Fate.SKIPPED, None, reason), ticket)
        else:
            reason = _BEHIND if key in self._parked else result.reason
            self._parked.add(key)
            blamed = Outcome(change, None, Fate.PARKED, None, reason, rule=result.rule)
            self._park(blamed, ticket)

    def _queue(self, change: Change, key: bytes, event: Event, ticket: Ticket) -> None:
        size, claim, reason = event.size, None, None
        if size >= MAX_BYTES:
            address = self._options.claim_check
            if (fitting := offloaded(event, address, change.event_id)) is not None:
                event, claim = fitting
                size = event.size
            else:
                reason = too_large(event)
                if address is None:
                    reason += _NO_CLAIM_CHECK
        if key in self._parked:
            item = None if reason else Item(change, event, key, size, 0, claim, ticket)
            self._park(Outcome(change, event, Fate.PARKED, None, _BEHIND), ticket, item)
        elif reason is not None:
            self._parked.add(key)
            self._park(Outcome(change, event, Fate.PARKED, None, reason), ticket)
        elif self.dispatch is None:
            self._preview(change, [event], ticket)
        else:
            self.dispatch.add(Item(change, event, key, size, 0, claim, ticket))

    def _queue_several(
        self, change: Change, key: bytes, events: tuple[Event, ...], ticket: Ticket
    ) -> None:
        wanted, address = self._options.wanted, self._options.claim_check
        whole = tuple(one if wanted is None or wanted(change, one) else None for one in events)
        first = next((one for one in whole if one is not None), None)
        if first is None:
            self._pass(ticket)
            return
        item = packed(change, whole, address, ticket)
        if key in self._parked:
            fitting = item if isinstance(item, Item) else None
            self._park(Outcome(change, first, Fate.PARKED, None, _BEHIND), ticket, fitting, whole)
        elif isinstance(item, Event):
            reason = f"{item.detail_type}: {too_large(item)}"
            if address is None:
                reason += _NO_CLAIM_CHECK
            self._parked.add(key)
            self._park(Outcome(change, first, Fate.PARKED, None, reason), ticket, None, whole)
        elif self.dispatch is None:
            self._preview(change, [one for one in whole if one is not None], ticket)
        else:
            self.dispatch.add(item)

    def _pass(self, ticket: Ticket) -> None:
        """Nobody asked for it."""
        ticket.settle()
        self._release(ticket)

    # Parking

    def _park(
        self,
        outcome: Outcome,
        ticket: Ticket,
        item: Item | None = None,
        whole: tuple[Event | None, ...] = (),
    ) -> None:
        # A mapper raises with whatever it found, and AWS repeats what it was sent.
        if outcome.reason and (reason := scrubbed(outcome.reason)) != outcome.reason:
            outcome = msgspec.structs.replace(outcome, reason=reason)
        self._letters.append(_Letter(outcome, ticket, item, whole))

    async def flush(self) -> None:
        """Park what `route` marked, send what it queued."""
        while self._letters:
            # One call after the other: what follows is kept behind what went before.
            async with self._parking:
                letters, self._letters = self._letters, []
                await self._keep(letters)
        self.make_room()
        if self.dispatch is not None:
            self.dispatch.pump()

    async def _keep(self, letters: list[_Letter]) -> None:
        freed: set[tuple[str, str]] = set()
        if self.dispatch is not None:
            freed_letters = await self._store.park([self._dead_letter(one) for one in letters])
            freed = {(one.shard_id, one.sequence) for one in freed_letters}
        going: list[_Letter] = []
        for one in letters:
            change = one.outcome.change
            if (change.shard_id, change.sequence_number) in freed:
                going.append(one)
            else:
                self._settle(one.outcome, one.ticket, one.whole)
        if going:
            self._go_on(going)

    def _go_on(self, letters: list[_Letter]) -> None:
        """Nothing of their items is parked any more: the letters were sent again, or dropped."""
        keys = {one.outcome.change.item_key for one in letters}
        # What was marked while these were being parked comes after them, not before.
        marked, self._letters = self._letters, []
        for one in marked:
            waits = one.outcome.reason == _BEHIND and one.outcome.change.item_key in keys
            (letters if waits else self._letters).append(one)
        self._parked -= keys
        for one in letters:
            change = one.outcome.change
            if change.item_key in self._parked:
                # One of these was parked anew.
                self._letters.append(one)
            elif one.item is not None and self.dispatch is not None:
                self.dispatch.add(one.item)
            else:
                self.route(change, one.ticket)

    def _dead_letter(self, letter: _Letter) -> DeadLetter:
        outcome = letter.outcome
        change, event = outcome.change, outcome.event
        events = letter.whole or (() if event is None else (event,))
        if letter.item is not None:
            # A detail may not be in S3 yet, and need not stay there until somebody redrives.
            events = letter.item.left
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
            event=stored_events(events) if events else None,
            attempts=outcome.attempts,
            parked_at=self._now(),
            behind=outcome.reason == _BEHIND,
        )

    # Receipts

    def accepted(self, accepted: Sequence[tuple[Item, str]]) -> None:
        """The bus has the events of these, under these ids; the last one settles its record."""
        usage, tell = self.usage, self._observer.outcome
        frontiers: dict[Frontier, None] = {}
        usage.events += len(accepted)
        published = 0
        for item, event_id in accepted:
            event, ticket, more = item.event, item.ticket, len(item.rest)
            usage.chunks += billed_chunks(item.size)
            usage.puts += item.claim is not None
            if not more:
                if item.whole:
                    ticket.mark(Fate.PUBLISHED, rule_of(item.whole), _types(item.whole))
                else:
                    ticket.mark(Fate.PUBLISHED, event.rule or "", event.detail_type)
                frontiers[ticket.frontier] = None
                self._release(ticket)
                published += 1
            attempts = item.attempts + 1
            tell(Outcome(item.change, event, Fate.PUBLISHED, event_id, None, attempts, more))
        if published:
            self.tally.fates[Fate.PUBLISHED] += published
        for frontier in frontiers:
            frontier.advance()

    def rejected(self, item: Item, reason: str, later: Sequence[Item]) -> None:
        """The bus will never take it; `later` are the events of its key that waited behind it."""
        self._parked.add(item.key)
        attempts = item.attempts + 1
        refused = Outcome(item.change, item.event, Fate.PARKED, None, reason, attempts)
        self._park(refused, item.ticket, item, item.whole)
        for one in later:
            waits = Outcome(one.change, one.event, Fate.PARKED, None, _BEHIND)
            self._park(waits, one.ticket, one, one.whole)

    async def answered(self) -> None:
        """All of a receipt was told."""
        await self.flush()

    def _preview(self, change: Change, events: Sequence[Event], ticket: Ticket) -> None:
        """Show the events of a change in a run that sends nothing."""
        self._pass(ticket)
        for number, event in enumerate(events, 1):
            self.tally.previewed += 1
            self._observer.outcome(Outcome(change, event, None, more=len(events) - number))

    def _settle(
        self, outcome: Outcome, ticket: Ticket, whole: tuple[Event | None, ...] = ()
    ) -> None:
        fate, event = outcome.fate, outcome.event
        assert fate is not None, "what is only shown has none"
        events = whole or (event,)
        rule = outcome.rule or rule_of(events)
        self.tally.fates[fate] += 1
        if fate is Fate.SKIPPED:
            rule = outcome.reason or ""
            self.tally.skipped_by[rule] += 1
        ticket.settle(fate, rule, _types(events))
        self._release(ticket)
        self._observer.outcome(outcome)


def _types(events: Sequence[Event | None]) -> tuple[str, ...]:
    """The detail types of the events that are there."""
    return tuple(event.detail_type for event in events if event is not None)
