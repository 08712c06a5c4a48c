"""What a mapping makes of records as JSON objects, and in what it differs from what is expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ddbrelay.flow import mapping
from ddbrelay.flow.mapping import Reject, Skip
from ddbrelay.offline import RecordError, values_of
from ddbrelay.output.map import Entry, Event, Explanation, Parked, Skipped

if TYPE_CHECKING:
    from ddbrelay.flow.change import Change

_BAD = "no object with an eventID, as map --output json prints it"


def objects_of(
    change: Change, fate: tuple[mapping.Event, ...] | Skip | Reject
) -> list[Event | Skipped | Parked]:
    """What becomes of a record, as `ddbrelay map --output json` prints it.

    Nothing in it depends on the machine.
    """
    event_id = change.event_id
    if isinstance(fate, Skip):
        return [Skipped(event_id, fate.reason)]
    if isinstance(fate, Reject):
        # A traceback follows the first line, and it would name folders of this machine.
        reason = fate.reason.partition("\n")[0]
        return [Parked(event_id, fate.rule, reason)]
    return [Event(event_id, event.rule, Entry.of(event)) for event in fate]


class ExpectationError(ValueError):
    """A text that holds something else than such objects; `line` and `column` count from 1."""

    def __init__(self, line: int, column: int, what: str) -> None:
        super().__init__(f"line {line}, column {column}: {what}")
        self.line, self.column, self.what = line, column, what


def expected_in(text: bytes) -> dict[str, list[Any]]:
    """The objects of each record by its `eventID`, from JSON lines or an array.

    Numbers stay as they are written. ExpectationError for anything else.
    """
    found: dict[str, list[Any]] = {}
    try:
        for value, line, column in values_of(text):
            event_id = value.get("eventID") if isinstance(value, dict) else None
            if not isinstance(event_id, str):
                raise ExpectationError(line, column, _BAD)
            # Why it became so is not compared.
            if value.get("type") != Explanation.__struct_config__.tag:
                found.setdefault(event_id, []).append(value)
    except RecordError as error:
        raise ExpectationError(error.line, error.column, error.what) from None
    return found


def differences(
    expected: Mapping[str, list[Any]], mapped: Iterable[msgspec.Struct | Mapping[str, Any]]
) -> Iterator[tuple[str, list[str]]]:
    """For each record that differs its `eventID` and a unified diff, the mapped ones first.

    Of one record the order counts, between records it does not; nor does that of the members of an
    object. Numbers are compared digit for digit, as they are sent.
    """
    # Written and read back, so that both sides are of one kind.
    now = expected_in(b"\n".join(map(msgspec.json.encode, mapped)))
    for event_id in dict.fromkeys([*now, *expected]):
        before, after = _pretty(expected.get(event_id, ())), _pretty(now.get(event_id, ()))
        if before != after:
            names = f"expected {event_id}", f"mapped   {event_id}"
            yield event_id, list(difflib.unified_diff(before, after, *names, lineterm=""))


def _pretty(values: Iterable[Any]) -> list[str]:
    lines: list[str] = []
    for value in values:
        text = msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2)
        lines += text.decode().split("\n")
    return lines
