"""Which files of a series are fetched before they are asked for."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from idcfs.fetch import siblings
from idcfs.fetch.siblings import HEAD_BYTES, Ahead, Siblings

CT_BYTES = 528_000


def series(count: int, size_bytes: int = CT_BYTES) -> Siblings:
    return Siblings(count, size_of=lambda _: size_bytes, ahead_of=lambda _: size_bytes)


def taken(files: Siblings) -> list[Ahead]:
    got = []
    while (ahead := files.take()) is not None:
        got.append(ahead)
    return got


def read(files: Siblings, position: int, reach_bytes: int = CT_BYTES) -> list[Ahead]:
    """Read a file; return what is fetched ahead when that begins."""
    files.opened(position)
    ahead = taken(files)
    files.closed(position, reach_bytes)
    return ahead


def test_a_copy_of_a_series_is_soon_a_full_window_ahead() -> None:
    files, on_the_way = series(200), set[int]()
    found = []
    for position in range(200):
        found.append(position in on_the_way)
        on_the_way |= {ahead.position for ahead in read(files, position)}
        assert len(on_the_way - set(range(position + 1))) <= siblings._WINDOW_FILES
    assert found == [False, *[True] * 199]
    assert on_the_way == set(range(1, 200))


def test_one_file_alone_brings_few_others_or_none() -> None:
    assert len(read(series(200), 0)) == siblings._FIRST_FILES
    assert read(series(200), 120) == []


def test_headers_are_learnt_and_unlearnt() -> None:
    files = series(200)
    for position in range(10):
        read(files, position, HEAD_BYTES)
    assert files.headers_only
    assert {each.length for each in read(files, 10, HEAD_BYTES)} == {HEAD_BYTES}
    whole = [ahead for position in range(11, 15) for ahead in read(files, position)]
    # What came as a header only comes whole now.
    assert Ahead(17, CT_BYTES) in whole


def test_small_files_read_to_their_end_are_no_headers() -> None:
    files = series(50, 20_000)
    for position in range(10):
        read(files, position, 20_000)
    assert not files.headers_only


def test_a_jump_ends_the_window() -> None:
    files = series(2000)
    for position in range(3):
        read(files, position)
    assert read(files, 1000) == []


def test_a_viewer_that_goes_by_another_order_gets_the_rest_by_and_by() -> None:
    files, on_the_way = series(200), set[int]()
    order = list(range(200))
    Random(1).shuffle(order)
    found = 0
    for position in order:
        found += position in on_the_way
        on_the_way |= {ahead.position for ahead in read(files, position)}
    assert found > 120


def test_few_scattered_files_bring_no_others() -> None:
    files = series(2000)
    assert [read(files, position) for position in (900, 100, 1500)] == [[], [], []]


def test_a_second_pass_is_foreseen_as_the_first() -> None:
    files = series(40)
    for _ in range(2):
        sent = set()
        for position in range(40):
            sent |= {ahead.position for ahead in read(files, position)}
        assert sent == set(range(1, 40))


def test_files_of_many_megabytes_are_bounded_by_bytes() -> None:
    files = series(200, 8 << 20)
    for position in range(20):
        read(files, position, 8 << 20)
        assert files._unread_bytes <= siblings._WINDOW_BYTES + (8 << 20)


@given(
    st.lists(st.integers(1, 1 << 24), min_size=1, max_size=300),
    st.lists(st.tuples(st.integers(0, 299), st.integers(1, 1 << 24)), max_size=80),
)
def test_whatever_is_read_what_comes_ahead_is_bounded_and_comes_once(
    sizes: list[int], reads: list[tuple[int, int]]
) -> None:
    files = Siblings(len(sizes), size_of=sizes.__getitem__, ahead_of=sizes.__getitem__)
    for number, (place, reach) in enumerate(reads):
        position = place % len(sizes)
        ahead = read(files, position, min(reach, sizes[position]))
        assert len({each.position for each in ahead}) == len(ahead)
        assert all(0 < each.length <= sizes[each.position] for each in ahead)
        assert len(files._unread) <= max(siblings._WINDOW_FILES, number + 1)
        assert files._unread_bytes == sum(files._unread.values())
