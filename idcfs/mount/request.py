"""All that decides one mount."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.mount.trees import TreeSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.catalog.catalog import Catalog
    from idcfs.store.endpoint import Source
    from idcfs.vfs.attributes import Ownership


@dataclass(frozen=True, slots=True)
class MountRequest:
    """All that decides one mount. Goes to other processes, so `select` must be picklable."""

    mountpoint: Path
    template: str
    select: Callable[[Catalog], list[int] | None]
    """Returns the index rows to show; None for the whole index. May complain and go on. It is
    called again for each index that the mount goes on to."""
    index_path: Path | None
    """None for the index that `idc-index-data` brings."""
    cache_dir: Path
    endpoint_url: str | None
    source: Source
    ownership: Ownership
    cache_size: str | None = None
    min_free: str | None = None
    """The cache's limits, as `idcfs.cache.limits` understands them."""
    cache_shared: bool | None = None
    """Whether several hosts share the cache directory; None for what was last said of it."""
    verify_reads: bool = False
    allow_other: bool = False
    allow_nonempty: bool = False
    fuse_options: tuple[str, ...] = ()
    """Passed on to libfuse as they are."""
    kept_files: tuple[int, ...] = ()
    """Descriptors that `select` reads, through /proc/self/fd."""

    def tree_source(self, catalog: Catalog) -> TreeSource:
        """Return what the tree of this catalog's index is to be made of. Blocks.

        Raises UsageError for a selection that picks nothing.
        """
        rows = self.select(catalog)
        if rows is None:
            return TreeSource(self.template, None)
        return TreeSource(self.template, array("I", rows), catalog.has_earlier(rows))
