"""One shard's iterator as a state machine."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from ddbrelay.flow.capture.lineage import Position, Start
from ddbrelay.flow.capture.port import (
    ITERATOR_LIFETIME,
    RETENTION,
    Fault,
    IteratorType,
    Page,
    Record,
)

_UNUSABLE = "the iterator is older than 15 minutes, or is not one of this stream"
_UNSEEN = "nobody read it for longer than the stream keeps its records"
_NOT_OF_THE_ITERATOR = frozenset({Fault.THROTTLED, Fault.NOT_FOUND, Fault.NO_ANSWER})
_FIRST_TOLERANCE = 15 * 60.0
"""Seconds that a very first run may be interrupted before it counts as too late."""
_EMPTY_PAGES_AT_THE_TIP = 3
"""A page may be empty although records follow; so many in a row are taken for the tip."""
_FAILURES_OF_A_BROKEN_CALL = 20
"""An endpoint that fails so often, for minutes, does not take the call."""
_TIP_MARGIN = 60.0
"""Seconds by which the clocks of AWS and of this machine may differ."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Pauses of one shard's reader, in seconds."""

    after_records: float = 0.25
    idle: float = 1.0
    retry_base: float = 0.2
    retry_cap: float = 10.0

    @property
    def longest(self) -> float:
        """No pause is longer."""
        return max(self.after_records, self.idle, self.retry_cap)


@dataclass(frozen=True, slots=True)
class Wait:
    """Do nothing before `until`."""

    until: float


@dataclass(frozen=True, slots=True)
class NeedIterator:
    """Ask for an iterator."""

    kind: IteratorType
    sequence: str | None = None
    timestamp: float | None = None


