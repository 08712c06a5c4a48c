"""Times, and the ids of shards, as views, tables and reports say them."""

from __future__ import annotations

from ddbrelay.words import printable

_HOUR = 3600.0


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


def short_shard(shard_id: str) -> str:
    """`…a1b2c3d4`: what tells the shards of a stream apart."""
    return f"…{shard_id[-8:]}" if len(shard_id) > 9 else printable(shard_id)
