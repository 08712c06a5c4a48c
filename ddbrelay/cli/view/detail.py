"""An event in full: its JSON over several lines, and what an update changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import msgspec
from rich.cells import cell_len, chop_cells
from rich.text import Text

from ddbrelay.secrecy import hidden_bytes
from ddbrelay.text import counted, printable

INDENT = 10
"""Cells before each line, which puts it below the row's second column."""
MOST_LINES = 60
"""Lines of one event after which the rest is counted."""
_VALUE_CELLS = 600
"""Cells of one value, as a person reads them; a document of a megabyte is not for the screen."""
_KEY = re.compile(r'(\s*)("(?:[^"\\]|\\.)*": )?')
_ARRAY = re.compile(r"(?m)^(.*)\[\n\s+([^\[\]{}]*)\n\s*\](?=,?$)")
"""One without objects and arrays in it; JSON has no line break inside a text."""
_BREAK = re.compile(r",\n *")
_ABSENT = "–"
_MOST_CHANGES = 20


def detail_lines(event: Mapping[str, Any], width: int) -> list[Text]:
    """The event as indented JSON in lines of at most `width` cells; `msgspec.Raw` stays as it is.

    An array of plain values stands on one line where it fits. What is null in the event itself is
    left out; after MOST_LINES the lines of JSON that are left are only counted.
    """
    given = {name: value for name, value in event.items() if value is not None}
    whole = hidden_bytes(msgspec.json.encode(given))
    document = msgspec.json.format(whole, indent=2).decode(errors="replace")
    lines = _ARRAY.sub(partial(_on_one_line, width), document).split("\n")
    shown: list[Text] = []
    for number, line in enumerate(lines):
        shown += _folded(line, width)
        left = len(lines) - number - 1
        if len(shown) >= MOST_LINES and left:
            return [*shown, _more(left, "line", width)]
    return shown


def changed_lines(diff: Mapping[str, Mapping[str, Any]], width: int) -> list[Text]:
    """`path: before → after` for each field that an update changed, of at most `width` cells.

    `diff` is that of a change: for each attribute its values `before` and `after`, without the one
    that it lacks. Of a map each member that differs has a line of its own.
    """
    found = [
        line for name, sides in sorted(diff.items()) for line in _leaves(printable(name), sides)
    ]
    lines = [_change(path, before, after, width) for path, before, after in found[:_MOST_CHANGES]]
    if len(found) > _MOST_CHANGES:
        lines.append(_more(len(found) - _MOST_CHANGES, "field", width))
    return lines


def _on_one_line(width: int, found: re.Match[str]) -> str:
    flat = f"{found[1]}[{_BREAK.sub(', ', found[2])}]"
    return flat if cell_len(flat) < width - INDENT else found[0]


def _more(number: int, noun: str, width: int) -> Text:
    words = f"… {counted(number, f'more {noun}')}; --output json has all of it"
    text = Text(" " * INDENT + words, style="dim", no_wrap=True)
    text.truncate(width, overflow="ellipsis")
    return text


def _folded(line: str, width: int) -> Iterator[Text]:
    """One line of JSON on as many lines as it needs, those after the first below its value."""
    found = _KEY.match(line)
    assert found is not None, "the pattern takes every text"
    key, value = printable(found[2] or ""), printable(line[found.end() :])
    room = max(width - INDENT, 10)
    before = len(found[1]) % max(room - 8, 1)
    if cell_len(value) > _VALUE_CELLS:
        cut = next(iter(chop_cells(value, _VALUE_CELLS)))
        value = f"{cut} … ({len(value):,} characters)"
    head = " " * (INDENT + before)
    first, *rest = chop_cells(key + value, max(room - before, 4)) or [""]
    parts = [first, *chop_cells("".join(rest), max(room - before - 2, 2))]
    left = len(key)
    for number, part in enumerate(parts):
        text = Text(head if number == 0 else f"{head}  ", no_wrap=True)
        of_key, left = part[:left], max(left - len(part), 0)
        text.append(of_key, style="dim").append(part[len(of_key) :])
        text.truncate(width)
        yield text


def _leaves(path: str, sides: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Path, value before and value after of each field below this one that differs."""
    before, after = sides.get("before"), sides.get("after")
    if isinstance(before, dict) and isinstance(after, dict) and before and after:
        for name in sorted(before.keys() | after.keys()):
            inner = {
                word: image[name]
                for word, image in (("before", before), ("after", after))
                if name in image
            }
            if len(inner) < 2 or _json(inner["before"]) != _json(inner["after"]):
                yield from _leaves(f"{path}.{printable(name)}", inner)
        return
    was, is_now = (_json(sides[w]) if w in sides else _ABSENT for w in ("before", "after"))
    yield path, was, is_now


def _json(value: Any) -> str:
    encoded = hidden_bytes(msgspec.json.encode(value, order="sorted"))
    return printable(encoded.decode(errors="replace"))


def _change(path: str, before: str, after: str, width: int) -> Text:
    room = max(width - INDENT - 5, 12)
    path = _cut(path, max(room - cell_len(before) - cell_len(after), room // 3))
    room = max(room - cell_len(path), 2)
    # A short value leaves its room to the other one.
    half = room // 2
    if min(cell_len(before), cell_len(after)) > half:
        before, after = _from_the_difference(before, after, half)
    before = _cut(before, max(room - cell_len(after), half))
    after = _cut(after, max(room - cell_len(before), half))
    text = Text(" " * INDENT, no_wrap=True)
    text.append(f"{path}: ", style="dim").append(before).append(" → ", style="dim").append(after)
    text.truncate(width)
    return text


def _from_the_difference(before: str, after: str, room: int) -> tuple[str, str]:
    """Both without most of what they begin with alike, where that would fill the room."""
    pairs = enumerate(zip(before, after, strict=False))
    alike = next((at for at, (one, other) in pairs if one != other), 0)
    start = alike - room // 4
    if cell_len(before[:alike]) <= room * 3 // 4:
        return before, after
    return f"…{before[start:]}", f"…{after[start:]}"


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return chop_cells(text, max(width - 1, 1))[0] + "…"
