"""What is synced to the disk, and what is not: see docs/cache-format.md."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from idcfs.cache import DiskCache
from idcfs.cache.shared_scratch import SharedScratch
from idcfs.model import Extent, Listing
from tests.support.stores import make_content, make_ref
from tests.unit.cache.steps import fill, store_all

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL, LARGE = make_content(90), make_content(150)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is synced, in order."""
    names: list[str] = []

    def noting(sync: Callable[[int], None]) -> Callable[[int], None]:
        def note(fd: int) -> None:
            names.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
            sync(fd)

        return note

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noting(getattr(os, name)))
    return names


def store_everything(cache: DiskCache) -> None:
    small, large = make_ref(SMALL), make_ref(LARGE, "b.dcm")
    cache.put_listing(Listing(small.series, (small.instance, large.instance)))
    for ref, content in ((small, SMALL), (large, LARGE)):
        held = cache.open(ref)
        store_all(held, ref, content)
        assert held.missing(ref.whole) == []
        held.close()


def test_only_the_two_files_that_tell_of_a_cache_are_synced(
    tmp_path: Path, synced: list[str]
) -> None:
    root = tmp_path / "cache"
    cache = DiskCache(root)
    assert len(synced) == 4
    # Each file before it has its name, and then the directory that holds the name.
    assert all(name.startswith(f"{root}/.idcfs-") for name in synced[::2])
    assert synced[1::2] == [str(root), str(root)]
    synced.clear()
    store_everything(cache)
    assert synced == []
    cache.close()


def test_another_opening_syncs_nothing(root: Path, cache: DiskCache, synced: list[str]) -> None:
    again = DiskCache(root)
    ref = make_ref(LARGE, "b.dcm")
    held = again.open(ref)
    fill(held, LARGE, Extent(0, 40))
    held.close()
    again.close()
    assert synced == []


def test_whole_objects_are_synced_before_they_are_shared(tmp_path: Path, synced: list[str]) -> None:
    root = tmp_path / "cache"
    cache = DiskCache(root, shared=SharedScratch(root))
    synced.clear()
    store_everything(cache)
    cache.close()
    # Both objects and their listing; checksums go into an attribute where there is room.
    assert len(synced) >= 3
