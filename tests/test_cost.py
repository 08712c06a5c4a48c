"""What a run costs: from its usage and the prices that are set, rounded for people only."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.config import Settings
from ddbrelay.cost import Bill, Bills, Prices, money
from ddbrelay.flow.tracking import Usage
from ddbrelay.output import status as printed
from ddbrelay.stores.usage import EARLIER_RUNS, RunUsage

PRICES = Prices.of(Settings())
NOW = 1_795_430_000.0
counts = st.integers(0, 10**9)
usages = st.builds(Usage, *[counts] * 5)


def test_each_thing_has_its_price() -> None:
    assert PRICES.cost(Usage(chunks=1_000_000)) == 1
    assert PRICES.cost(Usage(reads=100_000)) == Decimal("0.02")
    assert PRICES.cost(Usage(puts=1_000)) == Decimal("0.005")
    assert PRICES.cost(Usage(reads=1, requests=9, events=9, chunks=3, puts=2)) == Decimal(
        "0.0000132"
    )
    assert PRICES.cost(Usage()) == 0


def test_requests_and_events_by_themselves_cost_nothing() -> None:
    assert PRICES.cost(Usage(requests=10**6, events=10**6)) == 0


def test_prices_are_those_that_are_set() -> None:
    other = Prices.of(Settings(price_events=1.26, price_reads=0.03, price_puts=0.1))
    assert other.cost(Usage(chunks=10**6, reads=10**5, puts=10**3)) == Decimal("1.39")


@given(usages, usages)
def test_the_cost_of_all_runs_is_the_sum_of_their_costs(one: Usage, other: Usage) -> None:
    bills = Bills.of([RunUsage(NOW, NOW, one), RunUsage(EARLIER_RUNS, NOW, other)], PRICES)
    assert bills.run is not None
    assert bills.run == Bill(one, PRICES.cost(one), NOW, NOW)
    assert bills.total.cost == PRICES.cost(one) + PRICES.cost(other)
    assert bills.total.usage.chunks == one.chunks + other.chunks


def test_the_earlier_runs_are_no_run() -> None:
    bills = Bills.of([RunUsage(EARLIER_RUNS, NOW, Usage(reads=7))], PRICES)
    assert bills.run is None
    assert bills.total.usage == Usage(reads=7)
    assert Bills.of([], PRICES).total == Bill(Usage(), Decimal(0))


def test_a_program_gets_numbers() -> None:
    bill = Bills.of([RunUsage(NOW, NOW + 60.5, Usage(2, 1, 3, 4, 1))], PRICES).run
    assert bill is not None
    assert msgspec.to_builtins(printed.RunUsage.of(bill)) == {
        "startedAt": "2026-11-23T10:33:20Z",
        "savedAt": "2026-11-23T10:34:20.500Z",
        "reads": 2,
        "requests": 1,
        "events": 3,
        "chunks": 4,
        "puts": 1,
        "cost": 0.0000094,
    }


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        ("0", "$0"),
        ("0.0000002", "less than $0.000001"),
        ("0.000001", "about $0.0000010"),
        ("0.0012345", "about $0.0012"),
        ("0.00999", "about $0.0100"),
        ("0.048312", "about $0.048"),
        ("0.5", "about $0.50"),
        ("0.999", "about $1.00"),
        ("1", "about $1.00"),
        ("1.005", "about $1.00"),
        ("12345.678", "about $12,345.68"),
        ("1E+3", "about $1,000.00"),
    ],
)
def test_money_has_the_digits_that_count(amount: str, words: str) -> None:
    assert money(Decimal(amount)) == words


@given(usages)
def test_money_is_never_off_by_more_than_a_twentieth(usage: Usage) -> None:
    cost = PRICES.cost(usage)
    said = money(cost)
    if said.startswith("about"):
        shown = Decimal(said.removeprefix("about $").replace(",", ""))
        assert abs(shown - cost) <= max(cost / 20, Decimal("0.005") if cost >= 1 else Decimal(0))
