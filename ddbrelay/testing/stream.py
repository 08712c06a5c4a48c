"""A DynamoDB stream in memory, with the rules of the real one and its error codes.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html, the API
pages of DescribeStream, GetShardIterator and GetRecords, and the service model
`dynamodbstreams/2012-08-10`. Times are epoch seconds.
"""

from __future__ import annotations

import random
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ddbrelay.flow.capture import ITERATOR_LIFETIME, Record
from ddbrelay.flow.capture.port import PAGE_BYTES, PAGE_RECORDS
from ddbrelay.testing import clock
from ddbrelay.testing.builders import record
from ddbrelay.testing.faults import ApiError

LISTING_PAGE = 100
RETENTION = 24 * 3600.0
_HASHES = 2**32
_FIRST_SEQUENCE = 10**21 - 10_000
"""Close below a power of ten, so that the numbers grow longer while a test runs."""


@dataclass(slots=True, eq=False)
class SimulatedShard:
    """A shard and all that was ever written to it; records below `horizon` are trimmed.

    `looks_open` is the oddity of a closed shard that is listed without an ending number;
    `listed_at` is the time from which the shard is listed; `empty_pages` says how many pages
    without records come next.
    """

    id: str
    parent_id: str | None
    hashes: range
    listed_at: float
    starting: int
    closed_at: float | None = None
    looks_open: bool = False
    empty_pages: int = 0
    horizon: int = 0
    records: list[Record] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    written_at: list[float] = field(default_factory=list)

    @property
    def listed_as_closed(self) -> bool:
        """Whether DescribeStream gives it an ending sequence number."""
        return self.closed_at is not None and not self.looks_open

    @property
    def readable(self) -> list[Record]:
        """The records that are not trimmed."""
        return self.records[bisect_left(self.sequences, self.horizon) :]


@dataclass(frozen=True, slots=True)
class Description:
    """One page of DescribeStream."""

    status: str
    shards: Sequence[SimulatedShard]
    last_id: str | None


@dataclass(frozen=True, slots=True)
class RecordsPage:
    """One answer of GetRecords; `size` in bytes."""

    records: Sequence[Record]
    next_iterator: str | None
    size: int


