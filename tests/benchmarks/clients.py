"""What ddbrelay is compared with: `python -m tests.benchmarks.clients VARIANT RECORDS KB`.

Each reads the stream at AWS_ENDPOINT_URL with GetRecords and publishes every change with PutEvents,
mapped as ddbrelay maps it, and stops after so many records. None of them keeps a checkpoint, and
none but the first two keeps an item's events in order.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from threading import BoundedSemaphore
from typing import Any

from . import work

THREADS = 32
_VERBS = {"INSERT": "UserCreated", "MODIFY": "UserUpdated", "REMOVE": "UserDeleted"}


def _client(service: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(service, config=Config(max_pool_connections=2 * THREADS))


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == int(value) else float(value)
    if isinstance(value, set):
        return sorted(value)
    return str(value)


def _mapping() -> Callable[[dict[str, Any]], dict[str, Any]]:
    from boto3.dynamodb.types import TypeDeserializer

    plain = TypeDeserializer().deserialize

    def entry(record: dict[str, Any]) -> dict[str, Any]:
        change = record["dynamodb"]
        image = change["OldImage" if record["eventName"] == "REMOVE" else "NewImage"]
        detail = {name: plain(value) for name, value in image.items()}
        return {
            "EventBusName": work.BUS,
            "Source": f"ddbrelay.{work.TABLE}",
            "DetailType": _VERBS[record["eventName"]],
            "Detail": json.dumps(detail, default=_json),
            "Resources": [work.STREAM_ARN, record["eventID"]],
            "Time": change["ApproximateCreationDateTime"],
        }

    return entry


def _pages(records: int) -> Iterator[list[dict[str, Any]]]:
    """Pages of all shards in turn, until so many records were read."""
    streams = _client("dynamodbstreams")
    shards: list[str] = []
    more: dict[str, str] = {}
    while True:
        said = streams.describe_stream(StreamArn=work.STREAM_ARN, **more)["StreamDescription"]
        shards += [shard["ShardId"] for shard in said["Shards"]]
        if "LastEvaluatedShardId" not in said:
            break
        more = {"ExclusiveStartShardId": said["LastEvaluatedShardId"]}
    iterators: dict[str, str] = {}
    read = 0
    while read < records:
        for shard in shards:
            if shard not in iterators:
                iterators[shard] = streams.get_shard_iterator(
                    StreamArn=work.STREAM_ARN, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
                )["ShardIterator"]
            page = streams.get_records(ShardIterator=iterators[shard])
            iterators[shard] = page["NextShardIterator"]
            read += len(page["Records"])
            yield page["Records"]
            if read >= records:
                return


def _tens(page: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(page), 10):
        yield page[start : start + 10]


def one_by_one(records: int) -> None:
    """One PutEvents for each record, as in the usual hand-written function."""
    events, entry = _client("events"), _mapping()
    for page in _pages(records):
        for record in page:
            _send(events, [entry(record)])


def ten_at_a_time(records: int) -> None:
    """Ten for each PutEvents, one call after the other."""
    events, entry = _client("events"), _mapping()
    for page in _pages(records):
        for ten in _tens(page):
            _send(events, [entry(record) for record in ten])


def threads(records: int) -> None:
    """Ten for each PutEvents, 32 calls at a time, and the next page read meanwhile."""
    events, entry = _client("events"), _mapping()
    free = BoundedSemaphore(2 * THREADS)
    failures: list[BaseException] = []

    def sent(future: Future[None]) -> None:
        free.release()
        error = future.exception()
        if error is not None:
            failures.append(error)

    def publish(ten: list[dict[str, Any]]) -> None:
        _send(events, [entry(record) for record in ten])

    with ThreadPoolExecutor(THREADS) as pool:
        for page in _pages(records):
            for ten in _tens(page):
                free.acquire()
                pool.submit(publish, ten).add_done_callback(sent)
    if failures:
        raise failures[0]


def _send(events: Any, entries: list[dict[str, Any]]) -> None:
    while entries:
        said = events.put_events(Entries=entries)
        if not said["FailedEntryCount"]:
            return
        results = zip(entries, said["Entries"], strict=True)
        entries = [entry for entry, result in results if "ErrorCode" in result]


def bound(records: int, kilobytes: float) -> None:
    """Bare sockets, everything else prepared."""
    import asyncio

    from .bare import relay

    asyncio.run(relay(records, kilobytes))


def main() -> None:
    variant, records, kilobytes = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    if variant == "e":
        bound(records, kilobytes)
    else:
        {"a": one_by_one, "b": ten_at_a_time, "c": threads}[variant](records)


if __name__ == "__main__":
    main()
