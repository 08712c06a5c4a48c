"""`python -m tests.benchmarks.view`: what the live view costs of the throughput.

Each round runs the same changes twice through `ddbrelay tail --forward` in a pseudo-terminal, once
with the live view and once with -q, in turn which comes first; the ratio is told for each round,
and the median of them, of the throughput and of the CPU that 1000 events take; then that of the
best runs, which is the one to look at where something else keeps the cores busy.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from . import report, work
from .measure import Bench, Cell, Result, RunFailed, _wait, bench

WAYS: dict[str, tuple[str, ...]] = {
    "off": ("-q",),
    "live": (),
    "live --grep": ("--grep", "nothing has this"),
    "live --detail": ("--detail",),
}
_LINES = 40


class Terminal:
    """A pseudo-terminal whose reader keeps up; `size` are the bytes that were written to it."""

    def __init__(self, columns: int) -> None:
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, columns, 0, 0))
        self.size = 0
        self.end = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        # Its other side has closed: an error to read on Linux, and the end.
        with suppress(OSError):
            while part := os.read(self._master, 1 << 16):
                self.size += len(part)
                self.end = (self.end + part)[-2000:]

    def close(self) -> None:
        """Read what is left."""
        os.close(self.slave)
        self._reader.join()
        os.close(self._master)


def run(
    bench: Bench, way: str, cell: Cell, records: int, columns: int, idle: float
) -> tuple[Result, int]:
    """Relay so many records in a terminal; the bytes it was written. Raises RunFailed.

    `idle` are the CPU seconds of a run without records.
    """
    bench.configure(cell, records)
    terminal = Terminal(columns)
    try:
        with tempfile.TemporaryDirectory(dir=bench.folder) as place:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "ddbrelay", "tail", "--forward", "--until-idle", "1s"),
                    *("--table", work.TABLE, "--bus", work.BUS, *WAYS[way]),
                ],
                cwd=place,
                env=_environment(bench, place),
                stdin=subprocess.DEVNULL,
                stdout=terminal.slave,
                stderr=terminal.slave,
                preexec_fn=bench._pin_client,
            )
            cpu, peak, code = _wait(process)
    finally:
        terminal.close()
    if code != 0:
        raise RunFailed(f"with the view {way} it ended with {code}:\n{terminal.end.decode()}")
    result = Result("d", records, cpu, idle, peak, bench.control("report"))
    if faults := report.wrong(result):
        raise RunFailed(f"with the view {way} not all came once and in order: {faults}")
    return result, terminal.size


def _environment(bench: Bench, place: str) -> dict[str, str]:
    kept = bench._environment(place)
    for name in ("COLUMNS", "LINES", "NO_COLOR", "CI"):
        kept.pop(name, None)
    return kept | {"TERM": "xterm-256color", "LANG": "C.UTF-8"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--records", type=click.IntRange(min=1000), default=100_000, show_default=True)
@click.option("--latency", default=10.0, show_default=True, help="of every answer, in ms")
@click.option("--columns", default=120, show_default=True, help="of the terminal")
@click.option("--all", "every", is_flag=True, help="also with --grep and with --detail")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="also write this file")
def main(
    rounds: int, records: int, latency: float, columns: int, every: bool, json_file: Path | None
) -> None:
    """What the live view costs of the throughput."""
    console = Console()
    report.warn_if_busy(console)
    cell = Cell(latency, 8, 0.3)
    ways = list(WAYS) if every else ["off", "live"]
    found: list[dict[str, tuple[Result, int]]] = []
    with bench() as running:
        # Whole pages, each of which is told of in one go.
        records -= records % running.configure(cell, 0)
        with console.status("runs without records"):
            idle = {one: run(running, one, cell, 0, columns, 0.0)[0].cpu for one in ways}
        for number in range(rounds):
            order = ways if number % 2 == 0 else ways[::-1]
            with console.status(f"round {number + 1} of {rounds}, {records:,} records each"):
                found.append(
                    {one: run(running, one, cell, records, columns, idle[one]) for one in order}
                )
    console.print(f"{cell}, {records:,} records, {columns} columns")
    for way in ways[1:]:
        _show(console, way, found)
    if json_file is not None:
        told = {"machine": report.machine(), "rounds": [_objects(one) for one in found]}
        json_file.write_text(json.dumps(told, indent=1) + "\n")


def _show(console: Console, way: str, found: Sequence[dict[str, tuple[Result, int]]]) -> None:
    table = Table(title=f"the view {way}", title_justify="left", title_style="bold", box=None)
    for name in ("", "events/s", "with it off", "ratio", "CPU ms", "with it off", "ratio", "KB"):
        table.add_column(name, justify="right")
    for number, one in enumerate(found, 1):
        (live, size), (off, _) = one[way], one["off"]
        table.add_row(
            str(number),
            f"{live.rate:,.0f}",
            f"{off.rate:,.0f}",
            f"{live.rate / off.rate:.3f}",
            f"{live.cpu_per_thousand:.2f}",
            f"{off.cpu_per_thousand:.2f}",
            f"{live.cpu_per_thousand / off.cpu_per_thousand:.3f}",
            f"{size / 1000:,.0f}",
        )

    def middle(of: Callable[[Result], float]) -> str:
        return f"{median(of(one[way][0]) / of(one['off'][0]) for one in found):.3f}"

    rate, cpu = middle(lambda one: one.rate), middle(lambda one: one.cpu_per_thousand)
    table.add_row("median", "", "", rate, "", "", cpu, "", style="bold")
    fast, least = _best(found, way), _best(found, "off")
    rate, cpu = f"{fast[0] / least[0]:.3f}", f"{fast[1] / least[1]:.3f}"
    table.add_row("best", "", "", rate, "", "", cpu, "", style="bold")
    console.print(table)


def _best(found: Sequence[dict[str, tuple[Result, int]]], way: str) -> tuple[float, float]:
    """The highest rate and the least CPU of all rounds: the rest of it is the machine's."""
    results = [one[way][0] for one in found]
    return max(one.rate for one in results), min(one.cpu_per_thousand for one in results)


def _objects(one: dict[str, tuple[Result, int]]) -> dict[str, Any]:
    return {
        way: {
            "events_per_second": result.rate,
            "cpu_seconds_per_1000": result.cpu_per_thousand / 1000,
            "peak_mb": result.peak,
            "terminal_bytes": size,
        }
        for way, (result, size) in one.items()
    }


if __name__ == "__main__":
    main()
