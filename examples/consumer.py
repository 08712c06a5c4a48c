"""A consumer: it handles each event once, although the bus may deliver it more than once.

    python examples/consumer.py QUEUE [--idle SECONDS] [--database FILE]

The relay and EventBridge both deliver at least once, and a repeat has another message id and
perhaps another event id. What stays the same is the id of the change itself, the second entry of
`resources`. It is written in the same transaction as what the event brought about, and the message
is deleted only after that: a crash at any point leaves the message to come again, and then to be
recognised.

A rule delivers in no particular order. A consumer that needs one compares what the items carry for
it, here the `version` in the detail.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
from contextlib import closing
from typing import Any

import boto3

LONGEST_POLL = 20
"""Seconds that SQS lets one receive call wait."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Handle the events of a queue, each one once.")
    parser.add_argument("queue", help="name of the queue behind the rule, as `ddbrelay-users`")
    parser.add_argument(
        "--idle",
        type=int,
        choices=range(1, LONGEST_POLL + 1),
        default=5,
        metavar="SECONDS",
        help="end when nothing came for this long [5]",
    )
    parser.add_argument(
        "--database", metavar="FILE", default="consumer.db", help="SQLite file [consumer.db]"
    )
    arguments = parser.parse_args()

    sqs = boto3.client("sqs")
    url = sqs.get_queue_url(QueueName=arguments.queue)["QueueUrl"]
    handled = repeats = 0
    with closing(sqlite3.connect(arguments.database)) as database:
        database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")
        database.execute("CREATE TABLE IF NOT EXISTS counts (event TEXT PRIMARY KEY, n INTEGER)")
        while messages := receive(sqs, url, arguments.idle):
            for message in messages:
                event = json.loads(message["Body"])
                if handle_once(database, event):
                    handled += 1
                else:
                    repeats += 1
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    print(f"{handled} handled, {repeats} repeats dropped")


def receive(sqs: Any, url: str, seconds: int) -> list[dict[str, Any]]:
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=seconds)
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages


def handle_once(database: sqlite3.Connection, event: dict[str, Any]) -> bool:
    """Whether the event was new; what `handle` writes and the mark are one transaction."""
    _stream_arn, change_id = event["resources"]
    what = f"{event['detail-type']} {event['detail']['id']} (change {change_id})"
    with database:
        new = database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (change_id,)).rowcount == 1
        if new:
            handle(database, event)
    print(f"{'handled' if new else 'repeat '} {what}")
    return new


def handle(database: sqlite3.Connection, event: dict[str, Any]) -> None:
    """What this consumer is for: here it counts the events of each kind."""
    database.execute(
        "INSERT INTO counts VALUES (?, 1) ON CONFLICT (event) DO UPDATE SET n = n + 1",
        (event["detail-type"],),
    )


if __name__ == "__main__":
    main()
