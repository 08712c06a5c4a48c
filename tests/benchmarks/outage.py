"""`python -m tests.benchmarks.outage`: what the relay's memory is while a bus takes nothing.

Large items wait on many shards, and every request fails until the bus is up again. Prints the peak
of the resident memory, and ends with 1 where it is over the bound or not everything arrived.
"""

from __future__ import annotations

import click

from .measure import Cell, RunFailed, bench

BOUND = 250.0
"""MB; an idle relay has about 100."""
FAULTS = ["503", "throttled", "reset"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--down", default=60.0, show_default=True, help="seconds for which the bus is down")
@click.option("--shards", default=300, show_default=True)
@click.option("--items", default=390.0, show_default=True, help="size of an item in KB")
@click.option("--records", default=600, show_default=True)
@click.option("--fault", type=click.Choice(FAULTS), multiple=True, help="all three by default")
def main(down: float, shards: int, items: float, records: int, fault: tuple[str, ...]) -> None:
    """Hold the bus down and measure the peak of the relay's memory."""
    failed = False
    cell = Cell(0, shards, items)
    with bench() as running:
        for name in fault or FAULTS:
            running.configure(cell, records, down=down, fault=name)
            try:
                _, peak = running.process("d", cell, records)
            except RunFailed as error:
                failed = True
                click.echo(f"{name}: {error}")
                continue
            books = running.control("report")
            over = peak > BOUND or books["accepted"] < records
            failed = failed or over
            click.echo(
                f"{name}: {peak:.0f} MB at most, bound {BOUND:.0f} MB; "
                f"{books['accepted']} of {records} events arrived, "
                f"{books['requests']['PutEvents']} requests"
            )
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
