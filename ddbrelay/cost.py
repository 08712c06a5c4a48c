"""What AWS bills for a run, estimated from what it used and the prices of the settings.

Free tiers are not subtracted: they are an account's, not a run's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from ddbrelay.flow.tracking import Usage
from ddbrelay.stores.usage import EARLIER_RUNS, RunUsage

if TYPE_CHECKING:
    from ddbrelay.config import Settings

_CENT = Decimal("0.01")
_SMALLEST = Decimal("0.000001")


@dataclass(frozen=True)
class Prices:
    """Of a million events of 64 KB begun each, of 100,000 reads, of 1,000 claim checks."""

    events: Decimal
    reads: Decimal
    puts: Decimal

    @classmethod
    def of(cls, settings: Settings) -> Prices:
        """The ones that are set."""
        # By way of the text: 0.005 is then 0.005, not the nearest binary fraction.
        return cls(
            Decimal(str(settings.price_events)) / 1_000_000,
            Decimal(str(settings.price_reads)) / 100_000,
            Decimal(str(settings.price_puts)) / 1_000,
        )

    def cost(self, usage: Usage) -> Decimal:
        """In the currency of the prices, exact."""
        return (
            self.events * usage.chunks + self.reads * usage.reads + self.puts * usage.puts
        ).normalize()


@dataclass(frozen=True)
class Bill:
    """The usage of a stretch, from `started_at` on (None: of all runs), and what it costs."""

    usage: Usage
    cost: Decimal
    started_at: float | None = None
    saved_at: float | None = None


@dataclass(frozen=True)
class Bills:
    """The last run, where one is known by itself, and all runs together."""

    run: Bill | None
    total: Bill

    @classmethod
    def of(cls, runs: Sequence[RunUsage], prices: Prices) -> Bills:
        """From what is kept of each run, the latest first."""
        total = Usage()
        for one in runs:
            for counter in fields(Usage):
                more = getattr(one.usage, counter.name)
                setattr(total, counter.name, getattr(total, counter.name) + more)
        last = next((one for one in runs if one.started_at != EARLIER_RUNS), None)
        return cls(
            None
            if last is None
            else Bill(last.usage, prices.cost(last.usage), last.started_at, last.saved_at),
            Bill(total, prices.cost(total)),
        )


def money(amount: Decimal) -> str:
    """`about $0.0012`: two digits that count below a dollar, cents above."""
    if not amount:
        return "$0"
    if amount < _SMALLEST:
        return f"less than ${_SMALLEST:f}"
    if amount >= 1:
        return f"about ${amount.quantize(_CENT, ROUND_HALF_EVEN):,f}"
    digits = Decimal(1).scaleb(min(amount.adjusted() - 1, -2))
    return f"about ${amount.quantize(digits, ROUND_HALF_EVEN):f}"
