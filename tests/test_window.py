"""How many requests may be in flight."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ddbrelay.relay.window import START, Window


def answer(window: Window, times: int, seconds: float, *, at: float = 0.0) -> float:
    """So many answers, one after the other, while the window is full; the time after them."""
    for _ in range(times):
        window.answered(at, at + seconds, full=True)
        at += seconds / max(window.size, 1)
    return at


def test_it_starts_small_and_doubles_with_each_round_of_answers_that_come_as_quickly() -> None:
    window = Window(64)
    sizes = [window.size]
    for _ in range(5):
        answer(window, window.size, 0.01)
        sizes.append(window.size)
    assert sizes == [START, 8, 16, 32, 64, 64]


def test_it_never_starts_above_its_bound() -> None:
    window = Window(2)
    answer(window, 50, 0.01)
    assert window.size == 2


def test_what_is_not_made_use_of_does_not_grow() -> None:
    window = Window(64)
    for n in range(100):
        window.answered(n, n + 0.01, full=False)
    assert window.size == START


def test_it_stops_growing_when_answers_take_longer_and_goes_on_slowly_after_that() -> None:
    window = Window(64)
    at = answer(window, 12, 0.01)
    at = answer(window, 40, 0.1, at=at)
    held = window.size
    assert held < 64
    at = answer(window, 60, 0.1, at=at)
    assert window.size == held
    at = answer(window, 60, 0.01, at=at)
    assert held < window.size <= held + 4


def test_a_bus_that_became_slower_for_good_is_taken_as_it_is_after_a_while() -> None:
    window = Window(64)
    at = answer(window, 8, 0.01)
    for _ in range(4000):
        at = answer(window, 1, 0.2, at=at)
    assert window.size == 64


def test_throttling_halves_it_once_for_all_requests_that_were_under_way_together() -> None:
    window = Window(64)
    at = answer(window, 100, 0.01)
    for _ in range(64):
        window.crowded(at, at + 0.01)
    assert window.size == 32
    window.crowded(at + 0.02, at + 0.03)
    assert window.size == 16


def test_after_throttling_it_grows_by_one_a_round() -> None:
    window = Window(64)
    at = answer(window, 100, 0.01)
    window.crowded(at, at + 0.01)
    at = answer(window, 33, 0.01, at=at + 0.01)
    assert window.size == 33


@given(
    st.integers(1, 200),
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.floats(0.0, 30.0), st.floats(0.0, 5.0)),
        max_size=200,
    ),
)
def test_it_stays_between_one_and_its_bound_whatever_is_answered(
    most: int, answers: list[tuple[bool, bool, float, float]]
) -> None:
    window, now = Window(most), 0.0
    for crowded, full, seconds, pause in answers:
        now += pause
        if crowded:
            window.crowded(now - seconds, now)
        else:
            window.answered(now - seconds, now, full=full)
        assert 1 <= window.size <= most
