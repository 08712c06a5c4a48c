"""What the engine is told, and what it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ddbrelay.flow.capture import Gap, Pace, Start
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import Event, Reject, Skip
from ddbrelay.flow.tracking import Fate

RETRIES_BEFORE_WORD = 3
"""Failures of one call before the observer hears of it."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of one change, or of one event of it; `fate` is None in a run that sends nothing.

    `event_id` is the bus's id of a published event, `reason` says why one was skipped or parked.
    Of a change with several events each one that is published has an outcome of its own; as long as
    `more` of them are to follow, the fate of the change is not sealed. `rule` names what in the
    mapping is to blame for there being no event.
    """

    change: Change
    event: Event | None
    fate: Fate | None
    event_id: str | None = None
    reason: str | None = None
    attempts: int = 0
    more: int = 0
    rule: str | None = None


class Observer(Protocol):
    """Is told what happens, in the order in which it happens; must return at once."""

    def outcome(self, outcome: Outcome) -> None:
        """An event was published or shown, or a record has another fate."""

    def gap(self, gap: Gap) -> None:
        """Records were lost."""

    def trouble(self, message: str) -> None:
        """A call keeps failing; the run goes on trying."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a run goes; times in seconds, None for no bound.

    `resume` goes on from stored positions where there are any; without it, and on the very first
    start, the run starts at `start` (for TIME at `since`). A shard is left at the first record
    written after `until_time`. `stop_on_gap` ends the run when records are lost, `wanted` narrows
    it to some events; of several of one change it is asked for each.

    At most `max_in_flight` requests are sent at once; one that is not full waits `linger` for more.
    An event that is refused for a reason nobody knows is parked after `refusal_timeout`. A detail
    that no request can hold goes to the address `claim_check` (`s3://bucket/prefix`).

    At most `max_reading` pages are asked for at once, and none while `max_pending` events wait or
    records that are not settled hold pages of `max_held` bytes. A checkpoint is saved as soon as it
    moved, but not more often than every `checkpoint_interval`; what idle shards were seen to hold,
    every `beat_interval`. The shards are listed every `discovery_interval`, with at least
    `listing_pause` between two calls. After `max_failures` in a row the run gives up on reading;
    None: never.
    """

    start: Start = Start.TRIM_HORIZON
    since: float | None = None
    resume: bool = True
    until_time: float | None = None
    stop_on_gap: bool = False
    wanted: Callable[[Change, Event | Skip | Reject], bool] | None = None
    max_records: int | None = None
    until_idle: float | None = None
    timeout: float | None = None
    grace: float = 5.0
    max_in_flight: int = 64
    linger: float = 0.005
    refusal_timeout: float = 300.0
    claim_check: str | None = None
    max_pending: int = 10_000
    max_held: int = 32 * 1024 * 1024
    max_reading: int = 128
    pace: Pace = field(default_factory=Pace)
    discovery_interval: float = 30.0
    checkpoint_interval: float = 0.1
    beat_interval: float = 10.0
    listing_pause: float = 0.2
    max_failures: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How many seconds ago a shard made progress.

    That is a read that succeeded; where records wait to be settled, one that settled.
    """

    shard_id: str
    quiet: float
