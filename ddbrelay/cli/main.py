"""The command group, and the one place where an exception becomes two lines and an exit code."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from ddbrelay.cli.options import Run, Suggesting, global_options, print_global_help
from ddbrelay.errors import INTERRUPTED, AwsRefused, DdbrelayError

COMMANDS = {
    "demo": "demo",
    "init": "init",
    "local": "local",
    "provision": "provision",
    "seed": "seed",
    "map": "map",
    "rules": "rules",
    "schema": "schema",
    "tail": "tail",
    "status": "status",
    "listen": "listen",
    "replay": "replay",
    "positions": "positions",
    "ledger": "ledger",
    "dead-letters": "dead_letters",
    "export": "export",
    "teardown": "teardown",
    "config": "config",
    "completion": "completion",
}
"""Command -> module of this package that defines it as `command`, in the order of the help."""


class LazyGroup(Suggesting):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"ddbrelay.cli.{COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with _broken_pipe_explained():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with _broken_pipe_explained():
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        print_global_help(ctx, formatter, self.get_params(ctx))


@click.group(
    cls=LazyGroup,
    params=[*global_options()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=False,
)
def cli() -> None:
    """Relay DynamoDB stream changes to EventBridge as business events.

    The table is the outbox: a service only writes its data; ddbrelay follows the table's stream,
    maps each change to an event such as UserCreated and publishes it, at least once and in order
    per item.

    \b
    See it work, with no AWS account:
      ddbrelay demo
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the design's codes; never a traceback without -vv."""
    run = Run()
    # SIGTERM unwinds as Ctrl-C does, so that what a command cleans up is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = cli.main(args=arguments, prog_name="ddbrelay", standalone_mode=False, obj=run)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _say(*_usage(error))
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("interrupted")
        sys.exit(INTERRUPTED)
    except _ReaderLeft:
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        known = _known(error)
        _explain(error, run.verbosity)
        if known is None:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            _say(f"unexpected: {text}", "run again with -vv and report what it prints")
            sys.exit(1)
        _say(known.message, known.hint)
        sys.exit(known.exit_code)


class _ReaderLeft(Exception):
    """Whoever reads our output (head, less) has seen enough."""


@contextmanager
def _broken_pipe_explained() -> Iterator[None]:
    # click ends silently with 1 on any broken pipe, also on that of a connection.
    try:
        yield
    except BrokenPipeError as error:
        stdout = select.poll()
        stdout.register(sys.stdout.fileno(), 0)
        if stdout.poll(0):
            raise _ReaderLeft from None
        raise AwsRefused(f"a connection broke: {error}") from error


def _known(error: Exception) -> DdbrelayError | None:
    if isinstance(error, DdbrelayError):
        return error
    if "botocore" in sys.modules:
        from botocore.exceptions import BotoCoreError, ClientError

        from ddbrelay.aws.errors import translate

        if isinstance(error, BotoCoreError | ClientError):
            operation = getattr(error, "operation_name", None)
            return translate(error, f"call {operation}" if operation else "reach AWS")
    return None


def _explain(error: Exception, verbosity: int) -> None:
    if verbosity >= 2:
        click.echo("".join(traceback.format_exception(error)), err=True)
    elif verbosity == 1:
        cause = error.__cause__ or error.__context__
        while cause is not None:
            click.echo(f"caused by: {type(cause).__name__}: {cause}", err=True)
            cause = cause.__cause__ or cause.__context__


def _usage(error: click.ClickException) -> tuple[str, str]:
    """What was wrong with the words on the command line, and what to do."""
    path = "ddbrelay"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        path = error.ctx.command_path
    if isinstance(error, click.NoSuchOption):
        close = difflib.get_close_matches(error.option_name, error.possibilities or (), n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"{path} --help"
        return f'no option "{error.option_name}"', hint
    return error.format_message(), f"{path} --help"


def _say(message: str, hint: str | None = None) -> None:
    colour = False if os.environ.get("NO_COLOR") else None
    click.echo(click.style("error: ", fg="red") + message, err=True, color=colour)
    if hint:
        click.echo(f"  hint: {hint}", err=True)


def configure_logging(verbosity: int) -> None:
    """Our log goes to stderr: warnings, with -v information, with -vv everything."""
    level = {-1: logging.ERROR, 0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("ddbrelay")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
