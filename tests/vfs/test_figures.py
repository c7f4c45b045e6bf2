"""The histogram of latencies, held against the true percentiles."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from idcfs.vfs.figures import Latencies

DURATIONS = st.lists(st.floats(0, 1e5), min_size=1, max_size=50)


@given(DURATIONS, st.sampled_from([1, 50, 90, 99, 100]))
def test_percentiles_are_right_to_a_factor_of_two(durations: list[float], percent: int) -> None:
    latencies = Latencies()
    for duration in durations:
        latencies.record(duration)
    true = sorted(durations)[math.ceil(len(durations) * percent / 100) - 1]
    told = latencies.percentile(percent)
    assert told is not None
    # Whole microseconds count.
    assert math.floor(true * 1e6) <= told * 1e6 <= max(2 * true * 1e6, 1)
    assert latencies.count == len(durations)
    assert math.isclose(latencies.total_s, sum(durations))


def test_without_any_there_is_none() -> None:
    assert Latencies().percentile(50) is None
