"""What the file system asks of a directory tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from idcfs.model import ROOT, DirectoryId, TreeTotals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idcfs.model import Series

__all__ = ["ROOT", "DirectoryId", "DirectoryTree", "TreeTotals"]


class DirectoryTree(Protocol):
    """A tree of directories with series at its leaves. Answers from memory or mapped files.

    Every directory has either child directories or series, never both. Calls
    are quick enough for the event loop: microseconds for one entry, some
    milliseconds for the children of a directory of 26,000.
    """

    @property
    def totals(self) -> TreeTotals:
        """What the tree holds in all."""
        ...

    @property
    def mtime_ns(self) -> int:
        """The index's release date: the modification time of every directory."""
        ...

    def contains(self, directory: DirectoryId) -> bool:
        """Tell whether `directory` is one of this tree's; any integer may be asked."""
        ...

    def get_parent(self, directory: DirectoryId) -> DirectoryId:
        """Return the directory above; the root's is the root itself."""
        ...

    def get_path(self, directory: DirectoryId) -> str:
        """Return the path from the root, without a leading slash; "" for the root."""
        ...

    def is_leaf(self, directory: DirectoryId) -> bool:
        """Tell whether the directory holds series rather than directories."""
        ...

    def count_children(self, directory: DirectoryId) -> int:
        """Return the number of child directories: 0 for a leaf."""
        ...

    def children(self, directory: DirectoryId) -> Sequence[tuple[str, DirectoryId]]:
        """Return names and identities of the child directories, in byte order of names."""
        ...

    def find_child(self, directory: DirectoryId, name: str) -> DirectoryId | None:
        """Return the child directory of that name, or None."""
        ...

    def series(self, directory: DirectoryId) -> Sequence[Series]:
        """Return the series of a leaf; empty for other directories."""
        ...

    def find_series(self, number: int) -> Series | None:
        """Return the tree's series with that number, or None; any integer may be asked."""
        ...

    def leaves_of(self, series: Series) -> Sequence[DirectoryId]:
        """Return the directories that hold a series of this tree."""
        ...
