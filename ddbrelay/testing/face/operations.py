"""The operations of the face: a request in, an answer out, ApiError for a refusal.

Shapes are those of the service models `dynamodb/2012-08-10`, `dynamodbstreams/2012-08-10` and
`events/2015-10-07`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.capture import Identity, Record, StreamRecord
from ddbrelay.flow.capture.port import PAGE_RECORDS
from ddbrelay.flow.packing import MAX_BYTES
from ddbrelay.testing.face import bus, requests
from ddbrelay.testing.face.account import SimulatedAccount
from ddbrelay.testing.face.items import invalid
from ddbrelay.testing.face.table import SimulatedTable
from ddbrelay.testing.faults import ApiError
from ddbrelay.testing.simulator import TOO_LARGE
from ddbrelay.testing.stream import ACCOUNT, REGION

_EVENT_VERSION = "1.1"


class WireRecord(msgspec.Struct, omit_defaults=True):
    """`Record` of the model; the names of its members are not in Pascal case."""

    id: str = msgspec.field(name="eventID")
    name: str = msgspec.field(name="eventName")
    dynamodb: StreamRecord
    version: str = msgspec.field(name="eventVersion")
    source: str = msgspec.field(name="eventSource")
    region: str = msgspec.field(name="awsRegion")
    identity: Identity | None = msgspec.field(name="userIdentity", default=None)


def list_streams(account: SimulatedAccount, asked: requests.ListStreams) -> Any:
    """Oldest first; those of deleted tables for 24 hours too."""
    if not account.throttle.admits("ListStreams", account.limits.list_streams, account.clock()):
        raise ApiError("ThrottlingException", "Rate exceeded")
    arns = [
        arn
        for arn, stream in account.streams.items()
        if not stream.gone and asked.table_name in {None, stream.table}
    ]
    start = 0
    if asked.exclusive_start_stream_arn is not None:
        if asked.exclusive_start_stream_arn not in arns:
            raise invalid("Invalid ExclusiveStartStreamArn")
        start = arns.index(asked.exclusive_start_stream_arn) + 1
    page = arns[start : start + asked.limit]
    more = start + asked.limit < len(arns)
    streams = [account.streams[arn] for arn in page]
    return {
        "Streams": [
            {"StreamArn": stream.arn, "TableName": stream.table, "StreamLabel": stream.label}
            for stream in streams
        ],
        **({"LastEvaluatedStreamArn": page[-1]} if more else {}),
    }


def describe_stream(account: SimulatedAccount, asked: requests.DescribeStream) -> Any:
    """Up to 100 shards, or the children of one."""
    stream = account.stream(asked.stream_arn)
    children_of: str | None = None
    if asked.shard_filter is not None:
        children_of = asked.shard_filter.shard_id
        if asked.shard_filter.type != "CHILD_SHARDS" or children_of is None:
            raise invalid("a ShardFilter has the Type CHILD_SHARDS and a ShardId")
    after, faults = asked.exclusive_start_shard_id, account.faults["dynamodbstreams"]
    said = stream.describe_stream(after, children_of, asked.limit)
    last_id = (after or "") if faults.happens(faults.rates.astray) else said.last_id
    shards = [
        {
            "ShardId": shard.id,
            "SequenceNumberRange": {
                "StartingSequenceNumber": str(shard.starting),
                **_given(EndingSequenceNumber=shard.ending and str(shard.ending)),
            },
            **_given(ParentShardId=shard.parent_id),
        }
        for shard in said.shards
    ]
    return {
        "StreamDescription": {
            "StreamArn": stream.arn,
            "StreamLabel": stream.label,
            "StreamStatus": said.status,
            "StreamViewType": stream.view_type,
            "CreationRequestDateTime": stream.created_at,
            "TableName": stream.table,
            "KeySchema": _key_schema(stream.key_names),
            "Shards": shards,
            **_given(LastEvaluatedShardId=last_id),
        }
    }


def get_shard_iterator(account: SimulatedAccount, asked: requests.GetShardIterator) -> Any:
    """An iterator that lives 15 minutes."""
    return {
        "ShardIterator": account.stream(asked.stream_arn).get_shard_iterator(
            asked.shard_id, asked.shard_iterator_type, asked.sequence_number, asked.timestamp
        )
    }


def get_records(account: SimulatedAccount, asked: requests.GetRecords) -> Any:
    """Up to 1000 records or 1 MB."""
    arn, bar, _ = asked.shard_iterator.partition("|")
    if not bar:
        raise invalid("Invalid ShardIterator")
    stream = account.stream(arn)
    if asked.limit > PAGE_RECORDS:
        raise ApiError("LimitExceededException", f"Limit must not be above {PAGE_RECORDS}")
    faults = account.faults["dynamodbstreams"]
    if faults.happens(faults.rates.empty_page):
        stream.precede_with_empty_page(asked.shard_iterator)
    no_next = faults.happens(faults.rates.no_next)
    page = stream.get_records(asked.shard_iterator, asked.limit, no_next=no_next)
    return {
        "Records": [_wire(record) for record in page.records],
        **_given(NextShardIterator=page.next_iterator),
    }


def _wire(record: Record) -> WireRecord:
    return WireRecord(
        record.event_id,
        record.event_name,
        record.dynamodb,
        _EVENT_VERSION,
        "aws:dynamodb",
        REGION,
        record.identity,
    )


def describe_table(account: SimulatedAccount, asked: requests.DescribeTable) -> Any:
    """A table that is there is ACTIVE."""
    table = account.table(asked.table_name)
    return {
        "Table": {
            "TableName": table.name,
            "TableArn": table.arn,
            "TableStatus": "ACTIVE",
            "CreationDateTime": table.created_at,
            "ItemCount": len(table),
            "KeySchema": _key_schema([name for name, _ in table.keys]),
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": kind} for name, kind in table.keys
            ],
            "BillingModeSummary": {"BillingMode": "PAY_PER_REQUEST"},
            **_stream_of(table),
        }
    }


def _stream_of(table: SimulatedTable) -> dict[str, Any]:
    stream = table.stream
    if stream is None:
        return {}
    told: dict[str, Any] = {"LatestStreamArn": stream.arn, "LatestStreamLabel": stream.label}
    if stream.disabled_at is None:
        told["StreamSpecification"] = {"StreamEnabled": True, "StreamViewType": stream.view_type}
    return told


def describe_time_to_live(account: SimulatedAccount, asked: requests.DescribeTable) -> Any:
    """Enabled where the table has an attribute for it."""
    attribute = account.table(asked.table_name).ttl_attribute
    return {
        "TimeToLiveDescription": {
            "TimeToLiveStatus": "DISABLED" if attribute is None else "ENABLED",
            **_given(AttributeName=attribute),
        }
    }


def put_item(account: SimulatedAccount, asked: requests.PutItem) -> Any:
    """One record, none where nothing changes."""
    old, _ = account.table(asked.table_name).put_item(asked.item)
    return _given(Attributes=old if asked.return_values == "ALL_OLD" else None)


def delete_item(account: SimulatedAccount, asked: requests.DeleteItem) -> Any:
    """One record, none where there is no such item."""
    old, _ = account.table(asked.table_name).delete_item(asked.key)
    return _given(Attributes=old if asked.return_values == "ALL_OLD" else None)


def get_item(account: SimulatedAccount, asked: requests.GetItem) -> Any:
    """The item as it is now."""
    return _given(Item=account.table(asked.table_name).get_item(asked.key))


def put_events(account: SimulatedAccount, asked: requests.PutEvents) -> Any:
    """A result for each entry; what is refused whole has no effect."""
    now = account.clock()
    if not account.throttle.admits("PutEvents", account.limits.put_events, now):
        raise ApiError("ThrottlingException", "Rate exceeded")
    entries: list[dict[str, Any]] = [
        {name: value for name, value in entry.items() if value is not None}
        for entry in msgspec.to_builtins(asked.entries)
    ]
    if sum(bus.size_of(entry) for entry in entries) >= MAX_BYTES:
        raise ApiError(TOO_LARGE, "Total size of the entries in the request is over the limit.")
    if bus.incomplete(entries):
        raise invalid("no entry has a Source, a DetailType and a Detail")
    results = [_result(account, entry, now) for entry in entries]
    return {
        "FailedEntryCount": sum("ErrorCode" in result for result in results),
        "Entries": results,
    }


def _result(account: SimulatedAccount, entry: dict[str, Any], now: float) -> dict[str, str]:
    name = bus.bus_name(entry)
    failure = bus.refusal(entry)
    if failure is None:
        faults = account.faults["events"]
        code = account.entry_scripts.code(name, entry) or faults.rates.entry_fault(faults.rng)
        failure = None if code is None else (code, "simulated")
    if failure is not None:
        return {"ErrorCode": failure[0], "ErrorMessage": failure[1]}
    event_id = bus.new_id(account.rng)
    account.taken.append(bus.Taken(name, now, event_id, entry, name not in account.buses))
    return {"EventId": event_id}


def describe_event_bus(account: SimulatedAccount, asked: requests.DescribeEventBus) -> Any:
    """Name, ARN and times."""
    name = asked.name.rpartition("/")[2]
    if name not in account.buses:
        raise ApiError("ResourceNotFoundException", f"Event bus {name} does not exist.")
    return {
        "Name": name,
        "Arn": f"arn:aws:events:{REGION}:{ACCOUNT}:event-bus/{name}",
        "CreationTime": account.buses[name],
        "LastModifiedTime": account.buses[name],
    }


def _key_schema(names: list[str]) -> list[dict[str, str]]:
    kinds = ("HASH", "RANGE")
    return [
        {"AttributeName": name, "KeyType": kind} for name, kind in zip(names, kinds, strict=False)
    ]


def _given(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: its service by boto3's name, what it takes, and its effect."""

    service: str
    name: str
    request: type[msgspec.Struct]
    effect: Callable[[SimulatedAccount, Any], Any]


