"""The command group, and the one place where an exception becomes two lines and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import re
import select
import signal
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn

import click

from ddbrelay import logs
from ddbrelay.cli import completing
from ddbrelay.cli.console import discard, err, leave
from ddbrelay.cli.groups import Suggesting
from ddbrelay.cli.options import Run, global_options, print_global_help
from ddbrelay.config import Settings
from ddbrelay.errors import INTERRUPTED, NO_ROOM, AwsRefused, DdbrelayError, TemporaryFailure
from ddbrelay.secrecy import scrubbed

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
    "expect": "expect",
    "doctor": "doctor",
    "report": "report",
    "teardown": "teardown",
    "config": "config",
    "completion": "completion",
    "help": "help",
}
"""Command -> module of this package that defines it as `command`, in the order of the help."""

HEADINGS = {
    "Get started": ("demo", "init", "local", "provision", "seed"),
    "Watch and relay": ("tail", "listen", "replay", "status"),
    "Positions and accounts": ("positions", "ledger", "dead-letters", "report"),
    "Mapping": ("map", "rules", "schema"),
    "Deploy, CI and operations": ("doctor", "expect", "export", "teardown"),
    "Help": ("help", "config", "completion"),
}
"""Heading of the help -> the commands below it."""

_LOG_FORMAT = "--log-format"
_UNWRITABLE = NO_ROOM | {errno.EBADF}
_FLAGS = {f"--{one.name.replace('_', '-')}" for one in fields(Settings)}
_NO_CHOICE = re.compile(r"'(.*?)' is not one of ")


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

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest, whole_sentence = max(map(len, COMMANDS)), 500
        for heading, names in HEADINGS.items():
            with formatter.section(heading):
                rows = []
                for name in names:
                    command = self.get_command(ctx, name)
                    assert command is not None, name
                    rows.append((f"{name:<{widest}}", command.get_short_help_str(whole_sentence)))
                formatter.write_dl(rows)


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
    words = sys.argv[1:] if arguments is None else arguments
    if completing.asked():
        completing.isolate()
    run = Run()
    # SIGTERM unwinds as Ctrl-C does, so that what a command cleans up is cleaned up.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = cli.main(args=words, prog_name="ddbrelay", standalone_mode=False, obj=run)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.NoArgsIsHelpError as error:
        if not _json_log(run, words):
            err(error.ctx.get_help() if error.ctx is not None else error.format_message())
            sys.exit(2)
        _end(run, words, 2, "no command is given", "ddbrelay --help")
    except click.ClickException as error:
        _end(run, words, 2, *_usage(error))
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        from ddbrelay.cli.signals import leave_soon

        leave_soon()
        leave()
        _end(run, words, INTERRUPTED, "interrupted")
    except _ReaderLeft:
        discard()
        sys.exit(0)
    except Exception as error:
        known = _known(error) or _unwritten(error)
        if known is None:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
            hint = "run again with -vv and report what it prints"
            _end(run, words, 1, f"unexpected: {text}", hint, error)
        _end(run, words, known.exit_code, known.message, known.hint, error)
    finally:
        logs.release()


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


def _unwritten(error: Exception) -> DdbrelayError | None:
    """What to say where the output takes no more: a full disk, a terminal that is gone."""
    # Files of a name are looked after by who writes them.
    if not isinstance(error, OSError) or error.filename or error.errno not in _UNWRITABLE:
        return None
    if sys.stdout is not None:
        discard()
    return TemporaryFailure(
        f"cannot write the output: {error.strerror}",
        "what was relayed is saved; make room, or send the output elsewhere",
    )


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


def _usage(error: click.ClickException) -> tuple[str, str]:
    """What was wrong with the words on the command line, and what to do."""
    from ddbrelay.text import meant

    path = "ddbrelay"
    if isinstance(error, click.UsageError) and error.ctx is not None:
        path = error.ctx.command_path
    if isinstance(error, click.NoSuchOption):
        hint = _option_meant(error)
        if path == "ddbrelay" and error.option_name in _FLAGS:
            hint = f"it stands behind the command: ddbrelay tail {error.option_name} …"
        return f'no option "{error.option_name}"', hint or f"{path} --help"
    hint = None
    if error.message.startswith("Got unexpected extra argument") and path.count(" ") == 1:
        hint = f"a table is named with --table; {path} --help"
    if isinstance(error, click.BadParameter) and error.param is not None:
        wrong = _NO_CHOICE.match(error.message)
        if wrong is not None and isinstance(error.param.type, click.Choice):
            hint = meant(wrong[1], [str(choice) for choice in error.param.type.choices])
    return error.format_message(), hint or f"{path} --help"


def _option_meant(error: click.NoSuchOption) -> str | None:
    """The hint that names the option which was perhaps meant, of those that the command takes."""
    if error.ctx is None:
        return None
    from ddbrelay.cli import synonyms
    from ddbrelay.text import near

    params = error.ctx.command.get_params(error.ctx)
    takes = {name for param in params for name in (*param.opts, *param.secondary_opts)}
    # Without the dashes, which make all of them alike.
    long = {name.removeprefix("--"): name for name in sorted(takes) if name.startswith("--")}
    close = near(error.option_name.lstrip("-"), long)
    way = synonyms.option(error.option_name, takes) or (None if close is None else long[close])
    return None if way is None else f'did you mean "{way}"?'


def _json_log(run: Run, words: list[str]) -> bool:
    """Whether errors are objects, also where the command line could not be taken apart."""
    typed = None
    for before, word in zip(["", *words], words, strict=False):
        if before == _LOG_FORMAT:
            typed = word
        elif word.startswith(f"{_LOG_FORMAT}="):
            typed = word.partition("=")[2]
    return typed == "json" if typed is not None else run.json_log


def _end(
    run: Run,
    words: list[str],
    code: int,
    message: str,
    hint: str | None = None,
    error: Exception | None = None,
) -> NoReturn:
    """Say what went wrong: -v adds the causes, -vv the traceback."""
    causes, trace = [], None
    if error is not None and run.verbosity == 1:
        cause = error.__cause__ or error.__context__
        while cause is not None:
            causes.append(scrubbed(f"{type(cause).__name__}: {cause}"))
            cause = cause.__cause__ or cause.__context__
    if error is not None and run.verbosity >= 2:
        trace = scrubbed("".join(traceback.format_exception(error)))
    if _json_log(run, words):
        more = {"hint": hint, "causes": causes, "traceback": trace}
        given: dict[str, Any] = {name: value for name, value in more.items() if value}
        logs.write_object(logs.as_object("error", message, code=code, **given))
        sys.exit(code)
    if trace is not None:
        err(trace)
    for said in causes:
        err(f"caused by: {said}")
    _say("error: ", message, fg="red")
    if hint:
        _say("  hint: ", hint)
    sys.exit(code)


def _say(label: str, text: str, **style: Any) -> None:
    """One line; at a terminal broken between words, with the later lines below the first word."""
    text = scrubbed(text)
    colour = False if os.environ.get("NO_COLOR") else None
    err(click.style(label, **style) + _fitted(label, text), colour=colour)


def _fitted(label: str, text: str) -> str:
    if sys.stderr is None or not sys.stderr.isatty():
        return text
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except (OSError, ValueError):
        return text
    indent = " " * len(label)
    return "\n".join(
        textwrap.fill(
            line,
            # A terminal that says 0 does not know; the last column wraps on some.
            max(width - 1, 40) if width else 79,
            initial_indent=indent,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    ).removeprefix(indent)
