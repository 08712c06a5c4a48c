"""What was measured, as tables and as JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from statistics import quantiles
from typing import Any

from rich.console import Console
from rich.table import Table

from .measure import VARIANTS, Cell, Result

_OTHERS = ("b", "c", "e")
_BUSY = 0.85


def ratios(results: Mapping[str, Result], variant: str) -> dict[str, float]:
    """How many times as fast as (b), (c) and (e), those that were measured."""
    rate = results[variant].rate
    return {
        other: rate / results[other].rate
        for other in _OTHERS
        if other in results and results[other].rate
    }


def wrong(result: Result) -> dict[str, int]:
    """What did not arrive exactly once and in the order of its item, by kind."""
    books = result.books
    found = {
        "missing": result.records - (books["accepted"] - books["repeated"]),
        **{name: books[name] for name in ("repeated", "swapped", "together", "unstamped")},
    }
    return {name: count for name, count in found.items() if count}


def show(console: Console, cell: Cell, results: Mapping[str, Result]) -> None:
    """One cell of the grid, in 80 columns."""
    made = Table(title=str(cell), title_justify="left", title_style="bold", box=None)
    made.add_column("")
    made.add_column("")
    for name in ("events/s", *(f"÷ {other}" for other in _OTHERS), "CPU ms", "peak MB"):
        made.add_column(name, justify="right", no_wrap=True)
    for variant, result in results.items():
        against = ratios(results, variant)
        made.add_row(
            variant,
            VARIANTS[variant],
            f"{result.rate:,.0f}",
            *(f"{against[other]:.2f}" if other in against else "-" for other in _OTHERS),
            f"{result.cpu_per_thousand:.1f}",
            f"{result.peak:.0f}",
        )
    console.print(made)
    for variant, result in results.items():
        if faults := wrong(result):
            told = ", ".join(f"{name} {count:,}" for name, count in faults.items())
            console.print(f" {variant}: {told}")
        if result.standin_load > _BUSY:
            console.print(f" {variant}: the stand-in was busy, {result.standin_load:.0%} of a core")
    console.print()


def cell_object(cell: Cell, results: Mapping[str, Result]) -> dict[str, Any]:
    """One cell of the grid for the JSON file."""
    return {
        "latency_ms": cell.latency,
        "shards": cell.shards,
        "items_kb": cell.items,
        "variants": {
            variant: {
                "records": result.records,
                "accepted": result.books["accepted"],
                "seconds": result.seconds,
                "events_per_second": result.rate,
                "ratio": ratios(results, variant),
                "cpu_seconds": result.cpu,
                "cpu_seconds_of_an_empty_run": result.idle_cpu,
                "cpu_seconds_per_1000": result.cpu_per_thousand / 1000,
                "peak_mb": result.peak,
                "wrong": wrong(result),
                "requests": result.books["requests"],
                "standin_load": result.standin_load,
                "most_in_flight": result.books["most_in_flight"],
            }
            for variant, result in results.items()
        },
    }


def percentiles(delays: Sequence[float]) -> dict[str, float]:
    """In milliseconds."""
    if len(delays) < 2:
        return {"events": len(delays)}
    cuts = quantiles(delays, n=100, method="inclusive")
    return {"p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000, "events": len(delays)}


def machine() -> dict[str, Any]:
    """Where this was measured, and how busy it was before."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
    }


def warn_if_busy(console: Console) -> None:
    """Say so when something else keeps a core busy."""
    load = os.getloadavg()[0]
    if load > 0.5:
        console.print(f"load {load:.1f}: something else is running, the times will be off")
