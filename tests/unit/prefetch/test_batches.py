"""How a selection is cut into batches, and what the room for them decides."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.errors import UsageError
from idcfs.prefetch.batches import largest_batch, split, when_there_is_room
from idcfs.prefetch.outcome import Outcome
from tests.support.stores import make_series

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.model import Series


def placed(*sizes: int) -> list[tuple[Series, str]]:
    return [
        (replace(make_series(number), size_bytes=size), f"d{number}")
        for number, size in enumerate(sizes)
    ]


@given(st.lists(st.integers(0, 50), max_size=30), st.none() | st.integers(1, 60))
def test_batches_keep_the_order_and_the_limit(sizes: list[int], limit: int | None) -> None:
    batches = list(split(placed(*sizes), limit))
    assert [each for batch in batches for each in batch] == placed(*sizes)
    for batch in batches:
        total = sum(series.size_bytes for series, _ in batch)
        assert len(batch) == 1 or limit is None or total <= limit
    for first, second in itertools.pairwise(batches):  # no more of them than are needed
        assert limit is not None
        assert sum(s.size_bytes for s, _ in first) + second[0][0].size_bytes > limit


def test_the_largest_batch_is_what_there_must_be_room_for() -> None:
    assert largest_batch(placed(3, 3, 9, 1, 1), 7) == placed(3, 3, 9)[2:]
    assert largest_batch([], 7) == []
    first, second = placed(1, 1)
    with pytest.raises(UsageError, match=str(second[0].uuid)):
        largest_batch([first, (second[0], first[1])], None)


def test_a_batch_comes_only_if_there_is_room(tmp_path: Path) -> None:
    outcome = Outcome(0, 0)
    batches = iter([placed(1), placed(10**17), placed(2)])
    came = list(when_there_is_room(batches, tmp_path, outcome, lambda batch: iter(())))
    assert came == [placed(1)]
    assert outcome.gave_up is not None
    assert "1e+08 GB" in outcome.gave_up
    assert "--exec-remove" in outcome.gave_up


def test_what_is_there_already_needs_no_room(tmp_path: Path) -> None:
    outcome = Outcome(0, 0)
    batches = iter([placed(10**17)])
    assert list(when_there_is_room(batches, tmp_path, outcome, lambda batch: iter([10**17])))
    assert outcome.gave_up is None


def test_no_batch_follows_one_that_was_given_up(tmp_path: Path) -> None:
    outcome = Outcome(0, 0)
    batches = when_there_is_room(
        iter([placed(1), placed(2)]), tmp_path, outcome, lambda batch: iter(())
    )
    next(batches)
    outcome.interrupted = True
    assert list(batches) == []
