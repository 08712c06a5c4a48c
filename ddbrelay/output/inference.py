"""The lines of `schema`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ddbrelay.output import Count, EventId, Printed


class InferredSchema(Printed, tag_field="type", tag="schema"):
    """The schema of one detail type, as inferred from its events."""

    detail_type: str
    examples: Annotated[Count, Meta(description="events that it was inferred from")]
    schema: Annotated[dict[str, Any], Meta(description="a JSON Schema of draft 2020-12")]
    file: Annotated[str | UnsetType, Meta(description="with --dir: where it was written")] = UNSET
    state: Annotated[
        Literal["written", "replaced", "unchanged"] | UnsetType,
        Meta(description="with --dir: what became of the file"),
    ] = UNSET


class Mismatch(Printed, tag_field="type", tag="mismatch"):
    """With --check: an event that does not fit its schema, or a record of which none can be
    made.
    """

    detail_type: Annotated[str | None, Meta(description="null where no event can be made")]
    event_id: EventId = msgspec.field(name="eventID")
    rule: str | None
    reason: Annotated[str, Meta(description="what does not fit, and where in the detail")]


class CheckSummary(Printed, tag_field="type", tag="summary"):
    """With --check, last. The exit code is 6 unless every event fits."""

    checked: Annotated[Count, Meta(description="events compared with a schema")]
    unfit: Annotated[Count, Meta(description="events that do not fit")]
    failed: Annotated[Count, Meta(description="records of which no event can be made")]
    without_schema: Annotated[
        dict[str, Count], Meta(description="events that have no schema, by detail type")
    ]
