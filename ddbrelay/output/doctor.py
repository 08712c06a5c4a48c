"""The lines of `doctor`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from ddbrelay.output import Count, Printed, Seconds

Area = Literal[
    "credentials",
    "endpoints",
    "clock",
    "table",
    "bus",
    "targets",
    "sample",
    "permissions",
    "readers",
    "positions",
    "state",
    "settings",
]


class Finding(Printed, tag_field="type", tag="finding"):
    """One thing that was looked at: by area, and within one the worst first."""

    area: Area
    check: Annotated[
        str,
        Meta(description="what of the area was looked at; stable, so that a job can pass over it"),
    ]
    level: Annotated[
        Literal["ok", "note", "warning", "error"],
        Meta(
            description="error: the relay does not start, does not deliver, or loses records; "
            "note: worth knowing, or could not be looked at"
        ),
    ]
    what: Annotated[str, Meta(description="what was found, on one line")]
    why: Annotated[str | None, Meta(description="what comes of it; null where nothing does")]
    mend: Annotated[
        str | None,
        Meta(description="the command that mends it, or words where there is none"),
    ]


class DoctorSummary(Printed, tag_field="type", tag="summary"):
    """The last line."""

    ok: Annotated[Count, Meta(description="findings that are as they should be")]
    notes: Annotated[Count, Meta(description="findings of level note")]
    warnings: Annotated[
        Count,
        Meta(
            description="findings of level warning; with --strict they end the command with code 5"
        ),
    ]
    errors: Annotated[
        Count, Meta(description="findings of level error; they end the command with code 5")
    ]
    seconds: Annotated[Seconds, Meta(description="how long it took")]
