"""Texts that are safe and even wherever they are printed; light to import."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"


def printable(text: str) -> str:
    """Without what would move the cursor or turn the line: keys and messages are strangers' texts.

    Spaces of every width stay, and what joins letters or emoji.
    """
    if text.isprintable():
        return text
    return "".join(c if _harmless(c) else "\N{REPLACEMENT CHARACTER}" for c in text)


def _harmless(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def one_word(text: str) -> str:
    """One word of a line: quoted as in JSON where it has spaces or control characters."""
    if not text or not all(map(_harmless, text)):
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if any(map(str.isspace, text)) else text


def counted(number: int, noun: str) -> str:
    """`1 event`, `1,204 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Iterable[str], most: int = 4) -> str:
    """`a, b and c`, or `a, b, c, d and 7 more`."""
    every = list(dict.fromkeys(names))
    if len(every) > most + 1:
        return f"{', '.join(every[:most])} and {len(every) - most:,} more"
    *first, last = every
    return f"{', '.join(first)} and {last}" if first else last
