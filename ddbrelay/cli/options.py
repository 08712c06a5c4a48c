"""Options that every command takes, before or after its name, and what they come to.

An option has no default of its own: an absent one leaves the setting to the environment, the
file and `Settings`.
"""

from __future__ import annotations

import logging
import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from ddbrelay import __version__, logs
from ddbrelay.cli import completing

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws
    from ddbrelay.cli.console import Console
    from ddbrelay.config import Config, Settings

_log = logging.getLogger("ddbrelay.cli")


GLOBAL = (
    "profile",
    "region",
    "endpoint_url",
    "table",
    "bus",
    "local",
    "output",
    "log_format",
    "log_level",
)
_METAVARS = {
    "profile": "NAME",
    "region": "REGION",
    "endpoint_url": "URL",
    "table": "TABLE",
    "bus": "BUS",
    "output": "rich|lines|json",
    "log_format": "text|json",
    "log_level": "LEVEL",
    "consumer": "NAME",
    "state": "PATH",
    "start": "START",
    "on_gap": "continue|stop",
    "entity": "NOUN",
    "source": "SOURCE",
    "preset": "crud|outbox|single-table",
    "mapper": "MODULE:FUNCTION",
    "grace": "SECONDS",
    "max_in_flight": "N",
    "claim_check": "URL",
    "dead_letter_queue": "QUEUE",
    "metrics_port": "PORT",
}
_CARRIED = ("config", "profile", "region", "endpoint_url", "table", "bus")
_CARRIED_BY_SOME = (
    *("consumer", "state", "entity", "source", "preset", "mapper"),
    *("claim_check", "dead_letter_queue", "metrics_port"),
)
"""What is repeated in a command that is suggested, of every command and of those that take it."""
_OPPOSITES = {"quiet": "verbose", "verbose": "quiet"}


@dataclass
class Run:
    """What the command line said, gathered from both sides of the command's name."""

    flags: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def config(self) -> Config:
        """Flags, environment, file and defaults, merged; ConfigError when one is wrong."""
        from ddbrelay.config import load

        return load(self.flags)

    @property
    def settings(self) -> Settings:
        return self.config.settings

    @property
    def verbosity(self) -> int:
        """-1 errors only, 0 normal, 1 with -v, 2 with -vv."""
        return -1 if self.flags.get("quiet") else int(self.flags.get("verbose") or 0)

    @property
    def json_log(self) -> bool:
        """Whether stderr gets objects; also where the settings are wrong."""
        from ddbrelay.errors import ConfigError

        try:
            return self.settings.log_format == "json"
        except ConfigError:
            wanted = self.flags.get("log_format") or os.environ.get("DDBRELAY_LOG_FORMAT")
            return bool(wanted == "json")

    def check_buses(self, bus: str) -> None:
        """Raise AwsRefused where this bus, or another one that the mapping names, is missing."""
        from ddbrelay.aws.table import check_bus
        from ddbrelay.mappings import buses_of

        for name in (bus, *buses_of(self.config)):
            check_bus(self.aws, name)

    @contextmanager
    def logged(self, command: str) -> Iterator[None]:
        """Log from here on as the settings say, first what they are and at last how it ended."""
        from ddbrelay.errors import ConfigError

        form = "json" if self.json_log else "text"
        try:
            level = self.settings.log_level
        except ConfigError:
            # The command itself meets it, if it needs them.
            level = None
        verbosity = self.verbosity
        logs.configure(level or logs.level_of(verbosity), form, others=verbosity >= 2)
        self._warn_of_variables()
        if not _log.isEnabledFor(logging.INFO):
            yield
            return
        began = time.monotonic()
        self._log_settings(command)
        end, code = "done", 0
        try:
            yield
        except BaseException as error:
            end, code = type(error).__name__, getattr(error, "exit_code", 1)
            raise
        finally:
            seconds = time.monotonic() - began
            _log.info(
                "%s ended after %.1f s: %s",
                command,
                seconds,
                end,
                extra=logs.fields(command=command, seconds=round(seconds, 3), end=end, code=code),
            )

    def _warn_of_variables(self) -> None:
        from ddbrelay.cli.console import Console
        from ddbrelay.config import ignored_variables

        # The settings may be wrong just because of what is ignored.
        console = Console("lines", self.verbosity)
        for message in ignored_variables():
            console.trouble(message)

    def _log_settings(self, command: str) -> None:
        from ddbrelay.config import given
        from ddbrelay.errors import ConfigError

        try:
            settings = given(self.config)
        except ConfigError:
            settings = {}
        told = ", ".join(f"{key}={value} [{origin}]" for key, (value, origin) in settings.items())
        _log.info(
            "%s %s starts; %s",
            command,
            __version__,
            told or "all settings are at their defaults",
            extra=logs.fields(
                command=command,
                version=__version__,
                settings={
                    key: {"value": value, "origin": origin}
                    for key, (value, origin) in settings.items()
                },
            ),
        )

    @cached_property
    def console(self) -> Console:
        """Where data and words go."""
        from ddbrelay.cli.console import Console

        return Console.for_run(self.settings.output, self.verbosity)

    @cached_property
    def aws(self) -> Aws:
        """The session of this run; imports boto3."""
        from ddbrelay.aws.session import Aws

        return Aws(self.settings)

    def require(self, name: str) -> str:
        """The setting, or ConfigError that says the three ways to give it."""
        value = getattr(self.settings, name)
        if value is None:
            from ddbrelay.config import env_name, flag_name, toml_key
            from ddbrelay.errors import ConfigError

            raise ConfigError(
                f"no {name} is given",
                f"--{flag_name(name)}, {env_name(name)}, or {toml_key(name)} in ddbrelay.toml",
            )
        return str(value)

    def again(self, command: str) -> str:
        """A command to type next, with what this one was told about where and how to work.

        Of the options that not every command takes it has those that this one takes.
        """
        words = shlex.split(command)
        known, depth = _named(words)
        takes = {param.name for param in known.params if isinstance(param, GlobalOption)}
        local = ["--local"] if self.settings.local else []
        if self.flags.get("local") is False:
            local = ["--no-local"]
        own = [name for name in _CARRIED_BY_SOME if name in takes]
        return shlex.join(
            [
                *("ddbrelay", *local, *words[:1], *self._repeated(_CARRIED)),
                *(*words[1:depth], *self._repeated(own), *words[max(depth, 1) :]),
            ]
        )

    def _repeated(self, names: Iterable[str]) -> Iterator[str]:
        """The options of these names that were given, without passwords."""
        from ddbrelay.config import flag_name

        for name in names:
            if self.flags.get(name) is not None:
                yield from (f"--{flag_name(name)}", logs.without_password(str(self.flags[name])))

    def next_step(self, command: str) -> None:
        """Say what to type next: `run.next_step("tail --forward")`."""
        self.console.next_step(self.again(command))


