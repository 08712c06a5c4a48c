"""A stream of which only a part is to be read."""

from __future__ import annotations

from dataclasses import replace

from ddbrelay.flow.capture import (
    Fault,
    IteratorType,
    Page,
    Shard,
    ShardPage,
    StreamFault,
    StreamSource,
)
from ddbrelay.relay.listing import Listing


class Subtree:
    """A `StreamSource` that lists one shard and its descendants, as if it had no parent."""

    def __init__(self, source: StreamSource, root: str) -> None:
        self._source, self._root = source, root

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        """The whole part in one page: a child may be listed before its parent."""
        if children_of is not None:
            return await self._source.shards(None, children_of)
        listing, listed = Listing(self._source, 0.0), list[Shard]()
        everything = None
        while everything is None:
            page, everything = await listing.next()
            listed += page.shards
        kept = {s.id: replace(s, parent_id=None) for s in listed if s.id == self._root}
        found = True
        while found:
            new = [s for s in listed if s.parent_id in kept and s.id not in kept]
            kept |= {shard.id: shard for shard in new}
            found = bool(new)
        return ShardPage(list(kept.values()), "" if listing.broken else None, page.disabled)

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        return await self._source.iterator(shard_id, kind, sequence=sequence, timestamp=timestamp)

    async def records(self, iterator: str) -> Page:
        return await self._source.records(iterator)


class OneIterator(Subtree):
    """A `StreamSource` of the one shard that a given iterator belongs to, whatever its id.

    Nothing but its pages can say that it is closed.
    """

    _closed = False

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        return ShardPage([] if children_of else [Shard(self._root, closed=self._closed)])

    async def records(self, iterator: str) -> Page:
        page = await super().records(iterator)
        self._closed = page.next_iterator is None
        return page


class Gone(OneIterator):
    """A `StreamSource` of a stream that exists no more, whatever an endpoint says of its ARN."""

    def __init__(self, source: StreamSource) -> None:
        super().__init__(source, "")

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        raise StreamFault(Fault.NOT_FOUND)
