"""What must hold, whatever happened during a day."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ddbrelay.flow.capture import Gap, Position, Record, Start
from ddbrelay.flow.mapping import Event
from ddbrelay.flow.tracking import DeadLetter, Fate, events_of
from ddbrelay.relay import Outcome
from ddbrelay.testing import clock
from ddbrelay.testing.shard import SimulatedShard
from ddbrelay.testing.simulator import SimulatedBus
from ddbrelay.testing.stream import SimulatedStream

from .losses import Losses

_NOTHING = (-1, 0)
"""Before the first event of the first record."""


class Violation(AssertionError):
    """Something that must never happen has happened."""


@dataclass(slots=True)
class Written:
    """What the writer did: of each record its item key and its place among the key's records.

    `events` has how many events a record becomes, where these are several.
    """

    place: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    by_key: dict[bytes, list[str]] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)
    events: dict[str, int] = field(default_factory=dict)

    def add(self, record: Record, skipped: bool, events: int = 1) -> None:
        """One more record; `skipped` when a rule of the mapping leaves it out."""
        key, number = bytes(record.dynamodb.keys), record.sequence_number
        of_key = self.by_key.setdefault(key, [])
        self.place[number] = key, len(of_key)
        of_key.append(number)
        if skipped:
            self.skipped.add(number)
        if events > 1:
            self.events[number] = events


class Account:
    """What became of every record for one consumer, seen from outside the engine.

    Published is what the bus took, all events of it, parked what the store has kept, skipped and
    lost what the observer was told. `begun` says how many events of a record the bus took. Each
    method raises Violation, with the reason, as soon as that shows.
    """

    def __init__(
        self,
        consumer: str,
        stream: SimulatedStream,
        written: Written,
        bus: SimulatedBus,
        say: Callable[[str], None],
        seal: Callable[[bytes], None],
    ) -> None:
        self.consumer = consumer
        self._stream, self._written, self._bus = stream, written, bus
        self._say, self._seal = say, seal
        self.published: set[str] = set()
        self.begun: dict[str, int] = {}
        self.skipped: set[str] = set()
        self.parked: dict[str, bool] = {}
        self.repeats = 0
        self.twice = 0
        self.losses = Losses(stream)
        self.stored: dict[str, Position] = {}
        self.deliveries = 0
        self._exempt: Counter[str] = Counter()
        self._settled: Counter[str] = Counter()
        self._reached: Counter[str] = Counter()
        self._first_of_key: dict[bytes, tuple[int, int]] = {}
        self._last_of_key: dict[bytes, tuple[int, int]] = {}

    def fail(self, message: str) -> Violation:
        """The error to raise, told as well: nothing that swallows it can hide it."""
        error = Violation(f"{message} (consumer {self.consumer})")
        self._say(f"VIOLATION {error}")
        return error

    # What the bus has

    def new_run(self) -> None:
        """What was sent but not settled may be sent again from now on."""
        self.absorb()
        self._last_of_key.clear()
        self.twice = 0

    def absorb(self) -> None:
        """Take over what the bus has taken since."""
        for violation in self._bus.violations:
            raise self.fail(f"the bus was sent {violation}")
        for delivered in self._bus.delivered:
            self._delivered(delivered.sequence, delivered.item_key, place_of(delivered.event))
        self._bus.delivered.clear()

    def _delivered(self, number: str, item_key: bytes, event: int) -> None:
        """The bus took an event, the one at this place among those of the record."""
        self.deliveries += 1
        self._seal(f"{number}.{event}".encode() if event else number.encode())
        key, index = self._written.place[number]
        if key != item_key:
            raise self.fail(f"record {number} of {key!r} was published as one of {item_key!r}")
        last, this = self._last_of_key.get(key, _NOTHING), (index, event)
        if this < last:
            raise self.fail(f"record {number} of {key!r} was published after a later one")
        if event and last not in {this, (index, event - 1)}:
            raise self.fail(f"event {event} of record {number} was published before event 0")
        if event == 0 and index > last[0] and not self._whole(key, last):
            raise self.fail(f"record {number} of {key!r} was published in the middle of another")
        self.twice += this == last
        self._last_of_key[key] = this
        if event < self.begun.get(number, 0):
            self.repeats += 1
            return
        if this < self._first_of_key.get(key, _NOTHING):
            raise self.fail(f"record {number} of {key!r} was first published after a later one")
        self._first_of_key[key] = this
        self.begun[number] = event + 1
        if event + 1 == self._written.events.get(number, 1):
            self.published.add(number)

    def _whole(self, key: bytes, last: tuple[int, int]) -> bool:
        """Whether this is the last event of its record."""
        index, event = last
        if index < 0:
            return True
        return event + 1 == self._written.events.get(self._written.by_key[key][index], 1)

    # What the engine tells

    def outcome(self, outcome: Outcome) -> None:
        """The observer hears of a fate: it must be true."""
        number = outcome.change.sequence_number
        self.absorb()
        if outcome.fate is Fate.PUBLISHED:
            told = self._written.events.get(number, 1) - outcome.more
            if self.begun.get(number, 0) < told:
                raise self.fail(f"record {number} was called published, but the bus never took it")
        if outcome.fate is Fate.PARKED and number not in self.parked:
            raise self.fail(f"record {number} was called parked, but no dead letter is kept")
        if outcome.fate is Fate.SKIPPED:
            if number not in self._written.skipped:
                raise self.fail(f"record {number} was skipped, but no rule says so")
            self.skipped.add(number)

    def letters(self, letters: Iterable[DeadLetter]) -> None:
        """These are durable now."""
        self.absorb()
        for letter in letters:
            number = letter.sequence
            total = self._written.events.get(number, 1)
            if total > 1 and letter.event is not None:
                # One that waits may have been sent by a run that was killed; its letter may stand
                # already, and stays as it is then.
                sent = 0 if letter.behind else self.begun.get(number, 0)
                left = [place for place, one in enumerate(events_of(letter.event)) if one]
                if left != list(range(sent, total)):
                    raise self.fail(
                        f"the dead letter of record {number} has its events {left}, "
                        f"of {total} the bus has the first {sent}"
                    )
            self.parked[number] = letter.behind

    def gap(self, gap: Gap) -> None:
        """The observer hears of lost records: those that cannot be read now, and no others."""
        wrong = self.losses.add(gap, self.stored.keys())
        if wrong is not None:
            raise self.fail(wrong)

    # What is stored

    def begin(self, positions: Iterable[Position], start: Start) -> None:
        """A run starts from these; the very first one decides what is not asked for.

        As long as no run has come so far as to read anything, each is the very first one.
        """
        kept = {position.shard_id: position for position in positions}
        if not any(p.sequence or p.seen_at or p.finished for p in self.stored.values()):
            self.losses.begin()
            for shard in self._stream.history.values():
                self._exempt[shard.id] = self.losses.trimmed(shard)
                if start is Start.LATEST and shard.id in kept:
                    self._exempt[shard.id] = len(shard.records)
        self.check(kept.values())

    def latest(self, shard_id: str) -> None:
        """A shard is read from its tip on."""
        if any(position.sequence for position in self.stored.values()):
            raise self.fail(f"shard {shard_id} was read from its tip after the first start")
        self._exempt[shard_id] = len(self._stream.history[shard_id].records)

    def check(self, positions: Iterable[Position]) -> None:
        """A checkpoint covers settled records only, and never goes back."""
        self.absorb()
        for position in positions:
            shard = self._stream.history[position.shard_id]
            if position.finished:
                if shard.closed_at is None:
                    raise self.fail(f"shard {shard.id} counts as finished, but it is open")
                reached = len(shard.sequences)
            elif position.sequence is None:
                reached = 0
            else:
                reached = bisect_right(shard.sequences, int(position.sequence))
            unsettled = self.unsettled(shard, reached)
            if unsettled is not None:
                raise self.fail(
                    f"the checkpoint of shard {shard.id} passed record {unsettled}, which is "
                    f"unsettled"
                )
            if reached < self._reached[shard.id] and shard.id not in self.losses:
                raise self.fail(f"the checkpoint of shard {shard.id} went back")
            self._reached[shard.id] = reached

    def unsettled(self, shard: SimulatedShard, end: int | None = None) -> str | None:
        """The first record among the first `end` ones of a shard that has no fate yet."""
        at = self._settled[shard.id]
        goal = len(shard.records) if end is None else end
        while at < goal:
            number = shard.records[at].sequence_number
            if not self._has_fate(shard, at, number):
                break
            at += 1
        self._settled[shard.id] = max(at, self._settled[shard.id])
        return number if at < goal else None

    def _has_fate(self, shard: SimulatedShard, at: int, number: str) -> bool:
        return (
            number in self.published
            or number in self.skipped
            or number in self.parked
            or at < self._exempt[shard.id]
            or self.losses.covers(shard.id, shard.sequences[at])
        )

    def remember(self, positions: Iterable[Position]) -> None:
        """These are durable now."""
        self.stored |= {position.shard_id: position for position in positions}

    def forget(self, shard_ids: Iterable[str]) -> None:
        """Positions that are dropped must be of no use any more."""
        for shard_id in shard_ids:
            if shard_id in self._stream.shards:
                raise self.fail(f"the position of shard {shard_id}, which exists, was dropped")
            self.stored.pop(shard_id, None)

    # Reading

    def may_read(self, shard_id: str) -> None:
        """A shard may be read when its parent is finished, or gone."""
        parent_id = self._stream.history[shard_id].parent_id
        parent = self._stream.shards.get(parent_id or "")
        if parent is None:
            return
        early = f"shard {shard_id} was read before its parent {parent.id}"
        if parent.closed_at is None:
            raise self.fail(f"{early} was closed")
        self.absorb()
        unsettled = self.unsettled(parent)
        if unsettled is not None:
            raise self.fail(f"{early} was settled: record {unsettled} was not")
        stored = self.stored.get(parent.id)
        if stored is not None and not stored.finished:
            raise self.fail(f"{early} was stored as finished")

    # At the end

    @property
    def settled(self) -> int:
        """How many records were found to have a fate."""
        return self._settled.total()

    def missing(self) -> list[tuple[SimulatedShard, str]]:
        """Of each shard the first record without a fate."""
        self.absorb()
        found = [(shard, self.unsettled(shard)) for shard in self._stream.history.values()]
        return [(shard, number) for shard, number in found if number is not None]

    def close(self) -> Counter[str]:
        """All is done: the whole account, and what became of each record."""
        for shard, number in self.missing():
            at = shard.sequences.index(int(number))
            raise self.fail(
                f"record {number} of {self._written.place[number][0]!r} in shard {shard.id}, "
                f"written {shard.written_at[at] - clock.EPOCH:,.0f} s after the start, is neither "
                f"published, skipped nor parked, and lies in no reported gap"
            )
        self._nothing_passed_a_parked_one()
        counts = Counter(published=0, skipped=0, parked=0, lost=0, exempt=0)
        for shard in self._stream.history.values():
            for at, record in enumerate(shard.records):
                fate = self._fate(shard, at, record.sequence_number)
                counts[fate] += 1
                wrong = self.losses.wrong_times(shard, at) if fate == "lost" else None
                if wrong is not None:
                    raise self.fail(wrong)
        return counts

    def _fate(self, shard: SimulatedShard, at: int, number: str) -> str:
        if number in self.published:
            return "published"
        if number in self.skipped:
            return "skipped"
        if number in self.parked:
            return "parked"
        return "lost" if self.losses.covers(shard.id, shard.sequences[at]) else "exempt"

    def _nothing_passed_a_parked_one(self) -> None:
        first: dict[bytes, int] = {}
        for number, behind in self.parked.items():
            key, index = self._written.place[number]
            if not behind and index < first.get(key, index + 1):
                first[key] = index
        for key, index in first.items():
            parked = self._written.by_key[key][index]
            for number in self._written.by_key[key][index:]:
                if number in (self.published if number == parked else self.begun):
                    raise self.fail(
                        f"record {number} of {key!r} was published, although {parked} is parked"
                    )


def place_of(event: Event) -> int:
    """Which of the events of its record it is, from 0; the mapping of a day calls its rules so."""
    return int(event.rule or 0)
