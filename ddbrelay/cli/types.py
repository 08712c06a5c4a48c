"""Option values that click has no type for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click


class Duration(click.ParamType[float]):
    """Seconds from `5`, `250ms`, `15m` or `4h`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        from ddbrelay.values import parse_duration

        try:
            return parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = Duration()


def moment(option: str, text: str) -> float:
    """Epoch seconds of an ISO time or an age; ConfigError, with the option, for anything else."""
    import time

    from ddbrelay.errors import ConfigError
    from ddbrelay.values import parse_time

    try:
        return parse_time(text, time.time())
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


def asked_keys(texts: Iterable[str]) -> dict[str, set[str]]:
    """The values asked for of each key attribute, from `NAME=VALUE`; ConfigError for another form.

    Values of one attribute are alternatives.
    """
    from ddbrelay.errors import ConfigError

    asked: dict[str, set[str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError(f'--key: "{text}" is not NAME=VALUE', "--key id=7f3a91c2")
        asked.setdefault(name, set()).add(value)
    return asked
