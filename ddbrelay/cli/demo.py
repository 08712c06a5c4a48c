"""`ddbrelay demo`: the whole job on an embedded AWS, from write to delivery, with the proof."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from ddbrelay.cli.options import Command, Run, pass_run

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.cli.console import Console
    from ddbrelay.flow.capture import Gap
    from ddbrelay.infra.plan import Wanted
    from ddbrelay.jobs import Screen
    from ddbrelay.output.run import DemoSummary
    from ddbrelay.relay import Outcome

TABLE = "users"
_UPDATES, _DELETES = 0.32, 0.16
_WATCHABLE_RATE = 20.0
"""Writes a second while there are few enough to watch them come."""
_WATCHABLE_COUNT = 200
_PATIENCE = 15.0
"""Seconds without any progress after which what has not come is missing."""
_DETAIL_TYPES = {"INSERT": "UserCreated", "MODIFY": "UserUpdated", "REMOVE": "UserDeleted"}


@click.command("demo", cls=Command)
@click.option("--count", type=click.IntRange(min=1), help="users to write  [default: 25]")
@pass_run
def command(run: Run, count: int | None) -> None:
    """Show the whole job, with no AWS account: write, relay, receive, compare.

    An embedded AWS starts in this process, and is gone afterwards. Fake users are written to a
    table, each change is relayed to a bus, and the events are received from the queue behind its
    rule. It ends with 0 only when every change came out exactly once, else with 6.

    \b
    Examples:
      ddbrelay demo
      ddbrelay demo --count 500 --output json
    """
    from ddbrelay.aws.session import Aws
    from ddbrelay.cli.console import unblocked
    from ddbrelay.cli.signals import run_until_signal
    from ddbrelay.config import Settings
    from ddbrelay.errors import ExpectationNotMet
    from ddbrelay.local import engine

    began = time.monotonic()
    started = engine.start("moto")
    try:
        aws = Aws(Settings(local=True, endpoint_url=engine.url(started.port), table=TABLE))
        with unblocked(None):
            account = run_until_signal(lambda stop: _show(run.console, aws, count or 25, stop))
    finally:
        started.stop()
    _report(run.console, account, time.monotonic() - began)
    if not account.complete:
        raise ExpectationNotMet(
            f"{account.missing:,} events are missing, {account.repeated:,} came more than once"
        )


@dataclass
class Account:
    """What was written, relayed and received, by detail type; ids are those of the bus."""

    written: Counter[str] = field(default_factory=Counter)
    relayed: dict[str, str] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    received_types: Counter[str] = field(default_factory=Counter)
    seeded: bool = False

    def write(self, event_name: str) -> None:
        self.written[_DETAIL_TYPES[event_name]] += 1

    @property
    def relayed_types(self) -> Counter[str]:
        return Counter(self.relayed.values())

    @property
    def missing(self) -> int:
        """Changes that were not relayed, and events that were not received."""
        unrelayed = max(0, self.written.total() - len(self.relayed))
        return unrelayed + len(self.relayed.keys() - self.received.keys())

    @property
    def repeated(self) -> int:
        return sum(times - 1 for times in self.received.values())

    @property
    def complete(self) -> bool:
        return (
            self.seeded
            and not self.missing
            and not self.repeated
            and self.written == self.relayed_types == self.received_types
        )

    @property
    def progress(self) -> tuple[int, int, int]:
        return self.written.total(), len(self.relayed), self.received.total()


class _Accountant:
    """A screen that also keeps the account."""

    def __init__(self, account: Account, screen: Screen) -> None:
        self._account, self._screen = account, screen
        self.follow, self.close = screen.follow, screen.close

    def outcome(self, outcome: Outcome) -> None:
        if outcome.event is not None and outcome.event_id is not None:
            self._account.relayed[outcome.event_id] = outcome.event.detail_type
        self._screen.outcome(outcome)

    def gap(self, gap: Gap) -> None:
        self._screen.gap(gap)

    def trouble(self, message: str) -> None:
        self._screen.trouble(message)


async def _show(console: Console, aws: Aws, count: int, stop: asyncio.Event) -> Account:
    from ddbrelay.cli.provision import Rows
    from ddbrelay.infra.plan import Wanted
    from ddbrelay.infra.provision import provision

    wanted = Wanted(table=TABLE, bus=f"{TABLE}-bus", source=f"ddbrelay.{TABLE}")
    rows = Rows(console)
    provisioned = await asyncio.to_thread(provision, aws, wanted)
    if not console.json:
        for step in provisioned.steps:
            rows.show(replace(step, arn=None, related=()))
        console.data("")
    account = Account()
    done = asyncio.Event()
    work = [
        asyncio.create_task(_relay(console, aws, wanted, account, done)),
        asyncio.create_task(_seed(aws, count, account, done)),
        asyncio.create_task(_receive(aws, wanted, account, done)),
        asyncio.create_task(_until_complete(account, stop, done)),
    ]
    try:
        await asyncio.gather(*work)
    finally:
        done.set()
        await asyncio.gather(*work, return_exceptions=True)
    if stop.is_set() and not account.complete:
        raise KeyboardInterrupt
    return account


async def _seed(aws: Aws, count: int, account: Account, done: asyncio.Event) -> None:
    from ddbrelay.infra.seed import seed

    halt = threading.Event()

    async def halt_when_done() -> None:
        await done.wait()
        halt.set()

    watcher = asyncio.create_task(halt_when_done())
    try:
        await asyncio.to_thread(
            seed,
            aws,
            TABLE,
            count=count,
            updates=_UPDATES,
            deletes=_DELETES,
            rate=_WATCHABLE_RATE if count <= _WATCHABLE_COUNT else None,
            on_write=account.write,
            stop=halt,
        )
    finally:
        watcher.cancel()
    account.seeded = not halt.is_set()


async def _relay(
    console: Console, aws: Aws, wanted: Wanted, account: Account, done: asyncio.Event
) -> None:
    from ddbrelay import jobs
    from ddbrelay.aws.table import stream_of
    from ddbrelay.cli.screens import LineScreen, LiveScreen
    from ddbrelay.flow.mapping import CrudMapper
    from ddbrelay.relay import Options
    from ddbrelay.stores.database import Database
    from ddbrelay.stores.sqlite import SqliteStore

    stream = await asyncio.to_thread(stream_of, aws, TABLE)
    database = Database(":memory:")
    screen: Screen = (
        LiveScreen(f"{TABLE} ─▶ {wanted.bus}", "embedded AWS on 127.0.0.1")
        if console.live
        else LineScreen(console, wanted.bus)
    )
    job = jobs.Job(
        aws,
        stream,
        CrudMapper(TABLE, source=wanted.source),
        wanted.bus,
        SqliteStore(database, "demo", stream.arn),
        Options(),
    )
    try:
        await jobs.relay(job, _Accountant(account, screen), done)
    finally:
        database.close()


async def _receive(aws: Aws, wanted: Wanted, account: Account, done: asyncio.Event) -> None:
    from ddbrelay.infra.listener import Listener
    from ddbrelay.infra.names import queue_name

    listener = Listener(aws, bus=wanted.bus, sources=[wanted.source], queue=queue_name(TABLE))
    with listener:
        while not done.is_set():
            messages = await asyncio.to_thread(listener.receive, 1.0)
            for message in messages:
                account.received[str(message.event.get("id"))] += 1
                account.received_types[str(message.event.get("detail-type"))] += 1
            if messages:
                await asyncio.to_thread(listener.done, messages)


async def _until_complete(account: Account, stop: asyncio.Event, done: asyncio.Event) -> None:
    last, since = account.progress, time.monotonic()
    while not (account.complete or stop.is_set() or done.is_set()):
        if account.progress != last:
            last, since = account.progress, time.monotonic()
        elif time.monotonic() - since > _PATIENCE:
            break
        await asyncio.sleep(0.05)
    done.set()


def _report(console: Console, account: Account, seconds: float) -> None:
    rows = [
        (name, account.written[name], account.relayed_types[name], account.received_types[name])
        for name in _DETAIL_TYPES.values()
    ]
    changes, events = account.written.total(), account.received.total()
    if console.json:
        console.object(_summary(account, rows, seconds))
        return
    console.data("")
    console.data(f"{'':<14}  {'written':>7}   {'relayed':>7}   {'received':>8}")
    for name, written, relayed, received in rows:
        equal = written == relayed == received
        mark = click.style("✔", fg="green") if equal else click.style("✖", fg="red")
        mark = mark if console.colour else click.unstyle(mark)
        console.data(f"{name:<14}  {written:>7,}   {relayed:>7,}   {received:>8,}  {mark}")
    if account.complete:
        console.words(
            f"{changes:,} changes, {events:,} events, none missing, in {seconds:.1f} s"
            " · no AWS account was touched"
        )
        console.next_step(f"ddbrelay local start, then ddbrelay --local provision --table {TABLE}")


def _summary(
    account: Account, rows: list[tuple[str, int, int, int]], seconds: float
) -> DemoSummary:
    from ddbrelay.output.run import DemoSummary, DemoType

    return DemoSummary(
        types=[DemoType(*row) for row in rows],
        written=account.written.total(),
        relayed=len(account.relayed),
        received=account.received.total(),
        missing=account.missing,
        repeated=account.repeated,
        complete=account.complete,
        seconds=round(seconds, 3),
    )
