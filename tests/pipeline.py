"""What the end-to-end tests share: a pipeline on the embedded AWS, its queue, and what was kept."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Cli
from outputs import asks_json, check

from ddbrelay.aws.session import Aws
from ddbrelay.flow.capture import Position, Record, StreamRecord
from ddbrelay.flow.change import Change, Origin
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.packing import Item
from ddbrelay.flow.tracking import Frontier, Ticket
from ddbrelay.infra.names import queue_name
from ddbrelay.infra.plan import Wanted
from ddbrelay.infra.provision import provision

ON_MOTO = pytest.mark.parametrize("shared_engine", ["moto"], indirect=True)
"""For what is the same before either engine."""
ARN = "arn:aws:dynamodb:eu-west-1:444455556666:table/users/stream/2026-11-23T10:31:02.123"


class Pipeline:
    """A table with a stream, and the bus, the rule and the queue behind it."""

    def __init__(self, aws: Aws, table: str) -> None:
        self.aws, self.table, self.bus = aws, table, f"{table}-bus"
        provision(aws, Wanted(table=table, bus=self.bus, source=f"ddbrelay.{table}"))
        self._sqs = aws.client("sqs")
        self._queue = self._sqs.get_queue_url(QueueName=queue_name(table))["QueueUrl"]

    def put(self, key: str, **attributes: dict[str, Any]) -> None:
        """Write an item; each call makes exactly one stream record."""
        item = {"id": {"S": key}} | (attributes or {"at": {"N": str(time.time_ns())}})
        self.aws.client("dynamodb").put_item(TableName=self.table, Item=item)

    def delete(self, key: str) -> None:
        self.aws.client("dynamodb").delete_item(TableName=self.table, Key={"id": {"S": key}})

    @property
    def stream_arn(self) -> str:
        described = self.aws.client("dynamodb").describe_table(TableName=self.table)
        return str(described["Table"]["LatestStreamArn"])

    @property
    def shard(self) -> str:
        """The one shard that the emulators have."""
        streams = self.aws.client("dynamodbstreams")
        described = streams.describe_stream(StreamArn=self.stream_arn)["StreamDescription"]
        return str(described["Shards"][0]["ShardId"])

    def iterator(self, **where: str) -> str:
        """A shard iterator, by default at the trim horizon."""
        answer = self.aws.client("dynamodbstreams").get_shard_iterator(
            StreamArn=self.stream_arn,
            ShardId=self.shard,
            **({"ShardIteratorType": "TRIM_HORIZON"} | where),
        )
        return str(answer["ShardIterator"])

    def records(self) -> list[dict[str, Any]]:
        """All records of the stream, as the SDK gives them."""
        streams = self.aws.client("dynamodbstreams")
        found: list[dict[str, Any]] = []
        iterator = self.iterator()
        while True:
            page = streams.get_records(ShardIterator=iterator)
            if not page["Records"]:
                return found
            found += page["Records"]
            iterator = page["NextShardIterator"]

    def sequences(self) -> list[str]:
        return [record["dynamodb"]["SequenceNumber"] for record in self.records()]

    def received(self) -> list[dict[str, Any]]:
        """The events that wait in the queue, in the order of their arrival; takes them out.

        Both emulators deliver before PutEvents answers, so nothing is still on its way.
        """
        found: list[dict[str, Any]] = []
        while messages := self._sqs.receive_message(
            QueueUrl=self._queue, MaxNumberOfMessages=10
        ).get("Messages"):
            found += [json.loads(message["Body"]) for message in messages]
            for message in messages:
                self._sqs.delete_message(
                    QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"]
                )
        return found


def objects(text: str) -> list[dict[str, Any]]:
    """The objects that `--output json` printed, a line cut short by a kill left out."""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def seen_keys(found: list[dict[str, Any]]) -> list[str]:
    """The item of each event that a run printed."""
    return [one["change"]["keys"]["id"] for one in found if one["type"] == "event"]


def event_ids(received: list[dict[str, Any]]) -> list[str]:
    """The stable id of each event, which is that of its stream record."""
    return [event["resources"][1] for event in received]


def state_file(cli: Cli) -> Path:
    folder = Path(cli.environment["DDBRELAY_STATE_DIR"])
    return (folder / "local" if cli.environment.get("DDBRELAY_LOCAL") else folder) / "state.db"


def rows(cli: Cli, query: str) -> list[tuple[Any, ...]]:
    """What the state file holds, asked by SQL; nothing where there is no file, or an empty one."""
    if not state_file(cli).exists():
        return []
    with closing(sqlite3.connect(state_file(cli))) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            return []
        return connection.execute(query).fetchall()


def checkpoint(cli: Cli, consumer: str = "default") -> str | None:
    """The sequence number at which the consumer stands on the one shard of the emulators."""
    found = rows(cli, f"SELECT position FROM positions WHERE consumer = '{consumer}'")
    assert len(found) <= 1
    return json.loads(found[0][0])["sequence"] if found else None


class Running:
    """A command in the background, the lines of its stdout taken in as they come."""

    def __init__(self, process: subprocess.Popen[str], *words: str) -> None:
        self.process, self.words = process, words
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(self.process.stdout.readline, ""))

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 30) -> tuple[int, str]:
        """Exit code, and what was said on stderr; its stdout is complete in `lines`."""
        assert self.process.stderr is not None
        code = self.process.wait(timeout)
        said = self.process.stderr.read()
        self._reader.join()
        if asks_json(self.words, {}) and code >= 0:
            check(self.words, "".join(self.lines))
        return code, said


@contextmanager
def running(cli: Cli, *words: str) -> Iterator[Running]:
    """Start a command; it is killed when the block is left and it still runs."""
    with cli.start(*words) as process:
        try:
            yield Running(process, *words)
        finally:
            process.kill()


def clear_error(done: subprocess.CompletedProcess[str], code: int, *parts: str) -> None:
    """Fail unless the command ended with the code and one clear line, perhaps with a hint."""
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    said = done.stderr.splitlines()
    at = next(index for index, line in enumerate(said) if line.startswith("error: "))
    assert [line[:8] for line in said[at + 1 :]] in ([], ["  hint: "]), done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def poisoned(cli: Cli) -> tuple[str, str]:
    """The option of a mapping whose events all have too long a type, so that they are parked."""
    file = cli.directory / "poisoned.toml"
    file.write_text(f'[[rule]]\nname = "long"\ndetail_type = "{"E" * 124}{{eventName}}"\n')
    return "--config", str(file)


def item(key: str = "a") -> Item:
    """An event as the bus gets it, of an item with this key."""
    keys = msgspec.Raw(msgspec.json.encode({"id": {"S": key}}))
    change = Change(Record("1", "INSERT", StreamRecord("1", keys)), "s", Origin("users", ARN))
    event = Event("ddbrelay.users", "UserCreated", b"{}")
    ticket = Ticket(Frontier(Position("s")), "1")
    return Item(change, event, change.item_key, event.size, ticket=ticket)
