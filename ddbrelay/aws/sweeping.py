"""Keeps an outbox small: an item whose event was published is deleted, or gets an end of its life.

DeleteItem and UpdateItem: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/. Each
call has a condition, which BatchWriteItem cannot have: only the item that was relayed goes, never
one that was written anew under its key. So there is one call for each item, and they go through
the asyncio client: boto3 would take more of the processor for this than the relay itself.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import msgspec

from ddbrelay.aws.errors import BAD_CREDENTIALS, DENIED, THROTTLED, from_code
from ddbrelay.aws.transport import ForeignError, NoAnswerError, Service, Transport, WireError
from ddbrelay.errors import DdbrelayError
from ddbrelay.flow.change import REDACTED, Change, UndecodableError
from ddbrelay.flow.change.attributes import attributes_of
from ddbrelay.flow.mapping.presets import OUTBOX_RULE
from ddbrelay.flow.packing import Item
from ddbrelay.flow.sink import Receipt, Sink, retry_delay
from ddbrelay.relay.outcome import RETRIES_BEFORE_WORD

AT_ONCE = 16
"""Calls that are under way at the same time, at most."""
MOST_WAITING = 4096
"""Items that wait to be swept, at most; each takes the bytes of its request, seldom over 1 KB."""
MOST_COMPARED = 32
"""Attributes that a condition compares; an expression has 4 KB at most."""
MOST_COMPARED_BYTES = 4096
"""What these take together, so that a large payload is not sent back."""
_LONGEST_PAUSE = 60.0
_GONE = "ConditionalCheckFailedException"
_AGAIN = THROTTLED | {
    "InternalServerError",
    "ReplicatedWriteConflictException",
    "TransactionConflictException",
}
_LASTING = DENIED | BAD_CREDENTIALS | {"ResourceNotFoundException"}
_REDACTED = REDACTED.encode()


class _Swept(msgspec.Struct):
    """The answer of DeleteItem and UpdateItem: an object, of which no member is always there."""


_swept = msgspec.json.Decoder(_Swept).decode


class NotSweptError(Exception):
    """An item was not swept, and may be later; `lasting`: only once somebody mended something."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class UnsweepableError(Exception):
    """An item cannot be swept, now or later."""


class Sweeper(Protocol):
    """Sweeps one item after the other; several calls may run at the same time."""

    def request(self, change: Change) -> bytes:
        """What is to be kept of the INSERT of an item until it is swept; UndecodableError."""

    async def sweep(self, request: bytes) -> bool:
        """Sweep an item; False where it was deleted or written anew meanwhile, and so left alone.

        Raises NotSweptError or UnsweepableError.
        """


@dataclass(frozen=True, slots=True)
class Expiry:
    """The TTL attribute of the table, and how many seconds an item lives once it was relayed."""

    attribute: str
    seconds: float


class OutboxTable:
    """A `Sweeper` of a table's items: deletes them, or sets their time to live.

    It takes dynamodb:DeleteItem, with an `expiry` dynamodb:UpdateItem. An item counts as the one
    that was relayed while the attributes that it was inserted with are the same: the smallest ones,
    up to 32 of them and 4 KB. What is redacted is not known here and not compared. An item that is
    deleted already does not come back.
    """

    def __init__(
        self, service: Service, table: str, expiry: Expiry | None, now: Callable[[], float]
    ) -> None:
        self._service, self._table, self._expiry, self._now = service, table, expiry, now
        self._operation = "DeleteItem" if expiry is None else "UpdateItem"
        verb = "delete" if expiry is None else "expire"
        self._doing = f"{verb} relayed items of table {table} (dynamodb:{self._operation})"

    @classmethod
    async def open(
        cls, transport: Transport, table: str, expiry: Expiry | None = None
    ) -> OutboxTable:
        """A table whose endpoint is resolved; raises what `Transport.service` does."""
        address = transport.address_of(table)
        made = cls(await transport.service("dynamodb"), address, expiry, transport.now)
        await made._service.resolve(made._operation, TableName=address, Key={"id": {"S": "id"}})
        return made

    def request(self, change: Change) -> bytes:
        record = change.record.dynamodb
        keys, image = attributes_of(record.keys), attributes_of(record.new_image)
        if not keys:
            raise UndecodableError("there are no keys")
        names = {"#k": next(iter(keys))}
        values: dict[str, Any] = {}
        conditions = ["attribute_exists(#k)"]
        for number, (name, value) in enumerate(_compared(keys, image or {})):
            names[f"#{number}"], values[f":{number}"] = name, value
            conditions.append(f"#{number} = :{number}")
        body: dict[str, Any] = {
            "TableName": self._table,
            "Key": keys,
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": names,
        }
        if self._expiry is not None:
            names["#ttl"] = self._expiry.attribute
            values[":ttl"] = {"N": str(math.ceil(self._now() + self._expiry.seconds))}
            body["UpdateExpression"] = "SET #ttl = :ttl"
        if values:
            body["ExpressionAttributeValues"] = values
        return msgspec.json.encode(body)

    async def sweep(self, request: bytes) -> bool:
        try:
            await self._service.call(self._operation, request, _swept)
        except NoAnswerError as error:
            raise NotSweptError(f"no answer, to {self._doing}: {error}") from error
        except ForeignError as error:
            raise NotSweptError(f"cannot {self._doing}: {error}") from error
        except WireError as error:
            if error.code == _GONE:
                return False
            said = from_code(error.code, error.message, self._doing).message
            if error.code in _LASTING:
                raise NotSweptError(said, lasting=True) from error
            if error.code in _AGAIN or error.status >= 500:
                raise NotSweptError(said) from error
            raise UnsweepableError(said) from error
        except DdbrelayError as error:
            raise NotSweptError(error.message, lasting=True) from error
        return True


