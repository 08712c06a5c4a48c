"""What a dead letter is sent as: what is stored, or what today's mapping makes of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec

from ddbrelay.flow.change import REDACTED, Change, Origin, UndecodableError, decode_record
from ddbrelay.flow.mapping import Event, MapFunction, Reject, Several, Skip
from ddbrelay.flow.packing import Item, packed, too_large
from ddbrelay.flow.tracking import DeadLetter, events_of, stored_events
from ddbrelay.relay.concealing import concealed
from ddbrelay.secrecy import scrubbed
from ddbrelay.stores.letters import Letters, Parked
from ddbrelay.stores.parking import How

_HIDDEN = f'"{REDACTED}"'.encode()
_BLIND = "what is redacted cannot be matched again, and the mapping now skips it"
NO_EVENT = "no event is stored of it, since it could not be mapped"
"""Why a letter stays when its record is not mapped again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one letter; `how` is None where it stays, and `reason` says why.

    `events` are those that it was to be sent as, in their order, `event_ids` the bus's ids of those
    that were accepted, which are the first. `change` is None where the stored record was not read,
    or cannot be.
    """

    letter: Parked
    how: How | None
    change: Change | None = None
    events: tuple[Event, ...] = ()
    event_ids: tuple[str, ...] = ()
    reason: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """It can go: `item` is what the bus gets, `events` the same with their details in them."""

    change: Change
    events: tuple[Event, ...]
    item: Item


@dataclass(frozen=True, slots=True)
class Skipped:
    """The mapping makes no event of it."""

    change: Change
    reason: str


@dataclass(frozen=True, slots=True)
class Stays:
    """It cannot be sent; `known` where this takes no place of the reason that is stored."""

    reason: str
    change: Change | None = None
    events: tuple[Event, ...] = ()
    known: bool = False


@dataclass(frozen=True)
class Preparation:
    """Makes an item of a letter.

    With a `mapper` the stored record is mapped again, and all its events go, those too that had
    been accepted before it was parked. Without one the stored events are taken. A detail that no
    request can hold goes to the address `claim_check`; the sink must write it there. `redact` are
    the paths of what must not be kept of a letter that was mapped again, and stays.
    """

    table: str
    mapper: MapFunction | None = field(default=None, kw_only=True)
    claim_check: str | None = field(default=None, kw_only=True)
    redact: Sequence[Sequence[str]] = field(default=(), kw_only=True)

    def __call__(self, letter: Parked, stored: DeadLetter) -> Ready | Skipped | Stays:
        change = None
        try:
            change = self.change(letter, stored)
            # First of all: it takes out of the change what must not be shown.
            mapped = self._events(change, stored)
            _ = change.typed_keys
        except UndecodableError as error:
            return Stays(f"its keys cannot be read: {error}", change)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Stays(f"what is stored of it cannot be read: {error}", change)
        if mapped is None:
            return Stays(NO_EVENT, change, known=not letter.behind)
        if isinstance(mapped, Reject):
            return Stays(scrubbed(mapped.reason), change)
        if isinstance(mapped, Skip):
            if _HIDDEN in stored.record:
                # A rule that looks at it cannot match any more, which is no reason to forget it.
                return Stays(f"{_BLIND}: {mapped.reason}", change)
            return Skipped(change, mapped.reason)
        events = tuple(event for event in mapped if event is not None)
        item = packed(change, mapped, self.claim_check)
        if isinstance(item, Item):
            return Ready(change, events, item)
        reason = too_large(item)
        if len(events) > 1:
            reason = f"{item.detail_type}: {reason}"
        return Stays(reason, change, events)

    def shown(
        self, letter: Parked, stored: DeadLetter, redact: Sequence[Sequence[str]]
    ) -> tuple[Ready | Skipped | Stays, str]:
        """The same for who looks at it, and its reason, without the attributes at these paths."""
        try:
            hidden = concealed(stored, redact)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Stays(f"what is stored of it cannot be read: {error}"), letter.reason
        # A mapping sees all of the record, and hides of its own accord.
        return self(letter, hidden if self.mapper is None else stored), hidden.reason

    def change(self, letter: Parked, stored: DeadLetter) -> Change:
        """The stored record; msgspec.DecodeError where it is none."""
        record = decode_record(stored.record)
        change = Change(record, letter.shard_id, Origin(self.table, letter.stream_arn))
        # It stands in the line in which it was parked, whatever its mapping says of it today.
        change.order_by(letter.item_key)
        return change

    def kept(
        self, stored: DeadLetter, change: Change | None, left: tuple[Event | None, ...] = ()
    ) -> DeadLetter | None:
        """What is to be stored of a letter that stays, None where that is what is there.

        `left` are the events of it that were made anew, and not accepted.
        """
        if self.mapper is None or change is None or not change.is_redacted:
            return None
        try:
            hidden = concealed(stored, self.redact)
        except (msgspec.DecodeError, UnicodeDecodeError):
            hidden = stored
        event = stored_events(left) if left else hidden.event
        return replace(hidden, record=msgspec.json.encode(change.record), event=event)

    def _events(
        self, change: Change, stored: DeadLetter
    ) -> tuple[Event | None, ...] | Skip | Reject | None:
        if self.mapper is None:
            return None if stored.event is None else events_of(stored.event)
        mapped = self.mapper(change)
        if isinstance(mapped, Several):
            return mapped.events
        return (mapped,) if isinstance(mapped, Event) else mapped


def preview(letters: Letters, preparation: Preparation, waiting: Sequence[Parked]) -> list[Result]:
    """What would become of the letters of one item, in their order.

    One with `how` REDRIVEN would be sent; behind one that would stay the others would wait.
    """
    found: list[Result] = []
    held: Parked | None = None
    for letter in waiting:
        stored = letters.get(letter)
        if stored is None:
            continue
        prepared = preparation(letter, stored)
        if held is not None:
            change = None if isinstance(prepared, Stays) else prepared.change
            found.append(Result(letter, None, change, reason=f"it would wait behind {held.id}"))
        elif isinstance(prepared, Stays):
            held = letter
            why = prepared
            found.append(Result(letter, None, why.change, why.events, reason=why.reason))
        elif isinstance(prepared, Skipped):
            found.append(Result(letter, How.SKIPPED, prepared.change, reason=prepared.reason))
        else:
            found.append(Result(letter, How.REDRIVEN, prepared.change, prepared.events))
    return found
