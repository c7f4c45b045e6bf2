"""The least that a file system on pyfuse3 and trio can be: one file, answered by `pread`.

    bare.py FILE MOUNTPOINT

Held beside idcfs it tells what of a figure is its own, and what is the way through kernel,
libfuse, pyfuse3 and trio that both have in common.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Final

import pyfuse3
import trio

from idcfs.mount.readahead import raise_readahead

_ROOT: Final = pyfuse3.ROOT_INODE
_DIRECTORY: Final = pyfuse3.InodeT(_ROOT + 1)
_FILE: Final = pyfuse3.InodeT(_ROOT + 2)
_TTL_S: Final = 86_400.0
_BLOCK_BYTES: Final = 128 << 10
"""As idcfs says: programs read so much at once."""


class OneFile(pyfuse3.Operations):
    """A directory and in it the file, whatever both are called by who asks."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY)
        self._size_bytes = os.fstat(self._descriptor).st_size

    async def getattr(
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Tell what is known of an entry."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = inode
        is_file = inode == _FILE
        entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o444 if is_file else stat.S_IFDIR | 0o755)
        entry.st_size = self._size_bytes if is_file else 0
        entry.st_blksize = _BLOCK_BYTES
        entry.entry_timeout = entry.attr_timeout = _TTL_S
        return entry

    async def lookup(
        self, parent_inode: pyfuse3.InodeT, name: pyfuse3.FileNameT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        """Find the directory, or the file in it."""
        return await self.getattr(_DIRECTORY if parent_inode == _ROOT else _FILE, ctx)

    async def open(
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        """Open the file, whose pages stay right."""
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(0), keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:
        """Read from the file."""
        return os.pread(self._descriptor, size, off)

    async def release(self, fh: pyfuse3.FileHandleT) -> None:
        """Nothing was opened."""

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        """Answer, which tells that it is mounted."""
        return pyfuse3.StatvfsData()

    async def forget(self, inode_list: object) -> None:
        """Nothing is remembered."""


async def serve(mountpoint: Path) -> None:
    """Answer until it is unmounted; the kernel reads ahead as it does of idcfs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.to_thread.run_sync, raise_readahead, mountpoint)
        await pyfuse3.main()
        nursery.cancel_scope.cancel()


def main() -> None:
    """Mount the file that the command line names."""
    path, mountpoint = map(Path, sys.argv[1:])
    pyfuse3.init(OneFile(path), str(mountpoint), {"default_permissions", "fsname=bare"})
    try:
        trio.run(serve, mountpoint)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    main()
