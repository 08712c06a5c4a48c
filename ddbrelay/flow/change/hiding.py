"""Images without the attributes that nobody may see.

A path is the names from the outside in, in which `*` stands for any characters. Lists, and texts
that are JSON, are looked through.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from ddbrelay.flow.change.attributes import (
    NO_JSON,
    UndecodableError,
    attributes_of,
    decoded,
    sole_type,
)

REDACTED = "[redacted]"
"""What stands in the place of an attribute that nobody may see."""
_json = msgspec.json.Decoder(float_hook=Decimal)


def fits(pattern: str, name: str) -> bool:
    """Whether an attribute has the name that a step of a path asks for."""
    return pattern == name or ("*" in pattern and _match(pattern)(name) is not None)


@lru_cache(maxsize=1024)
def _match(pattern: str) -> Callable[[str], object]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL).fullmatch


def _fitting(pattern: str, names: Mapping[str, object]) -> Iterable[str]:
    if "*" in pattern:
        match = _match(pattern)
        return [name for name in names if match(name) is not None]
    return (pattern,) if pattern in names else ()


def redacted(
    raw: msgspec.Raw | msgspec.UnsetType,
    paths: Iterable[Sequence[str]],
    keys: Collection[str],
) -> msgspec.Raw | msgspec.UnsetType:
    """An image with what lies at these paths replaced, except for its key attributes.

    Raises UndecodableError for an image of which nobody can tell what is to be hidden.
    """
    image = attributes_of(raw)
    if image is None:
        return raw
    for first, *inner in paths:
        for name in _fitting(first, image):
            if name in keys:
                continue
            try:
                value = _without(decoded(image[name]), inner, name)
            except RecursionError as error:
                raise UndecodableError(f"no attribute value: {error}") from None
            image[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.Raw(msgspec.json.encode(image))


def _without(value: Any, path: Sequence[str], at: str) -> Any:
    """A typed attribute value with what lies at the path replaced; `at` is where it stands."""
    kind, inside = sole_type(value, at)
    if not path:
        return {"S": REDACTED}
    if kind == "S" and isinstance(inside, str):
        return {kind: _without_in_json(inside, path)}
    if kind == "B" and isinstance(inside, str):
        return {kind: _without_in_binary(inside, path)}
    if kind == "L" and isinstance(inside, list):
        return {kind: [_without(one, path, f"{at}[{index}]") for index, one in enumerate(inside)]}
    if kind != "M" or not isinstance(inside, dict):
        return value
    hidden = {
        name: _without(inside[name], path[1:], f"{at}.{name}") for name in _fitting(path[0], inside)
    }
    return {kind: inside | hidden} if hidden else value


def _without_in_json(text: str, path: Sequence[str]) -> str:
    """A text with what lies at the path replaced, where it is JSON; every other digit stays."""
    found = _hidden(msgspec.Raw(text.encode("utf-8", "surrogatepass")), path)
    return text if found is None else bytes(found).decode()


def _without_in_binary(text: str, path: Sequence[str]) -> str:
    """The same for binary in base64."""
    try:
        found = _hidden(msgspec.Raw(b64decode(text)), path)
    except ValueError:
        return text
    return text if found is None else b64encode(bytes(found)).decode()


def _hidden(raw: msgspec.Raw, path: Sequence[str]) -> msgspec.Raw | None:
    """The piece of JSON without what lies at the path; None where nothing does."""
    if not path:
        return msgspec.Raw(msgspec.json.encode(REDACTED))
    try:
        inside = msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except (*NO_JSON, msgspec.ValidationError):
        return None
    if isinstance(inside, list):
        hidden = [_hidden(one, path) for one in inside]
        if all(one is None for one in hidden):
            return None
        pairs = zip(inside, hidden, strict=True)
        return msgspec.Raw(msgspec.json.encode([one if new is None else new for one, new in pairs]))
    below = {name: _hidden(inside[name], path[1:]) for name in _fitting(path[0], inside)}
    found = {name: new for name, new in below.items() if new is not None}
    return msgspec.Raw(msgspec.json.encode(inside | found)) if found else None


def values_at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """The plain values at a path of a plain value; of lists each element."""
    if isinstance(value, list):
        for one in value:
            yield from values_at(one, path)
    elif not path:
        yield value
    else:
        if isinstance(value, str):
            value = _read(value)
        if isinstance(value, list):
            yield from values_at(value, path)
        elif isinstance(value, dict):
            for name in _fitting(path[0], value):
                yield from values_at(value[name], path[1:])


def _read(text: str) -> Any:
    """What a text says where it is JSON, or JSON in base64 as binary is; None for any other."""
    for read in (str, _from_base64):
        try:
            return _json.decode(read(text))
        except (ValueError, *NO_JSON):
            continue
    return None


def _from_base64(text: str) -> bytes:
    return b64decode(text, validate=True)
