from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.flow.sink import FINAL_CODES, RETRYABLE_CODES, EntryResult, receipt_of, retry_delay
from ddbrelay.testing.builders import item


def test_only_the_failed_entries_are_to_be_sent_again() -> None:
    items = [item(key) for key in "abcd"]
    receipt = receipt_of(
        items,
        [
            EntryResult("1"),
            EntryResult(None, "ThrottlingException", "slow down"),
            EntryResult("3"),
            EntryResult(None, "MalformedDetail", "no JSON"),
        ],
    )
    assert receipt.accepted == [(items[0], "1"), (items[2], "3")]
    assert receipt.retry == [(items[1], "ThrottlingException: slow down")]
    assert receipt.rejected == [(items[3], "MalformedDetail: no JSON")]


@pytest.mark.parametrize("code", sorted(FINAL_CODES))
def test_a_final_code_is_not_tried_again(code: str) -> None:
    receipt = receipt_of([item()], [EntryResult(None, code)])
    assert [reason for _, reason in receipt.rejected] == [code]
    assert not receipt.retry


@pytest.mark.parametrize("code", sorted(RETRYABLE_CODES))
def test_a_code_that_may_pass_is_tried_again(code: str) -> None:
    receipt = receipt_of([item()], [EntryResult(None, code)])
    assert [reason for _, reason in receipt.retry] == [code]


def test_an_unknown_code_is_kept_apart_with_the_words_of_aws_on_one_line() -> None:
    receipt = receipt_of([item()], [EntryResult(None, "FromTheFuture", "no\n  way")])
    assert [reason for _, reason in receipt.unknown] == ["FromTheFuture: no way"]
    assert not receipt.retry
    assert not receipt.rejected


def test_an_entry_without_id_and_without_code_is_tried_again() -> None:
    assert len(receipt_of([item()], [EntryResult(None)]).retry) == 1


def test_an_entry_with_id_and_code_was_not_accepted() -> None:
    assert not receipt_of([item()], [EntryResult("1", "InternalFailure")]).accepted


results = st.builds(
    EntryResult,
    st.none() | st.text(),
    st.none() | st.sampled_from([*FINAL_CODES, "InternalFailure", "FromTheFuture"]),
    st.none() | st.text(),
)


@given(st.lists(results, max_size=10))
def test_every_item_stands_in_exactly_one_list(answer: list[EntryResult]) -> None:
    items = [item(f"k{n}") for n in range(len(answer))]
    receipt = receipt_of(items, answer)
    listed = [*receipt.accepted, *receipt.retry, *receipt.unknown, *receipt.rejected]
    assert sorted(id(one) for one, _ in listed) == sorted(map(id, items))


def test_an_answer_of_another_length_is_a_mistake_and_not_a_receipt() -> None:
    with pytest.raises(ValueError):
        receipt_of([item(), item()], [EntryResult("1")])


@given(st.integers(0, 10_000), st.integers())
def test_the_delay_has_jitter_grows_and_stays_below_its_cap(attempt: int, seed: int) -> None:
    delay = retry_delay(attempt, random.Random(seed))
    assert 0.0 <= delay <= min(20.0, 0.1 * 2.0 ** min(attempt, 30))


def test_the_delay_doubles_on_average() -> None:
    rng = random.Random(1)
    means = [sum(retry_delay(attempt, rng) for _ in range(2000)) / 2000 for attempt in range(1, 6)]
    for shorter, longer in itertools.pairwise(means):
        assert 1.7 < longer / shorter < 2.3
