"""Extended attributes: what the index says of a file or directory, and whether it is cached.

A file lists the same names as any other, so that listing them asks nobody: `ls -l` of
newer coreutils does it for each entry. More of the series' columns are answered for a file
than it lists, because `cp -a` copies what is listed, name by name. A directory lists what
all series below it have in common. What the index leaves open is empty.
"""

from __future__ import annotations

import functools
import logging
import math
from typing import TYPE_CHECKING, Protocol

import trio
from cachetools import LRUCache

from idcfs.errors import IndexFileError, NoSuchAttributeError
from idcfs.vfs.leaves import File

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from idcfs.model import ObjectRef, Series
    from idcfs.vfs.filesystem import FileSystem
    from idcfs.vfs.inodes import Inode
    from idcfs.vfs.tree import DirectoryId, DirectoryTree

logger = logging.getLogger(__name__)

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

_BLOCK_ROWS = 512
"""Rows of the index that are asked for at once. That takes no longer than one, and series that
stand together in the tree mostly stand together in the index: a walk asks for these next."""

_KEPT_BLOCKS = 8
"""How many of these are kept: under 1 MB each."""

_PAUSE_S = 30.0
"""How long an index that could not be read is left alone: every file asks ten times."""


class SeriesFacts(Protocol):
    """Who knows the columns of series."""

    def facts(self, rows: range) -> Mapping[int, Mapping[str, str]]:
        """Return the columns of index rows, without those that are NULL. Blocks.

        Raises IndexFileError.
        """
        ...


class Presence(Protocol):
    """Who knows what is in the cache: `yes`, `partly` or `no`. Blocks; never raises."""

    def of_object(self, ref: ObjectRef) -> str:
        """Tell how much of one object is there."""
        ...

    def of_series(self, series: Series) -> str:
        """Tell how much of a series is there."""
        ...


class _Columns:
    """The columns of the index that is shown, and whether it can be read."""

    def __init__(self, facts: SeriesFacts) -> None:
        self._facts = facts
        self._blocks: LRUCache[int, Mapping[int, Mapping[str, str]]] = LRUCache(_KEPT_BLOCKS)
        self._retry_at_s = -math.inf
        self._said = ""
        self._asking = trio.CapacityLimiter(1)  # there is one process that answers

    @property
    def can_be_asked(self) -> bool:
        """Whether the index could be read when it was last asked, or that is a while ago."""
        return trio.current_time() >= self._retry_at_s

    def give_up(self, error: IndexFileError) -> None:
        """Leave the index alone for a while, and log why, once."""
        self._retry_at_s = trio.current_time() + _PAUSE_S
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("%s: extended attributes tell less", error)

    async def of(self, series: Series) -> Mapping[str, str]:
        """Return the columns of a series. Raises IndexFileError."""
        number = series.row // _BLOCK_ROWS
        if (block := self._blocks.get(number)) is None:
            async with self._asking:
                # The one before us may have asked for it.
                if (block := self._blocks.get(number)) is None:
                    block = self._blocks[number] = await self._ask(number)
        columns = block.get(series.row, {})
        # The file may be replaced while the process that reads it goes on.
        if columns.get("crdc_series_uuid") != series.uuid:
            raise IndexFileError("the index is not the one any more that was mounted")
        return columns

    async def _ask(self, number: int) -> Mapping[int, Mapping[str, str]]:
        if not self.can_be_asked:
            raise IndexFileError(self._said)
        first = number * _BLOCK_ROWS
        return await trio.to_thread.run_sync(
            self._facts.facts, range(first, first + _BLOCK_ROWS), abandon_on_cancel=True
        )


class ExtendedAttributes:
    """Names and values of the extended attributes. On the trio thread.

    `common` has, for each level of directories, the columns that all series below have in
    common: for each view by its name, or for "" if there is one tree only. While the index
    cannot be read, or is another than the one that was mounted, what it tells is not listed,
    and not there.
    """

    def __init__(
        self,
        *,
        file_system: FileSystem,
        facts: SeriesFacts,
        presence: Presence,
        common: Mapping[str, Sequence[frozenset[str]]],
    ) -> None:
        self._file_system = file_system
        self._columns = _Columns(facts)
        self._presence = presence
        self._common = common
        self._looking = trio.CapacityLimiter(4)

    def show(self, facts: SeriesFacts) -> None:
        """Ask another index from now on; the file system shows its tree from the same moment."""
        self._columns = _Columns(facts)

    async def names(self, inode: Inode) -> Sequence[str]:
        """Return the names that are listed."""
        edition, columns = self._file_system.edition, self._columns
        place = await edition.find(inode)
        names = _OF_FILES if isinstance(place, File) else self._names_of(edition.tree, place)
        if not columns.can_be_asked:
            return [name for name in names if name not in COLUMNS]
        return names

    async def get(self, inode: Inode, name: str) -> str:
        """Return a value; "" for what the index leaves open. Raises NoSuchAttributeError."""
        edition, columns = self._file_system.edition, self._columns
        place = await edition.find(inode)
        if isinstance(place, File):
            series = place.series
            url, present = place.ref.url, functools.partial(self._presence.of_object, place.ref)
        else:
            if name not in self._names_of(edition.tree, place):
                raise NoSuchAttributeError(f"no attribute {name}")
            series = _first_series(edition.tree, place)
            url = f"s3://{series.bucket}/{series.prefix}*"
            present = functools.partial(self._presence.of_series, series)
        if name == _S3_URL:
            return url
        if name == _CACHED:
            return await trio.to_thread.run_sync(
                present, limiter=self._looking, abandon_on_cancel=True
            )
        if name == _SERIES_UUID:
            return series.uuid
        if (column := COLUMNS.get(name)) is None:
            raise NoSuchAttributeError(f"no attribute {name}")
        try:
            return (await columns.of(series)).get(column, "")
        except IndexFileError as exc:
            columns.give_up(exc)
            raise NoSuchAttributeError(f"no attribute {name} now") from exc

    def _names_of(self, tree: DirectoryTree, directory: DirectoryId) -> list[str]:
        level, above = 0, directory
        while (parent := tree.get_parent(above)) != above:
            above = parent
            level += 1
        levels = self._common.get("")
        if levels is None:
            levels = (
                frozenset[str](),
                *self._common.get(tree.get_path(directory).split("/")[0], ()),
            )
        names = [name for name, column in COLUMNS.items() if column in levels[level]]
        if tree.is_leaf(directory) and len(tree.series(directory)) == 1:
            return [_SERIES_UUID, _S3_URL, _CACHED, *names]
        return names


def _first_series(tree: DirectoryTree, directory: DirectoryId) -> Series:
    """Return a series below, any of which has what all have in common."""
    while not tree.is_leaf(directory):
        _, directory = tree.children(directory)[0]
    return tree.series(directory)[0]
