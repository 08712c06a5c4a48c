"""Groups of commands: the root has the commands, and some of these have commands of their own."""

from __future__ import annotations

from typing import Any

import click

from ddbrelay.cli.options import Command, global_options, print_global_help, write_options


class Suggesting(click.Group):
    """A group that names the nearest command when it is given one that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        word = args[0]
        names = self.list_commands(ctx)
        if word not in names and not word.startswith("-") and not ctx.resilient_parsing:
            from ddbrelay.cli import synonyms
            from ddbrelay.errors import ConfigError
            from ddbrelay.text import near

            close = synonyms.command(word, names) or near(word, names)
            raise ConfigError(
                f'no command "{word}"',
                f'did you mean "{close}"?' if close else f"{ctx.command_path} --help",
            )
        return super().resolve_command(ctx, args)


class Group(Suggesting):
    """A command with commands of its own (`positions list`)."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._global = global_options()
        self.params = [*self.params, *self._global]

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: its examples stand above the commands."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        self.format_commands(ctx, formatter)
        write_options(
            ctx, formatter, "Options", [p for p in self.get_params(ctx) if p not in self._global]
        )
        print_global_help(ctx, formatter, self._global)
