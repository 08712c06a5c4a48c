"""`ddbrelay config`: what is in force, and why."""

from __future__ import annotations

import click

from ddbrelay.cli.groups import Group
from ddbrelay.cli.options import Run, pass_run


@click.group("config", cls=Group)
def command() -> None:
    """Show the settings that are in force.

    \b
    Examples:
      ddbrelay config show
    """


@command.command("show")
@pass_run
def show(run: Run) -> None:
    """Print each setting, its value and where it came from.

    Flags win over DDBRELAY_… variables, which win over ddbrelay.toml, which wins over defaults.

    \b
    Examples:
      ddbrelay config show
      DDBRELAY_TABLE=users ddbrelay config show --region eu-west-1
      ddbrelay config show --output json
    """
    from pathlib import Path

    from ddbrelay.config import effective, toml_key
    from ddbrelay.logs import without_password
    from ddbrelay.output.config import Setting, Settings

    config, console = run.config, run.console
    values = {
        name: without_password(str(value)) if isinstance(value, Path | str) else value
        for name, value in effective(config.settings).items()
    }
    if console.json:
        settings = {
            toml_key(name): Setting(value, config.origins[name]) for name, value in values.items()
        }
        file = None if config.file is None else str(config.file)
        console.object(Settings(file, settings))
        return
    rows = [
        (toml_key(name), _shown(name, value), config.origins[name])
        for name, value in values.items()
    ]
    keys, widest, origins = (max(len(row[column]) for row in rows) for column in range(3))
    for key, value, origin in rows:
        # A path may be longer than a terminal is wide: there it stands last.
        middle = f"{origin:<{origins}}  {value}"
        rest = middle if console.output == "rich" else f"{value:<{widest}}  {origin}"
        line = f"{key:<{keys}}  {rest}"
        dim = console.colour and origin == "default"
        console.data(click.style(line, dim=True) if dim else line)
    if config.file is None:
        console.next_step("ddbrelay init")


def _shown(name: str, value: object) -> str:
    if value is None or value == ():
        return "-"
    if isinstance(value, tuple):
        return ", ".join(value)
    if isinstance(value, float):
        return f"{value:g}" if name.startswith("price_") else f"{value:g}s"
    return str(value).lower() if isinstance(value, bool) else str(value)
