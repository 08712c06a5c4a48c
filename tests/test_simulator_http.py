"""The simulator's HTTP face, asked by boto3; each answer is held against the service models."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from models import checked

from ddbrelay.aws.session import Aws
from ddbrelay.config import Settings
from ddbrelay.testing.face.scenes import (
    EmptyPages,
    SetOddities,
    Skew,
    Split,
    Trim,
)
from ddbrelay.testing.limits import Limits
from ddbrelay.testing.server import SimulatorProcess

DAY = 24 * 3600.0
START = {"ShardIteratorType": "TRIM_HORIZON"}


@pytest.fixture(scope="module")
def process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as started:
        yield started


@pytest.fixture
def simulator(process: SimulatorProcess) -> Iterator[SimulatorProcess]:
    yield process
    process.recover()
    process.limits(Limits.of_aws())


@pytest.fixture(scope="module")
def aws(process: SimulatorProcess) -> Aws:
    return Aws(Settings(local=True, endpoint_url=process.url))


def client(aws: Aws, service: str) -> Any:
    """A client that tries streams."""
    once = Config(retries={"total_max_attempts": 1})
    made: Any = aws.session.client(service, endpoint_url=aws.endpoint_url, config=once)  # type: ignore[call-overload]
    return checked(made)


@pytest.fixture(scope="module")
def dynamodb(aws: Aws) -> Any:
    return client(aws, "dynamodb")


@pytest.fixture(scope="module")
def streams(aws: Aws) -> Any:
    return client(aws, "dynamodbstreams")


@pytest.fixture(scope="module")
def events(aws: Aws) -> Any:
    return client(aws, "events")


def code_of(call: Callable[..., Any], **parameters: Any) -> tuple[int, str]:
    """HTTP status and error code of a call that is refused."""
    with pytest.raises(ClientError) as refused:
        call(**parameters)
    answer: Any = refused.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def read(streams: Any, arn: str) -> list[dict[str, Any]]:
    """All records of all shards that are listed, each shard to its present end."""
    found = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        where = {"StreamArn": arn, "ShardId": shard["ShardId"]}
        iterator = streams.get_shard_iterator(**where, **START)["ShardIterator"]
        page = streams.get_records(ShardIterator=iterator)
        while page["Records"]:
            found += page["Records"]
            if "NextShardIterator" not in page:
                break
            page = streams.get_records(ShardIterator=page["NextShardIterator"])
    return found


def entry(bus: str = "default", **members: Any) -> dict[str, Any]:
    return {"Source": "app", "DetailType": "T", "Detail": "{}", "EventBusName": bus} | members


# Writing


@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"])
def test_a_write_makes_the_record_that_its_view_type_has(
    simulator: SimulatorProcess, dynamodb: Any, streams: Any, name: str, view_type: str
) -> None:
    arn = simulator.create_table(name, view_type=view_type)
    first = {"id": {"S": "a"}, "n": {"N": "+1.50"}, "s": {"SS": ["y", "x"]}, "b": {"B": b"\x00"}}
    second = {"id": {"S": "a"}, "l": {"L": [{"NULL": True}, {"M": {"t": {"BOOL": False}}}]}}
    dynamodb.put_item(TableName=name, Item=first)
    dynamodb.put_item(TableName=name, Item=first | {"n": {"N": "1.5"}})
    old = dynamodb.put_item(TableName=name, Item=second, ReturnValues="ALL_OLD")["Attributes"]
    assert dynamodb.get_item(TableName=name, Key={"id": {"S": "a"}})["Item"] == second
    dynamodb.delete_item(TableName=name, Key={"id": {"S": "a"}})
    dynamodb.delete_item(TableName=name, Key={"id": {"S": "a"}})
    assert "Item" not in dynamodb.get_item(TableName=name, Key={"id": {"S": "a"}})

    stored = first | {"n": {"N": "1.5"}, "s": {"SS": ["x", "y"]}}
    assert old == stored
    records = read(streams, arn)
    images = [(None, stored), (stored, second), (second, None)]
    assert [record["eventName"] for record in records] == ["INSERT", "MODIFY", "REMOVE"]
    for record, (before, after) in zip(records, images, strict=True):
        said = record["dynamodb"]
        assert said["Keys"] == {"id": {"S": "a"}}
        assert said.get("OldImage") == (before if "OLD" in view_type else None)
        assert said.get("NewImage") == (after if "NEW" in view_type else None)
        assert said["StreamViewType"] == view_type
        assert record["eventSource"] == "aws:dynamodb"
        assert record["eventVersion"] == "1.1"
        assert record["awsRegion"] == "us-east-1"
        assert "userIdentity" not in record


def test_a_table_may_have_two_keys_of_any_scalar_type(
    simulator: SimulatorProcess, dynamodb: Any, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, keys=[("p", "B"), ("s", "N")])
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert [key["KeyType"] for key in table["KeySchema"]] == ["HASH", "RANGE"]
    for number in ("1", "1.0", "2"):
        item = {"p": {"B": b"\xff"}, "s": {"N": number}, "x": {"N": number}}
        dynamodb.put_item(TableName=name, Item=item)
    keys = [record["dynamodb"]["Keys"] for record in read(streams, arn)]
    assert keys == [{"p": {"B": b"\xff"}, "s": {"N": number}} for number in "12"]
    for bad in ({"p": {"S": "x"}, "s": {"N": "1"}}, {"p": {"B": b"x"}}, {"p": {"B": b""}}):
        assert code_of(dynamodb.put_item, TableName=name, Item=bad)[1] == "ValidationException"
        assert code_of(dynamodb.delete_item, TableName=name, Key=bad)[1] == "ValidationException"


@pytest.mark.parametrize(
    "value",
    [
        {"N": "1" * 39},
        {"N": "1e126"},
        {"N": "1e-131"},
        {"N": "NaN"},
        {"N": "1_0"},
        {"NS": ["1", "1.0"]},
        {"SS": []},
        {"S": "x" * 409_600},
        {"S": "x", "N": "1"},
    ],
    ids=lambda value: str(value)[:24],
)
def test_what_dynamodb_does_not_store_is_refused_and_leaves_nothing(
    simulator: SimulatorProcess, dynamodb: Any, streams: Any, name: str, value: dict[str, Any]
) -> None:
    arn = simulator.create_table(name)
    item = {"id": {"S": "a"}, "v": value}
    assert code_of(dynamodb.put_item, TableName=name, Item=item) == (400, "ValidationException")
    assert read(streams, arn) == []


def test_numbers_keep_their_38_digits(
    simulator: SimulatorProcess, dynamodb: Any, name: str
) -> None:
    simulator.create_table(name)
    for given, stored in (
        ("-99999999999999999999999999999999999999", None),
        ("9.9999999999999999999999999999999999999E+125", "9" * 38 + "0" * 88),
        ("1e-130", "0." + "0" * 129 + "1"),
        ("-0.00", "0"),
        ("00120", "120"),
    ):
        dynamodb.put_item(TableName=name, Item={"id": {"S": "a"}, "n": {"N": given}})
        item = dynamodb.get_item(TableName=name, Key={"id": {"S": "a"}})["Item"]
        assert item["n"]["N"] == (stored or given)


def test_a_member_that_the_simulator_does_not_act_on_is_refused(
    simulator: SimulatorProcess, dynamodb: Any, name: str
) -> None:
    simulator.create_table(name)
    item = {"TableName": name, "Item": {"id": {"S": "a"}}}
    for more in ({"ConditionExpression": "attribute_exists(id)"}, {"ReturnValues": "ALL_NEW"}):
        assert code_of(dynamodb.put_item, **item, **more) == (400, "ValidationException")
    key = {"TableName": name, "Key": {"id": {"S": "a"}}}
    assert code_of(dynamodb.get_item, **key, ProjectionExpression="id")[0] == 400


def test_a_delete_by_time_to_live_says_who_deleted(
    simulator: SimulatorProcess, dynamodb: Any, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, ttl_attribute="expires")
    told = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    assert told == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}
    assert simulator.put(name, {"id": "a", "expires": 1}, {"id": "a", "expires": 1})[1] is None
    simulator.delete(name, {"id": "a"}, ttl=True)
    removed = read(streams, arn)[1]
    assert removed["eventName"] == "REMOVE"
    assert removed["userIdentity"] == {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}


# Reading


def test_records_come_in_order_through_splits_and_roll_overs(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, 2)
    keys = [f"k{n}" for n in range(20)]
    for turn in range(6):
        simulator.put(name, *({"id": key, "turn": turn} for key in keys))
        opened = [shard.id for shard in simulator.shards(name) if shard.open]
        simulator.split(name, opened[0])
        simulator.roll(name, opened[1])
    turns: dict[str, list[str]] = {}
    for record in read(streams, arn):
        said = record["dynamodb"]
        turns.setdefault(said["Keys"]["id"]["S"], []).append(said["NewImage"]["turn"]["N"])
    assert turns == {key: [str(turn) for turn in range(6)] for key in keys}
    written = simulator.records(name)
    assert len({one.shard for one in written}) > 2
    assert {one.record.event_id for one in written} == {r["eventID"] for r in read(streams, arn)}


def test_a_closed_shard_has_an_ending_number_and_no_iterator_behind_its_last_page(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, ["shardId-00000000000000000001-first"])
    (shard,) = simulator.shards(name)
    (number,) = simulator.put(name, {"id": "a"})
    children = simulator.split(name, shard.id)
    listed = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    assert [one["ShardId"] for one in listed] == [shard.id, *children]
    ending = listed[0]["SequenceNumberRange"]["EndingSequenceNumber"]
    assert number is not None
    assert int(ending) >= int(number)
    assert all("EndingSequenceNumber" not in one["SequenceNumberRange"] for one in listed[1:])
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard.id, **START)["ShardIterator"]
    page = streams.get_records(ShardIterator=iterator)
    assert len(page["Records"]) == 1
    assert "NextShardIterator" not in page


def test_a_listing_has_pages_and_a_filter(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, 230)
    pages, after = [], None
    while after is not None or not pages:
        more = {} if after is None else {"ExclusiveStartShardId": after}
        page = streams.describe_stream(StreamArn=arn, **more)["StreamDescription"]
        pages.append(len(page["Shards"]))
        after = page.get("LastEvaluatedShardId")
    assert pages == [100, 100, 30]
    assert len(streams.describe_stream(StreamArn=arn, Limit=7)["StreamDescription"]["Shards"]) == 7
    parent = simulator.shards(name)[0].id
    children = simulator.split(name, parent)
    chosen = {"Type": "CHILD_SHARDS", "ShardId": parent}
    said = streams.describe_stream(StreamArn=arn, ShardFilter=chosen)["StreamDescription"]
    assert [shard["ShardId"] for shard in said["Shards"]] == children
    assert {shard["ParentShardId"] for shard in said["Shards"]} == {parent}


def test_a_page_can_be_limited_and_has_at_most_1000_records(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name)
    simulator.put(name, *({"id": f"k{n}"} for n in range(1200)))
    (shard,) = simulator.shards(name)
    iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard.id, **START)["ShardIterator"]
    first = streams.get_records(ShardIterator=iterator)
    assert len(first["Records"]) == 1000
    assert len(streams.get_records(ShardIterator=first["NextShardIterator"])["Records"]) == 200
    assert len(streams.get_records(ShardIterator=iterator, Limit=3)["Records"]) == 3
    assert code_of(streams.get_records, ShardIterator=iterator, Limit=1001)[1] == (
        "LimitExceededException"
    )


def test_every_kind_of_iterator_starts_where_it_says(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name)
    (shard,) = simulator.shards(name)
    numbers = simulator.put(name, {"id": "a"}, {"id": "b"})
    simulator.advance(10)
    between = simulator.now() - 5
    simulator.put(name, {"id": "c"})

    def keys(kind: str, **more: Any) -> list[str]:
        where = {"StreamArn": arn, "ShardId": shard.id, "ShardIteratorType": kind}
        iterator = streams.get_shard_iterator(**where, **more)["ShardIterator"]
        records = streams.get_records(ShardIterator=iterator)["Records"]
        return [record["dynamodb"]["Keys"]["id"]["S"] for record in records]

    assert keys("TRIM_HORIZON") == ["a", "b", "c"]
    assert keys("LATEST") == []
    assert keys("AT_SEQUENCE_NUMBER", SequenceNumber=numbers[1]) == ["b", "c"]
    assert keys("AFTER_SEQUENCE_NUMBER", SequenceNumber=numbers[1]) == ["c"]
    assert keys("AT_TIMESTAMP", Timestamp=between) == ["c"]
    assert keys("AT_TIMESTAMP", Timestamp=between - DAY) == ["a", "b", "c"]
    where = {"StreamArn": arn, "ShardId": shard.id}
    for kind, more in (
        ("AT_TIMESTAMP", {"Timestamp": simulator.now() + 60}),
        ("AT_TIMESTAMP", {}),
        ("AFTER_SEQUENCE_NUMBER", {}),
        ("NEWEST", {}),
    ):
        asked = {**where, "ShardIteratorType": kind, **more}
        assert code_of(streams.get_shard_iterator, **asked) == (400, "ValidationException")


def test_iterators_expire_and_records_and_shards_are_trimmed_as_the_clock_advances(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name)
    (shard,) = simulator.shards(name)
    (number,) = simulator.put(name, {"id": "a"})
    where = {"StreamArn": arn, "ShardId": shard.id}
    iterator = streams.get_shard_iterator(**where, **START)["ShardIterator"]
    simulator.advance(15 * 60)
    assert code_of(streams.get_records, ShardIterator=iterator)[1] == "ExpiredIteratorException"
    simulator.advance(DAY)
    old = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": number}
    assert code_of(streams.get_shard_iterator, **where, **old)[1] == "TrimmedDataAccessException"
    child = simulator.roll(name, shard.id)
    simulator.advance(DAY + 1)
    assert code_of(streams.get_shard_iterator, **where, **START)[1] == "ResourceNotFoundException"
    listed = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    assert [one["ShardId"] for one in listed] == [child]
    after = {"StreamArn": arn, "ExclusiveStartShardId": shard.id}
    assert code_of(streams.describe_stream, **after)[1] == "ResourceNotFoundException"


def test_a_stream_that_is_enabled_again_has_a_new_arn_and_the_old_one_lives_a_day(
    simulator: SimulatorProcess, dynamodb: Any, streams: Any, name: str
) -> None:
    old = simulator.create_table(name)
    simulator.put(name, {"id": "a"})
    simulator.disable_stream(name)
    assert simulator.put(name, {"id": "unseen"}) == [None]
    table = dynamodb.describe_table(TableName=name)["Table"]
    assert (table["LatestStreamArn"], "StreamSpecification" in table) == (old, False)
    new = simulator.enable_stream(name, 2, enabling=30)
    assert streams.describe_stream(StreamArn=new)["StreamDescription"]["StreamStatus"] == "ENABLING"
    simulator.advance(30)
    said = streams.describe_stream(StreamArn=new)["StreamDescription"]
    assert (said["StreamStatus"], len(said["Shards"])) == ("ENABLED", 2)
    assert streams.describe_stream(StreamArn=old)["StreamDescription"]["StreamStatus"] == "DISABLED"
    assert len(read(streams, old)) == 1
    listed = streams.list_streams(TableName=name)["Streams"]
    assert [one["StreamArn"] for one in listed] == [old, new]
    simulator.advance(DAY)
    assert code_of(streams.describe_stream, StreamArn=old)[1] == "ResourceNotFoundException"
    assert len(streams.list_streams(TableName=name)["Streams"]) == 1


def test_the_stream_of_a_deleted_table_stays_and_a_new_table_of_its_name_has_another(
    simulator: SimulatorProcess, dynamodb: Any, streams: Any, name: str
) -> None:
    old = simulator.create_table(name)
    simulator.put(name, {"id": "a"})
    simulator.delete_table(name)
    assert code_of(dynamodb.describe_table, TableName=name) == (400, "ResourceNotFoundException")
    assert len(read(streams, old)) == 1
    new = simulator.create_table(name)
    assert new != old
    assert read(streams, new) == []
    assert dynamodb.describe_table(TableName=name)["Table"]["LatestStreamArn"] == new


def test_streams_are_listed_in_pages(simulator: SimulatorProcess, streams: Any, name: str) -> None:
    arns = [simulator.create_table(f"{name}-{n}") for n in range(3)]
    first = streams.list_streams(Limit=1, ExclusiveStartStreamArn=arns[0])
    assert [one["StreamArn"] for one in first["Streams"]] == [arns[1]]
    rest = streams.list_streams(ExclusiveStartStreamArn=first["LastEvaluatedStreamArn"])
    assert rest["Streams"][0]["StreamArn"] == arns[2]
    assert "LastEvaluatedStreamArn" not in rest


@pytest.mark.parametrize(
    ("operation", "parameters", "code"),
    [
        ("describe_stream", {"StreamArn": "arn:" + "x" * 40}, "ResourceNotFoundException"),
        ("describe_stream", {"StreamArn": "{arn}", "Limit": 101}, "ValidationException"),
        ("describe_stream", {"StreamArn": "{arn}x"}, "ResourceNotFoundException"),
        (
            "describe_stream",
            {"StreamArn": "{arn}", "ShardFilter": {"Type": "SIBLINGS", "ShardId": "x" * 30}},
            "ValidationException",
        ),
        ("get_records", {"ShardIterator": "elsewhere"}, "ValidationException"),
        ("get_records", {"ShardIterator": "{arn}|1|none"}, "ValidationException"),
        ("get_records", {"ShardIterator": "x" * 2049}, "ValidationException"),
        (
            "get_shard_iterator",
            {"StreamArn": "{arn}", "ShardId": "shardId-" + "0" * 25, **START},
            "ResourceNotFoundException",
        ),
        ("list_streams", {"Limit": 101}, "ValidationException"),
    ],
)
def test_what_is_not_there_or_out_of_bounds_is_refused_by_its_code(
    simulator: SimulatorProcess,
    streams: Any,
    name: str,
    operation: str,
    parameters: dict[str, Any],
    code: str,
) -> None:
    arn = simulator.create_table(name)
    filled = {
        key: value.replace("{arn}", arn) if isinstance(value, str) else value
        for key, value in parameters.items()
    }
    assert code_of(getattr(streams, operation), **filled) == (400, code)


def test_an_operation_that_it_does_not_have_is_unknown(
    dynamodb: Any, streams: Any, events: Any
) -> None:
    assert code_of(dynamodb.scan, TableName="users") == (400, "UnknownOperationException")
    assert code_of(dynamodb.list_tables) == (400, "UnknownOperationException")


@pytest.mark.parametrize(
    ("body", "code"), [(b"{", "SerializationException"), (b"[]", "Validation")]
)
def test_a_body_that_is_no_request_is_refused(
    simulator: SimulatorProcess, body: bytes, code: str
) -> None:
    connection = http.client.HTTPConnection(urlsplit(simulator.url).netloc)
    headers = {"X-Amz-Target": "DynamoDBStreams_20120810.GetRecords"}
    connection.request("POST", "/", body, headers)
    answer = connection.getresponse()
    assert (answer.status, code in json.loads(answer.read())["__type"]) == (400, True)
    connection.close()


# Publishing


def test_each_entry_has_its_own_result(simulator: SimulatorProcess, events: Any, name: str) -> None:
    simulator.create_bus(name)
    bad = [
        entry(name, Source="aws.app"),
        entry(name, DetailType="x" * 129),
        entry(name, Detail="[]"),
        entry(name, Detail='{"n": 9223372036854775808}'),
        entry(name, Detail='{"n": NaN}'),
        entry(name, Detail="{" + '"a":{' * 5000 + "}" * 5001),
        entry(name, Source=""),
    ]
    good = entry(name, Detail='{"n": 9223372036854775807}', Resources=["a", "b"], Time=1.5)
    answer = events.put_events(Entries=[good, *bad, entry(f"{name}-missing")])
    assert answer["FailedEntryCount"] == len(bad)
    codes = [result.get("ErrorCode") for result in answer["Entries"]]
    malformed = ["MalformedDetail"] * 4
    assert codes == [
        None,
        "NotAuthorizedForSourceException",
        "InvalidArgument",
        *malformed,
        "InvalidArgument",
        None,
    ]
    (taken,) = simulator.events(name)
    assert taken.event_id == answer["Entries"][0]["EventId"]
    assert taken.entry["Resources"] == ["a", "b"]
    assert taken.entry["Detail"] == good["Detail"]
    (dropped,) = simulator.events(f"{name}-missing")
    assert dropped.dropped, "AWS answers with an id for a bus that does not exist"


def test_a_request_that_is_refused_whole_has_no_effect(
    simulator: SimulatorProcess, events: Any, name: str
) -> None:
    simulator.create_bus(name)
    big = entry(name, Detail=json.dumps({"x": "x" * 600_000}))
    assert code_of(events.put_events, Entries=[big, big])[0] == 413
    for entries in (
        [entry(name)] * 11,
        [entry(name, Source=""), entry(name, Detail="")],
        [entry(name), entry(name, TraceHeader="x" * 501)],
    ):
        assert code_of(events.put_events, Entries=entries) == (400, "ValidationException")
    simulator.limits(Limits(put_events=1.0))
    events.put_events(Entries=[entry(name)])
    assert code_of(events.put_events, Entries=[entry(name)]) == (400, "ThrottlingException")
    assert len(simulator.events(name)) == 1


def test_entries_fail_by_script_and_by_chance(
    simulator: SimulatorProcess, events: Any, name: str
) -> None:
    simulator.create_bus(name)
    simulator.fail_entries("InternalFailure", bus=name, times=2, containing="poison")
    poison = entry(name, Detail='{"poison": 1}')
    codes = [
        result.get("ErrorCode")
        for result in events.put_events(Entries=[poison, entry(name), poison, poison])["Entries"]
    ]
    assert codes == ["InternalFailure", None, "InternalFailure", None]
    simulator.rates("events", entry_throttled=0.5)
    failed = sum(
        events.put_events(Entries=[entry(name)] * 10)["FailedEntryCount"] for _ in range(20)
    )
    assert failed == pytest.approx(100, abs=40)
    assert len(simulator.events(name)) == 2 + 200 - failed
    assert len(simulator.events(name, skip=100)) == 102 - failed


def test_a_bus_can_be_described_until_it_is_deleted(
    simulator: SimulatorProcess, events: Any, name: str
) -> None:
    assert events.describe_event_bus()["Name"] == "default"
    assert code_of(events.describe_event_bus, Name=name)[1] == "ResourceNotFoundException"
    simulator.create_bus(name)
    arn = events.describe_event_bus(Name=name)["Arn"]
    events.put_events(Entries=[entry(arn)])
    assert [taken.bus for taken in simulator.events(name)] == [name]
    simulator.delete_bus(name)
    assert code_of(events.describe_event_bus, Name=arn)[1] == "ResourceNotFoundException"


# Faults


def test_a_call_fails_by_script_with_the_status_of_its_code(
    simulator: SimulatorProcess, events: Any, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name)
    for code, status in (("ThrottlingException", 400), ("InternalServerError", 500)):
        simulator.fail_next("DescribeStream", code)
        assert code_of(streams.describe_stream, StreamArn=arn) == (status, code)
    simulator.fail_next("PutEvents", "InternalServerError")
    assert code_of(events.put_events, Entries=[entry()]) == (500, "InternalException")
    events.put_events(Entries=[entry()])


@pytest.mark.parametrize("after", [False, True])
def test_a_connection_is_cut_before_or_after_the_effect(
    simulator: SimulatorProcess, aws: Aws, events: Any, name: str, after: bool
) -> None:
    simulator.create_bus(name)
    simulator.cut("PutEvents", after=after, times=2)
    for _ in range(2):
        with pytest.raises(HTTPClientError):
            events.put_events(Entries=[entry(name)])
    assert len(simulator.events(name)) == (2 if after else 0)
    simulator.cut("PutEvents", after=after)
    aws.client("events").put_events(Entries=[entry(name)])
    assert len(simulator.events(name)) == (4 if after else 1), "boto3 sends it again"


def test_reading_is_throttled_as_on_aws(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name)
    (shard,) = simulator.shards(name)
    where = {"StreamArn": arn, "ShardId": shard.id}
    iterator = streams.get_shard_iterator(**where, **START)["ShardIterator"]

    def refusals(call: Callable[..., Any], **parameters: Any) -> set[str]:
        found = set()
        for _ in range(40):
            try:
                call(**parameters)
            except ClientError as error:
                found.add(error.response["Error"]["Code"])
        return found

    assert refusals(streams.describe_stream, StreamArn=arn) == {"ThrottlingException"}
    assert refusals(streams.list_streams) == {"ThrottlingException"}
    assert refusals(streams.get_records, ShardIterator=iterator) == {"LimitExceededException"}
    simulator.limits(Limits())
    assert refusals(streams.get_records, ShardIterator=iterator) == set()


def test_things_happen_right_before_a_call(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, 101)
    oldest = simulator.shards(name)[0].id
    simulator.before("DescribeStream", Split(name, oldest), having="ExclusiveStartShardId")
    first = streams.describe_stream(StreamArn=arn)["StreamDescription"]
    assert len(simulator.shards(name)) == 101
    more = {"StreamArn": arn, "ExclusiveStartShardId": first["LastEvaluatedShardId"]}
    second = streams.describe_stream(**more)["StreamDescription"]["Shards"]
    assert [shard.get("ParentShardId") for shard in second] == [None, oldest, oldest]

    simulator.put(name, *({"id": f"k{n}"} for n in range(500)))
    shard = second[0]["ShardId"]
    where = {"StreamArn": arn, "ShardId": shard}
    iterator = streams.get_shard_iterator(**where, **START)["ShardIterator"]
    simulator.before("GetRecords", Trim(name, shard))
    assert code_of(streams.get_records, ShardIterator=iterator)[1] == "TrimmedDataAccessException"


def test_oddities_of_endpoints_can_be_chosen(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name, 101)
    simulator.do(SetOddities(name, False, True, True))
    shards = [shard.id for shard in simulator.shards(name)]
    where = {"StreamArn": arn, "ShardId": shards[0]}
    by_time = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": 1}
    assert code_of(streams.get_shard_iterator, **where, **by_time)[1] == "ValidationException"
    child = simulator.roll(name, shards[99])
    simulator.remove_shard(name, shards[99])
    rest = streams.describe_stream(StreamArn=arn, ExclusiveStartShardId=shards[99])
    behind = [shard["ShardId"] for shard in rest["StreamDescription"]["Shards"]]
    assert behind == [shards[100], child]
    simulator.put(name, *({"id": f"k{n}"} for n in range(300) if n % 3))
    shard = next(one.id for one in simulator.shards(name) if one.records)
    simulator.roll(name, shard, looks_open=True)
    listed = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    parent = next(one for one in listed if one["ShardId"] == shard)
    assert "EndingSequenceNumber" not in parent["SequenceNumberRange"]
    simulator.do(EmptyPages(name, shard, 2))
    where = {"StreamArn": arn, "ShardId": shard}
    iterator = streams.get_shard_iterator(**where, **START)["ShardIterator"]
    sizes = []
    while iterator is not None:
        page = streams.get_records(ShardIterator=iterator)
        sizes.append(len(page["Records"]))
        iterator = page.get("NextShardIterator")
    assert (sizes[:2], sizes[2] > 0, sizes[3:]) == ([0, 0], True, [0])
    simulator.do(Skew(name, 3600.0))
    simulator.put(name, {"id": "later"})
    assert max(one.at for one in simulator.records(name)) > simulator.now() + 3000


@pytest.mark.slow
def test_empty_pages_come_by_chance_and_nothing_is_left_out(
    simulator: SimulatorProcess, streams: Any, name: str
) -> None:
    arn = simulator.create_table(name)
    (shard,) = simulator.shards(name)
    simulator.put(name, *({"id": f"k{n}"} for n in range(30)))
    simulator.limits(Limits())
    simulator.rates("dynamodbstreams", empty_page=0.5)
    where = {"StreamArn": arn, "ShardId": shard.id}
    iterator = streams.get_shard_iterator(**where, **START)["ShardIterator"]
    sizes = []
    while sum(sizes) < 30:
        page = streams.get_records(ShardIterator=iterator, Limit=3)
        sizes.append(len(page["Records"]))
        iterator = page["NextShardIterator"]
    assert set(sizes) == {0, 3}
