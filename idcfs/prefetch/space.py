"""Whether the disk can hold what is to be fetched."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.cache.counted import usable_books
from idcfs.cache.limits import measure_disk, resolve_limits
from idcfs.cache.opening import open_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from idcfs.model import SeriesUUID

_OVERHEAD_BYTES = 4096
"""A file takes whole blocks, and a directory entry: so much more than its length."""


def room_bytes(size_bytes: int, file_count: int) -> int:
    """Return what files of so many bytes together take of a disk."""
    return size_bytes + file_count * _OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Space:
    """What a prefetch needs and what there is, in bytes."""

    needed_bytes: int
    free_bytes: int

    @property
    def suffices(self) -> bool:
        """Tell whether it fits."""
        return self.needed_bytes <= self.free_bytes


def measure(
    place: Path, *, size_bytes: int, file_count: int, present: Callable[[], Iterator[int]]
) -> Space:
    """Compare a selection's size with the free space at `place`, which may not exist yet.

    What room is taken already, which `present` tells roughly, series by series, is only
    asked for if it decides: that touches every directory. Blocks; raises OSError.
    """
    existing = next(each for each in (place, *place.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    needed = room_bytes(size_bytes, file_count)
    if needed > free:
        for present_bytes in present():
            needed -= present_bytes
            if needed <= free:
                break
    return Space(max(needed, 0), free)


@dataclass(frozen=True, slots=True)
class CacheSpace(Space):
    """What a prefetch needs of the cache, and what the cache can give it at most."""

    limit_bytes: int | None
    min_free_bytes: int
    pinned_bytes: int
    """What others have pinned, and so cannot make way."""


def measure_cache(
    root: Path,
    *,
    cache_size: str | None,
    min_free: str | None,
    shared: bool | None = None,
    size_bytes: int,
    file_count: int,
    series: Callable[[], Collection[SeriesUUID]],
) -> CacheSpace:
    """Compare a selection's size with what the cache can hold once all else has made way.

    `series` of the selection are only asked for if something is pinned. Blocks; raises
    CacheError, OSError.
    """
    needed = room_bytes(size_bytes, file_count)
    disk = measure_disk(root)
    if not root.exists():
        limits, held, pinned = resolve_limits(disk, 0, cache_size, min_free), 0, 0
    else:
        opened = open_cache(
            root, shared=shared, cache_size=cache_size, min_free=min_free, background=False
        )
        try:
            if not os.access(root, os.W_OK):  # what is not there yet fails by itself
                return CacheSpace(0, 0, None, 0, 0)
            books = usable_books(opened, cache_size=cache_size, min_free=min_free)
            limits, held = books.limits(), books.totals().bytes
            others = books.pins.all()
            others = others.difference(series()) if others else others
            pinned = sum(each.bytes for each in books.accounts() if each.series in others)
        finally:
            opened.cache.close()
    room = disk.free_bytes + held - limits.min_free_bytes
    if limits.size_bytes is not None:
        room = min(room, limits.size_bytes)
    return CacheSpace(
        needed, max(room - pinned, 0), limits.size_bytes, limits.min_free_bytes, pinned
    )
