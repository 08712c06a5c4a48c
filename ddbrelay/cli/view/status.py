"""The lines that stay at the bottom while a run goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from ddbrelay.cli.drawing import Meter
from ddbrelay.cli.view.clock import Clock
from ddbrelay.flow.tracking import Fate
from ddbrelay.relay.backlog import Backlog, Unread, worst
from ddbrelay.text import counted, short_shard
from ddbrelay.times import alarm, duration, whole

if TYPE_CHECKING:
    from ddbrelay.relay import Relay

BEHIND = 5.0
"""Seconds from which a shard counts as behind; one that keeps up is never that far."""
_LOOK_EVERY = 0.5
"""Seconds between two looks at what is unread."""
_ALL_READ_AFTER = 3.0
"""So many seconds after a little was unread it is said that nothing is: a trickle must not flicker.
"""
_SHARD_LINES = 4
_LOW = 20
"""Lines of a terminal below which only one shard has a line."""
_DIGITS = 8
"""As many of a sequence number as the last words of a run have."""


class Status:
    """Where a run stands; `measure` is to be called some times a second, `lines` when drawing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._meter, self._rate = Meter(self._began), 0
        self._words: list[Text] = []
        self._shards: list[_Shard] = []
        self._two_lines, self._width, self._little = False, 0, False
        self._looked_at = self._unread_at = float("-inf")

    def measure(self, relay: Relay, *, last: bool = False) -> None:
        """Take the numbers of this moment; the `last` ones are those of the whole run."""
        now = self._clock.monotonic()
        self._rate = self._meter.rate(relay.read, now, last=last)
        if not last and now - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at, backlog = now, relay.backlog
        if relay.shards > 1:
            self._shards = _shards(backlog, relay, self._clock.now())
        elif not last:
            self._shards = []
        if backlog.unread:
            self._unread_at = now
            known = worst(backlog.unread)
            self._little = bool(known) and (known[0].age(self._clock.now()) or 0.0) < BEHIND
        elif not last and self._little and now - self._unread_at < _ALL_READ_AFTER:
            return
        if last and backlog.unread and self._little:
            # What was read last is only not known to be the last.
            self._words = []
        elif relay.shards or (last and self._words):
            self._words = unread_words(backlog, self._clock.now())

    def lines(
        self, relay: Relay, width: int, height: int, *, every: int = 1, last: bool = False
    ) -> list[Text]:
        """What there is to say, in lines of at most `width` cells; `every` is that of the sample.

        In a terminal of few lines there are fewer of the shards.
        """
        parts = [
            *([Text(f"showing 1 of {every:,}", style="yellow")] if every > 1 else []),
            Text(f"in flight {relay.in_flight}", style="dim"),
            Text(f"lag {duration(relay.lag)}", style="dim"),
            Text(counted(relay.shards, "shard"), style="dim"),
        ]
        uptime = Text(f"up {whole(self._clock.monotonic() - self._began)}", style="dim")
        status = flow([*parts, *self._words, uptime], width)
        # Else the lines below would jump up and down with every digit more or less.
        same = self._two_lines and width == self._width and not last
        self._two_lines, self._width = same or len(status) > 1, width
        if self._two_lines and self._words:
            status = [*flow([*parts, uptime], width), *flow(self._words, width)]
        most = _SHARD_LINES if height >= _LOW else 1
        lines = [*flow(self._numbers(relay), width), *status, *shard_lines(self._shards, most)]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
            line.truncate(width, overflow="ellipsis")
        return lines

    def _numbers(self, relay: Relay) -> list[Text]:
        tally = relay.tally
        what, number = "published", tally[Fate.PUBLISHED]
        if relay.preview:
            what, number = "seen", tally.previewed
        first = Text().append(self._meter.sparks, style="dim")
        first.append(f"  {self._rate:,}/s   {what} {number:,}")
        parked, gaps = tally[Fate.PARKED], len(tally.gaps)
        return [
            first,
            Text(f"skipped {tally[Fate.SKIPPED]:,}"),
            Text(f"parked {parked:,}", style="red" if parked else ""),
            Text(f"lost {counted(gaps, 'gap')}", style="red") if gaps else Text("lost 0"),
        ]


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


def _oldest(unread: Unread, now: float) -> Text:
    age, left = unread.age(now) or 0.0, unread.left(now) or 0.0
    text = Text().append(f"oldest unread {whole(age)}, ", style="dim")
    return text.append(f"trimmed in {whole(left)}" if left else "trimmed now", style=alarm(left))


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard that is being read: where it stands, and how it is; `behind` puts it first."""

    name: str
    sequence: str | None
    words: Text
    behind: bool


def _shards(backlog: Backlog, relay: Relay, now: float) -> list[_Shard]:
    """Those that are behind, the worst first, those not read yet, and the others by their ids."""
    unread = {one.shard_id: one for one in backlog.unread}
    far = [one for one in worst(backlog.unread) if (one.age(now) or 0.0) >= BEHIND]
    unknown = sorted(one.shard_id for one in backlog.unread if one.since is None)
    first = [*(one.shard_id for one in far), *unknown]
    ranked = [*first, *sorted(set(relay.open_shards).difference(first))]
    # Only what may be shown is put into words; there may be thousands.
    return [
        _Shard(
            short_shard(shard_id),
            relay.settled(shard_id) if place < _SHARD_LINES else None,
            _standing(unread.get(shard_id), now) if place < _SHARD_LINES else Text(),
            place < len(first),
        )
        for place, shard_id in enumerate(ranked)
    ]


def _standing(unread: Unread | None, now: float) -> Text:
    if unread is not None and unread.since is None:
        return Text("not read yet", style="yellow")
    if unread is not None and (unread.age(now) or 0.0) >= BEHIND:
        return _oldest(unread, now)
    return Text("keeps up", style="dim")


def shard_lines(shards: Sequence[_Shard], most: int) -> list[Text]:
    """A line for each of the first shards, and how many more there are."""
    shown = shards[:most]
    wide = max((len(one.name) for one in shown), default=0)
    numbers = [f"after …{one.sequence[-_DIGITS:]}" if one.sequence else "" for one in shown]
    room = max(map(len, numbers), default=0)
    lines = [
        Text(f"  {one.name:<{wide}}   ", style="")
        .append(f"{number:<{room}}   " if room else "")
        .append_text(one.words)
        for one, number in zip(shown, numbers, strict=True)
    ]
    for line in lines:
        line.stylize("dim", 0, 2 + wide + 3 + room)
    if more := len(shards) - len(shown):
        behind = sum(one.behind for one in shards[most:])
        also = f", {behind:,} of them behind" if behind else ""
        lines.append(Text(f"  and {more:,} more{also}", style="dim"))
    return lines


def flow(parts: Iterable[Text], width: int) -> list[Text]:
    """The parts side by side, on as many lines as they need."""
    lines: list[Text] = []
    for part in parts:
        if lines and lines[-1].cell_len + 3 + part.cell_len <= width:
            lines[-1].append("   ").append_text(part)
        else:
            lines.append(Text().append_text(part))
    return lines
