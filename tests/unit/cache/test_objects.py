"""Objects in the cache, from nothing to whole."""

from __future__ import annotations

import itertools
import os
import threading
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.inventory import remove_series
from idcfs.errors import CacheError, IntegrityError
from idcfs.model import Extent
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import path_of, start, store, store_all, unfinished

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = make_content(90)
LARGE = make_content(150)
UNITS = [Extent(0, 40), Extent(40, 40), Extent(80, 40), Extent(120, 30)]


def test_a_small_object_is_one_unit_and_then_a_plain_file(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    assert held.missing(Extent(10, 5)) == [Extent(0, 90)]
    assert held.read_nowait(Extent(10, 5)) is None
    with pytest.raises(CacheError):
        held.read(Extent(10, 5))

    store_all(held, ref, CONTENT)

    assert held.missing(ref.whole) == []
    assert held.read(Extent(10, 5)) == CONTENT[10:15]
    assert held.read_nowait(Extent(10, 5)) in (None, CONTENT[10:15])
    assert path_of(root, ref).read_bytes() == CONTENT
    assert unfinished(root) == []


def test_bytes_just_written_need_no_disk(cache: DiskCache, root: Path) -> None:
    probe = os.open(root / "CACHEDIR.TAG", os.O_RDONLY)
    try:
        os.preadv(probe, [bytearray(4)], 0, os.RWF_NOWAIT)
    except OSError:
        pytest.skip("this file system cannot read without waiting")
    finally:
        os.close(probe)
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    store_all(held, ref, CONTENT)

    assert held.read_nowait(ref.whole) == CONTENT


def test_a_whole_object_is_there_at_the_next_opening(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    store_all(cache.open(ref), ref, CONTENT)

    for each in (cache, DiskCache(root)):
        held = each.open(ref)
        assert held.missing(ref.whole) == []
        assert held.read(ref.whole) == CONTENT


@pytest.mark.parametrize(
    "body",
    [CONTENT[:-1], CONTENT + b"x", b"", CONTENT[:-1] + b"x"],
    ids=["short", "long", "empty", "damaged"],
)
def test_what_was_not_promised_is_never_kept_nor_served(
    root: Path, cache: DiskCache, body: bytes
) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    writer = start(held, ref.whole)

    with pytest.raises(IntegrityError, match=r"s3://idc-open-data/.*a\.dcm"):  # noqa: PT012  # either
        writer.write(memoryview(body))
        writer.commit()
    writer.abort()

    assert held.missing(ref.whole) == [ref.whole]
    assert not path_of(root, ref).exists()
    assert unfinished(root) == []
    store_all(held, ref, CONTENT)
    assert held.read(ref.whole) == CONTENT


def test_without_an_md5_the_length_alone_is_checked(cache: DiskCache) -> None:
    ref = make_ref(CONTENT, etag="0123456789abcdef-2")
    held = cache.open(ref)

    store_all(held, ref, bytes(90))

    assert held.read(ref.whole) == bytes(90)


def test_an_empty_object_misses_nothing(cache: DiskCache) -> None:
    ref = make_ref(b"")

    assert cache.open(ref).missing(ref.whole) == []


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_units_come_in_any_order(root: Path, cache: DiskCache, order: tuple[int, ...]) -> None:
    ref = make_ref(LARGE)
    held = cache.open(ref)
    assert held.missing(ref.whole) == UNITS
    assert held.missing(Extent(39, 2)) == UNITS[:2]
    assert held.missing(Extent(120, 30)) == UNITS[3:]

    for count, number in enumerate(order):
        unit = UNITS[number]
        assert held.missing(unit) == [unit]
        assert not path_of(root, ref).exists()
        store(held, LARGE, unit)
        assert held.missing(unit) == []
        assert held.read(unit) == LARGE[unit.offset : unit.end]
        assert len(held.missing(ref.whole)) == 3 - count

    assert path_of(root, ref).read_bytes() == LARGE
    assert unfinished(root) == []


@pytest.mark.usefixtures("small_units")
def test_a_whole_of_units_with_another_md5_is_dropped(root: Path, cache: DiskCache) -> None:
    ref = make_ref(LARGE)
    held = cache.open(ref)
    for unit in UNITS[:3]:
        store(held, LARGE, unit)

    with pytest.raises(IntegrityError, match="MD5"):
        store(held, LARGE[:-1] + b"x", UNITS[3])

    assert held.missing(ref.whole) == UNITS
    assert not path_of(root, ref).exists()
    assert unfinished(root) == []
    store_all(held, ref, LARGE)
    assert path_of(root, ref).read_bytes() == LARGE


@pytest.mark.usefixtures("small_units")
def test_units_of_an_object_uploaded_in_parts_make_a_whole(root: Path, cache: DiskCache) -> None:
    ref = make_ref(LARGE, etag="abc-2")

    store_all(cache.open(ref), ref, LARGE)

    assert path_of(root, ref).read_bytes() == LARGE


@pytest.mark.usefixtures("small_units")
def test_too_long_a_unit_does_not_spill_into_the_next(cache: DiskCache) -> None:
    ref = make_ref(LARGE)
    held = cache.open(ref)
    store(held, LARGE, UNITS[1])
    writer = start(held, UNITS[0])
    writer.write(memoryview(LARGE)[:30])

    with pytest.raises(IntegrityError):
        writer.write(memoryview(bytes(11)))

    assert held.read(UNITS[1]) == LARGE[40:80]


@pytest.mark.usefixtures("small_units")
def test_aborting_one_unit_leaves_the_others(root: Path, cache: DiskCache) -> None:
    ref = make_ref(LARGE)
    held = cache.open(ref)
    store(held, LARGE, UNITS[0])
    store(held, LARGE, UNITS[2])

    writer = start(held, UNITS[1])
    writer.write(memoryview(bytes(20)))
    writer.abort()
    writer.abort()

    assert held.missing(ref.whole) == [UNITS[1], UNITS[3]]
    assert held.read(UNITS[2]) == LARGE[80:120]
    store_all(held, ref, LARGE)
    assert path_of(root, ref).read_bytes() == LARGE


def test_an_abandoned_writer_writes_no_more_once_the_next_has_started(
    root: Path, cache: DiskCache
) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    former = start(held, ref.whole)
    former.write(memoryview(bytes(10)))

    store(held, CONTENT, ref.whole)
    with pytest.raises(CacheError):
        former.write(memoryview(bytes(80)))
    former.abort()

    assert held.read(ref.whole) == CONTENT
    assert path_of(root, ref).read_bytes() == CONTENT


def test_a_writer_overtaken_before_its_commit_counts_for_nothing(cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    former = start(held, ref.whole)
    former.write(memoryview(CONTENT))
    start(held, ref.whole)

    with pytest.raises(CacheError):
        former.commit()

    assert held.missing(ref.whole) == [ref.whole]


def test_bytes_that_were_checked_are_never_written_again(cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    store_all(held, ref, CONTENT)

    assert held.writer(ref.whole) is None


@pytest.mark.usefixtures("small_units")
def test_discarding_drops_the_blocks_of_an_incomplete_object(root: Path, cache: DiskCache) -> None:
    ref = make_ref(LARGE)
    held = cache.open(ref)
    for unit in UNITS[:3]:
        store(held, LARGE, unit)
    writer = start(held, UNITS[3])
    writer.write(memoryview(LARGE)[120:])

    held.discard(Extent(45, 1))

    assert held.missing(ref.whole) == [UNITS[1], UNITS[3]]
    assert held.read(Extent(60, 60)) == LARGE[60:120]
    writer.commit()
    store_all(held, ref, LARGE)
    assert path_of(root, ref).read_bytes() == LARGE


@pytest.mark.usefixtures("small_units")
def test_a_unit_written_across_the_end_of_a_file_does_not_count(
    root: Path, cache: DiskCache
) -> None:
    ref = make_ref(LARGE)
    held = cache.open(ref)
    store(held, LARGE, UNITS[0])
    writer = start(held, UNITS[1])
    writer.write(memoryview(LARGE)[40:80])
    remove_series(root, ref.series)

    with pytest.raises(CacheError):
        writer.commit()
    writer.abort()

    assert held.missing(ref.whole) == UNITS
    store_all(held, ref, LARGE)
    assert path_of(root, ref).read_bytes() == LARGE


def test_discarding_removes_a_whole_object(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    store_all(held, ref, CONTENT)

    held.discard(ref.whole)

    assert not path_of(root, ref).exists()
    assert held.missing(ref.whole) == [ref.whole]
    with pytest.raises(CacheError):
        held.read(ref.whole)
    store_all(held, ref, CONTENT)
    assert held.read(ref.whole) == CONTENT


def test_a_read_under_way_survives_a_discard(
    cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, other = make_ref(CONTENT), make_ref(bytes(90), "other.dcm")
    held = cache.open(ref)
    store_all(held, ref, CONTENT)
    reading, discarded = threading.Event(), threading.Event()
    pread = os.pread

    def slow_pread(fd: int, length: int, offset: int) -> bytes:
        reading.set()
        assert discarded.wait(10)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", slow_pread)
    got: list[object] = []
    thread = threading.Thread(target=lambda: got.append(held.read(ref.whole)))
    thread.start()
    assert reading.wait(10)
    held.discard(ref.whole)
    # Would get the descriptor's number, were it free.
    store_all(cache.open(other), other, bytes(90))
    discarded.set()
    thread.join()

    assert got == [CONTENT]


def test_a_file_of_another_length_is_missing(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    store_all(cache.open(ref), ref, CONTENT)
    os.truncate(path_of(root, ref), 89)

    held = cache.open(ref)
    assert held.missing(ref.whole) == [ref.whole]
    store_all(held, ref, CONTENT)
    assert path_of(root, ref).read_bytes() == CONTENT


def test_a_file_cut_short_while_open_is_noticed(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    store_all(held, ref, CONTENT)
    os.truncate(path_of(root, ref), 50)

    assert held.read_nowait(Extent(40, 20)) is None
    with pytest.raises(CacheError, match="cut short"):
        held.read(Extent(40, 20))


def test_closing_an_incomplete_object_leaves_nothing(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    held = cache.open(ref)
    writer = start(held, ref.whole)
    writer.write(memoryview(CONTENT))

    held.close()
    with pytest.raises(CacheError):
        writer.commit()

    assert unfinished(root) == []
    assert not path_of(root, ref).exists()


def test_two_caches_on_one_directory_share_what_is_whole(root: Path, cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    other = DiskCache(root)
    here, there = cache.open(ref), other.open(ref)

    store_all(here, ref, CONTENT)
    assert there.missing(ref.whole) == [ref.whole]  # asking others costs, so only `writer` does
    assert there.writer(ref.whole) is None
    assert there.missing(ref.whole) == []
    other.close()

    assert here.read(ref.whole) == there.read(ref.whole) == CONTENT
    assert cache.open(ref).read(ref.whole) == CONTENT


def test_descriptors_are_given_back(cache: DiskCache) -> None:
    ref = make_ref(CONTENT)
    store_all(cache.open(make_ref(b"x", "first.dcm")), make_ref(b"x", "first.dcm"), b"x")
    before = len(os.listdir("/proc/self/fd"))  # iterdir would hold it open

    for _ in range(20):
        held = cache.open(ref)
        if held.missing(ref.whole):
            store_all(held, ref, CONTENT)
        held.close()
        del held

    assert len(os.listdir("/proc/self/fd")) == before  # as above
