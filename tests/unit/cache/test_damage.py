"""Damage on disk: no wrong byte is served, and what is damaged is fetched anew."""

from __future__ import annotations

import errno
import os
import shutil
from typing import TYPE_CHECKING, NoReturn

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.audit import Checked, verify_cache
from idcfs.cache.sums import ATTRIBUTE
from idcfs.errors import CacheError
from idcfs.model import Extent, Listing, SeriesUUID
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import part_of, path_of, store, store_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.cache.objects import DiskObject
    from idcfs.model import ObjectRef

SMALL, LARGE, PART = make_content(90, 1), make_content(150, 2), make_content(150, 3)
SMALL_REF = make_ref(SMALL, "small.dcm")
LARGE_REF = make_ref(LARGE, "large.dcm", etag="abc-2")
PART_REF = make_ref(PART, "part.dcm")
ALL = ((SMALL_REF, SMALL), (LARGE_REF, LARGE), (PART_REF, PART))

pytestmark = pytest.mark.usefixtures("small_units")


@pytest.fixture
def filled(root: Path, cache: DiskCache) -> Path:
    """A cache with a small and a large object, and another that lacks its second unit."""
    store_all(cache.open(SMALL_REF), SMALL_REF, SMALL)
    store_all(cache.open(LARGE_REF), LARGE_REF, LARGE)
    held = cache.open(PART_REF)
    for unit in (Extent(0, 40), Extent(80, 40), Extent(120, 30)):
        store(held, PART, unit)
    return root


def place_of(root: Path, ref: ObjectRef) -> Path:
    return part_of(root, ref) if ref is PART_REF else path_of(root, ref)


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    with path.open("r+b") as file:
        file.write(content)


def read_all(held: DiskObject, ref: ObjectRef, content: bytes) -> None:
    """Read every byte as a reader does that fetches what is damaged, all from a good store."""
    for start in range(0, len(content), 7):
        extent = Extent(start, min(7, len(content) - start))
        wanted = content[extent.offset : extent.end]
        for unit in held.missing(extent):
            store(held, content, unit)
        try:
            got = held.read_nowait(extent)
            got = held.read(extent) if got is None else got
        except CacheError:
            held.discard(extent)
            for unit in held.missing(extent):
                store(held, content, unit)
            got = held.read(extent)
        assert got == wanted


def check_all_right(root: Path, *, verify_reads: bool = False) -> None:
    """Whatever was done to the cache, readers get the right bytes and leave it mended."""
    cache = DiskCache(root, verify_reads=verify_reads)
    for ref, content in ALL:
        held = cache.open(ref)
        read_all(held, ref, content)
        for _ in range(2):  # completing it may find more damage
            store_all(held, ref, content)
        held.close()
    assert list(verify_cache(root)) == []
    for ref, content in ALL:
        assert path_of(root, ref).read_bytes() == content
    cache.close()


@pytest.mark.parametrize("ref", [SMALL_REF, LARGE_REF, PART_REF], ids=lambda ref: ref.instance.name)
@pytest.mark.parametrize("offset", [0, 19, 20, 89, -1])
def test_flipped_bits(filled: Path, ref: ObjectRef, offset: int) -> None:
    path = place_of(filled, ref)
    flip(path, offset if ref is not PART_REF else max(offset, 0))

    check_all_right(filled)


@pytest.mark.parametrize("length", [0, 1, 89, 140, 149])
@pytest.mark.parametrize("ref", [SMALL_REF, LARGE_REF, PART_REF], ids=lambda ref: ref.instance.name)
def test_files_cut_short_and_longer(filled: Path, ref: ObjectRef, length: int) -> None:
    os.truncate(place_of(filled, ref), length)
    check_all_right(filled)

    os.truncate(path_of(filled, ref), 10_000)
    check_all_right(filled)


def test_a_part_of_its_objects_length_is_no_whole(filled: Path) -> None:
    os.truncate(part_of(filled, PART_REF), 150)

    check_all_right(filled)


def test_objects_swapped_with_their_checksums(filled: Path) -> None:
    other_content = make_content(150, 9)
    other = make_ref(other_content, "other.dcm", etag="abc-2")
    cache = DiskCache(filled)
    store_all(cache.open(other), other, other_content)
    first, second = path_of(filled, LARGE_REF), path_of(filled, other)
    first.rename(filled / "x")
    second.rename(first)
    (filled / "x").rename(second)

    read_all(cache.open(other), other, other_content)
    check_all_right(filled)


