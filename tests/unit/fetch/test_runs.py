"""Which units of an object are fetched together."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.fetch import streams
from idcfs.fetch.runs import Runs
from idcfs.model import Extent

UNIT = 128 << 10
COUNT = 80
SIZE = COUNT * UNIT - 1


@pytest.fixture(autouse=True)
def small_windows() -> None:
    """Here the longest run is as it is."""


def unit(number: int) -> Extent:
    return Extent(number * UNIT, min(UNIT, SIZE - number * UNIT))


numbers = st.sets(st.integers(0, COUNT - 1))


@given(missing=numbers.filter(bool), coming=numbers, data=st.data())
def test_a_run_is_of_missing_units_that_do_not_come_yet(
    missing: set[int], coming: set[int], data: st.DataObject
) -> None:
    runs = Runs(SIZE, is_large=True)
    wanted = data.draw(st.sampled_from(sorted(missing)))
    coming.discard(wanted)
    units = [unit(number) for number in sorted(missing)]
    with _all_under_way(runs, coming):
        around = runs.around(unit(wanted), units)
        first = runs.first_of(units[units.index(unit(wanted)) :])
    assert first.offset == unit(wanted).offset
    for run in around, first:
        covered = {number for number in range(COUNT) if run.offset <= number * UNIT < run.end}
        assert wanted in covered
        assert covered <= missing - coming
        assert run.end == unit(max(covered)).end
        assert run.length <= streams.RUN_BYTES


def test_what_has_come_is_not_on_its_way_any_more() -> None:
    runs = Runs(SIZE, is_large=True)
    run = Extent(0, 4 * UNIT)
    with runs.under_way(run):
        with runs.under_way(run):
            assert runs.find(unit(3)) == run
        assert runs.find(unit(3)) == run  # somebody else waits for it still
        assert runs.find(unit(4)) is None
    assert runs.find(unit(3)) is None


def test_in_memory_all_units_of_a_chunk_are_found_again() -> None:
    runs = Runs(SIZE, is_large=True)
    chunks = [runs.chunk(unit(number)) for number in range(COUNT)]
    assert sorted({chunk.offset for chunk in chunks}) == list(range(0, SIZE, 1 << 20))
    assert max(chunk.end for chunk in chunks) == SIZE


def _all_under_way(runs: Runs, coming: set[int]) -> ExitStack:
    stack = ExitStack()
    for number in coming:
        stack.enter_context(runs.under_way(unit(number)))
    return stack
