"""What `listen` received: counted, as a JSON object, as a line, and as the cells of a row."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ddbrelay.secrecy import hidden
from ddbrelay.text import one_word
from ddbrelay.times import epoch_of, iso

if TYPE_CHECKING:
    from msgspec import Struct

    from ddbrelay.cli.console import Console
    from ddbrelay.cli.view.filters import Filter
    from ddbrelay.infra.listener import Received

_BATCH = 10
"""Messages in one receive of SQS."""
_REMEMBERED = 100_000
_MOST_TYPES = 200
_OTHER_TYPES = "(other types)"
_MOST_DAYS = 999
_DETAIL_WIDTH = 100
"""Columns of what is printed below a line, wherever that goes."""


@dataclass
class OfType:
    """What came of one event type; `oldest` is the longest age in seconds at receipt."""

    received: int = 0
    repeated: int = 0
    oldest: float | None = None


@dataclass
class Tally:
    """What came so far.

    The ids of the last 100,000 events tell a repeat from a new one; the first 200 event types are
    counted apart. `dropped` are those for which the live view had no room.
    """

    events: int = 0
    distinct: int = 0
    others: int = 0
    dropped: int = 0
    claims: int = 0
    unfollowed: int = 0
    types: dict[str, OfType] = field(default_factory=dict)
    _ids: dict[str, None] = field(default_factory=dict)

    @property
    def printed(self) -> int:
        """Messages, whether they are events or not."""
        return self.events + self.others

    @property
    def repeated(self) -> int:
        """Events that had come before."""
        return self.events - self.distinct

    def add(self, received: Received) -> bool:
        """Count it; True for an event that came before."""
        if not received.event:
            self.others += 1
            return False
        self.events += 1
        self.claims += received.claim is not None
        self.unfollowed += received.claim_error is not None
        number = str(received.event.get("id") or received.message_id)
        repeated = number in self._ids
        self._count_type(received, repeated)
        if repeated:
            return True
        self.distinct += 1
        self._ids[number] = None
        if len(self._ids) > _REMEMBERED:
            del self._ids[next(iter(self._ids))]
        return False

    def _count_type(self, received: Received, repeated: bool) -> None:
        kind = columns(received.event)[0]
        if kind not in self.types and len(self.types) >= _MOST_TYPES:
            kind = _OTHER_TYPES
        of = self.types.setdefault(kind, OfType())
        of.received += 1
        of.repeated += repeated
        if (age := age_of(received)) is not None:
            of.oldest = age if of.oldest is None else max(of.oldest, age)


@dataclass(frozen=True)
class Bounds:
    """When it ends: `expected` distinct events, `most` messages, at `deadline` (monotonic)."""

    expected: int | None = None
    most: int | None = None
    deadline: float | None = None

    def wanted(self, tally: Tally) -> int:
        """How many messages the next receive may take: the rest stays for others."""
        limits = [_BATCH]
        if self.most is not None:
            limits.append(self.most - tally.printed)
        if self.expected is not None:
            limits.append(self.expected - tally.distinct)
        return min(limits)


@dataclass(frozen=True)
class Session:
    """One run of `listen`: where, until when, what is shown, and what came so far."""

    queue: str
    temporary: bool
    bounds: Bounds
    chosen: Filter
    detail: bool
    stopping: Callable[[], bool]
    tally: Tally = field(default_factory=Tally)


class Screen(Protocol):
    """Shows messages, and words about them."""

    def message(self, received: Received, repeated: bool) -> None:
        """Show it; `repeated` when its event came before."""

    def note(self, words: str) -> None:
        """Say something that is no message."""


class LineScreen:
    """One line, or one JSON object, for each message; with `detail` the event in full below it.

    `rows` are lines as the view has them, cut to the width, instead of lines that have all.
    """

    def __init__(self, console: Console, detail: bool, *, rows: bool = False) -> None:
        self._console, self._detail, self._rows = console, detail, rows

    def message(self, received: Received, repeated: bool) -> None:
        """Print it at once."""
        console = self._console
        if console.json:
            console.object(line_of(received, repeated))
            return
        if self._rows:
            from ddbrelay.cli.listening import row

            width = shutil.get_terminal_size().columns
            console.data(row(received, repeated, width).plain.rstrip())
        else:
            console.data(as_line(received, repeated))
        if self._detail and not console.quiet:
            from ddbrelay.cli.listening import detail

            for line in detail(received, _DETAIL_WIDTH):
                console.data(line.plain)

    def note(self, words: str) -> None:
        """Tell what does not go as it should."""
        self._console.trouble(words)


def line_of(received: Received, repeated: bool) -> Struct:
    """The line that `--output json` prints."""
    import msgspec

    from ddbrelay.output.listen import ClaimCheck, Message, ReceivedEvent

    moment = iso(received.received_at)
    if not received.event:
        return Message(received.body, moment)
    # The text as it came keeps every digit; a line break is only ever between its tokens.
    text = received.body.replace("\r", " ").replace("\n", " ")
    line = ReceivedEvent(event=msgspec.Raw(text.encode()), received_at=moment, repeated=repeated)
    if received.claim is not None:
        line.claim_check = ClaimCheck.of(received.claim)
        if received.claim_error is not None:
            line.claim_error = received.claim_error
    return line


def as_line(received: Received, repeated: bool) -> str:
    """One line without colour: time, type, source, key, id."""
    if not received.event:
        return f"{iso(received.received_at)} not-an-event {json.dumps(received.body)}"
    kind, source, key, number = columns(received.event)
    moment = str(received.event.get("time") or iso(received.received_at))
    words = [moment, kind, source, key, number, *(["repeated"] if repeated else [])]
    return " ".join(one_word(word) for word in words)


def columns(event: dict[str, Any]) -> tuple[str, str, str, str]:
    """Type, source, key and id of an event, a dash for what it lacks; no credential in them."""
    names = ("detail-type", "source", "id")
    kind, source, number = (hidden(str(event.get(name) or "-")) for name in names)
    return kind, source, hidden(_key(event.get("detail"))), number


def _key(detail: Any) -> str:
    """What identifies the item, as far as the detail shows it: `id=…`, or a dash."""
    if not isinstance(detail, dict):
        return "-"
    for inner in (detail, detail.get("keys"), detail.get("data")):
        if isinstance(inner, dict):
            for name in ("id", "pk", "PK"):
                if isinstance(inner.get(name), str | int):
                    return f"{name}={inner[name]}"
    return "-"


def searched(received: Received) -> tuple[str | None, Callable[[], str]]:
    """The event type (None for what is no event) and the text that --show and --grep look at."""
    if not received.event:
        return None, lambda: received.body
    event = received.event
    kind, source, key, _ = columns(event)

    def text() -> str:
        detail = json.dumps(event.get("detail"), ensure_ascii=False, separators=(",", ":"))
        return f"{key} {kind} {source} {detail}"

    return kind, text


def written_at(received: Received) -> float | None:
    """The event's own time in epoch seconds; None where it has none that can be read."""
    try:
        return epoch_of(received.event.get("time"))
    except ValueError:
        return None


def age_of(received: Received) -> float | None:
    """Seconds from the event's time to its receipt; below zero where the clocks differ."""
    written = written_at(received)
    return None if written is None else received.received_at - written


def clock_of(received: Received) -> str:
    """The local time of day at which the event was written, or received where that is unknown."""
    written = written_at(received)
    at = received.received_at if written is None else written
    return time.strftime("%H:%M:%S", time.localtime(at))


def age_words(seconds: float | None) -> str:
    """`12 s`, `59 m`, `23 h`, `9 d`; a dash for None, a minus before what lies ahead."""
    if seconds is None:
        return "–"
    whole, sign = abs(int(seconds)), "-" if seconds <= -1 else ""
    if whole > _MOST_DAYS * 86400:
        return f"{sign}>{_MOST_DAYS}d"
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if whole >= unit:
            return f"{sign}{whole // unit} {name}"
    return f"{sign}{whole} s"
