"""What the verification of a ledger found, as lines and as JSON objects."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ddbrelay.cli.accounts import ALL_SHOWN, head, item, name_of
from ddbrelay.flow.tracking.reconciliation import Finding, Verdict
from ddbrelay.objects import Of
from ddbrelay.output import ledger as printed
from ddbrelay.text import counted, printable
from ddbrelay.times import iso
from ddbrelay.values import iso_or_none

if TYPE_CHECKING:
    from ddbrelay.cli.console import Console
    from ddbrelay.relay.audit import Report

_MOST_FINDINGS = 20


def show_report(
    console: Console, of: Of, report: Report, letters: Mapping[str, tuple[int, int]]
) -> None:
    """What the walk found; `letters` says where dead letters and parked records differ."""
    if console.json:
        for finding in report.findings:
            console.object(_finding_object(finding))
        for shard_id, (parked, kept) in letters.items():
            why = "parked records and dead letters differ"
            console.object(printed.LetterWarning(shard_id, parked, kept, why))
        console.object(_verification(of, report))
        return
    head(console, of)
    item(console, "verified", _verified(report))
    rows: list[tuple[str, int, str | None, bool]] = [
        ("accounted for", report.accounted, "green", True),
        ("before the ledger began", report.before, "dim", False),
        ("not read yet", report.waiting, "yellow", False),
        ("reported lost, yet readable", report.count(Verdict.READABLE), "red", False),
        ("counted too often", report.count(Verdict.MISCOUNTED), "red", False),
        ("not accounted for", report.count(Verdict.UNACCOUNTED), "red", True),
    ]
    wide = len(f"{max(count for _, count, _, _ in rows):,}")
    for words, count, colour, always in rows:
        if count or always:
            item(console, "", f"{count:>{wide},}  {words}", colour if count else None)
    findings = sorted(report.findings, key=lambda one: one.verdict is Verdict.READABLE)
    most = _MOST_FINDINGS if console.output == "rich" else len(findings)
    for finding in findings[:most]:
        item(console, finding.verdict.value, _finding_words(finding), "red")
    if len(findings) > most:
        item(console, "", f"{len(findings) - most} more; {ALL_SHOWN}", "dim")
    for shard_id, (parked, kept) in letters.items():
        console.words(
            f"{name_of(shard_id)}: {counted(parked, 'record')} counted as parked, "
            f"{counted(kept, 'dead letter')} kept or resolved"
        )


def _verified(report: Report) -> str:
    shards = f"in {counted(report.shards, 'shard')}"
    if report.gone:
        shards += f"; {counted(report.gone, 'more shard')} of the ledger left the stream"
    if not report.verified:
        return f"nothing: the stream holds no record of the ledger, {shards}"
    since = "" if report.since is None else f" written since {iso(report.since)}"
    return f"{counted(report.verified, 'record')}{since}, {shards}"


def _finding_words(finding: Finding) -> str:
    where = f"{finding.shard_id} {finding.first}"
    if finding.first != finding.last:
        where = f"{where} to {finding.last}, {counted(finding.count, 'record')}"
    words = f"{where}: {finding.reason}"
    if finding.event_id is not None:
        words += f" (event {printable(finding.event_id)})"
    return words


def _finding_object(finding: Finding) -> printed.Finding:
    return printed.Finding(
        finding.verdict.value,
        finding.shard_id,
        finding.first,
        finding.last,
        finding.count,
        finding.reason,
        finding.event_id,
        iso_or_none(finding.since),
        iso_or_none(finding.until),
    )


def _verification(of: Of, report: Report) -> printed.Verification:
    return printed.Verification(
        consumer=of.consumer,
        table=of.table,
        stream_arn=of.stream_arn,
        shards=report.shards,
        shards_gone=report.gone,
        seen=report.seen,
        verified=report.verified,
        since=iso_or_none(report.since),
        accounted=report.accounted,
        before=report.before,
        waiting=report.waiting,
        readable=report.count(Verdict.READABLE),
        miscounted=report.count(Verdict.MISCOUNTED),
        unaccounted=report.count(Verdict.UNACCOUNTED),
        at=iso(time.time()),
    )
