"""The live view: one row for each event, the newest at the bottom, status lines that stay."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.text import Text

from ddbrelay.cli.render import gap_text, key_text, telling
from ddbrelay.cli.text import counted, printable
from ddbrelay.flow.capture import Gap
from ddbrelay.flow.tracking import Fate
from ddbrelay.relay import Outcome
from ddbrelay.relay.backlog import Backlog, Unread, worst

if TYPE_CHECKING:
    from ddbrelay.relay import Relay

REFRESH = 0.1
"""Seconds between two drawings."""
_ROWS_A_REFRESH = 40
_SPARKS = "▁▂▃▄▅▆▇█"
_STYLES = {Fate.PUBLISHED: "green", Fate.SKIPPED: "yellow", Fate.PARKED: "red", None: ""}
_BACKLOG_EVERY = 0.5
"""Seconds between two looks at what is unread."""
_ALL_READ_AFTER = 3.0
"""So many seconds without anything unread before that is said: a trickle must not flicker."""
_SHARD_LINES = 4
_BEHIND = 5.0
"""Seconds from which a shard has a line of its own; one that keeps up is never that far behind."""
_HOUR = 3600.0
_MARKS = {Fate.PUBLISHED: "✔", Fate.SKIPPED: "–", Fate.PARKED: "✖", None: "·"}


class LiveView:
    """A context manager; `draw` is to be called every REFRESH seconds."""

    def __init__(self, header: Text) -> None:
        self._console = RichConsole(highlight=False, soft_wrap=False)
        self._header = header
        self._rows: list[Text] = []
        self._notes: list[Text] = []
        self._hidden = 0
        self._rates: deque[int] = deque(maxlen=10)
        self._began = self._counted_at = time.monotonic()
        self._counted = 0
        self._unread: tuple[list[Text], list[Text]] = ([], [])
        self._two_lines = False
        self._looked_at = self._unread_at = float("-inf")
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveView:
        self._console.print(self._header, overflow="ellipsis", no_wrap=True)
        self._console.print()
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def outcome(self, outcome: Outcome) -> None:
        """Remember a row until the next drawing."""
        if len(self._rows) < _ROWS_A_REFRESH:
            self._rows.append(row(outcome, self._console.width))
        else:
            self._hidden += 1

    def gap(self, gap: Gap) -> None:
        """A line of its own, that is never left out."""
        self._notes.append(Text(f"✖ lost  {gap_text(gap)}", style="red"))

    def trouble(self, message: str) -> None:
        """A line of its own, that is never left out."""
        self._notes.append(Text(printable(message), style="yellow"))

    def draw(self, relay: Relay, *, last: bool = False) -> None:
        """Print the rows that came and redraw the status lines; the last ones sum the run up."""
        rows, self._rows = self._rows, []
        if self._hidden:
            more = f"  … {self._hidden:,} more, too fast to show; --output lines has them all"
            rows.append(Text(more, style="dim"))
            self._hidden = 0
        if rows:
            self._console.print(Group(*rows), overflow="ellipsis", no_wrap=True, crop=True)
        notes, self._notes = self._notes, []
        for note in notes:
            self._console.print(note)
        self._live.update(self._status(relay, last), refresh=True)

    def _status(self, relay: Relay, last: bool) -> Text:
        tally = relay.tally
        rate = self._rate(relay.read, last)
        peak = max(self._rates, default=0) or 1
        sparks = "".join(_SPARKS[one * (len(_SPARKS) - 1) // peak] for one in self._rates)
        parked, lost = tally[Fate.PARKED], len(tally.gaps)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(f"\n{sparks:<10}", style="dim")
        what, number = "published", tally[Fate.PUBLISHED]
        if relay.preview:
            what, number = "seen", tally.previewed
        text.append(f"  {rate:,}/s   {what} {number:,}   ")
        text.append(f"skipped {tally[Fate.SKIPPED]:,}   ")
        text.append(f"parked {parked:,}", style="red" if parked else "")
        text.append("   ")
        text.append(f"lost {lost:,}", style="red" if lost else "")
        parts = [
            Text(f"in flight {relay.in_flight}", style="dim"),
            Text(f"lag {duration(relay.lag)}", style="dim"),
            Text(counted(relay.shards, "shard"), style="dim"),
        ]
        self._look(relay, last)
        words, lines = self._unread
        status = flow([*parts, *words], self._console.width)
        # Else the lines below would jump up and down with every digit more or less.
        self._two_lines = len(status) > 1 or (self._two_lines and not last)
        if self._two_lines and words:
            width = self._console.width
            status = [*flow(parts, width), *flow(words, width)]
        for line in [*status, *lines]:
            text.append("\n").append_text(line)
        return text

    def _look(self, relay: Relay, last: bool) -> None:
        """Word what is unread, twice a second; at last as it is, before that without flicker."""
        now = time.monotonic()
        if not last and now - self._looked_at < _BACKLOG_EVERY:
            return
        self._looked_at, backlog = now, relay.backlog
        if backlog.unread:
            self._unread_at = now
        elif not last and now - self._unread_at < _ALL_READ_AFTER:
            return
        if relay.shards or (last and self._unread[0]):
            wall = time.time()
            lines = unread_lines(backlog, wall) if relay.shards > 1 else []
            self._unread = unread_words(backlog, wall), lines

    def _rate(self, read: int, last: bool) -> int:
        """Records a second, measured once a second; at first and at last since the start."""
        now = time.monotonic()
        elapsed = now - self._counted_at
        if elapsed >= 1.0:
            self._rates.append(round((read - self._counted) / elapsed))
            self._counted, self._counted_at = read, now
        if last or not self._rates:
            return round(read / max(now - self._began, 0.1))
        return self._rates[-1]


def duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `3 m 20 s`, `2 h 5 m`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} m {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} m"


def whole(seconds: float) -> str:
    """`2 s`, `3 m 20 s`, `2 h 5 m`: for what is known to the second only."""
    return f"{int(seconds)} s" if seconds < 60 else duration(int(seconds))


def alarm(left: float) -> str:
    """The style of so many seconds before records are lost."""
    return "red" if left < _HOUR else "yellow" if left < 6 * _HOUR else "dim"


def unread_words(backlog: Backlog, now: float) -> list[Text]:
    """What the status line says of the shards that are not read to their tip."""
    known = worst(backlog.unread)
    unknown = len(backlog.unread) - len(known)
    words = [_oldest(known[0], now)] if known else []
    if unknown:
        words.append(Text(f"{unknown:,} not read yet", style="yellow"))
    if backlog.waiting:
        one = "1 waiting for its parent"
        many = f"{backlog.waiting:,} waiting for their parents"
        words.append(Text(one if backlog.waiting == 1 else many, style="dim"))
    return words or [Text("all read", style="dim")]


def unread_lines(backlog: Backlog, now: float) -> list[Text]:
    """One line for each of the worst shards, as long as they are few."""
    behind = [one for one in worst(backlog.unread) if (one.age(now) or 0.0) >= _BEHIND]
    shown = behind[:_SHARD_LINES]
    wide = max((len(short_shard(one.shard_id)) for one in shown), default=0)
    lines = [
        Text()
        .append(f"  {short_shard(one.shard_id):<{wide}}   ", style="dim")
        .append_text(_oldest(one, now))
        for one in shown
    ]
    if len(behind) > _SHARD_LINES:
        lines.append(Text(f"  and {len(behind) - _SHARD_LINES:,} more", style="dim"))
    return lines


def _oldest(unread: Unread, now: float) -> Text:
    age, left = unread.age(now) or 0.0, unread.left(now) or 0.0
    text = Text().append(f"oldest unread {whole(age)}, ", style="dim")
    return text.append(f"trimmed in {whole(left)}" if left else "trimmed now", style=alarm(left))


def short_shard(shard_id: str) -> str:
    """`…a1b2c3d4`: what tells the shards of a stream apart."""
    return f"…{shard_id[-8:]}" if len(shard_id) > 9 else printable(shard_id)


def flow(parts: Iterable[Text], width: int) -> list[Text]:
    """The parts side by side, on as many lines as they need."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 3 + part.cell_len <= width:
            lines[-1].append("   ").append_text(part)
        else:
            lines.append(Text().append_text(part))
    return lines


