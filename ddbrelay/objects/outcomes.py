"""What became of a change, and what was lost, as JSON objects."""

from __future__ import annotations

from typing import Any

import msgspec

from ddbrelay.flow.capture import Gap
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.objects import event_object
from ddbrelay.relay import Outcome
from ddbrelay.values import iso_or_none


def state(outcome: Outcome) -> str:
    """published, skipped, parked, or preview for a run that sends nothing."""
    return "preview" if outcome.fate is None else outcome.fate.value


def outcome_object(outcome: Outcome, bus: str | None) -> dict[str, Any]:
    """The object that `--output json` prints for one change."""
    return {
        "type": "event",
        "change": _change_object(outcome.change),
        "event": None if outcome.event is None else event_object(outcome.event, bus),
        "receipt": {
            "state": state(outcome),
            "eventId": outcome.event_id,
            "reason": outcome.reason,
            "attempts": outcome.attempts,
        },
    }


def _change_object(change: Change) -> dict[str, Any]:
    known: dict[str, Any] = {
        "eventID": change.event_id,
        "eventName": change.event_name,
        "time": iso_or_none(change.time),
        "sequenceNumber": change.sequence_number,
        "shardId": change.shard_id,
        "table": change.table,
        "streamArn": change.stream_arn,
        "ttl": change.ttl,
    }
    try:
        known |= {
            "keys": change.keys,
            "old": change.old,
            "new": change.new,
            "changed": change.changed,
        }
    except UndecodableError:
        known["undecodable"] = msgspec.json.encode(change.record).decode(errors="replace")
    return known


def gap_object(gap: Gap) -> dict[str, Any]:
    """The object that `--output json` prints for records that were lost."""
    return {
        "type": "lost",
        "shardId": gap.shard_id,
        "after": gap.after,
        "before": gap.before,
        "since": iso_or_none(gap.since),
        "until": iso_or_none(gap.until),
        "reason": gap.reason,
    }
