"""`ddbrelay listen`: what a consumer behind the bus receives."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.options import Command, Run, pass_run
from ddbrelay.cli.received import Bounds, LineScreen, Screen, Session, searched
from ddbrelay.cli.recording import Recording, record_option
from ddbrelay.cli.types import DURATION
from ddbrelay.cli.view.filters import Filter, view_options
from ddbrelay.text import counted, printable

if TYPE_CHECKING:
    from ddbrelay.cli.signals import Stop
    from ddbrelay.infra.listener import Listener, Received

_EXPECT_TIMEOUT = 60.0
_POLL = 1.0
"""Seconds of one long poll, and so the longest that a stop has to wait."""
_PAUSE = 0.1


@click.command("listen", cls=Command)
@click.option("--queue", metavar="NAME|URL", help="read this queue  [default: the table's]")
@click.option("--all", "everything", is_flag=True, help="every event of the bus, of any source")
@click.option("--max-events", type=click.IntRange(min=1), metavar="N", help="stop after N events")
@click.option("--timeout", type=DURATION, help="stop after 30s, 5m, …")
@click.option(
    "--expect",
    type=click.IntRange(min=1),
    metavar="N",
    help="stop after N distinct events; exit 6 when fewer came in time (60s unless --timeout)",
)
@click.option("--keep", is_flag=True, help="leave the messages in the queue")
@click.option(
    "--follow-claims",
    "buckets",
    multiple=True,
    metavar="BUCKET",
    help="read details of claim checks from this bucket too  [default: that of claim_check]",
)
@click.option(
    "--no-follow-claims", "unfollowed", is_flag=True, help="show claim checks as they are"
)
@view_options
@record_option
@pass_run
def command(
    run: Run,
    queue: str | None,
    everything: bool,
    max_events: int | None,
    timeout: float | None,
    expect: int | None,
    keep: bool,
    buckets: tuple[str, ...],
    unfollowed: bool,
    show: tuple[str, ...],
    grep: str | None,
    detail: bool,
    record: Path | None,
) -> None:
    """Print the events that reach the queue behind the bus.

    A message is deleted once it is printed. Where the table has no queue, a temporary rule and
    queue are made and removed again, however the command ends.

    An event too large for the bus carries a reference to its detail (tail --claim-check), and the
    detail is read from S3, where its bucket is that of claim_check or named by --follow-claims: the
    event could name any other. Where that fails, the event is shown as it came and counts as
    received.

    --show, --grep and --detail change what is shown, never what is received, counted or expected.

    \b
    Examples:
      ddbrelay listen
      ddbrelay listen --show 'User*' --detail
      ddbrelay listen --expect 37 --timeout 30s --output json
      ddbrelay listen --bus orders-bus --all --record orders.svg
    """
    import time

    from ddbrelay.cli.signals import stop_on_signals
    from ddbrelay.errors import ExpectationNotMet
    from ddbrelay.time_limit import start_within

    if queue is not None and everything:
        raise click.UsageError("--queue and --all exclude each other")
    if expect is not None and max_events is not None and max_events < expect:
        raise click.UsageError(f"--max-events {max_events} cannot meet --expect {expect}")
    if unfollowed and buckets:
        raise click.UsageError("--follow-claims and --no-follow-claims exclude each other")
    if timeout is None and expect is not None:
        timeout = _EXPECT_TIMEOUT
    chosen = Filter(show, grep, run.console.trouble)
    with stop_on_signals() as stop:
        listener = start_within(timeout, lambda: _listener(run, queue, everything, keep))
        with ExitStack() as stack:
            start_within(timeout, lambda: stack.enter_context(listener))
            started = time.monotonic()
            bounds = Bounds(expect, max_events, None if timeout is None else started + timeout)
            session = Session(
                listener.name, listener.temporary, bounds, chosen, detail, stop.is_set
            )
            header = _header(run, session, everything, named=queue is not None)
            screens = _screens(run, stack, session, header, record, stop)
            _receive(run, listener, session, screens, stop, None if unfollowed else buckets)
            seconds = time.monotonic() - started
        _sum_up(run, session, seconds)
    if record is not None:
        run.console.words(f"wrote {printable(str(record))}")
    distinct = session.tally.distinct
    if expect is not None and distinct < expect:
        raise ExpectationNotMet(
            f"{distinct} of {expect} expected events came in {seconds:.1f} s "
            f"from queue {listener.name}",
            "ddbrelay tail --forward publishes; the queue gets what the rule's source matches",
        )


def _receive(
    run: Run,
    listener: Listener,
    session: Session,
    screens: list[Screen],
    stop: Stop,
    named: Sequence[str] | None,
) -> None:
    """Show what comes, and delete it, until a bound or a signal.

    `named` are buckets that are followed beside the configured one; None follows no claim check.
    """
    import time

    from ddbrelay.infra.listener import followed_buckets

    bounds, tally = session.bounds, session.tally
    buckets = None if named is None else followed_buckets(run.settings.claim_check, named)
    while not stop.is_set():
        left = _POLL if bounds.deadline is None else bounds.deadline - time.monotonic()
        wanted = bounds.wanted(tally)
        if left <= 0 or wanted <= 0:
            return
        batch = listener.receive(min(_POLL, left), wanted)
        for received in batch:
            if buckets is not None:
                received = _followed(run, received, buckets, screens)
            repeated = tally.add(received)
            if session.chosen.shows(*searched(received)):
                for screen in screens:
                    screen.message(received, repeated)
        listener.done(batch)
        if not batch and left < _POLL:
            stop.wait(min(_PAUSE, left))


def _chosen(run: Run) -> bool:
    """Whether somebody asked for this output."""
    return run.config.origins["output"] != "default"


def _live(run: Run) -> bool:
    """Whether the view is drawn: not where a terminal cannot."""
    import os

    dumb = os.environ.get("TERM") in {"dumb", "", None}
    return run.console.live and not dumb


def _screens(
    run: Run,
    stack: ExitStack,
    session: Session,
    titles: tuple[str, str],
    record: Path | None,
    stop: Stop,
) -> list[Screen]:
    """What shows the messages, entered on the stack; a recording is written when that unwinds."""
    console, live = run.console, _live(run)
    if not (live or console.json):
        console.words(f"listening: {'   '.join(titles)}")
    lines = LineScreen(console, session.detail, rows=console.output == "rich" and _chosen(run))
    if not live and record is None:
        return [lines]
    from ddbrelay.cli.listening import LiveView, Recorder, Status
    from ddbrelay.cli.view.live import header_of, recorded

    header = header_of(*titles)
    status = Status(session)
    screens: list[Screen] = []
    if record is not None:
        recording = stack.enter_context(Recording(record, title="ddbrelay listen"))
        kept = header_of(titles[0], recorded(titles[1]))
        screens.append(stack.enter_context(Recorder(recording, kept, session, status)))
    if live:
        view = LiveView(header, session, status, gone=stop.set)
        return [*screens, stack.enter_context(view)]
    return [*screens, lines]


def _listener(run: Run, queue: str | None, everything: bool, keep: bool) -> Listener:
    from ddbrelay.infra.listener import Listener, find_queue, has_rule
    from ddbrelay.infra.names import queue_name, rule_name

    if queue is not None:
        return Listener(run.aws, queue=queue, keep=keep)
    settings = run.settings
    if not everything and not settings.source:
        run.require("table")
    if not everything and settings.table:
        url = find_queue(run.aws, queue_name(settings.table))
        if url is not None and settings.bus is not None:
            # The table's queue stands behind one bus; another one was perhaps asked for.
            url = url if has_rule(run.aws, settings.bus, rule_name(settings.table)) else None
        if url is not None:
            return Listener(run.aws, queue=url, keep=keep)
    return Listener(
        run.aws,
        bus=settings.bus_name or run.require("bus"),
        sources=None if everything else _sources(run),
        keep=keep,
    )


def _sources(run: Run) -> list[Any]:
    from ddbrelay.mappings import sources_of

    return [run.settings.event_source, *sources_of(run.config)]


def _header(run: Run, session: Session, everything: bool, *, named: bool) -> tuple[str, str]:
    """What is listened to, and more about it; `named` says that the queue was asked for by name."""
    queue, settings = printable(session.queue), run.settings
    if named:
        return f"queue {queue}", "Ctrl-C stops"
    title = f"{printable(str(settings.bus_name))} ─▶ {queue}"
    if not session.temporary:
        return title, f"table {settings.table}   Ctrl-C stops"
    return (
        title,
        f"{_of(run, everything)}   temporary rule and queue, removed at the end   Ctrl-C stops",
    )


def _of(run: Run, everything: bool) -> str:
    from ddbrelay.infra.plan import source_text

    return "all sources" if everything else f"source {', '.join(map(source_text, _sources(run)))}"


def _followed(
    run: Run, received: Received, buckets: Collection[str], screens: list[Screen]
) -> Received:
    from ddbrelay.infra.listener import followed

    received = followed(run.aws, received, buckets)
    if received.claim_error is not None:
        number = printable(str(received.event.get("id") or received.message_id))
        for screen in screens:
            screen.note(f"event {number} keeps its claim check: {received.claim_error}")
    return received


def _sum_up(run: Run, session: Session, seconds: float) -> None:
    console, tally = run.console, session.tally
    expect, hidden = session.bounds.expected, session.chosen.hidden
    if console.json:
        from ddbrelay.output.listen import ListenSummary

        console.object(
            ListenSummary(
                received=tally.events,
                distinct=tally.distinct,
                duplicates=tally.repeated,
                not_events=tally.others,
                claim_checks=tally.claims,
                claim_errors=tally.unfollowed,
                expected=expect,
                queue=session.queue,
                temporary=session.temporary,
                seconds=round(seconds, 3),
            )
        )
        return
    if _live(run) and tally.printed:
        from ddbrelay.cli.console import terminal
        from ddbrelay.cli.listening import summary_table
        from ddbrelay.cli.view.table import rows_shown

        screen = terminal()
        screen.print()
        screen.print(summary_table(tally, screen.width))
        screen.print()
        if tally.dropped:
            seen = tally.printed - hidden
            screen.print(rows_shown(seen - tally.dropped, seen))
    also = [f"{tally.repeated:,} repeated"] if tally.repeated else []
    if tally.others:
        one, many = "message that is no event", "messages that are no events"
        also.append(f"{tally.others:,} {one if tally.others == 1 else many}")
    if hidden:
        also.append(f"hidden by --show/--grep: {hidden:,}")
    if tally.unfollowed:
        also.append(f"{counted(tally.unfollowed, 'claim check')} not followed")
    console.words(
        f"{counted(tally.distinct, 'event')} received in {seconds:.1f} s"
        + (f" ({', '.join(also)})" if also else "")
    )
    if not tally.printed and expect is None:
        run.next_step("tail --forward")
