"""Dead letters as JSON objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import msgspec

from ddbrelay.errors import StateError
from ddbrelay.flow.calendar import iso
from ddbrelay.flow.change import UndecodableError, plain
from ddbrelay.flow.tracking import DeadLetter, events_of
from ddbrelay.objects import Of
from ddbrelay.output.event import EventEntry
from ddbrelay.relay.concealing import concealed
from ddbrelay.relay.letters import Result
from ddbrelay.stores.letters import Parked
from ddbrelay.stores.parking import How

_FREED = "not sent yet: what it waited for is gone"


def keys_of(letter: Parked) -> dict[str, Any]:
    """The key attributes as plain values; empty where they cannot be read."""
    try:
        typed = msgspec.json.decode(letter.item_key, type=dict[str, Any])
        return {name: plain(value) for name, value in typed.items()}
    except (msgspec.DecodeError, UndecodableError, UnicodeDecodeError):
        return {}


def reason_of(letter: Parked, *, head: bool) -> str:
    """Why it is there; one that came to the head of its item has no reason of its own yet."""
    return _FREED if head and letter.behind else letter.reason


def letter_object(
    of: Of, letter: Parked, *, head: bool, waiting: int | None = None
) -> dict[str, Any]:
    """What every command says of a letter in JSON; `waiting` is how many wait behind it."""
    return {
        "type": "deadLetter",
        "id": letter.id,
        "consumer": of.consumer,
        "table": of.table,
        "streamArn": letter.stream_arn,
        "shardId": letter.shard_id,
        "sequenceNumber": letter.sequence,
        "keys": keys_of(letter),
        "reason": reason_of(letter, head=head),
        "attempts": letter.attempts,
        "parkedAt": iso(letter.parked_at),
        "behind": not head,
        **({} if waiting is None else {"waiting": waiting}),
    }


def whole_object(
    of: Of,
    letter: Parked,
    stored: DeadLetter,
    *,
    head: bool,
    redact: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """The letter with its stored event, null where there is none, and its stream record.

    Of several events the ones after the first stand behind `laterEvents`. A bus of null is the one
    that the letters are sent to. The attributes at the paths `redact` are hidden. Raises StateError
    where the letter cannot be read.
    """
    try:
        stored = concealed(stored, redact)
        known = {"event": None} if stored.event is None else events_object(stored.event)
        record = msgspec.json.decode(stored.record, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(
            f"what is stored of dead letter {letter.id} is damaged: {error}",
            f"ddbrelay dead-letters drop {letter.id} removes it",
        ) from error
    letter = replace(letter, reason=stored.reason)
    return {**letter_object(of, letter, head=head), **known, "record": record}


def events_object(stored: bytes) -> dict[str, Any]:
    """What is to be sent, as JSON objects have it; msgspec.DecodeError where it cannot be read."""
    first, *later = [EventEntry.of(event) for event in events_of(stored) if event is not None]
    return {"event": first, **({"laterEvents": later} if later else {})}


def result_object(of: Of, result: Result, *, dry_run: bool = False) -> dict[str, Any]:
    """What became of a letter that was to be sent again, or would become of it."""
    letter = result.letter
    first, *later = [
        {"detailType": None if event is None else event.detail_type, "eventId": event_id}
        for event, event_id in zip_longest(result.events or [None], result.event_ids)
    ]
    return {
        "type": "letter",
        "id": letter.id,
        "streamArn": letter.stream_arn,
        "shardId": letter.shard_id,
        "sequenceNumber": letter.sequence,
        "keys": keys_of(letter),
        "detailType": first["detailType"],
        "state": result_state(result, dry_run=dry_run),
        "eventId": first["eventId"],
        "reason": result.reason,
        "attempts": result.attempts,
        **({"laterEvents": later} if later else {}),
    }


def result_state(result: Result, *, dry_run: bool = False) -> str:
    """redriven, skipped or parked; would-send, would-skip or would-stay."""
    if dry_run:
        return {None: "would-stay", How.SKIPPED: "would-skip"}.get(result.how, "would-send")
    return "parked" if result.how is None else result.how.value
