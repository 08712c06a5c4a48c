"""Which mapping a run works by: said before its first record, refused if of another table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ddbrelay import logs
from ddbrelay.text import printable

if TYPE_CHECKING:
    from ddbrelay.cli.options import Run


def check_table(run: Run, *, writes: bool) -> None:
    """Compare the table of this run with that of a `ddbrelay.toml` which was found, not named.

    Its rules and its bus are meant for its own table: ConfigError for what `writes` (sends, makes
    or deletes), and a line of trouble for what only shows. Naming the file says that it is meant.
    """
    from ddbrelay.errors import ConfigError

    config = run.config
    table, theirs = config.settings.table, config.table_in_file
    if config.named or table is None or theirs is None or table == theirs:
        return
    words = printable(
        f'table "{table}" ({config.origins["table"]}) is not the one of {config.file}, '
        f'which is about "{theirs}"'
    )
    if not writes:
        run.console.trouble(f"{words}; its mapping is used all the same")
        return
    raise ConfigError(
        words,
        f"--config {config.file} uses it for this table too, --config {os.devnull} goes without",
    )


def tell_mapping(run: Run, *, live: bool = False) -> None:
    """Say which mapping is in force, unless the header of a live view does.

    A service has `-q`, which takes away the words: its log has it then, where that is objects.
    """
    from ddbrelay.mappings import in_force

    message = f"mapping: {in_force(run.config)}"
    if run.console.quiet and logs.as_objects():
        logs.write_object(logs.as_object("info", message))
    elif not live:
        run.console.words(message)
