"""The relay in a thread of the test's process, on tables and buses of the embedded AWS."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from ddbrelay import jobs
from ddbrelay.aws.table import stream_of
from ddbrelay.errors import ConfigError, DdbrelayError
from ddbrelay.flow.capture import Start
from ddbrelay.flow.tracking import Fate, Tally
from ddbrelay.mappings import check_redaction, mapper_of, tidying_of
from ddbrelay.output.words import gap_text, key_text
from ddbrelay.stores.database import Database
from ddbrelay.stores.sqlite import SqliteStore
from ddbrelay.testing import arguments
from ddbrelay.text import counted, printable

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.config import Config
    from ddbrelay.flow.capture import Gap
    from ddbrelay.relay import Outcome, Relay

_START_TIMEOUT = 30.0
_CATCH_UP = 10.0
"""Seconds in which all that was written must have been relayed."""
_LOOK = 0.005
_SHOWN = 20
"""So many parked records are told one by one."""


class Table:
    """A table with plain values in its items, as boto3's resources have them.

    Numbers are int or Decimal, binary is bytes, sets are Python's.
    """

    def __init__(self, aws: Aws, name: str) -> None:
        from boto3.dynamodb.types import TypeDeserializer, TypeSerializer

        self.name = name
        self._client: Any = aws.client("dynamodb")
        self._serialize: Callable[[Any], Any] = TypeSerializer().serialize
        self._deserialize: Callable[[Any], Any] = TypeDeserializer().deserialize

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def put(self, item: Mapping[str, Any]) -> None:
        """Put an item, in the place of an earlier one with its key."""
        self._client.put_item(TableName=self.name, Item=self._typed(item))

    def update(self, key: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Set these top-level attributes of an item that exists."""
        names = {f"#a{at}": name for at, name in enumerate(changes)}
        exists = {f"#k{at}": name for at, name in enumerate(key)}
        self._client.update_item(
            TableName=self.name,
            Key=self._typed(key),
            UpdateExpression="SET " + ", ".join(f"{name} = :{name[1:]}" for name in names),
            ConditionExpression=" AND ".join(f"attribute_exists({name})" for name in exists),
            ExpressionAttributeNames=names | exists,
            ExpressionAttributeValues={
                f":a{at}": self._serialize(value) for at, value in enumerate(changes.values())
            },
        )

    def delete(self, key: Mapping[str, Any]) -> None:
        """Delete an item."""
        self._client.delete_item(TableName=self.name, Key=self._typed(key))

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """An item, None where there is none."""
        found = self._client.get_item(TableName=self.name, Key=self._typed(key)).get("Item")
        return found and {name: self._deserialize(value) for name, value in found.items()}

    def _typed(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._serialize(value) for name, value in values.items()}


class _Watch:
    """A `Screen` that keeps what a failing test has to say."""

    def __init__(self) -> None:
        self.engine: Relay | None = None
        self.started = threading.Event()
        self.parked: list[str] = []
        self.gaps: list[str] = []
        self.trouble_now = ""

    def outcome(self, outcome: Outcome) -> None:
        if outcome.fate is Fate.PARKED:
            self.parked.append(f"{key_text(outcome.change)}: {printable(outcome.reason or '')}")

    def gap(self, gap: Gap) -> None:
        self.gaps.append(gap_text(gap))

    def trouble(self, message: str) -> None:
        self.trouble_now = message

    async def follow(self, relay: Relay, stop: asyncio.Event) -> None:
        self.engine = relay
        self.started.set()
        await asyncio.get_running_loop().create_future()

    def close(self, relay: Relay | None) -> None:
        """Nothing is shown."""


