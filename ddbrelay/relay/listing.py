"""The listing of a stream's shards, page by page, at a pace that AWS allows."""

from __future__ import annotations

import asyncio

from ddbrelay.flow.capture import Fault, ShardPage, StreamFault, StreamSource

BROKEN = "DescribeStream does not say where the list of the shards goes on"
"""What to tell of a listing that is `broken`."""
_PATIENCE = 3
"""Pages in a round that lead nowhere, before the round ends without the rest."""


class Listing:
    """Goes through the pages of DescribeStream again and again.

    A page that fails is asked for again by the next call; what was listed before stays. Between two
    calls there are at least `pause` seconds: AWS allows ten a second for all who ask.

    A page must say where the next one begins: behind a shard that no page of this round began
    behind. Where it says nothing of the kind again and again, the round ends, and is `broken`: what
    it listed is there, and of what it did not list nothing is known.
    """

    def __init__(self, source: StreamSource, pause: float) -> None:
        self._source, self._pause = source, pause
        self._called_at = -pause
        self._after: str | None = None
        self._listed: set[str] = set()
        self._starts: set[str | None] = {None, ""}
        self._pages = self._astray = 0
        self.broken = False
        self.pages = 1
        """How many pages the last whole listing had."""

    @property
    def at_start(self) -> bool:
        """Whether the next page is the first one."""
        return self._after is None

    async def next(self) -> tuple[ShardPage, set[str] | None]:
        """The next page; with the last one, the ids of all shards that are listed.

        Raises StreamFault; NOT_FOUND only when the stream itself is gone.
        """
        try:
            page = await self._call(self._after)
        except StreamFault as fault:
            if fault.fault is not Fault.NOT_FOUND or self._after is None:
                raise
            # The shard behind which the page would begin was trimmed meanwhile.
            self._restart()
            raise StreamFault(Fault.TRANSIENT, "the listing begins anew") from fault
        self._listed.update(shard.id for shard in page.shards)
        self._pages += 1
        self.broken = False
        if page.last_id is not None and page.last_id in self._starts:
            self._astray += 1
            if self._astray < _PATIENCE:
                return page, None
            self.broken = True
        elif page.last_id is not None:
            self._after = page.last_id
            self._starts.add(page.last_id)
            return page, None
        listed, self.pages = self._listed, self._pages
        self._restart()
        return page, listed

    async def children_of(self, shard_id: str) -> ShardPage:
        """The children of one shard, where the endpoint knows the filter."""
        return await self._call(None, shard_id)

    def _restart(self) -> None:
        self._after, self._listed, self._pages = None, set(), 0
        self._starts, self._astray = {None, ""}, 0

    async def _call(self, after: str | None, children_of: str | None = None) -> ShardPage:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._called_at + self._pause - loop.time()))
        self._called_at = loop.time()
        return await self._source.shards(after, children_of)
