"""Walks a stream again from its trim horizon, and holds the ledger against what it finds."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import (
    Ended,
    Fault,
    NeedIterator,
    NeedRecords,
    Pace,
    Page,
    Position,
    Shard,
    ShardReader,
    StreamFault,
    StreamSource,
    Wait,
)
from ddbrelay.flow.sink import retry_delay
from ddbrelay.flow.tracking.reconciliation import Books, Finding, Reconciliation, Verdict
from ddbrelay.relay.listing import BROKEN, Listing
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD
from ddbrelay.relay.tasks import cancel
from ddbrelay.text import counted

READERS = 8
"""Shards that are read at the same time."""
_PACE = Pace(after_records=0.25, idle=0.25)
"""Two readers may share a shard, and the relay may be the other one."""
_MOST_FAILURES = 12
"""In a row, of one call; about a minute of them."""
_EMPTY_PAGES_AT_THE_TIP = 3
"""Behind the last record that the ledger speaks of, so many empty pages are the end."""
_EMPTY_PAGES_BEFORE_IT = 100
"""Before it, records may follow many empty pages; some half a minute of them is believed."""


class Watcher(Protocol):
    """Is told how the walk goes; must return at once."""

    def progress(self, done: int, shards: int, records: int) -> None:
        """So many of the shards are read, and so many records of all of them."""

    def trouble(self, message: str) -> None:
        """A call keeps failing; it is tried again."""


@dataclass
class Report:
    """What the walk found; counts are of records, as of `Reconciliation`.

    `gone` shards are in the ledger and no longer in the stream. `since` is the write time of the
    oldest record that was verified, epoch seconds.
    """

    shards: int = 0
    gone: int = 0
    seen: int = 0
    verified: int = 0
    accounted: int = 0
    before: int = 0
    waiting: int = 0
    since: float | None = None
    findings: list[Finding] = field(default_factory=list)

    def count(self, verdict: Verdict) -> int:
        """Records with this verdict."""
        return sum(found.count for found in self.findings if found.verdict is verdict)

    def _add(self, shard: Reconciliation) -> None:
        self.shards += 1
        self.seen += shard.seen
        self.verified += shard.verified
        self.accounted += shard.accounted
        self.before += shard.before
        self.waiting += shard.waiting
        if shard.since is not None:
            self.since = shard.since if self.since is None else min(self.since, shard.since)
        self.findings += shard.findings


class Audit:
    """One walk over one stream; `books` by shard id are a picture of one moment before it.

    A relay may run meanwhile: what it settles after that moment counts as not read yet.
    """

    def __init__(
        self,
        source: StreamSource,
        stream_arn: str,
        books: Mapping[str, Books],
        watcher: Watcher,
        *,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
        listing_pause: float = 0.2,
    ) -> None:
        self._source, self._arn, self._books = source, stream_arn, books
        self._watcher = watcher
        self._now, self._rng = now, rng or random.Random()
        self._listing = Listing(source, listing_pause)
        self._began = 0.0
        self._done = self._shards = self._records = 0

    async def run(self) -> Report:
        """Read all that the stream holds now.

        Raises AwsRefused when the stream is gone, may not be read, or gives no answer for minutes.
        """
        self._began = self._now()
        listed = await self._list()
        self._shards = len(listed)
        found: dict[str, Reconciliation] = {}
        waiting = iter(listed)
        readers = [
            asyncio.create_task(self._read_each(waiting, found))
            for _ in range(min(READERS, len(listed)))
        ]
        try:
            await asyncio.gather(*readers)
        finally:
            await cancel(readers)
        report = Report(gone=len(self._books.keys() - found.keys()))
        for _, shard in sorted(found.items()):
            report._add(shard)
        return report

    async def _list(self) -> list[Shard]:
        shards: dict[str, Shard] = {}
        failures = 0
        while True:
            try:
                page, complete = await self._listing.next()
            except StreamFault as fault:
                if fault.fault is Fault.NOT_FOUND:
                    raise AwsRefused(
                        f"the stream {self._arn} no longer exists",
                        "nothing can be verified; without --verify its ledger is shown",
                    ) from fault
                failures += 1
                self._say("list the shards", failures, fault)
                await asyncio.sleep(retry_delay(failures, self._rng, base=0.5))
                continue
            failures = 0
            shards |= {shard.id: shard for shard in page.shards}
            if complete is not None:
                if self._listing.broken:
                    known = counted(len(shards), "shard")
                    self._watcher.trouble(f"{BROKEN}: only what it lists is verified, {known}")
                return list(shards.values())

    async def _read_each(self, shards: Iterator[Shard], found: dict[str, Reconciliation]) -> None:
        for shard in shards:
            found[shard.id] = await self._read(shard)
            self._done += 1
            self._tell()

    async def _read(self, shard: Shard) -> Reconciliation:
        """Read one shard to its end, or to the records that were written since the walk began."""
        compared = Reconciliation(shard.id, self._books.get(shard.id, Books()))
        reader = ShardReader(Position(shard.id), _PACE, self._rng, closed=shard.closed)
        failures = empty = 0
        while True:
            step = reader.step(self._now())
            try:
                match step:
                    case Wait(until):
                        await asyncio.sleep(max(until - self._now(), 0.001))
                        continue
                    case NeedIterator(kind, sequence, timestamp):
                        iterator = await self._source.iterator(
                            shard.id, kind, sequence=sequence, timestamp=timestamp
                        )
                        reader.got_iterator(iterator, self._now())
                        continue
                    case NeedRecords(iterator):
                        page = await self._source.records(iterator)
                    case Ended():
                        if reader.surely_ended:
                            break
                        reader.reopen()
                        continue
            except StreamFault as fault:
                failures += 1
                self._say(f"read shard {shard.id}", failures, fault)
                if reader.failed(fault.fault, self._now()) is not None:
                    compared.missed()
                if reader.ended:
                    break
                continue
            failures = 0
            compared.see(page.records)
            self._records += len(page.records)
            self._tell()
            reader.got_page(page, self._now())
            empty = 0 if page.records else empty + 1
            if not shard.closed and self._at_the_tip(compared, page, empty):
                break
        compared.finish()
        return compared

    def _at_the_tip(self, compared: Reconciliation, page: Page, empty: int) -> bool:
        if not compared.reached:
            return empty >= _EMPTY_PAGES_BEFORE_IT
        if empty >= _EMPTY_PAGES_AT_THE_TIP:
            return True
        # A table that is always written to has no end.
        last = page.records[-1].dynamodb.created_at if page.records else None
        return last is not None and last >= self._began

    def _say(self, doing: str, failures: int, fault: StreamFault) -> None:
        if failures >= _MOST_FAILURES:
            raise AwsRefused(f"cannot {doing}: {fault}", "try again later") from fault
        if failures % RETRIES_BEFORE_WORD == 0:
            self._watcher.trouble(f"cannot {doing}, trying again: {fault}")

    def _tell(self) -> None:
        self._watcher.progress(self._done, self._shards, self._records)
