"""The line of `seed`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ddbrelay.output import Count, Printed, RunSeconds


class SeedSummary(Printed, tag_field="type", tag="summary"):
    """The writes that DynamoDB confirmed, also after an interrupt."""

    inserted: Annotated[Count, Meta(description="items")]
    updated: Annotated[Count, Meta(description="writes")]
    deleted: Annotated[Count, Meta(description="items")]
    seconds: RunSeconds
