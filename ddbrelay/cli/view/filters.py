"""Filters that change what is shown, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Any

import click

from ddbrelay.cli import completing
from ddbrelay.errors import ConfigError
from ddbrelay.text import printable

_ESCAPED = re.compile(r"\\.", re.S)
_MOST_TYPES = 1000
"""The verdicts of so many event types are remembered."""
_LONGEST = 0.1
"""Seconds that --grep may search one event."""
_MOST_SLOW = 3
"""Events on which it may take longer, before it is left out."""


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

    An event on which the expression spends too long is shown; after a few of them all are, and
    `tell` hears of it: a relay does not wait for its view.
    """

    def __init__(
        self, show: Sequence[str], grep: str | None, tell: Callable[[str], None] | None = None
    ) -> None:
        self.hidden = 0
        self._tell, self._slow = tell, 0
        if not all(show):
            raise ConfigError("--show: no event type is named", "wildcards too: --show 'User*'")
        self._types = re.compile("|".join(map(translate, show))).match if show else None
        self._text = None if grep is None else _compiled(grep)
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
        if verdict and (self._text is None or self._found(text())):
            return True
        self.hidden += 1
        return False

    def _found(self, text: str) -> bool:
        assert self._text is not None
        if self._slow >= _MOST_SLOW:
            return True
        try:
            return self._text(text, timeout=_LONGEST) is not None
        except TimeoutError:
            self._slow += 1
            if self._slow == _MOST_SLOW and self._tell is not None:
                self._tell(
                    f"--grep is left out from here on: it took longer than {_LONGEST} s on each of "
                    f"{_MOST_SLOW} events; nested repetition, such as (a+)+, is what takes long"
                )
            return True

    def _judge(self, detail_type: str) -> bool:
        verdict = self._types is None or self._types(detail_type) is not None
        if len(self._verdicts) < _MOST_TYPES:
            self._verdicts[detail_type] = verdict
        return verdict

    def words(self) -> str:
        """`hidden by --show/--grep: 41`, and nothing where nothing was hidden."""
        return f"hidden by --show/--grep: {self.hidden:,}" if self.hidden else ""


def _compiled(grep: str) -> Any:
    """The search of an engine that knows `re`'s expressions, and takes a time limit."""
    import regex

    typed = _ESCAPED.sub("", grep)
    flags = re.NOFLAG if any(letter.isupper() for letter in typed) else re.IGNORECASE
    try:
        re.compile(grep, flags)
    except re.error as error:
        where = "" if error.pos is None else f", column {error.pos + 1}"
        raise ConfigError(
            f'--grep: "{printable(grep)}" is not a regular expression: {error.msg}{where}',
            "a backslash takes a character as it is: --grep 'total \\(net\\)'",
        ) from None
    except (RecursionError, OverflowError):
        raise ConfigError("--grep: the regular expression is too large") from None
    # Both take the same expressions, and write the same flags.
    return regex.compile(grep, int(flags)).search
