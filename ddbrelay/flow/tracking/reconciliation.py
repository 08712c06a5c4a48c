"""The ledger of one shard held against what the shard still holds: is each record accounted for?

The numbers of the records in a block are not kept, only how many they are and their sum. A record
that was left out is found all the same: it is the difference of the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from ddbrelay.flow.capture import Gap, Position, Record, Start
from ddbrelay.flow.tracking.ledger import Block


@dataclass(frozen=True)
class Books:
    """What is kept of one shard: its position, None where it was not begun, its blocks and gaps."""

    position: Position | None = None
    blocks: Sequence[Block] = ()
    gaps: Sequence[Gap] = ()


class Verdict(Enum):
    """What is wrong with some records of a shard."""

    UNACCOUNTED = "unaccounted"
    """The stream holds them, and the ledger does not account for them."""
    MISCOUNTED = "miscounted"
    """The ledger counts them twice, or counts what the stream does not hold."""
    READABLE = "readable"
    """They were reported lost, and can be read: no fault of the ledger, but worth a replay."""


@dataclass(slots=True)
class Finding:
    """`count` records between the sequence numbers `first` and `last`, both included.

    `event_id` is known where it is a single record that the stream holds. `since` and `until` are
    write times in epoch seconds.
    """

    shard_id: str
    verdict: Verdict
    reason: str
    count: int
    first: str
    last: str
    event_id: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(slots=True)
class _Known:
    """What is remembered of a record while its block is compared.

    Its sequence number as the stream writes it: an emulator's may begin with zeros.
    """

    number: str
    event_id: str
    time: float | None


@dataclass(slots=True)
class _Run:
    """A block and what was seen of it; `whole` while none of its records was out of sight."""

    block: Block
    first: int
    last: int
    whole: bool
    count: int = 0
    total: int = 0
    has_first: bool = False
    records: dict[int, _Known] = field(default_factory=dict)

    def add(self, number: int, record: Record) -> None:
        self.count += 1
        self.total += number
        self.has_first |= number == self.first
        if self.count <= self.block.count + 1:
            self.records[number] = _Known(
                record.sequence_number, record.event_id, record.dynamodb.created_at
            )
        else:
            # With two records too many the sums tell no number.
            self.records.clear()


class Reconciliation:
    """Takes in the records of one shard in their order and compares them with the books.

    `see` gets every record from the trim horizon on, `missed` says that some went by unseen,
    `finish` that there are no more. What was trimmed away before it could be seen cannot be
    compared: of a block that lost its beginning it is only known that it holds not too many.
    """

    def __init__(self, shard_id: str, books: Books) -> None:
        self._shard_id = shard_id
        self._position = books.position
        self._blocks = sorted(books.blocks, key=lambda block: int(block.first))
        self._gaps = _intervals(books, self._blocks)
        self._next = 0
        self._runs: list[_Run] = []
        self._last = -1
        self._blind = True
        self._streak: Finding | None = None
        self.seen = 0
        """Records of the stream."""
        self.verified = 0
        """Those that the ledger has to account for."""
        self.accounted = 0
        self.before = 0
        """Those that are older than the ledger, or than the start of its first run."""
        self.waiting = 0
        """Those that were not read yet."""
        self.since: float | None = None
        """Write time of the oldest one that was verified, epoch seconds."""
        self.findings: list[Finding] = []

    @property
    def reached(self) -> bool:
        """Whether everything that the books can speak of has been seen."""
        stands = [int(self._blocks[-1].last)] if self._blocks else []
        if self._position is not None and self._position.sequence is not None:
            stands.append(int(self._position.sequence))
        return self._last >= max(stands, default=-1)

    def see(self, records: Iterable[Record]) -> None:
        """The next records; one that was seen already is passed over."""
        for record in records:
            number = int(record.sequence_number)
            if number <= self._last:
                continue
            self._move_to(number)
            self._last, self._blind = number, False
            self.seen += 1
            if self._place(number, record):
                self.verified += 1
                time = record.dynamodb.created_at
                if time is not None:
                    self.since = time if self.since is None else min(self.since, time)
            else:
                self._streak = None

    def missed(self) -> None:
        """Records behind the last one seen were trimmed, or went with their shard."""
        self._blind = True
        for run in self._runs:
            run.whole = False

    def finish(self) -> None:
        """There are no more records."""
        for run in self._runs:
            self._compare(run)
        self._runs = []
        if not self._blind:
            for block in self._blocks[self._next :]:
                self._compare(_Run(block, int(block.first), int(block.last), whole=True))
        self._next = len(self._blocks)

    def _move_to(self, number: int) -> None:
        """Open the blocks that begin up to here, close those that end before."""
        while self._next < len(self._blocks) and int(self._blocks[self._next].first) <= number:
            block = self._blocks[self._next]
            self._next += 1
            first = int(block.first)
            whole = not self._blind or first == number
            self._runs.append(_Run(block, first, int(block.last), whole))
        for run in self._runs:
            if run.last < number:
                self._compare(run)
        self._runs = [run for run in self._runs if run.last >= number]

    def _place(self, number: int, record: Record) -> bool:
        """Count the record; False when the ledger has nothing to say about it."""
        if self._older_than_start(record):
            self.before += 1
            return False
        if not self._runs:
            return self._place_outside(number, record)
        for run in self._runs:
            run.add(number, record)
        self.accounted += 1
        if len(self._runs) > 1:
            self._note(Verdict.MISCOUNTED, "counted twice: runs overlap", record)
        else:
            self._streak = None
        return True

    def _place_outside(self, number: int, record: Record) -> bool:
        """A record that stands in no block."""
        position, blocks = self._position, self._blocks
        if position is None:
            self.waiting += 1
            return False
        if any(low < number and (high is None or number < high) for low, high in self._gaps):
            self._note(Verdict.READABLE, "reported lost, yet it can be read", record)
        elif self._before_the_ledger(number, record, position):
            self.before += 1
            return False
        elif blocks and number < int(blocks[0].first):
            self._note(Verdict.UNACCOUNTED, "before the first record that was counted", record)
        elif blocks and number < int(blocks[-1].last):
            self._note(Verdict.UNACCOUNTED, "between two runs of counted records", record)
        elif position.finished:
            self._note(Verdict.UNACCOUNTED, "behind the end of a shard marked as finished", record)
        elif position.sequence is None or number > int(position.sequence):
            self.waiting += 1
            return False
        else:
            self._note(Verdict.UNACCOUNTED, "passed by the checkpoint and not counted", record)
        return True

    def _older_than_start(self, record: Record) -> bool:
        """Whether a start by time left it out; records carry whole seconds."""
        position, time = self._position, record.dynamodb.created_at
        if position is None or position.start is not Start.TIME or position.start_time is None:
            return False
        return time is not None and time < int(position.start_time)

    def _before_the_ledger(self, number: int, record: Record, position: Position) -> bool:
        if self._blocks:
            begin = self._blocks[0]
            if number >= int(begin.first):
                return False
            if begin.after is not None:
                return number <= int(begin.after)
        elif position.sequence is not None:
            return number <= int(position.sequence)
        if position.start is Start.AT_SEQUENCE:
            return number < int(position.start_sequence or 0)
        if position.start is Start.ITERATOR:
            return bool(self._blocks) or position.finished
        if position.start is not Start.LATEST:
            return False
        time, start = record.dynamodb.created_at, position.start_time
        known_older = time is not None and start is not None and time < int(start)
        return bool(self._blocks) or position.finished or known_older

    def _compare(self, run: _Run) -> None:
        block, extra = run.block, run.count - run.block.count
        if not run.whole:
            # The first record was counted; where it was not seen, one less can be there.
            extra += not run.has_first
            if extra > 0:
                self._report_extra(run, extra)
        elif extra == 1:
            number = run.total - block.total
            known = run.records.get(number)
            if known is None:
                self._report_extra(run, extra)
            else:
                self._report(run, Verdict.UNACCOUNTED, "not counted", 1, number, known)
                self.accounted -= 1
        elif extra > 1:
            self._report_extra(run, extra)
        elif extra == -1:
            number = block.total - run.total
            known = run.records.get(number)
            within = run.first <= number <= run.last
            reason = "counted, and not in the stream" if known is None else "counted twice"
            self._report(run, Verdict.MISCOUNTED, reason, 1, number if within else None, known)
        elif extra < -1:
            reason = "counted twice, or not in the stream"
            self._report(run, Verdict.MISCOUNTED, reason, -extra)
        elif run.total != block.total:
            self._report(run, Verdict.UNACCOUNTED, "as many as were counted, but not the same", 1)
            self.accounted -= 1

    def _report_extra(self, run: _Run, extra: int) -> None:
        self._report(run, Verdict.UNACCOUNTED, "not counted; it is not known which", extra)
        self.accounted -= extra

    def _report(
        self,
        run: _Run,
        verdict: Verdict,
        reason: str,
        count: int,
        number: int | None = None,
        known: _Known | None = None,
    ) -> None:
        first, last, event_id, time = run.block.first, run.block.last, None, None
        if number is not None:
            first = last = str(number) if known is None else known.number
        if known is not None:
            event_id, time = known.event_id, known.time
        self.findings.append(
            Finding(self._shard_id, verdict, reason, count, first, last, event_id, time, time)
        )

    def _note(self, verdict: Verdict, reason: str, record: Record) -> None:
        """One more record with this verdict; those that follow each other are one finding."""
        number, time = record.sequence_number, record.dynamodb.created_at
        streak = self._streak
        if streak is None or (streak.verdict, streak.reason) != (verdict, reason):
            self._streak = Finding(
                self._shard_id, verdict, reason, 1, number, number, record.event_id, time, time
            )
            self.findings.append(self._streak)
            return
        streak.count += 1
        streak.last, streak.event_id = number, None
        streak.until = streak.until if time is None else time


def _intervals(books: Books, blocks: Sequence[Block]) -> list[tuple[int, int | None]]:
    """What the gaps cover, as pairs of sequence numbers that are outside; None is no end.

    A gap that no record has closed yet covers nothing, unless the shard is finished: what can be
    read behind it is still to be read.
    """
    found: list[tuple[int, int | None]] = []
    for gap in books.gaps:
        low = -1 if gap.after is None else int(gap.after)
        if gap.before is not None:
            high: int | None = int(gap.before)
        else:
            high = next((int(b.first) for b in blocks if int(b.first) > low), None)
        if high is None and not (books.position is not None and books.position.finished):
            continue
        ends = [int(b.last) for b in blocks if high is None or int(b.last) < high]
        found.append((max([low, *ends]), high))
    return found
