"""The clock of this machine against that of AWS.

Signatures are refused from five minutes on:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
"""

from __future__ import annotations

from ddbrelay.checkup.findings import Area, Finding

AREA = Area("clock")
WARN_FROM, REFUSED_FROM = 60.0, 300.0
_MEND = "timedatectl set-ntp true"


def judge(ahead: float | None) -> list[Finding]:
    """`ahead`: seconds by which this machine is ahead, None where no answer told the time."""
    if ahead is None:
        return [AREA.note("skew", "no answer told the time")]
    off = abs(ahead)
    words = f"{off:.0f} s {'ahead of' if ahead > 0 else 'behind'} AWS"
    if off >= REFUSED_FROM:
        why = "AWS refuses signatures that are five minutes off"
        return [AREA.error("skew", f"this machine is {words}", why, _MEND)]
    if off >= WARN_FROM:
        why = "AWS refuses signatures that are five minutes off, and lag and times are off already"
        return [AREA.warning("skew", f"this machine is {words}", why, _MEND)]
    return [AREA.ok("skew", f"within {max(off, 1.0):.0f} s of AWS")]
