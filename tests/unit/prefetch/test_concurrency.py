"""The number of transfers follows what a link gains from; the link is reckoned, not waited for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.prefetch.concurrency import FIRST, MOST, Concurrency

STEP_S = 0.1


def drive(
    concurrency: Concurrency,
    seconds: float,
    *,
    each: float,
    capacity: float = math.inf,
    start_s: float = 0.0,
    done: float = 0.0,
) -> tuple[list[int], float]:
    """Return the limits over time, and what was done, on a link of so many bytes a second.

    `each` is what one transfer moves alone, `capacity` what the link carries at most.
    """
    limits = []
    for number in range(round(seconds / STEP_S)):
        limits.append(concurrency.note(start_s + number * STEP_S, done))
        done += STEP_S * min(capacity, each * concurrency.limit)
    return limits, done


def test_a_distant_store_gets_as_many_as_there_may_be() -> None:
    concurrency = Concurrency()
    drive(concurrency, 5, each=8e6)
    assert concurrency.limit == MOST


def test_a_link_that_is_full_gets_no_more() -> None:
    concurrency = Concurrency()
    limits, _ = drive(concurrency, 100, each=8e6, capacity=FIRST * 8e6)
    assert concurrency.limit == FIRST
    tried = [limit for limit in limits if limit > FIRST]
    assert 0 < len(tried) < 0.1 * len(limits)


@given(
    each=st.floats(1e5, 1e9),
    factor=st.floats(0.1, 1000),
    ceiling=st.integers(FIRST, MOST),
)
def test_it_settles_where_the_link_is_nearly_full(each: float, factor: float, ceiling: int) -> None:
    concurrency = Concurrency(most=ceiling)
    capacity = factor * each
    drive(concurrency, 120, each=each, capacity=capacity)
    reached = min(capacity, each * concurrency.limit)
    best = min(capacity, each * ceiling)
    assert reached >= 0.9 * best
    # Whatever lies above the first number must have been worth it.
    assert concurrency.limit <= max(FIRST, 2 * factor)


def test_what_becomes_faster_is_found_later() -> None:
    concurrency = Concurrency()
    _, done = drive(concurrency, 60, each=8e6, capacity=FIRST * 8e6)
    drive(concurrency, 200, each=8e6, start_s=60, done=done)
    assert concurrency.limit == MOST


def test_a_store_that_asks_for_less_gets_less_and_later_more_again() -> None:
    concurrency = Concurrency()
    _, done = drive(concurrency, 5, each=8e6)
    for _ in range(50):
        concurrency.push_back()  # all that were on their way
    assert concurrency.note(5.1, done) == MOST // 2
    concurrency.push_back()
    assert concurrency.note(5.2, done) == MOST // 2
    concurrency.push_back()
    assert concurrency.note(6.3, done) == MOST // 4
    limits, done = drive(concurrency, 9, each=8e6, start_s=6.4, done=done)
    assert set(limits) == {MOST // 4}
    drive(concurrency, 10, each=8e6, start_s=15.4, done=done)
    assert concurrency.limit == MOST


@given(jobs=st.integers(1, 256), each=st.floats(1, 1e9), pushed=st.booleans())
def test_a_number_that_the_user_says_stays(jobs: int, each: float, pushed: bool) -> None:
    concurrency = Concurrency.fixed(jobs)
    if pushed:
        concurrency.push_back()
    limits, _ = drive(concurrency, 20, each=each)
    assert set(limits) == {jobs}


@given(notes=st.lists(st.tuples(st.floats(0, 3), st.floats(-1e9, 1e9), st.booleans()), max_size=60))
def test_it_stays_within_its_bounds_whatever_is_measured(
    notes: list[tuple[float, float, bool]],
) -> None:
    concurrency = Concurrency()
    now_s = done = 0.0
    for elapsed_s, moved, pushed in notes:
        now_s += elapsed_s
        done += moved
        if pushed:
            concurrency.push_back()
        assert 1 <= concurrency.note(now_s, done) <= MOST


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_nothing_is_concluded_from_nothing(rate: float) -> None:
    concurrency = Concurrency()
    limits, _ = drive(concurrency, 4, each=rate)
    assert set(limits) == {FIRST}
