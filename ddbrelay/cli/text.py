"""Texts that are safe and even wherever they are printed; light to import."""

from __future__ import annotations

import json


def printable(text: str) -> str:
    """Without what would move the cursor: keys and messages are strangers' texts."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def one_word(text: str) -> str:
    """One word of a line: quoted as in JSON where it has spaces or control characters."""
    if not (text and text.isprintable()):
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False) if " " in text else text


def counted(number: int, noun: str) -> str:
    """`1 event`, `1,204 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
