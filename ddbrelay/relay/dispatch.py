"""Events that wait -> requests in flight -> receipts: when to send, and how many at once."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from ddbrelay.flow.packing import MAX_ENTRIES, Item, Packer
from ddbrelay.flow.retrying import RetryBudget
from ddbrelay.flow.sink import Receipt, Sink, retry_delay
from ddbrelay.flow.tracking import Tally, Usage
from ddbrelay.logs import fields
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Observer, Options
from ddbrelay.relay.tasks import Tasks, Timers, cancel
from ddbrelay.relay.window import Window
from ddbrelay.times import whole

_log = logging.getLogger(__name__)

_PROBE_CAP = 15.0
"""Seconds between two looks at a bus that takes nothing, at most."""
_SAME_WORD = 30.0
"""Seconds before the observer hears the same reason again."""
HELD_FOR = 60.0
"""Seconds without an event that was taken before it is an error."""
_SAME_ERROR = 600.0
"""Seconds before the same error is logged again."""
_LONGEST = 30
"""So many failures have the longest pause."""


class Receiver(Protocol):
    """Is told what became of the items."""

    def accepted(self, accepted: Sequence[tuple[Item, str]]) -> None:
        """The bus has the events of these, under these ids; what is in `rest` goes next."""

    def rejected(self, item: Item, reason: str, later: Sequence[Item]) -> None:
        """The bus will never take it; `later` are the events of its key that waited behind it."""

    def answered(self) -> Awaitable[None]:
        """All of a receipt was told."""


@dataclass(frozen=True, slots=True)
class Refusing:
    """A bus takes no event: for so many seconds, and for what reason the last time."""

    seconds: float
    reason: str
    paused: bool = False
    """Whether nothing is sent meanwhile, but for a look now and then."""

    @property
    def lasts(self) -> bool:
        """Whether it has lasted long enough to be an error."""
        return self.seconds >= HELD_FOR

    @property
    def held(self) -> bool:
        """Whether it is more than a bus that is busy for a moment."""
        return self.paused or self.lasts


@dataclass(slots=True)
class _Refusal:
    """Since when a bus has taken nothing, why the last time, and when that is logged next."""

    since: float
    reason: str
    error_at: float
    only: Item | None
    """The one event that was refused, each time with an unknown code: that speaks of the event, not
    of the bus. None once the bus has refused another event, or for a reason of its own."""


class Dispatch:
    """Keeps the requests of one run going; two items of one key are never under way together."""

    def __init__(
        self,
        sink: Sink,
        receiver: Receiver,
        observer: Observer,
        options: Options,
        tally: Tally,
        usage: Usage,
        rng: random.Random,
        tasks: Tasks,
    ) -> None:
        self._sink, self._receiver, self._observer = sink, receiver, observer
        self._options, self._tally, self._usage = options, tally, usage
        self._rng, self._tasks = rng, tasks
        self._packer = Packer()
        self._window = Window(options.max_in_flight)
        self._budget = RetryBudget()
        self._senders: set[asyncio.Task[None]] = set()
        self._timers = Timers()
        self._lingers = False
        self._probes = 0
        self._probe_is_due = False
        self._closed = False
        self._quiet = asyncio.Event()
        self._said: dict[str, float] = {}
        self._refusals: dict[str | None, _Refusal] = {}
        self._is_watched = False
        self.held: str | None = None
        self.in_flight = 0
        self.last_receipt = 0.0
        self.on_answer: Callable[[float], None] = lambda seconds: None

    @property
    def pending(self) -> int:
        """Events that wait or are in flight."""
        return len(self._packer) + self.in_flight

    @property
    def requests(self) -> int:
        """Requests in flight."""
        return len(self._senders)

    @property
    def window(self) -> int:
        """How many requests may be in flight now."""
        return self._window.size if self.held is None else 1

    @property
    def refusing(self) -> Refusing | None:
        """The bus that has taken nothing for longest, although it is tried; None for no bus."""
        refusals = [one for one in self._refusals.values() if one.only is None]
        if not refusals:
            return None
        refusal = min(refusals, key=lambda refusal: refusal.since)
        seconds = asyncio.get_running_loop().time() - refusal.since
        return Refusing(seconds, refusal.reason, self.held is not None)

    def add(self, item: Item) -> None:
        """Send it, behind all earlier ones of its key; `pump` must follow."""
        self._packer.add(item)

    async def settled(self) -> None:
        """Return once nothing waits and nothing is in flight."""
        while self.pending:
            self._quiet.clear()
            await self._quiet.wait()

    async def close(self, grace: float) -> int:
        """Finish what is in hand within so many seconds; how many events are left."""
        self.pump()
        if self.pending and not self._is_pointless:
            self._quiet.clear()
            try:
                async with asyncio.timeout(grace):
                    await self._quiet.wait()
            except TimeoutError:
                pass
        left = self.pending
        # What a cancelled sender leaves behind must not be sent by the next one.
        self._closed = True
        self._timers.cancel()
        await cancel(self._senders)
        return left

    @property
    def _is_pointless(self) -> bool:
        return (self._tasks.failed or self.held is not None) and not self._senders

    # Sending

    def pump(self, *, everything: bool = False) -> None:
        """Send what may go; less than a full request only after the linger, or `everything`."""
        packer = self._packer
        if self._closed or self._tasks.failed or self.held is not None:
            return
        while packer.ready and len(self._senders) < self._window.size:
            little = not packer.full and len(packer) < MAX_ENTRIES
            if little and not everything and self._options.linger > 0:
                if not self._lingers:
                    self._lingers = True
                    self._timers.later(self._options.linger, self._lingered)
                return
            self._start(packer.take())

    def _start(self, items: list[Item]) -> None:
        self.in_flight += len(items)
        task = self._tasks.spawn(self._send(items))
        self._senders.add(task)
        task.add_done_callback(self._sent)

    def _lingered(self) -> None:
        self._lingers = False
        self.pump(everything=True)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._senders.discard(task)
        self.pump()
        if not self.pending or self._is_pointless:
            self._quiet.set()

    async def _send(self, items: list[Item]) -> None:
        loop = asyncio.get_running_loop()
        sent_at, full = loop.time(), len(self._senders) >= self._window.size
        self._usage.requests += 1
        try:
            receipt = await self._sink.send(items)
        finally:
            self.in_flight -= len(items)
        now = self.last_receipt = loop.time()
        self.on_answer(now - sent_at)
        if receipt.crowded:
            self._window.crowded(sent_at, now)
        elif receipt.held is None:
            self._window.answered(sent_at, now, full=full)
        self._apply(receipt)
        await self._receiver.answered()

    def _apply(self, receipt: Receipt) -> None:
        rejected = receipt.rejected
        if receipt.unknown:
            rejected = rejected + self._doubt(receipt.unknown)
        if self._refusals or receipt.retry or receipt.unknown:
            self._note_refusals(receipt, rejected)
        if receipt.held is not None:
            self._hold(receipt.held, [item for item, _ in receipt.retry])
            return
        if self.held is not None and not receipt.crowded and _from_own_bus(receipt):
            self.held, self._probes = None, 0
            self._observer.trouble("the bus takes events again")
        if receipt.accepted:
            self._budget.succeeded()
            self._receiver.accepted(receipt.accepted)
            for item, _ in receipt.accepted:
                if item.rest:
                    item.advance()
                    self._packer.put_back(item)
                    self._packer.again(item)
                else:
                    self._packer.release(item)
        if receipt.retry:
            self._retry(receipt.retry)
        for item, reason in rejected:
            self._receiver.rejected(item, reason, self._packer.withdraw(item))
            self._packer.release(item)
        if self.held is not None:
            self._probe_later()

    def _doubt(self, refused: Sequence[tuple[Item, str]]) -> list[tuple[Item, str]]:
        """Try again what was refused for an unknown reason; those that were long enough."""
        now, longest = asyncio.get_running_loop().time(), self._options.refusal_timeout
        again, given_up, left = [], [], longest
        for item, reason in refused:
            if item.doubted_at is None:
                item.doubted_at = now
            elif now - item.doubted_at >= longest:
                given_up.append((item, f"{reason} (and again for {longest:g} s)"))
                continue
            left = min(left, item.doubted_at + longest - now)
            again.append((item, reason))
        if again:
            self._retry(again, left)
        return given_up

    def _retry(self, failed: Sequence[tuple[Item, str]], longest: float = inf) -> None:
        for item, reason in failed:
            item.attempts += 1
            self._tally.retried += 1
            self._packer.put_back(item)
            if item.attempts % RETRIES_BEFORE_WORD == 0:
                self._say(reason)
        # They wait together: a throttled request must not come back as ten.
        items = [item for item, _ in failed]
        attempt = max(item.attempts for item in items)
        delay = retry_delay(attempt if self._budget.take() else _LONGEST, self._rng)
        delay = min(delay, longest)
        _log.debug("entries not taken: %d, again in %.2f s: %s", len(items), delay, failed[0][1])
        self._timers.later(delay, lambda: self._try_again(items))

    def _say(self, reason: str) -> None:
        """Tell why events are sent again; thousands may wait for the same thing to be mended."""
        now = asyncio.get_running_loop().time()
        self._said = {one: at for one, at in self._said.items() if now - at < _SAME_WORD}
        # Behind its code AWS may speak of the one event.
        kind = reason.partition(": ")[0]
        if kind not in self._said:
            self._said[kind] = now
            self._observer.trouble(f"the bus did not take an event, trying again: {reason}")

    def _try_again(self, items: Iterable[Item]) -> None:
        for item in items:
            self._packer.again(item)
        self.pump(everything=True)

    # A bus that takes nothing

    def _note_refusals(self, receipt: Receipt, rejected: Sequence[tuple[Item, str]]) -> None:
        """Remember since when a bus has settled no event, and watch how long it lasts."""
        settled = {item.event.bus for item, _ in (*receipt.accepted, *rejected)}
        for bus in settled:
            self._refusals.pop(bus, None)
        now = asyncio.get_running_loop().time()
        doubted = [(item, reason, item) for item, reason in receipt.unknown]
        for item, reason, only in (*((*failed, None) for failed in receipt.retry), *doubted):
            bus = item.event.bus
            if bus in settled:
                continue
            refusal = self._refusals.get(bus)
            if refusal is None:
                self._refusals[bus] = _Refusal(now, reason, now + HELD_FOR, only)
                continue
            refusal.reason = reason
            if refusal.only is not only:
                refusal.only = None
        if self._refusals and not self._is_watched:
            self._is_watched = True
            self._timers.later(HELD_FOR, self._watch)

    def _watch(self) -> None:
        """Log an error for each bus that has taken nothing for long; look again while one does."""
        now = asyncio.get_running_loop().time()
        for bus, refusal in self._refusals.items():
            if now < refusal.error_at or refusal.only is not None:
                continue
            refusal.error_at = now + _SAME_ERROR
            seconds = now - refusal.since
            _log.error(
                "%s has taken no event for %s: %s",
                "the bus" if bus is None else f'bus "{bus}"',
                whole(seconds),
                refusal.reason,
                extra=fields(seconds=round(seconds), reason=refusal.reason),
            )
        self._is_watched = bool(self._refusals)
        if self._is_watched:
            # Another bus may begin to refuse before the same error is due again.
            due = min(refusal.error_at for refusal in self._refusals.values())
            self._timers.later(min(HELD_FOR, max(due - now, 1.0)), self._watch)

    def _hold(self, reason: str, items: Sequence[Item]) -> None:
        for item in reversed(items):
            self._packer.put_back(item)
            self._packer.again(item)
        if self.held is None:
            self._observer.trouble(f"{reason}: nothing is sent until it takes events again")
        self.held = reason
        self._probe_later()

    def _probe_later(self) -> None:
        if not self._probe_is_due:
            self._probe_is_due = True
            self._probes += 1
            delay = min(_PROBE_CAP, 2.0 ** min(self._probes - 1, 10))
            self._timers.later(delay * self._rng.uniform(0.75, 1.0), self._probe)

    def _probe(self) -> None:
        """Send one request, to see whether the bus takes it."""
        self._probe_is_due = False
        if self.held is None or self._closed or self._tasks.failed:
            return
        if self._packer.ready and not self._senders:
            self._start(self._packer.take())
        else:
            self._probe_later()


def _from_own_bus(receipt: Receipt) -> bool:
    """Whether it has something to say of the bus of the run, not only of others."""
    told = (receipt.accepted, receipt.retry, receipt.unknown, receipt.rejected)
    return any(item.event.bus is None for some in told for item, _ in some)
