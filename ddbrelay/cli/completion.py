"""`ddbrelay completion`: the script that makes the shell complete our commands."""

from __future__ import annotations

import click

from ddbrelay.cli.options import Command

_WHERE = {
    "bash": 'eval "$(ddbrelay completion bash)"  in ~/.bashrc',
    "zsh": 'eval "$(ddbrelay completion zsh)"  in ~/.zshrc',
    "fish": "ddbrelay completion fish | source  in ~/.config/fish/config.fish",
}


@click.command(
    "completion", cls=Command, epilog="\b\n" + "\n".join(f"{v}" for v in _WHERE.values())
)
@click.argument("shell", type=click.Choice(list(_WHERE)))
def command(shell: str) -> None:
    """Print the completion script for a shell."""
    from click.shell_completion import get_completion_class

    from ddbrelay.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(cli, {}, "ddbrelay", "_DDBRELAY_COMPLETE").source())
