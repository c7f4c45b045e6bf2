"""All that decides one mount."""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from idcfs.errors import UsageError
from idcfs.mount.trees import TreeSource, layouts_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from idcfs.catalog.catalog import Catalog
    from idcfs.catalog.index import Index
    from idcfs.catalog.layout import Layout
    from idcfs.store.endpoint import Source
    from idcfs.vfs.attributes import Ownership


@dataclass(frozen=True, slots=True)
class Picked:
    """What a selection picks of an index."""

    rows: list[int] | None
    """The index rows; None for the whole index."""
    problems: Sequence[str] = ()
    """A line for each part of the selection that picks nothing."""


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What decides one tree. Goes to other processes, so `select` must be picklable."""

    template: str
    select: Callable[[Catalog], Picked]
    """Called again for each index that the mount goes on to."""


@dataclass(frozen=True, slots=True)
class MountRequest:
    """All that decides one mount."""

    mountpoint: Path
    views: Mapping[str, ViewRequest]
    """What to show in each directory at the top; or, for the name "", at the top itself."""
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
    in_foreground: bool = False
    """Whether it ends with the terminal it was started from."""
    kept_files: tuple[int, ...] = ()
    """Descriptors that views read, through /proc/self/fd."""

    def tree_sources(self, catalog: Catalog) -> tuple[dict[str, TreeSource], list[str]]:
        """Return what the trees of this catalog's index are to be made of, and what to complain of.

        Blocks. Raises UsageError for a selection that picks nothing.
        """
        sources = {}
        problems: dict[str, None] = {}  # each once, whatever views have it
        for name, view in self.views.items():
            with _naming(name):
                picked = view.select(catalog)
            problems |= dict.fromkeys(picked.problems)
            if picked.rows is None:
                sources[name] = TreeSource(view.template, None)
            else:
                rows = array("I", picked.rows)
                sources[name] = TreeSource(view.template, rows, catalog.has_earlier(rows))
        return sources, list(problems)

    def open_layouts(self, index: Index, sources: Mapping[str, TreeSource]) -> dict[str, Layout]:
        """Open what the trees are made of; see `TreeSource.open`. Blocks."""
        directory = layouts_directory(self.cache_dir)
        layouts = {}
        for name, source in sources.items():
            with _naming(name):
                layouts[name] = source.open(index, directory)
        return layouts


@contextmanager
def _naming(view: str) -> Iterator[None]:
    """Name the view in an error of its template or selection."""
    try:
        yield
    except UsageError as exc:
        raise UsageError(f"view {view!r}: {exc}" if view else str(exc)) from exc
