"""The files of a leaf directory: the union of the listings of its series."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from idcfs.model import ObjectRef
from idcfs.vfs.inodes import inode_of_file, number_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from idcfs.model import Instance, Listing, Series
    from idcfs.vfs.inodes import Inode

_NAME_LIMIT_BYTES = 255
"""NAME_MAX of Linux."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of the tree."""

    inode: Inode
    series: Series
    instance: Instance
    links: int = 1
    """In how many directories it is."""

    @property
    def ref(self) -> ObjectRef:
        """The object that holds the file's content."""
        return ObjectRef(self.series.bucket, self.series.uuid, self.instance)


def number_files(series: Series, listing: Listing, links: int = 1) -> dict[int, File]:
    """Return the files of one series by their number within it, in order of names.

    `links` directories hold the series.
    """
    numbers = number_names(instance.name for instance in listing.instances)
    return {
        number: File(inode_of_file(series.number, number), series, instance, links)
        for number, instance in zip(numbers, listing.instances, strict=True)
    }


def merge_files(numbered: Iterable[Mapping[int, File]]) -> dict[str, File]:
    """Return the files of several series by name, in byte order.

    Two series that share a file name keep both: the later one, by UUID, gets its
    series' UUID into its name.
    """
    merged: dict[str, File] = {}
    later: list[File] = []
    for files in numbered:
        for file in files.values():
            if merged.setdefault(file.instance.name, file) is not file:
                later.append(file)
    for file in later:
        merged[_free_name(file, merged)] = file
    return dict(sorted(merged.items(), key=lambda pair: pair[0].encode()))


def _free_name(file: File, taken: Mapping[str, File]) -> str:
    path = PurePosixPath(file.instance.name)
    stem, suffix = path.stem.encode(), path.suffix.encode()
    for number in itertools.count(1):
        mark = f"~{file.series.uuid}" + (f"~{number}" if number > 1 else "")
        # What must go goes from the end of the stem, and of the suffix if it is all suffix.
        ending = (mark.encode() + suffix)[:_NAME_LIMIT_BYTES]
        name = (stem[: _NAME_LIMIT_BYTES - len(ending)] + ending).decode(errors="ignore")
        if name not in taken:
            break
    return name
