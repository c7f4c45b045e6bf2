"""How far ahead of readers an object is fetched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idcfs.fetch import streams
from idcfs.fetch.streams import Streams
from idcfs.model import Extent

KIB, MIB = 1 << 10, 1 << 20
SIZE = 512 * MIB
READ = 128 * KIB
"""What the kernel asks for at once."""


@pytest.fixture(autouse=True)
def small_windows() -> None:
    """Here the windows are as they are."""


def taken(readers: Streams) -> list[Extent]:
    got = []
    while (extent := readers.take(streams.WINDOW_BYTES)) is not None:
        got.append(extent)
    return got


def test_a_sequential_reader_soon_has_a_full_window_ahead() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    sent_end, position, requests = 0, 0, 0
    while position < 64 * MIB:
        wanted = readers.note(Extent(position, READ))
        if position >= sent_end:
            sent_end, requests = wanted.end, requests + 1
        for extent in taken(readers):
            assert extent.offset == sent_end
            assert extent.length <= streams.RUN_BYTES
            sent_end, requests = extent.end, requests + 1
        position += READ
    assert sent_end - position > streams.WINDOW_BYTES - streams.RUN_BYTES - READ
    assert requests < 70


def test_what_comes_first_comes_in_short_runs_side_by_side() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    lengths = []
    for position in range(0, 16 * MIB, READ):
        readers.note(Extent(position, READ))
        lengths += [extent.length for extent in taken(readers)]
    first_long = lengths.index(4 * MIB)
    assert first_long >= 8
    assert set(lengths[:first_long]) == {MIB}
    assert set(lengths[first_long + 1 :]) == {4 * MIB}


def test_who_misses_what_lies_ahead_waits_for_a_short_run() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    for position in range(0, 2 * MIB, READ):
        readers.note(Extent(position, READ))
    assert readers.note(Extent(2 * MIB, READ)) == Extent(2 * MIB, MIB)


def test_the_tile_of_a_slide_comes_in_one_request() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    assert readers.note(Extent(100 * MIB, READ)) == Extent(100 * MIB, 256 * KIB)
    assert readers.note(Extent(100 * MIB + READ, READ)).end <= 100 * MIB + 384 * KIB
    assert taken(readers) == []


def test_a_jump_ends_the_window() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    for position in range(0, 8 * MIB, READ):
        readers.note(Extent(position, READ))
    taken(readers)
    assert readers.note(Extent(300 * MIB, READ)).length == 256 * KIB
    assert taken(readers) == []


def test_readers_of_one_object_do_not_disturb_each_other() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    for step in range(16):
        for start in (0, 200 * MIB, 400 * MIB):
            readers.note(Extent(start + step * READ, READ))
    assert {extent.offset // (200 * MIB) for extent in taken(readers)} == {0, 1, 2}


def test_pieces_that_overtake_each_other_are_one_reader() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    for position in range(0, 4 * MIB, 2 * READ):
        readers.note(Extent(position + READ, READ))
        readers.note(Extent(position, READ))
    assert max(extent.end for extent in taken(readers)) >= 16 * MIB


def test_in_memory_less_comes_ahead_and_in_short_runs() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    for position in range(0, 64 * MIB, READ):
        readers.note(Extent(position, READ))
    readers.rewind()
    ahead = []
    while (extent := readers.take(streams.IN_MEMORY_BYTES)) is not None:
        ahead.append(extent)
    assert {extent.length for extent in ahead} == {MIB}
    assert ahead[0].offset == 64 * MIB
    assert ahead[-1].end == 64 * MIB + streams.IN_MEMORY_BYTES
    assert readers.take(0) is None


def test_what_has_not_come_is_asked_for_again() -> None:
    readers = Streams(SIZE, extra_bytes=streams.EXTRA_BYTES)
    for position in range(0, 64 * MIB, READ):
        readers.note(Extent(position, READ))
    first = taken(readers)
    assert taken(readers) == []
    readers.rewind()
    again = taken(readers)
    assert again[0].offset == 64 * MIB < first[-1].offset
    assert again[-1].end >= first[-1].end


@given(
    st.integers(1, 64 * MIB),
    st.lists(st.tuples(st.integers(0, 64 * MIB), st.integers(1, MIB)), max_size=60),
)
def test_what_is_wanted_is_within_the_object_and_bounded(
    size: int, reads: list[tuple[int, int]]
) -> None:
    readers = Streams(size, extra_bytes=128 * KIB)
    farthest = 0
    for place, length in reads:
        offset = place % size
        extent = Extent(offset, min(length, size - offset))
        farthest = max(farthest, extent.end)
        wanted = readers.note(extent)
        assert wanted.offset == extent.offset
        assert extent.end <= wanted.end <= size
        assert wanted.length <= extent.length + 2 * MIB + streams.RUN_BYTES
        for ahead in taken(readers):
            assert 0 < ahead.length <= streams.RUN_BYTES
            assert ahead.end <= min(size, farthest + streams.WINDOW_BYTES)
