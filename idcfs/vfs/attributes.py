"""What `stat` and `statvfs` tell."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.vfs.inodes import Inode

TTL_S = 86_400.0
"""How long the kernel may trust a name or an attribute: nothing in a release changes, and a
day bounds what an administrator may have to wait for after a mistake."""

BLOCK_BYTES = 512
"""The unit of `st_blocks`, whatever the file system's block size."""

FRAGMENT_BYTES = 4096
"""The unit in which `statvfs` counts."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """Whose the files are and who may do what with them: permission bits only."""

    uid: int
    gid: int
    directory_mode: int = 0o555
    file_mode: int = 0o444


@dataclass(frozen=True, slots=True)
class Attributes:
    """What `stat` tells of one inode."""

    inode: Inode
    mode: int
    """File type and permission bits."""
    nlink: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    ttl_s: float

    @property
    def blocks(self) -> int:
        """The size in units of 512 bytes, rounded up, so that `du` tells the size."""
        return -(-self.size_bytes // BLOCK_BYTES)

    @property
    def is_directory(self) -> bool:
        """Tell whether this is a directory."""
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class FileSystemTotals:
    """What `statvfs` tells. Nothing is free: the file system is read-only."""

    fragments: int
    """The size of all files in units of `FRAGMENT_BYTES`."""
    files: int
