"""How items of an outbox are swept: what DynamoDB is asked, what it answers, and on emulators."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pipeline import Pipeline
from test_sweeping import IMAGE, Bus, Told, on_its_way
from wire import http, operation_of, serving

from ddbrelay.aws.session import Aws
from ddbrelay.aws.sweeping import (
    MOST_COMPARED,
    Expiry,
    NotSweptError,
    OutboxTable,
    SweepingSink,
    UnsweepableError,
)
from ddbrelay.aws.transport import Transport
from ddbrelay.config import Config, Settings
from ddbrelay.flow.capture import Record, StreamRecord
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.library import Mapper
from ddbrelay.testing.builders import ORIGIN, change, raw

# What is asked of DynamoDB


def asked(made: Change, expiry: Expiry | None = None) -> dict[str, Any]:
    service: Any = None
    table = OutboxTable(service, "outbox", expiry, lambda: 1000.25)
    request: dict[str, Any] = json.loads(table.request(made))
    return request


def test_a_delete_is_for_the_item_as_it_was_inserted() -> None:
    assert asked(change("a", new=IMAGE)) == {
        "TableName": "outbox",
        "Key": {"id": {"S": "a"}},
        "ConditionExpression": "attribute_exists(#k) AND #0 = :0 AND #1 = :1 AND #2 = :2",
        "ExpressionAttributeNames": {
            "#k": "id",
            "#0": "occurredAt",
            "#1": "eventType",
            "#2": "payload",
        },
        "ExpressionAttributeValues": {
            ":0": {"N": "17"},
            ":1": {"S": "OrderPlaced"},
            ":2": {"M": {"total": {"N": "5"}}},
        },
    }


def test_an_expiry_is_set_from_the_time_of_the_relaying() -> None:
    request = asked(change("a"), Expiry("expiresAt", 3600))
    assert request["UpdateExpression"] == "SET #ttl = :ttl"
    assert request["ExpressionAttributeNames"] == {"#k": "id", "#ttl": "expiresAt"}
    assert request["ExpressionAttributeValues"] == {":ttl": {"N": "4601"}}
    assert request["ConditionExpression"] == "attribute_exists(#k)"


def test_redacted_and_large_attributes_are_not_compared() -> None:
    made = change("a", new={**IMAGE, "text": "x" * 5000, "card": "4111"})
    made.redact([("card",), ("payload", "total")])
    names = asked(made)["ExpressionAttributeNames"]
    assert set(names.values()) == {"id", "occurredAt", "eventType"}


def test_an_expression_stays_within_the_limits_of_dynamodb() -> None:
    made = change("a", new={f"attribute-{number}": number for number in range(400)})
    request = asked(made)
    assert request["ConditionExpression"].count(" = ") == MOST_COMPARED
    assert len(request["ConditionExpression"]) < 4096


def test_an_item_without_keys_cannot_be_asked_for() -> None:
    record = Record("1", "INSERT", StreamRecord("1", raw({})))
    with pytest.raises(UndecodableError):
        asked(Change(record, "s", ORIGIN))


# What AWS says


def against(
    aws: Aws, test: Callable[[OutboxTable], Awaitable[None]], expiry: Expiry | None = None
) -> None:
    async def main() -> None:
        async with Transport(aws) as transport:
            await test(await OutboxTable.open(transport, "outbox", expiry))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("status", "code", "lasting"),
    [
        (400, "AccessDeniedException", True),
        (400, "ResourceNotFoundException", True),
        (400, "ExpiredTokenException", True),
        (400, "ProvisionedThroughputExceededException", False),
        (400, "TransactionConflictException", False),
        (500, "InternalServerError", False),
        (503, "", False),
    ],
)
def test_a_refusal_is_tried_again(status: int, code: str, lasting: bool) -> None:
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"})

    async def test(table: OutboxTable) -> None:
        with pytest.raises(NotSweptError) as refusal:
            await table.sweep(table.request(change("a")))
        assert refusal.value.lasting is lasting
        assert "relayed items of table outbox (dynamodb:DeleteItem)" in str(refusal.value)
        assert "\n" not in str(refusal.value)

    with serving() as server:
        server.answer = http(status, body.encode() if code else b"<html>")
        against(Aws(Settings(local=True, endpoint_url=server.url)), test)
        assert {operation_of(request) for request in server.requests} == {"DeleteItem"}


def test_a_request_that_dynamodb_does_not_take_is_not_repeated() -> None:
    body = b'{"__type": "com.amazon.coral.validate#ValidationException", "message": "no"}'

    async def test(table: OutboxTable) -> None:
        with pytest.raises(UnsweepableError, match=r"dynamodb:UpdateItem"):
            await table.sweep(table.request(change("a")))

    with serving() as server:
        server.answer = http(400, body)
        aws = Aws(Settings(local=True, endpoint_url=server.url))
        against(aws, test, Expiry("expiresAt", 60))


def test_no_answer_is_no_sweep() -> None:
    async def test(table: OutboxTable) -> None:
        with pytest.raises(NotSweptError, match="no answer"):
            await table.sweep(table.request(change("a")))

    with serving() as server:
        server.answer = b""
        against(Aws(Settings(local=True, endpoint_url=server.url)), test)


# On the emulators


@pytest.fixture
def outbox(aws: Aws) -> Any:
    """The client, with a table `outbox`."""
    client = aws.client("dynamodb")
    client.create_table(
        TableName="outbox",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return client


def written(outbox: Any, key: str, **more: Any) -> Change:
    """Write an item of every type; the change of its INSERT."""
    typed = {
        "id": {"S": key},
        "eventType": {"S": 'Order"Placed é'},
        "n": {"N": "12345678901234567890.5"},
        "payload": {"M": {"lines": {"L": [{"N": "1"}, {"BOOL": True}, {"NULL": True}]}}},
        "tags": {"SS": ["b", "a"]},
        "data": {"B": b"\x00\xff"},
        "empty": {"S": ""},
    } | more
    outbox.put_item(TableName="outbox", Item=typed)
    image = json.dumps(typed | {"data": {"B": "AP8="}}).encode()
    return change(key, new=image)


def stored(outbox: Any) -> dict[str, Any]:
    items = outbox.scan(TableName="outbox", ConsistentRead=True)["Items"]
    return {item["id"]["S"]: item for item in items}


def test_relayed_items_are_deleted_and_rewritten_ones_are_not(aws: Aws, outbox: Any) -> None:
    ours, rewritten, gone = (written(outbox, key) for key in ("ours", "rewritten", "gone"))
    written(outbox, "rewritten", n={"N": "12345678901234567890.6"})
    outbox.delete_item(TableName="outbox", Key={"id": {"S": "gone"}})

    async def test(table: OutboxTable) -> None:
        assert await table.sweep(table.request(ours))
        assert not await table.sweep(table.request(rewritten))
        assert not await table.sweep(table.request(gone))

    against(aws, test)
    assert stored(outbox).keys() == {"rewritten"}


def test_relayed_items_get_their_time_to_live_and_none_comes_back(aws: Aws, outbox: Any) -> None:
    ours, gone = written(outbox, "ours"), written(outbox, "gone")
    outbox.delete_item(TableName="outbox", Key={"id": {"S": "gone"}})

    async def main() -> None:
        async with Transport(aws, now=lambda: 1000.0) as transport:
            table = await OutboxTable.open(transport, "outbox", Expiry("expires At", 60))
            assert await table.sweep(table.request(ours))
            assert not await table.sweep(table.request(gone))

    # The emulators take a signature of any time.
    asyncio.run(main())
    (item,) = stored(outbox).values()
    assert item["expires At"] == {"N": "1060"}
    assert item["eventType"] == {"S": 'Order"Placed é'}


def test_an_outbox_is_swept_by_what_its_stream_says(aws: Aws, name: str) -> None:
    pipe = Pipeline(aws, name)
    for number in range(40):
        pipe.put(f"k{number}", type={"S": "Placed"}, n={"N": "1.50"}, tags={"NS": ["2", "1"]})
    pipe.put("k0", type={"S": "Moved"})
    changes = Mapper(Config(Settings(table=name), {}, None)).changes({"Records": pipe.records()})
    told = Told()

    async def main() -> None:
        async with Transport(aws) as transport:
            table = await OutboxTable.open(transport, name)
            async with SweepingSink(Bus(), table, told, grace=30) as sink:
                for made in changes:
                    await sink.send([on_its_way(made)])
            assert (sink.swept, sink.passed, sink.left) == (39, 1, 0)

    asyncio.run(main())
    (left,) = aws.client("dynamodb").scan(TableName=name, ConsistentRead=True)["Items"]
    assert left["type"] == {"S": "Moved"}
    assert told == []


def test_a_table_that_is_gone_is_said_in_one_line(aws: Aws) -> None:
    async def test(table: OutboxTable) -> None:
        with pytest.raises(NotSweptError) as refusal:
            await table.sweep(table.request(change("a", new=IMAGE)))
        assert refusal.value.lasting
        assert "ResourceNotFoundException" in str(refusal.value)

    against(aws, test)
