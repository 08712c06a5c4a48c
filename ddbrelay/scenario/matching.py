"""Why none of the events that came is the one that a pattern asks for, in lines for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ddbrelay.flow.mapping.document import encode
from ddbrelay.flow.mapping.matchers import shown
from ddbrelay.flow.mapping.patterns import Finding, compile_pattern
from ddbrelay.text import cut, printable

_EXPLAINED = 200
"""So many of the last events are looked at for the nearest one: explaining is slow."""
_OR = "$or["
_ONE_OBJECT = "each field matches, but not all in the same object of an array"


def mismatch(
    pattern: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
    *,
    width: int = 100,
    more: bool = False,
) -> list[str]:
    """How many events came, the nearest one, and what of the pattern it does not fulfil.

    `events` are EventBridge's envelopes, none of which should match: those that nothing else asked
    for last, each in the order of arrival, since of two that are equally near the later one is
    shown. With `more`, some that match came too, and the lines say that these are others. The lines
    have no line break or control character in them, and are at most `width` columns long where
    every character takes one.
    PatternError for a pattern that EventBridge refuses.
    """
    compiled = compile_pattern(pattern)
    if not events:
        return ["no other event came" if more else "no event came"]
    looked_at = events[-_EXPLAINED:]
    explained = [(event, compiled.explain(event)) for event in looked_at]
    nearest, findings = min(reversed(explained), key=lambda pair: _distance(pair[1]))
    other = "other " if more else ""
    how_many = f"1 {other}event came, and it does not match:"
    if len(events) > 1:
        of = f" of the last {_EXPLAINED}" if len(events) > _EXPLAINED else ""
        how_many = f"{len(events):,} {other}events came, none matches; the nearest{of}:"
    rows = [(one.path, one.wanted, one.found) for one in unmet(findings)]
    lines = [how_many, f"  {summary(nearest, width - 2)}", *_table(rows, width)]
    if not rows:
        lines.append(f"    {_ONE_OBJECT}")
    return [cut(printable(line), width) for line in lines]


def unmet(findings: Sequence[Finding]) -> list[Finding]:
    """What the document lacks; of an `$or` that no branch fulfils, only the nearest branch."""
    return _unmet(findings, 0)


def summary(event: Mapping[str, Any], width: int) -> str:
    """An event on one line: its type, its source, and as much of the detail as there is room."""
    kind, source = (str(event.get(name) or "-") for name in ("detail-type", "source"))
    detail = event.get("detail", {})
    try:
        text = encode(detail).decode()
    except (OverflowError, TypeError, ValueError):
        # An integer beyond 64 bits, or half of a surrogate pair.
        text = shown(detail)
    return cut(printable(f"{kind}  {source}  {text}"), width)


def _distance(findings: Sequence[Finding], start: int = 0) -> tuple[int, int]:
    """Fields that do not match, and the negative of those that do."""
    return len(_unmet(findings, start)), -sum(one.ok for one in findings)


def _unmet(findings: Sequence[Finding], start: int) -> list[Finding]:
    """Of findings whose paths are looked at from the character `start` on."""
    lacking: list[Finding] = []
    ors: dict[str, dict[str, list[Finding]]] = {}
    for one in findings:
        at = one.path.find(_OR, start)
        if at < 0:
            if not one.ok:
                lacking.append(one)
            continue
        branch = one.path[: one.path.index("]", at) + 1]
        ors.setdefault(one.path[:at], {}).setdefault(branch, []).append(one)
    for branches in ors.values():
        branch, inner = min(branches.items(), key=lambda pair: _distance(pair[1], len(pair[0])))
        lacking += _unmet(inner, len(branch))
    return lacking


def _table(rows: Sequence[tuple[str, str, str]], width: int) -> list[str]:
    paths = max((len(path) for path, _, _ in rows), default=0)
    wants = max((len(wanted) for _, wanted, _ in rows), default=0)
    lines = [f"    {p:<{paths}}  wanted {w:<{wants}}  got {g}" for p, w, g in rows]
    if all(len(line) <= width for line in lines):
        return lines
    return [
        line
        for path, wanted, got in rows
        for line in (f"    {path}", f"      wanted {wanted}", f"      got    {got}")
    ]
