"""`ddbrelay local`: the embedded AWS, in the foreground or in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.groups import Group
from ddbrelay.cli.options import Run, pass_run
from ddbrelay.flow.calendar import iso
from ddbrelay.local.engine import ENGINES

if TYPE_CHECKING:
    from ddbrelay.local.daemon import Running

NOT_RUNNING = 5
"""Exit code of `status` when none runs: that of every --local command then."""

_NEXT = "ddbrelay --local provision --table users"

_OPEN_TO_PAGES = (
    "ministack answers web pages of any origin: while it runs, a page in this machine's browser "
    "can use it (moto refuses)"
)

_engine = click.option(
    "--engine",
    type=click.Choice(ENGINES),
    help=f"the emulator; ministack answers any web page, moto none  [default: {ENGINES[0]}]",
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

    console = run.console

    def ready(found: Running) -> None:
        _warn_of_pages(run, found)
        if console.json:
            console.object(_object(found))
        else:
            console.words(f"{found.engine} at {found.url} · next: {_NEXT}")

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

    with stop_on_signals() as stop:
        found, new = daemon.start(run.settings.state_folder, engine, port, stop.wait)
    _warn_of_pages(run, found)
    if run.console.json:
        run.console.object(_object(found) | {"started": new})
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

    found = daemon.running(run.settings.state_folder)
    if found is not None:
        if run.console.json:
            run.console.object(_object(found))
        else:
            _show(run, found)
        return 0
    stale = daemon.forget(run.settings.state_folder)
    if run.console.json:
        run.console.object({"type": "engine", "running": False})
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

    pid = daemon.stop(run.settings.state_folder)
    if run.console.json:
        stopped = {"stopped": pid is not None, "pid": pid}
        run.console.object({"type": "engine", "running": False} | stopped)
    else:
        run.console.words("not running" if pid is None else f"stopped pid {pid}")


def _warn_of_pages(run: Run, found: Running) -> None:
    if found.engine == "ministack":
        run.console.trouble(_OPEN_TO_PAGES)


def _object(found: Running) -> dict[str, Any]:
    return {
        "type": "engine",
        "running": True,
        "url": found.url,
        "engine": found.engine,
        "pid": found.pid,
        "port": found.port,
        "startedAt": iso(found.started_at),
        "log": str(found.log) if found.log else None,
    }


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
