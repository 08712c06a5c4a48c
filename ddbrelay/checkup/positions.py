"""Where the consumer stands on the streams of its table, and what is lost, or will be.

A stream keeps a record for 24 hours, a disabled one too:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html
"""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ddbrelay.aws.streams import AwsStream
from ddbrelay.aws.transport import Transport
from ddbrelay.checkup.asking import Answer, QuickAws, asked, refused
from ddbrelay.checkup.findings import Area, Finding, Subject, hours
from ddbrelay.checkup.state import Kept, Standing
from ddbrelay.errors import AwsRefused
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.change import Origin
from ddbrelay.infra.calls import call, pages
from ddbrelay.relay.backlog import worst
from ddbrelay.relay.survey import Survey, survey
from ddbrelay.stores.preview import FixedPositions
from ddbrelay.text import counted, listed
from ddbrelay.times import iso

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.checkup.table import Table

AREA = Area("positions")
_PATIENCE = 12.0
_SOON = 6 * 3600.0


def streams(aws: Aws, table: str) -> Answer[list[str]]:
    """The ARNs of all streams that the table has, the disabled ones among them."""

    doing = f"list the streams of the table {table}"

    def ask() -> list[str]:
        question = partial(
            call, aws.client("dynamodbstreams"), "list_streams", doing, TableName=table
        )
        listing = pages(question, doing, "LastEvaluatedStreamArn", "ExclusiveStartStreamArn")
        found = [str(one["StreamArn"]) for page in listing for one in page["Streams"]]
        if aws.address_of(table) != table:
            found = [one for one in found if one.startswith(f"{aws.table_arn}/")]
            if not found:
                raise AwsRefused("ListStreams knows the tables of one account alone")
        return found

    return asked(ask, doing)


def look(aws: QuickAws, table: Table, kept: Kept) -> Answer[Survey]:
    """What the consumer would find unread, as `ddbrelay status` asks it."""

    async def ask() -> Survey:
        assert table.stream_arn is not None
        async with Transport(aws.apart()) as transport:
            source = await AwsStream.open(transport, table.stream_arn)
            origin = Origin(table.name, table.stream_arn)
            store = FixedPositions(kept.positions)
            try:
                async with asyncio.timeout(_PATIENCE):
                    return await survey(source, origin, store, trouble=lambda _: None)
            except TimeoutError:
                said = f"the shards were not all looked at within {_PATIENCE:.0f} s"
                raise AwsRefused(said, "ask for the status, which takes its time") from None

    return asked(lambda: asyncio.run(ask()), "look at the shards of the stream")


def judge(
    subject: Subject,
    latest: str | None,
    seen: Standing,
    listed_arns: Answer[list[str]],
    survey_of: Answer[Survey] | None,
) -> list[Finding]:
    """`latest` is the ARN of the table's stream, `survey_of` None where nothing was to be asked."""
    here = next((one for one in seen.kept if one.stream_arn == latest), None)
    found = [*_owner(subject, seen)]
    if not seen.kept:
        start = "trim-horizon" if subject.settings.start == "checkpoint" else subject.settings.start
        found.append(AREA.ok("checkpoint", f"none yet: the first run starts at {start}"))
    for kept in seen.kept:
        if kept.stream_arn != latest and not kept.finished:
            found.append(_older(subject, kept, listed_arns))
    if here is not None:
        found += _here(subject, here, survey_of)
    return [*found, *_marks(subject, seen, latest, listed_arns.value)]


def _owner(subject: Subject, seen: Standing) -> list[Finding]:
    if seen.owner is None:
        return []
    owner = seen.owner
    words = (
        f'a relay of consumer "{subject.settings.consumer}" runs: pid {owner.pid} on {owner.host}'
    )
    why = "a second one is refused while it lives"
    return [AREA.note("owner", words, why, "another --consumer, or stop that one first")]


def _older(subject: Subject, kept: Kept, listed_arns: Answer[list[str]]) -> Finding:
    label = kept.stream_arn.rpartition("/")[2]
    words = f"the checkpoint is on an older stream of the table ({label})"
    if listed_arns.value is not None and kept.stream_arn not in listed_arns.value:
        why = "that stream is gone: what was not read of it is lost, and the next run says so"
        mend = subject.again("tail --forward")
        return AREA.warning("stale-stream", words, why, mend)
    age = subject.now - kept.saved_at
    why = "it can be read for 24 h after it was turned off; the next run reads it first"
    if age > RETENTION:
        why += f", but the checkpoint is {hours(age)} old"
    return AREA.warning("stale-stream", words, why, subject.again("tail --forward"))


def _here(subject: Subject, kept: Kept, survey_of: Answer[Survey] | None) -> list[Finding]:
    age = subject.now - kept.saved_at
    found: list[Finding] = []
    if survey_of is None or survey_of.value is None:
        if survey_of is not None:
            found.append(refused(AREA, "checkpoint", survey_of, emulated=subject.emulated))
        if age > RETENTION:
            words = f"the checkpoint is {hours(age)} old, a stream keeps records for 24 h"
            why = "what was written in between and not read is lost"
            found.append(AREA.warning("checkpoint", words, why, subject.again("status")))
        return found
    seen = survey_of.value
    if seen.reopened:
        shards = len(seen.reopened)
        words = f"{counted(shards, 'open shard')} stored as read to the end"
        why = "what came later was not read: the next run reads on behind the last record"
        found.append(AREA.warning("reopened", words, why, subject.again("tail --forward")))
    if seen.gaps:
        shards = len({gap.shard_id for gap in seen.gaps})
        words = f"records of {shards} shard{'s' if shards > 1 else ''} were trimmed unread"
        why = "they are lost: the next run reports them and ends with code 4"
        found.append(AREA.error("trimmed", words, why, subject.again("status")))
    oldest = next(iter(worst(seen.unread)), None)
    left = None if oldest is None else oldest.left(subject.now)
    if oldest is not None and left is not None and left < _SOON:
        words = f"the oldest unread record is lost in {hours(left)}"
        why = "a stream keeps records for 24 h"
        found.append(AREA.warning("hours-left", words, why, subject.again("tail --forward")))
    if found:
        return found
    unread = "all is read" if not seen.unread else "nothing unread is lost within 6 h"
    return [AREA.ok("checkpoint", f"saved {iso(int(kept.saved_at))}, {unread}")]


def _marks(
    subject: Subject, seen: Standing, latest: str | None, arns: Collection[str] | None
) -> list[Finding]:
    """Bookmarks that were set by hand, and that a replay can no longer start from."""
    named = [mark for mark in seen.marks if not mark.automatic]
    gone = [
        mark.name
        for mark in named
        if mark.stream_arn != latest and arns is not None and mark.stream_arn not in arns
    ]
    old = [
        mark.name
        for mark in named
        if mark.name not in gone and subject.now - mark.saved_at > RETENTION
    ]
    return [
        *_about_marks(
            subject, gone, "of a stream that is gone", "a replay from there finds no stream"
        ),
        *_about_marks(subject, old, "older than 24 h", "what followed right behind may be trimmed"),
    ]


def _about_marks(subject: Subject, names: Sequence[str], state: str, why: str) -> list[Finding]:
    if not names:
        return []
    words = f"bookmark{'s' if len(names) > 1 else ''} {listed(names)}: {state}"
    # One call deletes one bookmark.
    mend = " && ".join(subject.again(f"positions delete {shlex.quote(name)}") for name in names)
    return [AREA.note("bookmarks", words, why, mend)]
