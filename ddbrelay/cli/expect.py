"""`ddbrelay expect`: scenarios from write to delivery, judged behind the bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.options import Command, Run, pass_run, setting_options
from ddbrelay.cli.types import DURATION
from ddbrelay.text import counted, printable

if TYPE_CHECKING:
    from ddbrelay.aws.table import TableStream
    from ddbrelay.cli.expect_console import Steady
    from ddbrelay.cli.signals import Stop
    from ddbrelay.infra.probing import ProbedListener
    from ddbrelay.scenario.background import BackgroundRelay
    from ddbrelay.scenario.model import Scenario
    from ddbrelay.scenario.results import Outcome
    from ddbrelay.scenario.writing import Writer

_DELIVERY_TIMEOUT = 60.0


@click.command("expect", cls=Command)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--relay", is_flag=True, help="run a relay meanwhile; as `relay = true` in each file")
@click.option("--timeout", type=DURATION, help="instead of the timeout of the files")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="JUnit XML to write")
@click.option("--keep-going", is_flag=True, help="go on with the next file after one that is unmet")
@click.option(
    "--follow-claims",
    "buckets",
    multiple=True,
    metavar="BUCKET",
    help="read details of claim checks from this bucket too  [default: that of claim_check]",
)
@setting_options("entity", "source", "preset", "mapper")
@pass_run
def command(
    run: Run,
    files: tuple[Path, ...],
    relay: bool,
    timeout: float | None,
    junit: Path | None,
    keep_going: bool,
    buckets: tuple[str, ...],
) -> None:
    """Write items, and assert that their events come out behind the bus.

    Each FILE is a scenario: steps that write, patterns of events that must come of them within a
    time, and of events that must never come. It is judged at a temporary rule and queue, which are
    made before the first write, waited for until they deliver, and removed however it ends. All
    files are read first: a mistake in one ends with 2, and nothing is written.

    \b
      timeout = "30s"          # from the first write to the last expected event
      relay = true             # or --relay; else one must be running
      [[step]]                 # put, update (key, set, remove, add), delete, run
      put = { id = "u-{run}", email = "a@example.org" }
      [[step]]
      run = ["python", "write_user.py"]    # or a line for the shell
      wait = "200ms"
      [[expect]]               # an EventBridge pattern over the delivered event
      event = { detail-type = ["UserCreated"], detail = { id = ["u-{run}"] } }
      times = 1                # exactly; without it at least once
      [[never]]
      event = { detail-type = ["UserDeleted"] }
      for = "2s"               # after everything expected came

    {run} stands for an id that is new in every run, so that jobs on one table do not meet; commands
    have it as DDBRELAY_EXPECT_RUN. An event that is delivered again, or whose change is relayed
    again, counts once.

    The events of one item must be in the order of the file. The item is known by the table's key
    attributes in the detail, its keys or its data, or else by the one key that a step wrote which
    is found anywhere in the detail; where that is not sure, no order is asked for. The order is
    that of the sequence numbers, where this relay or the detail has them, else of the times, and
    within one second of arrival, but that only in the embedded AWS: EventBridge and SQS promise no
    order. order = "arrival" takes arrival everywhere, "any" asks for no order.

    A write that DynamoDB refuses fails its step, and ends with 5; --keep-going goes on with the
    next file. In GitHub Actions what is unmet, refused or mistaken is annotated at its line, and
    the job gets a summary.

    \b
    Examples:
      ddbrelay expect signup.toml --relay
      ddbrelay expect scenarios/*.toml --keep-going --junit report.xml
      ddbrelay expect signup.toml --timeout 2m --output json
    """
    from uuid import uuid4

    from ddbrelay.cli.console import silence
    from ddbrelay.cli.expect_console import Steady
    from ddbrelay.cli.expect_reports import Reports
    from ddbrelay.errors import ConfigError
    from ddbrelay.scenario.loading import NO_TIME

    run.console = console = Steady(run.console.output, run.console.verbosity)
    if timeout == 0:
        raise ConfigError(f"--timeout: {NO_TIME}", "--timeout 30s")
    if junit is not None:
        _check_writable(junit)
    began = time.time()
    reports = Reports(console, files, junit, began)
    try:
        reports.load([uuid4().hex[:8] for _ in files], relay=relay, timeout=timeout)
        with reports.written():
            _run_all(run, console, reports.outcomes, buckets, keep_going)
        with reports.judged():
            _sum_up(run, reports.outcomes, time.time() - began)
    finally:
        console.still()
        # What ends the run is said on stderr, which may be the same pipe.
        silence()


def _check_writable(junit: Path) -> None:
    from ddbrelay.cli.files import check_writable
    from ddbrelay.errors import ConfigError

    try:
        check_writable(junit)
    except ConfigError as error:
        raise ConfigError(f"--junit: {error.message}", error.hint) from None


def _run_all(
    run: Run,
    console: Steady,
    outcomes: Sequence[Outcome],
    buckets: Sequence[str],
    keep_going: bool,
) -> None:
    from ddbrelay.cli.expecting import Lines, Objects
    from ddbrelay.cli.signals import stop_on_signals
    from ddbrelay.infra.listener import followed_buckets
    from ddbrelay.scenario.running import Behind, Runner
    from ddbrelay.scenario.writing import environment

    settings = run.settings
    followed = followed_buckets(settings.claim_check, buckets)
    scenarios = [one.scenario for one in outcomes]
    with stop_on_signals() as stop, ExitStack() as stack:
        writer, relay = _prepared(run, scenarios)
        listeners = _listening(run, console, stack, stop, None if writer is None else writer.home)
        if stop.is_set():
            raise KeyboardInterrupt
        teller = Objects(console) if console.json else Lines(console)
        runner = Runner(
            Behind(run.aws, listeners, followed, console.words),
            writer,
            teller,
            stop,
            environ=lambda number: environment(settings, run.aws, number),
            relay=relay,
            arrival_counts=settings.local,
            width=teller.width,
        )
        for outcome in outcomes:
            runner.run(outcome)
            if stop.is_set():
                raise KeyboardInterrupt
            if outcome.met and not outcome.events and not outcome.scenario.relay:
                name = printable(outcome.scenario.name)
                console.words(f"{name}: no event came at all: is a relay running? --relay runs one")
            if not outcome.met and not keep_going:
                return


def _prepared(
    run: Run, scenarios: Sequence[Scenario]
) -> tuple[Writer | None, Callable[[Callable[[str], None]], BackgroundRelay]]:
    """What writes to the table, and what makes a relay; every mistake before the first write."""
    from ddbrelay.aws.table import describe_table, stream_of
    from ddbrelay.cli.in_force import check_table, tell_mapping
    from ddbrelay.mappings import check_redaction, mapper_of
    from ddbrelay.scenario.background import BackgroundRelay
    from ddbrelay.scenario.writing import Writer
    from ddbrelay.view_types import check_view_type

    relays = any(one.relay for one in scenarios)
    if relays or not run.settings.source or any(one.needs_table for one in scenarios):
        run.require("table")
    check_table(run, writes=relays)
    table, bus = run.settings.table, run.settings.bus_name or run.require("bus")
    writer: Writer | None = None
    if table is not None:
        writer = Writer(run.aws, table, describe_table(run.aws, table))
        for one in scenarios:
            writer.check(one)
    stream: TableStream | None = None
    if relays and table is not None:
        mapper_of(run.config, table)
        stream = stream_of(run.aws, table)
        check_redaction(run.config, stream.keys)
        run.check_buses(bus)
        tell_mapping(run)
        check_view_type(
            run.config, table, stream.view_type, run.console.trouble, strict=run.settings.strict
        )

    def relay(say: Callable[[str], None]) -> BackgroundRelay:
        assert stream is not None
        return BackgroundRelay(run.aws, run.config, stream, bus, say)

    return writer, relay


def _listening(
    run: Run, console: Steady, stack: ExitStack, stop: Stop, home: str | None
) -> list[ProbedListener]:
    """Listeners at the buses that the mapping publishes to, which deliver already.

    `home` is region and account as in an ARN: no rule can be made on a bus elsewhere.
    """
    from ddbrelay.infra.plan import ARN_PREFIX
    from ddbrelay.infra.probing import ProbedListener, wait_until_delivering
    from ddbrelay.mappings import buses_of, sources_of

    settings, words = run.settings, console.words
    sources: list[Any] = [settings.event_source, *sources_of(run.config)]
    if settings.mapper is not None or settings.preset == "outbox":
        # What a function or an item says of the source is known only when it has come.
        sources = [{"anything-but": {"prefix": "aws."}}]
    listeners = []
    for bus in (settings.bus_name or run.require("bus"), *buses_of(run.config)):
        if bus.startswith(ARN_PREFIX) and home is not None and home not in bus:
            words(f"not looked at: bus {bus}, which is in another account or region")
            continue
        listener = stack.enter_context(ProbedListener(run.aws, bus=bus, sources=sources))
        if not console.json:
            words(f"rule and queue {listener.name} on bus {bus} until the end")
        console.waiting("  … waiting until the rule delivers")
        wait_until_delivering(
            run.aws, listener, bus, timeout=_DELIVERY_TIMEOUT, stopped=stop.is_set
        )
        listeners.append(listener)
    return listeners


def _sum_up(run: Run, outcomes: Sequence[Outcome], seconds: float) -> None:
    from ddbrelay.errors import AwsRefused, ExpectationNotMet
    from ddbrelay.output.expect import ExpectSummary

    unmet = [one for one in outcomes if one.begun and not one.met]
    skipped = [one for one in outcomes if not one.begun]
    if run.console.json:
        verdicts = [verdict for one in outcomes for verdict in one.verdicts]
        run.console.object(
            ExpectSummary(
                scenarios=len(outcomes),
                met=len(outcomes) - len(unmet) - len(skipped),
                unmet=len(unmet),
                skipped=len(skipped),
                expectations=len(verdicts),
                failures=sum(one.reason is not None for one in verdicts),
                events=sum(one.events for one in outcomes),
                repeats=sum(one.repeats for one in outcomes),
                seconds=round(seconds, 3),
            )
        )
    if not unmet:
        return
    said = [f"{printable(one.scenario.name)}: {_first_failure(one)}" for one in unmet]
    steps = [one.failed_step for one in unmet if one.failed_step is not None]
    refused = [one for one in steps if one.fault == "refused"]
    also = f"; {counted(len(skipped), 'scenario')} not run (--keep-going)" if skipped else ""
    if refused:
        raise AwsRefused("; ".join(said) + also, refused[0].hint or "correct what the step writes")
    nothing = any(not (one.events or one.scenario.relay or one.failed_step) for one in unmet)
    raise ExpectationNotMet(
        "; ".join(said) + also,
        "no event came at all: is a relay running? --relay runs one meanwhile" if nothing else None,
    )


def _first_failure(outcome: Outcome) -> str:
    if (step := outcome.failed_step) is not None:
        what = f"{step.step.title} {step.error}"
        if step.fault == "refused":
            what = f"{step.step.spot}: {step.step.title}: {step.error}"
        return printable(what)
    first, *others = outcome.failures
    more = f", and {len(others)} more" if others else ""
    return f"{printable(first.about.title)} {printable(first.what)}{more}"
