"""Open files and their locks, as the cache needs them."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from idcfs.model import Bytes, Extent

OPENING = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: were it a pipe, opening it would wait for ever."""

_NOT_NOW = {errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
"""What `preadv(RWF_NOWAIT)` says when the bytes are not in memory, or cannot say."""

_TAKEN = {errno.EAGAIN, errno.EACCES}
_NO_LOCKS = {errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_FLOCK = struct.Struct("@hhqqi4x")
"""struct flock of 64-bit Linux: type, whence, start, length, pid (fcntl(2))."""

_FICLONE = 0x40049409
"""Of linux/fs.h: has one file share the blocks of another, until one of the two is written to
(Btrfs, XFS and others). `fcntl.FICLONE` is in Python from 3.13."""

_UNRESVSP = 0x4030582B
"""FS_IOC_UNRESVSP of linux/falloc.h: makes a hole. Python has no fallocate(2) that does."""

_SPACE = struct.Struct("@hhqqiI16x")
"""struct space_resv of linux/falloc.h: type, whence, start, length, and what nobody reads."""

_PATIENCE_S = 5.0
"""How long the lock of one file is waited for: it is held for microseconds, unless its holder
was stopped meanwhile."""

_POLL_S = 0.001


class Descriptor:
    """An open file, closed when its last user lets go of it.

    Threads may still be reading when an object is discarded: were the number closed
    under them, the kernel could give it to another file, and they would read that.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self.number)


def share_blocks(source: int, destination: int) -> bool:
    """Make an empty file share the blocks of another; tell whether the file system can."""
    try:
        fcntl.ioctl(destination, _FICLONE, source)
    except OSError:
        return False
    return True


def open_to_write(path: Path) -> Descriptor:
    """Open a file to read and write it; only to read it, where the disk is read-only.

    Raises OSError.
    """
    try:
        return Descriptor(os.open(path, os.O_RDWR | OPENING))
    except OSError as exc:
        if exc.errno != errno.EROFS:
            raise
    return Descriptor(os.open(path, os.O_RDONLY | OPENING))


def read_nowait(file: Descriptor, extent: Extent, name: Path) -> bytearray | None:
    """Return the bytes of `extent` if the page cache has them all, else None."""
    buffer = bytearray(extent.length)
    try:
        count = os.preadv(file.number, [buffer], extent.offset, os.RWF_NOWAIT)
    except OSError as exc:
        if exc.errno in _NOT_NOW:
            return None
        raise CacheError(f"cannot read {name}: {exc.strerror}") from exc
    return buffer if count == extent.length else None


def read_exactly(file: Descriptor, extent: Extent, name: Path) -> Bytes:
    """Return the bytes of `extent`. Raises CacheError, also when the file is shorter."""
    try:
        content = os.pread(file.number, extent.length, extent.offset)
    except OSError as exc:
        raise CacheError(f"cannot read {name}: {exc.strerror}") from exc
    if len(content) != extent.length:
        raise CacheError(f"{name} was cut short")
    return content


def write_fully(fd: int, content: bytes | memoryview, offset: int) -> None:
    """Write all of `content`. Raises OSError."""
    view = memoryview(content)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def make_hole(fd: int, start: int, length: int) -> None:
    """Give the disk back what whole pages of a file occupy. Raises OSError if it cannot."""
    fcntl.ioctl(fd, _UNRESVSP, _SPACE.pack(0, os.SEEK_SET, start, length, 0, 0))


def set_lock(fd: int, kind: int, start: int, length: int) -> bool:
    """Lock bytes of a file for this opening of it (fcntl(2), "open file description locks").

    `kind` is F_RDLCK, F_WRLCK or, to undo it, F_UNLCK. False if another opening has a lock
    in the way. The kernel releases it when the opening ends, however its process does.
    Raises OSError, also where the file system has no such locks.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, start, length, 0))
    except OSError as exc:
        if exc.errno in _TAKEN:
            return False
        raise
    return True


def try_lock(fd: int, start: int, length: int, *, exclusive: bool = True) -> bool:
    """Lock bytes as `set_lock` does, for those who can do without.

    True where the file system has no such locks. Raises OSError for anything else.
    """
    try:
        return set_lock(fd, fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK, start, length)
    except OSError as exc:
        if exc.errno in _NO_LOCKS:
            return True
        raise


def unlock(fd: int, start: int, length: int) -> None:
    """Undo `try_lock`. Never raises."""
    with suppress(OSError):
        set_lock(fd, fcntl.F_UNLCK, start, length)


@contextmanager
def locked(fd: int, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold the lock of a whole file. Raises OSError (EBUSY) if it cannot be had for seconds."""
    end_s = time.monotonic() + _PATIENCE_S
    while not try_lock(fd, 0, 0):
        if time.monotonic() > end_s:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        sleep(_POLL_S)
    try:
        yield
    finally:
        unlock(fd, 0, 0)


def remove_same(path: Path, status: os.stat_result) -> bool:
    """Remove the name of a file, unless it belongs to another file by now. Never raises.

    Tell whether it was this caller who removed it.
    """
    with suppress(OSError):
        if os.path.samestat(path.lstat(), status):
            path.unlink()
            return True
    return False


def cannot_write(exc: OSError | ValueError) -> CacheError:
    """Return what to raise when a new file or its content cannot be written."""
    reason = exc.strerror if isinstance(exc, OSError) else exc
    return CacheError(f"cannot write to the cache: {reason}")
