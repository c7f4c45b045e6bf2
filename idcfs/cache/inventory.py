"""What lies in a cache directory, read off its files alone.

For accounting, eviction and rebuilding. Safe beside live mounts: files that come and go
while a directory is read are counted or not, and what is open stays readable when its
name is removed.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.errors import CacheError
from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

OBJECTS = "objects"
PARTIAL = "partial"
SUMS = "sums"
TREES = (PARTIAL, OBJECTS, SUMS)
"""The trees that hold what belongs to objects, each `<ab>/<series UUID>/<name>`. Removed in
this order: checksums without their object are harmless."""

LISTINGS = "listings"
"""The tree of what stores hold, each `<origin>/<ab>/<series UUID>`."""

ST_BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's own is (stat(2))."""


def series_on_disk(root: Path) -> Iterator[tuple[SeriesUUID, int, int]]:
    """Yield each series with content in the cache, its bytes on disk, and its objects.

    Bytes are what the files occupy, holes not counted; an object is counted once,
    whole or partial. Directories that cannot be read count for nothing.
    """
    for prefix in sorted({name for tree in TREES for name in _directories(root / tree)}):
        names = {name for tree in TREES for name in _directories(root / tree / prefix)}
        for name in sorted(names):
            if name[:2] != prefix:
                continue  # not ours
            size_bytes, files = count_series(root, SeriesUUID(name))
            if size_bytes or files:
                yield SeriesUUID(name), size_bytes, files


def series_with_directories(root: Path) -> set[SeriesUUID]:
    """Return the series that have directories in the cache, though maybe nothing in them."""
    return {each for tree in TREES for each in _series_in(root / tree)}


def count_series(root: Path, series: SeriesUUID) -> tuple[int, int]:
    """Return what `series_on_disk` tells of one series: bytes and objects, 0 and 0 for none."""
    size_bytes, files = 0, 0
    for tree in TREES:
        for entry in _files(root / tree / series[:2] / series):
            size_bytes += _occupied_bytes(entry)
            files += tree != SUMS
    return size_bytes, files


def list_objects(
    root: Path, tree: str, series: Collection[SeriesUUID] | None = None
) -> Iterator[tuple[SeriesUUID, str]]:
    """Yield the series and names of objects in one of the trees, a directory at a time.

    `series` are those that are wanted; None is all.
    """
    for each in _series_in(root / tree) if series is None else filter(is_plain, series):
        for entry in _files(root / tree / each[:2] / each):
            yield each, entry.name


def _series_in(tree: Path) -> Iterator[SeriesUUID]:
    for prefix in sorted(_directories(tree)):
        for name in sorted(_directories(tree / prefix)):
            if name[:2] == prefix:
                yield SeriesUUID(name)


def remove_series(root: Path, series: SeriesUUID) -> int:
    """Remove all objects of a series, whole and partial; its listing stays.

    Return the bytes freed. What somebody has open is freed when they close it. Raises
    CacheError when something cannot be removed.
    """
    if not is_plain(series):
        raise CacheError(f"cannot remove a series named {series!r}")
    freed_bytes = 0
    for tree in TREES:
        directory = root / tree / series[:2] / series
        for entry in _files(directory):
            occupied_bytes = _occupied_bytes(entry)
            if _unlink(entry):
                freed_bytes += occupied_bytes
        with suppress(OSError):  # not empty: somebody stores anew, or it holds foreign files
            directory.rmdir()
    return freed_bytes


def remove_listings(root: Path) -> int:
    """Remove what is kept of what stores hold, and return of how many series.

    Raises CacheError when something cannot be removed.
    """
    removed = 0
    for origin in _directories(root / LISTINGS):
        for prefix in _directories(root / LISTINGS / origin):
            for entry in _files(root / LISTINGS / origin / prefix):
                if entry.name[:2] == prefix:  # else not ours
                    removed += _unlink(entry)
    return removed


def is_plain(name: str) -> bool:
    """Tell whether a name stays where it is put, and so do its first two characters."""
    return "/" not in name and "\0" not in name and name[:2] not in {"", ".", ".."}


def _directories(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _files(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return [entry for entry in entries if entry.is_file(follow_symlinks=False)]
    except OSError:
        return []


def _unlink(entry: os.DirEntry[str]) -> bool:
    """Tell whether a file was there to be removed. Raises CacheError if it cannot be."""
    try:
        os.unlink(entry.path)  # noqa: PTH108  # a million of them, without a Path each
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise CacheError(f"cannot remove {entry.path}: {exc.strerror}") from exc
    return True


def _occupied_bytes(entry: os.DirEntry[str]) -> int:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return 0
    return status.st_blocks * ST_BLOCK_BYTES if stat.S_ISREG(status.st_mode) else 0
