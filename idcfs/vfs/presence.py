"""How much of a file or a series lies in the cache, told from the names on disk alone.

Nothing is opened, checked or counted as used: to ask must not keep a series from eviction.
So a file that is damaged counts until somebody reads it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from idcfs.cache.inventory import is_plain
from idcfs.cache.paths import Paths

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.shared_scratch import SharedScratch
    from idcfs.model import ObjectRef, Series

Presence = Literal["yes", "partly", "no"]


class CachePresence:
    """Looks into one cache directory. Blocks on the disk; any thread; never raises.

    `shared` is this process's place where several hosts share the directory.
    """

    def __init__(self, root: Path, shared: SharedScratch | None = None) -> None:
        self._root = root
        self._shared = shared

    def of_object(self, ref: ObjectRef) -> Presence:
        """Tell how much of one object is there."""
        if not is_plain(ref.instance.name):
            return "no"
        paths = Paths(self._root, ref.series, ref.instance.name, self._shared)
        if _size_bytes(paths.whole) == ref.instance.size_bytes:
            return "yes"
        return "no" if _size_bytes(paths.partial) is None else "partly"

    def of_series(self, series: Series) -> Presence:
        """Tell how much of a series is there, as many objects as the index expects being all."""
        paths = Paths(self._root, series.uuid, "any", self._shared)
        whole, partial = _count_files(paths.whole.parent), _count_files(paths.partial.parent)
        if whole and series.instance_count is not None and whole >= series.instance_count:
            return "yes"
        return "partly" if whole or partial else "no"


def _size_bytes(path: Path) -> int | None:
    try:
        return path.lstat().st_size
    except (OSError, ValueError):
        return None


def _count_files(directory: Path) -> int:
    try:
        with os.scandir(directory) as entries:
            return sum(entry.is_file(follow_symlinks=False) for entry in entries)
    except OSError:
        return 0
