"""The lines of `help`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from ddbrelay.output import Printed


class Topic(Printed, tag_field="type", tag="topic"):
    """A text to be read: of a topic, of a command, or the list of both."""

    name: Annotated[str, Meta(description="the words behind help; help where there were none")]
    text: str


class Schema(Printed, tag_field="type", tag="schema"):
    """What a command prints under --output json: help output COMMAND."""

    name: Annotated[str, Meta(description="the command, positions.list for one of a group")]
    schema: Annotated[
        dict[str, Any],
        Meta(description="JSON Schema (draft 2020-12) of one printed line"),
    ]