def row(outcome: Outcome, width: int) -> Text:
    """The cells that fit; the bus's event id goes first, then the words about the change."""
    change, fate = outcome.change, outcome.fate
    style = _STYLES[fate]
    clock = time.strftime("%H:%M:%S", time.localtime(change.time)) if change.time else "--:--:--"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(clock, style="dim")
    text.append(f"  {change.event_name:<6}  ")
    wide = 15 + max(0, min(width - 100, 24))
    text.append(f"{_fit(key_text(change), wide)}  ", style="dim")
    text.append(f"{_fit(printable(outcome.event.detail_type) if outcome.event else '–', 18)}  ")
    reason = outcome.reason if fate in {Fate.SKIPPED, Fate.PARKED} else None
    if reason:
        assert fate is not None
        text.append(f"{_MARKS[fate]} {fate.value}: {printable(reason)}", style=style)
        return text
    words = max(0, min(width - text.cell_len - 12, 24))
    text.append(f"{_fit(telling(outcome), words)}  ", style="dim")
    text.append(_MARKS[fate], style=style)
    if width >= 90 and outcome.event_id:
        text.append(f" {outcome.event_id[:8]}", style="dim")
    return text


def _fit(text: str, width: int) -> str:
    """Exactly so many cells, of which a Chinese character takes two."""
    if cell_len(text) <= width or width == 0:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"