class SimulatedStream:
    """The stream of a table whose partition key is `id`.

    The writer's side (`put`, `delete`) goes to the open shard that owns the key's hash; `roll`,
    `split`, `trim`, `disable` are what AWS does by itself. The reader's side are the three
    operations, which raise ApiError with AWS's codes. Nothing here takes time or fails by chance.
    `extra_last_page` lets a closed shard end with an empty page instead of one with records.
    """

    def __init__(
        self,
        shard_ids: Sequence[str] | int = 1,
        *,
        table: str = "users",
        now: Callable[[], float] = clock.now,
        rng: random.Random | None = None,
        knows_timestamps: bool = True,
        extra_last_page: bool = False,
    ) -> None:
        self._now, self._rng = now, rng or random.Random(0)
        self.table = table
        self.arn = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table}/stream/simulated"
        self.status = "ENABLED"
        self.knows_timestamps = knows_timestamps
        self.extra_last_page = extra_last_page
        self.written: list[Record] = []
        self.shards: dict[str, SimulatedShard] = {}
        """Those that exist now; `history` has the removed ones too."""
        self.history: dict[str, SimulatedShard] = {}
        self._items: dict[str, Mapping[str, Any]] = {}
        self._sequence = _FIRST_SEQUENCE
        self._iterators = 0
        ids: Sequence[str | None] = (
            [None] * shard_ids if isinstance(shard_ids, int) else list(shard_ids)
        )
        for shard_id, hashes in zip(ids, _divided(range(_HASHES), len(ids)), strict=True):
            self._open(shard_id, None, hashes)

    # The writer's side

    def put(self, key: str, /, shard: str | None = None, **attributes: Any) -> Record | None:
        """Write an item; None when that changes nothing, and so makes no record.

        `shard` names the shard instead of the key's hash, a closed one too: for scenes that are set
        up after the fact.
        """
        new = {"id": key, **attributes}
        old = self._items.get(key)
        if new == old:
            return None
        self._items[key] = new
        return self._append(key, "INSERT" if old is None else "MODIFY", new, old, False, shard)

    def delete(self, key: str, /, shard: str | None = None, *, ttl: bool = False) -> Record | None:
        """Delete an item, as a user or as Time to Live; None when there is none."""
        old = self._items.pop(key, None)
        if old is None:
            return None
        return self._append(key, "REMOVE", None, old, ttl, shard)

    def _append(
        self,
        key: str,
        event_name: str,
        new: Mapping[str, Any] | None,
        old: Mapping[str, Any] | None,
        ttl: bool,
        shard_id: str | None,
    ) -> Record:
        shard = self._owner(key) if shard_id is None else self.shards[shard_id]
        number, at = self._next_sequence(), self._now()
        made = record(key, number, event_name, new=new, old=old, at=at, ttl=ttl)
        shard.records.append(made)
        shard.sequences.append(number)
        shard.written_at.append(at)
        self.written.append(made)
        return made

    def _owner(self, key: str) -> SimulatedShard:
        position = zlib.crc32(key.encode())
        for shard in self.shards.values():
            if shard.closed_at is None and position in shard.hashes:
                return shard
        raise AssertionError("the stream is disabled, no shard takes records")

    def _next_sequence(self) -> int:
        self._sequence += self._rng.randint(1, 2000)
        return self._sequence

    # What AWS does by itself

    def roll(self, shard_id: str, **oddities: Any) -> str:
        """Close a shard and open its only child; oddities as in `succeed`."""
        return self.succeed(shard_id, None, **oddities)[0]

    def split(self, shard_id: str, **oddities: Any) -> list[str]:
        """Close a shard and open two children, each with half of its keys."""
        return self.succeed(shard_id, None, None, **oddities)

    def succeed(
        self,
        shard_id: str,
        *children: str | None,
        listed_after: float = 0.0,
        looks_open: bool = False,
    ) -> list[str]:
        """Close a shard and open these children (None makes up an id), which divide its keys.

        They are listed only `listed_after` seconds later, though never before their parent; with
        `looks_open` the parent is still listed without an ending number.
        """
        parent = self.shards[shard_id]
        self.close(shard_id)
        parent.looks_open = looks_open
        parts = _divided(parent.hashes, len(children))
        return [
            self._open(child, parent.id, part, listed_after)
            for child, part in zip(children, parts, strict=True)
        ]

    def close(self, shard_id: str) -> None:
        """Close a shard; it has no child yet."""
        self.shards[shard_id].closed_at = self._now()

    def _open(
        self,
        shard_id: str | None,
        parent_id: str | None,
        hashes: range,
        listed_after: float = 0.0,
    ) -> str:
        at, starting = self._now(), self._next_sequence()
        made = shard_id or f"shardId-{int(at * 1000):020d}-{self._rng.getrandbits(32):08x}"
        listed_at = at + listed_after
        if parent_id is not None:
            listed_at = max(listed_at, self.shards[parent_id].listed_at)
        shard = SimulatedShard(made, parent_id, hashes, listed_at, starting)
        self.shards[made] = self.history[made] = shard
        return made

    def disable(self) -> None:
        """The table's stream is switched off: all shards close, what is in them stays readable."""
        self.status = "DISABLED"
        for shard in self.shards.values():
            if shard.closed_at is None:
                self.close(shard.id)

    def trim(self, shard_id: str, records: int | None = None) -> None:
        """Trim the oldest readable records of a shard now; None trims all."""
        shard = self.shards[shard_id]
        start = bisect_left(shard.sequences, shard.horizon)
        end = len(shard.sequences) if records is None else start + records
        if end > start:
            shard.horizon = shard.sequences[end - 1] + 1

    def remove(self, shard_id: str) -> None:
        """The shard is gone with all that was in it."""
        del self.shards[shard_id]

    def _age(self) -> None:
        limit = self._now() - RETENTION
        for shard in list(self.shards.values()):
            start = bisect_left(shard.sequences, shard.horizon)
            end = bisect_left(shard.written_at, limit, lo=start)
            if end > start:
                shard.horizon = shard.sequences[end - 1] + 1
            if shard.closed_at is not None and shard.closed_at < limit:
                self.remove(shard.id)

    # The reader's side

    def describe_stream(
        self, after: str | None = None, children_of: str | None = None
    ) -> Description:
        """Up to 100 shards behind `ExclusiveStartShardId`, or the children that are listed."""
        self._age()
        at = self._now()
        listed = [shard for shard in self.shards.values() if shard.listed_at <= at]
        if children_of is not None:
            listed = [shard for shard in listed if shard.parent_id == children_of]
        if after is not None:
            ids = [shard.id for shard in listed]
            if after not in ids:
                raise ApiError("ResourceNotFoundException", f"no shard {after}")
            listed = listed[ids.index(after) + 1 :]
        page = listed[:LISTING_PAGE]
        more = len(listed) > LISTING_PAGE
        return Description(self.status, page, page[-1].id if more else None)

    def get_shard_iterator(
        self,
        shard_id: str,
        kind: str,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        """An iterator of the named `ShardIteratorType`."""
        self._age()
        shard = self._existing(shard_id)
        if kind == "TRIM_HORIZON":
            at = max(shard.horizon, shard.starting)
        elif kind == "LATEST":
            at = max(shard.horizon, shard.sequences[-1] + 1 if shard.sequences else shard.starting)
        elif kind == "AT_TIMESTAMP":
            at = self._number_at(shard, timestamp)
        elif kind in {"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"}:
            if sequence is None or not sequence.isdecimal():
                raise ApiError("ValidationException", "a SequenceNumber is required")
            if int(sequence) < shard.horizon:
                raise ApiError("TrimmedDataAccessException", "older than the trim horizon")
            at = int(sequence) + (kind == "AFTER_SEQUENCE_NUMBER")
        else:
            raise ApiError("ValidationException", f"unknown ShardIteratorType {kind}")
        return self._iterator(shard, at)

    def _number_at(self, shard: SimulatedShard, timestamp: float | None) -> int:
        if not self.knows_timestamps or timestamp is None or timestamp > self._now():
            raise ApiError("ValidationException", "AT_TIMESTAMP cannot be used like this")
        # Compared with the time that the record shows, cut to the second: the reading of AWS's
        # page that is hardest on a reader.
        index = bisect_left([float(int(at)) for at in shard.written_at], timestamp)
        if index == len(shard.sequences):
            return shard.sequences[-1] + 1 if shard.sequences else shard.starting
        return max(shard.horizon, shard.sequences[index])

    def get_records(self, iterator: str) -> RecordsPage:
        """A page; no next iterator where a closed shard ends."""
        self._age()
        shard, at = self._resolved(iterator)
        if at < shard.horizon:
            raise ApiError("TrimmedDataAccessException", "older than the trim horizon")
        if shard.empty_pages > 0:
            shard.empty_pages -= 1
            return RecordsPage([], self._iterator(shard, at), 2)
        records: list[Record] = []
        size = 0
        start = bisect_left(shard.sequences, at)
        for stored in shard.records[start : start + PAGE_RECORDS]:
            if records and size + _size(stored) > PAGE_BYTES:
                break
            size += _size(stored)
            records.append(stored)
        after = shard.sequences[start + len(records) - 1] + 1 if records else at
        at_end = start + len(records) == len(shard.records)
        ended = shard.closed_at is not None and at_end and not (records and self.extra_last_page)
        return RecordsPage(records, None if ended else self._iterator(shard, after), size)

    def precede_with_empty_page(self, iterator: str) -> None:
        """The next page of the iterator's shard is empty, whatever stands behind it."""
        shard, _ = self._resolved(iterator)
        shard.empty_pages = max(shard.empty_pages, 1)

    def _iterator(self, shard: SimulatedShard, at: int) -> str:
        self._iterators += 1
        return f"{self.arn}|{shard.id}|{at}|{self._now()!r}|{self._iterators}"

    def _resolved(self, iterator: str) -> tuple[SimulatedShard, int]:
        parts = iterator.split("|")
        if len(parts) != 5 or parts[0] != self.arn:
            raise ApiError("ValidationException", "Invalid ShardIterator")
        if self._now() - float(parts[3]) >= ITERATOR_LIFETIME:
            raise ApiError("ExpiredIteratorException", "older than 15 minutes")
        return self._existing(parts[1]), int(parts[2])

    def _existing(self, shard_id: str) -> SimulatedShard:
        if shard_id not in self.shards:
            raise ApiError("ResourceNotFoundException", f"no shard {shard_id}")
        return self.shards[shard_id]


def _divided(hashes: range, parts: int) -> list[range]:
    edges = [hashes.start + len(hashes) * part // parts for part in range(parts + 1)]
    return [range(edges[part], edges[part + 1]) for part in range(parts)]


def _size(record: Record) -> int:
    images = (record.dynamodb.keys, record.dynamodb.new_image, record.dynamodb.old_image)
    return 300 + sum(len(bytes(image)) for image in images if isinstance(image, msgspec.Raw))
