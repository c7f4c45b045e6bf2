"""Extended attributes: what the index says of a file or directory, and whether it is cached.

A file lists the same names as any other, so that listing them asks nobody: `ls -l` of
newer coreutils does it for each entry. More of the series' columns are answered for a file
than it lists, because `cp -a` copies what is listed, name by name. A directory lists what
all series below it have in common. What the index leaves open is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio
from cachetools import LRUCache

from idcfs.errors import NoSuchAttributeError
from idcfs.vfs.leaves import File

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from idcfs.model import ObjectRef, Series
    from idcfs.vfs.filesystem import FileSystem
    from idcfs.vfs.inodes import Inode
    from idcfs.vfs.tree import DirectoryId, DirectoryTree

_DICOM_COLUMNS = (
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "PatientAge",
    "PatientSex",
    "StudyDate",
    "StudyDescription",
    "SeriesDate",
    "SeriesDescription",
    "SeriesNumber",
    "BodyPartExamined",
    "Manufacturer",
    "ManufacturerModelName",
    "SOPClassUID",
    "TransferSyntaxUID",
)

COLUMNS: Mapping[str, str] = {
    "user.idc.collection_id": "collection_id",
    "user.idc.analysis_result_id": "analysis_result_id",
    "user.idc.license": "license_short_name",
    "user.idc.doi": "source_DOI",
    **{f"user.dicom.{column}": column for column in _DICOM_COLUMNS},
}
"""The attributes that are columns of the index."""

_SERIES_UUID = "user.idc.series_uuid"
_S3_URL = "user.idc.s3_url"
_CACHED = "user.idc.cached"

_OF_FILES = (
    _SERIES_UUID,
    _S3_URL,
    _CACHED,
    "user.idc.collection_id",
    "user.idc.license",
    "user.idc.doi",
    "user.dicom.Modality",
    "user.dicom.PatientID",
    "user.dicom.StudyInstanceUID",
    "user.dicom.SeriesInstanceUID",
)

_KEPT_SERIES = 1024
"""Series whose columns are kept: about 2 MB. A tool asks for ten of the same in a row."""


class SeriesFacts(Protocol):
    """Who knows the columns of a series."""

    def facts(self, row: int) -> Mapping[str, str]:
        """Return the columns of an index row, without those that are NULL. Blocks."""
        ...


class ExtendedAttributes:
    """Names and values of the extended attributes. On the trio thread.

    `common` has, for each level of directories, the columns that all series below have in
    common. `held` tells of an object how much of it is in the cache; it may block.
    """

    def __init__(
        self,
        *,
        file_system: FileSystem,
        tree: DirectoryTree,
        facts: SeriesFacts,
        held: Callable[[ObjectRef], str],
        common: Sequence[frozenset[str]],
    ) -> None:
        self._file_system = file_system
        self._tree = tree
        self._facts = facts
        self._held = held
        self._common = common
        self._kept: LRUCache[int, Mapping[str, str]] = LRUCache(_KEPT_SERIES)
        self._asking = trio.CapacityLimiter(1)  # there is one process that answers
        self._looking = trio.CapacityLimiter(4)

    async def names(self, inode: Inode) -> Sequence[str]:
        """Return the names that are listed."""
        place = await self._file_system.find(inode)
        return _OF_FILES if isinstance(place, File) else self._names_of(place)

    async def get(self, inode: Inode, name: str) -> str:
        """Return a value; "" for what the index leaves open.

        Raises NoSuchAttributeError, or IndexFileError if the index cannot be asked.
        """
        place = await self._file_system.find(inode)
        if isinstance(place, File):
            if name == _S3_URL:
                return place.ref.url
            if name == _CACHED:
                return await trio.to_thread.run_sync(
                    self._held, place.ref, limiter=self._looking, abandon_on_cancel=True
                )
            series = place.series
        else:
            if name not in self._names_of(place):
                raise NoSuchAttributeError(f"no attribute {name}")
            series = self._first_series(place)
            if name == _S3_URL:
                return f"s3://{series.bucket}/{series.prefix}*"
        if name == _SERIES_UUID:
            return series.uuid
        if (column := COLUMNS.get(name)) is None:
            raise NoSuchAttributeError(f"no attribute {name}")
        return (await self._columns_of(series.row)).get(column, "")

    def _names_of(self, directory: DirectoryId) -> list[str]:
        tree, level, above = self._tree, 0, directory
        while (parent := tree.get_parent(above)) != above:
            above = parent
            level += 1
        names = [name for name, column in COLUMNS.items() if column in self._common[level]]
        if tree.is_leaf(directory) and len(tree.series(directory)) == 1:
            return [_SERIES_UUID, _S3_URL, *names]
        return names

    def _first_series(self, directory: DirectoryId) -> Series:
        """Return a series below, any of which has what all have in common."""
        while not self._tree.is_leaf(directory):
            _, directory = self._tree.children(directory)[0]
        return self._tree.series(directory)[0]

    async def _columns_of(self, row: int) -> Mapping[str, str]:
        if (known := self._kept.get(row)) is not None:
            return known
        async with self._asking:
            if (known := self._kept.get(row)) is None:  # nor did the one before us ask for it
                known = self._kept[row] = await trio.to_thread.run_sync(
                    self._facts.facts, row, abandon_on_cancel=True
                )
        return known
