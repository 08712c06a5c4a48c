"""What became of a change, in words: as a line, and as the cells of a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ddbrelay.flow.capture import Gap
from ddbrelay.flow.change import Change, UndecodableError
from ddbrelay.flow.tracking import Fate
from ddbrelay.output.outcome import state
from ddbrelay.relay import Outcome
from ddbrelay.text import one_word, printable
from ddbrelay.values import iso_or_none

_TELLING = ("username", "name", "title", "email", "status")


def key_text(change: Change) -> str:
    """`id=7f3a91c2`, with a space between the parts of a composite key."""
    return on_one_line(key_parts(change))


def on_one_line(parts: Mapping[str, str]) -> str:
    """The same of the parts of a key as texts; `?` where there are none."""
    words = (f"{printable(name)}={one_word(value)}" for name, value in parts.items())
    return " ".join(words) or "?"


def key_parts(change: Change) -> dict[str, str]:
    """Each key attribute as text; empty when the keys cannot be read."""
    try:
        return as_texts(change.keys)
    except UndecodableError:
        return {}


def as_texts(values: Mapping[str, object]) -> dict[str, str]:
    """Plain values as texts, numbers with every digit."""
    return {
        name: bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
        for name, value in values.items()
    }


def outcome_line(outcome: Outcome) -> str:
    """One line without colour."""
    change = outcome.change
    words = [
        iso_or_none(change.time) or "-",
        change.event_name,
        key_text(change),
        one_word(outcome.event.detail_type) if outcome.event else "-",
        state(outcome),
    ]
    if outcome.event_id:
        words.append(outcome.event_id)
    if outcome.reason:
        words.append(f"({headline(outcome.reason)})")
    return " ".join(words)


def headline(reason: str) -> str:
    """The first line of a reason, for a line or a row; a mapper's has its traceback below it."""
    return printable(reason.strip("\r\n").partition("\n")[0].rstrip("\r"))


def searched(outcome: Outcome) -> str:
    """What --grep searches: key, event type, reason, and the detail as it is sent."""
    words = [key_text(outcome.change)]
    if outcome.event is not None:
        words += [outcome.event.detail_type, outcome.event.detail.decode(errors="replace")]
    if outcome.reason:
        words.insert(1, outcome.reason)
    return " ".join(words)


def gap_text(gap: Gap) -> str:
    """What was lost, for a person."""
    where = f"after {gap.after}" if gap.after else "from its start"
    if gap.before:
        where += f" and before {gap.before}"
    times = [
        f"{word} {iso_or_none(epoch)}"
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
