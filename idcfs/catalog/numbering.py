"""Numbers that directories and series keep when a mount goes on to another index.

A layout numbers its directories by rank and its series by row, so that every mount of one
index has the same numbers. A mount that goes on to another index keeps those it has given
out: what was there before has the number it had, and what is new gets one that nothing had.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from idcfs.catalog.layout import LEVEL_SHIFT, ORDINAL_MASK
from idcfs.catalog.layout_file import ABSENT
from idcfs.errors import NoSuchEntryError
from idcfs.model import ROOT, DirectoryId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from idcfs.catalog.layout import Layout
    from idcfs.model import Series, TreeTotals


class Numbers:
    """Ranks (or rows) of a new layout, and the numbers that stand for them: 8 bytes each."""

    __slots__ = ("_number_of", "_rank_of")

    def __init__(self, number_of: array[int], limit: int) -> None:
        """`number_of` is by rank, with `ABSENT` where there is none; all are below `limit`."""
        self._number_of = number_of
        self._rank_of = array("I", [ABSENT]) * limit
        for rank, number in enumerate(number_of):
            if number != ABSENT:
                self._rank_of[number] = rank

    @property
    def limit(self) -> int:
        """A number above all that were ever given out."""
        return len(self._rank_of)

    def number(self, rank: int) -> int:
        """Return the number of a rank that has one."""
        return self._number_of[rank]

    def find(self, number: int) -> int | None:
        """Return the rank that has this number, or None; any integer may be asked."""
        if not 0 <= number < len(self._rank_of):
            return None
        rank = self._rank_of[number]
        return None if rank == ABSENT else rank


@dataclass(frozen=True, slots=True)
class Numbering:
    """The numbers of all that one layout shows."""

    levels: Sequence[Numbers]
    """Of the directories, for each level from the root's."""
    series: Numbers
    """By row of the index; the same for all trees of a mount."""


class NumberedLayout:
    """A layout under other numbers than its own. Satisfies `vfs.tree.DirectoryTree`."""

    def __init__(self, layout: Layout, numbering: Numbering) -> None:
        self._layout = layout
        self._levels = numbering.levels
        self._series = numbering.series

    @property
    def totals(self) -> TreeTotals:
        """As of the layout."""
        return self._layout.totals

    @property
    def mtime_ns(self) -> int:
        """As of the layout."""
        return self._layout.mtime_ns

    def contains(self, directory: DirectoryId) -> bool:
        """Tell whether `directory` is one of this tree's; any integer may be asked."""
        return self._find(directory) is not None

    def get_parent(self, directory: DirectoryId) -> DirectoryId:
        """Return the directory above; the root's is the root itself."""
        return self._outside(self._layout.get_parent(self._inside(directory)))

    def get_path(self, directory: DirectoryId) -> str:
        """Return the path from the root, without a leading slash; "" for the root."""
        return self._layout.get_path(self._inside(directory))

    def is_leaf(self, directory: DirectoryId) -> bool:
        """Tell whether the directory holds series rather than directories."""
        return self._layout.is_leaf(self._inside(directory))

    def count_children(self, directory: DirectoryId) -> int:
        """Return the number of child directories: 0 for a leaf."""
        return self._layout.count_children(self._inside(directory))

    def children(self, directory: DirectoryId) -> Sequence[tuple[str, DirectoryId]]:
        """Return names and identities of the child directories, in byte order of names."""
        children = self._layout.children(self._inside(directory))
        return [(name, self._outside(child)) for name, child in children]

    def find_child(self, directory: DirectoryId, name: str) -> DirectoryId | None:
        """Return the child directory of that name, or None."""
        child = self._layout.find_child(self._inside(directory), name)
        return None if child is None else self._outside(child)

    def series(self, directory: DirectoryId) -> Sequence[Series]:
        """Return the series of a leaf, by index row; empty for other directories."""
        return [self._numbered(each) for each in self._layout.series(self._inside(directory))]

    def find_series(self, number: int) -> Series | None:
        """Return the tree's series with that number, or None; any integer may be asked."""
        row = self._series.find(number)
        series = None if row is None else self._layout.find_series(row)
        return None if series is None else self._numbered(series)

    def leaves_of(self, series: Series) -> Sequence[DirectoryId]:
        """Return the directories that hold a series of this tree."""
        return [self._outside(leaf) for leaf in self._layout.leaves_of(series)]

    def uuids(self, directory: DirectoryId) -> bytes:
        """Return the UUIDs of a leaf's series, 16 bytes each, by index row."""
        return self._layout.uuids(self._inside(directory))

    def _numbered(self, series: Series) -> Series:
        return replace(series, kept_number=self._series.number(series.row))

    def _find(self, directory: DirectoryId) -> DirectoryId | None:
        """Return what the layout itself calls a directory, or None if it has none such."""
        level = directory >> LEVEL_SHIFT
        if not 0 <= level < len(self._levels):
            return None
        rank = self._levels[level].find(directory & ORDINAL_MASK)
        return None if rank is None else DirectoryId(level << LEVEL_SHIFT | rank)

    def _inside(self, directory: DirectoryId) -> DirectoryId:
        if directory == ROOT:
            return ROOT
        if (found := self._find(directory)) is None:
            raise NoSuchEntryError(f"no directory has the number {directory}")
        return found

    def _outside(self, directory: DirectoryId) -> DirectoryId:
        level = directory >> LEVEL_SHIFT
        number = self._levels[level].number(directory & ORDINAL_MASK)
        return DirectoryId(level << LEVEL_SHIFT | number)