@dataclass(frozen=True, slots=True)
class NeedRecords:
    """Ask for a page."""

    iterator: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The shard is read to its end."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Records of a shard that were trimmed, or went with it, before they could be read.

    `after` is the last sequence number read, None when not even the first record was; `before` the
    first one that could be read behind the gap, None as long as there is none. What is lost was
    written between `since` and `until`, epoch seconds, as far as that can be known.
    """

    shard_id: str
    after: str | None
    reason: str
    since: float | None = None
    until: float | None = None
    before: str | None = None


@dataclass(slots=True)
class ShardReader:
    """One shard from its start to its end, as a state machine.

    `step(now)` says what to do next; the answer goes to `got_iterator`, `got_page` or `failed`.
    `fresh` marks the very first start, the only one at which LATEST may be asked for. `closed` says
    that the listing has an end of the shard: a page without a next iterator proves it only then.
    """

    position: Position
    pace: Pace = field(default_factory=Pace)
    rng: random.Random = field(default_factory=random.Random)
    fresh: bool = False
    closed: bool = False
    ended: bool = False
    proving: bool = False
    caught_up: bool = False
    _iterator: str | None = None
    _iterator_at: float = 0.0
    _iterator_is_stored: bool = False
    _sequence: str | None = None
    _since: float | None = None
    _from_horizon: bool = False
    _time_is_unproven: bool = False
    _pause: float = 0.0
    _until: float = 0.0
    _failures: int = 0
    _empty_pages: int = 0
    _iterator_is_fresh: bool = False
    _seen_at: float | None = None
    _written_at: float | None = None

    def __post_init__(self) -> None:
        at = self.position
        self._sequence = at.sequence
        self._seen_at, self._written_at = at.seen_at, at.written_at
        if at.iterator is not None and at.sequence is None:
            # Behind a number a fresh iterator is asked for: that of an emulator may be a place in
            # a list, which after its restart is another list.
            self._iterator, self._iterator_at = at.iterator, at.iterator_at or 0.0
            self._iterator_is_stored = True
        if at.start is Start.TIME and at.start_time is not None:
            # The second that holds the start time belongs to it: records carry whole seconds.
            self._since = float(int(at.start_time))

    @property
    def sequence(self) -> str | None:
        """The last sequence number that was read."""
        return self._sequence

    @property
    def seen_at(self) -> float | None:
        """Nothing that was written before this time is unread."""
        return self._seen_at

    def unseen(self, now: float) -> Gap | None:
        """The gap before the first record of a shard that nobody read for too long.

        To be asked once, before the first step. A shard of which a record was read needs no clock:
        its next iterator fails when records were trimmed. So does one at the shard's first number,
        which is tried (`proving`) before anything is called lost.
        """
        at, horizon = self.position, now - RETENTION
        if self.fresh or at.sequence is not None or at.start is Start.AT_SEQUENCE:
            return None
        known = self._known_until
        # A time that is still to come was noted when the clock was wrong.
        late = known is not None and not horizon <= known <= now + _TIP_MARGIN
        if known is None:
            late = self._is_late(now)
        by_number = at.start is Start.TRIM_HORIZON and at.starting is not None
        self.proving = late and by_number
        return self._gap(_UNSEEN, horizon) if late and not self.proving else None

    @property
    def _known_until(self) -> float | None:
        """Nothing that was written before is unread without having been reported as lost."""
        times = (self._seen_at, self.position.lost_until)
        return max((time for time in times if time is not None), default=None)

    def _is_late(self, now: float) -> bool:
        at = self.position
        return at.start_time is not None and at.start_time < now - _FIRST_TOLERANCE

    @property
    def iterator_at(self) -> float:
        """When the iterator in use was given."""
        return self._iterator_at

    def step(self, now: float) -> Wait | NeedIterator | NeedRecords | Ended:
        """What to do at the time `now`."""
        if self.ended:
            return Ended()
        # A pause that is longer than any was made before the clock was set back.
        if now < self._until <= now + self.pace.longest:
            return Wait(self._until)
        aged = now - self._iterator_at >= ITERATOR_LIFETIME
        if self._iterator is not None and not (aged and self._renewable):
            return NeedRecords(self._iterator)
        ask = self._iterator_to_ask_for()
        self._time_is_unproven = ask.kind is IteratorType.AT_TIMESTAMP
        if ask.kind is IteratorType.LATEST:
            # A second LATEST would jump over whatever came since the first.
            self.fresh = False
        return ask

    @property
    def _renewable(self) -> bool:
        return self._sequence is not None or self.position.start is not Start.ITERATOR

    def _iterator_to_ask_for(self) -> NeedIterator:
        start = self.position
        if self._sequence is not None:
            return NeedIterator(IteratorType.AFTER_SEQUENCE_NUMBER, sequence=self._sequence)
        if self.proving:
            return NeedIterator(IteratorType.AT_SEQUENCE_NUMBER, sequence=start.starting)
        if self._from_horizon or start.start in {Start.TRIM_HORIZON, Start.ITERATOR}:
            return NeedIterator(IteratorType.TRIM_HORIZON)
        if start.start is Start.AT_SEQUENCE:
            return NeedIterator(IteratorType.AT_SEQUENCE_NUMBER, sequence=start.start_sequence)
        if start.start is Start.LATEST and self.fresh:
            return NeedIterator(IteratorType.LATEST)
        # Records carry whole seconds: asked for a fraction, AWS may leave out its own second.
        return NeedIterator(
            IteratorType.AT_TIMESTAMP, timestamp=float(int(start.start_time or 0.0))
        )

    def got_iterator(self, iterator: str, now: float) -> None:
        """GetShardIterator answered."""
        self._iterator, self._iterator_at = iterator, now
        self._iterator_is_stored, self._iterator_is_fresh = False, True

    def doubts(self, page: Page) -> bool:
        """Whether a page is not to be used, since a fresh iterator must be asked for first.

        So it is when the endpoint may have started anew since it gave the iterator, and the last
        sequence number is known.
        """
        if not page.reconnected or self._iterator_is_fresh or not self._asks_behind_number:
            return False
        self._iterator = None
        return True

    @property
    def _asks_behind_number(self) -> bool:
        return self._sequence is not None and self.position.start is not Start.ITERATOR

    def got_page(self, page: Page, now: float) -> None:
        """GetRecords answered; the records are the caller's to handle, before the end counts."""
        self._failures = 0
        self._time_is_unproven = self.proving = False
        if page.next_iterator is not None or page.records:
            # Behind an empty page without another one the same iterator may be asked again.
            self._iterator = page.next_iterator
        self._iterator_at = now
        self._iterator_is_stored = self._iterator_is_fresh = False
        if page.records:
            self._sequence = page.records[-1].sequence_number
            self._written_at = page.records[-1].dynamodb.created_at
            self._empty_pages = 0
            self._saw_everything_before(self._written_at)
        else:
            self._empty_pages += 1
            if self._empty_pages >= _EMPTY_PAGES_AT_THE_TIP and not self.closed:
                self._saw_everything_before(now - _TIP_MARGIN)
        self.ended = page.next_iterator is None
        if page.full:
            self._pause = 0.0
        elif page.records:
            self._pause = self.pace.after_records
        elif self.closed:
            # Empty pages stand before records; nothing new comes, so there is nothing to wait for.
            self._pause = self.pace.after_records
        else:
            grown = max(self._pause, self.pace.after_records / 2) * 2
            self._pause = min(grown, self.pace.idle)
        self.caught_up = not (page.records or self.closed or self.ended)
        self._until = now + self._pause

    @property
    def surely_ended(self) -> bool:
        """Whether nothing comes behind the last page; where not, the listing is to be asked."""
        return self.ended and (self.closed or self.position.start is Start.ITERATOR)

    def reopen(self, *, closed: bool = False) -> None:
        """Read on behind a page that had no next iterator.

        `closed` when the listing has an end of the shard by now: more may have come before it.
        """
        self.ended, self.closed = False, closed
        self.caught_up = self._empty_pages > 0 and not closed

    def _saw_everything_before(self, time: float | None) -> None:
        if time is not None and time > (self._seen_at or 0.0):
            self._seen_at = time

    @property
    def filters(self) -> bool:
        """Whether `wants` may refuse a record."""
        return self._since is not None

    def wants(self, record: Record) -> bool:
        """False for a record older than a start by time, where the endpoint could not filter."""
        created_at = record.dynamodb.created_at
        return self._since is None or created_at is None or created_at >= self._since

    def failed(self, fault: Fault, now: float) -> Gap | None:
        """A call failed; returns the gap when records are lost by it."""
        if self._iterator_is_stored and fault not in _NOT_OF_THE_ITERATOR:
            # Emulators answer an unknown iterator with HTTP 500.
            self._iterator, self._iterator_is_stored = None, False
            if self._renewable:
                return None
            self.ended = self.closed = True
            return self._gap(_UNUSABLE, now)
        broken = fault is Fault.TRANSIENT and self._failures > _FAILURES_OF_A_BROKEN_CALL
        if self.proving and (fault in {Fault.TRIMMED, Fault.REFUSED} or broken):
            self.proving = False
            return self._trimmed(now, _UNSEEN)
        if fault is Fault.EXPIRED:
            self._iterator = None
            self._failures += 1
            if self._failures > 1:
                self._back_off(now)
            return None
        if fault is Fault.TRANSIENT and self._time_is_unproven and self._failures > 0:
            # moto takes AT_TIMESTAMP and then fails on the iterator that it gave.
            fault = Fault.REFUSED
        if fault is Fault.REFUSED and not self._from_horizon and self._sequence is None:
            self._iterator, self._from_horizon = None, True
            self._since = float(int(self.position.start_time or 0.0))
            return None
        if fault is Fault.TRIMMED:
            return self._trimmed(now)
        if fault is Fault.NOT_FOUND:
            self.ended = self.closed = True
            return self._gap(fault.value, now)
        if fault is Fault.NO_ANSWER and self._asks_behind_number:
            self._iterator = None
        self._failures += 1
        self._back_off(now)
        return None

    def _back_off(self, now: float) -> None:
        ceiling = min(self.pace.retry_cap, self.pace.retry_base * 2.0 ** min(self._failures, 30))
        self._until = now + self.rng.uniform(ceiling / 2, ceiling)

    def _trimmed(self, now: float, reason: str = Fault.TRIMMED.value) -> Gap | None:
        if self._iterator is not None and self._sequence is not None:
            # Only the iterator is known to be too old; the next records may still be there.
            self._iterator = None
            return None
        if self._sequence is not None and self._only_what_was_read_is_trimmed(now):
            self._iterator, self._sequence, self._from_horizon = None, None, True
            return None
        if self.fresh and self._sequence is None and not self._is_late(now):
            # The horizon moved on while this very first run took its first steps.
            self._iterator = None
            self._failures += 1
            self._back_off(now)
            return None
        gap = self._gap(reason, now - RETENTION)
        self._iterator, self._sequence, self._from_horizon = None, None, True
        return gap

    def _only_what_was_read_is_trimmed(self, now: float) -> bool:
        """Whether nothing was written for a day but what was read.

        Both times must say so: a clock that is wrong would make one of them lie.
        """
        if self._written_at is None or self._seen_at is None:
            return False
        horizon = now - RETENTION
        return self._written_at < horizon and horizon + _TIP_MARGIN < self._seen_at <= now

    def _gap(self, reason: str, until: float) -> Gap:
        since = self._known_until
        known = until if since is None or until >= since else None
        return Gap(self.position.shard_id, self._sequence, reason, since, known)
