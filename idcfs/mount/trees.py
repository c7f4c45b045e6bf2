"""What a mount shows: its tree, the index that this comes from, and how both are opened."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from idcfs.cache.opening import is_shared_directory
from idcfs.catalog.facts import SeriesFacts
from idcfs.catalog.layouts import open_layout
from idcfs.errors import MountError, UsageError
from idcfs.vfs.edition import DIRECTORY_LIMIT_FILES
from idcfs.vfs.tree import ROOT, TreeTotals
from idcfs.vfs.views import Views

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idcfs.catalog.index import Index
    from idcfs.catalog.layout import Layout
    from idcfs.catalog.succession import Predecessor
    from idcfs.vfs.tree import DirectoryTree

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TreeSource:
    """What a tree is made of, apart from the index."""

    template: str
    rows: array[int] | None
    """The index rows to show, ascending; None for the whole index."""
    has_earlier: bool = False
    """Whether series of earlier releases are among them."""

    def open(self, index: Index, layouts_dir: Path) -> Layout:
        """Open the layout, compiling it if need be, and say if it has hopeless directories.

        Blocks, for seconds if it is compiled. Raises as `layouts.open_layout`, and UsageError
        for one that would be a single directory of too many files.
        """
        if self.rows is None:
            layout = open_layout(index, self.template, layouts_dir)
        elif self.has_earlier:
            layout = open_layout(index, self.template, layouts_dir, self.rows)
        else:
            layout = open_layout(index, self.template, layouts_dir).narrow(self.rows)
        _check_width(layout)
        _complain(layout)
        return layout


@dataclass(frozen=True, slots=True)
class View:
    """One tree that is shown."""

    source: TreeSource
    layout: Predecessor
    """Under the numbers that its directories and series have in this mount."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a mount shows at one time."""

    index: Index
    views: Mapping[str, View]
    """By name; "" for one that is the whole mount."""
    tree: DirectoryTree
    facts: SeriesFacts

    @classmethod
    def of(cls, index: Index, views: Mapping[str, View]) -> Self:
        """Put views together. Takes a fraction of a second where several are large."""
        trees = {name: view.layout.tree for name, view in views.items()}
        if "" in trees:
            return cls(index, views, trees[""], SeriesFacts(index))
        totals = _union_totals(list(views.values()))
        return cls(index, views, Views(trees, totals), SeriesFacts(index))


@dataclass(slots=True)
class Showing:
    """What a mount shows now: replaced by a refresh. On the trio thread."""

    now: Shown


def layouts_directory(cache_dir: Path) -> Path:
    """Return where layouts are kept: on this host, if others share the cache directory.

    They are compiled under a lock, and mapped into memory for as long as the mount lives.
    """
    if not is_shared_directory(cache_dir):
        return cache_dir / "layouts"
    directory = Path(tempfile.gettempdir(), f"idcfs-{os.geteuid()}")
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        status = directory.lstat()
    except OSError as exc:
        raise MountError(f"cannot make {directory}: {exc.strerror}; set TMPDIR") from exc
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise MountError(f"{directory} is not yours alone; remove it, or set TMPDIR")
    return directory / "layouts"


def _union_totals(views: Sequence[View]) -> TreeTotals:
    """Return what views hold together, each series counted once."""
    layouts = [view.layout.layout for view in views]
    if not any(view.source.has_earlier for view in views):
        for view, layout in zip(views, layouts, strict=True):
            if view.source.rows is None:  # the whole index, and the others are parts of it
                return layout.totals
    seen = bytearray(1 + max(max(layout.rows(), default=0) for layout in layouts))
    series_count = instance_count = size_bytes = 0
    for layout in layouts:
        fresh = array("I", (row for row in layout.rows() if not seen[row]))
        for row in fresh:
            seen[row] = 1
        totals = layout.narrow(fresh).totals
        series_count += totals.series_count
        instance_count += totals.instance_count
        size_bytes += totals.size_bytes
    return TreeTotals(series_count, instance_count, size_bytes)


def _check_width(tree: Layout) -> None:
    """Refuse a tree that is one flat directory of more files than can be listed."""
    if tree.is_leaf(ROOT) and tree.totals.instance_count > DIRECTORY_LIMIT_FILES:
        raise UsageError(
            f"a flat mount would put {tree.totals.instance_count:,} files into one directory "
            f"(the limit is {DIRECTORY_LIMIT_FILES:,}): mount a selection, for example "
            "--collection-id or --series-instance-uid, or use a template with levels, for "
            "example --dir-template %collection_id/%PatientID/%SeriesInstanceUID"
        )


def _complain(layout: Layout) -> None:
    if layout.refused_count:
        logger.warning(
            "%d series of the index have no proper UUID or bucket and are left out",
            layout.refused_count,
        )
    if layout.widest_leaf_instances() > DIRECTORY_LIMIT_FILES:
        logger.warning(
            "some directories of this template hold more than %s files and cannot be listed; "
            "more levels in --dir-template help",
            f"{DIRECTORY_LIMIT_FILES:,}",
        )
