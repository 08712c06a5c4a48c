"""The numbers of a report as JSON objects, one a line; `ddbrelay/outputs/report.json` has them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from ddbrelay import __version__
from ddbrelay.flow.tracking import Fate
from ddbrelay.output.outcome import Lost
from ddbrelay.report.numbers import Report
from ddbrelay.report.period import Bucket
from ddbrelay.times import iso
from ddbrelay.values import iso_or_none


def objects(report: Report) -> Iterator[dict[str, Any]]:
    """Buckets that are not empty, names, dead letters, losses, shards, runs; the summary last."""
    for bucket in report.buckets:
        if bucket.settled:
            yield {
                "type": "bucket",
                "start": iso(bucket.start),
                "seconds": report.period.step,
                "published": dict(bucket.published),
                "skipped": bucket.skipped,
                "parked": bucket.parked,
                **_lags(bucket),
            }
    for name in report.names:
        yield {
            "type": "name",
            "name": name.name,
            "published": name.published,
            "skipped": name.skipped,
            "parked": name.parked,
        }
    for reason in report.reasons:
        yield {
            "type": "deadLetters",
            "reason": reason.reason,
            "behind": reason.behind,
            "count": reason.letters,
            "oldestParkedAt": iso(reason.oldest),
            "latestParkedAt": iso(reason.latest),
        }
    for lost in report.lost:
        yield {
            **msgspec.to_builtins(Lost.of(lost.gap)),
            "streamArn": lost.stream_arn,
            "foundAt": iso(lost.found_at),
            "inPeriod": lost.in_period,
        }
    for shard in report.shards:
        yield {
            "type": "shard",
            "streamArn": shard.stream_arn,
            "shardId": shard.position.shard_id,
            "sequenceNumber": shard.position.sequence,
            "readUpTo": iso_or_none(shard.read_up_to),
            "hoursLeft": None if shard.left is None else round(shard.left / 3600, 4),
        }
    for run in report.runs:
        yield {
            "type": "run",
            "streamArn": run.stream_arn,
            "earlier": run.earlier,
            **run.bill.as_object(),
        }
    yield _summary(report)


def _lags(bucket: Bucket) -> dict[str, Any]:
    mean = bucket.lag_mean
    return {
        "lagMaxSeconds": bucket.lag_max,
        "lagMeanSeconds": None if mean is None else round(mean, 3),
    }


def _summary(report: Report) -> dict[str, Any]:
    found = report.all
    latest, *earlier = report.stream_arns
    return {
        "type": "summary",
        "consumer": report.consumer,
        "table": report.table,
        "bus": report.bus,
        "streamArn": latest,
        "earlierStreams": earlier,
        "since": iso(report.period.start),
        "until": iso(report.at),
        "bucketSeconds": report.period.step,
        "verdict": report.verdict,
        "published": found.published.total(),
        "skipped": found.skipped,
        "parked": found.parked,
        "lost": sum(one.in_period for one in report.lost),
        **_lags(found),
        "deadLetters": report.waiting,
        "shards": len(report.shards),
        "finished": report.finished,
        "running": report.running,
        "heardAt": iso_or_none(report.heard_at),
        "allTime": {
            **{fate.value: report.ever[fate] for fate in Fate},
            "resolved": {how.value: number for how, number in report.resolved.items()},
            "lost": len(report.lost),
        },
        "usage": report.total.as_object(),
        "version": __version__,
    }
