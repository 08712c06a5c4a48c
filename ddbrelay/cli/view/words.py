"""Times, and the ids of shards, as the view and the tables of other commands say them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ddbrelay.cli.text import printable

_HOUR = 3600.0


@dataclass(frozen=True)
class Clock:
    """Where a view has its times from; `now` in epoch seconds."""

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `3 m 20 s`, `2 h 5 m`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} m {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} m"


def whole(seconds: float) -> str:
    """`2 s`, `3 m 20 s`, `2 h 5 m`: for what is known to the second only."""
    return f"{int(seconds)} s" if seconds < 60 else duration(int(seconds))


def alarm(left: float) -> str:
    """The style of so many seconds before records are lost."""
    return "red" if left < _HOUR else "yellow" if left < 6 * _HOUR else "dim"


def short_shard(shard_id: str) -> str:
    """`…a1b2c3d4`: what tells the shards of a stream apart."""
    return f"…{shard_id[-8:]}" if len(shard_id) > 9 else printable(shard_id)