def test_parts_swapped(filled: Path) -> None:
    other_content = make_content(150, 9)
    other = make_ref(other_content, "other.dcm")
    cache = DiskCache(filled)
    store(cache.open(other), other_content, Extent(0, 40))
    part_of(filled, other).rename(part_of(filled, PART_REF))

    check_all_right(filled)


@pytest.mark.parametrize("ref", [SMALL_REF, LARGE_REF, PART_REF], ids=lambda ref: ref.instance.name)
def test_files_deleted_and_made_empty_directories(filled: Path, ref: ObjectRef) -> None:
    place_of(filled, ref).unlink()

    check_all_right(filled)


@pytest.mark.parametrize("ref", [SMALL_REF, LARGE_REF], ids=lambda ref: ref.instance.name)
@pytest.mark.parametrize("value", [None, b"", b"IDC1", b"x" * 100])
def test_checksums_lost_or_damaged(filled: Path, ref: ObjectRef, value: bytes | None) -> None:
    if value is None:
        os.removexattr(path_of(filled, ref), ATTRIBUTE)
    else:
        os.setxattr(path_of(filled, ref), ATTRIBUTE, value)

    check_all_right(filled)


@pytest.mark.parametrize("offset", range(4096, 4096 + 8 * 8 + 32, 3))
def test_a_damaged_table_of_blocks(filled: Path, offset: int) -> None:
    flip(part_of(filled, PART_REF), offset)

    check_all_right(filled)


@pytest.mark.parametrize("offset", [0, 45, 89])
def test_bytes_overwritten_while_open_are_seen_with_verify_reads(filled: Path, offset: int) -> None:
    cache = DiskCache(filled, verify_reads=True)
    held = cache.open(SMALL_REF)
    assert held.read(SMALL_REF.whole) == SMALL
    flip(path_of(filled, SMALL_REF), offset)

    with pytest.raises(CacheError, match="damaged"):
        held.read(Extent(offset, 1))
    with pytest.raises(CacheError, match="damaged"):
        held.read_nowait(Extent(offset, 1))
    read_all(held, SMALL_REF, SMALL)
    cache.close()


def test_without_verify_reads_each_block_is_compared_once(filled: Path) -> None:
    """What docs/cache-format.md says of the two: here the first reading has been before."""
    cache = DiskCache(filled)
    held = cache.open(SMALL_REF)
    assert held.read(Extent(0, 1)) == SMALL[:1]
    flip(path_of(filled, SMALL_REF), 5)
    flip(path_of(filled, SMALL_REF), 50)

    assert held.read(Extent(5, 1)) != SMALL[5:6]
    with pytest.raises(CacheError, match="damaged"):
        held.read(Extent(50, 1))
    cache.close()


def no_attributes(*_: object) -> None:
    raise OSError(95, os.strerror(95))


def test_without_file_attributes_checksums_lie_beside(
    root: Path, cache: DiskCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "setxattr", no_attributes)
    monkeypatch.setattr(os, "getxattr", no_attributes)
    for ref, content in ALL:
        store_all(cache.open(ref), ref, content)
        assert (root / "sums" / ref.series[:2] / ref.series / ref.instance.name).is_file()

    check_all_right(root)
    flip(path_of(root, LARGE_REF), 7)
    check_all_right(root)


def zero_tail(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2)
        file.truncate(size)


def lose_length(path: Path) -> None:
    os.truncate(path, 0)


def zero_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(min(path.stat().st_size, 60)))


def old_table(path: Path) -> None:
    """The table of blocks came to the disk, the blocks did not."""
    with path.open("r+b") as file:
        file.write(bytes(min(path.stat().st_size, 150)))


@pytest.mark.parametrize("loss", [zero_tail, lose_length, zero_page, old_table])
@pytest.mark.parametrize("ref", [SMALL_REF, LARGE_REF, PART_REF], ids=lambda ref: ref.instance.name)
def test_a_power_cut_loses_what_was_not_written_back(
    filled: Path, tmp_path: Path, loss: Callable[[Path], None], ref: ObjectRef
) -> None:
    """Nothing is synced: a file may come back with its names and without its bytes."""
    copied = tmp_path / "after the cut"
    shutil.copytree(filled, copied)  # with attributes
    loss(place_of(copied, ref))

    check_all_right(copied)


