"""A stream and a bus in memory behind our ports, with the faults of the real ones.

The bus keeps what was delivered, and what no correct sender would have done.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture import Fault, IteratorType, Page, Shard, ShardPage, StreamFault
from ddbrelay.flow.mapping import Event, refused
from ddbrelay.flow.packing import MAX_BYTES, MAX_ENTRIES, Item
from ddbrelay.flow.sink import EntryResult, Receipt, receipt_of
from ddbrelay.testing.faults import ApiError, Faults, NoAnswer
from ddbrelay.testing.limits import Throttle
from ddbrelay.testing.stream import RecordsPage, SimulatedStream

T = TypeVar("T")

_FAULTS = {
    "ExpiredIteratorException": Fault.EXPIRED,
    "TrimmedDataAccessException": Fault.TRIMMED,
    "ResourceNotFoundException": Fault.NOT_FOUND,
    "ThrottlingException": Fault.THROTTLED,
    "LimitExceededException": Fault.THROTTLED,
    "InternalServerError": Fault.TRANSIENT,
}
TOO_LARGE = "RequestEntityTooLargeException"
"""HTTP 413: the entries of a request of PutEvents are 1 MB or more together."""
_ENTRY_TO_BLAME = {TOO_LARGE, "ValidationException"}
_MISSING = "ResourceNotFoundException"
_AGAIN = {"ThrottlingException", "InternalServerError", "InternalException", "InternalFailure"}


class SimulatedSource:
    """A `StreamSource` over a `SimulatedStream`; `faults` is the way there."""

    def __init__(self, stream: SimulatedStream, faults: Faults) -> None:
        self.stream, self.faults = stream, faults

    async def shards(self, after: str | None = None, children_of: str | None = None) -> ShardPage:
        said = await self._call(
            "DescribeStream",
            lambda: self.stream.describe_stream(after, children_of),
            after=after,
            children_of=children_of,
        )
        astray = self.faults.happens(self.faults.rates.astray)
        return ShardPage(
            [
                Shard(shard.id, shard.parent_id, shard.listed_as_closed, str(shard.starting))
                for shard in said.shards
            ],
            (after or "") if astray else said.last_id,
            said.status == "DISABLED",
        )

    async def iterator(
        self,
        shard_id: str,
        kind: IteratorType,
        *,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        return await self._call(
            "GetShardIterator",
            lambda: self.stream.get_shard_iterator(shard_id, kind.value, sequence, timestamp),
            shard_id=shard_id,
            kind=kind,
            sequence=sequence,
            timestamp=timestamp,
        )

    async def records(self, iterator: str) -> Page:
        def effect() -> RecordsPage:
            if self.faults.happens(self.faults.rates.empty_page):
                self.stream.precede_with_empty_page(iterator)
            no_next = self.faults.happens(self.faults.rates.no_next)
            return self.stream.get_records(iterator, no_next=no_next)

        page = await self._call("GetRecords", effect, iterator=iterator)
        return Page(page.records, page.next_iterator, page.size)

    async def _call(self, operation: str, effect: Callable[[], T], **arguments: Any) -> T:
        try:
            return await self.faults.call(operation, effect, arguments)
        except NoAnswer as error:
            raise StreamFault(Fault.NO_ANSWER, str(error)) from error
        except ApiError as error:
            fault = _FAULTS.get(error.code)
            if fault is None and arguments.get("kind") is IteratorType.AT_TIMESTAMP:
                fault = Fault.REFUSED
            if fault is None and operation == "GetRecords":
                fault = Fault.EXPIRED
            if fault is None:
                raise AwsRefused(f"cannot read the stream: {error}", code=error.code) from error
            raise StreamFault(fault, str(error)) from error


@dataclass(frozen=True, slots=True)
class Delivered:
    """An event that the bus took at epoch seconds `at`."""

    at: float
    item_key: bytes
    shard_id: str
    sequence: str
    event: Event
    event_id: str


@dataclass(slots=True)
class _EntryScript:
    code: str
    when: Callable[[Item], bool]
    times: int | None


class SimulatedBus:
    """A `Sink`. What it took stands in `delivered`, a repeat each time.

    `violations` holds what the port forbids: two events of one item in flight together, more than
    ten entries, 1 MB or more, an entry that PutEvents would never take. Requests of 1 MB or more
    are refused whole, and so are those beyond `requests_per_second`. While `missing` is set there
    is no such bus, and none of those that events may name while they are in `missing_buses`.
    """

    def __init__(self, faults: Faults, requests_per_second: float | None = None) -> None:
        self.faults = faults
        self.requests_per_second = requests_per_second
        self.missing = False
        self.missing_buses: set[str] = set()
        self.delivered: list[Delivered] = []
        self.violations: list[str] = []
        self.most_in_flight = 0
        self._flying: Counter[bytes] = Counter()
        self._script: list[_EntryScript] = []
        self._throttle = Throttle()
        self._ids = random.Random(0)

    def fail_next(self, code: str, times: int = 1) -> None:
        """The next requests fail whole: a code of AWS, TOO_LARGE, LOST_BEFORE or LOST_AFTER."""
        self.faults.fail_next("PutEvents", code, times)

    def fail_entries(
        self,
        code: str,
        when: Callable[[Item], bool] = lambda _: True,
        times: int | None = None,
    ) -> None:
        """Entries for which `when` holds fail with this code, `times` of them or all."""
        self._script.append(_EntryScript(code, when, times))

    def recover(self) -> None:
        """Entries are taken again."""
        self._script.clear()

    def sequences(self) -> set[str]:
        """Sequence numbers of all records whose event was delivered."""
        return {delivered.sequence for delivered in self.delivered}

    def by_key(self, *, repeats: bool = False) -> dict[bytes, list[str]]:
        """The sequence numbers of each item key in the order of delivery."""
        found: dict[bytes, dict[str, None] | list[str]] = {}
        for delivered in self.delivered:
            found.setdefault(delivered.item_key, [] if repeats else {})
            numbers = found[delivered.item_key]
            if isinstance(numbers, list):
                numbers.append(delivered.sequence)
            else:
                numbers[delivered.sequence] = None
        return {key: list(numbers) for key, numbers in found.items()}

    async def send(self, items: Sequence[Item]) -> Receipt:
        self._watch(items)
        try:
            return await self._send(items)
        except ApiError as error:
            if error.code == _MISSING:
                return await self._without_bus(items)
            if error.code in _AGAIN:
                return Receipt(retry=[(item, str(error)) for item in items], crowded=True)
            if error.code not in _ENTRY_TO_BLAME:
                raise AwsRefused(f"cannot publish to the bus: {error}", code=error.code) from error
            if len(items) == 1:
                return Receipt(rejected=[(items[0], str(error))])
        # As AwsBus does: one of the entries is to blame, and it is found out which.
        return await self._send_parts([[item] for item in items])

    async def _without_bus(self, items: Sequence[Item]) -> Receipt:
        """As AwsBus does: each bus in a request of its own, and nothing without that of the run."""
        buses = dict.fromkeys(item.event.bus for item in items)
        gone = "the bus does not exist"
        if len(buses) == 1 or (self.missing and None in buses):
            held = gone if None in buses else None
            return Receipt(retry=[(item, gone) for item in items], held=held)
        return await self._send_parts(
            [[item for item in items if item.event.bus == bus] for bus in buses]
        )

    async def _send_parts(self, parts: Sequence[Sequence[Item]]) -> Receipt:
        whole = Receipt()
        for items in parts:
            part = await self.send(items)
            whole.accepted += part.accepted
            whole.retry += part.retry
            whole.unknown += part.unknown
            whole.rejected += part.rejected
            whole.crowded = whole.crowded or part.crowded
        return whole

    async def _send(self, items: Sequence[Item]) -> Receipt:
        keys = [item.key for item in items]
        self._flying.update(keys)
        self.most_in_flight = max(self.most_in_flight, self._flying.total())
        try:
            results = await self.faults.call(
                "PutEvents", lambda: self._put(items), {"entries": len(items)}
            )
        except NoAnswer as error:
            return Receipt(retry=[(item, str(error)) for item in items], crowded=True)
        finally:
            self._flying.subtract(keys)
        return receipt_of(items, results)

    def _watch(self, items: Sequence[Item]) -> None:
        if not 1 <= len(items) <= MAX_ENTRIES:
            self.violations.append(f"{len(items)} entries in a request")
        if sum(item.event.size for item in items) >= MAX_BYTES:
            self.violations.append("a request of 1 MB or more")
        keys = Counter(item.key for item in items)
        for item in items:
            if keys[item.key] > 1 or self._flying[item.key]:
                self.violations.append(f"two events of {item.key.decode()} in flight together")
            never = refused(item.event)
            if never is not None:
                self.violations.append(f"an entry that is never taken: {never.reason}")

    def _put(self, items: Sequence[Item]) -> list[EntryResult]:
        buses = {item.event.bus for item in items}
        if (self.missing and None in buses) or buses & self.missing_buses:
            raise ApiError(_MISSING, "the bus does not exist")
        if not self._throttle.admits("PutEvents", self.requests_per_second, self.faults.now()):
            raise ApiError("ThrottlingException", "Rate exceeded")
        if sum(item.event.size for item in items) >= MAX_BYTES:
            raise ApiError(TOO_LARGE, "the entries are 1 MB or more")
        return [self._entry(item) for item in items]

    def _entry(self, item: Item) -> EntryResult:
        code = self._scripted(item) or self.faults.rates.entry_fault(self.faults.rng)
        if code is not None:
            return EntryResult(None, code, "simulated")
        event_id = f"{self._ids.getrandbits(128):032x}"
        change = item.change
        self.delivered.append(
            Delivered(
                self.faults.now(),
                item.key,
                change.shard_id,
                change.sequence_number,
                item.event,
                event_id,
            )
        )
        return EntryResult(event_id)

    def _scripted(self, item: Item) -> str | None:
        for script in self._script:
            if script.times != 0 and script.when(item):
                if script.times is not None:
                    script.times -= 1
                return script.code
        return None