pass_run = click.make_pass_decorator(Run)


def _named(words: list[str]) -> tuple[click.Command, int]:
    """The command that these words begin with, and how many of them name it."""
    from ddbrelay.cli.main import cli

    command: click.Command = cli
    for depth, word in enumerate(words):
        group = command if isinstance(command, click.Group) else None
        inner = group and group.get_command(click.Context(group), word)
        if inner is None:
            return command, depth
        command = inner
    return command, len(words)


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    # A count that was not given is 0, a flag with two sides that was not given is None.
    absent = value is None or (value == 0 and value is not False)
    if absent or param.name is None:
        return
    flags = ctx.ensure_object(Run).flags
    flags[param.name] = value
    if param.name in _OPPOSITES:
        flags.pop(_OPPOSITES[param.name], None)


def _print_version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from ddbrelay.cli.console import out

        out(f"ddbrelay {__version__}")
        ctx.exit()


class GlobalOption(click.Option):
    """An option that lands in `Run.flags` instead of the command's arguments."""

    def __init__(self, *declarations: str, **attributes: Any) -> None:
        super().__init__(
            list(declarations), expose_value=False, callback=_keep, default=None, **attributes
        )


def _option(name: str) -> click.Option:
    from ddbrelay.config import Settings, env_name, flag_name

    setting = next(s for s in fields(Settings) if s.name == name)
    flag = f"--{flag_name(name)}"
    help_text = f"{setting.metadata['help']}  [{env_name(name)}]"
    if isinstance(setting.default, bool):
        return GlobalOption(f"{flag}/--no-{flag_name(name)}", name, help=help_text)
    return GlobalOption(
        flag,
        name,
        metavar=_METAVARS.get(name),
        help=help_text,
        shell_complete=completing.of_setting(name, setting.metadata["choices"]),
    )


def global_options() -> list[click.Option]:
    """The options accepted before and after every command."""
    return [
        GlobalOption(
            "--config",
            metavar="FILE",
            help="configuration file  [DDBRELAY_CONFIG]",
            shell_complete=completing.files,
        ),
        *(_option(name) for name in GLOBAL),
        GlobalOption("-v", "--verbose", count=True, help="say more; -vv shows tracebacks"),
        GlobalOption(
            "-q", "--quiet", is_flag=True, flag_value=True, help="print only what goes wrong"
        ),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="print the version and exit",
        ),
    ]


def setting_options(*names: str) -> Callable[[Any], Any]:
    """Decorator: the command takes these settings as options too (`setting_options("grace")`)."""

    def decorate(function: Any) -> Any:
        for name in reversed(names):
            function.__click_params__ = [*getattr(function, "__click_params__", []), _option(name)]
        return function

    return decorate


class Command(click.Command):
    """A command that takes the global options as well, listed apart in its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._global = global_options()
        self.params = [*self.params, *self._global]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        own = [p for p in self.get_params(ctx) if p not in self._global]
        write_options(ctx, formatter, "Options", own)
        print_global_help(ctx, formatter, self._global)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: its examples stand above the options, as those of the other commands do."""

    def invoke(self, ctx: click.Context) -> Any:
        with ctx.ensure_object(Run).logged(ctx.command_path):
            return super().invoke(ctx)


def print_global_help(
    ctx: click.Context, formatter: click.HelpFormatter, params: Iterable[click.Parameter]
) -> None:
    """The section of the options that every command takes."""
    write_options(ctx, formatter, "Global options (before or after the command)", params)


def write_options(
    ctx: click.Context,
    formatter: click.HelpFormatter,
    title: str,
    params: Iterable[click.Parameter],
) -> None:
    rows = [row for param in params if (row := param.get_help_record(ctx)) is not None]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
