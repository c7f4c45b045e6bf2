"""Who uses a series: locks that all processes see and the kernel drops at a process's death.

All series share one file; each is locked as one byte of it, at an offset made from its
UUID, so there is nothing to create or clear away. (Two series at one offset, a chance of
one in 10**10 with a million series, would only be locked together.) The locks belong to
the open file description (`F_OFD_SETLK`), so those of one process count against itself too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from idcfs.cache.files import set_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from idcfs.model import SeriesUUID


class SeriesLocks:
    """Shared locks for those who use a series, exclusive ones for who removes it. Thread-safe.

    Everything raises OSError until `open` has been called, and after `close`.
    """

    def __init__(self) -> None:
        # Two descriptions of one file: an eviction must see the uses of its own process.
        self._using = self._removing = -1
        self._excluded: set[SeriesUUID] = set()
        self._lock = threading.Lock()

    def open(self, path: Path) -> None:
        """Use this file from now on; locks in a former one are dropped. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        using = os.open(path, flags, 0o600)
        try:
            removing = os.open(path, flags, 0o600)
        except OSError:
            os.close(using)
            raise
        with self._lock:
            self.close()
            self._using, self._removing = using, removing
            self._excluded.clear()

    def share(self, series: SeriesUUID) -> bool:
        """Lock a series for use; False while it is being removed. Not counted."""
        return _set_lock(self._using, fcntl.F_RDLCK, series)

    def unshare(self, series: SeriesUUID) -> None:
        """Undo `share`. Never raises."""
        with suppress(OSError):
            _set_lock(self._using, fcntl.F_UNLCK, series)

    def exclude(self, series: SeriesUUID) -> bool:
        """Lock a series against use, if nobody uses it now. Never raises."""
        with self._lock, suppress(OSError):
            if series not in self._excluded and _set_lock(self._removing, fcntl.F_WRLCK, series):
                self._excluded.add(series)
                return True
        return False

    def readmit(self, series: SeriesUUID) -> None:
        """Undo `exclude`. Never raises."""
        with self._lock:
            self._excluded.discard(series)
            with suppress(OSError):
                _set_lock(self._removing, fcntl.F_UNLCK, series)

    @contextmanager
    def excluding(self, series: SeriesUUID) -> Iterator[bool]:
        """Lock a series against use for a block, and tell whether that was possible."""
        excluded = self.exclude(series)
        try:
            yield excluded
        finally:
            if excluded:
                self.readmit(series)

    def close(self) -> None:
        """Drop all locks, as the death of the process would. Never raises."""
        former = self._using, self._removing
        # No number of ours may stay: the kernel gives it to the next file that is opened.
        self._using = self._removing = -1
        for fd in former:
            with suppress(OSError):
                os.close(fd)


def _set_lock(fd: int, kind: int, series: SeriesUUID) -> bool:
    """Lock a series; False while it is locked otherwise.

    Raises OSError where there are no locks: nothing may be removed then, as nobody can tell
    who uses it.
    """
    if fd < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    digest = hashlib.blake2b(series.encode(errors="surrogateescape"), digest_size=8).digest()
    offset = int.from_bytes(digest) >> 2  # 62 bits, a valid offset everywhere
    return set_lock(fd, kind, offset, 1)
