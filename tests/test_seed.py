"""`ddbrelay seed`, as a library and as a command, judged by what the stream says."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import signal
import subprocess
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from conftest import Cli
from pipeline import ON_MOTO

from ddbrelay.aws.session import Aws
from ddbrelay.errors import AwsRefused, ConfigError
from ddbrelay.infra import seed as seeding
from ddbrelay.infra.seed import Pace, Seeded, seed
from ddbrelay.infra.users import users

pytestmark = pytest.mark.moto_first


def make_table(aws: Aws, name: str, *keys: tuple[str, str]) -> str:
    """An on-demand table with a stream; keys as (name, type), the partition key first."""
    keys = keys or (("id", "S"),)
    aws.client("dynamodb").create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": k, "AttributeType": t} for k, t in keys],
        KeySchema=[
            {"AttributeName": k, "KeyType": kind}
            for (k, _), kind in zip(keys, ("HASH", "RANGE"), strict=False)
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    return name


@pytest.fixture
def table(aws: Aws, name: str) -> str:
    return make_table(aws, name)


def stream(aws: Aws, table: str) -> list[dict[str, Any]]:
    """Every record of the table's stream, in order."""
    client = aws.client("dynamodbstreams")
    arn = aws.client("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
    records: list[dict[str, Any]] = []
    for shard in client.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = client.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            page = client.get_records(ShardIterator=iterator)
            records += page["Records"]
            iterator = page.get("NextShardIterator") if page["Records"] else None
    return records


def names(records: list[dict[str, Any]]) -> dict[str, int]:
    return dict(Counter(record["eventName"] for record in records))


class Impatient:
    """A stop that never comes, and sleeps that take no time."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def is_set(self) -> bool:
        return False

    def wait(self, seconds: float, /) -> bool:
        self.slept.append(seconds)
        return False


class Wrapped:
    """An `Aws` whose DynamoDB client has some of its calls replaced."""

    def __init__(self, aws: Aws, **replaced: Callable[..., Any]) -> None:
        self.region, self.address_of = aws.region, aws.address_of
        self._client = aws.client("dynamodb")
        self._replaced = replaced

    def client(self, service: str) -> Any:
        return self

    def __getattr__(self, call: str) -> Any:
        return self._replaced.get(call) or getattr(self._client, call)


def refusal(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)


# --- what is written


def test_each_write_makes_exactly_one_record_of_the_stream(aws: Aws, table: str) -> None:
    told: list[str] = []
    done = seed(aws, table, count=25, updates=0.32, deletes=0.16, on_write=told.append)
    assert done == Seeded(25, 8, 4)
    assert names(stream(aws, table)) == {"INSERT": 25, "MODIFY": 8, "REMOVE": 4}
    assert Counter(told) == {"INSERT": 25, "MODIFY": 8, "REMOVE": 4}


def test_an_update_changes_the_address_and_counts_the_version(aws: Aws, table: str) -> None:
    seed(aws, table, count=3, updates=1)
    changes = [r["dynamodb"] for r in stream(aws, table) if r["eventName"] == "MODIFY"]
    assert len(changes) == 3
    for change in changes:
        old, new = change["OldImage"], change["NewImage"]
        assert {key for key in new if new[key] != old[key]} == {"email", "version"}
        assert (old["version"], new["version"]) == ({"N": "1"}, {"N": "2"})


@pytest.mark.slow
def test_a_user_is_changed_before_it_is_deleted_and_never_after(aws: Aws, table: str) -> None:
    assert seed(aws, table, count=30, updates=1, deletes=1) == Seeded(30, 30, 30)
    lives: dict[str, list[str]] = {}
    for record in stream(aws, table):
        lives.setdefault(record["dynamodb"]["Keys"]["id"]["S"], []).append(record["eventName"])
    assert len(lives) == 30
    assert set(map(tuple, lives.values())) == {("INSERT", "MODIFY", "REMOVE")}


def test_an_update_names_an_item_that_vanished_instead_of_making_it_again(
    aws: Aws, table: str
) -> None:
    client = aws.client("dynamodb")

    def batch_write_item(**request: Any) -> Any:
        answer = client.batch_write_item(**request)
        for key in [i["id"] for i in client.scan(TableName=table)["Items"]]:
            client.delete_item(TableName=table, Key={"id": key})
        return answer

    with pytest.raises(AwsRefused, match="changed by someone else; written: 2 inserts"):
        seed(Wrapped(aws, batch_write_item=batch_write_item), table, count=2, updates=1)  # type: ignore[arg-type]
    assert client.scan(TableName=table)["Count"] == 0


def test_an_update_whose_answer_got_lost_counts_once(aws: Aws, table: str) -> None:
    client = aws.client("dynamodb")

    def update_item(**request: Any) -> Any:
        client.update_item(**request)
        return client.update_item(**request)

    done = seed(Wrapped(aws, update_item=update_item), table, count=2, updates=1)  # type: ignore[arg-type]
    assert done == Seeded(2, 2, 0)
    assert names(stream(aws, table)) == {"INSERT": 2, "MODIFY": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "updates", "deletes", "expected"),
    [
        (0, 0.5, 0.5, Seeded()),
        (1, 0, 0, Seeded(1)),
        (26, 0.1, 0.1, Seeded(26, 3, 3)),
        (60, 0.3333, 0.05, Seeded(60, 20, 3)),
    ],
)
def test_fractions_are_met_to_the_user(
    aws: Aws, table: str, count: int, updates: float, deletes: float, expected: Seeded
) -> None:
    assert seed(aws, table, count=count, updates=updates, deletes=deletes) == expected


# --- users


def test_the_same_seed_gives_the_same_users_and_the_same_choice(aws: Aws, name: str) -> None:
    def written(table: str, random_seed: int | None, rate: float | None = None) -> list[Any]:
        make_table(aws, table)
        seed(
            aws,
            table,
            count=12,
            updates=0.5,
            deletes=0.25,
            random_seed=random_seed,
            rate=rate,
            stop=Impatient(),
        )
        items = aws.client("dynamodb").scan(TableName=table)["Items"]
        return sorted(items, key=lambda item: str(item["id"]))

    first = written(f"{name}a", 7)
    assert first == written(f"{name}b", 7, rate=5)
    assert first != written(f"{name}c", 8)
    assert written(f"{name}d", None) != written(f"{name}e", None)


def test_users_do_not_depend_on_the_clock_or_the_time_zone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = [user.item for user in users(3, 1)]
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        try:
            assert [user.item for user in users(3, 1)] == here
        finally:
            patch.undo()
            time.tzset()
    assert here[0]["id"] != here[1]["id"]


def test_a_user_has_every_dynamodb_type(aws: Aws, table: str) -> None:
    seed(aws, table, count=1)
    (item,) = aws.client("dynamodb").scan(TableName=table)["Items"]
    types = {kind for value in item.values() for kind in value}
    assert types == {"S", "N", "B", "BOOL", "NULL", "M", "L", "SS", "NS", "BS"}
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", item["id"]["S"])
    assert item["email"]["S"].rpartition("@")[2] in {"example.com", "example.net", "example.org"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", item["birthdate"]["S"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", item["registeredAt"]["S"])
    assert item["avatar"]["S"].startswith("https://")
    assert item["username"]["S"]
    assert re.fullmatch(r"\d+", item["logins"]["N"])


def test_every_balance_has_digits_that_a_float_loses_and_dynamodb_keeps() -> None:
    for user in users(300, 3):
        balance = user.item["balance"]["N"]
        assert re.fullmatch(r"\d{12}\.\d{17}[1-9]", balance)
        assert f"{float(balance):f}" != balance


@pytest.mark.slow
def test_a_million_users_need_no_more_memory_than_a_thousand() -> None:
    def peak(count: int, read: int) -> int:
        stream_of_users = users(count, 1)
        chosen = seeding._chosen(count, count // 2, seeding.random.Random(1))
        tracemalloc.start()
        for _ in itertools.islice(zip(stream_of_users, chosen, strict=True), read):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(30, 30)
    assert peak(1_000_000, 300) < 2 * peak(300, 30) + 100_000


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        (("userId", "S"),),
        (("number", "N"),),
        (("raw", "B"),),
        (("pk", "S"), ("sk", "S")),
        (("pk", "N"), ("registeredAt", "S")),
        (("id", "S"), ("at", "N")),
        (("id", "B"), ("sk", "B")),
    ],
)
def test_a_key_of_any_shape_is_filled(
    aws: Aws, name: str, keys: tuple[tuple[str, str], ...]
) -> None:
    make_table(aws, name, *keys)
    assert seed(aws, name, count=30, updates=0.5, deletes=0.1) == Seeded(30, 15, 3)
    assert names(stream(aws, name)) == {"INSERT": 30, "MODIFY": 15, "REMOVE": 3}


@pytest.mark.parametrize("key", ["email", "version"])
def test_a_key_that_updates_would_change_is_refused_before_anything_is_written(
    aws: Aws, name: str, key: str
) -> None:
    make_table(aws, name, (key, "S"))
    with pytest.raises(ConfigError, match=f"is {key}, which updates change"):
        seed(aws, name, count=1, updates=1)
    assert stream(aws, name) == []
    assert seed(aws, name, count=3, deletes=1) == Seeded(3, 0, 3)


# --- throttling and pace


def test_unprocessed_items_are_sent_again_until_all_are_written(aws: Aws, table: str) -> None:
    client = aws.client("dynamodb")
    sizes: list[int] = []

    def batch_write_item(RequestItems: dict[str, list[Any]]) -> Any:  # noqa: N803
        requests = RequestItems[table]
        sizes.append(len(requests))
        if len(sizes) == 2:
            raise refusal("ProvisionedThroughputExceededException", "BatchWriteItem")
        taken, left = requests[:10], requests[10:]
        answer = client.batch_write_item(RequestItems={table: taken})
        return {**answer, "UnprocessedItems": {table: left} if left else {}}

    told: list[str] = []
    stop = Impatient()
    wrapped = Wrapped(aws, batch_write_item=batch_write_item)
    done = seed(wrapped, table, count=25, on_write=told.append, stop=stop)  # type: ignore[arg-type]
    assert done == Seeded(25)
    assert told == ["INSERT"] * 25
    assert sizes == [25, 15, 15, 5]
    assert names(stream(aws, table)) == {"INSERT": 25}
    assert len(stop.slept) == 3
    assert all(0 < pause <= 5 for pause in stop.slept)


@pytest.mark.parametrize("how", ["unprocessed", "refused"])
def test_a_table_that_throttles_for_ever_ends_with_what_was_written(
    aws: Aws, table: str, how: str
) -> None:
    client = aws.client("dynamodb")
    calls = itertools.count()

    def batch_write_item(RequestItems: dict[str, list[Any]]) -> Any:  # noqa: N803
        if next(calls) == 0:
            return client.batch_write_item(RequestItems=RequestItems)
        if how == "refused":
            raise refusal("ThrottlingException", "BatchWriteItem")
        return {"UnprocessedItems": RequestItems}

    stop = Impatient()
    wrapped = Wrapped(aws, batch_write_item=batch_write_item)
    with pytest.raises(AwsRefused, match=r"still throttles.*written: 25 inserts") as caught:
        seed(wrapped, table, count=30, stop=stop)  # type: ignore[arg-type]
    assert caught.value.hint is not None
    assert "--rate" in caught.value.hint
    assert next(calls) == 1 + seeding.ATTEMPTS
    assert stop.slept[-1] > stop.slept[0]


def test_a_refusal_is_not_tried_again(aws: Aws, table: str) -> None:
    calls: list[Any] = []

    def batch_write_item(**request: Any) -> Any:
        calls.append(request)
        raise refusal("AccessDeniedException", "BatchWriteItem")

    with pytest.raises(AwsRefused, match="not allowed to write users"):
        seed(Wrapped(aws, batch_write_item=batch_write_item), table, count=1)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_the_pace_does_not_drift_however_long_the_writes_take() -> None:
    now = 100.0
    pace = Pace(10, lambda: now)
    for _ in range(200):
        now += pace.delay(1)
        now += 0.03
    assert now == pytest.approx(100 + 199 * 0.1 + 0.03)


def test_after_a_stall_the_pace_catches_up_for_one_second_only() -> None:
    now = 0.0
    pace = Pace(8, lambda: now)
    assert pace.delay(1) == 0
    now = 60.0
    at_once = 0
    while pace.delay(1) == 0:
        at_once += 1
    assert at_once == 9


def test_without_a_rate_there_is_no_pause() -> None:
    pace = Pace(None)
    assert [pace.delay(25) for _ in range(3)] == [0, 0, 0]


def test_the_rate_covers_inserts_updates_and_deletes(aws: Aws, table: str) -> None:
    stop = Impatient()
    seed(aws, table, count=10, updates=0.5, deletes=0.5, rate=0.5, stop=stop)
    # Nothing sleeps here, so every write but the first is told to wait for its own turn.
    assert len(stop.slept) == 19
    assert stop.slept == sorted(stop.slept)
    assert stop.slept[-1] == pytest.approx(38, abs=5)


def test_a_stop_ends_with_what_was_written(aws: Aws, table: str) -> None:
    class AfterThree(Impatient):
        def is_set(self) -> bool:
            return len(told) >= 3

    told: list[str] = []
    done = seed(aws, table, count=100, rate=1, on_write=told.append, stop=AfterThree())
    assert done == Seeded(3)
    assert names(stream(aws, table)) == {"INSERT": 3}


# --- bad input


def test_a_missing_table_is_named(aws: Aws, name: str) -> None:
    with pytest.raises(AwsRefused, match=f'table "{name}" does not exist') as caught:
        seed(aws, name, count=1)
    assert str(caught.value.hint).startswith(f"ddbrelay --local provision --table {name} makes it")


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ("--count", "-1"),
        ("--updates", "1.5"),
        ("--deletes", "-0.1"),
        ("--updates", "nan"),
        ("--rate", "0"),
        ("--rate", "inf"),
        ("--rate", "fast"),
    ],
)
def test_numbers_that_cannot_be_right_are_refused(bare_cli: Cli, words: tuple[str, str]) -> None:
    done = bare_cli.run("seed", "--table", "t", "--region", "us-east-1", *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert words[0] in done.stderr
    assert "Traceback" not in done.stderr


# --- the command


def test_the_command_writes_and_says_what_to_type_next(cli: Cli, aws: Aws, table: str) -> None:
    done = cli.ok("seed", "--updates", "0.32", "--deletes", "0.16")
    assert done.stdout == ""
    counts, following = done.stderr.splitlines()
    assert re.fullmatch(r"25 inserted, 8 updated, 4 deleted in \d+\.\d s \([\d,]+/s\)", counts), (
        counts
    )
    assert following == "next: ddbrelay --local tail --forward"
    assert names(stream(aws, table)) == {"INSERT": 25, "MODIFY": 8, "REMOVE": 4}


def test_the_command_sums_up_in_json(cli: Cli, table: str) -> None:
    (summary,) = cli.json("seed", "--count", "5", "--updates", "0.4")
    assert summary.pop("seconds") >= 0
    assert summary == {"type": "summary", "inserted": 5, "updated": 2, "deleted": 0}


def test_quiet_says_nothing(cli: Cli, table: str) -> None:
    done = cli.ok("seed", "-q", "--count", "1")
    assert (done.stdout, done.stderr) == ("", "")


def test_a_missing_table_is_one_line_and_a_hint(cli: Cli, name: str) -> None:
    done = cli.run("seed")
    assert done.returncode == 5
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f'error: table "{name}" does not exist (us-east-1, embedded AWS)',
        f"  hint: ddbrelay --local provision --table {name} makes it; or check --region",
    ]


@pytest.mark.slow
@ON_MOTO
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130_and_tells_what_was_written(
    cli: Cli,
    aws: Aws,
    table: str,
    number: signal.Signals,
    wait_until: Callable[[Callable[[], bool], float], None],
) -> None:
    process = cli.start("seed", "--count", "100000", "--rate", "20", "--output", "json")
    try:
        wait_until(lambda: len(stream(aws, table)) > 2, 20)
        process.send_signal(number)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert json.loads(out)["inserted"] == len(stream(aws, table))


@pytest.fixture
def terminal() -> Callable[..., str]:
    """Runs a command with stdout and stderr on a terminal; returns what the terminal got."""

    def run(cli: Cli, *words: str) -> str:
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            cli.arguments(*words),
            cwd=cli.directory,
            env={**cli.env(), "TERM": "xterm-256color"},
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            seen = b""
            try:
                while chunk := os.read(ours, 65536):
                    seen += chunk
            except OSError:  # Linux answers EIO once the last writer is gone.
                pass
            finally:
                os.close(ours)
                process.kill() if process.poll() is None and process.wait(20) else None
        assert process.returncode == 0, seen
        return seen.decode()

    return run


@pytest.mark.slow
@ON_MOTO
def test_progress_is_shown_in_a_terminal_only(
    cli: Cli, table: str, terminal: Callable[..., str]
) -> None:
    shown = terminal(cli, "seed", "--count", "60")
    assert "seeding" in shown
    assert "60 inserted" in shown
    assert "seeding" not in terminal(cli, "seed", "--count", "5", "--output", "lines")
    piped = cli.ok("seed", "--count", "5", "--output", "rich")
    assert "seeding" not in piped.stderr
    assert "\x1b" not in piped.stderr
