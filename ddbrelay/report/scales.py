"""Where the ticks of an axis stand, and what is written beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ddbrelay.report.period import Period
from ddbrelay.times import whole

Ticks = Sequence[tuple[float, str]]
"""The values of an axis from the bottom, and their texts."""
_DURATIONS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200)
_DAY = 86400
_TIMES = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 14400, 21600, 43200, _DAY)
_MOST_TIMES = 8.5
"""A narrow screen shows every other one."""


def count_ticks(most: float, ticks: int) -> Ticks:
    """From 0 to at least `most`, in at most so many steps of 1, 2 or 5 and zeros."""
    rough = max(most, 1) / ticks
    power = 10 ** math.floor(math.log10(rough))
    step = max(next(one for one in (1, 2, 5, 10) if one * power >= rough) * power, 1)
    return _ticks(most, step, lambda value: f"{value:,.0f}")


def duration_ticks(most: float, ticks: int) -> Ticks:
    """The same in seconds, written as durations."""
    rough = max(most, 1) / ticks
    days = math.ceil(rough / _DAY) * _DAY
    step = next((one for one in _DURATIONS if one >= rough), days)
    return _ticks(most, step, duration)


def _ticks(most: float, step: float, text: Callable[[float], str]) -> Ticks:
    steps = max(math.ceil(most / step), 1)
    return [(n * step, text(n * step)) for n in range(steps + 1)]


def duration(seconds: float) -> str:
    """`4 m`, `2 h 30 m`, `0`: without a unit of which there is nothing."""
    said = whole(seconds) if seconds else "0"
    return said.removesuffix(" 0 s").removesuffix(" 0 m")


def time_ticks(period: Period) -> list[tuple[float, str]]:
    """Round times of UTC within the period, each with its place from 0 to 1."""
    length = period.end - period.start
    days = math.ceil(length / _MOST_TIMES / _DAY) * _DAY
    step = next((one for one in _TIMES if length / one <= _MOST_TIMES), days)
    first = math.ceil(period.start / step) * step
    found = []
    for at in range(first, period.end + 1, step):
        midnight = at % _DAY == 0
        found.append(((at - period.start) / length, day(at) if midnight else clock(at)))
    return found


def clock(at: float) -> str:
    """`10:31`"""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def day(at: float) -> str:
    """`23 Nov`"""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment.day} {moment:%b}"


def moment(at: float) -> str:
    """`23 Nov 10:31`"""
    return f"{day(at)} {clock(at)}"


def stretch(start: float, seconds: int) -> str:
    """`23 Nov 10:30 to 10:40`, or two days where they differ."""
    end = start + seconds
    same = day(start) == day(end)
    return f"{moment(start)} to {clock(end) if same else moment(end)}"


def width(seconds: int) -> str:
    """`minute`, `10 minutes`, `2 hours`, `day`: of a bucket."""
    for unit, name in ((_DAY, "day"), (3600, "hour"), (60, "minute")):
        if seconds % unit == 0:
            return name if seconds == unit else f"{seconds // unit} {name}s"
    return f"{seconds} seconds"


def top(ticks: Ticks) -> float:
    """The end of an axis."""
    return ticks[-1][0]
