"""Strings as people read them: printable, counted, listed, and the word that was perhaps meant."""

from __future__ import annotations

import difflib
import json
import unicodedata
from collections.abc import Collection, Iterable

_ALIKE = 0.75
"""A wrong suggestion is worse than none: `deploy` and `replay` are alike by 0.67."""
_BEGINNING = 3
"""Letters from which on the beginning of a single known word says which one is meant."""
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


def first_line(text: str, most: int = 300) -> str:
    """The first line of a message, cut: some of AWS's are a whole canonical request."""
    return (text.strip().splitlines() or [""])[0][:most]


def cut(text: str, width: int) -> str:
    """At most `width` characters of a text, with an ellipsis in place of the rest."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def short_shard(shard_id: str) -> str:
    """`…a1b2c3d4`: what tells the shards of a stream apart."""
    return f"…{shard_id[-8:]}" if len(shard_id) > 9 else printable(shard_id)


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
