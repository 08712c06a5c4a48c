"""The lines of `expect`."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ddbrelay.output import Count, Printed, RunSeconds, Seconds

_Line = Annotated[int, Meta(ge=1, description="of the file, where it begins")]
_Event = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "object"})]
_What = Annotated[str, Meta(description="what is wrong, on one line")]
_Explanation = Annotated[list[str], Meta(description="lines for a person: what came instead")]


class OfScenario(Printed):
    """What every line but the last says of its scenario."""

    scenario: Annotated[str, Meta(description="its name")]
    file: Annotated[str, Meta(description="as it was given on the command line")]
    run: Annotated[str, Meta(description="what stood for {run}")]


class Step(OfScenario, kw_only=True, tag_field="type", tag="step"):
    """A step that was done, or failed."""

    number: Annotated[int, Meta(ge=1, description="of the step in its file, from 1")]
    title: Annotated[str, Meta(description="its name, or what it does")]
    action: Literal["put", "update", "delete", "run"]
    line: _Line
    key: Annotated[
        msgspec.Raw,
        Meta(
            description="key attributes of the item with their values; null for a command",
            extra_json_schema={"type": ["object", "null"], "additionalProperties": True},
        ),
    ]
    ok: bool
    error: Annotated[
        str | None,
        Meta(description="why a command failed, DynamoDB refused to write, or `interrupted`"),
    ]
    output: Annotated[list[str], Meta(description="the last lines that a failed command printed")]
    seconds: Annotated[Seconds, Meta(description="how long it took")]


class Met(OfScenario, kw_only=True, tag_field="type", tag="met"):
    """An expectation that is met."""

    name: Annotated[str, Meta(description="of the [[expect]] or [[never]]")]
    never: Annotated[bool, Meta(description="whether it is a [[never]]")]
    line: _Line
    came: Annotated[Count, Meta(description="distinct events that matched")]
    events: Annotated[
        list[_Event], Meta(description="the event that met it; of several the last one")
    ]
    seconds: Annotated[Seconds, Meta(description="from the first write until this was known")]


class Unmet(Met, kw_only=True, tag="unmet"):
    """An expectation that is not met."""

    events: Annotated[
        list[_Event],
        Meta(
            description="missing: what came that nothing asked for, at most 5; order: the two, as "
            "they were; times: those too many, at most 5"
        ),
    ]
    reason: Annotated[
        Literal["missing", "order", "times"],
        Meta(description="did not come in time; came in the wrong order; came too often"),
    ]
    what: _What
    explanation: _Explanation


class Forbidden(Met, kw_only=True, tag="forbidden"):
    """An event that must never come, came."""

    events: Annotated[list[_Event], Meta(description="the first of them")]
    what: _What
    explanation: _Explanation


class ExpectSummary(Printed, kw_only=True, tag_field="type", tag="summary"):
    """The last line; the exit code is 6 when `unmet` is not 0, but 5 where DynamoDB refused to
    write what a step asks for.
    """

    scenarios: Annotated[Count, Meta(description="files")]
    met: Annotated[Count, Meta(description="scenarios")]
    unmet: Annotated[Count, Meta(description="scenarios")]
    skipped: Annotated[
        Count,
        Meta(description="scenarios that were not run because an earlier one is unmet"),
    ]
    expectations: Annotated[Count, Meta(description="that were judged")]
    failures: Annotated[Count, Meta(description="expectations that are not met")]
    events: Annotated[Count, Meta(description="distinct events that came")]
    repeats: Annotated[Count, Meta(description="events that came again")]
    seconds: RunSeconds
