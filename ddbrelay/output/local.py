"""The lines of the `local` commands."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from ddbrelay.local.daemon import Running
from ddbrelay.output import Count, Printed, Time
from ddbrelay.times import iso


class Engine(Printed, tag_field="type", tag="engine"):
    """The embedded AWS that runs."""

    running: Literal[True]
    url: Annotated[str, Meta(description="endpoint for every service")]
    engine: Annotated[Literal["moto", "ministack"], Meta(description="the emulator")]
    pid: Annotated[Count, Meta(description="process id")]
    port: Annotated[Count, Meta(description="of 127.0.0.1")]
    started_at: Annotated[Time, Meta(description="when it began")]
    log: Annotated[
        str | None, Meta(description="path of its log; null where it writes to a terminal")
    ]

    @classmethod
    def of(cls, running: Running, **more: Any) -> Engine:
        """The one that runs; `more` are the fields that a subclass adds."""
        return cls(
            running=True,
            url=running.url,
            engine=cast("Literal['moto', 'ministack']", running.engine),
            pid=running.pid,
            port=running.port,
            started_at=iso(running.started_at),
            log=str(running.log) if running.log else None,
            **more,
        )


class Started(Engine, tag="engine"):
    """The embedded AWS that runs."""

    started: Annotated[
        bool, Meta(description="whether this command started it; false where it was running")
    ]


class NotRunning(Printed, tag_field="type", tag="engine"):
    """None runs; the exit code is 5."""

    running: Literal[False]


class Stopped(Printed, tag_field="type", tag="engine"):
    """None runs any more."""

    running: Literal[False]
    stopped: Annotated[bool, Meta(description="whether one was running")]
    pid: Annotated[Count | None, Meta(description="its process id")]
