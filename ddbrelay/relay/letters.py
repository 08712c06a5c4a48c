"""What a dead letter is sent as: the event that is stored, or what today's mapping makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from ddbrelay.flow.capture import Record
from ddbrelay.flow.change import Change, Origin, UndecodableError
from ddbrelay.flow.mapping import Event, Mapper, Reject, Skip
from ddbrelay.flow.packing import Item, offloaded, oversize, too_large
from ddbrelay.flow.tracking import DeadLetter
from ddbrelay.stores.letters import Letters, Parked
from ddbrelay.stores.parking import How

NO_EVENT = "no event is stored of it, since it could not be mapped"
"""Why a letter stays when its record is not mapped again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one letter; `how` is None where it stays, and `reason` says why.

    `event_id` is the bus's id of an event that was accepted. `change` is None where the stored
    record was not read, or cannot be.
    """

    letter: Parked
    how: How | None
    change: Change | None = None
    event: Event | None = None
    event_id: str | None = None
    reason: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Ready:
    """It can go: `item` is what the bus gets, `event` the same with its detail in it."""

    change: Change
    event: Event
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
    event: Event | None = None
    known: bool = False


@dataclass(frozen=True)
class Preparation:
    """Makes an item of a letter.

    With a `mapper` the stored record is mapped again, without one the stored event is taken. A
    detail that no request can hold goes to the address `claim_check`; the sink must write it there.
    """

    table: str
    mapper: Mapper | None = field(default=None, kw_only=True)
    claim_check: str | None = field(default=None, kw_only=True)

    def __call__(self, letter: Parked, stored: DeadLetter) -> Ready | Skipped | Stays:
        change = None
        try:
            change = self.change(letter, stored)
            _ = change.item_key
            mapped = self._event(change, stored)
        except UndecodableError as error:
            return Stays(f"its keys cannot be read: {error}", change)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Stays(f"what is stored of it cannot be read: {error}", change)
        if mapped is None:
            return Stays(NO_EVENT, change, known=not letter.behind)
        if isinstance(mapped, Reject):
            return Stays(mapped.reason, change)
        if isinstance(mapped, Skip):
            return Skipped(change, mapped.reason)
        if not oversize(mapped):
            return Ready(change, mapped, Item(change, mapped, mapped.size))
        fitting = offloaded(mapped, self.claim_check, change.event_id)
        if fitting is None:
            return Stays(too_large(mapped), change, mapped)
        event, claim = fitting
        return Ready(change, mapped, Item(change, event, event.size, claim=claim))

    def change(self, letter: Parked, stored: DeadLetter) -> Change:
        """The stored record; msgspec.DecodeError where it is none."""
        record = msgspec.json.decode(stored.record, type=Record)
        return Change(record, letter.shard_id, Origin(self.table, letter.stream_arn))

    def _event(self, change: Change, stored: DeadLetter) -> Event | Skip | Reject | None:
        if self.mapper is not None:
            return self.mapper(change)
        return None if stored.event is None else msgspec.json.decode(stored.event, type=Event)


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
            found.append(Result(letter, None, why.change, why.event, reason=why.reason))
        elif isinstance(prepared, Skipped):
            found.append(Result(letter, How.SKIPPED, prepared.change, reason=prepared.reason))
        else:
            found.append(Result(letter, How.REDRIVEN, prepared.change, prepared.event))
    return found
