"""The word that was perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

_ALIKE = 0.75
"""A wrong suggestion is worse than none: `deploy` and `replay` are alike by 0.67."""


_BEGINNING = 3
"""Letters from which on the beginning of a single known word says which one is meant."""


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that is spelt much like this one, in whatever case; None where none is."""
    word, spelt = word.lower(), {name.lower(): name for name in known}
    close = difflib.get_close_matches(word, spelt, n=1, cutoff=_ALIKE)
    if not close:
        # In three letters, two that are swapped make half the word different.
        close = [name for name in spelt if sorted(name) == sorted(word)]
    if not close and len(word) >= _BEGINNING:
        begun = [name for name in spelt if name.startswith(word)]
        close = begun if len(begun) == 1 else []
    return spelt[close[0]] if close else None


def meant(word: str, known: Iterable[str]) -> str | None:
    """The hint that names the nearest known word, if one is near."""
    close = near(word, known)
    return None if close is None else f'did you mean "{close}"?'


def nearest(word: str, known: Collection[str], otherwise: str) -> str:
    """A hint that names the nearest known word, or all of them behind `otherwise`."""
    return meant(word, known) or f"{otherwise} {', '.join(sorted(known))}"
