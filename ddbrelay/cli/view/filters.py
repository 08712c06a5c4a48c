"""Filters that change what is shown, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Any

import click

from ddbrelay.cli import completing
from ddbrelay.errors import ConfigError
from ddbrelay.words import printable

_ESCAPED = re.compile(r"\\.", re.S)
_MOST_TYPES = 1000
"""The verdicts of so many event types are remembered."""


def view_options(function: Any) -> Any:
    """Decorator: the command takes --show, --grep and --detail (`show`, `grep`, `detail`)."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option(
        "--show",
        metavar="TYPE",
        multiple=True,
        help="show only events of this type; wildcards as in a shell (User*)",
        shell_complete=completing.event_types,
    ),
    click.option(
        "--grep",
        metavar="REGEX",
        help="show only events with a match in key, type, reason or detail",
    ),
    click.option("--detail", is_flag=True, help="show each event in full, and what an update did"),
)


class Filter:
    """Whether an event is shown; `hidden` counts those that were not.

    `show` are event types with the wildcards of a shell, of which one must match. `grep` is a
    regular expression; where it has no capital letter, upper and lower case are the same. Raises
    ConfigError, with the column, for one that is none.
    """

    def __init__(self, show: Sequence[str], grep: str | None) -> None:
        self.hidden = 0
        if not all(show):
            raise ConfigError("--show: no event type is named", "wildcards too: --show 'User*'")
        self._types = re.compile("|".join(map(translate, show))).match if show else None
        self._text = None if grep is None else _compiled(grep).search
        self._verdicts: dict[str | None, bool] = {None: self._types is None}

    @property
    def narrows(self) -> bool:
        """Whether there is anything that it might hide."""
        return self._types is not None or self._text is not None

    def shows(self, detail_type: str | None, text: Callable[[], str]) -> bool:
        """Whether this event is shown, counting it where it is not.

        `detail_type` is None for what is no event, and such is hidden by every `show`; `text`, the
        event as it is searched, is asked for only where there is a `grep`.
        """
        verdict = self._verdicts.get(detail_type)
        if verdict is None:
            verdict = self._judge(detail_type or "")
        if verdict and (self._text is None or self._text(text()) is not None):
            return True
        self.hidden += 1
        return False

    def _judge(self, detail_type: str) -> bool:
        verdict = self._types is None or self._types(detail_type) is not None
        if len(self._verdicts) < _MOST_TYPES:
            self._verdicts[detail_type] = verdict
        return verdict

    def words(self) -> str:
        """`hidden by --show/--grep: 41`, and nothing where nothing was hidden."""
        return f"hidden by --show/--grep: {self.hidden:,}" if self.hidden else ""


def _compiled(grep: str) -> re.Pattern[str]:
    typed = _ESCAPED.sub("", grep)
    flags = re.NOFLAG if any(letter.isupper() for letter in typed) else re.IGNORECASE
    try:
        return re.compile(grep, flags)
    except re.error as error:
        where = "" if error.pos is None else f", column {error.pos + 1}"
        raise ConfigError(
            f'--grep: "{printable(grep)}" is not a regular expression: {error.msg}{where}',
            "a backslash takes a character as it is: --grep 'total \\(net\\)'",
        ) from None
    except (RecursionError, OverflowError):
        raise ConfigError("--grep: the regular expression is too large") from None
