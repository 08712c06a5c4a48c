"""A DynamoDB stream in memory, with the rules of the real one and its error codes.

Rests on https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html, the API
pages of DescribeStream, GetShardIterator and GetRecords, and the service model
`dynamodbstreams/2012-08-10`. Times are epoch seconds.
"""

from __future__ import annotations

import hashlib
import math
import random
import zlib
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.capture import ITERATOR_LIFETIME, Identity, Record, StreamRecord
from ddbrelay.flow.capture.port import PAGE_RECORDS, RETENTION
from ddbrelay.flow.change import TTL_PRINCIPAL
from ddbrelay.testing import clock
from ddbrelay.testing.builders import raw
from ddbrelay.testing.faults import ApiError
from ddbrelay.testing.limits import Limits, Throttle
from ddbrelay.testing.shard import SimulatedShard
from ddbrelay.testing.tree import ShardTree, outlived

LISTING_PAGE = 100
VIEW_TYPES = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE", "OLD_IMAGE", "KEYS_ONLY")
REGION = "us-east-1"
ACCOUNT = "000000000000"
_BY_TTL = Identity(type_upper="Service", principal_upper=TTL_PRINCIPAL)


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


@dataclass(frozen=True, slots=True)
class _Stored:
    item: Mapping[str, Any]
    keys: msgspec.Raw
    image: msgspec.Raw


