"""Takes back what the kernel was told to remember."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pyfuse3

if TYPE_CHECKING:
    from idcfs.vfs.inodes import Inode


class KernelCache:
    """What the kernel remembers of the one mount of this process.

    Only while its session runs. What the kernel does not know is no error; OSError is
    raised if the mount is gone.
    """

    def forget_entry(self, directory: Inode, name: str) -> None:
        """Have a name looked up anew, and all that is below it.

        Blocks while anybody waits for an answer of ours in that directory: never call it from
        the trio thread.
        """
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_entry(pyfuse3.InodeT(directory), pyfuse3.FileNameT(name.encode()))

    def forget_attributes(self, inode: Inode) -> None:
        """Have the attributes of an inode asked for anew. Never blocks."""
        with suppress(FileNotFoundError):
            pyfuse3.invalidate_inode(pyfuse3.InodeT(inode), attr_only=True)
