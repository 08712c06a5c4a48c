"""Charts as SVG that stretches to any width; what is written beside them is HTML and does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from ddbrelay.report.markup import el
from ddbrelay.report.period import Period
from ddbrelay.report.scales import Ticks, time_ticks, top

_HEIGHT = 100.0
_GAP = 0.12
"""Between two bars, as a part of a bucket."""


@dataclass(frozen=True)
class Series:
    """A value for each bucket; None where there is none. `style` is its class.

    A bar that is there at all is at least `least` of a hundred high, so that it is seen.
    """

    name: str
    style: str
    values: Sequence[float | None]
    least: float = 0.0

    @property
    def total(self) -> float:
        """All values together."""
        return sum(value or 0 for value in self.values)


@dataclass(frozen=True)
class Chart:
    """What every chart has: `tips` is what is said of each bucket, `summary` of the whole."""

    id: str
    title: str
    summary: str
    period: Period
    ticks: Ticks
    tips: Sequence[str]
    small: bool = False

    def y(self, value: float) -> float:
        """Where a value stands, from the top."""
        return _HEIGHT * (1 - value / top(self.ticks))


def bars(chart: Chart, series: Sequence[Series]) -> Element:
    """Bars of a bucket each, the first series at the bottom."""
    floors = [_HEIGHT] * chart.period.buckets
    paths = []
    for one in series:
        parts = []
        for place, value in enumerate(one.values):
            if value:
                low = floors[place]
                high = low - max(_HEIGHT - chart.y(value), one.least)
                parts.append(f"M{place + _GAP / 2:g} {low:.2f}V{high:.2f}h{1 - _GAP:g}V{low:.2f}z")
                floors[place] = high
        if parts:
            paths.append(el("path", class_=f"fill {one.style}", d="".join(parts)))
    return _figure(chart, paths, legend(chart, series))


def lines(chart: Chart, series: Sequence[Series]) -> Element:
    """A step for each bucket that has a value; the first series stands on a filled ground."""
    paths = []
    for number, one in enumerate(series):
        if not number:
            paths.append(el("path", class_=f"ground {one.style}", d=_steps(chart, one, True)))
        paths.append(el("path", class_=f"line {one.style}", d=_steps(chart, one, False)))
    return _figure(chart, paths, legend(chart, series, counts=False))


def _steps(chart: Chart, series: Series, closed: bool) -> str:
    parts: list[str] = []
    under_way = False
    for place, value in enumerate(series.values):
        if value is None:
            if under_way and closed:
                parts.append(f"V{_HEIGHT:g}z")
            under_way = False
            continue
        y = f"{chart.y(value):.2f}"
        if under_way:
            parts.append(f"V{y}")
        else:
            parts.append(f"M{place} {_HEIGHT:g}V{y}" if closed else f"M{place} {y}")
        parts.append(f"H{place + 1}")
        under_way = True
    if under_way and closed:
        parts.append(f"V{_HEIGHT:g}z")
    return "".join(parts)


def strip(id: str, title: str, summary: str, cells: Sequence[tuple[str, str]]) -> Element:
    """A row of cells, each of a style and with what is said of it."""
    made = []
    for place, (style, tip) in enumerate(cells):
        # What happened is told by the height too, not by colour alone.
        top_of_cell = 70 if style == "idle" else 0
        box = {"x": place + 0.1, "y": top_of_cell, "width": 0.8, "height": 100 - top_of_cell}
        made.append(el("rect", el("title", tip), class_=f"cell hit {style}", **box))
    return _svg(id, title, summary, len(cells), made, class_="strip")


def legend(chart: Chart, series: Sequence[Series], *, counts: bool = True) -> Element | None:
    """The names of the series beside their colours."""
    if not series:
        return None
    return el(
        "ul",
        *(
            el(
                "li",
                el("span", class_=f"swatch {one.style}"),
                el("span", one.name, class_="name"),
                el("span", f"{one.total:,.0f}", class_="count") if counts else None,
                data_series=one.style,
            )
            for one in series
        ),
        id=f"{chart.id}-legend",
        class_="legend",
    )


def _figure(chart: Chart, marks: Sequence[Element], key: Element | None) -> Element:
    count = chart.period.buckets
    grid = "".join(f"M0 {chart.y(value):.2f}H{count}" for value, _ in chart.ticks[1:])
    hits = [
        el("rect", el("title", tip), class_="hit", x=n, y=0, width=1, height=_HEIGHT)
        for n, tip in enumerate(chart.tips)
    ]
    plot = _svg(
        chart.id,
        chart.title,
        chart.summary,
        count,
        [el("path", class_="grid", d=grid), *marks, *hits],
    )
    times = time_ticks(chart.period)
    return el(
        "figure",
        el("figcaption", el("h2", chart.title), el("p", chart.summary)),
        el(
            "div",
            el(
                "div",
                *(
                    el("span", text, style=f"bottom:{value / top(chart.ticks):.2%}")
                    for value, text in chart.ticks
                ),
                class_="y",
                aria_hidden="true",
            ),
            el("div", plot, class_="area"),
            el(
                "div",
                *(_time(place, text, number) for number, (place, text) in enumerate(times)),
                class_="x",
                aria_hidden="true",
            ),
            class_="plot small" if chart.small else "plot",
        ),
        key,
        class_="chart",
    )


def _time(place: float, text: str, number: int) -> Element:
    edge = " first" if place < 0.04 else " last" if place > 0.96 else ""
    return el(
        "span", text, class_=f"{'odd' if number % 2 else 'even'}{edge}", style=f"left:{place:.2%}"
    )


def _svg(
    id: str, title: str, summary: str, count: int, marks: Sequence[Element], class_: str = "marks"
) -> Element:
    return el(
        "svg",
        el("title", title, id=f"{id}-title"),
        el("desc", summary, id=f"{id}-desc"),
        *marks,
        id=id,
        class_=class_,
        role="img",
        aria_labelledby=f"{id}-title {id}-desc",
        viewBox=f"0 0 {count} {_HEIGHT:g}",
        preserveAspectRatio="none",
    )
