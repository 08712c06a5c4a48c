"""What a consumer would find unread if it ran now, by asking AWS."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import (
    Ended,
    Fault,
    Gap,
    NeedIterator,
    NeedRecords,
    Pace,
    Position,
    Shard,
    ShardReader,
    StreamFault,
    StreamSource,
    Wait,
)
from ddbrelay.flow.change import Origin
from ddbrelay.flow.tracking import Store
from ddbrelay.relay.backlog import Unread
from ddbrelay.relay.discovery import Discovery, StreamGone
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD, Options, Outcome
from ddbrelay.relay.tasks import cancel

AT_ONCE = 8
"""Shards that are looked at together."""
EMPTY_PAGES = 5
"""Empty pages may stand before records; behind so many of an open shard there is nothing."""
_EMPTY_PAGES_OF_A_CLOSED_SHARD = 100
_PACE = Pace(after_records=0.2, idle=0.2)
_MAX_FAILURES = 10
_LISTING_TIMEOUT = 60.0


class State(Enum):
    """Where a consumer is with a shard that is not finished; WAITING for the parent to be."""

    BEHIND = "behind"
    IDLE = "idle"
    WAITING = "waiting"
    NOT_BEGUN = "not-begun"


@dataclass(frozen=True, slots=True)
class ShardBacklog:
    """One shard as a consumer would find it now.

    `position` is where the next run starts, `unread` None when there is nothing new, `gap` what is
    lost before it was read and which no run has reported.
    """

    position: Position
    state: State
    unread: Unread | None
    gap: Gap | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """All shards of a stream as a consumer would find them; the worst first.

    `finished` counts those that are read to their end, `reopened` names those that are stored as
    such and are open. `gaps` are the losses that the next run would report, among them those of
    shards that are no longer listed.
    """

    shards: Sequence[ShardBacklog]
    gaps: Sequence[Gap]
    finished: int = 0
    reopened: Sequence[str] = ()

    @property
    def unread(self) -> list[Unread]:
        """The shards with unread records."""
        return [shard.unread for shard in self.shards if shard.unread is not None]


async def survey(
    source: StreamSource,
    origin: Origin,
    store: Store,
    *,
    trouble: Callable[[str], None],
    now: Callable[[], float] = time.time,
    rng: random.Random | None = None,
) -> Survey:
    """Look at the first unread record of every shard that is not finished.

    The store is only loaded. At most 8 shards are looked at together, each with at most five
    requests a second. `trouble` hears of calls that keep failing; AwsRefused when they go on to, or
    the stream is gone.
    """
    chance = rng or random.Random()
    stored = await store.load()
    lost: list[Gap] = []
    discovery = Discovery(
        source,
        store,
        origin,
        _Listener(trouble),
        Options(),
        now,
        chance,
        lost.append,
        False,
    )
    try:
        async with asyncio.timeout(_LISTING_TIMEOUT):
            await discovery.begin()
    except TimeoutError as error:
        raise AwsRefused(
            f"cannot list the shards of the stream within {_LISTING_TIMEOUT:.0f} s",
            "-v shows what AWS answers; try again",
        ) from error
    except StreamGone as error:
        raise AwsRefused(f"the stream {origin.stream_arn} no longer exists") from error
    listed = list(_in_order(discovery))
    found: list[ShardBacklog] = []
    todo = iter(listed)

    async def work() -> None:
        for shard, position, waits in todo:
            reader = ShardReader(
                position,
                _PACE,
                chance,
                fresh=discovery.fresh,
                closed=shard.closed,
            )
            look = _Look(source, reader, now, trouble)
            if not waits or position.starting is not None:
                # A run knows more of a child by then: what its parent held, and when.
                look.gap = reader.unseen(now())
            unread = await look.first_unread()
            state = _state(stored.get(shard.id), waits, unread)
            found.append(ShardBacklog(position, state, unread, look.gap))

    workers = [asyncio.create_task(work()) for _ in range(min(AT_ONCE, len(listed)))]
    try:
        await asyncio.gather(*workers)
    finally:
        await cancel(workers)
    finished = {position.shard_id for position in stored.values() if position.finished}
    reopened = sorted(finished & {position.shard_id for _, position, _ in listed})
    gaps = [*lost, *(shard.gap for shard in found if shard.gap is not None)]
    return Survey(sorted(found, key=_badness), gaps, len(finished) - len(reopened), reopened)


def _in_order(discovery: Discovery) -> Iterator[tuple[Shard, Position, bool]]:
    """Every shard that is not finished, parents first, and whether it waits for its parent."""
    waits = False
    while ready := discovery.ready():
        for shard, position in ready:
            yield shard, position, waits
            # As if it had been read: so its children come next, as they would in a run.
            discovery.finish(position)
        waits = True


def _state(stored: Position | None, waits: bool, unread: Unread | None) -> State:
    if waits:
        return State.WAITING
    begun = stored is not None and (
        stored.sequence or stored.iterator or stored.seen_at is not None
    )
    if not begun:
        return State.NOT_BEGUN
    return State.IDLE if unread is None else State.BEHIND


def _badness(shard: ShardBacklog) -> tuple[bool, bool, float, str]:
    unread = shard.unread
    since = 0.0 if unread is None else unread.since or 0.0
    return shard.gap is None, unread is None, since, shard.position.shard_id


@dataclass(slots=True)
class _Look:
    """One look at a shard, from where the next run would start; `gap` is what is lost before it."""

    source: StreamSource
    reader: ShardReader
    now: Callable[[], float]
    trouble: Callable[[str], None]
    gap: Gap | None = None

    async def first_unread(self) -> Unread | None:
        """The oldest record that can still be read; None when there is none."""
        reader, shard_id = self.reader, self.reader.position.shard_id
        most = _EMPTY_PAGES_OF_A_CLOSED_SHARD if reader.closed else EMPTY_PAGES
        failures = empty = 0
        while True:
            step = reader.step(self.now())
            try:
                match step:
                    case Wait(until):
                        await asyncio.sleep(max(until - self.now(), 0.001))
                        continue
                    case NeedIterator(kind, sequence, timestamp):
                        iterator = await self.source.iterator(
                            shard_id, kind, sequence=sequence, timestamp=timestamp
                        )
                        reader.got_iterator(iterator, self.now())
                        continue
                    case NeedRecords(iterator):
                        page = await self.source.records(iterator)
                    case Ended():
                        if reader.surely_ended:
                            return None
                        reader.reopen()
                        continue
            except (StreamFault, AwsRefused) as error:
                failures += 1
                self._failed(error, failures)
                if reader.ended:
                    return None
                continue
            failures = 0
            for record in page.records:
                if reader.wants(record):
                    return Unread(shard_id, record.dynamodb.created_at or reader.seen_at)
            reader.got_page(page, self.now())
            empty = 0 if page.records else empty + 1
            if empty >= most:
                return None

    def _failed(self, error: StreamFault | AwsRefused, failures: int) -> None:
        shard_id = self.reader.position.shard_id
        if isinstance(error, StreamFault):
            fault = error
        elif self.reader.proving:
            # Whether an endpoint takes a shard's first number is not for sure.
            fault = StreamFault(Fault.REFUSED, str(error))
        else:
            raise error
        if failures == _MAX_FAILURES:
            raise AwsRefused(f"cannot read shard {shard_id}: {fault}") from error
        if failures % RETRIES_BEFORE_WORD == 0:
            self.trouble(f"cannot read shard {shard_id}, trying again: {fault}")
        gap = self.reader.failed(fault.fault, self.now())
        self.gap = self.gap or gap


@dataclass(frozen=True, slots=True)
class _Listener:
    """An `Observer` of which only troubles are wanted."""

    trouble: Callable[[str], None]

    def outcome(self, outcome: Outcome) -> None:
        """Nothing is relayed."""

    def gap(self, gap: Gap) -> None:
        """It is kept where it is found."""
