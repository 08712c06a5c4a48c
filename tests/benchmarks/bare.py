"""The bound: as little between GetRecords and PutEvents as Python's own sockets allow.

Every record is mapped, and packed with its neighbours, before the first read; what is left is to
read the pages, to put the numbers of each page into its bodies, to sign these and to send them, 64
at a time. No order for an item, no checkpoint, no retry.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import deque
from urllib.parse import urlsplit

from botocore.credentials import ReadOnlyCredentials

from ddbrelay.aws.signing import Signer

from . import work

IN_FLIGHT = 64
_KEYS = ReadOnlyCredentials("AKIDEXAMPLE", "secret", None)
_TYPE = "application/x-amz-json-1.1"
_PUT_EVENTS = "AWSEvents.PutEvents"


class _Wire(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._received: list[bytes] = []
        self._missing = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("the stand-in went away"))

    def data_received(self, data: bytes) -> None:
        if self._missing < 0:
            data = b"".join([*self._received, data])
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._received = [data]
                return
            at = data.index(b"Content-Length: ") + 16
            self._missing = int(data[at : data.index(b"\r\n", at)])
            if not data.startswith(b"HTTP/1.1 200"):
                assert self._answer is not None
                self._answer.set_exception(ConnectionError(data.decode(errors="replace")))
                return
            data = data[end + 4 :]
            self._received = []
        self._received.append(data)
        self._missing -= len(data)
        if self._missing == 0:
            body, self._received, self._missing = b"".join(self._received), [], -1
            assert self._answer is not None
            self._answer.set_result(body)

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer


def _signer(url: str, target: str, service: str) -> Signer:
    return Signer(url, work.REGION, service, {"Content-Type": _TYPE, "X-Amz-Target": target})


def _request(signer: Signer, body: bytes) -> bytes:
    headers = signer.sign(body, _KEYS, time.time())
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"POST / HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


def prepared(template: work.Template) -> list[tuple[int, list[bytes]]]:
    """The bodies for a page, split at the holes, each with its number of entries."""
    import msgspec

    from ddbrelay.flow.change import Change, Origin, decode_record
    from ddbrelay.flow.mapping import CrudMapper, Event

    mapper, origin = CrudMapper(work.TABLE), Origin(work.TABLE, work.STREAM_ARN)
    entries = []
    for text in template.records:
        event = mapper(Change(decode_record(text), "shard", origin))
        assert isinstance(event, Event)
        entries.append(
            {
                "EventBusName": work.BUS,
                "Source": event.source,
                "DetailType": event.detail_type,
                "Detail": event.detail.decode(),
                "Resources": event.resources,
                "Time": event.time,
            }
        )
    requests = []
    for start in range(0, len(entries), 10):
        ten = entries[start : start + 10]
        body = msgspec.json.encode({"Entries": ten})
        requests.append((len(ten), body.split(work.HOLE.encode())))
    return requests


async def relay(records: int, kilobytes: float) -> None:
    """Read so many records at AWS_ENDPOINT_URL, and publish them."""
    loop = asyncio.get_running_loop()
    url = os.environ["AWS_ENDPOINT_URL"]
    address = urlsplit(url)
    publish = _signer(url, _PUT_EVENTS, "events")
    describe, seek, fetch = (
        _signer(url, f"DynamoDBStreams_20120810.{operation}", "dynamodb")
        for operation in ("DescribeStream", "GetShardIterator", "GetRecords")
    )
    pages = work.make(kilobytes)
    requests = {id(template): prepared(template) for template in pages.templates}

    async def connect() -> _Wire:
        return (await loop.create_connection(_Wire, address.hostname, address.port))[1]

    reader = await connect()
    asked = json.dumps({"StreamArn": work.STREAM_ARN}).encode()
    shards: list[str] = []
    while True:
        said = json.loads(await reader.ask(_request(describe, asked)))
        shards += [shard["ShardId"] for shard in said["StreamDescription"]["Shards"]]
        last = said["StreamDescription"].get("LastEvaluatedShardId")
        if last is None:
            break
        asked = json.dumps({"StreamArn": work.STREAM_ARN, "ExclusiveStartShardId": last}).encode()

    waiting: deque[bytes] = deque()
    more, room = asyncio.Event(), asyncio.Event()
    room.set()
    left = done = records

    async def read(wire: _Wire, mine: list[str]) -> None:
        nonlocal left
        from ddbrelay.flow.change import decode_page

        iterators: dict[str, str] = {}
        while left > 0 and mine:
            for shard in list(mine):
                await room.wait()
                if shard not in iterators:
                    wanted = {"StreamArn": work.STREAM_ARN, "ShardId": shard}
                    body = json.dumps(wanted | {"ShardIteratorType": "TRIM_HORIZON"}).encode()
                    answer = await wire.ask(_request(seek, body))
                    iterators[shard] = json.loads(answer)["ShardIterator"]
                body = b'{"ShardIterator":"%s"}' % iterators[shard].encode()
                page = decode_page(await wire.ask(_request(fetch, body)))
                assert page.next_iterator is not None
                iterators[shard] = page.next_iterator
                if not page.records:
                    mine.remove(shard)
                    continue
                left -= len(page.records)
                place = page.records[0].sequence_number.removeprefix(work.SEQUENCE_PREFIX)
                number, whole = int(place[:4]), int(place[4:12])
                count = len(page.records)
                for size, parts in requests[id(pages.template(number, whole))]:
                    if count < size:
                        break
                    waiting.append(work.filled(parts, number, whole))
                    count -= size
                if len(waiting) > 4 * IN_FLIGHT:
                    room.clear()
                more.set()

    async def send(wire: _Wire) -> None:
        nonlocal done
        while done > 0:
            if not waiting:
                more.clear()
                await more.wait()
                continue
            request = waiting.popleft()
            if len(waiting) <= 4 * IN_FLIGHT:
                room.set()
            answer = await wire.ask(_request(publish, request))
            if b'"FailedEntryCount": 0' not in answer:
                raise ConnectionError(answer.decode())
            done -= answer.count(b'"EventId"')
        more.set()

    readers = [read(await connect(), shards[n::8]) for n in range(min(8, len(shards)))]
    senders = [send(await connect()) for _ in range(IN_FLIGHT)]
    if records:
        await asyncio.gather(*readers, *senders)
