"""Recent changes, or items of the table, put through the mapping: what would become of them.

Reading the stream is what a relay does, and changes nothing: the calls are the proof that they are
allowed. Items are read with one Scan, eventually consistent, of at most 1 MB:
https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_Scan.html
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from ddbrelay.aws.errors import from_code
from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import NoAnswerError, Transport, WireError
from ddbrelay.checkup.asking import Answer, QuickAws
from ddbrelay.errors import AwsRefused, DdbrelayError
from ddbrelay.flow.capture import IteratorType, Record, Shard, StreamFault, StreamRecord
from ddbrelay.flow.change import Change, Origin
from ddbrelay.flow.mapping import Event, MapFunction, Reject, Several, Skip
from ddbrelay.flow.mapping.redaction import Sightings
from ddbrelay.times import iso

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.checkup.table import Table

_MOST_SHARDS = 4
_MOST_PAGES = 5
_MOST_LISTINGS = 3
_PATIENCE = 15.0
STREAM, ITEMS = "changes in the stream", "items of the table"


@dataclass(frozen=True)
class Read:
    """Changes that were read; `source` says where, `dry` which calls AWS allowed for it.

    `stream_refusal` is why the stream could not be read; `scan` is None where the table was not.
    """

    changes: Sequence[Change] = ()
    source: str = STREAM
    dry: frozenset[str] = frozenset()
    stream_refusal: DdbrelayError | None = None
    scan: Answer[int] | None = None


@dataclass
class Mapped:
    """What became of the sampled changes; events are with the bus of the run as None."""

    source: str
    count: int = 0
    events: list[Event] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    unhidden: Sequence[str] = ()
    """A line for each name of `redact` that none of the changes has."""


def look(aws: QuickAws, table: Table, most: int) -> Read:
    """Read up to `most` changes, or items where the stream is empty; with 0 only try the calls."""
    return asyncio.run(_read(aws.apart(), table, most))


async def _read(aws: Aws, table: Table, most: int) -> Read:
    async with Transport(aws) as transport:
        found = Read()
        if table.stream_arn is not None:
            try:
                async with asyncio.timeout(_PATIENCE):
                    found = await _changes(transport, table, most)
            except TimeoutError:
                late = f"the stream did not answer within {_PATIENCE:.0f} s"
                return Read(stream_refusal=AwsRefused(late, "try again"))
        if found.changes or not most or found.stream_refusal is not None:
            return found
        return await _items(transport, table, most, found.dry)


async def _changes(transport: Transport, table: Table, most: int) -> Read:
    assert table.stream_arn is not None
    origin = Origin(table.name, table.stream_arn)
    dry: set[str] = set()
    found: list[Change] = []
    try:
        source = await AwsStream.open(transport, table.stream_arn)
        for shard in _newest(await _shards(source, dry)):
            iterator: str | None = await source.iterator(shard.id, IteratorType.TRIM_HORIZON)
            dry.add("dynamodb:GetShardIterator")
            for _ in range(_MOST_PAGES):
                if iterator is None or len(found) >= max(most, 1):
                    break
                page = await source.records(iterator)
                dry.add("dynamodb:GetRecords")
                found += [Change(record, shard.id, origin) for record in page.records]
                iterator = page.next_iterator
            if len(found) >= most:
                break
    except AwsRefused as refusal:
        return Read(found[:most], STREAM, frozenset(dry), refusal)
    except StreamFault as fault:
        late = AwsRefused(f"cannot read the stream: {fault}", "try again")
        return Read(found[:most], STREAM, frozenset(dry), late)
    return Read(found[:most], STREAM, frozenset(dry))


async def _shards(source: AwsStream, dry: set[str]) -> list[Shard]:
    found: list[Shard] = []
    after: str | None = None
    for _ in range(_MOST_LISTINGS):
        page = await source.shards(after)
        dry.add("dynamodb:DescribeStream")
        found += page.shards
        after = page.last_id
        if after is None:
            break
    return found


def _newest(shards: Sequence[Shard]) -> list[Shard]:
    """A few shards, the open ones first: what is written now goes there."""
    return sorted(shards, key=lambda shard: shard.closed)[:_MOST_SHARDS]


class _ScanOutput(msgspec.Struct):
    items: list[dict[str, msgspec.Raw]] = msgspec.field(name="Items")


_scanned = msgspec.json.Decoder(_ScanOutput).decode


async def _items(transport: Transport, table: Table, most: int, dry: frozenset[str]) -> Read:
    doing = f"scan the table {table.name} for a sample (dynamodb:Scan)"
    request = {"TableName": transport.address_of(table.name), "Limit": most}
    try:
        service = await transport.service("dynamodb")
        await service.resolve("Scan", **request)
        said = await service.call("Scan", msgspec.json.encode(request), _scanned)
    except WireError as error:
        refusal = from_code(error.code, error.message, doing)
        return Read(source=ITEMS, dry=dry, scan=Answer(refusal=refusal))
    except NoAnswerError as error:
        refusal = AwsRefused(f"cannot {doing}: {error}")
        return Read(source=ITEMS, dry=dry, scan=Answer(refusal=refusal))
    changes = list(_as_inserts(said.items, table))
    return Read(changes, ITEMS, dry, scan=Answer(len(changes)))


def _as_inserts(items: Sequence[dict[str, msgspec.Raw]], table: Table) -> Iterator[Change]:
    """The items as if each had just been written."""
    origin = Origin(table.name, table.stream_arn or f"{table.arn}/stream/none")
    for number, item in enumerate(items):
        keys = {name: item[name] for name in table.key_names if name in item}
        record = StreamRecord(
            str(10**20 + number),
            msgspec.Raw(msgspec.json.encode(keys)),
            msgspec.Raw(msgspec.json.encode(item)),
        )
        yield Change(Record(f"sample-{number}", "INSERT", record), "", origin)


def mapped(read: Read, mapper: MapFunction, sightings: Sightings) -> Mapped:
    """What the mapping makes of what was read."""
    found = Mapped(read.source, len(read.changes))
    for change in read.changes:
        sightings.see(change)
        match mapper(change):
            case Event() as event:
                found.events.append(event)
            case Several(events):
                found.events += events
            case Skip(reason):
                found.skipped[reason] += 1
            case Reject(reason):
                found.rejected[reason.splitlines()[0] if reason else "no reason"] += 1
    found.unhidden = sightings.complaints()
    return found


def envelope(event: Event, account: str, region: str) -> dict[str, Any]:
    """The event as the rules of a bus see it.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
    """
    return {
        "version": "0",
        "id": "00000000-0000-0000-0000-000000000000",
        "detail-type": event.detail_type,
        "source": event.source,
        "account": account,
        "time": iso(event.time or 0.0),
        "region": region,
        "resources": list(event.resources),
        "detail": json.loads(event.detail, parse_float=Decimal),
    }
