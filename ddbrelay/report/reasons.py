"""Why records are parked, in words that hold nothing of the records.

A reason may quote what was wrong in a record: an exception of the user's mapper, a JMESPath error,
a schema's. A report is handed around, so it says what kind of reason it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ddbrelay.stores.letters import Reason

_QUOTES = re.compile(
    r"cannot be evaluated|in the mapper|does not fit its schema|not an attribute value|no JSON"
    r"|no image of an item|an image is not an object|cannot be written as JSON"
    r"|made what no event can be|^the time .*|attribute \".*\"$"
)
"""What a part ends with, or is, behind which another one may quote from the record."""
_CODE = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)+(?:Exception)?")
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+|\d{4,}")
_LONGEST = 160


def kind_of(reason: str) -> str:
    """The reason up to where it may quote from a record, its large numbers as `N`."""
    kept: list[str] = []
    for part in reason.partition("\n")[0].split(": "):
        kept.append(part)
        found = _QUOTES.search(part)
        if _CODE.fullmatch(part) or (found and found.end() == len(part)):
            break
    said = _NUMBER.sub("N", ": ".join(kept))
    return said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"


def grouped(reasons: Iterable[Reason]) -> list[Reason]:
    """Reasons of one kind as one, the most frequent first; those behind another last."""
    found: dict[tuple[str, bool], Reason] = {}
    for one in reasons:
        key = (kind_of(one.reason), one.behind)
        before = found.get(key)
        found[key] = Reason(
            *key,
            one.letters + (before.letters if before else 0),
            min(one.oldest, before.oldest) if before else one.oldest,
            max(one.latest, before.latest) if before else one.latest,
        )
    return sorted(found.values(), key=lambda one: (one.behind, -one.letters, one.reason))
