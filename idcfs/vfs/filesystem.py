"""Answers what a kernel asks, with values and typed errors."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NewType

from idcfs.errors import (
    IsADirectoryInTreeError,
    NoSuchEntryError,
)
from idcfs.model import Extent
from idcfs.vfs.attributes import (
    FRAGMENT_BYTES,
    Attributes,
    FileSystemTotals,
    Ownership,
)
from idcfs.vfs.edition import Edition
from idcfs.vfs.inodes import Inode, is_file_inode
from idcfs.vfs.snapshots import Snapshot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from idcfs.fetch import Fetcher, ObjectReader
    from idcfs.model import Bytes
    from idcfs.vfs.leaves import File
    from idcfs.vfs.tree import DirectoryId, DirectoryTree

Handle = NewType("Handle", int)


class FileSystem:
    """A read-only file system over a tree of series. All methods belong on the trio thread.

    Errors: NoSuchEntryError, NotADirectoryInTreeError, IsADirectoryInTreeError and
    DirectoryTooWideError are this room's; StoreError comes up from the fetcher.
    """

    def __init__(self, *, tree: DirectoryTree, fetcher: Fetcher, ownership: Ownership) -> None:
        self._fetcher = fetcher
        self._ownership = ownership
        self._edition = Edition(tree, fetcher, ownership)
        self._handles = itertools.count(1)
        self._open_files: dict[Handle, tuple[ObjectReader, File]] = {}
        self._open_directories: dict[Handle, Snapshot[File] | Snapshot[DirectoryId]] = {}
        self.lookup_count = 0
        """How often the kernel was given an inode and has not yet forgotten it, over all
        inodes. No inode needs a count of its own, since a number tells what it names."""

    @property
    def edition(self) -> Edition:
        """What is shown at present."""
        return self._edition

    def show(self, tree: DirectoryTree) -> None:
        """Show another tree from now on, whose numbers mean the same as far as both have them.

        Open files and directories stay as they are. What the kernel remembers is the
        caller's to take back.
        """
        self._edition.is_superseded = True
        self._edition = Edition(tree, self._fetcher, self._ownership)

    def open_files(self) -> Collection[File]:
        """Return the files that are open, each once."""
        return {file.inode: file for _, file in self._open_files.values()}.values()

    async def lookup(self, parent: Inode, name: str) -> Attributes:
        """Return the attributes of an entry of a directory, and count the reference."""
        edition = self._edition
        attributes = await edition.find_entry(edition.get_directory(parent), name)
        self.lookup_count += 1
        return attributes

    def forget(self, lookups: int) -> None:
        """Take back `lookups` references that `lookup` and directory reads counted."""
        self.lookup_count -= lookups

    async def getattr(self, inode: Inode) -> Attributes:
        """Return the attributes of an inode."""
        edition = self._edition
        if is_file_inode(inode):
            return edition.file_attributes(await self._get_file(edition, inode))
        return edition.directory_attributes(edition.get_directory(inode))

    async def opendir(self, inode: Inode) -> Handle:
        """Take a snapshot of a directory and return a handle on it.

        Raises DirectoryTooWideError for one that could not be listed sensibly.
        """
        edition = self._edition
        directory = edition.get_directory(inode)
        here = edition.directory_attributes(directory)
        above = edition.directory_attributes(edition.tree.get_parent(directory))
        snapshot: Snapshot[File] | Snapshot[DirectoryId]
        if edition.tree.is_leaf(directory):
            snapshot = Snapshot(
                here=here,
                above=above,
                children=list((await edition.get_leaf(directory)).items()),
                describe=edition.file_attributes,
            )
        else:
            snapshot = Snapshot(
                here=here,
                above=above,
                children=edition.tree.children(directory),
                describe=edition.directory_attributes,
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
        file = await self._get_file(self._edition, inode)
        reader = self._fetcher.open(file.ref)
        handle = Handle(next(self._handles))
        self._open_files[handle] = reader, file
        return handle

    async def read(self, handle: Handle, extent: Extent) -> Bytes:
        """Return the bytes of `extent`, short only at end of file.

        Raises StoreError after the last retry, IntegrityError if what came does not
        match the listing. Cancelling does not abort a fetch that others wait for.
        """
        reader, _ = self._open_files[handle]
        size = reader.ref.instance.size_bytes
        if extent.end > size:
            extent = Extent(extent.offset, max(size - extent.offset, 0))
        content = reader.read_nowait(extent)
        return await reader.read(extent) if content is None else content

    def release(self, handle: Handle) -> None:
        """Let go of a file."""
        reader, _ = self._open_files.pop(handle)
        self._fetcher.close_reader(reader)

    def statfs(self) -> FileSystemTotals:
        """Return the size of the selection."""
        totals = self._edition.tree.totals
        return FileSystemTotals(-(-totals.size_bytes // FRAGMENT_BYTES), totals.instance_count)

    async def _get_file(self, edition: Edition, inode: Inode) -> File:
        """Return the file that an inode number names, also one that is gone but still open."""
        try:
            return await edition.get_file(inode)
        except NoSuchEntryError:
            for _, file in self._open_files.values():
                if file.inode == inode:
                    return file
            raise
