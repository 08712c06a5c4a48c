"""How many calls AWS takes a second, and what counts them."""

from __future__ import annotations

from dataclasses import dataclass, field

_ROUNDING = 1e-5
"""Seconds by which sums of epoch seconds may be off."""


@dataclass(slots=True)
class Limits:
    """Calls a second, None for no limit; a burst of one second's worth is taken at once.

    `describe_stream` is per stream, `get_records` per shard, `list_streams` and `put_events` per
    account. The first and third are of the pages of these operations. AWS names no number of
    GetRecords, only that a shard has at most two readers; five calls a second are what a reader of
    Kinesis has, so a third one makes it more than ten.
    """

    describe_stream: float | None = None
    get_records: float | None = None
    list_streams: float | None = None
    put_events: float | None = None

    @classmethod
    def of_aws(cls) -> Limits:
        """What AWS takes in us-east-1."""
        return cls(describe_stream=10.0, get_records=10.0, list_streams=5.0, put_events=10_000.0)


@dataclass(slots=True)
class Throttle:
    """Token buckets by name; refused calls take no token."""

    _due: dict[str, float] = field(default_factory=dict)

    def admits(self, name: str, rate: float | None, now: float) -> bool:
        """Whether one more call may pass at the epoch second `now`."""
        if rate is None:
            return True
        # The generic cell rate algorithm: one time in place of a level and the time of the level.
        due = max(self._due.get(name, now), now)
        if due - now > max(1.0, 1.0 / rate) + _ROUNDING:
            # The clock was set back, which must not close the bucket for as long.
            due = now
        if due - now > max(1.0 - 1.0 / rate, 0.0) + _ROUNDING:
            return False
        self._due[name] = due + 1.0 / rate
        return True
