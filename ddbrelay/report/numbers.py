"""Everything that a report says, from the state file alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ddbrelay.cost import Bill, Bills, Prices
from ddbrelay.flow.capture import Gap, Position
from ddbrelay.flow.capture.port import RETENTION
from ddbrelay.flow.tracking import Fate
from ddbrelay.report.period import Bucket, Name, Period, buckets_of, names_of, total
from ddbrelay.report.reasons import grouped
from ddbrelay.stores import ledger, letters, timeline, usage
from ddbrelay.stores.database import Database
from ddbrelay.stores.letters import Reason
from ddbrelay.stores.ownership import owner_of
from ddbrelay.stores.parking import How
from ddbrelay.stores.sqlite import positions_of
from ddbrelay.stores.usage import EARLIER_RUNS
from ddbrelay.text import counted


@dataclass(frozen=True)
class Lost:
    """Records that were trimmed before they were read; `in_period` where it was found out then."""

    gap: Gap
    stream_arn: str
    found_at: float
    in_period: bool


@dataclass(frozen=True)
class ShardRow:
    """A shard that is not read to its end, as of the last checkpoint.

    All that was written before `read_up_to` is settled; None where nothing was read. Where the next
    record was written right then, it leaves the stream in `left` seconds.
    """

    stream_arn: str
    position: Position
    read_up_to: float | None
    left: float | None


@dataclass(frozen=True)
class RunRow:
    """What a run used and costs; the runs before the last twenty stand together as `earlier`."""

    stream_arn: str
    bill: Bill
    earlier: bool


@dataclass(frozen=True)
class Report:
    """A consumer on all streams of a table, at the epoch second `at`.

    `stream_arns` has the latest stream first. `ever` counts records since the first checkpoint,
    `resolved` those of the parked ones that left the store, `buckets` and `names` what was settled
    in the period; `kept` whether anything is known by the minute at all, which files of earlier
    versions lack.
    """

    consumer: str
    table: str
    bus: str | None
    stream_arns: Sequence[str]
    at: float
    period: Period
    buckets: Sequence[Bucket]
    names: Sequence[Name]
    kept: bool
    ever: dict[Fate, int]
    resolved: dict[How, int]
    reasons: Sequence[Reason]
    lost: Sequence[Lost]
    shards: Sequence[ShardRow]
    finished: int
    runs: Sequence[RunRow]
    total: Bill
    running: bool
    heard_at: float | None

    @property
    def all(self) -> Bucket:
        """The whole period as one bucket."""
        return total(self.buckets)

    @property
    def waiting(self) -> int:
        """Dead letters that are there now."""
        return sum(one.letters for one in self.reasons)

    @property
    def empty(self) -> bool:
        """Whether nothing ever became of any record."""
        return not (any(self.ever.values()) or self.waiting or self.lost)

    @property
    def verdict(self) -> str:
        """`48,112 events published, 301 skipped, 1 parked, nothing lost`."""
        return ", ".join(said for said, _ in self.said)

    @property
    def said(self) -> list[tuple[str, bool]]:
        """The parts of the verdict, and whether each is bad news."""
        found = self.all
        lost = sum(one.in_period for one in self.lost)
        return [
            (f"{counted(found.published.total(), 'event')} published", False),
            (f"{found.skipped:,} skipped", False),
            (f"{found.parked:,} parked", found.parked > 0),
            (f"records lost in {counted(lost, 'gap')}" if lost else "nothing lost", lost > 0),
        ]


def gather(
    database: Database,
    consumer: str,
    stream_arns: Sequence[str],
    *,
    table: str,
    bus: str | None,
    prices: Prices,
    since: float,
    now: Callable[[], float],
) -> Report:
    """The numbers of a consumer on these streams of a table, of which the latest comes first.

    The period goes from `since`, or the first record that was counted by the minute, until now.
    """
    at = now()
    first = timeline.first_of(database, consumer, stream_arns)
    period = Period.of(since, at, first)
    rows = timeline.of_consumer(database, consumer, stream_arns, period.start)
    ever, resolved = dict.fromkeys(Fate, 0), dict.fromkeys(How, 0)
    for arn in stream_arns:
        for shard in ledger.of_consumer(database, consumer, arn).values():
            for fate in Fate:
                ever[fate] += shard.count(fate)
        for how, number in ledger.resolved_of(database, consumer, arn).items():
            resolved[how] += number
    positions = [(arn, one) for arn in stream_arns for one in positions_of(database, consumer, arn)]
    owner = owner_of(database, consumer, stream_arns[0], now)
    runs, bill = _runs(database, consumer, stream_arns, prices)
    return Report(
        consumer=consumer,
        table=table,
        bus=bus,
        stream_arns=stream_arns,
        at=at,
        period=period,
        buckets=buckets_of(period, rows),
        names=names_of(period, rows),
        kept=first is not None,
        ever=ever,
        resolved=resolved,
        reasons=grouped(letters.reasons(database, consumer, stream_arns)),
        lost=[
            Lost(gap, arn, found_at, period.start <= found_at)
            for arn in stream_arns
            for gap, found_at in ledger.gaps_of(database, consumer, arn)
        ],
        shards=sorted(
            (_shard(arn, one, at) for arn, one in positions if not one.finished), key=_urgency
        ),
        finished=sum(one.finished for _, one in positions),
        runs=runs,
        total=bill,
        running=owner is not None and owner.alive,
        heard_at=max(
            (
                one.saved_at
                for one in ledger.consumers(database)
                if one.name == consumer and one.stream_arn in stream_arns
            ),
            default=None,
        ),
    )


def _shard(arn: str, position: Position, at: float) -> ShardRow:
    known = [one for one in (position.seen_at, position.written_at) if one is not None]
    read = max(known, default=None)
    return ShardRow(arn, position, read, None if read is None else max(read + RETENTION - at, 0.0))


def _urgency(shard: ShardRow) -> tuple[float, str]:
    # Of one that was not begun it is not known: it has the time that its parent leaves it.
    return (float("inf") if shard.left is None else shard.left, shard.position.shard_id)


def _runs(
    database: Database, consumer: str, stream_arns: Sequence[str], prices: Prices
) -> tuple[list[RunRow], Bill]:
    """The runs on all streams, the latest first, and all of them together."""
    kept = [(arn, run) for arn in stream_arns for run in usage.of_consumer(database, consumer, arn)]
    rows = [
        RunRow(
            arn,
            Bill(run.usage, prices.cost(run.usage), run.started_at or None, run.saved_at),
            run.started_at == EARLIER_RUNS,
        )
        for arn, run in kept
    ]
    rows.sort(key=lambda row: (not row.earlier, row.bill.started_at or 0.0), reverse=True)
    return rows, Bills.of([run for _, run in kept], prices).total
