"""Who else reads the stream: a shard serves two readers, and throttles from the third on.

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Streams.html#Streams.Processing,
https://docs.aws.amazon.com/lambda/latest/api/API_ListEventSourceMappings.html and
https://docs.aws.amazon.com/eventbridge/latest/pipes-reference/API_ListPipes.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ddbrelay.checkup.asking import Answer, asked, refused
from ddbrelay.checkup.findings import Area, Finding, Subject
from ddbrelay.infra.calls import call, pages
from ddbrelay.text import listed

if TYPE_CHECKING:
    from ddbrelay.aws.session import Aws

AREA = Area("readers")
MOST = 2
"""Readers that a shard serves at once."""
_OFF = frozenset({"Disabled", "Disabling", "Deleting"})
_PIPE_OFF = frozenset({"STOPPED", "DELETED"})


@dataclass(frozen=True)
class Reader:
    """Something else that reads the stream, in words: `the function resize`."""

    name: str


def functions(aws: Aws, stream_arn: str) -> Answer[list[Reader]]:
    """The Lambda functions behind the stream."""

    doing = "list the functions behind the stream"

    def ask() -> list[Reader]:
        question = partial(
            call,
            aws.client("lambda"),
            "list_event_source_mappings",
            doing,
            EventSourceArn=stream_arn,
        )
        return [
            Reader(f"the function {str(one.get('FunctionArn', '')).partition(':function:')[2]}")
            for page in pages(question, doing, "NextMarker", "Marker")
            for one in page.get("EventSourceMappings", ())
            if one.get("State") not in _OFF
        ]

    return asked(ask, doing)


def pipes(aws: Aws, stream_arn: str) -> Answer[list[Reader]]:
    """The pipes behind the stream."""

    doing = "list the pipes behind the stream"

    def ask() -> list[Reader]:
        question = partial(call, aws.client("pipes"), "list_pipes", doing, SourcePrefix=stream_arn)
        return [
            Reader(f"the pipe {one['Name']}")
            for page in pages(question, doing, "NextToken", "NextToken")
            for one in page.get("Pipes", ())
            if one.get("DesiredState", "RUNNING") not in _PIPE_OFF
        ]

    return asked(ask, doing)


def judge(
    subject: Subject, asked_for: Sequence[Answer[list[Reader]]], consumers: Sequence[str]
) -> list[Finding]:
    """`consumers` are other names in the state file under which the stream is read now."""
    found = [
        refused(AREA, "readers", answer, emulated=subject.emulated)
        for answer in asked_for
        if answer.refusal is not None
    ]
    others = [one.name for answer in asked_for for one in answer.value or ()]
    others += [f'the consumer "{name}"' for name in consumers]
    if len(others) + 1 > MOST:
        words = f"{len(others) + 1} readers of one stream: {listed(others)}, and this relay"
        why = "a shard serves two readers at once: more throttle each other, and lag grows"
        mend = "one relay, and rules on the bus for whoever else wants the changes"
        return [AREA.warning("readers", words, why, mend), *found]
    if others:
        return [
            AREA.ok("readers", f"{listed(others)} reads the stream too, which is all it takes"),
            *found,
        ]
    if not found:
        found.append(AREA.ok("readers", "nobody else reads the stream"))
    return found
