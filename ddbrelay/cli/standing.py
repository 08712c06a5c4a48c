"""What `ddbrelay status` shows: rows for a person, objects for a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import click

from ddbrelay.aws.table import TableStream
from ddbrelay.cli.accounts import resolved_words
from ddbrelay.cli.console import Console
from ddbrelay.cost import Bills, money
from ddbrelay.flow.tracking import Fate, Usage
from ddbrelay.output import status as printed
from ddbrelay.output.ledger import Resolved
from ddbrelay.output.outcome import Lost
from ddbrelay.relay.backlog import Unread, worst
from ddbrelay.relay.survey import ShardBacklog, State, Survey
from ddbrelay.stores.ownership import Owner
from ddbrelay.stores.parking import How
from ddbrelay.text import counted, printable, short_shard
from ddbrelay.times import alarm, iso, whole
from ddbrelay.values import iso_or_none

_WORDS = {State.WAITING: "waiting for its parent", State.NOT_BEGUN: "not begun"}
_HEADINGS = ("shard", "state", "position", "oldest unread", "trimmed in")


@dataclass(frozen=True)
class Standing:
    """A consumer on the latest stream of its table, at the epoch second `at`.

    `owner` is the run that relays now, `heard_at` the last sign of life of any. `counts` and `gaps`
    are those of the ledger; of the parked records so many are `resolved`, by how. `unfinished` are
    older streams on which it has a checkpoint, `bills` is what AWS bills for the runs on this
    stream.
    """

    consumer: str
    stream: TableStream
    survey: Survey
    _: KW_ONLY
    owner: Owner | None
    heard_at: float | None
    counts: Mapping[Fate, int]
    gaps: int
    dead_letters: int
    resolved: Mapping[How, int]
    unfinished: Sequence[str]
    bills: Bills
    at: float

    @property
    def oldest(self) -> Unread | None:
        """The worst shard of which the age is known."""
        return next(iter(worst(self.survey.unread)), None)


# Objects


def print_objects(console: Console, found: Standing) -> None:
    """One object for each shard that is not finished, one for each gap, and the summary."""
    for shard in found.survey.shards:
        console.object(_shard_object(shard, found.at))
    for gap in found.survey.gaps:
        console.object(Lost.of(gap))
    console.object(_summary_object(found))


def _shard_object(shard: ShardBacklog, now: float) -> printed.Shard:
    position = shard.position
    return printed.Shard(
        shard_id=position.shard_id,
        parent_shard_id=position.parent_id,
        state=shard.state.value,
        sequence_number=position.sequence,
        unread=shard.unread is not None,
        **_lag(shard.unread, now),
        trimmed=shard.gap is not None,
    )


def _summary_object(found: Standing) -> printed.StatusSummary:
    survey, owner, bills = found.survey, found.owner, found.bills
    return printed.StatusSummary(
        consumer=found.consumer,
        table=found.stream.table,
        stream_arn=found.stream.arn,
        owner=None
        if owner is None
        else printed.Owner(owner.pid, owner.host, iso(owner.since), iso(owner.beat_at)),
        heard_at=iso_or_none(found.heard_at),
        **_lag(found.oldest, found.at),
        shards=len(survey.shards) + survey.finished,
        unread=len(survey.unread),
        finished=survey.finished,
        reopened=list(survey.reopened),
        trimmed=len(survey.gaps),
        published=found.counts[Fate.PUBLISHED],
        skipped=found.counts[Fate.SKIPPED],
        parked=found.counts[Fate.PARKED],
        lost=found.gaps,
        dead_letters=found.dead_letters,
        resolved=Resolved.of(found.resolved),
        unfinished_streams=list(found.unfinished),
        usage=printed.StreamUsage(
            None if bills.run is None else printed.RunUsage.of(bills.run),
            printed.TotalUsage.of(bills.total),
        ),
        at=iso(found.at),
    )


def _lag(unread: Unread | None, now: float) -> dict[str, Any]:
    age = left = since = None
    if unread is not None:
        age, left, since = unread.age(now), unread.left(now), unread.since
    return {
        "oldest_unread_at": iso_or_none(since),
        "lag_seconds": None if age is None else round(age, 3),
        "hours_left": None if left is None else round(left / 3600.0, 4),
    }


# Rows


def print_rows(console: Console, found: Standing) -> None:
    """Who, one row a shard, the worst first, and totals; right at 80 columns."""
    _line(console, "consumer", printable(found.consumer))
    label = found.stream.arn.rpartition("/")[2]
    disabled = "" if found.stream.enabled else ", disabled"
    _line(console, "table", f"{found.stream.table}, stream {label}{disabled}")
    _print_owner(console, found)
    _space(console)
    if found.survey.shards:
        _print_shards(console, found)
        _space(console)
    _print_totals(console, found)
    if found.bills.total.usage != Usage():
        _space(console)
        _print_bills(console, found.bills)


def _line(console: Console, label: str, text: str, colour: str | None = None) -> None:
    console.data(f"{label:<10}" + _styled(console, text, colour))


def _space(console: Console) -> None:
    if console.output == "rich":
        console.data("")


def _styled(console: Console, text: str, colour: str | None) -> str:
    if colour is None or not console.colour:
        return text
    return click.style(text, dim=True) if colour == "dim" else click.style(text, fg=colour)


def _print_owner(console: Console, found: Standing) -> None:
    owner, heard_at = found.owner, found.heard_at
    if owner is not None:
        _line(console, "relay", f"running as pid {owner.pid} on {printable(owner.host)}")
        _line(console, "", f"since {iso(int(owner.since))}, {_ago(owner.since, found.at)}")
    elif heard_at is not None:
        heard = f"last heard of {iso(int(heard_at))}, {_ago(heard_at, found.at)}"
        _line(console, "relay", f"not running, {heard}", "yellow")
    else:
        _line(console, "relay", "not running, there is no checkpoint yet", "yellow")


def _ago(moment: float, now: float) -> str:
    return f"{whole(max(now - moment, 0.0))} ago"


def _print_shards(console: Console, found: Standing) -> None:
    rows = [(_cells(shard, found.at), _colour(shard, found.at)) for shard in found.survey.shards]
    columns = zip(_HEADINGS, *(cells for cells, _ in rows), strict=True)
    *widths, _ = (max(map(len, column)) for column in columns)

    def line(cells: Sequence[str], colour: str | None) -> str:
        *others, last = cells
        head = "".join(f"{text:<{wide}}  " for text, wide in zip(others, widths, strict=True))
        return head + _styled(console, last, colour)

    console.data(_styled(console, line(_HEADINGS, None), "dim"))
    for cells, colour in rows:
        console.data(line(cells, colour))


def _cells(shard: ShardBacklog, now: float) -> tuple[str, ...]:
    position = shard.position
    oldest, ahead = "none", "–"
    if shard.unread is not None:
        age, left = shard.unread.age(now), shard.unread.left(now)
        oldest = "unknown" if age is None else f"{whole(age)} ago"
        ahead = "unknown" if left is None else whole(left) if left else "now"
    return (
        short_shard(position.shard_id),
        _WORDS.get(shard.state, shard.state.value),
        f"…{position.sequence[-8:]}" if position.sequence else "–",
        oldest,
        ahead if shard.gap is None else "records are lost",
    )


def _colour(shard: ShardBacklog, now: float) -> str:
    if shard.gap is not None:
        return "red"
    left = None if shard.unread is None else shard.unread.left(now)
    return "dim" if left is None else alarm(left)


def _print_totals(console: Console, found: Standing) -> None:
    survey = found.survey
    waiting = sum(shard.state is State.WAITING for shard in survey.shards)
    shards = [counted(len(survey.shards) + survey.finished, "shard")]
    shards += [f"{survey.finished:,} finished"] if survey.finished else []
    shards += [f"{waiting:,} waiting"] if waiting else []
    _line(console, "shards", ", ".join(shards))
    if survey.reopened:
        words = f"{counted(len(survey.reopened), 'open shard')} stored as read to the end"
        _line(console, "reopened", f"{words}: the next run reads on", "yellow")
    counts = "   ".join(f"{fate.value} {found.counts[fate]:,}" for fate in Fate)
    _line(console, "so far", f"{counts}   lost {counted(found.gaps, 'gap')}")
    if words := resolved_words(found.resolved):
        _line(console, "resolved", f"{words}, of those that were parked")
    if found.dead_letters:
        waits = "waits" if found.dead_letters == 1 else "wait"
        _line(console, "parked", f"{counted(found.dead_letters, 'dead letter')} {waits}", "red")
    for gap in survey.gaps:
        where = f"after …{gap.after[-8:]}" if gap.after else "from its start"
        lost = f"{short_shard(gap.shard_id)} {where}: unread, and no longer in the stream"
        _line(console, "lost", lost, "red")
    if found.oldest is not None:
        age, left = found.oldest.age(found.at) or 0.0, found.oldest.left(found.at) or 0.0
        trimmed = f"trimmed in {whole(left)}" if left else "trimmed now"
        urgent = alarm(left)
        lag = f"oldest unread {whole(age)}, {trimmed}"
        _line(console, "lag", lag, None if urgent == "dim" else urgent)
    elif not survey.unread:
        _line(console, "lag", "all read")


def _print_bills(console: Console, bills: Bills) -> None:
    """One column for each thing that is billed; the last one is an estimate, and says so."""
    total = bills.total.usage
    shown = [
        ("reads", "reads", True),
        ("events", "events", True),
        ("billed as", "chunks", total.chunks != total.events),
        ("claim checks", "puts", total.puts > 0),
    ]
    columns = [(heading, counter) for heading, counter, useful in shown if useful]
    rows = [("usage", *(heading for heading, _ in columns), "estimated cost")]
    for label, bill in (("last run", bills.run), ("in total", bills.total)):
        if bill is not None:
            counts = (f"{getattr(bill.usage, counter):,}" for _, counter in columns)
            rows.append((label, *counts, money(bill.cost)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][1:-1]
    for number, (label, *cells, cost) in enumerate(rows):
        middle = "".join(f"{cell:>{wide}}  " for cell, wide in zip(cells, widths, strict=True))
        line = f"{label:<10}{middle}{cost}"
        console.data(_styled(console, line, None if number else "dim"))
