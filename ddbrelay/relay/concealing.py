"""Hides in what is stored of a dead letter what today's mapping redacts.

A letter that was parked before an attribute was redacted holds it still: in its record, where the
attribute has a name, and in its events and its reason, in which a mapping may have put the value
anywhere. There the name hides what stands below it, and the value is hidden wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

from ddbrelay.flow.change import (
    REDACTED,
    Change,
    Origin,
    UndecodableError,
    decode_record,
    fits,
    values_at,
)
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.tracking import DeadLetter, events_of, stored_events

_SHORTEST = 4
"""Characters of a value that is known again without its name; shorter ones stand everywhere."""
_Path = tuple[str, ...]
_json = msgspec.json.Decoder(float_hook=Decimal)
_encode = msgspec.json.Encoder(decimal_format="number").encode


def concealed(stored: DeadLetter, redact: Iterable[Sequence[str]]) -> DeadLetter:
    """The letter without the attributes at these paths; the same one where there are no paths.

    Raises msgspec.DecodeError, or UnicodeDecodeError, where what is stored cannot be read: nobody
    knows what stands in it then.
    """
    paths = [tuple(path) for path in redact]
    if not paths:
        return stored
    change = Change(decode_record(stored.record), "", Origin("", ""))
    keys = _read(change, "keys")
    images = [_read(change, "old"), _read(change, "new")]
    images = [{name: image[name] for name in image.keys() - keys.keys()} for image in images]
    paths = [path for path in paths if path[0] not in keys]
    texts = {text for image in images for path in paths for text in _texts_at(image, path)}
    longest_first = sorted(texts - {REDACTED}, key=len, reverse=True)
    change.redact(paths)
    event = stored.event
    if event is not None:
        events = [one and _event_without(one, paths, longest_first) for one in events_of(event)]
        event = stored_events(events)
    return replace(
        stored,
        record=msgspec.json.encode(change.record),
        event=event,
        reason=_text_without(stored.reason, longest_first),
    )


def _read(change: Change, name: str) -> dict[str, Any]:
    try:
        return getattr(change, name) or {}
    except UndecodableError:
        # Nothing is left of an image that cannot be read, and its values are not known.
        return {}


def _texts_at(value: Any, path: _Path) -> Iterator[str]:
    """The texts and numbers that lie at a path, or below it."""
    for one in values_at(value, path):
        yield from _texts_in(one)


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, list | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(one)
    elif len(text := _text(value)) >= _SHORTEST:
        yield text


def _text(value: Any) -> str:
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    return "" if value is None or isinstance(value, bool) else str(value)


def _event_without(event: Event, paths: Sequence[_Path], texts: Sequence[str]) -> Event:
    detail = _json.decode(event.detail)
    hidden = _without(detail, paths, paths, texts)
    return msgspec.structs.replace(
        event,
        detail=event.detail if hidden == detail else _encode(hidden),
        detail_type=_text_without(event.detail_type, texts),
        resources=tuple(_text_without(one, texts) for one in event.resources),
    )


def _without(
    value: Any, here: Sequence[_Path], anywhere: Sequence[_Path], texts: Sequence[str]
) -> Any:
    """A value of JSON without what lies at the paths from here, and without these texts."""
    if isinstance(value, dict):
        found = {}
        for name, one in value.items():
            below = [path[1:] for path in here if fits(path[0], name)]
            hides = () in below
            inner = [*anywhere, *below]
            found[name] = REDACTED if hides else _without(one, inner, anywhere, texts)
        return found
    if isinstance(value, list):
        return [_without(one, here, anywhere, texts) for one in value]
    if isinstance(value, str):
        return _text_without(value, texts)
    return REDACTED if _text(value) in texts else value


def _text_without(text: str, texts: Sequence[str]) -> str:
    for one in texts:
        text = text.replace(one, REDACTED)
    return text
