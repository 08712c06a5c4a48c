"""A raw stream record -> a change: what happened to which item, with its images as plain JSON."""

from __future__ import annotations

from ddbrelay.flow.change.attributes import (
    Digits,
    UndecodableError,
    plain,
    typed_image,
)
from ddbrelay.flow.change.change import TTL_PRINCIPAL, Change, Origin
from ddbrelay.flow.change.hiding import REDACTED, fits, values_at
from ddbrelay.flow.change.records import (
    Note,
    creation_time,
    decode_lambda_event,
    decode_page,
    decode_record,
    unheard,
)

__all__ = [
    "REDACTED",
    "TTL_PRINCIPAL",
    "Change",
    "Digits",
    "Note",
    "Origin",
    "UndecodableError",
    "creation_time",
    "decode_lambda_event",
    "decode_page",
    "decode_record",
    "fits",
    "plain",
    "typed_image",
    "unheard",
    "values_at",
]
