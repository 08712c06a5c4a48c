"""What an execution environment keeps over its invocations: connections, mappings, queues.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from ddbrelay.aws.letter_queue import LetterQueue
from ddbrelay.aws.session import Aws
from ddbrelay.aws.sinks import items_of, sink_of
from ddbrelay.aws.transport import Transport
from ddbrelay.aws_lambda.batch import Lane
from ddbrelay.aws_lambda.log import Log
from ddbrelay.config import Config, Settings
from ddbrelay.errors import DdbrelayError
from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import Origin
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.mappings import check_redaction, in_force, mapper_of, tidying_of
from ddbrelay.relay import Options
from ddbrelay.relay.copies import LetterSink, Sent
from ddbrelay.view_types import check_view_type

_REMEMBERED = 20_000
"""Records; two of the largest batches."""
_LOOK = 2.0
"""Seconds for a first look at the dead-letter queue."""


class Environment:
    """The configured relay of one execution environment, for one event loop."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._aws = Aws(config.settings)
        self._stack = AsyncExitStack()
        self._transport: Transport | None = None
        self._lanes: dict[Origin, Lane] = {}
        self._looked_at: set[Origin] = set()
        self._mapping_logged = False
        self.memory = Memory()

    async def lane(
        self, origin: Origin, keys: Collection[str], view_type: str | None, log: Log
    ) -> Lane:
        """The way of a stream's records, made when its first ones come, which have these keys.

        Raises ConfigError for a mapping that cannot be right, and AwsRefused without credentials.
        """
        found = self._lanes.get(origin)
        if found is None:
            check_redaction(self.config, keys)
            if view_type is not None and origin not in self._looked_at:
                strict = self.config.settings.strict
                check_view_type(self.config, origin.table, view_type, log.warn, strict=strict)
                self._looked_at.add(origin)
            found = self._lanes[origin] = await self._new_lane(origin, log)
            if not self._mapping_logged:
                self._mapping_logged = True
                log.info(f"mapping: {in_force(self.config)}")
        return found

    def forget(self, origin: Origin) -> None:
        """Make the way anew with the next records: a sink that was refused stays so."""
        self._lanes.pop(origin, None)

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def _new_lane(self, origin: Origin, log: Log) -> Lane:
        settings = replace(self.config.settings, table=origin.table)
        assert settings.bus_name is not None
        mapper = mapper_of(self.config, origin.table)
        if self._transport is None:
            self._transport = await self._stack.enter_async_context(Transport(self._aws))
        sink = await sink_of(
            self._aws, self._transport, settings.bus_name, settings.claim_check, log.trouble
        )
        queue: _Queue | None = None
        if settings.dead_letter_queue is not None:
            queue = _Queue(self._aws, settings, settings.dead_letter_queue, origin)
            await queue.look(log)
        options = Options(
            max_in_flight=settings.max_in_flight,
            linger=settings.linger,
            refusal_timeout=settings.refusal_timeout,
            claim_check=settings.claim_check,
        )
        tidying = tidying_of(self.config)
        items = None
        if tidying is not None:
            items = await items_of(self._transport, origin.table, tidying)
        return Lane(origin, mapper, sink, queue, options, items)


class _Queue:
    """A `LetterSink`, opened when it answers: without dead letters nobody needs it."""

    def __init__(self, aws: Aws, settings: Settings, name: str, origin: Origin) -> None:
        self._aws, self._settings = aws, settings
        self._name, self._origin = name, origin
        self._opened: LetterSink | None = None

    async def look(self, log: Log) -> None:
        """Open it, so that a wrong name is told before the first dead letter."""
        try:
            async with asyncio.timeout(_LOOK):
                await self._open()
        except TimeoutError:
            log.warn(f'the dead-letter queue "{self._name}" did not answer within {_LOOK:g} s')
        except DdbrelayError as refused:
            log.error(refused.message, hint=refused.hint)

    async def send(self, letters: Sequence[DeadLetter]) -> Sent:
        return await (await self._open()).send(letters)

    async def _open(self) -> LetterSink:
        if self._opened is None:
            self._opened = await LetterQueue.open(
                self._aws,
                self._name,
                self._settings.consumer,
                self._origin,
                only_copy=True,
                claim_check=self._settings.claim_check,
            )
        return self._opened


class Memory:
    """Records that were settled behind one that was not, and will come again because of it.

    It spares consumers the repeats where this environment gets them again; who gets them elsewhere
    sends them again, as at least once allows.
    """

    def __init__(self, most: int = _REMEMBERED) -> None:
        self._most = most
        self._settled: dict[tuple[str, str], None] = {}

    def settled(self, origin: Origin, record: Record) -> bool:
        """Whether the record needs nothing any more."""
        return (origin.stream_arn, record.event_id) in self._settled

    def keep(self, origin: Origin, records: Iterable[Record], lowest: str | None) -> None:
        """Of the settled `records`, remember those from the sequence number `lowest` on."""
        if lowest is None:
            return
        for record in records:
            if int(record.sequence_number) > int(lowest):
                self._settled[origin.stream_arn, record.event_id] = None
        while len(self._settled) > self._most:
            del self._settled[next(iter(self._settled))]
