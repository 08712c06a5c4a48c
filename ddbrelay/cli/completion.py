"""`ddbrelay completion`: the script that makes the shell complete our commands."""

from __future__ import annotations

import click

from ddbrelay.cli.console import out
from ddbrelay.cli.options import Command

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(_SHELLS), metavar="|".join(_SHELLS), required=False)
def command(shell: str | None) -> None:
    """Print the completion script for a shell.

    \b
    Examples:
      eval "$(ddbrelay completion bash)"       in ~/.bashrc
      eval "$(ddbrelay completion zsh)"        in ~/.zshrc
      ddbrelay completion fish | source        in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    from ddbrelay.cli.main import cli
    from ddbrelay.errors import ConfigError

    if shell is None:
        # click would say it in a line for each shell.
        raise ConfigError("no shell is named", f"ddbrelay completion {'|'.join(_SHELLS)}")
    kind = get_completion_class(shell)
    assert kind is not None, shell
    out(kind(cli, {}, "ddbrelay", "_DDBRELAY_COMPLETE").source())
