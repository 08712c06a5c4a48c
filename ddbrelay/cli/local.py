"""`ddbrelay local`: the embedded AWS, in the foreground or in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ddbrelay.cli.groups import Group
from ddbrelay.cli.options import Run, pass_run
from ddbrelay.local.engine import ENGINES
from ddbrelay.times import iso

if TYPE_CHECKING:
    from ddbrelay.local.daemon import Running

NOT_RUNNING = 5
"""Exit code of `status` when none runs: that of every --local command then."""

_NEXT = "ddbrelay --local provision --table users"

_OPEN_TO_PAGES = "ministack answers any web page that is open here; moto refuses all of them"

_engine = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help=f"the emulator; any web page can use ministack  [default: {ENGINES[0]}]",
)
_port = click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N", help="port of 127.0.0.1  [default: free]"
)


@click.group("local", cls=Group)
def command() -> None:
    """Run an embedded AWS: no account, no Docker, 127.0.0.1 only.

    DynamoDB with streams, EventBridge and SQS. Every command with --local talks to it. It keeps
    nothing: a new one starts empty.

    \b
    Examples:
      ddbrelay local start
      ddbrelay --local provision --table users
      ddbrelay local stop
    """


@command.command("run")
@_engine
@_port
@pass_run
def run_(run: Run, engine: str | None, port: int | None) -> None:
    """Run it in the foreground, until Ctrl-C or SIGTERM.

    \b
    Examples:
      ddbrelay local run
      ddbrelay local run --engine ministack --port 4566
    """
    from ddbrelay.cli.signals import stop_on_signals
    from ddbrelay.local import daemon
    from ddbrelay.output.local import Engine

    console = run.console

    def ready(found: Running) -> None:
        if console.json:
            console.object(Engine.of(found))
        else:
            console.words(f"{found.engine} at {found.url} · next: {_NEXT}")
        _warn_of_pages(run, found)

    with stop_on_signals() as stop:
        daemon.serve(
            run.settings.state_folder.absolute(), engine or ENGINES[0], port or 0, ready, stop.wait
        )


@command.command("start")
@_engine
@_port
@pass_run
def start(run: Run, engine: str | None, port: int | None) -> None:
    """Start it in the background; return when it answers.

    When one runs already, that is said and is no error, unless it is not the one asked for.

    \b
    Examples:
      ddbrelay local start
      ddbrelay local start --engine ministack
    """
    from ddbrelay.cli.signals import stop_on_signals
    from ddbrelay.local import daemon
    from ddbrelay.output.local import Started

    with stop_on_signals() as stop:
        found, new = daemon.start(run.settings.state_folder, engine, port, stop.wait)
    _warn_of_pages(run, found)
    if run.console.json:
        run.console.object(Started.of(found, started=new))
        return
    run.console.words("the embedded AWS is up" if new else "the embedded AWS runs already")
    _show(run, found)
    run.console.next_step(_NEXT)


@command.command("status")
@pass_run
def status(run: Run) -> int:
    """Show whether one runs: exit code 0 if so, 5 if not.

    \b
    Examples:
      ddbrelay local status
      ddbrelay local status --output json
      ddbrelay local status -q || ddbrelay local start
    """
    from ddbrelay.local import daemon
    from ddbrelay.output.local import Engine, NotRunning

    found = daemon.running(run.settings.state_folder)
    if found is not None:
        if run.console.json:
            run.console.object(Engine.of(found))
        else:
            _show(run, found)
        return 0
    stale = daemon.forget(run.settings.state_folder)
    if run.console.json:
        run.console.object(NotRunning(False))
    else:
        run.console.data("not running" + (" (it ended without saying so)" if stale else ""))
        run.console.next_step("ddbrelay local start")
    return NOT_RUNNING


@command.command("stop")
@pass_run
def stop(run: Run) -> None:
    """Stop it, wherever it runs; nothing is kept.

    \b
    Examples:
      ddbrelay local stop
    """
    from ddbrelay.local import daemon
    from ddbrelay.output.local import Stopped

    pid = daemon.stop(run.settings.state_folder)
    if run.console.json:
        run.console.object(Stopped(False, pid is not None, pid))
    else:
        run.console.words("not running" if pid is None else f"stopped pid {pid}")


def _warn_of_pages(run: Run, found: Running) -> None:
    """Name the emulator that has no way to refuse requests of web pages."""
    if found.engine == "ministack":
        run.console.words(_OPEN_TO_PAGES)


def _show(run: Run, found: Running) -> None:
    rows = {
        "url": found.url,
        "engine": found.engine,
        "pid": found.pid,
        "since": iso(found.started_at),
        "log": found.log or "its terminal",
    }
    for name, value in rows.items():
        run.console.data(f"  {name:<8}{value}")
