"""One tree that a file system shows, and what has been listed of it.

A file system that goes on to another tree gets another of these. Requests that were under
way go on with the one they began with, whose answers the kernel is then told not to keep.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, TypeVar

import trio
from cachetools import LRUCache, TTLCache

from idcfs.errors import (
    DirectoryTooWideError,
    IdcfsError,
    NoSuchEntryError,
    NotADirectoryInTreeError,
)
from idcfs.vfs.attributes import TTL_S, Attributes
from idcfs.vfs.inodes import (
    directory_of_inode,
    file_of_inode,
    inode_of_directory,
    is_file_inode,
)
from idcfs.vfs.leaves import File, merge_files, number_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from idcfs.fetch import Fetcher
    from idcfs.model import Listing, Series, SeriesUUID
    from idcfs.vfs.attributes import Ownership
    from idcfs.vfs.inodes import Inode
    from idcfs.vfs.tree import DirectoryId, DirectoryTree

T = TypeVar("T")

DIRECTORY_LIMIT_FILES = 500_000
"""Files that one directory may be expected to hold. The widest series has 91,980; half a
million already take five hundred requests to list and 200 MB to hold."""

_NUMBERED_FILES = 200_000
"""Files whose numbers are kept ready, for reads that come by inode: about 50 MB, and more
than the widest series has."""

_INCOMPLETE_TTL_S = 30.0
"""How long a leaf is shown as it is while its series list other numbers of files than the
index expects. Without it, each look-up in a wide one would merge it anew."""

_ON_LOOP_FILES = 2000
"""More files than this are numbered and merged in a thread: the widest series would hold up
every other request for a fifth of a second."""

_PARALLEL_LISTINGS = 32
"""Series of one directory that are listed at a time; the fetcher has its own limit."""


class Edition:
    """Finds files and directories of one tree. All methods belong on the trio thread."""

    def __init__(self, tree: DirectoryTree, fetcher: Fetcher, ownership: Ownership) -> None:
        self.tree = tree
        self.is_superseded = False
        """Whether the file system shows another tree by now."""
        self._fetcher = fetcher
        self._ownership = ownership
        self._numbered: LRUCache[SeriesUUID, tuple[Listing, Mapping[int, File]]] = LRUCache(
            _NUMBERED_FILES, getsizeof=lambda kept: len(kept[1]) + 1
        )
        self._leaves: LRUCache[DirectoryId, Mapping[str, File]] = LRUCache(
            2 * DIRECTORY_LIMIT_FILES, getsizeof=lambda files: len(files) + 1
        )
        self._incomplete_leaves: TTLCache[DirectoryId, Mapping[str, File]] = TTLCache(
            2 * DIRECTORY_LIMIT_FILES,
            _INCOMPLETE_TTL_S,
            timer=trio.current_time,
            getsizeof=lambda files: len(files) + 1,
        )

    async def find(self, inode: Inode) -> File | DirectoryId:
        """Return the file or directory that an inode number names."""
        return await self.get_file(inode) if is_file_inode(inode) else self.get_directory(inode)

    def get_directory(self, inode: Inode) -> DirectoryId:
        """Return the directory that an inode number names."""
        if is_file_inode(inode):
            raise NotADirectoryInTreeError(f"inode {inode} is a file")
        directory = directory_of_inode(inode)
        if not self.tree.contains(directory):
            raise NoSuchEntryError(f"no directory has inode {inode}")
        return directory

    async def find_entry(self, directory: DirectoryId, name: str) -> Attributes:
        """Return the attributes of an entry of a directory. Raises NoSuchEntryError."""
        if self.tree.is_leaf(directory):
            file = (await self.get_leaf(directory)).get(name)
            if file is not None:
                return self.file_attributes(file)
        else:
            child = self.tree.find_child(directory, name)
            if child is not None:
                return self.directory_attributes(child)
        raise NoSuchEntryError(f"no entry {name!r} in /{self.tree.get_path(directory)}")

    async def get_file(self, inode: Inode) -> File:
        """Return the file that an inode number names."""
        series_number, number = file_of_inode(inode)
        series = self.tree.find_series(series_number)
        if series is not None:
            file = (await self._get_numbered(series)).get(number)
            if file is not None:
                return file
        raise NoSuchEntryError(f"no file has inode {inode}")

    async def _get_numbered(self, series: Series) -> Mapping[int, File]:
        """Return the files of one series by their number, in order of names."""
        listing = await self._fetcher.listing(series)
        known = self._numbered.get(series.uuid)
        if known is not None and known[0] is listing:
            return known[1]
        count, links = len(listing.instances), len(self.tree.leaves_of(series))
        files = await _off_loop(count, lambda: number_files(series, listing, links))
        if len(files) < _NUMBERED_FILES:
            self._numbered[series.uuid] = listing, files
        return files

    async def get_leaf(self, directory: DirectoryId) -> Mapping[str, File]:
        """Return the files of a leaf by name: of all its series, each listed once."""
        if known := self.known_leaf(directory):
            return known
        series = sorted(self.tree.series(directory), key=lambda each: each.uuid)
        expected = sum(each.instance_count or 0 for each in series)
        if expected > DIRECTORY_LIMIT_FILES:
            raise self._too_wide(directory, expected, len(series))
        listed = await self._list_all(series)
        files = await _off_loop(sum(map(len, listed)), lambda: merge_files(listed))
        if len(files) > DIRECTORY_LIMIT_FILES:
            raise self._too_wide(directory, len(files), len(series))
        is_complete = all(
            each.instance_count in {None, len(found)}
            for each, found in zip(series, listed, strict=True)
        )
        leaves = self._leaves if is_complete else self._incomplete_leaves
        leaves[directory] = files
        return files

    def _too_wide(self, directory: DirectoryId, files: int, series: int) -> DirectoryTooWideError:
        return DirectoryTooWideError(
            f"/{self.tree.get_path(directory)} would hold {files:,} files of {series:,} "
            "series; mount a selection, or a template with more levels"
        )

    async def _list_all(self, series: Sequence[Series]) -> list[Mapping[int, File]]:
        if len(series) == 1:
            return [await self._get_numbered(series[0])]
        listed: dict[int, Mapping[int, File]] = {}
        errors: list[IdcfsError] = []
        waiting = iter(enumerate(series))

        async def list_some() -> None:
            for position, each in waiting:
                try:
                    listed[position] = await self._get_numbered(each)
                except IdcfsError as exc:
                    errors.append(exc)
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(min(_PARALLEL_LISTINGS, len(series))):
                nursery.start_soon(list_some)
        if errors:
            raise errors[0]
        return [listed[position] for position in range(len(series))]

    def known_leaf(self, directory: DirectoryId) -> Mapping[str, File]:
        """Return the files of a leaf as far as they are in memory."""
        return self._leaves.get(directory) or self._incomplete_leaves.get(directory) or {}

    def names_of(self, file: File, leaf: DirectoryId) -> Sequence[str]:
        """Return the names that a file may have been shown under in a leaf that holds it."""
        name, files = file.instance.name, self.known_leaf(leaf)
        if not files or ((found := files.get(name)) is not None and found.inode == file.inode):
            return [name]
        return [other for other, each in files.items() if each.inode == file.inode]

    @property
    def _ttl_s(self) -> float:
        """How long the kernel may trust an answer: not at all, where it may be out of date."""
        return 0.0 if self.is_superseded else TTL_S

    def absence_ttl_s(self, parent: Inode) -> float:
        """Return how long the kernel may trust that `parent` lacks a name, once looked up there.

        Not at all while files of the directory may be yet to come: to ask again costs little.
        """
        directory = directory_of_inode(parent)
        is_complete = directory in self._leaves
        if not is_complete and self.tree.contains(directory) and self.tree.is_leaf(directory):
            return 0.0
        return self._ttl_s

    def directory_attributes(self, directory: DirectoryId) -> Attributes:
        """Return what `stat` tells of a directory."""
        return Attributes(
            inode=inode_of_directory(directory),
            mode=stat.S_IFDIR | self._ownership.directory_mode,
            nlink=2 + self.tree.count_children(directory),
            uid=self._ownership.uid,
            gid=self._ownership.gid,
            size_bytes=0,
            mtime_ns=self.tree.mtime_ns,
            ttl_s=self._ttl_s,
        )

    def file_attributes(self, file: File) -> Attributes:
        """Return what `stat` tells of a file."""
        return Attributes(
            inode=file.inode,
            mode=stat.S_IFREG | self._ownership.file_mode,
            nlink=file.links,
            uid=self._ownership.uid,
            gid=self._ownership.gid,
            size_bytes=file.instance.size_bytes,
            mtime_ns=file.instance.mtime_ns,
            ttl_s=self._ttl_s,
        )


async def _off_loop(files: int, work: Callable[[], T]) -> T:
    """Return what `work` over so many files does, without holding up the loop for long."""
    return work() if files <= _ON_LOOP_FILES else await trio.to_thread.run_sync(work)