class SimulatedStream(ShardTree):
    """The stream of a table; by `put` and `delete` it is its own table, with partition key `id`.

    The writer's side (`put`, `delete`, `append`) goes to the open shard that owns the key's hash;
    `roll`, `split`, `trim`, `disable` are what AWS does by itself. The reader's side are the three
    operations, which raise ApiError with AWS's codes. Nothing here takes time or fails by chance.

    `skew` and `enabling` as of ShardTree. `extra_last_page` lets a closed shard end with an empty
    page instead of one with records. A listing that goes on behind a shard that is gone is refused;
    with `forgets_no_start` it goes on. AWS's pages do not say which.
    """

    def __init__(
        self,
        shard_ids: Sequence[str] | int = 1,
        *,
        table: str = "users",
        label: str = "simulated",
        view_type: str = VIEW_TYPES[0],
        key_names: Sequence[str] = ("id",),
        now: Callable[[], float] = clock.now,
        rng: random.Random | None = None,
        limits: Limits | None = None,
        skew: float = 0.0,
        enabling: float = 0.0,
        knows_timestamps: bool = True,
        extra_last_page: bool = False,
        forgets_no_start: bool = False,
    ) -> None:
        super().__init__(shard_ids, now, rng or random.Random(0), skew, enabling)
        self.table, self.label, self.view_type = table, label, view_type
        self.key_names = list(key_names)
        self.arn = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}/stream/{label}"
        self.limits = limits or Limits()
        self.knows_timestamps = knows_timestamps
        self.extra_last_page = extra_last_page
        self.forgets_no_start = forgets_no_start
        self.written: list[Record] = []
        self._items: dict[str, _Stored] = {}
        self._throttle = Throttle()
        self._iterators = 0

    # The writer's side

    def put(self, key: str, /, shard: str | None = None, **attributes: Any) -> Record | None:
        """Write an item; None when that changes nothing, and so makes no record.

        `shard` names the shard instead of the key's hash, a closed one too: for scenes that are set
        up after the fact.
        """
        new = {"id": key, **attributes}
        old = self._items.get(key)
        if old is not None and old.item == new:
            return None
        stored = _Stored(new, raw({"id": key}) if old is None else old.keys, raw(new))
        made = self.append(
            stored.keys,
            None if old is None else old.image,
            stored.image,
            position=zlib.crc32(key.encode()),
            shard=shard,
        )
        self._items[key] = stored
        return made

    def delete(self, key: str, /, shard: str | None = None, *, ttl: bool = False) -> Record | None:
        """Delete an item, as a user or as Time to Live; None when there is none."""
        old = self._items.get(key)
        if old is None:
            return None
        position = zlib.crc32(key.encode())
        made = self.append(old.keys, old.image, None, position=position, ttl=ttl, shard=shard)
        del self._items[key]
        return made

    def append(
        self,
        keys: msgspec.Raw,
        old: msgspec.Raw | None,
        new: msgspec.Raw | None,
        *,
        position: int,
        ttl: bool = False,
        shard: str | None = None,
    ) -> Record:
        """The record of a write, with the images that the view type has.

        `position` is the hash of the partition key, below 2**32. LookupError when no open shard
        takes it.
        """
        owner = self._owner(position) if shard is None else self.shards[shard]
        number, at = self._next_sequence(), self._now()
        shows_new = new is not None and self.view_type in {"NEW_AND_OLD_IMAGES", "NEW_IMAGE"}
        shows_old = old is not None and self.view_type in {"NEW_AND_OLD_IMAGES", "OLD_IMAGE"}
        new_image = new if new is not None and shows_new else msgspec.UNSET
        old_image = old if old is not None and shows_old else msgspec.UNSET
        images = (keys, new_image, old_image)
        sequence = str(number)
        made = Record(
            hashlib.md5(f"{self.arn}{sequence}".encode(), usedforsecurity=False).hexdigest(),
            "INSERT" if old is None else "REMOVE" if new is None else "MODIFY",
            StreamRecord(
                sequence,
                keys,
                new_image,
                old_image,
                float(int(at)),
                sum(len(bytes(image)) for image in images if isinstance(image, msgspec.Raw)),
                self.view_type,
            ),
            _BY_TTL if ttl else None,
        )
        owner.add(made, number, at)
        self.written.append(made)
        return made

    # The reader's side

    def describe_stream(
        self,
        after: str | None = None,
        children_of: str | None = None,
        limit: int = LISTING_PAGE,
    ) -> Description:
        """Up to 100 shards behind `ExclusiveStartShardId`, or the children that are listed."""
        at = self._now()
        self._refuse_gone()
        if not self._throttle.admits("DescribeStream", self.limits.describe_stream, at):
            raise ApiError("ThrottlingException", "Rate exceeded")
        for shard in [s for s in self.shards.values() if outlived(s, at)]:
            self.remove(shard.id)
        above = -1 if after is None else self._start_of_page(after, at)
        listed = [
            shard
            for shard in self.shards.values()
            if shard.listed_at <= at
            and shard.number > above
            and (children_of is None or shard.parent_id == children_of)
        ]
        page = listed[: min(limit, LISTING_PAGE)]
        return Description(self.status, page, page[-1].id if len(page) < len(listed) else None)

    def _start_of_page(self, shard_id: str, at: float) -> int:
        shard = self.history.get(shard_id)
        lost = shard_id not in self.shards and not self.forgets_no_start
        if shard is None or shard.listed_at > at or lost:
            raise ApiError("ResourceNotFoundException", f"no shard {shard_id}")
        return shard.number

    def get_shard_iterator(
        self,
        shard_id: str,
        kind: str,
        sequence: str | None = None,
        timestamp: float | None = None,
    ) -> str:
        """An iterator of the named `ShardIteratorType`."""
        shard = self._existing(shard_id)
        if kind == "TRIM_HORIZON":
            at = max(shard.horizon, shard.starting)
        elif kind == "LATEST":
            at = max(shard.horizon, shard.latest)
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
        index = bisect_left(shard.written_at, math.ceil(timestamp))
        if index == len(shard.sequences):
            return shard.latest
        return max(shard.horizon, shard.sequences[index])

    def get_records(
        self, iterator: str, limit: int = PAGE_RECORDS, *, no_next: bool = False
    ) -> RecordsPage:
        """A page; no next iterator where a closed shard ends, and with `no_next` of an open one."""
        shard, at = self._resolved(iterator)
        if not self._throttle.admits(shard.id, self.limits.get_records, self._now()):
            raise ApiError("LimitExceededException", "more than two readers of this shard")
        if at < shard.horizon:
            raise ApiError("TrimmedDataAccessException", "older than the trim horizon")
        if shard.empty_pages > 0:
            shard.empty_pages -= 1
            return RecordsPage([], self._iterator(shard, at), 2)
        records, size, last = shard.page(at, min(limit, PAGE_RECORDS))
        after = int(records[-1].sequence_number) + 1 if records else at
        ended = shard.closed_at is not None and last and not (records and self.extra_last_page)
        ended = ended or (no_next and shard.closed_at is None)
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
        try:
            arn, shard_id, at, given, _ = parts
            number, given_at = int(at), float(given)
        except ValueError:
            raise ApiError("ValidationException", "Invalid ShardIterator") from None
        if arn != self.arn:
            raise ApiError("ValidationException", "Invalid ShardIterator")
        if self._now() - given_at >= ITERATOR_LIFETIME:
            raise ApiError("ExpiredIteratorException", "older than 15 minutes")
        return self._existing(shard_id), number

    def _existing(self, shard_id: str) -> SimulatedShard:
        self._refuse_gone()
        shard, at = self.shards.get(shard_id), self._now()
        if shard is not None and outlived(shard, at):
            self.remove(shard_id)
            shard = None
        if shard is None:
            raise ApiError("ResourceNotFoundException", f"no shard {shard_id}")
        shard.age(at - RETENTION)
        return shard

    def _refuse_gone(self) -> None:
        if self.gone:
            raise ApiError("ResourceNotFoundException", f"no stream {self.arn}")