def _compared(
    keys: dict[str, msgspec.Raw], image: dict[str, msgspec.Raw]
) -> list[tuple[str, msgspec.Raw]]:
    """The attributes that tell the item from one that was written anew, the smallest first."""
    known = [
        (name, value)
        for name, value in image.items()
        if name not in keys and _REDACTED not in bytes(value)
    ]
    known.sort(key=lambda pair: (len(bytes(pair[1])), pair[0]))
    size, chosen = 0, []
    for name, value in known[:MOST_COMPARED]:
        size += len(bytes(value))
        if size > MOST_COMPARED_BYTES:
            break
        chosen.append((name, value))
    return chosen


class SweepingSink:
    """A `Sink` before another one: the item of an INSERT is swept once its last event is accepted.

    Nothing waits for it: sending goes on, and up to 4096 items wait to be swept in the background,
    within the block: `async with SweepingSink(bus, table, tell) as sink`. When the block ends, what
    waits is swept within `grace` seconds. An item that is not swept stays in the table, which is
    untidy and nothing else: `tell` gets a word, once for each trouble, and the relay goes on.

    `swept` and `left` count the items that went and those that stay; `passed` those that somebody
    else deleted or wrote anew first.
    """

    def __init__(
        self,
        inner: Sink,
        table: Sweeper,
        tell: Callable[[str], None],
        *,
        grace: float = 5.0,
        rng: random.Random | None = None,
    ) -> None:
        self._inner, self._table, self._tell = inner, table, tell
        self._grace, self._rng = grace, rng or random.Random()
        self._waiting: deque[bytes] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest: asyncio.TimerHandle | None = None
        self._quiet = asyncio.Event()
        self._failures = 0
        self._lasting = self._told = self._closed = False
        self._told_once: set[str] = set()
        self.swept = self.left = self.passed = 0

    async def __aenter__(self) -> SweepingSink:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            async with asyncio.timeout(self._grace):
                await self._drained()
        except TimeoutError:
            pass
        finally:
            self._closed = True
            self._wake()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.left += len(self._waiting)
            self._waiting.clear()
        if self.left:
            noun = "relayed item stays" if self.left == 1 else "relayed items stay"
            self._tell(f"{self.left:,} {noun} in the table")

    async def send(self, items: Sequence[Item]) -> Receipt:
        receipt = await self._inner.send(items)
        for item, _ in receipt.accepted:
            # What another rule made of an item is no reason to take it away.
            inserted = item.change.event_name == "INSERT"
            if inserted and not item.rest and item.event.rule == OUTBOX_RULE:
                self._take(item.change)
        self._pump()
        return receipt

    def _take(self, change: Change) -> None:
        if self._closed:
            self.left += 1
        elif len(self._waiting) >= MOST_WAITING:
            self._leave("relayed items come faster than they are swept")
        else:
            try:
                self._waiting.append(self._table.request(change))
            except UndecodableError as error:
                self._leave("a relayed item cannot be read", error)

    def _leave(self, what: str, error: Exception | None = None) -> None:
        self.left += 1
        if what not in self._told_once:
            self._told_once.add(what)
            why = "" if error is None else f": {error}"
            self._tell(f"some items stay in the table: {what}{why}")

    # Sweeping

    def _pump(self) -> None:
        if self._closed or self._rest is not None:
            return
        # After a failure one call finds out whether it is over.
        most = 1 if self._failures else AT_ONCE
        for _ in range(min(most - len(self._tasks), len(self._waiting))):
            task = asyncio.create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def _work(self) -> None:
        while self._waiting and self._rest is None:
            request = self._waiting.popleft()
            try:
                if await self._table.sweep(request):
                    self.swept += 1
                else:
                    self.passed += 1
            except NotSweptError as error:
                self._waiting.appendleft(request)
                self._failed(error)
            except UnsweepableError as error:
                self._leave("a relayed item cannot be swept", error)
                self._succeeded()
            except asyncio.CancelledError:
                self._waiting.appendleft(request)
                raise
            else:
                self._succeeded()

    def _failed(self, error: NotSweptError) -> None:
        if self._rest is not None:
            return
        self._failures += 1
        self._lasting = error.lasting
        if not self._told and (error.lasting or self._failures >= RETRIES_BEFORE_WORD):
            self._told = True
            self._tell(f"relayed items stay in the table, trying again: {error}")
        pause = retry_delay(self._failures, self._rng, cap=_LONGEST_PAUSE)
        pause = _LONGEST_PAUSE if error.lasting else pause
        self._rest = asyncio.get_running_loop().call_later(pause, self._rested)

    def _succeeded(self) -> None:
        if not self._failures:
            return
        self._failures, self._lasting = 0, False
        if self._told:
            self._told = False
            self._tell("relayed items are swept again")
        self._pump()

    def _rested(self) -> None:
        self._rest = None
        self._pump()

    def _wake(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rested()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._closed = True
            self._leave("relayed items are no longer swept", error)
        if not self._tasks:
            self._quiet.set()
        self._pump()

    async def _drained(self) -> None:
        """Return once nothing is left to sweep, or nothing can be."""
        if not self._lasting:
            self._wake()
        while (self._waiting or self._tasks) and not (self._lasting or self._closed):
            self._quiet.clear()
            await self._quiet.wait()
