"""The files of a leaf directory: the union of the listings of its series."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from idcfs.model import ObjectRef
from idcfs.vfs.inodes import inode_of_file, number_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from idcfs.model import Instance, Listing, Series
    from idcfs.vfs.inodes import Inode


@dataclass(frozen=True, slots=True)
class File:
    """One file of the tree."""

    inode: Inode
    series: Series
    instance: Instance

    @property
    def ref(self) -> ObjectRef:
        """The object that holds the file's content."""
        return ObjectRef(self.series.bucket, self.series.uuid, self.instance)


def number_files(series: Series, listing: Listing) -> dict[int, File]:
    """Return the files of one series by their number within it, in order of names."""
    numbers = number_names(instance.name for instance in listing.instances)
    return {
        number: File(inode_of_file(series.row, number), series, instance)
        for number, instance in zip(numbers, listing.instances, strict=True)
    }


def merge_files(numbered: Iterable[Mapping[int, File]]) -> dict[str, File]:
    """Return the files of several series by name, in byte order.

    Two series that share a file name keep both: the later one, by UUID, gets its
    series' UUID into its name.
    """
    merged: dict[str, File] = {}
    for files in numbered:
        for file in files.values():
            name = file.instance.name
            if name in merged:
                path = PurePosixPath(name)
                name = f"{path.stem}~{file.series.uuid}{path.suffix}"
            merged[name] = file
    return dict(sorted(merged.items(), key=lambda pair: pair[0].encode()))
