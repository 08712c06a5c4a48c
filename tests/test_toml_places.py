"""Where keys and values stand in a TOML text, to the character."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddbrelay.toml_places import Place, Places

FILE = '''\
# A comment with [brackets] and "quotes".
preset = "outbox"
"quoted key" = 'literal'
bus . "na.me" = 1979-05-27 07:32:00Z  # dotted

[source]
table = "users"

[[rule]]
name = "first"
when = { eventName = ["INSERT", "MODIFY"], new = { type = [{ prefix = "order#" }] } }
detail = """
{metadata: {id: eventID}, \\
    data: "\\u00e9\\tend"}"""

  [ rule . detail2 ]
  a = "{x}"

[[rule]]
when = {eventName = ["REMOVE"]}
list = [
  1,  # one
  "two", [true, 4.5],
]
'''


def at(text: str, path: tuple[str | int, ...], kind: str = "key") -> str:
    """What of the line follows the place."""
    place = getattr(Places(text), kind)(*path)
    assert place is not None
    return text.split("\n")[place.line - 1][place.column - 1 :]


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("preset",), "preset =", '"outbox"'),
        (("quoted key",), '"quoted key" =', "'literal'"),
        (("bus",), "bus .", '"na.me" ='),
        (("bus", "na.me"), '"na.me" =', "1979-05-27"),
        (("source",), "source]", "[source]"),
        (("source", "table"), "table =", '"users"'),
        (("rule",), "rule]]", "[[rule]]"),
        (("rule", 0), "[[rule]]", "[[rule]]"),
        (("rule", 0, "when", "eventName"), "eventName = [", '["INSERT",'),
        (("rule", 0, "when", "eventName", 1), '"MODIFY"]', '"MODIFY"]'),
        (("rule", 0, "when", "new", "type", 0, "prefix"), "prefix =", '"order#" }'),
        (("rule", 0, "detail2"), "detail2 ]", "[ rule . detail2 ]"),
        (("rule", 0, "detail2", "a"), "a =", '"{x}"'),
        (("rule", 1, "when"), "when = {eventName", "{eventName"),
        (("rule", 1, "list", 0), "1,", "1,"),
        (("rule", 1, "list", 2), "[true,", "[true,"),
        (("rule", 1, "list", 2, 1), "4.5]", "4.5]"),
    ],
)
def test_each_key_and_value_has_its_place(
    path: tuple[str | int, ...], key: str, value: str
) -> None:
    assert tomllib.loads(FILE)
    assert at(FILE, path).startswith(key)
    assert at(FILE, path, "value").startswith(value)


def test_what_is_not_there_has_no_place() -> None:
    places = Places(FILE)
    assert places.key("rule", 2) is None
    assert places.value("nobody") is None
    assert places.inside(0, "nobody") is None
    assert places.inside(0, "rule", 1, "list", 0) is None
    assert Places("").value() == Place(1, 1)


def test_the_elements_of_an_array_of_tables_are_counted_in_each_table_that_has_one() -> None:
    text = "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n"
    places = Places(text)
    found = [places.value("a", *path, "x") for path in ((0, "b", 0), (0, "b", 1), (1, "b", 0))]
    assert found == [Place(3, 5), Place(5, 5), Place(8, 5)]


def test_the_header_of_a_table_counts_more_than_those_of_its_parts() -> None:
    text = "[a.b]\nx = 1\n[a]\ny = 2\n"
    assert Places(text).key("a") == Place(3, 2)
    assert Places(text).value("a") == Place(3, 1)
    assert Places(text).key("a", "b") == Place(1, 4)
    assert Places(text[:12]).key("a") == Place(1, 2)


@pytest.mark.parametrize(
    ("written", "offset", "place"),
    [
        ('x = "abc"', 1, Place(1, 7)),
        ('x = "abc"', 3, Place(1, 9)),
        ('x = "abc"', 99, Place(1, 9)),
        ('x = ""', 0, Place(1, 6)),
        ("x = 'a\\b'", 2, Place(1, 8)),
        (r'x = "a\n\u00e9\U0001F600z"', 4, Place(1, 25)),
        ('x = """\nab\ncd"""', 3, Place(3, 1)),
        ('x = """\r\nab\r\ncd"""', 3, Place(3, 1)),
        ('x = """ab\\\n\n   cd"""', 2, Place(3, 4)),
        ("x = '''a''b'''", 3, Place(1, 11)),
        ('x = """"a""""', 2, Place(1, 10)),
        ('x = """a"""', 1, Place(1, 9)),
    ],
)
def test_a_character_of_a_text_is_found_behind_escapes_and_line_breaks(
    written: str, offset: int, place: Place
) -> None:
    assert tomllib.loads(written)
    assert Places(written).inside(offset, "x") == place


def test_columns_count_characters_not_bytes() -> None:
    assert Places('x = { "é😀" = "y" }').value("x", "é😀") == Place(1, 14)


# Texts that are written with the places remembered


@dataclass
class Writer:
    """Writes TOML and remembers where keys, values and the characters of texts begin and end."""

    newline: str
    text: str = ""
    keys: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    values: dict[tuple[str | int, ...], tuple[int, int]] = field(default_factory=dict)
    characters: dict[tuple[str | int, ...], list[int]] = field(default_factory=dict)

    def put(self, text: str) -> None:
        self.text += text

    def place(self, offset: int) -> Place:
        before = self.text[:offset]
        return Place(before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1)


BARE = st.text("abcXYZ019_-", min_size=1, max_size=5)
CHARACTERS = st.characters(codec="utf-8", exclude_characters="\r", exclude_categories=("Cs",))
TEXTS = st.text(st.one_of(CHARACTERS, st.sampled_from("\"'\\\n\t []{}#=,.é😀")), max_size=12)
KEYS = st.one_of(BARE, TEXTS)
SCALARS = st.sampled_from(
    ["1", "-0.5e3", "true", "inf", "0xff", "1979-05-27", "07:32:00", "1979-05-27 07:32:00-07:00"]
)
TREES = st.recursive(
    st.one_of(TEXTS, SCALARS.map(lambda text: ("scalar", text))),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: ("list", items))
        | st.dictionaries(KEYS, inner, max_size=3).map(lambda items: ("table", items))
    ),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, TREES, max_size=3)


def basic(character: str, *, lines: bool, verbose: bool) -> str:
    if character in '"\\':
        return "\\" + character
    if character == "\n" and lines:
        return character
    if verbose or ord(character) == 127 or (ord(character) < 32 and character != "\t"):
        code = ord(character)
        return {10: "\\n", 9: "\\t"}.get(
            code, f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        )
    return character


def plain_enough(text: str, *, lines: bool) -> bool:
    """Whether a literal text can hold it."""
    allowed = "\t\n" if lines else "\t"
    return "'" not in text and all(
        character in allowed or (ord(character) >= 32 and ord(character) != 127)
        for character in text
    )


def write_text(draw: st.DrawFn, out: Writer, text: str, *, key: bool = False) -> list[int]:
    lines = not key and draw(st.booleans())
    literal = plain_enough(text, lines=lines) and draw(st.booleans())
    marks = ("'" if literal else '"') * (3 if lines else 1)
    out.put(marks)
    if lines:
        out.put(out.newline)
    offsets = []
    for character in text:
        if lines and not literal and draw(st.integers(0, 5)) == 0:
            out.put("\\" + draw(st.sampled_from(["", "  "])) + out.newline + "  " + out.newline)
            # White space behind such a break belongs to the break.
            verbose = True
        else:
            verbose = draw(st.booleans())
        offsets.append(len(out.text))
        if literal or (character == "\n" and lines and not verbose):
            out.put(out.newline if character == "\n" else character)
        elif verbose and character == " ":
            out.put("\\u0020")
        else:
            out.put(basic(character, lines=lines and not verbose, verbose=verbose))
    offsets.append(len(out.text))
    out.put(marks)
    return offsets


def space(draw: st.DrawFn, out: Writer, *, lines: bool = False) -> None:
    if lines:
        out.put(draw(st.sampled_from(["", " ", out.newline, f" # ]}}'\"{out.newline}\t"])))
    else:
        out.put(draw(st.sampled_from(["", " ", "\t "])))


def write_key(draw: st.DrawFn, out: Writer, name: str) -> int:
    offset = len(out.text)
    bare = name and all(character in "abcXYZ019_-" for character in name)
    if bare and draw(st.booleans()):
        out.put(name)
    else:
        write_text(draw, out, name, key=True)
    return offset


def write_value(draw: st.DrawFn, out: Writer, tree: Any, path: tuple[str | int, ...]) -> None:
    begin = len(out.text)
    if isinstance(tree, str):
        out.characters[path] = write_text(draw, out, tree)
    elif tree[0] == "scalar":
        out.put(tree[1])
    elif tree[0] == "list":
        out.put("[")
        for number, item in enumerate(tree[1]):
            space(draw, out, lines=True)
            write_value(draw, out, item, (*path, number))
            space(draw, out, lines=True)
            if number < len(tree[1]) - 1 or draw(st.booleans()):
                out.put(",")
        space(draw, out, lines=True)
        out.put("]")
    else:
        out.put("{")
        for number, (name, item) in enumerate(tree[1].items()):
            out.put(", " if number else "")
            write_pair(draw, out, name, item, path)
            space(draw, out)
        out.put("}")
    out.values[path] = (begin, len(out.text))


def write_pair(
    draw: st.DrawFn, out: Writer, name: str, tree: Any, path: tuple[str | int, ...]
) -> None:
    space(draw, out)
    path = (*path, name)
    out.keys[path] = write_key(draw, out, name)
    # A table of one key may be written with a dot.
    while not isinstance(tree, str) and tree[0] == "table" and len(tree[1]) == 1:
        if not draw(st.booleans()):
            break
        ((inner, tree),) = tree[1].items()
        space(draw, out)
        out.put(".")
        space(draw, out)
        path = (*path, inner)
        out.keys[path] = write_key(draw, out, inner)
    space(draw, out)
    out.put("=")
    space(draw, out)
    write_value(draw, out, tree, path)


@st.composite
def written(draw: st.DrawFn) -> Writer:
    out = Writer(draw(st.sampled_from(["\n", "\r\n"])))
    pairs = draw(TABLES)
    sections = draw(
        st.dictionaries(KEYS.filter(lambda name: name not in pairs), st.lists(TABLES), max_size=3)
    )
    for name, tree in pairs.items():
        write_pair(draw, out, name, tree, ())
        out.put(out.newline)
    for name, tables in sections.items():
        many = len(tables) != 1 or draw(st.booleans())
        for number, table in enumerate(tables):
            space(draw, out, lines=True)
            begin = len(out.text)
            out.put("[[" if many else "[")
            space(draw, out)
            out.keys.setdefault((name,), write_key(draw, out, name))
            space(draw, out)
            out.put("]]" if many else "]")
            path: tuple[str | int, ...] = (name, number) if many else (name,)
            out.keys.setdefault(path, begin)
            space(draw, out)
            out.put(draw(st.sampled_from(["", "# comment = 1"])) + out.newline)
            for inner, tree in table.items():
                write_pair(draw, out, inner, tree, path)
                out.put(out.newline)
    return out


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Everything in a parsed document with its path."""
    yield path, value
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            yield from leaves(inner, (*path, name))


