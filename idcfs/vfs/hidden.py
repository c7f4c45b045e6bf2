"""The directory `.idcfs` in the root: not listed, but there for who asks for it by name.

Its files are made when they are opened, so their size is not known before: `stat` says 0,
as in /proc, and they are read without the kernel's page cache.
"""

from __future__ import annotations

import stat
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import trio

from idcfs.errors import (
    IsADirectoryInTreeError,
    NoSuchEntryError,
    NotADirectoryInTreeError,
)
from idcfs.vfs.attributes import Attributes
from idcfs.vfs.filesystem import Handle
from idcfs.vfs.inodes import ROOT_INODE, Inode
from idcfs.vfs.tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from idcfs.model import Extent
    from idcfs.vfs.attributes import Ownership
    from idcfs.vfs.tree import DirectoryTree

    Make = Callable[[], Awaitable[BinaryIO]]

NAME = ".idcfs"

_BIT = 1 << 61
"""Above the numbers of directories (2**60), below those of files (2**62)."""

_DIRECTORY = Inode(_BIT)


class HiddenDirectory:
    """Files by name, each made anew for whoever opens it. On the trio thread.

    `files` gives for each name what makes its content; whatever that raises is the
    error of the open. A directory of the tree's own that has the same name wins.
    """

    def __init__(
        self,
        files: Mapping[str, Make],
        *,
        tree: Callable[[], DirectoryTree],
        ownership: Ownership,
        daemon_uid: int,
        unlisted: Mapping[str, Make] = MappingProxyType({}),
    ) -> None:
        """`unlisted` are further files, which only `daemon_uid` and root may open, and by name.

        That is whoever mounted, whosever the files of the tree are said to be. `tree` gives
        what is shown at present.
        """
        self._makers = [*files.values(), *unlisted.values()]
        self._numbers = {name: number for number, name in enumerate([*files, *unlisted], 1)}
        self._listed = len(files)
        self._tree = tree
        self._ownership = ownership
        self._daemon_uid = daemon_uid
        self._open: dict[Handle, tuple[BinaryIO, trio.Lock]] = {}
        self._next_handle = _BIT

    @staticmethod
    def owns(number: int) -> bool:
        """Tell whether an inode or a handle is one of this directory's."""
        return bool(number & _BIT) and number < 2 * _BIT

    def find(self, parent: Inode, name: str) -> Attributes | None:
        """Return the attributes of the directory or a file in it; None for other names.

        Raises NoSuchEntryError for a name that the directory does not have.
        """
        if parent == ROOT_INODE:
            if name != NAME or self._tree().find_child(ROOT, NAME) is not None:
                return None
            return self.getattr(_DIRECTORY)
        if parent != _DIRECTORY:
            return None
        if name not in self._numbers:
            raise NoSuchEntryError(f"no entry {name!r} in /{NAME}")
        return self.getattr(Inode(_BIT | self._numbers[name]))

    def getattr(self, inode: Inode) -> Attributes:
        """Return the attributes of the directory or of a file."""
        is_directory = inode == _DIRECTORY
        uid = self._ownership.uid
        if is_directory:
            kind, mode = stat.S_IFDIR, self._ownership.directory_mode
        elif inode - _BIT <= self._listed:
            kind, mode = stat.S_IFREG, self._ownership.file_mode & 0o444
        else:
            kind, mode, uid = stat.S_IFREG, 0o400, self._daemon_uid
        return Attributes(
            inode=inode,
            mode=kind | mode,
            nlink=2 if is_directory else 1,
            uid=uid,
            gid=self._ownership.gid,
            size_bytes=0,
            mtime_ns=self._tree().mtime_ns,
            ttl_s=1.0,
        )

    def readdir(self, handle: Handle, start: int) -> Iterator[tuple[str, Attributes, int]]:
        """Yield name, attributes and next position of the entries from position `start`.

        The directory's handle is its inode number.
        """
        if Inode(handle) != _DIRECTORY:
            raise NotADirectoryInTreeError(f"inode {handle} is a file")
        here = self.getattr(_DIRECTORY)
        listed = [(".", here), ("..", here)]
        listed += [
            (name, self.getattr(Inode(_BIT | number)))
            for name, number in self._numbers.items()
            if number <= self._listed
        ]
        for position, (name, attributes) in enumerate(listed[start:], start + 1):
            yield name, attributes, position

    async def open(self, inode: Inode) -> Handle:
        """Make a file's content as it is now, and return a handle on it."""
        if inode == _DIRECTORY:
            raise IsADirectoryInTreeError(f"/{NAME} is a directory")
        content = await self._makers[inode - _BIT - 1]()
        self._next_handle += 1
        handle = Handle(self._next_handle)
        self._open[handle] = content, trio.Lock()
        return handle

    async def read(self, handle: Handle, extent: Extent) -> bytes:
        """Return bytes of the content, short only at its end."""
        content, reading = self._open[handle]
        async with reading:  # the content has one position, whoever shares the handle
            return await trio.to_thread.run_sync(_read, content, extent)

    def release(self, handle: Handle) -> None:
        """Let go of the content."""
        content, _ = self._open.pop(handle)
        content.close()


def _read(content: BinaryIO, extent: Extent) -> bytes:
    content.seek(extent.offset)
    return content.read(extent.length)
