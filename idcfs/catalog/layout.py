"""A compiled layout: a template applied to an index, as a tree of directories.

Answers from the mapped file in microseconds and keeps nothing it has answered,
so a walk over every directory leaves the process as small as it was. Never
imports DuckDB. Safe to call from any thread.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import accumulate, chain, compress, groupby
from operator import sub
from typing import TYPE_CHECKING

from idcfs.catalog.layout_file import ABSENT
from idcfs.errors import NoSuchEntryError
from idcfs.model import ROOT, DirectoryId, Series, SeriesUUID, TreeTotals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from idcfs.catalog.layout_file import LayoutFile

LEVEL_SHIFT = 32
ORDINAL_MASK = (1 << LEVEL_SHIFT) - 1
UUID_BYTES = 16


class _Level:
    """The directories of one level, in path order."""

    __slots__ = ("_file", "_names", "_offsets", "child_start", "count", "parent")

    def __init__(self, file: LayoutFile, level: int) -> None:
        self._file = file
        self.count = file.header.level_counts[level]
        self.child_start = file.numbers(f"child_start{level}", "I")
        if level:  # the root has neither a name nor a parent
            self._names = file.text_offset(f"names{level}")
            self._offsets = file.numbers(f"offsets{level}", "I")
            self.parent = file.numbers(f"parent{level}", "I")

    def name(self, ordinal: int) -> bytes:
        start = self._offsets[ordinal]
        return self._file.read(self._names + start, self._offsets[ordinal + 1] - start - 1)

    def names(self, first: int, last: int) -> list[str]:
        """Return the names of the ordinals from `first` up to but not `last`."""
        if first == last:
            return []
        start = self._offsets[first]
        text = self._file.read(self._names + start, self._offsets[last] - start - 1)
        return text.decode().split("\0")

    def find(self, name: bytes, first: int, last: int) -> int | None:
        at = bisect_left(range(last), name, first, last, key=self.name)
        return at if at < last and self.name(at) == name else None


@dataclass(frozen=True, slots=True)
class _Narrowed:
    """What a selection keeps of a layout: sorted ordinals for each level, and positions."""

    ordinals: list[array[int]]
    positions: array[int]
    """The selected series, by their position in path order."""


class Layout:
    """A directory tree over the whole index, or over a selection of it.

    Satisfies `vfs.tree.DirectoryTree`. A narrowed layout shares its parent's file and its
    directory identities; closing either closes both.
    """

    def __init__(self, file: LayoutFile, _narrowed: _Narrowed | None = None) -> None:
        header = file.header
        self._file = file
        self._narrowed = _narrowed
        self._depth = header.depth
        self._levels = [_Level(file, level) for level in range(header.depth + 1)]
        self._uuids = file.text_offset("uuids")
        self._buckets = header.buckets
        self._bucket_of = file.numbers("bucket", "B")
        self._instance_counts = file.numbers("instances", "I")
        self._sizes = file.numbers("sizes", "Q")
        self._rows = file.numbers("rows", "I")
        self._leaf_of = file.numbers("leaf", "I")
        self._position_of_row = file.numbers("positions", "I")
        self._totals = self._count_totals()

    @property
    def totals(self) -> TreeTotals:
        """What the tree holds in all."""
        return self._totals

    @property
    def mtime_ns(self) -> int:
        """The index's release date: the modification time of every directory."""
        return self._file.header.mtime_ns

    @property
    def level_counts(self) -> Sequence[int]:
        """The number of directories of each level, shown or not, from the root's 1."""
        return self._file.header.level_counts

    @property
    def descriptor(self) -> int:
        """The open file, which may have no name any more, for another process to open."""
        return self._file.descriptor

    @property
    def refused_count(self) -> int:
        """Rows of the index left out because their UUID or bucket is not one."""
        return self._file.header.refused_count

    def contains(self, directory: DirectoryId) -> bool:
        """Tell whether `directory` is one of this tree's; any integer may be asked."""
        level, ordinal = directory >> LEVEL_SHIFT, directory & ORDINAL_MASK
        if not 0 <= level <= self._depth or ordinal >= self._levels[level].count:
            return False
        if self._narrowed is None or directory == ROOT:
            return True
        return _holds(self._narrowed.ordinals[level], ordinal)

    def get_parent(self, directory: DirectoryId) -> DirectoryId:
        """Return the directory above; the root's is the root itself."""
        level, ordinal = self._locate(directory)
        if level == 0:
            return ROOT
        return DirectoryId((level - 1) << LEVEL_SHIFT | self._levels[level].parent[ordinal])

    def get_path(self, directory: DirectoryId) -> str:
        """Return the path from the root, without a leading slash; "" for the root."""
        level, ordinal = self._locate(directory)
        names = []
        while level:
            names.append(self._levels[level].name(ordinal))
            ordinal = self._levels[level].parent[ordinal]
            level -= 1
        return b"/".join(reversed(names)).decode()

    def is_leaf(self, directory: DirectoryId) -> bool:
        """Tell whether the directory holds series rather than directories."""
        return self._locate(directory)[0] == self._depth

    def count_children(self, directory: DirectoryId) -> int:
        """Return the number of child directories: 0 for a leaf."""
        level, ordinal = self._locate(directory)
        if level == self._depth:
            return 0
        first, last = self._child_range(level, ordinal)
        if self._narrowed is None:
            return last - first
        low, high = _span(self._narrowed.ordinals[level + 1], first, last)
        return high - low

    def children(self, directory: DirectoryId) -> Sequence[tuple[str, DirectoryId]]:
        """Return names and identities of the child directories, in byte order of names."""
        level, ordinal = self._locate(directory)
        if level == self._depth:
            return []
        first, last = self._child_range(level, ordinal)
        names = self._levels[level + 1].names(first, last)
        base = (level + 1) << LEVEL_SHIFT
        if self._narrowed is None:
            ids = map(DirectoryId, range(base + first, base + last))
            return list(zip(names, ids, strict=True))
        kept = self._narrowed.ordinals[level + 1]
        low, high = _span(kept, first, last)
        return [(names[at - first], DirectoryId(base + at)) for at in kept[low:high]]

    def find_child(self, directory: DirectoryId, name: str) -> DirectoryId | None:
        """Return the child directory of that name, or None."""
        level, ordinal = self._locate(directory)
        if level == self._depth:
            return None
        try:
            wanted = name.encode()
        except UnicodeEncodeError:  # surrogates: bytes that are not UTF-8 name nothing here
            return None
        first, last = self._child_range(level, ordinal)
        found = self._levels[level + 1].find(wanted, first, last)
        if found is None:
            return None
        if self._narrowed is not None and not _holds(self._narrowed.ordinals[level + 1], found):
            return None
        return DirectoryId((level + 1) << LEVEL_SHIFT | found)

    def series(self, directory: DirectoryId) -> Sequence[Series]:
        """Return the series of a leaf, by index row; empty for other directories."""
        level, ordinal = self._locate(directory)
        if level != self._depth:
            return []
        first, last = self._child_range(level, ordinal)
        if self._narrowed is None:
            positions: Sequence[int] = range(first, last)
        else:
            kept = self._narrowed.positions
            low, high = _span(kept, first, last)
            positions = kept[low:high]
        return [self._series_at(position) for position in positions]

    def find_series(self, number: int) -> Series | None:
        """Return the tree's series with that index row, or None; any integer may be asked."""
        position = self._find_position(number)
        return None if position is None else self._series_at(position)

    def leaves_of(self, series: Series) -> Sequence[DirectoryId]:
        """Return the directories that hold a series: one, or none if it is not shown."""
        position = self._find_position(series.row)
        if position is None:
            return []
        return [DirectoryId(self._depth << LEVEL_SHIFT | self._leaf_of[position])]

    def uuids(self, directory: DirectoryId) -> bytes:
        """Return the UUIDs of a leaf's series, 16 bytes each, by index row."""
        level, ordinal = self._locate(directory)
        first, last = self._child_range(level, ordinal) if level == self._depth else (0, 0)
        if self._narrowed is None:
            return self._uuids_at(first, last - first)
        kept = self._narrowed.positions
        low, high = _span(kept, first, last)
        return b"".join(self._uuids_at(position, 1) for position in kept[low:high])

    def rows(self) -> Sequence[int]:
        """Return the index rows of all series that are shown, in path order."""
        if self._narrowed is None:
            return self._rows
        return array("I", map(self._rows.__getitem__, self._narrowed.positions))

    def all_uuids(self) -> bytes:
        """Return the UUIDs of all series that are shown, in the order of `rows`."""
        if self._narrowed is None:
            return self._uuids_at(0, len(self._rows))
        return b"".join(self._uuids_at(position, 1) for position in self._narrowed.positions)

    def narrow(self, rows: Iterable[int]) -> Layout:
        """Return the tree of those series alone, under the same directory identities.

        `rows` are index rows in any order; repeated ones count once, and rows that this
        layout refused or does not show are left out. 600,000 rows take some 0.3 s.
        """
        count = self._file.header.series_count
        # A byte for each series sorts and drops repeats without a list of a million
        # integers, whose memory a daemon would keep.
        picked = bytearray(count)
        span = len(self._position_of_row)
        for row in rows:
            if 0 <= row < span and (position := self._position_of_row[row]) != ABSENT:
                picked[position] = 1
        positions = array("I", compress(range(count), picked))
        if self._narrowed is not None:
            shown = self._narrowed.positions
            positions = array("I", (at for at in positions if _holds(shown, at)))
        ordinals = [_runs(map(self._leaf_of.__getitem__, positions))]
        for level in range(self._depth, 0, -1):
            ordinals.append(_runs(map(self._levels[level].parent.__getitem__, ordinals[-1])))
        ordinals.reverse()
        return Layout(self._file, _Narrowed(ordinals, positions))

    def widest_leaf_instances(self) -> int:
        """Return how many files the fullest directory will hold, as the index says."""
        if self._narrowed is None:
            return self._file.header.widest_leaf_instances
        positions = self._narrowed.positions
        return widest(
            map(self._leaf_of.__getitem__, positions),
            array("I", map(self._instance_counts.__getitem__, positions)),
            len(self._narrowed.ordinals[self._depth]),
        )

    def close(self) -> None:
        """Close the file; no layout that shares it may be used afterwards."""
        self._file.close()

    def _locate(self, directory: DirectoryId) -> tuple[int, int]:
        if not self.contains(directory):
            raise NoSuchEntryError(f"no directory has the number {directory}")
        return directory >> LEVEL_SHIFT, directory & ORDINAL_MASK

    def _child_range(self, level: int, ordinal: int) -> tuple[int, int]:
        start = self._levels[level].child_start
        return start[ordinal], start[ordinal + 1]

    def _find_position(self, row: int) -> int | None:
        if not 0 <= row < len(self._position_of_row):
            return None
        position: int = self._position_of_row[row]
        if position == ABSENT:
            return None
        if self._narrowed is not None and not _holds(self._narrowed.positions, position):
            return None
        return position

    def _uuids_at(self, position: int, count: int) -> bytes:
        return self._file.read(self._uuids + position * UUID_BYTES, count * UUID_BYTES)

    def _series_at(self, position: int) -> Series:
        digits = self._uuids_at(position, 1).hex()
        count = self._instance_counts[position]
        groups = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
        return Series(
            uuid=SeriesUUID("-".join(groups)),
            bucket=self._buckets[self._bucket_of[position]],
            row=self._rows[position],
            instance_count=None if count == ABSENT else count,
            size_bytes=self._sizes[position],
        )

    def _count_totals(self) -> TreeTotals:
        if self._narrowed is None:
            header = self._file.header
            return TreeTotals(header.series_count, header.instance_count, header.size_bytes)
        positions = self._narrowed.positions
        counts = array("I", map(self._instance_counts.__getitem__, positions))
        known = sum(counts) - ABSENT * counts.count(ABSENT)
        sizes = sum(map(self._sizes.__getitem__, positions))
        return TreeTotals(len(positions), known, sizes)


def widest(leaves: Iterable[int], counts: Sequence[int], leaf_count: int) -> int:
    """Return the greatest sum of `counts` over runs of equal `leaves`; both in path order."""
    known = counts if ABSENT not in counts else [0 if c == ABSENT else c for c in counts]
    if leaf_count == len(known):  # a directory for each series
        return max(known, default=0)
    running = list(accumulate(known))
    # Of equal keys the last value stays: where each leaf's run ends.
    ends = dict(zip(leaves, running, strict=True)).values()
    return max(map(sub, ends, chain([0], ends)), default=0)


def _runs(ascending: Iterable[int]) -> array[int]:
    """Return each of the numbers once; equal ones stand together."""
    return array("I", (number for number, _ in groupby(ascending)))


def _span(ordinals: Sequence[int], first: int, last: int) -> tuple[int, int]:
    low = bisect_left(ordinals, first)
    return low, bisect_left(ordinals, last, low)


def _holds(ordinals: Sequence[int], ordinal: int) -> bool:
    at = bisect_right(ordinals, ordinal)
    return at > 0 and ordinals[at - 1] == ordinal
