"""The page: one file that asks for nothing else, and is whole without its script."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import resources
from xml.etree.ElementTree import Element

from ddbrelay import __version__
from ddbrelay.cost import money
from ddbrelay.flow.tracking import Fate
from ddbrelay.report import scales
from ddbrelay.report.charts import Chart, Series, bars, lines, strip
from ddbrelay.report.markup import Child, document, el, raw
from ddbrelay.report.numbers import Report
from ddbrelay.report.period import Bucket, total
from ddbrelay.report.scales import moment
from ddbrelay.report.tables import by_name, lost, numbers, parked, runs, shards
from ddbrelay.text import counted
from ddbrelay.times import iso, whole

MOST_TYPES = 8
"""So many detail types have a colour of their own."""
_MOST_CELLS = 60
_MOST_TOLD = 6
_TICKS, _FEW_TICKS = 6, 4


def page(report: Report) -> str:
    """The whole page as text."""
    types = _types(report)
    style, script = _resource("page.css"), _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing is loaded, and no script runs but this one, whatever a name may hold.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    route = " → ".join(one for one in (report.table, report.bus) if one)
    return document(
        el(
            "html",
            el(
                "head",
                el("meta", charset="utf-8"),
                el("meta", http_equiv="Content-Security-Policy", content=policy),
                el("meta", name="viewport", content="width=device-width, initial-scale=1"),
                el("meta", name="color-scheme", content="light dark"),
                el("meta", name="generator", content=f"ddbrelay {__version__}"),
                el("title", f"{route}, {report.consumer}: ddbrelay report"),
                el("link", rel="icon", href="data:,"),
                raw("style", style),
            ),
            el(
                "body",
                _header(report),
                el(
                    "main",
                    _verdict(report),
                    _tiles(report),
                    *_charts(report, types),
                    by_name(report, types),
                    parked(report),
                    lost(report),
                    shards(report),
                    runs(report),
                ),
                _footer(report),
                raw("script", script),
            ),
            lang="en",
        )
    )


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _types(report: Report) -> dict[str, str]:
    """The detail types that have a colour, the most frequent first, and its class."""
    frequent = report.all.published.most_common(MOST_TYPES)
    return {name: f"t{number}" for number, (name, _) in enumerate(frequent, 1)}


# At the top


def _header(report: Report) -> Element:
    if report.running:
        state = "a relay is running"
    elif report.heard_at is None:
        state = "no relay is running"
    else:
        state = f"no relay is running, the last checkpoint was saved {moment(report.heard_at)}"
    bus: list[Child] = [el("span", "→", class_="arrow"), report.bus] if report.bus else []
    return el(
        "header",
        el("h1", report.table, *bus),
        el(
            "p",
            f"Consumer {report.consumer}, ",
            el("time", moment(report.period.start), datetime=iso(report.period.start)),
            " to ",
            el("time", moment(report.at), datetime=iso(int(report.at))),
            f" UTC; {state}",
            class_="quiet",
        ),
    )


def _verdict(report: Report) -> Element:
    bad = any(one.in_period for one in report.lost) or report.all.parked or report.waiting
    said: list[Child] = [_ever(report)]
    if report.kept:
        said = []
        for part, alarming in report.said:
            said += [", "] if said else []
            said.append(el("span", part, class_="bad" if alarming else None))
    return el(
        "div",
        el(
            "p",
            el("span", class_=f"dot {'bad' if bad else 'ok'}", aria_hidden="true"),
            el("strong", *said),
            class_="verdict",
        ),
        _uptime(report) if report.kept else None,
    )


def _ever(report: Report) -> str:
    counts = ", ".join(f"{report.ever[fate]:,} {fate.value}" for fate in Fate)
    return f"{counts} in all; from the next run on it is kept when"


def _uptime(report: Report) -> Element:
    period = report.period
    size = period.together(_MOST_CELLS)
    cells = []
    troubled = 0
    for first in range(0, len(report.buckets), size):
        part = total(report.buckets[first : first + size])
        length = period.step * len(report.buckets[first : first + size])
        gaps = sum(part.start <= one.found_at < part.start + length for one in report.lost)
        trouble = bool(part.parked or gaps)
        troubled += trouble
        style = "trouble" if trouble else "done" if part.settled else "idle"
        cells.append((style, _tip(part, length, gaps)))
    each = scales.width(size * period.step)
    said = f"{len(cells)} bars, one for each {each}: " + (
        f"records were parked or lost in {troubled}" if troubled else "nothing was parked or lost"
    )
    return el(
        "div",
        strip("uptime", "What happened when", said, cells),
        el(
            "div",
            el("span", moment(period.start)),
            el("span", f"each bar: {each if each[0].isdigit() else f'1 {each}'}", class_="each"),
            el("span", moment(report.at)),
            class_="ends quiet",
        ),
        class_="uptime",
    )


def _tiles(report: Report) -> Element:
    found, period = report.all, report.period
    in_period = sum(one.in_period for one in report.lost)
    mean = found.lag_mean
    lag = "–" if mean is None else _seconds(mean)
    most = "" if found.lag_max is None else f"at most {whole(found.lag_max)}"
    oldest = min((one.oldest for one in report.reasons), default=None)
    hours = whole(report.at - period.start)
    tiles = [
        ("Published", f"{found.published.total():,}", f"events in {hours}", ""),
        ("Skipped", f"{found.skipped:,}", "changes without event", ""),
        (
            "Parked now",
            f"{report.waiting:,}",
            "dead letters now" if oldest is None else f"dead letters, since {moment(oldest)}",
            "bad" if report.waiting else "",
        ),
        (
            "Lost",
            f"{in_period:,}",
            f"{'gap' if in_period == 1 else 'gaps'} found"
            + ("" if in_period == len(report.lost) else f", {len(report.lost):,} ever"),
            "bad" if in_period else "",
        ),
        ("Lag, average", lag, most, ""),
        ("Cost", money(report.total.cost).removeprefix("about "), "about, for all runs", ""),
    ]
    return el(
        "dl",
        *(
            el(
                "div",
                el("dt", name),
                el("dd", value, class_=f"value {colour}".rstrip()),
                el("dd", more, class_="more"),
            )
            for name, value, more, colour in tiles
        ),
        class_="tiles",
    )


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 10 else whole(value)


# Charts


def _charts(report: Report, types: dict[str, str]) -> Iterator[Element]:
    if not report.kept:
        return
    yield _events(report, types)
    yield _lag(report)
    if report.all.skipped or report.all.parked:
        yield _held_back(report)
    yield numbers(report)


def _tips(report: Report) -> list[str]:
    return [_tip(one, report.period.step, 0) for one in report.buckets]


def _tip(bucket: Bucket, seconds: int, gaps: int) -> str:
    said = [scales.stretch(bucket.start, seconds)]
    if not bucket.settled and not gaps:
        return " · ".join([*said, "nothing was settled"])
    most = bucket.published.most_common(_MOST_TOLD)
    said += [f"{name}: {count:,}" for name, count in most]
    if left := bucket.published.total() - sum(count for _, count in most):
        said.append(f"other types: {left:,}")
    said += [f"skipped: {bucket.skipped:,}"] if bucket.skipped else []
    said += [f"parked: {bucket.parked:,}"] if bucket.parked else []
    said += [f"lost: {counted(gaps, 'gap')}"] if gaps else []
    if bucket.lag_mean is not None and bucket.lag_max is not None:
        said.append(f"lag: {_seconds(bucket.lag_mean)}, at most {whole(bucket.lag_max)}")
    return " · ".join(said)


def _series(values: Sequence[Counter[str]], types: dict[str, str]) -> list[Series]:
    found = [Series(name, style, [one[name] for one in values]) for name, style in types.items()]
    rest = [sum(count for name, count in one.items() if name not in types) for one in values]
    return [*found, *([Series("other types", "other", rest)] if any(rest) else [])]


def _events(report: Report, types: dict[str, str]) -> Element:
    published = [one.published for one in report.buckets]
    most = max(one.total() for one in published)
    each = scales.width(report.period.step)
    busiest = max(report.buckets, key=lambda one: one.published.total())
    said = "Nothing was published in this time."
    if most:
        said = (
            (
                f"{counted(report.all.published.total(), 'event')} of "
                f"{counted(len(report.all.published), 'type')}; at most {most:,} in one {each}, "
                f"from {moment(busiest.start)} on."
            )
            .replace("in one 1", "in 1")
            .replace("in one", "in" if each[0].isdigit() else "in a")
        )
    chart = Chart(
        "events",
        f"Events every {each}" if each[0].isdigit() else f"Events a {each}",
        said,
        report.period,
        scales.count_ticks(most, _TICKS),
        _tips(report),
    )
    return bars(chart, _series(published, types))


def _lag(report: Report) -> Element:
    known = [one for one in report.buckets if one.lag_max is not None]
    most = max((one.lag_max or 0 for one in known), default=0)
    said = "No lag is known of this time."
    if known:
        worst = max(known, key=lambda one: one.lag_max or 0)
        mean = report.all.lag_mean or 0.0
        said = (
            f"Seconds from a change to the checkpoint behind its event: {_seconds(mean)} on "
            f"average, at most {whole(most)}, from {moment(worst.start)} on."
        )
    chart = Chart(
        "lag",
        "Lag",
        said,
        report.period,
        scales.duration_ticks(most, _FEW_TICKS),
        _tips(report),
        small=True,
    )
    return lines(
        chart,
        [
            Series("highest", "t1", [one.lag_max for one in report.buckets]),
            Series("average", "t8", [one.lag_mean for one in report.buckets]),
        ],
    )


def _held_back(report: Report) -> Element:
    most = max(one.skipped + one.parked for one in report.buckets)
    said = f"{report.all.skipped:,} skipped by a rule, {report.all.parked:,} parked."
    chart = Chart(
        "held-back",
        "Skipped and parked",
        said,
        report.period,
        scales.count_ticks(most, _FEW_TICKS),
        _tips(report),
        small=True,
    )
    series = [
        Series("skipped", "skipped", [one.skipped for one in report.buckets]),
        Series("parked", "parked", [one.parked for one in report.buckets], least=8),
    ]
    return bars(chart, [one for one in series if one.total])


# At the end


def _footer(report: Report) -> Element:
    streams = counted(len(report.stream_arns), "stream")
    return el(
        "footer",
        el(
            "p",
            f"Made by ddbrelay {__version__} on ",
            el("time", f"{moment(report.at)} UTC", datetime=iso(int(report.at))),
            f", from the state file alone, over {streams} of the table. Times are UTC, those of "
            "the timeline are when a checkpoint passed the record. AWS rounds the time of a change "
            "down to the second, so a lag may be up to a second shorter. Events that were sent "
            "again by hand (dead-letters redrive, replay) are not in the charts.",
        ),
    )
