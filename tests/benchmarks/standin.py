"""The AWS of the benchmark, in a process of its own: `python -m tests.benchmarks.standin`.

It must cost much less than any client: pages are canned, requests are looked at just enough to
count and order the events in them, and answers wait on the loop for their latency. Prints its port,
and ends when its standard input does. `/control/configure` sets up a run, `/control/report` gives
what came in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httptools
import uvloop

from . import work
from .books import Books

_LISTED = 100
_EMPTY = b'{"Records":[],"NextShardIterator":"%s"}'
_PAGE = b'{"Records":[%s],"NextShardIterator":"%s"}'


def _shard_id(shard: int) -> str:
    return f"shardId-{shard:020}-{shard:08x}"


def _iterator(shard: int, offset: int) -> str:
    return f"{work.STREAM_ARN}|1|{shard}:{offset}"


def _accepted(count: int) -> bytes:
    entries = [{"EventId": f"{n:08x}-0000-4000-8000-{n:012x}"} for n in range(count)]
    return json.dumps({"FailedEntryCount": 0, "Entries": entries}).encode()


@dataclass
class Account:
    """The table, its stream and the bus of one run."""

    items: dict[float, work.Work] = field(default_factory=dict)
    work: work.Work = field(default_factory=lambda: work.Work(()))
    books: Books = field(default_factory=Books)
    latency: float = 0.0
    counts: list[int] = field(default_factory=list)
    to_drip: tuple[int, float] | None = None
    drip: asyncio.Task[None] | None = None
    down: float = 0.0
    fault: str = ""
    answers: dict[int, bytes] = field(
        default_factory=lambda: {count: _accepted(count) for count in range(1, 11)}
    )

    def configure(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Set up a run: `latency` in seconds, `shards`, `items` in KB, `records`.

        With `every` the records are not there at the start: they are written one at a time, after
        random pauses of so many seconds on average, from the first read on. For `down` seconds from
        the first read on the bus takes nothing, in the way of `fault`: 503, throttled or reset.
        """
        size = asked["items"]
        if size not in self.items:
            self.items[size] = work.make(size)
        self.work, self.books, self.latency = self.items[size], Books(), asked["latency"]
        if self.drip is not None:
            self.drip.cancel()
            self.drip = None
        self.to_drip = None
        self.down, self.fault = asked.get("down", 0.0), asked.get("fault", "503")
        if asked.get("every"):
            self.counts = [0] * asked["shards"]
            self.to_drip = (asked["records"], asked["every"])
        else:
            self.counts = self.work.counts(asked["records"], asked["shards"])
        return {"page_records": self.work.page_records}

    @property
    def is_down(self) -> bool:
        """Whether the bus takes nothing now."""
        began = self.books.first_read
        return began is not None and time.monotonic() < began + self.down

    async def _drip(self, records: int, every: float) -> None:
        dice = random.Random(11)
        for _ in range(records):
            await asyncio.sleep(dice.uniform(0.2, 1.8) * every)
            shard = dice.randrange(len(self.counts))
            page, index = divmod(self.counts[shard], self.work.page_records)
            self.books.written[work.token(shard, page, index).encode()] = time.monotonic()
            self.counts[shard] += 1

    def answer(self, operation: str, body: bytes) -> bytes:
        """The body of an answer; KeyError for what this account does not know."""
        if operation == "GetRecords":
            return self._records(body)
        return _OPERATIONS[operation](self, json.loads(body))

    def _records(self, body: bytes) -> bytes:
        where = body[body.rindex(b"|") + 1 : body.rindex(b'"')]
        shard, offset = map(int, where.split(b":"))
        if self.books.first_read is None:
            self.books.begin()
            if self.to_drip is not None:
                self.drip = asyncio.create_task(self._drip(*self.to_drip))
        full = self.work.page_records
        page, start = divmod(offset, full)
        stop = min(self.counts[shard] - page * full, full)
        if stop <= start:
            return _EMPTY % _iterator(shard, offset).encode()
        self.books.read += stop - start
        following = _iterator(shard, page * full + stop).encode()
        records = self.work.template(shard, page).between(shard, page, start, stop)
        return _PAGE % (records, following)

    def table(self, asked: dict[str, Any]) -> bytes:
        described = {
            "TableName": work.TABLE,
            "TableArn": work.TABLE_ARN,
            "TableStatus": "ACTIVE",
            "LatestStreamArn": work.STREAM_ARN,
            "LatestStreamLabel": work.STREAM_ARN.rpartition("/")[2],
            "StreamSpecification": {
                "StreamEnabled": True,
                "StreamViewType": "NEW_AND_OLD_IMAGES",
            },
        }
        return json.dumps({"Table": described}).encode()

    def stream(self, asked: dict[str, Any]) -> bytes:
        ids = [_shard_id(shard) for shard in range(len(self.counts))]
        after = asked.get("ExclusiveStartShardId")
        begin = 0 if after is None else ids.index(after) + 1
        if "ShardFilter" in asked:
            ids = []
        listed = ids[begin : begin + asked.get("Limit", _LISTED)]
        description: dict[str, Any] = {
            "StreamArn": work.STREAM_ARN,
            "StreamStatus": "ENABLED",
            "StreamViewType": "NEW_AND_OLD_IMAGES",
            "TableName": work.TABLE,
            "Shards": [
                {
                    "ShardId": one,
                    "SequenceNumberRange": {
                        "StartingSequenceNumber": work.SEQUENCE_PREFIX
                        + work.token(begin + number, 0, 0)
                    },
                }
                for number, one in enumerate(listed)
            ],
        }
        if begin + len(listed) < len(ids):
            description["LastEvaluatedShardId"] = listed[-1]
        return json.dumps({"StreamDescription": description}).encode()

    def iterator(self, asked: dict[str, Any]) -> bytes:
        shard = int(asked["ShardId"].split("-")[1])
        kind, offset = asked["ShardIteratorType"], 0
        if kind == "LATEST":
            offset = self.counts[shard]
        elif kind.endswith("SEQUENCE_NUMBER"):
            place = asked["SequenceNumber"].removeprefix(work.SEQUENCE_PREFIX)
            offset = int(place[4:12]) * self.work.page_records + int(place[12:])
            offset += kind.startswith("AFTER")
        return json.dumps({"ShardIterator": _iterator(shard, offset)}).encode()

    def streams(self, asked: dict[str, Any]) -> bytes:
        label = work.STREAM_ARN.rpartition("/")[2]
        listed = {"StreamArn": work.STREAM_ARN, "TableName": work.TABLE, "StreamLabel": label}
        return json.dumps({"Streams": [listed]}).encode()

    def bus(self, asked: dict[str, Any]) -> bytes:
        arn = f"arn:aws:events:{work.REGION}:{work.ACCOUNT}:event-bus/{work.BUS}"
        return json.dumps({"Name": work.BUS, "Arn": arn}).encode()