def _operations() -> dict[str, Operation]:
    prefixes = {
        "dynamodb": "DynamoDB_20120810",
        "dynamodbstreams": "DynamoDBStreams_20120810",
        "events": "AWSEvents",
    }
    known = [
        Operation("dynamodbstreams", "ListStreams", requests.ListStreams, list_streams),
        Operation("dynamodbstreams", "DescribeStream", requests.DescribeStream, describe_stream),
        Operation(
            "dynamodbstreams", "GetShardIterator", requests.GetShardIterator, get_shard_iterator
        ),
        Operation("dynamodbstreams", "GetRecords", requests.GetRecords, get_records),
        Operation("dynamodb", "DescribeTable", requests.DescribeTable, describe_table),
        Operation("dynamodb", "DescribeTimeToLive", requests.DescribeTable, describe_time_to_live),
        Operation("dynamodb", "PutItem", requests.PutItem, put_item),
        Operation("dynamodb", "DeleteItem", requests.DeleteItem, delete_item),
        Operation("dynamodb", "GetItem", requests.GetItem, get_item),
        Operation("events", "PutEvents", requests.PutEvents, put_events),
        Operation("events", "DescribeEventBus", requests.DescribeEventBus, describe_event_bus),
    ]
    return {f"{prefixes[one.service]}.{one.name}": one for one in known}


OPERATIONS = _operations()
"""By `X-Amz-Target`."""
SERVICE_OF = {operation.name: operation.service for operation in OPERATIONS.values()}
"""The service of each operation's name; no two services share one here."""