def same(one: Any, other: Any) -> bool:
    return repr(one) == repr(other)


@pytest.mark.slow
@settings(max_examples=60)
@given(written())
def test_every_key_and_value_of_any_text_is_where_it_was_written(out: Writer) -> None:
    document = tomllib.loads(out.text)
    places = Places(out.text)
    for path, offset in out.keys.items():
        assert places.key(*path) == out.place(offset)
    for path, (begin, _) in out.values.items():
        assert places.value(*path) == out.place(begin)
    for path, _ in leaves(document):
        assert places.key(*path) is not None or path == ()


@pytest.mark.slow
@settings(max_examples=60)
@given(written())
def test_the_text_at_a_value_is_what_the_parser_gives(out: Writer) -> None:
    places = Places(out.text)
    for path, value in leaves(tomllib.loads(out.text)):
        if path in out.values:
            begin, end = out.values[path]
            assert places.value(*path) == out.place(begin)
            assert same(tomllib.loads(f"x = {out.text[begin:end]}")["x"], value)


@pytest.mark.slow
@settings(max_examples=60)
@given(written())
def test_every_character_of_a_text_is_where_it_was_written(out: Writer) -> None:
    places = Places(out.text)
    for path, value in leaves(tomllib.loads(out.text)):
        if path in out.characters:
            offsets = out.characters[path]
            assert len(offsets) == len(value) + 1
            for number, offset in enumerate(offsets):
                assert places.inside(number, *path) == out.place(offset)
