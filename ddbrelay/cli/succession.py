"""One stream after another: disabling a stream and enabling it again gives a table a new one.

The old stream stays readable for 24 hours, and what it holds comes before what the new one does.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ddbrelay.errors import AwsRefused

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.aws.table import TableStream
    from ddbrelay.flow.capture import StreamSource
    from ddbrelay.stores.database import Database


@dataclass(frozen=True)
class Leg:
    """One stream of a table that a run reads; `part` as in `jobs.Job`."""

    stream: TableStream
    part: Callable[[StreamSource], StreamSource] | None = None

    @property
    def label(self) -> str:
        """The time at which the stream was made, which is the end of its ARN."""
        return self.stream.arn.rpartition("/")[2]


def older(
    aws: Aws, database: Database, consumer: str, latest: TableStream, tell: Callable[[str], None]
) -> list[Leg]:
    """The earlier streams of the table that a consumer has not left behind, the oldest first.

    These are the ones on which it has a checkpoint, and those that came after the first of them.
    """
    from ddbrelay.stores.sqlite import consumers
    from ddbrelay.stores.streams import Tables

    tables = Tables(database)
    known = {
        known.stream_arn
        for known in consumers(database)
        if known.name == consumer
        and tables.of(known.stream_arn).arn == latest.table_arn
        and known.stream_arn != latest.arn
    }
    if not known:
        return []
    return _legs(aws, latest, known | _between(aws, min(known), latest, tell))


def _legs(aws: Aws, latest: TableStream, arns: set[str]) -> list[Leg]:
    return [_leg(aws, latest, arn) for arn in sorted(arns)]


def _leg(aws: Aws, latest: TableStream, arn: str) -> Leg:
    from dataclasses import replace

    from ddbrelay.aws.table import UNKNOWN, describe_stream
    from ddbrelay.relay.subset import Gone

    said = describe_stream(aws, arn)
    view_type = said.get("StreamViewType", UNKNOWN)
    stream = replace(latest, arn=arn, view_type=view_type, enabled=False)
    # moto serves an old ARN for the table of that name that was made later.
    return Leg(stream, Gone if said.get("StreamStatus") == "ENABLED" else None)


def _between(aws: Aws, arn: str, latest: TableStream, tell: Callable[[str], None]) -> set[str]:
    """The streams that the table had after the one with this ARN and before its latest one.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_streams_ListStreams.html
    """
    from ddbrelay.arns import table_in
    from ddbrelay.aws.errors import DENIED, translated
    from ddbrelay.infra.calls import IN_CIRCLES, pages

    if table_in(arn) is None:
        # Only ARNs of AWS's form end with the time at which the stream was made.
        return set()
    found: set[str] = set()
    doing = "list the streams of the table"
    ask = partial(aws.client("dynamodbstreams").list_streams, TableName=latest.table)
    try:
        with translated(doing):
            for page in pages(ask, doing, "LastEvaluatedStreamArn", "ExclusiveStartStreamArn"):
                found |= {stream["StreamArn"] for stream in page["Streams"]}
        if aws.table_arn is not None and latest.arn not in found:
            # ListStreams takes no ARN, and speaks of the tables of one account alone.
            tell("streams that the table had in between are not known: it is another account's")
    except AwsRefused as refused:
        if refused.code not in {*DENIED, IN_CIRCLES}:
            raise
        tell(f"streams that the table had in between may be left out: {refused.message}")
    table = latest.arn.rpartition("/")[0]
    return {one for one in found if one.startswith(table) and arn < one < latest.arn}


def forget(database: Database, consumer: str, legs: list[Leg]) -> None:
    """Drop the checkpoints on streams that are not to be read any more."""
    from ddbrelay.stores.sqlite import SqliteStore

    for leg in legs:
        store = SqliteStore(database, consumer, leg.stream.arn)
        asyncio.run(store.forget(asyncio.run(store.load())))


def after(aws: Aws, leg: Leg, tell: Callable[[str], None]) -> list[Leg]:
    """The streams that the table got after this one, in their order."""
    from ddbrelay.aws.table import stream_of

    try:
        latest = stream_of(aws, leg.stream.table)
    except AwsRefused:
        # The table is gone, or has no stream: there is nothing that comes after.
        return []
    if latest.arn == leg.stream.arn:
        return []
    between = _between(aws, leg.stream.arn, latest, tell)
    return [*_legs(aws, latest, between), Leg(latest)]
