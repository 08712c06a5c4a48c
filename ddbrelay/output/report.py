"""The lines of `report`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from ddbrelay import __version__
from ddbrelay.flow.tracking import Fate
from ddbrelay.output import Count, Printed, ShardId, StreamArn, Time, outcome
from ddbrelay.output.ledger import Resolved, ResolvedSince
from ddbrelay.output.status import Chunks, Cost, Events, Puts, Reads, Requests, TotalUsage
from ddbrelay.report.numbers import Lost, Report, RunRow
from ddbrelay.report.period import Bucket
from ddbrelay.times import iso
from ddbrelay.values import iso_or_none

_LagMax = Annotated[
    Count | None,
    Meta(
        description="highest lag in seconds, from the write of a change to the checkpoint behind "
        "its event; null where none is known"
    ),
]
_LagMean = Annotated[
    Annotated[float, Meta(ge=0)] | None, Meta(description="average lag in seconds")
]
_Records = Annotated[Count, Meta(description="records")]


class Stretch(Printed, tag_field="type", tag="bucket"):
    """What was settled in a stretch of the period; stretches in which nothing was are left out."""

    start: Time
    seconds: Annotated[int, Meta(ge=60, description="length of the stretch")]
    published: Annotated[dict[str, Count], Meta(description="events by detail type")]
    skipped: Annotated[Count, Meta(description="changes without an event")]
    parked: Annotated[Count, Meta(description="records that became dead letters")]
    lag_max_seconds: _LagMax
    lag_mean_seconds: _LagMean


class Name(Printed, tag_field="type", tag="name"):
    """What became of one detail type, or of one rule or reason where no event was made, in the
    period; the most frequent first.
    """

    name: str
    published: Annotated[Count, Meta(description="events")]
    skipped: _Records
    parked: _Records


class ParkedLetters(Printed, tag_field="type", tag="deadLetters"):
    """Dead letters that are there now, by reason. A reason ends where it may quote from a
    record.
    """

    reason: str
    behind: Annotated[
        bool, Meta(description="whether they wait only behind an earlier letter of their item")
    ]
    count: Count
    oldest_parked_at: Time
    latest_parked_at: Time


class LostRecords(outcome.Lost, tag="lost"):
    """Records that were trimmed before they were read."""

    stream_arn: StreamArn
    found_at: Time
    in_period: Annotated[bool, Meta(description="whether it was found in the period")]


class OpenShard(Printed, tag_field="type", tag="shard"):
    """A shard that is not read to its end, the most urgent first."""

    stream_arn: StreamArn
    shard_id: ShardId
    sequence_number: Annotated[str | None, Meta(description="of the last record that is settled")]
    read_up_to: Annotated[
        Time | None,
        Meta(description="what was written before this is settled; null where nothing was read"),
    ]
    hours_left: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        Meta(description="until a record written at readUpTo leaves the stream"),
    ]


class RunCosts(Printed, kw_only=True, tag_field="type", tag="run"):
    """What a run used, the latest first; or all runs before the last twenty of their stream
    together.
    """

    stream_arn: StreamArn
    earlier: Annotated[
        bool, Meta(description="whether it is the sum of the runs before the last twenty")
    ]
    started_at: Annotated[
        Time | UnsetType, Meta(description="when it began; absent where earlier is true")
    ] = UNSET
    saved_at: Annotated[Time, Meta(description="when this was last saved")]
    reads: Reads
    requests: Requests
    events: Events
    chunks: Chunks
    puts: Puts
    cost: Cost


class AllTime(Printed):
    """Since the first checkpoint."""

    published: _Records
    skipped: _Records
    parked: Annotated[Count, Meta(description="records, also those that were sent since")]
    resolved: ResolvedSince
    lost: Annotated[Count, Meta(description="gaps")]


class ReportSummary(Printed, kw_only=True, tag_field="type", tag="summary"):
    """The last line."""

    consumer: str
    table: str
    bus: Annotated[str | None, Meta(description="the one of the settings; null where none is set")]
    stream_arn: Annotated[str, Meta(description="the latest stream of the table")]
    earlier_streams: Annotated[
        list[str],
        Meta(
            description="earlier streams of the table, whose numbers are in all others; the latest "
            "first"
        ),
    ]
    since: Annotated[
        Time,
        Meta(description="where the period begins; not before anything was kept by the minute"),
    ]
    until: Annotated[Time, Meta(description="when the report was made")]
    bucket_seconds: Annotated[int, Meta(ge=60, description="length of every bucket")]
    verdict: Annotated[str, Meta(description="the period in one sentence")]
    published: Annotated[Count, Meta(description="events in the period")]
    skipped: Annotated[Count, Meta(description="records in the period")]
    parked: Annotated[Count, Meta(description="records that were parked in the period")]
    lost: Annotated[Count, Meta(description="gaps that were found in the period")]
    lag_max_seconds: _LagMax
    lag_mean_seconds: _LagMean
    dead_letters: Annotated[Count, Meta(description="dead letters that are there now")]
    shards: Annotated[Count, Meta(description="shards that are not read to their end")]
    finished: Annotated[Count, Meta(description="shards that are")]
    running: Annotated[bool, Meta(description="whether a relay of this consumer runs")]
    heard_at: Annotated[Time | None, Meta(description="when the last checkpoint was saved")]
    all_time: Annotated[AllTime, Meta(description="since the first checkpoint")]
    usage: Annotated[TotalUsage, Meta(description="all runs together")]
    version: Annotated[str, Meta(description="of ddbrelay")]


def lines(report: Report) -> Iterator[Struct]:
    """Buckets that are not empty, names, dead letters, losses, shards, runs; the summary last."""
    for bucket in report.buckets:
        if bucket.settled:
            yield Stretch(
                iso(bucket.start),
                report.period.step,
                dict(bucket.published),
                bucket.skipped,
                bucket.parked,
                **_lags(bucket),
            )
    for name in report.names:
        yield Name(name.name, name.published, name.skipped, name.parked)
    for reason in report.reasons:
        yield ParkedLetters(
            reason.reason, reason.behind, reason.letters, iso(reason.oldest), iso(reason.latest)
        )
    yield from map(_lost, report.lost)
    for shard in report.shards:
        yield OpenShard(
            shard.stream_arn,
            shard.position.shard_id,
            shard.position.sequence,
            iso_or_none(shard.read_up_to),
            None if shard.left is None else round(shard.left / 3600, 4),
        )
    yield from map(_run, report.runs)
    yield _summary(report)


def _lags(bucket: Bucket) -> dict[str, Any]:
    mean = bucket.lag_mean
    return {
        "lag_max_seconds": bucket.lag_max,
        "lag_mean_seconds": None if mean is None else round(mean, 3),
    }


def _lost(lost: Lost) -> LostRecords:
    return LostRecords(
        **structs.asdict(outcome.Lost.of(lost.gap)),
        stream_arn=lost.stream_arn,
        found_at=iso(lost.found_at),
        in_period=lost.in_period,
    )


def _run(run: RunRow) -> RunCosts:
    bill = run.bill
    assert bill.saved_at is not None
    return RunCosts(
        stream_arn=run.stream_arn,
        earlier=run.earlier,
        started_at=UNSET if bill.started_at is None else iso(bill.started_at),
        saved_at=iso(bill.saved_at),
        **asdict(bill.usage),
        cost=float(bill.cost),
    )


def _summary(report: Report) -> ReportSummary:
    whole = report.all
    latest, *earlier = report.stream_arns
    return ReportSummary(
        consumer=report.consumer,
        table=report.table,
        bus=report.bus,
        stream_arn=latest,
        earlier_streams=earlier,
        since=iso(report.period.start),
        until=iso(report.at),
        bucket_seconds=report.period.step,
        verdict=report.verdict,
        published=whole.published.total(),
        skipped=whole.skipped,
        parked=whole.parked,
        lost=sum(gap.in_period for gap in report.lost),
        **_lags(whole),
        dead_letters=report.waiting,
        shards=len(report.shards),
        finished=report.finished,
        running=report.running,
        heard_at=iso_or_none(report.heard_at),
        all_time=AllTime(
            report.ever[Fate.PUBLISHED],
            report.ever[Fate.SKIPPED],
            report.ever[Fate.PARKED],
            Resolved.of(report.resolved),
            len(report.lost),
        ),
        usage=TotalUsage.of(report.total),
        version=__version__,
    )
