"""Several trees side by side, each below a directory of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.errors import NoSuchEntryError
from idcfs.model import ROOT, DirectoryId

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idcfs.model import Series, TreeTotals
    from idcfs.vfs.tree import DirectoryTree

_VIEW_SHIFT = 40
"""Above the numbers of any tree's own directories."""

_INSIDE_MASK = (1 << _VIEW_SHIFT) - 1


def directory_in_view(position: int, directory: DirectoryId) -> DirectoryId:
    """Return what a directory of the view at `position` is called in all of them together."""
    return DirectoryId(position + 1 << _VIEW_SHIFT | directory)


class Views:
    """Trees over one index by name. Satisfies `DirectoryTree`.

    A series has the same number in each that shows it, and so its files are the same:
    `totals`, which counts them once, is the caller's to tell.
    """

    def __init__(self, trees: Mapping[str, DirectoryTree], totals: TreeTotals) -> None:
        self._names = list(trees)
        self._trees = list(trees.values())
        self._totals = totals

    @property
    def totals(self) -> TreeTotals:
        """What all hold together."""
        return self._totals

    @property
    def mtime_ns(self) -> int:
        """The index's release date."""
        return self._trees[0].mtime_ns

    def contains(self, directory: DirectoryId) -> bool:
        """Tell whether `directory` is one of this tree's; any integer may be asked."""
        position = (directory >> _VIEW_SHIFT) - 1
        if position < 0 or position >= len(self._trees):
            return directory == ROOT
        return self._trees[position].contains(DirectoryId(directory & _INSIDE_MASK))

    def get_parent(self, directory: DirectoryId) -> DirectoryId:
        """Return the directory above; the root's is the root itself."""
        if directory == ROOT:
            return ROOT
        position, inside = self._locate(directory)
        if inside == ROOT:
            return ROOT
        return directory_in_view(position, self._trees[position].get_parent(inside))

    def get_path(self, directory: DirectoryId) -> str:
        """Return the path from the root, without a leading slash; "" for the root."""
        if directory == ROOT:
            return ""
        position, inside = self._locate(directory)
        return f"{self._names[position]}/{self._trees[position].get_path(inside)}".rstrip("/")

    def is_leaf(self, directory: DirectoryId) -> bool:
        """Tell whether the directory holds series rather than directories."""
        if directory == ROOT:
            return False
        position, inside = self._locate(directory)
        return self._trees[position].is_leaf(inside)

    def count_children(self, directory: DirectoryId) -> int:
        """Return the number of child directories: 0 for a leaf."""
        if directory == ROOT:
            return len(self._trees)
        position, inside = self._locate(directory)
        return self._trees[position].count_children(inside)

    def children(self, directory: DirectoryId) -> Sequence[tuple[str, DirectoryId]]:
        """Return names and identities of the child directories, in byte order of names."""
        if directory == ROOT:
            views = ((name, directory_in_view(at, ROOT)) for at, name in enumerate(self._names))
            return sorted(views, key=lambda view: view[0].encode())
        position, inside = self._locate(directory)
        return [
            (name, directory_in_view(position, child))
            for name, child in self._trees[position].children(inside)
        ]

    def find_child(self, directory: DirectoryId, name: str) -> DirectoryId | None:
        """Return the child directory of that name, or None."""
        if directory == ROOT:
            if name not in self._names:
                return None
            return directory_in_view(self._names.index(name), ROOT)
        position, inside = self._locate(directory)
        child = self._trees[position].find_child(inside, name)
        return None if child is None else directory_in_view(position, child)

    def series(self, directory: DirectoryId) -> Sequence[Series]:
        """Return the series of a leaf; empty for other directories."""
        if directory == ROOT:
            return []
        position, inside = self._locate(directory)
        return self._trees[position].series(inside)

    def find_series(self, number: int) -> Series | None:
        """Return the series with that number, or None; any integer may be asked."""
        found = (tree.find_series(number) for tree in self._trees)
        return next((series for series in found if series is not None), None)

    def leaves_of(self, series: Series) -> Sequence[DirectoryId]:
        """Return the directories that hold a series: one in each view that shows it."""
        return [
            directory_in_view(position, leaf)
            for position, tree in enumerate(self._trees)
            for leaf in tree.leaves_of(series)
        ]

    def _locate(self, directory: DirectoryId) -> tuple[int, DirectoryId]:
        """Return the position of a view, and what the directory is called in it."""
        if directory == ROOT or not self.contains(directory):
            raise NoSuchEntryError(f"no directory has the number {directory}")
        return (directory >> _VIEW_SHIFT) - 1, DirectoryId(directory & _INSIDE_MASK)
