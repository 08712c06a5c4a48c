"""An EventBridge bus in memory: which entries PutEvents takes, and what was taken.

Rests on https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html,
API_PutEventsResultEntry.html and eb-putevents.html of the user guide.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ddbrelay.flow.mapping import MAX_DETAIL_TYPE, MAX_SOURCE

_REQUIRED = ("Source", "DetailType", "Detail")
_MOST = 2**63


class Taken(msgspec.Struct, frozen=True):
    """An event that PutEvents answered with an id, at epoch seconds `at`.

    `entry` is the request's entry as it was sent. `dropped` ones were for a bus that does not
    exist: AWS answers with an id, and nobody gets them.
    """

    bus: str
    at: float
    event_id: str
    entry: dict[str, Any]
    dropped: bool = False


@dataclass(slots=True)
class _Script:
    bus: str | None
    code: str
    times: int | None
    containing: str


class EntryScripts:
    """Entries that fail by script."""

    def __init__(self) -> None:
        self._scripts: list[_Script] = []

    def fail(
        self, code: str, *, bus: str | None = None, times: int | None = None, containing: str = ""
    ) -> None:
        """Entries with this text in their Detail fail with the code, `times` of them or all."""
        self._scripts.append(_Script(bus, code, times, containing))

    def recover(self) -> None:
        """Entries are taken again."""
        self._scripts.clear()

    def code(self, bus: str, entry: Mapping[str, Any]) -> str | None:
        """The code of the first script that is for this entry."""
        for script in self._scripts:
            if script.times == 0 or script.bus not in {None, bus}:
                continue
            if script.containing in str(entry.get("Detail", "")):
                if script.times is not None:
                    script.times -= 1
                return script.code
        return None


def bus_name(entry: Mapping[str, Any]) -> str:
    """The bus that an entry is for, by name also where the entry has its ARN."""
    return str(entry.get("EventBusName") or "default").rpartition("/")[2]


def size_of(entry: Mapping[str, Any]) -> int:
    """Bytes by AWS's formula for the size of an entry."""
    texts = [*(entry.get(name) or "" for name in _REQUIRED), *(entry.get("Resources") or ())]
    return (14 if entry.get("Time") is not None else 0) + sum(len(text.encode()) for text in texts)


def incomplete(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no entry has all that is required: then AWS refuses the request."""
    return not any(all(entry.get(name) for name in _REQUIRED) for entry in entries)


def refusal(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    """The final error code and the message of an entry that is never taken."""
    for name in _REQUIRED:
        if not entry.get(name):
            return "InvalidArgument", f"Parameter {name} is not valid. Reason: {name} is required."
    if str(entry["Source"]).startswith("aws."):
        return "NotAuthorizedForSourceException", "Not authorized for the source."
    if len(entry["Source"]) > MAX_SOURCE:
        return "InvalidArgument", f"Source is longer than {MAX_SOURCE} characters."
    if len(entry["DetailType"]) > MAX_DETAIL_TYPE:
        return "InvalidArgument", f"DetailType is longer than {MAX_DETAIL_TYPE} characters."
    try:
        detail = json.loads(entry["Detail"], parse_int=_int64, parse_constant=_not_json)
    except (ValueError, RecursionError):
        # Python's limit is about 1000 levels too.
        return "MalformedDetail", "Detail is malformed."
    if not isinstance(detail, dict):
        return "MalformedDetail", "Detail is malformed."
    return None


def new_id(rng: random.Random) -> str:
    """An `EventId`."""
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def _int64(text: str) -> int:
    number = int(text)
    if not -_MOST <= number < _MOST:
        raise ValueError("an integer of more than 64 bits")
    return number


def _not_json(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
