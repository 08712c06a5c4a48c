"""What is wrong, in words: each kind of verdict that is not met, with the events that prove it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddbrelay.scenario.judging import Disorder, Judge
from ddbrelay.scenario.matching import mismatch, summary
from ddbrelay.scenario.model import Expect, Never, in_seconds
from ddbrelay.scenario.ordering import Arrival
from ddbrelay.scenario.results import Verdict
from ddbrelay.text import counted, cut, printable

_SHOWN = 5
"""Events that nothing asked for, of which so many are shown."""


def missing(
    judge: Judge, expect: Expect, came: int, *, at: float, timeout: float, width: int
) -> Verdict:
    """It did not come, or not often enough, in `timeout` seconds; and what came instead."""
    unasked = [one.event for one in judge.unasked]
    what = f"did not come within {in_seconds(timeout)} s"
    if expect.needed > 1:
        what = f"came {came} of {expect.needed} times within {in_seconds(timeout)} s"
    lines = [*_late(judge, expect, width), *_counted_elsewhere(judge, expect, width)]
    how_many = counted(len(unasked), "event")
    if not lines:
        # With a part of them there, only what nothing asked for is news.
        others = unasked if came else _unclaimed_last(judge)
        lines = mismatch(expect.pattern.source, others, width=width, more=came > 0)
        how_many = f"{len(unasked):,} of them"
    rest = [f"  {summary(one, width - 2)}" for one in unasked[-_SHOWN:]]
    if not set(rest) <= set(lines):
        last = ", the last" if len(unasked) > _SHOWN else ""
        lines += [f"nothing asked for {how_many}{last}:", *rest]
    return Verdict(expect, at, came, "missing", what, lines, unasked[-_SHOWN:])


def _unclaimed_last(judge: Judge) -> list[Mapping[str, Any]]:
    """All events, so that of two equally near ones the one is shown that nothing asked for."""
    unclaimed = {one.place for one in judge.unasked}
    return [
        one.event for one in sorted(judge.arrivals, key=lambda arrival: arrival.place in unclaimed)
    ]


def _late(judge: Judge, expect: Expect, width: int) -> list[str]:
    lines: list[str] = []
    for one in judge.late(expect)[:_SHOWN]:
        lines.append(f"one came after {in_seconds(one.at)} s, which is too late:")
        lines.append(f"  {summary(one.event, width - 2)}")
    return lines


def _counted_elsewhere(judge: Judge, expect: Expect, width: int) -> list[str]:
    lines: list[str] = []
    for other, arrivals in judge.elsewhere(expect):
        how_many = "1 event matches" if len(arrivals) == 1 else f"{len(arrivals):,} events match"
        verb = "was" if len(arrivals) == 1 else "were"
        lines.append(cut(printable(f'{how_many}, but {verb} counted for "{other.name}":'), width))
        lines += [f"  {summary(one.event, width - 2)}" for one in arrivals[-_SHOWN:]]
    return lines


def too_many(expect: Expect, several: Sequence[Arrival], *, at: float, width: int) -> Verdict:
    """It came more often than it may; `several` are those too many."""
    came = expect.needed + len(several)
    events = [one.event for one in several[:_SHOWN]]
    what = f"came {came} times, expected {expect.needed}"
    return Verdict(expect, at, came, "times", what, [summary(one, width) for one in events], events)


def wrong_order(disorder: Disorder, *, at: float, width: int) -> Verdict:
    """Two events of one item came the wrong way round."""
    key = " ".join(f"{name}={value}" for name, value in disorder.first.key or ())
    pair = (disorder.first, disorder.then)
    return Verdict(
        disorder.wanted_first,
        at,
        1,
        "order",
        f'must come before "{disorder.wanted_then.name}", but came after it',
        [
            f"both are of {key}; the order is that of their {disorder.evidence}:",
            *(
                f"{word:<6}  {summary(one.event, width - 8)}"
                for word, one in zip(("first", "then"), pair, strict=True)
            ),
        ],
        [one.event for one in pair],
    )


def forbidden(never: Never, arrival: Arrival, *, width: int) -> Verdict:
    """What must never come, came."""
    return Verdict(
        never,
        arrival.at,
        1,
        "forbidden",
        f"came after {arrival.at:.1f} s",
        [summary(arrival.event, width)],
        (arrival.event,),
    )
