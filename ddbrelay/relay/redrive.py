"""Dead letters are sent again: item by item in order, different items side by side.

A letter is in the store until its event was accepted, so a kill at any instant loses nothing and at
most repeats what was in flight. Of a letter with several events those stay that were not accepted
yet. A relay of the same consumer may run meanwhile. It parks later
events of an item behind its letters; these are sent too, until the store has none of the item and
hands the next one back to the relay.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.packing import Item, Packer
from ddbrelay.flow.sink import Receipt, Sink, retry_delay
from ddbrelay.flow.tracking import stored_events
from ddbrelay.relay.letters import Preparation, Result, Skipped, Stays
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD
from ddbrelay.relay.tasks import Timers, cancel
from ddbrelay.relay.window import Window
from ddbrelay.stores.letters import ItemOf, Letters, Parked
from ddbrelay.stores.parking import How

MAX_ATTEMPTS = 3
_MAX_HELD = 32 * 1024 * 1024
"""Bytes of letters that wait or are in flight; one may be larger."""
_LINES_PER_REQUEST = 20
_SETTLING = 5.0
"""Seconds for a relay that runs to settle what came before a letter."""
_LOOK_AGAIN = 0.1
_UNSETTLED = "an earlier change may not be settled yet: the checkpoint of its shard is before it"


class Watcher(Protocol):
    """Is told how it goes; must return at once."""

    def result(self, result: Result) -> None:
        """A letter was sent or skipped, or stays."""

    def trouble(self, message: str) -> None:
        """The bus does not take an event; it is tried again."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How letters are sent; times in seconds, None for no bound.

    A letter is tried `max_attempts` times before it stays. No new letter is begun after `timeout`;
    what is in flight then has `grace` to end.
    """

    max_attempts: int = MAX_ATTEMPTS
    max_in_flight: int = 64
    timeout: float | None = None
    grace: float = 5.0


@dataclass(slots=True)
class Summary:
    """Letters by what became of them; `end` is done, stopped or timeout."""

    redriven: int = 0
    skipped: int = 0
    failed: int = 0
    end: str = "done"


@dataclass(slots=True)
class _Line:
    """An item whose letters are being sent; `sent` are the highest numbers, by shard.

    `checked` when what came before its next letter is known to be settled.
    """

    item: ItemOf
    waiting: deque[Parked] = field(default_factory=deque)
    sent: dict[str, int] = field(default_factory=dict)
    checked: bool = False


@dataclass(slots=True, eq=False)
class _Flight:
    """A letter on its way: what hangs on its item; `attempts` are those of all its events."""

    line: _Line
    letter: Parked
    events: tuple[Event, ...]
    size: int
    event_ids: list[str] = field(default_factory=list)
    attempts: int = 0


class Redrive:
    """One pass over the letters of some items; `letters` must be locked meanwhile."""

    def __init__(
        self,
        letters: Letters,
        preparation: Preparation,
        sink: Sink,
        plan: Plan,
        watcher: Watcher,
        rng: random.Random | None = None,
    ) -> None:
        self._letters, self._preparation, self._sink = letters, preparation, sink
        self._plan, self._watcher = plan, watcher
        self._rng = rng or random.Random()
        self._packer = Packer()
        self._window = Window(plan.max_in_flight)
        self._lines: deque[_Line] = deque()
        self._active = self._held = 0
        self._senders: set[asyncio.Task[None]] = set()
        self._timers = Timers()
        self._wake = asyncio.Event()
        self._settling_until = 0.0
        self._ending: str | None = None
        self._error: BaseException | None = None
        self.summary = Summary()

    async def run(self, items: Iterable[ItemOf], stop: asyncio.Event) -> Summary:
        """Send the letters of these items until none is left, or one fails, of each.

        Items come in the order given, those of one stream before those of the next. Raises
        DdbrelayError when no request can succeed, and StateError; what was accepted before is gone
        from the store then.
        """
        self._settling_until = asyncio.get_running_loop().time() + _SETTLING
        stopper = asyncio.create_task(self._stop_with(stop))
        if self._plan.timeout is not None:
            self._timers.later(self._plan.timeout, lambda: self._end("timeout"))
        try:
            for lines in _by_stream(items):
                await self._run_lines(lines)
                if self._ending is not None or self._error is not None:
                    break
            await self._finish()
        finally:
            self._ending = self._ending or "done"
            self._timers.cancel()
            await cancel([stopper, *self._senders])
        if self._error is not None:
            raise self._error
        self.summary.end = self._ending
        return self.summary

    async def _stop_with(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._end("stopped")

    def _end(self, why: str) -> None:
        self._ending = self._ending or why
        self._wake.set()

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._wake.set()

    @property
    def _over(self) -> bool:
        return self._ending is not None or self._error is not None

    async def _run_lines(self, lines: Iterator[_Line]) -> None:
        more = True
        while not self._over:
            while self._has_room and not self._over:
                line = self._lines.popleft() if self._lines else next(lines, None)
                if line is None:
                    more = False
                    break
                self._advance(line)
                if self._packer.full:
                    self._pump()
                # A signal must come through between letters that need no sending.
                await asyncio.sleep(0)
            self._pump()
            if not (more or self._lines or self._active):
                return
            await self._wake.wait()
            self._wake.clear()

    async def _finish(self) -> None:
        """Wait for what is in flight; what only waits for another try stays in the store."""
        if self._senders:
            await asyncio.wait(self._senders, timeout=self._plan.grace)

    @property
    def _has_room(self) -> bool:
        return not self._active or (
            self._active < _LINES_PER_REQUEST * self._plan.max_in_flight and self._held < _MAX_HELD
        )

    # One letter after the other

    def _advance(self, line: _Line) -> None:
        """Bring the next letter of an item on its way, if there is one that can go."""
        letter = self._next(line)
        if letter is None:
            return
        if not line.checked and not self._letters.passed(letter):
            self._wait_until_passed(line, letter)
            return
        line.checked = True
        stored = self._letters.get(letter)
        if stored is None:
            self._lines.append(line)
            return
        prepared = self._preparation(letter, stored)
        if isinstance(prepared, Stays):
            self._stays(letter, prepared)
        elif isinstance(prepared, Skipped):
            self._letters.resolve([letter], How.SKIPPED)
            self.summary.skipped += 1
            skipped = Result(letter, How.SKIPPED, prepared.change, reason=prepared.reason)
            self._watcher.result(skipped)
            self._lines.append(line)
        else:
            item = prepared.item
            size = len(stored.record) + sum(len(event.detail) for event in prepared.events)
            size += item.size + sum(parcel.size for parcel in item.rest)
            item.ticket = _Flight(line, letter, prepared.events, size)
            self._active += 1
            self._held += size
            self._packer.add(item)

    def _next(self, line: _Line) -> Parked | None:
        """The next letter that was not sent yet; None when the store has no more of the item."""
        while not line.waiting:
            found = self._letters.of_item(line.item)
            if not found:
                return None
            # One that was kept behind others was kept behind those that were sent here. Any other
            # came after the item was handed back to the relay, which may be sending of it.
            line.checked = line.checked and found[0].behind
            # A run that was killed before its checkpoint moved reads and parks again what was
            # sent meanwhile; behind its successors it would be out of order.
            again = [one for one in found if self._was_sent(line, one)]
            if again:
                self._letters.resolve(again, How.REDRIVEN)
            line.waiting.extend(one for one in found if not self._was_sent(line, one))
        return line.waiting.popleft()

    def _wait_until_passed(self, line: _Line, letter: Parked) -> None:
        if asyncio.get_running_loop().time() >= self._settling_until:
            self._stays(letter, Stays(_UNSETTLED, known=True))
            return
        # An earlier one may be parked meanwhile, when a killed relay's records are read again.
        line.waiting.clear()
        self._active += 1
        self._timers.later(_LOOK_AGAIN, lambda: self._look_again(line))

    def _look_again(self, line: _Line) -> None:
        self._active -= 1
        self._lines.append(line)
        self._wake.set()

    def _was_sent(self, line: _Line, letter: Parked) -> bool:
        return int(letter.sequence) <= line.sent.get(letter.shard_id, -1)

    def _stays(
        self,
        letter: Parked,
        why: Stays,
        attempts: int = 0,
        event_ids: tuple[str, ...] = (),
        left: tuple[Event | None, ...] = (),
    ) -> None:
        if not why.known:
            redacted = why.change is not None and why.change.is_redacted
            stored = self._letters.get(letter) if redacted else None
            kept = stored and self._preparation.kept(stored, why.change, left)
            self._letters.put_off(letter, why.reason, attempts, kept)
        self.summary.failed += 1
        self._watcher.result(
            Result(letter, None, why.change, why.events, event_ids, why.reason, attempts)
        )

    # Sending

    def _pump(self) -> None:
        while self._packer.ready and len(self._senders) < self._window.size and not self._over:
            task = asyncio.create_task(self._send(self._packer.take()))
            self._senders.add(task)
            task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._senders.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)
        self._wake.set()

    async def _send(self, items: list[Item]) -> None:
        loop = asyncio.get_running_loop()
        sent_at, full = loop.time(), len(self._senders) >= self._window.size
        receipt = await self._sink.send(items)
        if receipt.crowded:
            self._window.crowded(sent_at, loop.time())
        else:
            self._window.answered(sent_at, loop.time(), full=full)
        self._apply(receipt)

    def _apply(self, receipt: Receipt) -> None:
        self._accept(receipt.accepted)
        for item, reason in receipt.rejected:
            item.attempts += 1
            self._give_up(item, reason)
        if receipt.held is not None:
            raise AwsRefused(receipt.held, "mend it and redrive again: what was not sent stays")
        again = []
        for item, reason in (*receipt.retry, *receipt.unknown):
            item.attempts += 1
            if item.attempts >= self._plan.max_attempts:
                self._give_up(item, reason)
            else:
                again.append(item)
                if item.attempts % RETRIES_BEFORE_WORD == 0:
                    self._watcher.trouble(f"the bus did not take an event: {reason}")
        if again:
            for item in again:
                self._packer.put_back(item)
            delay = retry_delay(max(item.attempts for item in again), self._rng)
            self._timers.later(delay, lambda: self._try_again(again))

    def _try_again(self, items: Sequence[Item]) -> None:
        for item in items:
            self._packer.again(item)
        self._wake.set()

    def _accept(self, accepted: Sequence[tuple[Item, str]]) -> None:
        if not accepted:
            return
        last = [item for item, _ in accepted if not item.rest]
        self._letters.resolve([item.ticket.letter for item in last], How.REDRIVEN)
        for item, event_id in accepted:
            item.ticket.event_ids.append(event_id)
            item.ticket.attempts += item.attempts + 1
        self._go_on([item for item, _ in accepted if item.rest])
        for item in last:
            flight = self._landed(item)
            letter, line = flight.letter, flight.line
            number = int(letter.sequence)
            line.sent[letter.shard_id] = max(number, line.sent.get(letter.shard_id, -1))
            self.summary.redriven += 1
            self._watcher.result(
                Result(
                    letter,
                    How.REDRIVEN,
                    item.change,
                    flight.events,
                    tuple(flight.event_ids),
                    attempts=flight.attempts,
                )
            )
            self._lines.append(line)

    def _go_on(self, items: Sequence[Item]) -> None:
        """Send the next event of these; what was accepted is kept no longer."""
        if not items:
            return
        for item in items:
            item.advance()
        self._letters.keep((item.ticket.letter, stored_events(item.left)) for item in items)
        for item in items:
            self._packer.put_back(item)
            self._packer.again(item)

    def _give_up(self, item: Item, reason: str) -> None:
        flight = self._landed(item)
        why = Stays(reason, item.change, flight.events)
        attempts = flight.attempts + item.attempts
        self._stays(flight.letter, why, attempts, tuple(flight.event_ids), item.left)

    def _landed(self, item: Item) -> _Flight:
        """It is no longer on its way."""
        flight: _Flight = item.ticket
        self._packer.release(item)
        self._active -= 1
        self._held -= flight.size
        return flight


def _by_stream(items: Iterable[ItemOf]) -> Iterator[Iterator[_Line]]:
    streams: dict[str, list[ItemOf]] = {}
    for item in items:
        streams.setdefault(item.stream_arn, []).append(item)
    for those in streams.values():
        yield (_Line(item) for item in those)
