"""Values as they are typed: durations, times, amounts, addresses; and times as they are shown.

Each parser takes what TOML or the text of a flag or variable gives, and raises ValueError, in words
for the person who typed it, for anything that it cannot mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ddbrelay.times import iso

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d)?")
_LONGEST = 36525 * 86400.0
_TABLE_ARN = re.compile(r"arn:aws[\w-]*:dynamodb:[\w-]+:\d{12}:table/[a-zA-Z0-9_.-]{3,255}")


def parse_duration(text: str | float) -> float:
    """Seconds from `250ms`, `5s`, `15m`, `4h`, `1d` or a plain number of seconds.

    Raises ValueError when the text is none of these, or more than a hundred years.
    """
    match = _DURATION.fullmatch(str(text).strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as 5, 250ms, 15m or 4h")
    seconds = float(match[1]) * _UNITS[match[2] or "s"]
    if seconds > _LONGEST:
        raise ValueError(f"{text!r} is longer than a hundred years")
    return seconds


def parse_time(text: str, now: float) -> float:
    """Epoch seconds from an ISO 8601 time (UTC where it names no zone) or an age such as `15m`.

    Raises ValueError when the text is neither, lies in the future or before 1970.
    """
    text = text.strip()
    if _DURATION.fullmatch(text) and text[-1].isalpha():
        moment = now - parse_duration(text)
    else:
        moment = _parse_iso(text)
    if moment > now:
        raise ValueError(f"{text!r} lies in the future")
    if moment < 0:
        raise ValueError(f"{text!r} lies before 1970")
    return moment


def _parse_iso(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an ISO time such as 2026-11-23T10:31:00Z nor an age such as 15m"
        ) from None
    # Without a zone it is the user's own time, as the live view shows it.
    return moment.timestamp()


def parse_bool(value: object) -> bool:
    """True or False from TOML or from an environment variable; ValueError for anything else."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    if word in {"1", "true", "yes", "on"}:
        return True
    if word in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def text(value: object) -> str:
    """A text that can be printed."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")
    if not value.strip():
        raise ValueError("the text is empty")
    if not value.isprintable():
        raise ValueError(f"{value!r} has characters that cannot be printed")
    return value


def table(value: object) -> str:
    """A table's name, which is not looked at further, or its ARN, which must be one."""
    name = text(value)
    return table_arn(name) if name.startswith("arn:") else name


def table_arn(value: object) -> str:
    """`arn:aws:dynamodb:eu-west-1:111122223333:table/users`."""
    arn = text(value)
    if not _TABLE_ARN.fullmatch(arn):
        raise ValueError(
            f'"{arn}" is not the ARN of a table: arn:aws:dynamodb:REGION:ACCOUNT:table/NAME'
        )
    return arn


def count(value: object) -> int:
    """A whole number above zero."""
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+", str(value)) or int(str(value)) < 1:
        raise ValueError(f"{value!r} is not a whole number above zero")
    return int(str(value))


def one_of(*choices: str) -> Callable[[object], str]:
    """A parser that takes these words and no other."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is none of {', '.join(choices)}")
        return str(value)

    return parse


def port(value: object) -> int:
    """A TCP port that can be listened on; ValueError for anything else."""
    number = count(value)
    if number > 65535:
        raise ValueError(f"{value!r} is not a port, which is at most 65535")
    return number


def amount(value: object) -> float:
    """An amount of money, of no currency in particular; ValueError when it is none."""
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", str(value)):
        raise ValueError(f"{value!r} is not an amount such as 1.00")
    return float(str(value))


def bucket_url(value: object) -> str:
    """`s3://bucket/prefix`, the prefix may be missing; ValueError for anything else."""
    from ddbrelay.flow.offloading import place_of

    place_of(text(value))
    return str(value)


def path(value: object) -> Path:
    """A path, with the home directory for a tilde."""
    try:
        return Path(text(value)).expanduser()
    except RuntimeError:
        raise ValueError(
            f"{value!r} names a home directory that is not known; write the whole path, or set HOME"
        ) from None


def names(value: object) -> tuple[str, ...]:
    """Texts from an array of TOML, or from a text with commas between them."""
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{value!r} is not an array of names")
    return tuple(name.strip() for name in found if name.strip())


def iso_or_none(epoch: float | None) -> str | None:
    """The time for a JSON object."""
    return None if epoch is None else iso(epoch)
