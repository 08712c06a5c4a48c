"""A process that can be killed at any call: afterwards nothing that it does has an effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from ddbrelay.flow.capture import IteratorType, Page, Position, ShardPage, StreamSource
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import Receipt, Sink
from ddbrelay.flow.tracking import Account, DeadLetter, Store, Usage

T = TypeVar("T")


class Killed(Exception):
    """Raised inside a killed process in place of every answer."""


@dataclass(slots=True)
class Process:
    """Dies at its `dies_at`-th call through any of its ports, None for never.

    With `after_effect` the last call still has its effect, and only its answer is never seen. A
    request that was under way to the bus may still arrive.
    """

    dies_at: int | None = None
    after_effect: bool = False
    dead: bool = False
    calls: int = 0

    def kill(self) -> None:
        """Let it die now."""
        self.dead = True

    async def call(self, effect: Callable[[], Awaitable[T]]) -> T:
        """Pass a call on, unless dead; die at it when its number has come."""
        self.calls += 1
        last = self.calls == self.dies_at
        if self.dead or (last and not self.after_effect):
            self.dead = True
            raise Killed
        answer = await effect()
        if self.dead or last:
            self.dead = True
            raise Killed
        return answer

    def source(self, source: StreamSource) -> StreamSource:
        """The source as this process sees it."""
        return _Source(self, source)

    def sink(self, sink: Sink) -> Sink:
        """The sink as this process sees it."""
        return _Sink(self, sink)

    def store(self, store: Store) -> Store:
        """The store as this process sees it."""
        return _Store(self, store)


@dataclass(frozen=True, slots=True)
class _Source:
    process: Process
    inner: StreamSource

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        return await self.process.call(lambda: self.inner.shards(after, children_of))

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        return await self.process.call(
            lambda: self.inner.iterator(shard_id, kind, sequence=sequence, timestamp=timestamp)
        )

    async def records(self, iterator: str) -> Page:
        return await self.process.call(lambda: self.inner.records(iterator))


@dataclass(frozen=True, slots=True)
class _Sink:
    process: Process
    inner: Sink

    async def send(self, items: Sequence[Item]) -> Receipt:
        return await self.process.call(lambda: self.inner.send(items))


@dataclass(frozen=True, slots=True)
class _Store:
    process: Process
    inner: Store

    async def claim(self) -> None:
        await self.process.call(self.inner.claim)

    async def release(self) -> None:
        await self.process.call(self.inner.release)

    async def load(self) -> dict[str, Position]:
        return await self.process.call(self.inner.load)

    async def begin(self, positions: Iterable[Position], accounts: Iterable[Account] = ()) -> None:
        await self.process.call(lambda: self.inner.begin(positions, accounts))

    async def save(
        self,
        positions: Iterable[Position],
        accounts: Iterable[Account] = (),
        usage: Usage | None = None,
    ) -> None:
        await self.process.call(lambda: self.inner.save(positions, accounts, usage))

    async def forget(self, shard_ids: Iterable[str]) -> None:
        await self.process.call(lambda: self.inner.forget(shard_ids))

    async def park(self, letters: Iterable[DeadLetter]) -> list[DeadLetter]:
        return await self.process.call(lambda: self.inner.park(letters))

    async def parked_keys(self) -> set[bytes]:
        return await self.process.call(self.inner.parked_keys)
