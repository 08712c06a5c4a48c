"""What `relay()` can be told, and its mistakes in the words of Python instead of the shell's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ddbrelay.config import Settings, flag_name
from ddbrelay.errors import ConfigError
from ddbrelay.flow.capture import Start
from ddbrelay.text import nearest

_STARTS = (Start.TRIM_HORIZON.value, Start.LATEST.value)
_EMBEDDED = "a relay of a test runs on the embedded AWS"
_STATE = "the state of a relay of a test is in a folder of its own"
_WATCHED = "a relay of a test serves nothing; its tally and account() say what it did"
_SILENT = "a relay of a test prints nothing"
_REFUSED = {
    **dict.fromkeys(("profile", "region", "endpoint_url", "local"), _EMBEDDED),
    **dict.fromkeys(("state", "state_dir"), _STATE),
    **dict.fromkeys(("metrics_port", "metrics_host"), _WATCHED),
    **dict.fromkeys(("output", "log_format", "log_level"), _SILENT),
    **dict.fromkeys(("price_events", "price_reads", "price_puts"), _SILENT),
}
"""Settings that would change nothing, and why."""
_TAKEN = {setting.name for setting in fields(Settings)} - _REFUSED.keys()
_KEYWORDS = {flag_name(name): name for name in (*_TAKEN, "key", "sort_key")} | {"from": "start"}
_PLACE = re.compile(r"--(?:no-)?([a-z][a-z-]*): ")
_FLAG = re.compile(r"--([a-z][a-z-]*[a-z])(?: [A-Z]+\b)?")


def check(settings: Mapping[str, Any]) -> None:
    """ConfigError for a name that is no setting, and for one that could change nothing."""
    for name in settings:
        if name in _REFUSED:
            raise ConfigError(f"relay() takes no {name}=", _REFUSED[name])
        if name not in _TAKEN:
            raise ConfigError(f'"{name}" is no setting', nearest(name, _TAKEN, "settings:"))


def start_of(start: object) -> Start:
    """Where the relay starts; ConfigError for anything but its two words."""
    if start not in _STARTS:
        raise ConfigError(f"start= is one of {', '.join(_STARTS)}, not {start!r}")
    return Start(start)


def rules_of(rules: object) -> tuple[dict[str, Any], ...]:
    """The `[[rule]]` tables; ConfigError where it is no list of dictionaries."""
    given = rules if isinstance(rules, list | tuple) else [rules]
    tables = [dict(rule) for rule in given if isinstance(rule, Mapping)]
    if given is not rules or len(tables) < len(given):
        raise ConfigError(
            "rules= is a list of dictionaries, one for each rule",
            'rules=[{"when": {"eventName": ["INSERT"]}, "detail_type": "UserRegistered"}]',
        )
    return tuple(tables)


def seconds(name: str, value: object) -> float:
    """A time-out; ConfigError, with the argument's name, for what is no number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{name}= is a number of seconds from 0 on, not {value!r}")
    return value


def in_keywords(text: str) -> str:
    """A message or hint of ddbrelay with keyword arguments in the place of options.

    `--preset: 'x' is none of …` -> `relay(preset=...): 'x' is none of …`, and
    `another name with --consumer` -> `another name with consumer=`.
    """
    if "ddbrelay " in text:
        # A command for the shell keeps its options.
        return text
    place = _PLACE.match(text)
    if place is not None and place[1] in _KEYWORDS:
        text = f"relay({_KEYWORDS[place[1]]}=...): {text[place.end() :]}"
    return _FLAG.sub(lambda at: f"{_KEYWORDS[at[1]]}=" if at[1] in _KEYWORDS else at[0], text)


def said(message: str, hint: str | None) -> str:
    """What a failing test says of an error: a line, and one more for what to do next."""
    message = in_keywords(message)
    return f"{message}\n  hint: {in_keywords(hint)}" if hint else message
