"""What a mount shows: its tree, the index that this comes from, and how both are opened."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.cache.opening import is_shared_directory
from idcfs.catalog.layouts import open_layout
from idcfs.errors import MountError, UsageError
from idcfs.vfs.edition import DIRECTORY_LIMIT_FILES
from idcfs.vfs.tree import ROOT

if TYPE_CHECKING:
    from array import array

    from idcfs.catalog.facts import SeriesFacts
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
            # These have no place in the whole index's tree.
            layout = open_layout(index, self.template, layouts_dir, self.rows)
        else:
            layout = open_layout(index, self.template, layouts_dir).narrow(self.rows)
        _check_width(layout)
        _complain(layout)
        return layout


@dataclass(frozen=True)
class Shown:
    """What a mount shows at one time."""

    index: Index
    source: TreeSource
    layout: Predecessor
    """Under the numbers that its directories and series have in this mount."""
    facts: SeriesFacts

    @cached_property
    def tree(self) -> DirectoryTree:
        """The tree for the file system."""
        return self.layout.tree


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
