"""The word that was perhaps meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(word: str, known: Collection[str], otherwise: str) -> str:
    """A hint that names the nearest known word, or all of them behind `otherwise`."""
    close = difflib.get_close_matches(word, known, n=1)
    return f'did you mean "{close[0]}"?' if close else f"{otherwise} {', '.join(sorted(known))}"
