"""Answers what a kernel asks, with values and typed errors."""

from __future__ import annotations

import itertools
import stat
from typing import TYPE_CHECKING, NewType, TypeVar

import trio
from cachetools import LRUCache, TTLCache

from idcfs.errors import (
    DirectoryTooWideError,
    IdcfsError,
    IsADirectoryInTreeError,
    NoSuchEntryError,
    NotADirectoryInTreeError,
)
from idcfs.model import Extent
from idcfs.vfs.attributes import (
    FRAGMENT_BYTES,
    TTL_S,
    Attributes,
    FileSystemTotals,
    Ownership,
)
from idcfs.vfs.inodes import (
    Inode,
    directory_of_inode,
    file_of_inode,
    inode_of_directory,
    is_file_inode,
)
from idcfs.vfs.leaves import File, merge_files, number_files
from idcfs.vfs.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from idcfs.fetch import Fetcher, ObjectReader
    from idcfs.model import Bytes, Listing, Series, SeriesUUID
    from idcfs.vfs.tree import DirectoryId, DirectoryTree

T = TypeVar("T")

Handle = NewType("Handle", int)

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


class FileSystem:
    """A read-only file system over a tree of series. All methods belong on the trio thread.

    Errors: NoSuchEntryError, NotADirectoryInTreeError, IsADirectoryInTreeError and
    DirectoryTooWideError are this room's; StoreError comes up from the fetcher.
    """

    def __init__(self, *, tree: DirectoryTree, fetcher: Fetcher, ownership: Ownership) -> None:
        self._tree = tree
        self._fetcher = fetcher
        self._ownership = ownership
        self._handles = itertools.count(1)
        self._open_files: dict[Handle, ObjectReader] = {}
        self._open_directories: dict[Handle, Snapshot[File] | Snapshot[DirectoryId]] = {}
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
        self.lookup_count = 0
        """How often the kernel was given an inode and has not yet forgotten it, over all
        inodes. No inode needs a count of its own, since a number tells what it names."""

    async def lookup(self, parent: Inode, name: str) -> Attributes:
        """Return the attributes of an entry of a directory, and count the reference."""
        attributes = await self._find_entry(self._get_directory(parent), name)
        self.lookup_count += 1
        return attributes

    def forget(self, lookups: int) -> None:
        """Take back `lookups` references that `lookup` and directory reads counted."""
        self.lookup_count -= lookups

    async def getattr(self, inode: Inode) -> Attributes:
        """Return the attributes of an inode."""
        if is_file_inode(inode):
            return self._file_attributes(await self._get_file(inode))
        return self._directory_attributes(self._get_directory(inode))

    async def opendir(self, inode: Inode) -> Handle:
        """Take a snapshot of a directory and return a handle on it.

        Raises DirectoryTooWideError for one that could not be listed sensibly.
        """
        directory = self._get_directory(inode)
        here = self._directory_attributes(directory)
        above = self._directory_attributes(self._tree.get_parent(directory))
        snapshot: Snapshot[File] | Snapshot[DirectoryId]
        if self._tree.is_leaf(directory):
            snapshot = Snapshot(
                here=here,
                above=above,
                children=list((await self._get_leaf(directory)).items()),
                describe=self._file_attributes,
            )
        else:
            snapshot = Snapshot(
                here=here,
                above=above,
                children=self._tree.children(directory),
                describe=self._directory_attributes,
            )
        handle = Handle(next(self._handles))
        self._open_directories[handle] = snapshot
        return handle

    def readdir(self, handle: Handle, start: int) -> Iterator[tuple[str, Attributes, int]]:
        """Yield name, attributes and next position of the entries from position `start`.

        The caller counts each entry that it passes on in `lookup_count`.
        """
        return self._open_directories[handle].entries(start)

    def releasedir(self, handle: Handle) -> None:
        """Let go of a directory's snapshot."""
        del self._open_directories[handle]

    async def open(self, inode: Inode) -> Handle:
        """Return a handle on a file. Its content is asked for by the first read."""
        if not is_file_inode(inode):
            raise IsADirectoryInTreeError(f"inode {inode} is a directory")
        reader = self._fetcher.open((await self._get_file(inode)).ref)
        handle = Handle(next(self._handles))
        self._open_files[handle] = reader
        return handle

    async def read(self, handle: Handle, extent: Extent) -> Bytes:
        """Return the bytes of `extent`, short only at end of file.

        Raises StoreError after the last retry, IntegrityError if what came does not
        match the listing. Cancelling does not abort a fetch that others wait for.
        """
        reader = self._open_files[handle]
        size = reader.ref.instance.size_bytes
        if extent.end > size:
            extent = Extent(extent.offset, max(size - extent.offset, 0))
        content = reader.read_nowait(extent)
        return await reader.read(extent) if content is None else content

    def release(self, handle: Handle) -> None:
        """Let go of a file."""
        self._fetcher.close_reader(self._open_files.pop(handle))

    def statfs(self) -> FileSystemTotals:
        """Return the size of the selection."""
        totals = self._tree.totals
        return FileSystemTotals(-(-totals.size_bytes // FRAGMENT_BYTES), totals.instance_count)

    async def find(self, inode: Inode) -> File | DirectoryId:
        """Return the file or directory that an inode number names."""
        return await self._get_file(inode) if is_file_inode(inode) else self._get_directory(inode)

    def _get_directory(self, inode: Inode) -> DirectoryId:
        if is_file_inode(inode):
            raise NotADirectoryInTreeError(f"inode {inode} is a file")
        directory = directory_of_inode(inode)
        if not self._tree.contains(directory):
            raise NoSuchEntryError(f"no directory has inode {inode}")
        return directory

    async def _find_entry(self, directory: DirectoryId, name: str) -> Attributes:
        if self._tree.is_leaf(directory):
            file = (await self._get_leaf(directory)).get(name)
            if file is not None:
                return self._file_attributes(file)
        else:
            child = self._tree.find_child(directory, name)
            if child is not None:
                return self._directory_attributes(child)
        raise NoSuchEntryError(f"no entry {name!r} in /{self._tree.get_path(directory)}")

    async def _get_file(self, inode: Inode) -> File:
        row, number = file_of_inode(inode)
        series = self._tree.find_series(row)
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
        count = len(listing.instances)
        files = await _off_loop(count, lambda: number_files(series, listing))
        if len(files) < _NUMBERED_FILES:
            self._numbered[series.uuid] = listing, files
        return files

    async def _get_leaf(self, directory: DirectoryId) -> Mapping[str, File]:
        """Return the files of a leaf by name: of all its series, each listed once."""
        known = self._leaves.get(directory) or self._incomplete_leaves.get(directory)
        if known is not None:
            return known
        series = sorted(self._tree.series(directory), key=lambda each: each.uuid)
        expected = sum(each.instance_count or 0 for each in series)
        if expected > DIRECTORY_LIMIT_FILES:
            raise self._too_wide(directory, expected, len(series))
        listed = await self._list_all(series)
        files = await _off_loop(sum(map(len, listed)), lambda: merge_files(listed))
        if len(files) > DIRECTORY_LIMIT_FILES:
            raise self._too_wide(directory, len(files), len(series))
        leaves = self._leaves if expected <= len(files) else self._incomplete_leaves
        leaves[directory] = files
        return files

    def _too_wide(self, directory: DirectoryId, files: int, series: int) -> DirectoryTooWideError:
        return DirectoryTooWideError(
            f"/{self._tree.get_path(directory)} would hold {files:,} files of {series:,} "
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

    def _directory_attributes(self, directory: DirectoryId) -> Attributes:
        return Attributes(
            inode=inode_of_directory(directory),
            mode=stat.S_IFDIR | self._ownership.directory_mode,
            nlink=2 + self._tree.count_children(directory),
            uid=self._ownership.uid,
            gid=self._ownership.gid,
            size_bytes=0,
            mtime_ns=self._tree.mtime_ns,
            ttl_s=TTL_S,
        )

    def _file_attributes(self, file: File) -> Attributes:
        return Attributes(
            inode=file.inode,
            mode=stat.S_IFREG | self._ownership.file_mode,
            nlink=1,
            uid=self._ownership.uid,
            gid=self._ownership.gid,
            size_bytes=file.instance.size_bytes,
            mtime_ns=file.instance.mtime_ns,
            ttl_s=TTL_S,
        )


async def _off_loop(files: int, work: Callable[[], T]) -> T:
    """Return what `work` over so many files does, without holding up the loop for long."""
    return work() if files <= _ON_LOOP_FILES else await trio.to_thread.run_sync(work)
