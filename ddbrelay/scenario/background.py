"""A relay beside a scenario: the engine on an event loop of its own, in a thread.

It starts at LATEST and keeps its positions in memory, so that nobody's checkpoint is read or moved.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ddbrelay.errors import AwsRefused, DdbrelayError
from ddbrelay.flow.mapping.document import exact
from ddbrelay.flow.tracking import Fate
from ddbrelay.scenario.ordering import Key

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.aws.table import TableStream
    from ddbrelay.config import Config
    from ddbrelay.flow.capture import Gap, IteratorType, Page, ShardPage, StreamSource
    from ddbrelay.relay import Outcome, Relay

_CONSUMER = "expect"
_LOOK = 0.02
_START_TIMEOUT = 30.0


class BackgroundRelay:
    """A context in which the table is relayed to the bus.

    `say` hears of records that are parked or lost, and of calls that keep failing; it is called
    from another thread. `known` has the item's key and the sequence number behind each event that
    was published, by the bus's id of the event.

    Entering returns once every shard that is open is read from its present end on: what is written
    from then on is relayed. AwsRefused when that takes more than 30 s, or the stream is disabled.
    Leaving ends the relay within the grace of the settings.
    """

    def __init__(
        self, aws: Aws, config: Config, stream: TableStream, bus: str, say: Callable[[str], None]
    ) -> None:
        self._aws, self._config, self._stream, self._bus = aws, config, stream, bus
        self._say = say
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="ddbrelay-relay", daemon=True)
        self._started: set[str] = set()
        self.known: dict[str, tuple[Key, int]] = {}

    def __enter__(self) -> Self:
        if not self._stream.enabled:
            raise AwsRefused(
                f'the stream of table "{self._stream.table}" is disabled',
                self._aws.command(f"provision --table {self._stream.table} --apply-changes"),
            )
        self._thread.start()
        try:
            in_time = self._ready.wait(_START_TIMEOUT)
        except BaseException:
            self._end()
            raise
        if not in_time or self._error is not None:
            self._end()
            self.check()
            raise AwsRefused(
                f"the relay has not begun to read the stream after {_START_TIMEOUT:g} s",
                "-v shows what AWS answers; try again",
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what ended the relay early, if something did."""
        if self._error is not None:
            if isinstance(self._error, DdbrelayError):
                self._error.message = f"the relay ended: {self._error.message}"
            error, self._error = self._error, None
            raise error

    def _end(self) -> None:
        while self._thread.is_alive():
            # The loop may not be there yet, or be closed in this moment.
            if self._loop is not None and self._stop is not None:
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_LOOK)

    # In the thread

    def _work(self) -> None:
        try:
            asyncio.run(self._relay())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _relay(self) -> None:
        from ddbrelay import jobs
        from ddbrelay.flow.capture import Start
        from ddbrelay.mappings import mapper_of, tidying_of
        from ddbrelay.stores.database import Database
        from ddbrelay.stores.sqlite import SqliteStore

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        with closing(Database(":memory:")) as database:
            job = jobs.Job(
                self._aws,
                self._stream,
                mapper_of(self._config, self._stream.table),
                self._bus,
                SqliteStore(database, _CONSUMER, self._stream.arn),
                jobs.options_of(self._config.settings, start=Start.LATEST, resume=False),
                part=lambda source: _Watched(source, self._started),
                tidying=tidying_of(self._config),
            )
            ended = await jobs.relay(job, self, self._stop)
        if ended.reason != "stopped":
            raise AwsRefused(f"the stream came to its end ({ended.reason})")

    # What the engine tells

    def outcome(self, outcome: Outcome) -> None:
        from ddbrelay.output.words import key_text

        change = outcome.change
        if outcome.event_id is not None:
            keys = exact(change.keys)
            key = tuple((name, keys[name]) for name in self._stream.keys if name in keys)
            self.known[outcome.event_id] = (key, int(change.sequence_number))
        elif outcome.fate is Fate.PARKED:
            reason = (outcome.reason or "").partition("\n")[0]
            self._say(f"parked {change.event_name} {key_text(change)}: {reason}")

    def gap(self, gap: Gap) -> None:
        self._say(f"records of shard {gap.shard_id} were lost: {gap.reason}")

    def trouble(self, message: str) -> None:
        self._say(message)

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        while True:
            if relay.shards and len(self._started) >= relay.shards:
                self._ready.set()
                return
            await asyncio.sleep(_LOOK)

    def close(self, relay: Relay | None) -> None:
        """Nothing is left to be shown."""


class _Watched:
    """A `StreamSource` that notes the shards for which there is an iterator."""

    def __init__(self, source: StreamSource, started: set[str]) -> None:
        self._source, self._started = source, started

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        return await self._source.shards(after, children_of)

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        found = await self._source.iterator(shard_id, kind, sequence=sequence, timestamp=timestamp)
        self._started.add(shard_id)
        return found

    async def records(self, iterator: str) -> Page:
        return await self._source.records(iterator)
