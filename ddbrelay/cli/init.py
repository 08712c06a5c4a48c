"""`ddbrelay init`: a commented `ddbrelay.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from ddbrelay.cli.files import write_whole
from ddbrelay.cli.options import Command, Run, pass_run, setting_options

if TYPE_CHECKING:
    pass


@click.command("init", cls=Command)
@setting_options("entity", "source", "consumer")
@click.option("--force", is_flag=True, help="replace a file that is there")
@pass_run
def command(run: Run, force: bool) -> None:
    """Write a commented ddbrelay.toml in the working directory.

    What you give as an option is set in it; every other key is there with its default, commented
    out. --config writes another file; --output is how this command speaks and is not written.

    \b
    Examples:
      ddbrelay init --table users
      ddbrelay init --table users --bus shop-bus --entity Customer --region eu-west-1
      ddbrelay init --table users --force
    """
    import os

    from ddbrelay.config import FILE_NAME, named_file
    from ddbrelay.config_template import render
    from ddbrelay.errors import ConfigError
    from ddbrelay.output.config import Written

    target = run.flags.get("config") or os.environ.get("DDBRELAY_CONFIG") or FILE_NAME
    target = named_file(target).absolute()
    # The file that is being replaced may be a broken one: it has no say here.
    run.flags["config"] = os.devnull
    settings = run.settings
    if os.path.lexists(target) and not force:
        raise ConfigError(f"{target} exists", "--force replaces it")
    given: dict[str, Any] = {
        name: getattr(settings, name)
        for name, origin in run.config.origins.items()
        if origin.startswith("flag") and name != "output"
    }
    write_whole(target, render(given))
    if run.console.json:
        run.console.object(Written(str(target), "written"))
    else:
        run.console.data(f"wrote {target}")
    run.console.next_step("ddbrelay provision" if settings.table else f"set table in {target.name}")
