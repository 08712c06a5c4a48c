"""What the operations of the face are asked, with the limits of the service models.

Members that the face knows but does not act on are listed, so that nothing is silently ignored:
what is in `_UNSUPPORTED` is refused.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ddbrelay.testing.face.items import invalid

StreamArn = Annotated[str, Meta(min_length=37, max_length=1024)]
ShardId = Annotated[str, Meta(min_length=28, max_length=65)]
TableArn = Annotated[str, Meta(min_length=1, max_length=1024)]
BusName = Annotated[str, Meta(min_length=1, max_length=1600)]
OneToHundred = Annotated[int, Meta(ge=1, le=100)]
Item = dict[str, Any]


class ListStreams(msgspec.Struct, rename="pascal"):
    """`ListStreamsInput`."""

    table_name: Annotated[str, Meta(min_length=3, max_length=255)] | None = None
    limit: OneToHundred = 100
    exclusive_start_stream_arn: StreamArn | None = None


class ShardFilter(msgspec.Struct, rename="pascal"):
    """`ShardFilter`."""

    type: str | None = None
    shard_id: ShardId | None = None


class DescribeStream(msgspec.Struct, rename="pascal"):
    """`DescribeStreamInput`."""

    stream_arn: StreamArn
    limit: OneToHundred = 100
    exclusive_start_shard_id: ShardId | None = None
    shard_filter: ShardFilter | None = None


class GetShardIterator(msgspec.Struct, rename="pascal"):
    """`GetShardIteratorInput`; the time in epoch seconds."""

    stream_arn: StreamArn
    shard_id: ShardId
    shard_iterator_type: str
    sequence_number: Annotated[str, Meta(min_length=21, max_length=40)] | None = None
    timestamp: float | None = None


class GetRecords(msgspec.Struct, rename="pascal"):
    """`GetRecordsInput`."""

    shard_iterator: Annotated[str, Meta(min_length=1, max_length=2048)]
    limit: Annotated[int, Meta(ge=1)] = 1000


class DescribeTable(msgspec.Struct, rename="pascal"):
    """`DescribeTableInput`, and that of DescribeTimeToLive."""

    table_name: TableArn


class PutItem(msgspec.Struct, rename="pascal"):
    """`PutItemInput`."""

    table_name: TableArn
    item: Item
    return_values: str = "NONE"
    condition_expression: Any = None
    expected: Any = None


class DeleteItem(msgspec.Struct, rename="pascal"):
    """`DeleteItemInput`."""

    table_name: TableArn
    key: Item
    return_values: str = "NONE"
    condition_expression: Any = None
    expected: Any = None


class GetItem(msgspec.Struct, rename="pascal"):
    """`GetItemInput`."""

    table_name: TableArn
    key: Item
    projection_expression: Any = None
    attributes_to_get: Any = None


class Entry(msgspec.Struct, rename="pascal"):
    """`PutEventsRequestEntry`, as far as a mistake in it refuses the whole request."""

    time: float | None = None
    source: str | None = None
    resources: list[Annotated[str, Meta(max_length=2048)]] | None = None
    detail_type: str | None = None
    detail: str | None = None
    event_bus_name: BusName | None = None
    trace_header: Annotated[str, Meta(min_length=1, max_length=500)] | None = None


class PutEvents(msgspec.Struct, rename="pascal"):
    """`PutEventsInput`."""

    entries: Annotated[list[Entry], Meta(min_length=1, max_length=10)]


class DescribeEventBus(msgspec.Struct, rename="pascal"):
    """`DescribeEventBusInput`."""

    name: BusName = "default"


_UNSUPPORTED = {
    "condition_expression": "ConditionExpression",
    "expected": "Expected",
    "projection_expression": "ProjectionExpression",
    "attributes_to_get": "AttributesToGet",
}


def refuse_unsupported(request: msgspec.Struct) -> None:
    """ApiError for members that AWS knows and the face does not."""
    for name, member in _UNSUPPORTED.items():
        if getattr(request, name, None) is not None:
            raise invalid(f"the simulator does not know {member}")
    if getattr(request, "return_values", "NONE") not in {"NONE", "ALL_OLD"}:
        raise invalid("Return values set to invalid value")
