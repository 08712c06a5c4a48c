"""`python -m tests.benchmarks`; the package says what it is for."""

from __future__ import annotations

import json
import shlex
from itertools import product
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from . import report
from .measure import VARIANTS, Bench, Cell, Result, RunFailed, bench

_STANDARD = [
    *[Cell(10, shards, 0.3) for shards in (1, 8, 100)],
    *[Cell(latency, 8, 0.3) for latency in (0, 50)],
    *[Cell(10, 8, items) for items in (3, 30)],
]
_FULL = [Cell(*one) for one in product((0, 10, 50), (1, 8, 100), (0.3, 3, 30))]


def _numbers(_: click.Context, option: click.Parameter, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(one) for one in text.split(",")]
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list of numbers such as 0,10,50") from None


def _variants(_: click.Context, option: click.Parameter, text: str) -> list[str]:
    chosen = text.split(",")
    for one in chosen:
        if one not in VARIANTS:
            raise click.BadParameter(f"{one!r} is none of {', '.join(VARIANTS)}")
    return [one for one in VARIANTS if one in chosen]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--latency", callback=_numbers, help="of every answer, in ms: 0,10,50")
@click.option("--shards", callback=_numbers, help="1,8,100")
@click.option("--items", callback=_numbers, help="size of an item in KB: 0.3,3,30")
@click.option("--variants", default="a,b,c,d,dj,e", callback=_variants, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="about so long for each run")
@click.option("--records", type=click.IntRange(min=10), help="as many in every run instead")
@click.option("--full", is_flag=True, help="the whole grid")
@click.option("--latency-test", is_flag=True, help="only the time from write to accepted event")
@click.option("--backlog", type=click.IntRange(min=10), help="only (d), this far behind")
@click.option("--tail-options", default="", help='for (d): "--max-in-flight 128"')
@click.option("--profile", type=click.Path(path_type=Path), help="cProfile of (d) to this file")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write this file")
def main(
    latency: list[float] | None,
    shards: list[float] | None,
    items: list[float] | None,
    variants: list[str],
    seconds: float,
    records: int | None,
    full: bool,
    latency_test: bool,
    backlog: int | None,
    tail_options: str,
    profile: Path | None,
    json_file: Path | None,
) -> None:
    """Measure ddbrelay beside what one would write by hand, on the same changes.

    "÷ b" is how many times as fast as (b). "CPU ms" is that of 1000 events, the CPU of a run
    without records taken off. Below a table stands what did not go as ddbrelay promises: events
    missing, repeated, swapped (behind a later one of their item), or together (two requests with
    events of one item under way at the same time). A client has one core, the stand-in another.
    """
    console = Console()
    report.warn_if_busy(console)
    found: dict[str, Any] = {"machine": report.machine()}
    chosen = _FULL if full else _STANDARD
    if latency or shards or items:
        chosen = [
            Cell(one, int(count), size)
            for one, count, size in product(latency or [10], shards or [8], items or [0.3])
        ]
    elif latency_test or backlog:
        chosen = [Cell(10, 8, 0.3)]
    if profile is not None and (len(chosen) > 1 or "d" not in variants or latency_test):
        raise click.UsageError("--profile needs one cell, and d among the variants")
    with bench() as running:
        running.tail_options = shlex.split(tail_options)
        if latency_test:
            found["latency_test"] = [_latency(running, cell, records, console) for cell in chosen]
        else:
            variants = ["d"] if backlog else variants
            found["cells"] = [
                _cell(running, cell, variants, backlog or records, seconds, profile, console)
                for cell in chosen
            ]
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n")
        console.print(f"written to {json_file}")
    if any(cell["failed"] for cell in found.get("cells", [])):
        raise click.exceptions.Exit(1)


def _cell(
    running: Bench,
    cell: Cell,
    variants: list[str],
    records: int | None,
    seconds: float,
    profile: Path | None,
    console: Console,
) -> dict[str, Any]:
    results: dict[str, Result] = {}
    failed: dict[str, str] = {}
    for variant in variants:
        # A profiled run is slower; with the others beside it one sees by how much.
        running.profile = profile if variant == "d" else None
        count = records or _records(variant, cell, seconds)
        try:
            with console.status(f"{cell}: {VARIANTS[variant]}"):
                results[variant] = running.run(variant, cell, count)
        except RunFailed as error:
            failed[variant] = str(error)
            console.print(f"{cell}: {variant} failed: {error}", markup=False)
    report.show(console, cell, results)
    return report.cell_object(cell, results) | {"failed": failed}


def _records(variant: str, cell: Cell, seconds: float) -> int:
    """About what a variant gets done in this time, so that all take about as long."""
    latency = cell.latency / 1000 + 0.001
    by_latency = {"a": 1, "b": 10, "c": 320}.get(variant, 640) / latency
    if variant in {"a", "b", "c"}:
        # What boto3 does for a record grows with the attributes of its item.
        by_cpu = {"a": 1500, "b": 6000, "c": 8000}[variant] / (1 + 2 * cell.items)
    else:
        by_cpu = 40_000 / (1 + cell.items) ** (0.5 if variant == "e" else 0.9)
    return int(seconds * min(by_latency, by_cpu))


def _latency(running: Bench, cell: Cell, records: int | None, console: Console) -> dict[str, Any]:
    count, every = records or 200, 0.2
    running.configure(cell, count, every=every)
    with console.status(f"{cell}: {count} records, one at a time"):
        # Longer than a shard's longest pause: a quiet second is no end here.
        running.process("d", cell, count, "--max-records", str(count), "--until-idle", "10s")
    told = report.percentiles(running.control("report")["delays"])
    console.print(
        f"{cell}, one write every {every:g} s\n"
        f" from write to accepted event: p50 {told.get('p50_ms', 0):.0f} ms, "
        f"p99 {told.get('p99_ms', 0):.0f} ms ({told['events']} of {count} events)"
    )
    return {"latency_ms": cell.latency, "shards": cell.shards, "items_kb": cell.items, **told}


if __name__ == "__main__":
    main()
