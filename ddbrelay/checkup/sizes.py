"""What a sample says of the events: their size and price, and whether they become events at all.

Limits and prices: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html and
https://aws.amazon.com/eventbridge/pricing/ (64 KB begun are billed as one event).
"""

from __future__ import annotations

from collections.abc import Iterator

from ddbrelay.checkup.asking import Answer, refused
from ddbrelay.checkup.findings import Area, Finding, Subject, kilobytes
from ddbrelay.checkup.sample import STREAM, Mapped, Read
from ddbrelay.flow.offloading import billed_chunks
from ddbrelay.flow.packing import MAX_BYTES, offloaded, oversize

AREA = Area("sample")
_STREAM = Area("table")
_NEAR = 0.8
_MOST_REASONS = 3
_LONGEST_REASON = 160
_EVENT_ID = "0" * 32
"""As long as those of DynamoDB's records."""


def judge_reading(subject: Subject, read: Read) -> list[Finding]:
    """Whether the stream can be read: these were the calls that a relay makes."""
    if read.stream_refusal is None:
        names = sorted(action.partition(":")[2] for action in read.dry)
        return (
            [_STREAM.ok("reading", f"the stream can be read ({', '.join(names)})")] if names else []
        )
    answer: Answer[None] = Answer(refusal=read.stream_refusal)
    return [refused(_STREAM, "reading", answer, emulated=subject.emulated, needed=True)]


def judge(subject: Subject, read: Read, seen: Mapped) -> list[Finding]:
    """What becomes of the sampled changes."""
    if read.scan is not None and read.scan.refusal is not None:
        return [refused(AREA, "sample", read.scan, emulated=subject.emulated)]
    if not seen.count:
        words = "neither the stream nor the table holds anything to sample"
        return [AREA.note("sample", words, "sizes, and what becomes of real items, are not known")]
    return [*_rejected(seen), *_skipped(seen), *_unhidden(seen), *_sizes(subject, seen)]


def _rejected(seen: Mapped) -> list[Finding]:
    return [
        AREA.warning(
            "parked",
            f"{count:,} of {seen.count:,} sampled {seen.source} would be parked: "
            f"{reason[:_LONGEST_REASON]}",
            "they wait as dead letters, and later changes of the same items behind them",
            "correct the mapping; what it makes of a record, map --explain shows",
        )
        for reason, count in seen.rejected.most_common(_MOST_REASONS)
    ]


def _skipped(seen: Mapped) -> list[Finding]:
    skipped = sum(seen.skipped.values())
    if not skipped or skipped < seen.count:
        return []
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in seen.skipped.most_common(3))
    words = f"none of the {seen.count:,} sampled {seen.source} becomes an event ({reasons})"
    why = "rules that match nothing of what is written are seldom meant"
    if seen.source != STREAM:
        why = "each was taken for an INSERT; changes of other kinds may become events"
        return [AREA.note("skipped", words, why)]
    return [AREA.warning("skipped", words, why)]


def _unhidden(seen: Mapped) -> list[Finding]:
    why = (
        f"it hides nothing of the {seen.count:,} sampled {seen.source}; a misspelt name never does"
    )
    return [AREA.warning("redaction", line, why) for line in seen.unhidden]


def _sizes(subject: Subject, seen: Mapped) -> list[Finding]:
    if not seen.events:
        return []
    largest, count = max(event.size for event in seen.events), len(seen.events)
    sampled = f"{count:,} sampled event{'s' if count > 1 else ''} ({seen.source})"
    found = []
    over = sum(oversize(event) for event in seen.events)
    if over:
        found.append(_too_large(subject, over, sampled, largest))
    elif largest > _NEAR * MAX_BYTES:
        words = f"the largest of {sampled} has {kilobytes(largest)}, PutEvents takes 1 MB"
        why = "one that is larger is parked"
        mend = None if subject.settings.claim_check else "--claim-check s3://bucket/prefix"
        found.append(AREA.note("entry-size", words, why, mend))
    sizes = [*_sent(subject, seen)]
    dear = [size for size in sizes if billed_chunks(size) > 1]
    if dear:
        billed = sum(billed_chunks(size) for size in sizes)
        words = (
            f"{len(dear):,} of {sampled} are larger than 64 KB: {len(sizes):,} are billed as "
            f"{billed:,}, the largest ({kilobytes(max(dear))}) as {billed_chunks(max(dear))}"
        )
        why = "each 64 KB begun is billed as an event"
        mend = "a rule whose detail takes less than the whole item"
        found.append(AREA.note("price", words, why, mend))
    if not found:
        words = f"the largest of {sampled} has {kilobytes(largest)} of 1 MB, billed as one"
        found.append(AREA.ok("entry-size", words))
    return found


def _sent(subject: Subject, seen: Mapped) -> Iterator[int]:
    """The size of what PutEvents would get: without what is parked, claim checks as they are."""
    for event in seen.events:
        if not oversize(event):
            yield event.size
        elif (small := offloaded(event, subject.settings.claim_check, _EVENT_ID)) is not None:
            yield small[0].size


def _too_large(subject: Subject, over: int, sampled: str, largest: int) -> Finding:
    words = f"{over:,} of {sampled} are too large for PutEvents, the largest {kilobytes(largest)}"
    if subject.settings.claim_check:
        why = "their details go to the bucket for claim checks, and receivers must fetch them"
        return AREA.note("entry-size", words, why)
    why = "they would be parked, and later changes of the same items behind them"
    return AREA.warning("entry-size", words, why, "--claim-check s3://bucket/prefix")
