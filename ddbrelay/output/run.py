"""The last line of `tail`, `replay` and `demo`."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from ddbrelay.flow.tracking import Fate
from ddbrelay.jobs import Ended
from ddbrelay.output import Count, Printed, RunSeconds, SequenceNumber, Time
from ddbrelay.output.outcome import Lost
from ddbrelay.times import iso

End = Literal["stopped", "timeout", "idle", "max-records", "ended", "gone"]


class ReplaySummary(Printed, tag_field="type", tag="summary"):
    """The last line: what the run came to."""

    read: Annotated[Count, Meta(description="records read from the stream")]
    published: Annotated[Count, Meta(description="records of which every event was published")]
    events: Annotated[
        Count,
        Meta(
            description="events that the bus took; more than published where a record makes several"
        ),
    ]
    skipped: Annotated[Count, Meta(description="records that the mapping makes no event of")]
    skipped_by: Annotated[
        dict[str, Count],
        Meta(
            description='the same by the rule that skipped them ("no rule" for what none matches)'
        ),
    ]
    parked: Annotated[
        Count, Meta(description="records that became dead letters; without --forward, that would")
    ]
    lost: Annotated[
        list[Lost],
        Meta(description="the gaps of this run; the exit code is 4 where there is one"),
    ]
    retried: Annotated[
        Count, Meta(description="entries that were sent again after the bus refused them")
    ]
    left_out: Annotated[
        Count,
        Meta(
            description="lines of this output that were left out because nobody read them in time"
        ),
    ]
    seconds: RunSeconds
    end: Annotated[
        End,
        Meta(
            description="why it ended: a signal, --timeout, --until-idle, --max-records, the end "
            "of a closed stream, or a stream that is no more"
        ),
    ]
    at: Annotated[Time, Meta(description="when it ended")]
    forward: Annotated[bool, Meta(description="whether events were sent (--forward)")]

    @classmethod
    def of(cls, ended: Ended, *, forward: bool, **more: Any) -> ReplaySummary:
        """A run that just ended; `more` are the fields that a subclass adds."""
        tally = ended.tally
        return cls(
            read=ended.read,
            published=tally[Fate.PUBLISHED],
            events=ended.events,
            skipped=tally[Fate.SKIPPED],
            skipped_by=dict(tally.skipped_by),
            parked=tally[Fate.PARKED],
            lost=[Lost.of(gap) for gap in tally.gaps],
            retried=tally.retried,
            left_out=ended.left_out,
            seconds=round(ended.seconds, 3),
            end=cast("End", ended.reason),
            at=iso(time.time()),
            forward=forward,
            **more,
        )


class TailSummary(ReplaySummary, tag="summary"):
    """The last line: what the run came to."""

    consumer: Annotated[str, Meta(description="name under which checkpoints are kept")]
    checkpoint: Annotated[
        dict[str, SequenceNumber],
        Meta(
            description="where the next run goes on: for each shard the sequence number of the "
            "last settled record; as before where nothing was sent"
        ),
    ]


class DemoType(Printed):
    """The numbers of one kind of event."""

    detail_type: str
    written: Annotated[Count, Meta(description="changes written to the table")]
    relayed: Annotated[Count, Meta(description="events that the bus took")]
    received: Annotated[Count, Meta(description="events that came out of the queue behind the bus")]


class DemoSummary(Printed, tag_field="type", tag="summary"):
    """The last line: whether every change came out exactly once."""

    types: list[DemoType]
    written: Annotated[Count, Meta(description="changes written to the table")]
    relayed: Annotated[Count, Meta(description="events that the bus took")]
    received: Annotated[
        Count, Meta(description="events that came out of the queue, repeated ones included")
    ]
    missing: Annotated[Count, Meta(description="changes not relayed and events not received")]
    repeated: Annotated[Count, Meta(description="events received more than once")]
    complete: Annotated[
        bool, Meta(description="whether all came out, none twice; the exit code is 6 if not")
    ]
    seconds: RunSeconds