class RunningRelay:
    """A relay from a table to a bus, until `stop` or the end of the test.

    `put`, `update`, `delete` and `get` are those of `table`, the table that it follows; `bus` is
    the name of the bus, `consumer` the name under which it goes on.
    """

    def __init__(self, aws: Aws, config: Config, start: Start, *, allow_parked: bool) -> None:
        __tracebackhide__ = True
        settings = config.settings
        assert settings.table is not None
        assert settings.bus_name is not None
        self.table = Table(aws, settings.table)
        self.bus: str = settings.bus_name
        self.consumer: str = settings.consumer
        self._stopped = False
        self._allow_parked = allow_parked
        self._aws, self._config, self._settings = aws, config, settings
        self._start = start
        self._mapper = mapper_of(config, settings.table)
        self._stream = stream_of(aws, settings.table)
        check_redaction(config, self._stream.keys)
        self._watch = _Watch()
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop_event: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="ddbrelay-relay", daemon=True)
        self._thread.start()
        if not self._watch.started.wait(_START_TIMEOUT):
            raise DdbrelayError(f"the relay of {self.table.name} did not start")
        self.check()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.table.name} ─▶ {self.bus}>"

    def put(self, item: Mapping[str, Any]) -> None:
        """Put an item into the table, in the place of an earlier one with its key."""
        self.table.put(item)

    def update(self, key: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
        """Set these top-level attributes of an item of the table that exists."""
        self.table.update(key, changes)

    def delete(self, key: Mapping[str, Any]) -> None:
        """Delete an item of the table."""
        self.table.delete(key)

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """An item of the table, None where there is none."""
        return self.table.get(key)

    @property
    def running(self) -> bool:
        """Whether it still reads; it ends by itself where its table is deleted."""
        return self._thread.is_alive()

    @property
    def tally(self) -> Tally:
        """What became of the records so far; `settle` gives it complete."""
        return Tally() if self._watch.engine is None else self._watch.engine.tally

    def settle(self, timeout: float = _CATCH_UP) -> Tally:
        """Wait until all that was written so far is published, skipped or parked; the tally.

        Both emulators deliver before PutEvents answers, so the events are in their queues then.
        Fails the test after `timeout` seconds.
        """
        __tracebackhide__ = True
        try:
            complaint = self._settle(arguments.seconds("timeout", timeout))
        except ConfigError as error:
            complaint = error.message
        if complaint:
            pytest.fail(complaint)
        return self.tally

    def stop(self) -> None:
        """Stop it; another `relay` on its table goes on behind the last record."""
        self._stopped = True
        if self._loop is not None and self._stop_event is not None:
            # Its loop may have ended by itself.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stop_event.set)
        self._thread.join(_START_TIMEOUT)

    def dead_letters(self) -> list[dict[str, Any]]:
        """The parked records, as `ddbrelay dead-letters show --output json` prints each one.

        So `reason` says why, `keys` which item, and `record` is the whole record of the stream.
        """
        from ddbrelay.objects import Of
        from ddbrelay.output.letters import ExportedLetter, stored_fields
        from ddbrelay.stores.letters import Letters

        arn, consumer = self._stream.arn, self.consumer
        of = Of(consumer, self.table.name, arn)
        found: list[dict[str, Any]] = []
        with closing(Database(self._settings.state_file)) as database:
            letters = Letters(database, consumer, (arn,))
            for queue in letters.queues():
                for place, one in enumerate(queue.letters):
                    stored = letters.get(one)
                    if stored is not None:
                        whole = ExportedLetter(**stored_fields(of, one, stored, head=place == 0))
                        found.append(msgspec.json.decode(msgspec.json.encode(whole)))
        return found

    def account(self) -> str:
        """What became of the records, in one line and one more for each parked one."""
        tally = self.tally
        skipped = ", ".join(f"{rule}: {number:,}" for rule, number in tally.skipped_by.items())
        parts = [
            f"{tally[Fate.PUBLISHED]:,} published",
            f"{tally[Fate.SKIPPED]:,} skipped{f' ({skipped})' if skipped else ''}",
            f"{tally[Fate.PARKED]:,} parked",
        ]
        state = "" if self.running else " is stopped" if self._stopped else " has ended"
        line = f"the relay of {self.table.name} to {self.bus}{state}: {', '.join(parts)}"
        return "\n".join([line, *self._parked_lines(), *self._trouble()])

    def complaint(self) -> str | None:
        """Why a test must not pass with it: records parked or lost, or a run that failed."""
        said = [self._failed()] if self._error is not None else []
        parked = self.tally[Fate.PARKED]
        if parked and not self._allow_parked:
            said.append(
                f"the relay of {self.table.name} parked {counted(parked, 'record')}; "
                "relay(..., allow_parked=True) allows that"
            )
            said += self._parked_lines()
        if self._watch.gaps:
            said.append(f"the relay of {self.table.name} lost records")
            said += [f"  {text}" for text in self._watch.gaps]
        return "\n".join(said) or None

    def end(self) -> str | None:
        """Let it relay what was written, stop it, and say what `complaint` says."""
        late = self._settle(_CATCH_UP)
        self.stop()
        return "\n".join(said for said in (late, self.complaint()) if said) or None

    def check(self) -> None:
        """Fail the test where the run has failed."""
        __tracebackhide__ = True
        if self._error is not None:
            pytest.fail(self._failed())

    # The thread

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_own_clock) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._watch.started.set()

    async def _main(self) -> None:
        self._loop, self._stop_event = asyncio.get_running_loop(), asyncio.Event()
        with closing(Database(self._settings.state_file)) as database:
            store = SqliteStore(database, self.consumer, self._stream.arn)
            letter_queue = self._settings.dead_letter_queue
            job = jobs.Job(
                self._aws,
                self._stream,
                self._mapper,
                self.bus,
                store,
                jobs.options_of(
                    self._settings, start=self._start, stop_on_gap=self._settings.on_gap == "stop"
                ),
                copies=None
                if letter_queue is None
                else jobs.CopyTo(letter_queue, store, self.consumer),
                tidying=tidying_of(self._config),
            )
            await jobs.relay(job, self._watch, self._stop_event)

    def _settle(self, timeout: float) -> str | None:
        """Why it did not come to the end of the stream."""
        engine, loop = self._watch.engine, self._loop
        if engine is None or loop is None or not self.running:
            return None
        caught_up = _caught_up(engine)
        try:
            held = asyncio.run_coroutine_threadsafe(caught_up, loop).result(timeout)
            return held and f"the relay of {self.table.name} cannot go on: {held}"
        except TimeoutError:
            words = [f"the relay of {self.table.name} is not done after {timeout:g} s"]
            return "\n".join([*words, *self._trouble()])
        except concurrent.futures.CancelledError:
            return None
        except RuntimeError:
            # It ended before the loop could be asked.
            caught_up.close()
            return None

    # Words

    def _failed(self) -> str:
        error = self._error
        kind = "" if isinstance(error, DdbrelayError) else f"{type(error).__name__}: "
        hint = getattr(error, "hint", None)
        return arguments.said(f"the relay of {self.table.name} ended: {kind}{error}", hint)

    def _parked_lines(self) -> list[str]:
        parked = self._watch.parked
        lines = [f"  {line}" for line in parked[:_SHOWN]]
        return lines if len(parked) <= _SHOWN else [*lines, f"  and {len(parked) - _SHOWN:,} more"]

    def _trouble(self) -> list[str]:
        engine, trouble = self._watch.engine, self._watch.trouble_now
        held = engine.held if engine is not None else None
        return [f"  {held or trouble}"] if held or trouble else []


async def _caught_up(engine: Relay) -> str | None:
    """Return when the stream was read once more, and all of it is settled, or why the bus is not.

    The second of two answers was asked for after this began, and of two in a row one counts: a page
    over a new connection may be asked for again. The emulators have one shard.
    """
    begun = engine.usage.reads
    while True:
        read = engine.usage.reads >= begun + 3
        if read and (engine.held or not engine.backlog.unread):
            return engine.held
        await asyncio.sleep(_LOOK)


def _own_clock() -> asyncio.AbstractEventLoop:
    """A loop that goes on while a test freezes Python's clocks, where there is one."""
    if sys.platform == "win32":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
