"""What became of a change, as a JSON object, as a line, and as the cells of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ddbrelay.cli.text import iso, one_word, printable
from ddbrelay.flow.capture import Gap
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome

_TELLING = ("username", "name", "title", "email", "status")


def _time(epoch: float | None) -> str | None:
    return None if epoch is None else iso(epoch)


def state(outcome: Outcome) -> str:
    """published, skipped, parked, or preview for a run that sends nothing."""
    return "preview" if outcome.fate is None else outcome.fate.value


def key_text(change: Change) -> str:
    """`id=7f3a91c2`, with a space between the parts of a composite key."""
    parts = key_parts(change).items()
    return " ".join(f"{printable(name)}={one_word(value)}" for name, value in parts) or "?"


def key_parts(change: Change) -> dict[str, str]:
    """Each key attribute as text; empty when the keys cannot be read."""
    try:
        return {name: _flat(value) for name, value in change.keys.items()}
    except UndecodableError:
        return {}


def _flat(value: object) -> str:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)


def outcome_object(outcome: Outcome, bus: str | None) -> dict[str, Any]:
    """The object that `--output json` prints for one change."""
    return {
        "type": "event",
        "change": _change_object(outcome.change),
        "event": None if outcome.event is None else _event_object(outcome.event, bus),
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
        "time": _time(change.time),
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


def _event_object(event: Event, bus: str | None) -> dict[str, Any]:
    return {
        "bus": bus,
        "source": event.source,
        "detailType": event.detail_type,
        "detail": msgspec.Raw(event.detail),
        "resources": event.resources,
        "time": _time(event.time),
        "rule": event.rule,
    }


def gap_object(gap: Gap) -> dict[str, Any]:
    """The object that `--output json` prints for records that were lost."""
    return {
        "type": "lost",
        "shardId": gap.shard_id,
        "after": gap.after,
        "before": gap.before,
        "since": _time(gap.since),
        "until": _time(gap.until),
        "reason": gap.reason,
    }


def outcome_line(outcome: Outcome) -> str:
    """One line without colour."""
    change = outcome.change
    words = [
        _time(change.time) or "-",
        change.event_name,
        key_text(change),
        one_word(outcome.event.detail_type) if outcome.event else "-",
        state(outcome),
    ]
    if outcome.event_id:
        words.append(outcome.event_id)
    if outcome.reason:
        words.append(f"({printable(outcome.reason)})")
    return " ".join(words)


def gap_text(gap: Gap) -> str:
    """What was lost, for a person."""
    where = f"after {gap.after}" if gap.after else "from its start"
    if gap.before:
        where += f" and before {gap.before}"
    times = [
        f"{word} {_time(epoch)}"
        for word, epoch in (("after", gap.since), ("before", gap.until))
        if epoch is not None
    ]
    written = f", written {' and '.join(times)}," if times else ""
    return f"records of shard {gap.shard_id} {where}{written} are lost: {gap.reason}"


def telling(outcome: Outcome) -> str:
    """A few words that say what the change was about: changed fields, ttl, a name."""
    change = outcome.change
    if outcome.reason and outcome.fate is not Fate.PUBLISHED:
        return ""
    try:
        if change.ttl:
            return "ttl"
        if change.event_name == "MODIFY":
            return printable(", ".join(change.changed))
        image: Mapping[str, Any] = change.new or change.old or {}
    except UndecodableError:
        return ""
    found = (image[name] for name in _TELLING if isinstance(image.get(name), str))
    return printable(next(found, ""))
