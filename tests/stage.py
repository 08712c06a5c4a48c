"""A live view whose clock, terminal and run are the test's, and the screens that are kept as texts.

The texts are in tests/screens. After a change that was meant, look at what it did to them:

    UPDATE_SCREENS=1 pytest tests/test_view_screens.py; git diff tests/screens
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from picture import final_screen, written_to
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from ddbrelay.cli.view.clock import Clock
from ddbrelay.cli.view.live import LiveView, header_of
from ddbrelay.cli.view.status import Status
from ddbrelay.flow.change import Change
from ddbrelay.flow.mapping import CrudMapper, Event
from ddbrelay.flow.tracking import Fate, Tally
from ddbrelay.relay import Outcome
from ddbrelay.relay.backlog import Backlog, Unread
from ddbrelay.testing.builders import ORIGIN, record

SCREENS = Path(__file__).parent / "screens"
NOW = 1_796_034_669.0
"""2026-11-30T10:31:09Z."""
HOUR = 3600.0
HEADER = "consumer default   from the checkpoint   Ctrl-C stops cleanly"


def check(name: str, lines: Sequence[str]) -> None:
    """The lines are those of tests/screens; with UPDATE_SCREENS=1 they become it."""
    kept = SCREENS / f"{name}.txt"
    text = "".join(f"{line.rstrip()}\n" for line in lines)
    if os.environ.get("UPDATE_SCREENS"):
        kept.write_text(text, encoding="utf-8")
    assert text == kept.read_text(encoding="utf-8")


def shard(number: int, age: float | None = None, now: float = NOW) -> Unread:
    """A shard whose oldest unread record has this age."""
    return Unread(shard_id(number), None if age is None else now - age)


def shard_id(number: int) -> str:
    return f"shardId-0000000179543986{number:04}-{number:08x}"


def terminal(width: int, *, colour: bool = False) -> Console:
    """A terminal of 30 lines that remembers what was written to it."""
    return Console(
        file=io.StringIO(),
        width=width,
        height=30,
        force_terminal=True,
        color_system="standard" if colour else None,
        highlight=False,
        _environ={"TERM": "xterm"},
    )


@dataclass
class Run:
    """What the view asks of a relay."""

    shards: int = 3
    in_flight: int = 0
    lag: float = 0.0
    read: int = 0
    preview: bool = False
    backlog: Backlog = field(default_factory=Backlog)
    tally: Tally = field(default_factory=Tally)

    @property
    def open_shards(self) -> list[str]:
        return [shard_id(number) for number in range(self.shards)]

    def settled(self, shard_id: str) -> str | None:
        number = self.open_shards.index(shard_id)
        return None if number == 1 else f"{number + 1:026}"


class Stage:
    """A live view in a terminal of so many columns."""

    def __init__(self, width: int, *, detail: bool = False, colour: bool = False) -> None:
        self.now = 50.0
        self.run = Run()
        self.console = terminal(width, colour=colour)
        self.clock = Clock(monotonic=lambda: self.now, now=lambda: NOW + self.now - 50.0)
        self.view = LiveView(
            header_of("users ─▶ users-bus", HEADER),
            detail=detail,
            console=self.console,
            clock=self.clock,
        )
        self.status = Status(self.clock)

    def behind(self, *ages: float) -> None:
        """The oldest unread records of so many shards have these ages now."""
        self.run.backlog = Backlog(
            [shard(number, age, self.clock.now()) for number, age in enumerate(ages)]
        )

    def lines(self, seconds: float = 1.0, *, last: bool = False) -> list[str]:
        """The status lines so many seconds later, without that of the numbers."""
        self.now += seconds
        self.status.measure(self.run, last=last)  # type: ignore[arg-type]
        lines = self.status.lines(self.run, self.console.width, 30, last=last)  # type: ignore[arg-type]
        return [line.plain for line in lines][1:]

    def happen(self, *outcomes: Outcome) -> None:
        """They come, and are counted."""
        for outcome in outcomes:
            self.run.read += 1
            if outcome.fate is None:
                self.run.tally.previewed += 1
            else:
                self.run.tally.fates[outcome.fate] += 1
            self.view.outcome(outcome)

    def draw(self, seconds: float = 0.1, *, last: bool = False) -> None:
        self.now += seconds
        self.view.draw(self.run, last=last)  # type: ignore[arg-type]
        self.view.write()

    @property
    def written(self) -> str:
        return written_to(self.console)

    @property
    def screen(self) -> list[str]:
        """What is to be seen; no line of it is wider than the terminal."""
        lines = final_screen(self.written)
        assert max(map(cell_len, lines)) <= self.console.width
        return lines


def outcome(
    key: str = "7f3a91c2",
    event_name: str = "INSERT",
    fate: Fate | None = Fate.PUBLISHED,
    *,
    detail_type: str | None = None,
    reason: str | None = None,
    age: float = 0.4,
    mapped: bool = True,
    **images: Any,
) -> Outcome:
    """What became of a change of a user; `images` are those of the record."""
    number = int(hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()[:12], 16)
    whole = record(key, 10**20 + number, event_name, **images)
    # AWS has whole seconds here; an emulator has more.
    exact = msgspec.structs.replace(whole.dynamodb, created_at=NOW - age)
    made = Change(msgspec.structs.replace(whole, dynamodb=exact), "shard-1", ORIGIN)
    event = CrudMapper("users")(made)
    assert isinstance(event, Event)
    if detail_type is not None:
        event = Event(event.source, detail_type, event.detail, event.resources, event.time)
    published = fate is Fate.PUBLISHED
    return Outcome(
        made,
        event if mapped else None,
        fate,
        f"{number:012x}"[:8] + "-0000" if published else None,
        reason,
        1 if published else 0,
    )


def plain(texts: Sequence[Text]) -> list[str]:
    return [text.plain for text in texts]


def styled(lines: Sequence[Text], words: str) -> str:
    """The style of the words where they stand first."""
    line = next(line for line in lines if words in line.plain)
    at = line.plain.index(words)
    found = [str(span.style) for span in line.spans if span.start <= at < span.end]
    return found[-1] if found else str(line.style)
