"""The lines of `rules`."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ddbrelay.output import Count, Printed

_AsInFile = Annotated[str | None, Meta(description="as in the file")]


class Rule(Printed, tag_field="type", tag="rule"):
    """One rule, in the order in which they are tried; then names that have hits and are no longer
    in the mapping, the names of the preset, and at last the one for everything else.
    """

    name: Annotated[str, Meta(description="may be empty for records that were counted without one")]
    in_file: Annotated[
        bool,
        Meta(
            description="whether the mapping file has it; if not, it is of the default mapping, or "
            "is no longer there"
        ),
    ]
    place: Annotated[str | None, Meta(description="file and line")]
    when: Annotated[
        dict[str, Any] | None,
        Meta(description="the pattern, as in the file; null where it matches every change"),
    ]
    source: _AsInFile
    detail_type: Annotated[str | None, Meta(description="as in the file; may have {holes}")]
    skip: Annotated[bool, Meta(description="whether it makes no event of what it matches")]
    goes_on: Annotated[bool, Meta(description="whether the next rules are tried as well")] = (
        msgspec.field(name="continue")
    )
    schema: Annotated[
        str | None,
        Meta(description="path of the JSON Schema that its events must fit, as in the file"),
    ]
    bus: Annotated[
        str | None,
        Meta(description="the bus of its events, as in the file; null for the one of the run"),
    ]
    rest: Annotated[
        bool,
        Meta(
            description="whether it is the last one, which stands for everything that none before "
            "it matches: skipped where skip is true, else parked"
        ),
    ]
    published: Annotated[
        Count,
        Meta(description="records of the consumer that were published by it, so far"),
    ]
    skipped: Annotated[Count, Meta(description="records that it skipped")]
    parked: Annotated[Count, Meta(description="records that were parked by it")]
