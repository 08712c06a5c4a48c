"""Where each key and value stands in a TOML text, for errors that name line and column.

The standard library's parser gives values without places, and tomlkit a text that can be written
again, without offsets. Grammar: https://toml.io/en/v1.0.0, and the line breaks in inline tables of
1.1.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

Path = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_NEWLINE = re.compile(r"\r?\n")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")
_BASIC = re.compile(
    r'(?P<run>[^"\\\r]+)|(?P<end>"+)|(?P<newline>\r\n?)'
    r"|(?P<gap>\\[ \t]*\r?\n[ \t\r\n]*)"
    r"|\\(?:u(?P<u>.{4})|U(?P<U>.{8})|x(?P<x>..)|(?P<escaped>.))"
)
_LITERAL = re.compile(r"(?P<run>[^'\r]+)|(?P<end>'+)|(?P<newline>\r\n?)")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}


@dataclass(frozen=True, slots=True)
class Place:
    """Both count from 1, columns in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class _String:
    """A parsed text: `offsets` of each of its characters in the file, last that of its end."""

    text: str
    offsets: list[int]
    after: int


class Places:
    """The places in `text`, which must be valid TOML.

    A path is made of names and, for the elements of arrays and of arrays of tables, of indexes from
    0. What is not in the text has the place None.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._keys: dict[Path, int] = {}
        self._values: dict[Path, int] = {(): 0}
        self._explicit: set[Path] = set()
        self._tables: dict[Path, int] = {}
        self._read()

    def key(self, *path: str | int) -> Place | None:
        """Where the key stands; an element of an array has its value's place.

        The key of a table is the one in its own header, or the first that mentions it.
        """
        return self._place(self._keys.get(path, self._values.get(path)))

    def value(self, *path: str | int) -> Place | None:
        """Where the value begins, which of a table with a header is the header's bracket."""
        return self._place(self._values.get(path))

    def inside(self, offset: int, *path: str | int) -> Place | None:
        """Where the character `offset` (from 0) of a parsed text stands.

        Escapes, line breaks and skipped white space are taken into account; an offset behind the
        last character is where the text ends. None where the value is no text.
        """
        at = self._values.get(path)
        if at is None or self._text[at : at + 1] not in {'"', "'"}:
            return None
        offsets = self._string(at).offsets
        return self._place(offsets[min(offset, len(offsets) - 1)])

    def _place(self, offset: int | None) -> Place | None:
        if offset is None:
            return None
        line = bisect_right(self._lines, offset)
        return Place(line, offset - self._lines[line - 1] + 1)

    # The walk; each method takes the offset at which something begins, and returns the one after.

    def _read(self) -> None:
        table: Path = ()
        at = self._skip(_SPACE, 0)
        while at < len(self._text):
            if self._text[at] == "[":
                table, at = self._header(at)
            else:
                at = self._pair(table, at)
            at = self._skip(_SPACE, at)

    def _skip(self, what: re.Pattern[str], at: int) -> int:
        found = what.match(self._text, at)
        assert found is not None, "the text is not TOML"
        return found.end()

    def _header(self, at: int) -> tuple[Path, int]:
        brackets = 2 if self._text.startswith("[[", at) else 1
        names, after = self._names(self._skip(_BLANK, at + brackets))
        path: Path = ()
        for number, (name, offset) in enumerate(names, 1):
            path = (*path, name)
            last = number == len(names)
            self._mention(path, offset, at, explicit=last and brackets == 1)
            if last and brackets == 2:
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path = (*path, self._tables[path])
        if brackets == 2:
            self._values[path] = at
        return path, after + brackets

    def _mention(self, path: Path, key: int, value: int, *, explicit: bool) -> None:
        """A table is mentioned: its own header counts, else what mentions it first."""
        if explicit and path not in self._explicit:
            self._explicit.add(path)
            self._keys[path], self._values[path] = key, value
        else:
            self._keys.setdefault(path, key)
            self._values.setdefault(path, value)

    def _pair(self, table: Path, at: int) -> int:
        names, at = self._names(at)
        path = table
        for (name, offset), (_, following) in pairwise(names):
            path = (*path, name)
            self._mention(path, offset, following, explicit=False)
        name, offset = names[-1]
        path = (*path, name)
        self._keys[path] = offset
        return self._value(path, self._skip(_BLANK, at + 1))

    def _names(self, at: int) -> tuple[list[tuple[str, int]], int]:
        """The names of a dotted key with their offsets."""
        names: list[tuple[str, int]] = []
        while True:
            if self._text[at] in "\"'":
                string = self._string(at)
                names.append((string.text, at))
                at = string.after
            else:
                after = self._skip(_BARE_KEY, at)
                names.append((self._text[at:after], at))
                at = after
            at = self._skip(_BLANK, at)
            if self._text[at] != ".":
                return names, at
            at = self._skip(_BLANK, at + 1)

    def _value(self, path: Path, at: int) -> int:
        self._values[path] = at
        first = self._text[at]
        if first in "\"'":
            return self._string(at).after
        if first == "[":
            return self._members(path, at, "]")
        if first == "{":
            return self._members(path, at, "}")
        return self._skip(_SCALAR, at)

    def _members(self, path: Path, at: int, end: str) -> int:
        number = 0
        at = self._skip(_SPACE, at + 1)
        while self._text[at] != end:
            if end == "]":
                at = self._value((*path, number), at)
                number += 1
            else:
                at = self._pair(path, at)
            at = self._skip(_SPACE, at)
            if self._text[at] == ",":
                at = self._skip(_SPACE, at + 1)
        return at + 1

    def _string(self, at: int) -> _String:
        quote = self._text[at]
        marks = 3 if self._text.startswith(quote * 3, at) else 1
        pieces = _BASIC if quote == '"' else _LITERAL
        at += marks
        if marks == 3 and (newline := _NEWLINE.match(self._text, at)):
            at = newline.end()
        text: list[str] = []
        offsets: list[int] = []
        while True:
            piece = pieces.match(self._text, at)
            assert piece is not None, "the text is not TOML"
            kind, found = piece.lastgroup, piece[0]
            if kind == "end" and (marks == 1 or len(found) >= 3):
                # Up to two quotes may stand before the three that end the text.
                inner = 0 if marks == 1 else len(found) - 3
                text.append(found[:inner])
                offsets += range(at, at + inner + 1)
                return _String("".join(text), offsets, at + inner + marks)
            if kind in {"run", "end"}:
                text.append(found)
                offsets += range(at, piece.end())
            elif kind != "gap":
                text.append("\n" if kind == "newline" else _character(kind, piece))
                offsets.append(at)
            at = piece.end()


def _character(kind: str | None, piece: re.Match[str]) -> str:
    if kind == "escaped":
        return _ESCAPES.get(piece["escaped"], piece["escaped"])
    return chr(int(piece[kind or 0], 16))
