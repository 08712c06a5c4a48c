"""A hue for each event type, so that the eye can follow one."""

from __future__ import annotations

import zlib

PALETTE = (
    "cyan",
    "blue",
    "magenta",
    "bright_cyan",
    "bright_blue",
    "bright_magenta",
    "medium_purple",
    "steel_blue",
)
"""None of the colours of a fate; all of them can be read on light and on dark."""


def type_style(detail_type: str) -> str:
    """The style of an event type's name, the same one in every run."""
    # A CRC is linear: Created, Updated, Deleted and Expired differ in these bits whatever the noun.
    return PALETTE[zlib.crc32(detail_type.encode("utf-8", "replace")) >> 1 & 7]
