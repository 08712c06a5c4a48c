"""What became of a dead letter as a JSON object, and what one says of itself."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import msgspec

from ddbrelay.flow.change import UndecodableError, plain
from ddbrelay.objects import Of
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