def test_verify_finds_what_is_damaged_and_drops_it(filled: Path) -> None:
    assert list(verify_cache(filled)) == []
    flip(path_of(filled, SMALL_REF), 3)
    flip(part_of(filled, PART_REF), 85)
    steps: list[tuple[int, int]] = []

    def observe(checked: Checked) -> None:
        steps.append((checked.objects, checked.size_bytes))

    found = {damage.name: damage for damage in verify_cache(filled, drop=False, observe=observe)}
    assert {name: (one.bad_bytes, one.dropped) for name, one in found.items()} == {
        "small.dcm": (20, False),
        "part.dcm": (20, False),
    }
    assert steps[-1] == (3, 90 + 150 + 110)

    assert {damage.name: damage.dropped for damage in verify_cache(filled)} == {
        "small.dcm": True,
        "part.dcm": True,
    }
    assert list(verify_cache(filled)) == []
    cache = DiskCache(filled)
    assert not path_of(filled, SMALL_REF).exists()
    assert len(cache.open(SMALL_REF).missing(SMALL_REF.whole)) == 5
    assert cache.open(PART_REF).missing(PART_REF.whole) == [Extent(40, 40), Extent(80, 40)]
    assert cache.open(LARGE_REF).missing(LARGE_REF.whole) == []


def test_a_bad_block_of_a_large_object_costs_that_block(filled: Path) -> None:
    cache, other = DiskCache(filled), DiskCache(filled)
    elsewhere = other.open(LARGE_REF)
    flip(path_of(filled, LARGE_REF), 85)
    held = cache.open(LARGE_REF)
    with pytest.raises(CacheError, match="damaged"):
        held.read(Extent(70, 40))
    held.discard(Extent(70, 40))

    assert held.missing(LARGE_REF.whole) == [Extent(80, 40)]
    assert cache.open(LARGE_REF).missing(LARGE_REF.whole) == [Extent(80, 40)]
    assert not path_of(filled, LARGE_REF).exists()
    assert elsewhere.read(Extent(0, 80)) == LARGE[:80]
    store_all(held, LARGE_REF, LARGE)
    assert path_of(filled, LARGE_REF).read_bytes() == LARGE
    assert elsewhere.read(LARGE_REF.whole) == LARGE
    check_all_right(filled)


def test_verify_drops_a_bad_block_of_a_large_object_alone(filled: Path) -> None:
    flip(path_of(filled, LARGE_REF), 85)
    assert [damage.bad_bytes for damage in verify_cache(filled)] == [20]
    assert list(verify_cache(filled)) == []

    held = DiskCache(filled).open(LARGE_REF)
    assert held.missing(LARGE_REF.whole) == [Extent(80, 40)]
    check_all_right(filled)


@pytest.mark.parametrize("step", ["ftruncate", "pwrite", "link", "unlink"])
def test_a_disk_that_fails_while_an_object_is_taken_apart(
    filled: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(path_of(filled, LARGE_REF), 85)
    held = DiskCache(filled).open(LARGE_REF)
    with pytest.raises(CacheError, match="damaged"):
        held.read(LARGE_REF.whole)

    def fail(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        held.discard(LARGE_REF.whole)
    held.close()

    check_all_right(filled)


def test_verify_looks_at_what_is_chosen(filled: Path) -> None:
    flip(path_of(filled, SMALL_REF), 3)
    assert list(verify_cache(filled, series=[])) == []
    assert len(list(verify_cache(filled, series=[SMALL_REF.series, SeriesUUID("../x")]))) == 1


def test_verify_passes_over_a_part_that_was_never_begun(filled: Path) -> None:
    os.truncate(part_of(filled, PART_REF), 0)
    assert list(verify_cache(filled)) == []
    os.truncate(part_of(filled, PART_REF), 4096 + 8 * 8 + 32)
    assert list(verify_cache(filled)) == []

    check_all_right(filled)


def test_verify_adopts_what_the_listing_proves(filled: Path, cache: DiskCache) -> None:
    cache.put_listing(Listing(SMALL_REF.series, (SMALL_REF.instance, LARGE_REF.instance)))
    for ref in (SMALL_REF, LARGE_REF):
        os.removexattr(path_of(filled, ref), ATTRIBUTE)

    assert [damage.name for damage in verify_cache(filled)] == ["large.dcm"]

    assert os.getxattr(path_of(filled, SMALL_REF), ATTRIBUTE)
    assert not path_of(filled, LARGE_REF).exists()
