"""`ddbrelay listen`: what a consumer behind the bus receives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.options import Command, Run, pass_run
from ddbrelay.cli.text import counted, one_word, printable
from ddbrelay.cli.types import DURATION
from ddbrelay.flow.calendar import iso

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.infra.listener import Listener, Received

_EXPECT_TIMEOUT = 60.0
_POLL = 1.0
"""Seconds of one long poll, and so the longest that a stop has to wait."""
_PAUSE = 0.1
_REMEMBERED = 100_000


@dataclass
class _Tally:
    """What came so far; the ids of the last 100,000 events tell a repeat from a new one."""

    events: int = 0
    distinct: int = 0
    others: int = 0
    claims: int = 0
    unfollowed: int = 0
    _ids: dict[str, None] = field(default_factory=dict)

    @property
    def printed(self) -> int:
        return self.events + self.others

    def add(self, received: Received) -> bool:
        """Count it; True for an event that came before."""
        if not received.event:
            self.others += 1
            return False
        self.events += 1
        self.claims += received.claim is not None
        self.unfollowed += received.claim_error is not None
        number = str(received.event.get("id") or received.message_id)
        if number in self._ids:
            return True
        self.distinct += 1
        self._ids[number] = None
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return False


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
    "--follow-claims/--no-follow-claims",
    "follow",
    default=None,
    help="show the detail that a claim check stands for, from S3  [default: follow]",
)
@pass_run
def command(
    run: Run,
    queue: str | None,
    everything: bool,
    max_events: int | None,
    timeout: float | None,
    expect: int | None,
    keep: bool,
    follow: bool | None,
) -> None:
    """Print the events that reach the queue behind the bus.

    A message is deleted once it is printed. Where the table has no queue, a temporary rule and
    queue are made and removed again, however the command ends.

    An event too large for the bus carries a reference to its detail (tail --claim-check), and the
    detail is read from S3. Where that fails, the event is shown as it came and counts as received.

    \b
    Examples:
      ddbrelay listen
      ddbrelay listen --expect 37 --timeout 30s --output json
      ddbrelay listen --bus orders-bus --all
    """
    import time

    from ddbrelay.cli.signals import stop_on_signals
    from ddbrelay.errors import ExpectationNotMet

    if queue is not None and everything:
        raise click.UsageError("--queue and --all exclude each other")
    if expect is not None and max_events is not None and max_events < expect:
        raise click.UsageError(f"--max-events {max_events} cannot meet --expect {expect}")
    if timeout is None and expect is not None:
        timeout = _EXPECT_TIMEOUT
    tally = _Tally()
    with stop_on_signals() as stop:
        listener = _listener(run, queue, everything, keep)
        with listener:
            _say_where(run, listener, everything)
            started = time.monotonic()
            while not stop.is_set():
                left = _POLL if timeout is None else timeout - (time.monotonic() - started)
                wanted = _wanted(tally, max_events, expect)
                if left <= 0 or wanted <= 0:
                    break
                batch = listener.receive(min(_POLL, left), wanted)
                for received in batch:
                    if follow is not False:
                        received = _followed(run, received)
                    _show(run.console, received, tally.add(received))
                listener.done(batch)
                if not batch and left < _POLL:
                    stop.wait(min(_PAUSE, left))
            seconds = time.monotonic() - started
        _sum_up(run, tally, expect, listener, seconds)
    if expect is not None and tally.distinct < expect:
        raise ExpectationNotMet(
            f"{tally.distinct} of {expect} expected events came in {seconds:.1f} s "
            f"from queue {listener.name}",
            "ddbrelay tail --forward publishes; the queue gets what the rule's source matches",
        )


def _wanted(tally: _Tally, max_events: int | None, expect: int | None) -> int:
    # No more is taken from the queue than is asked for: the rest stays for others.
    limits = [10]
    if max_events is not None:
        limits.append(max_events - tally.printed)
    if expect is not None:
        limits.append(expect - tally.distinct)
    return min(limits)


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


def _say_where(run: Run, listener: Listener, everything: bool) -> None:
    if run.console.json:
        return
    from ddbrelay.infra.plan import source_text

    what = f"queue {listener.name}"
    if listener.temporary:
        of = "all sources" if everything else f"source {', '.join(map(source_text, _sources(run)))}"
        what = (
            f"temporary rule and queue {listener.name} on bus {run.settings.bus_name} ({of}), "
            "removed at the end"
        )
    run.console.words(f"listening: {what} · Ctrl-C stops")


def _followed(run: Run, received: Received) -> Received:
    from ddbrelay.infra.listener import followed

    received = followed(run.aws, received)
    if received.claim_error is not None:
        number = printable(str(received.event.get("id") or received.message_id))
        run.console.words(f"event {number} keeps its claim check: {received.claim_error}")
    return received


def _show(console: Console, received: Received, repeated: bool) -> None:
    if console.json:
        console.object(_object(received, repeated))
        return
    if console.output == "rich":
        console.data(_rich(received, repeated))
        return
    if not received.event:
        import json

        console.data(f"{iso(received.received_at)} not-an-event {json.dumps(received.body)}")
        return
    kind, source, key, number = _columns(received.event)
    time = str(received.event.get("time") or iso(received.received_at))
    words = [time, kind, source, key, number, *(["repeated"] if repeated else [])]
    console.data(" ".join(one_word(word) for word in words))


def _object(received: Received, repeated: bool) -> dict[str, Any]:
    import msgspec

    moment = iso(received.received_at)
    if not received.event:
        return {"type": "message", "body": received.body, "receivedAt": moment}
    # The text as it came keeps every digit; a line break is only ever between its tokens.
    text = received.body.replace("\r", " ").replace("\n", " ")
    shown: dict[str, Any] = {"type": "event", "event": msgspec.Raw(text.encode())}
    if received.claim is not None:
        shown["claimCheck"] = received.claim.as_object()
        if received.claim_error is not None:
            shown["claimError"] = received.claim_error
    return shown | {"receivedAt": moment, "repeated": repeated}


def _rich(received: Received, repeated: bool) -> str:
    import shutil
    from datetime import datetime

    from rich.console import Console as Screen
    from rich.text import Text

    screen = Screen(highlight=False, soft_wrap=True)
    try:
        moment = datetime.fromisoformat(str(received.event.get("time"))).astimezone()
    except ValueError:
        moment = datetime.fromtimestamp(received.received_at)
    clock = moment.strftime("%H:%M:%S")
    if not received.event:
        line = Text.assemble((clock, "dim"), ("  not an event  ", "red"), printable(received.body))
    else:
        kind, source, key, number = (printable(column) for column in _columns(received.event))
        spare = shutil.get_terminal_size().columns - 80
        wide = max(0, min(spare // 2, 20))
        line = Text(clock, "dim")
        columns = [(kind, 20 + wide, ""), (key, 18, ""), (source, 18 + wide, "dim")]
        if spare >= 0:
            columns.append(("repeated" if repeated else number[:8], 8, "dim"))
        for text, width, style in columns:
            cell = Text(text, "yellow" if repeated and text == "repeated" else style)
            cell.truncate(width, overflow="ellipsis", pad=True)
            line.append("  ").append_text(cell)
    with screen.capture() as captured:
        screen.print(line)
    return captured.get().rstrip()


def _columns(event: dict[str, Any]) -> tuple[str, str, str, str]:
    kind, source, number = (str(event.get(k) or "-") for k in ("detail-type", "source", "id"))
    return kind, source, _key(event.get("detail")), number


def _key(detail: Any) -> str:
    """What identifies the item, as far as the detail shows it: `id=…`, or a dash."""
    if not isinstance(detail, dict):
        return "-"
    for inner in (detail, detail.get("keys"), detail.get("data")):
        if isinstance(inner, dict):
            for name in ("id", "pk", "PK"):
                if isinstance(inner.get(name), str | int):
                    return f"{name}={inner[name]}"
    return "-"


def _sum_up(
    run: Run, tally: _Tally, expect: int | None, listener: Listener, seconds: float
) -> None:
    repeated = tally.events - tally.distinct
    console = run.console
    if console.json:
        console.object(
            {
                "type": "summary",
                "received": tally.events,
                "distinct": tally.distinct,
                "duplicates": repeated,
                "notEvents": tally.others,
                "claimChecks": tally.claims,
                "claimErrors": tally.unfollowed,
                "expected": expect,
                "queue": listener.name,
                "temporary": listener.temporary,
                "seconds": round(seconds, 3),
            }
        )
        return
    also = [f"{repeated:,} repeated"] if repeated else []
    also += [f"{tally.others:,} messages that are no events"] if tally.others else []
    if tally.unfollowed:
        also.append(f"{counted(tally.unfollowed, 'claim check')} not followed")
    console.words(
        f"{counted(tally.distinct, 'event')} received in {seconds:.1f} s"
        + (f" ({', '.join(also)})" if also else "")
    )
    if not tally.printed and expect is None:
        run.next_step("tail --forward")
