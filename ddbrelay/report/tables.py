"""The tables of the page: on a narrow screen their rows are stacked, or they scroll in a box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from ddbrelay.cost import money
from ddbrelay.report import scales
from ddbrelay.report.markup import Child, el
from ddbrelay.report.numbers import Report, RunRow, ShardRow
from ddbrelay.report.period import Name, total
from ddbrelay.report.scales import moment
from ddbrelay.text import counted, short_shard
from ddbrelay.times import alarm, iso, whole

_MOST_ROWS = 30
_MOST_NUMBERS = 26
_COLOURS = {"red": "bad", "yellow": "wait", "dim": ""}


@dataclass(frozen=True)
class _Cell:
    """A cell of a table; a bare text is one without a class."""

    content: Child
    style: str = ""


_Row = list[_Cell | Element | str]


def _table(
    headings: Sequence[str],
    rows: Sequence[_Row],
    numeric: frozenset[int] = frozenset(),
    caption: str | None = None,
    style: str = "stack",
) -> Element:
    """The first column is the heading of its row; `numeric` columns stand to the right."""
    body = []
    for row in rows:
        cells: list[Element] = []
        for place, one in enumerate(row):
            cell = one if isinstance(one, _Cell) else _Cell(one)
            classes = " ".join(filter(None, ["number" if place in numeric else "", cell.style]))
            # A table whose rows are stacked is none any more to some readers, unless it says so.
            if place:
                cells.append(
                    el(
                        "td",
                        el("div", cell.content),
                        class_=classes or None,
                        role="cell",
                        data_label=headings[place],
                    )
                )
            else:
                cells.append(
                    el("th", cell.content, scope="row", role="rowheader", class_=classes or None)
                )
        body.append(el("tr", *cells, role="row"))
    head = [
        el(
            "th",
            text,
            scope="col",
            role="columnheader",
            class_="number" if place in numeric else None,
        )
        for place, text in enumerate(headings)
    ]
    return el(
        "table",
        el("caption", caption) if caption else None,
        el("thead", el("tr", *head, role="row"), role="rowgroup"),
        el("tbody", *body, role="rowgroup"),
        class_=style,
        role="table",
    )


def _boxed(table: Element, label: str) -> Element:
    return el("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def _section(title: str, said: str, *content: Child) -> Element:
    return el("section", el("h2", title), el("p", said, class_="lead"), *content)


def _number(value: int, style: str = "") -> _Cell:
    return _Cell(f"{value:,}", style if value else "nothing")


def _left_out(many: int, what: str) -> Element | None:
    if many <= 0:
        return None
    said = f"{counted(many, f'more {what}')}; ddbrelay report --output json has all"
    return el("p", said, class_="quiet")


def numbers(report: Report) -> Element:
    """What the charts show, as a table."""
    size = report.period.together(_MOST_NUMBERS)
    rows: list[_Row] = []
    for first in range(0, len(report.buckets), size):
        one = total(report.buckets[first : first + size])
        rows.append(
            [
                _Cell(moment(one.start), "nowrap"),
                _number(one.published.total()),
                _number(one.skipped),
                _number(one.parked, "bad"),
                "–" if one.lag_mean is None else f"{one.lag_mean:.1f} s",
                "–" if one.lag_max is None else whole(one.lag_max),
            ]
        )
    each = scales.width(size * report.period.step)
    headings = ("From", "Published", "Skipped", "Parked", "Lag, average", "Lag, highest")
    caption = f"The charts as numbers, a row for each {each}"
    table = _table(headings, rows, frozenset(range(1, 6)), caption, style="plain")
    return el(
        "details",
        el("summary", "The charts as numbers"),
        _boxed(table, caption),
        class_="numbers",
    )


def by_name(report: Report, types: dict[str, str]) -> Element:
    """What became of each detail type, rule and reason."""
    if not report.names:
        return _section("Types and rules", "Nothing was settled in this time.")
    most = max(one.count for one in report.names)
    headings = ("Name", "Published", "Skipped", "Parked")
    rows: list[_Row] = [
        [
            _Cell(_name(one, types.get(one.name, ""), most)),
            _number(one.published),
            _number(one.skipped),
            _number(one.parked, "bad"),
        ]
        for one in report.names[:_MOST_ROWS]
    ]
    return _section(
        "Types and rules",
        "Events by detail type; changes without an event by the rule that skipped them.",
        _boxed(_table(headings, rows, frozenset({1, 2, 3}), style="plain"), "Types and rules"),
        _left_out(len(report.names) - _MOST_ROWS, "name"),
    )


def _name(name: Name, style: str, most: int) -> Element:
    if not style:
        style = "parked" if name.parked else "skipped" if name.skipped else "other"
    return el(
        "div",
        name.name or "no event could be made",
        el("span", class_=f"share {style}", style=f"width:{name.count / most:.2%}"),
    )


def parked(report: Report) -> Element:
    """The dead letters that are there now, by reason."""
    gone = ", ".join(f"{number:,} {how.value}" for how, number in report.resolved.items() if number)
    gone = f" Of those that were parked, {gone}." if gone else ""
    if not report.waiting:
        return _section("Parked", f"No dead letter waits.{gone}")
    oldest = min(one.oldest for one in report.reasons)
    rows: list[_Row] = [
        [
            one.reason or "no reason given",
            _Cell(f"{one.letters:,}", "wait" if one.behind else "bad"),
            _Cell(_time(one.oldest)),
            _Cell(_time(one.latest)),
        ]
        for one in report.reasons[:_MOST_ROWS]
    ]
    waits = "waits" if report.waiting == 1 else "wait"
    return _section(
        "Parked",
        f"{counted(report.waiting, 'dead letter')} {waits}, the oldest for "
        f"{whole(max(report.at - oldest, 0.0))}; ddbrelay dead-letters redrive sends them again."
        f"{gone}",
        _table(("Reason", "Letters", "Oldest", "Latest"), rows, frozenset({1})),
        _left_out(len(report.reasons) - _MOST_ROWS, "reason"),
    )


def _time(at: float | None) -> Element | str:
    if at is None:
        return "–"
    return el("time", moment(at), datetime=iso(int(at)), class_="nowrap")


def lost(report: Report) -> Element:
    """Every gap that the ledger knows."""
    if not report.lost:
        return _section("Lost", "Nothing was lost.")
    rows: list[_Row] = []
    for one in report.lost[:_MOST_ROWS]:
        gap = one.gap
        numbers = el(
            "div",
            el("div", "after ", el("code", gap.after) if gap.after else "the start"),
            el("div", "before ", el("code", gap.before) if gap.before else "a later one"),
        )
        rows.append(
            [
                _Cell(el("code", short_shard(gap.shard_id), class_="nowrap")),
                _Cell(numbers, "tall"),
                _Cell(_time(gap.since)),
                _Cell(_time(gap.until)),
                gap.reason,
                _Cell(_time(one.found_at), "" if one.in_period else "nothing"),
            ]
        )
    before = sum(not one.in_period for one in report.lost)
    earlier = f", {before:,} of them before this period" if before else ""
    headings = ("Shard", "Sequence numbers", "Written after", "Before", "Why", "Found")
    return _section(
        "Lost",
        f"Records were trimmed before they were read: {counted(len(report.lost), 'gap')}{earlier}.",
        _table(headings, rows),
        _left_out(len(report.lost) - _MOST_ROWS, "gap"),
    )


def shards(report: Report) -> Element:
    """Where the last checkpoint stands, the most urgent first."""
    finished = f"{report.finished:,} read to their end" if report.finished else "none finished yet"
    said = f"{counted(len(report.shards), 'open shard')}, {finished}."
    if not report.shards:
        return _section("Shards", said)
    several = len({one.stream_arn for one in report.shards}) > 1
    headings = ("Shard", "Read up to", "Time left", "Position")
    rows = [_shard(one, several) for one in report.shards[:_MOST_ROWS]]
    return _section(
        "Shards",
        f"{said} A stream keeps a record for 24 hours: without a relay, the next one after this "
        "checkpoint would be lost when the time left is over.",
        _table(headings, rows),
        _left_out(len(report.shards) - _MOST_ROWS, "shard"),
    )


def _shard(shard: ShardRow, several: bool) -> _Row:
    position = shard.position
    name = el("code", short_shard(position.shard_id), class_="nowrap")
    stream = f" of stream {shard.stream_arn.rpartition('/')[2]}" if several else ""
    left = _Cell("not begun", "nothing")
    if shard.left is not None:
        left = _Cell(whole(shard.left), _COLOURS[alarm(shard.left)])
    return [
        _Cell(el("span", name, el("span", stream, class_="quiet") if stream else None)),
        _Cell(_time(shard.read_up_to)),
        left,
        _Cell(el("code", position.sequence or "–")),
    ]


def runs(report: Report) -> Element:
    """What each run used, and what AWS bills for it."""
    if not report.runs:
        return _section("Runs and cost", "No run is known yet.")
    rows = [_run(one) for one in report.runs[:_MOST_ROWS]]
    everything = report.total.usage
    headings = ("Began", "Last saved", "Reads", "Requests", "Events", "Billed", "Cost")
    said = (
        f"{money(report.total.cost)} for {everything.reads:,} reads of the stream and "
        f"{everything.events:,} events, billed as {everything.chunks:,} of 64 KB begun each. "
        "Estimated from the prices of the settings; free tiers are not subtracted."
    )
    table = _table(headings, rows, frozenset(range(2, 7)))
    return _section("Runs and cost", f"{said[0].upper()}{said[1:]}", table)


def _run(row: RunRow) -> _Row:
    usage = row.bill.usage
    return [
        _Cell("earlier runs") if row.earlier else _Cell(_time(row.bill.started_at)),
        _Cell(_time(row.bill.saved_at)),
        f"{usage.reads:,}",
        f"{usage.requests:,}",
        f"{usage.events:,}",
        f"{usage.chunks:,}",
        money(row.bill.cost).removeprefix("about "),
    ]
