"""The ports of one run, watched: each passes everything on, and fails as soon as a rule is broken.

Limits: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/
API_streams_DescribeStream.html (ten calls a second), and Streams.html of the developer guide (two
readers for each shard).
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ddbrelay.flow.capture import Gap, IteratorType, Page, Position, ShardPage, Start, StreamSource
from ddbrelay.flow.capture.port import PAGE_RECORDS
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event, Mapped, Reject, Several, Skip
from ddbrelay.flow.packing import MAX_BYTES, Item
from ddbrelay.flow.sink import Receipt, Sink
from ddbrelay.flow.tracking import Account as Ledger
from ddbrelay.flow.tracking import DeadLetter, Fate, Usage
from ddbrelay.relay import Options, Outcome
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing.world import Log

from .invariants import Account

LISTINGS_A_SECOND = 10
"""Of one consumer; AWS counts all together, which no consumer can see."""
READS_A_SECOND = 6
"""Of one shard by one run: four, and one each after an expired iterator and after a failure.

Pages behind which more records wait do not count."""
_TASKS_OF_A_RUN = 8
_SENDS_BETWEEN_COUNTS = 20


class Limit:
    """At most so many calls in any second of the virtual clock."""

    def __init__(self, calls: int) -> None:
        self._times: deque[float] = deque(maxlen=calls)

    def crossed(self) -> bool:
        """Count a call; whether it is one too many."""
        now = asyncio.get_running_loop().time()
        full = len(self._times) == self._times.maxlen and now - self._times[0] < 1.0
        self._times.append(now)
        return full


class Load:
    """What one run holds at a time, and what it may hold."""

    def __init__(self, account: Account, options: Options, tasks_of_others: Callable[[], int]):
        self._account, self._options = account, options
        self._tasks_of_others = tasks_of_others
        self._sends = 0
        self.open: set[str] = set()
        self.most_open = 0
        self.read = self.told = 0
        self.fates = dict.fromkeys(Fate, 0)
        self.gaps = 0

    @property
    def most_tasks(self) -> int:
        """More tasks than these the run never has."""
        # A reader, and the save with which its shard ends.
        return _TASKS_OF_A_RUN + 2 * len(self.open) + self._options.max_in_flight

    def opened(self, shard_id: str) -> bool:
        """Whether this is the first that the run asks of a shard."""
        first = shard_id not in self.open
        self.open.add(shard_id)
        self.most_open = max(self.most_open, len(self.open))
        return first

    def took(self, page: Page) -> None:
        """Records came in."""
        self.read += len(page.records)
        bound = self._options.max_pending + PAGE_RECORDS * self.most_open
        if self.read - self.told > bound:
            raise self._account.fail(
                f"{self.read - self.told:,} records are in hand, at most {bound:,} may be"
            )

    def sends(self) -> None:
        """A request goes out."""
        self._sends += 1
        if self._sends % _SENDS_BETWEEN_COUNTS == 0:
            tasks, bound = len(asyncio.all_tasks()), self.most_tasks + self._tasks_of_others()
            if tasks > bound:
                raise self._account.fail(f"there are {tasks} tasks, at most {bound} may be")


class WatchedSource:
    """A `StreamSource`: parents first, one call of a shard at a time, within the limits."""

    def __init__(
        self,
        inner: StreamSource,
        account: Account,
        load: Load,
        listings: Limit,
        shard_of: dict[str, str],
    ) -> None:
        self._inner, self._account, self._load = inner, account, load
        self._listings, self._shard_of = listings, shard_of
        self._reads: dict[str, Limit] = {}
        self._calling: set[str] = set()

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        if self._listings.crossed():
            raise self._account.fail(f"DescribeStream: more than {LISTINGS_A_SECOND} calls/s")
        return await self._inner.shards(after, children_of)

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        with self._one_call(shard_id):
            iterator = await self._inner.iterator(
                shard_id, kind, sequence=sequence, timestamp=timestamp
            )
        if kind is IteratorType.LATEST:
            self._account.latest(shard_id)
        self._shard_of[iterator] = shard_id
        return iterator

    async def records(self, iterator: str) -> Page:
        shard_id = self._shard_of[iterator]
        if shard_id not in self._reads:
            self._reads[shard_id] = Limit(READS_A_SECOND)
        if self._reads[shard_id].crossed():
            raise self._account.fail(f"GetRecords: more than {READS_A_SECOND} calls/s of a shard")
        with self._one_call(shard_id):
            page = await self._inner.records(iterator)
        if page.full:
            self._reads[shard_id] = Limit(READS_A_SECOND)
        if page.next_iterator is not None:
            self._shard_of[page.next_iterator] = shard_id
        self._load.took(page)
        self._account.losses.read(shard_id, page)
        return page

    def _one_call(self, shard_id: str) -> _OneCall:
        if shard_id in self._calling:
            raise self._account.fail(f"two calls of shard {shard_id} at the same time")
        if self._load.opened(shard_id):
            self._account.may_read(shard_id)
        return _OneCall(self._calling, shard_id)


class _OneCall:
    def __init__(self, calling: set[str], shard_id: str) -> None:
        self._calling, self._shard_id = calling, shard_id

    def __enter__(self) -> None:
        self._calling.add(self._shard_id)

    def __exit__(self, *error: object) -> None:
        self._calling.discard(self._shard_id)


class WatchedSink:
    """A `Sink`; the bus behind it notes by itself what must not be sent."""

    def __init__(self, inner: Sink, load: Load) -> None:
        self._inner, self._load = inner, load

    async def send(self, items: Sequence[Item]) -> Receipt:
        self._load.sends()
        return await self._inner.send(items)


class WatchedStore(SqliteStore):
    """The state file; nothing is stored that does not hold."""

    def __init__(
        self,
        database: Database,
        account: Account,
        stream_arn: str,
        now: Callable[[], float],
        rng: random.Random,
        start: Start,
    ) -> None:
        super().__init__(database, account.consumer, stream_arn, now)
        self._account, self._rng, self._first_start = account, rng, start

    async def _takes_time(self) -> None:
        # As slow as a store on a network now and then, so that saves and settling interleave.
        if self._rng.random() < 0.3:
            await asyncio.sleep(self._rng.uniform(0.0, 0.05))

    async def begin(
        self, positions: Iterable[Position], accounts: Iterable[Ledger] = (), **kwargs: Any
    ) -> None:
        kept, added = list(positions), list(accounts)
        self._account.begin(kept, self._first_start)
        await self._takes_time()
        await super().begin(kept, added, **kwargs)
        self._account.losses.keep(gap for account in added for gap in account.gaps)
        self._account.stored.clear()
        self._account.remember(kept)

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Ledger] = (),
        usage: Usage | None = None,
    ) -> None:
        kept, added = list(positions), list(accounts)
        self._account.check(kept)
        await self._takes_time()
        await super().save(kept, added, usage)
        self._account.losses.keep(gap for account in added for gap in account.gaps)
        self._account.remember(kept)

    async def forget(self, shard_ids: Iterable[str], *args: Any, **kwargs: Any) -> None:
        gone = list(shard_ids)
        await super().forget(gone, *args, **kwargs)
        self._account.forget(gone)

    async def park(
        self, letters: Iterable[DeadLetter], *args: Any, **kwargs: Any
    ) -> list[DeadLetter]:
        given = list(letters)
        await self._takes_time()
        returned = await super().park(given, *args, **kwargs)
        self._account.letters([letter for letter in given if letter not in returned])
        return returned


class WatchedLog(Log):
    """An `Observer` that compares what it is told with what is so."""

    def __init__(self, account: Account, load: Load, say: Callable[[str], None]) -> None:
        super().__init__()
        self._account, self._load, self._say = account, load, say

    def outcome(self, outcome: Outcome) -> None:
        assert outcome.fate is not None, "no run of the day is a preview"
        if not outcome.more:
            self._load.told += 1
            self._load.fates[outcome.fate] += 1
        self._account.outcome(outcome)

    def gap(self, gap: Gap) -> None:
        self._load.gaps += 1
        self._say(f"gap in {gap.shard_id} after {gap.after}: {gap.reason}")
        self._account.gap(gap)

    def trouble(self, message: str) -> None:
        self._say(message)


class Mapping:
    """A `MapFunction` as cheap as can be: attributes of the item say what becomes of a change.

    `skip` is left out by a rule, `reject` cannot be mapped, `oversize` makes an event that no
    request can hold; the bus refuses the details that say `malformed`. `several2` and `several3`
    become so many events, of which one has the image, and the rules are called 0, 1 and 2.
    """

    _TOO_MUCH = b'{"oversize":"' + b"x" * MAX_BYTES + b'"}'

    def __call__(self, change: Change) -> Mapped:
        record = change.record
        image = bytes(record.dynamodb.keys if change.event_name == "REMOVE" else _new(record))
        if b'"skip"' in image:
            return Skip("skip")
        if b'"reject"' in image:
            return Reject("reject")
        detail = self._TOO_MUCH if b'"oversize"' in image else image
        event = Event("ddbrelay.users", "UserChanged", detail, (change.event_id,), change.time)
        if b'"several' not in image:
            return event
        count = 2 if b'"several2"' in image else 3
        with_image = int(change.sequence_number) % count
        return Several(
            tuple(
                msgspec.structs.replace(
                    event, detail=detail if place == with_image else b"{}", rule=str(place)
                )
                for place in range(count)
            )
        )


def _new(record: Any) -> Any:
    return record.dynamodb.new_image