_OPERATIONS: dict[str, Callable[[Account, dict[str, Any]], bytes]] = {
    "DescribeEventBus": Account.bus,
    "DescribeStream": Account.stream,
    "DescribeTable": Account.table,
    "GetShardIterator": Account.iterator,
    "ListStreams": Account.streams,
}


class Connection(asyncio.Protocol):
    """One connection, kept alive; a client sends its next request after the answer."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._path, self._operation = b"", ""
        self._body: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path = url

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 12 and name.lower() == b"x-amz-target":
            self._operation = value[value.index(b".") + 1 :].decode()

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        account, books = self._account, self._account.books
        if self._path.startswith(b"/control/"):
            self._control(body)
            return
        books.requests[self._operation] += 1
        if self._operation == "PutEvents":
            self._publish(body)
            return
        try:
            answer = account.answer(self._operation, body)
        except KeyError:
            refusal = {"__type": "UnknownOperationException", "message": self._operation}
            self._write(json.dumps(refusal).encode(), b"400 Bad Request")
            return
        self._later(self._write, answer)

    def _publish(self, body: bytes) -> None:
        if self._account.is_down:
            self._later(self._refuse)
            return
        books = self._account.books
        entries, tokens, items = books.arrive(body)
        answer = self._account.answers[entries]

        def accept() -> None:
            self._write(answer)
            books.accept(entries, tokens, items)

        self._later(accept)

    def _refuse(self) -> None:
        fault = self._account.fault
        if fault == "503":
            self._write(b"", b"503 Service Unavailable")
        elif fault == "throttled":
            refusal = {"__type": "ThrottlingException", "message": "Rate exceeded"}
            self._write(json.dumps(refusal).encode(), b"400 Bad Request")
        elif self._transport is not None:
            self._transport.abort()

    def _later(self, call: Callable[..., None], *arguments: Any) -> None:
        if self._account.latency:
            self._loop.call_later(self._account.latency, call, *arguments)
        else:
            call(*arguments)

    def _write(self, body: bytes, status: bytes = b"200 OK") -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head = (
            b"HTTP/1.1 %s\r\nContent-Type: application/x-amz-json-1.1\r\n"
            b"x-amzn-RequestId: 00000000-0000-4000-8000-000000000000\r\n"
            b"Content-Length: %d\r\n\r\n"
        )
        self._transport.write(head % (status, len(body)) + body)

    def _control(self, body: bytes) -> None:
        account = self._account
        if self._path == b"/control/configure":
            self._write(json.dumps(account.configure(json.loads(body))).encode())
        else:
            self._write(json.dumps(account.books.report()).encode())


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    account = Account()
    server = await loop.create_server(lambda: Connection(account), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    with contextlib.suppress(ConnectionError):
        await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    uvloop.run(_serve())
