"""What a conformance suite needs to know about the thing that it tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Protocol

import pytest

from ddbrelay.flow.capture import StreamSource
from ddbrelay.flow.sink import Sink
from ddbrelay.flow.tracking import Store
from ddbrelay.stores.ledger import ShardLedger


class Feature(Enum):
    """What something behind a port may lack."""

    TIMESTAMPS = "AT_TIMESTAMP"
    SUCCESSION = "shards that close and have children"
    EXPIRY = "iterators that expire at will"
    TRIMMING = "records that are trimmed at will"
    UNKNOWN_SHARDS = "an error code for a shard that does not exist"
    UNKNOWN_ITERATORS = "an error code for an iterator that it did not give"
    MISSING_BUS = "an error for a bus that does not exist"
    LOST_ANSWERS = "answers that get lost at will"
    DURABILITY = "a store that outlives its process"


class Harness(Protocol):
    """What all harnesses share."""

    lacks: Collection[Feature]

    def run(self, test: Callable[[], Awaitable[None]]) -> None:
        """Run a test on the kind of event loop that the thing needs."""


class StreamHarness(Harness, Protocol):
    """A stream with one open shard."""

    def source(self) -> AbstractAsyncContextManager[StreamSource]:
        """The source, open for one test."""

    async def write(self, *keys: str) -> None:
        """Write new items, one after the other; each makes one record."""

    async def succeed(self) -> None:
        """Close the shard; it has children from now on (SUCCESSION)."""

    async def expire(self) -> None:
        """Let 15 minutes pass (EXPIRY)."""

    async def trim(self) -> None:
        """Trim every record that is in the stream now (TRIMMING)."""

    def now(self) -> float:
        """The stream's clock, epoch seconds."""


class SinkHarness(Harness, Protocol):
    """A bus, and what it delivered."""

    def sink(self) -> AbstractAsyncContextManager[Sink]:
        """The sink, open for one test."""

    def missing(self) -> AbstractAsyncContextManager[Sink]:
        """A sink for a bus that does not exist (MISSING_BUS)."""

    def deaf(self) -> AbstractAsyncContextManager[Sink]:
        """A sink whose answers never arrive (LOST_ANSWERS)."""

    async def delivered(self, count: int) -> list[str]:
        """The stable ids (second resource) of events that came out, once there are `count`."""


class StoreHarness(Harness, Protocol):
    """A state store, empty at the start of each test."""

    def open(self, consumer: str = "default", stream_arn: str = "arn:stream") -> Store:
        """The store of a consumer on a stream; all of them share their file or table."""

    def reopen(self) -> None:
        """End the process, start another: stores opened from now on see what was durable."""

    def ledger(self, consumer: str = "default") -> Mapping[str, ShardLedger]:
        """The ledger of a consumer on the stream of `open`, by shard id."""


def need(harness: Harness, feature: Feature) -> None:
    """Skip the test when the thing behind the port cannot do this."""
    if feature in harness.lacks:
        pytest.skip(f"it lacks {feature.value}")
