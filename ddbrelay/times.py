"""Epoch seconds as ISO 8601 text and back, and lengths of time in words."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

_HOUR = 3600.0
_NUMBER = re.compile(r"-?[0-9]{9,}(\.[0-9]+)?").fullmatch
"""Seconds as text; fewer digits than nine are a date of ISO 8601's basic form."""
MOST_SECONDS = 1e11
"""A number beyond this counts milliseconds: as seconds it would lie in the year 5138."""


@lru_cache(maxsize=1024)
def iso(epoch: float) -> str:
    """`2026-11-23T10:31:07Z`, with milliseconds where there are any."""
    moment = datetime.fromtimestamp(epoch, UTC)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).replace("+00:00", "Z")


def iso_milliseconds(epoch: float) -> str:
    """`2026-11-23T10:31:07.120Z`."""
    moment = datetime.fromtimestamp(epoch, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_of(value: object) -> float:
    """Epoch seconds of an ISO time (UTC where it names no zone), or of a number of them.

    A number beyond 1e11, also as text, counts milliseconds. ValueError for anything else, and for
    times before 1970 or after the year 9999.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError("it is neither an ISO time nor a number of seconds")
    if isinstance(value, str) and not _NUMBER(value):
        number = _from_text(value)
    else:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if abs(number) > MOST_SECONDS:
            number /= 1000
    if not 0 <= number < _END:
        raise ValueError("it lies before 1970 or after the year 9999")
    return number


_END = datetime(9999, 12, 31, tzinfo=UTC).timestamp()


def _from_text(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("it is neither an ISO time nor a number of seconds") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `3 m 20 s`, `2 h 5 m`."""
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    number = round(seconds)
    if number < 60:
        return f"{number} s"
    if number < 3600:
        return f"{number // 60} m {number % 60} s"
    return f"{number // 3600} h {number % 3600 // 60} m"


def whole(seconds: float) -> str:
    """`2 s`, `3 m 20 s`, `2 h 5 m`: for what is known to the second only."""
    return f"{int(seconds)} s" if seconds < 60 else duration(int(seconds))


def alarm(left: float) -> str:
    """The style of so many seconds before records are lost."""
    return "red" if left < _HOUR else "yellow" if left < 6 * _HOUR else "dim"
