"""Where files live until they are whole.

Every process has a scratch directory of its own and holds a lock on it. Whoever
opens the cache removes scratch directories whose lock nobody holds: the leavings
of processes that were killed.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_LOCK = "lock"
_TRIES = 100
"""How often others may come between: a directory be taken for abandoned before its lock is
held, or removed as empty before a file is moved into it. Each time needs another process
in the same instant."""


class ScratchSpace(Protocol):
    """Room for the unfinished files of one process. Thread-safe."""

    path: Path

    def prepare(self) -> None:
        """Make it, and remove what killed processes left. Raises OSError."""
        ...

    def create(self) -> tuple[Path, int]:
        """Make a new file and return its path and a descriptor to read and write it.

        Makes the directory anew if somebody cleared the cache meanwhile. Raises OSError.
        """
        ...

    def name(self) -> Path:
        """Return a path for a new file. Raises OSError if there is no directory for it."""
        ...

    def flush(self, fd: int) -> None:
        """Have what was written be seen by all who find the file's name. Raises OSError."""
        ...

    def close(self) -> None:
        """Remove what is unfinished. Never raises; may be called again."""
        ...


class Scratch:
    """A `ScratchSpace` for one process of one host, removed with it. Thread-safe.

    Made when it is first needed, so that a cache on a disk that is full or read-only can
    still be read, and be written once that has passed.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._numbers = itertools.count()
        self._renewing = threading.Lock()
        self._closed = False
        self._lock_fd: int | None = None
        self.path = parent / "none"

    def prepare(self) -> None:
        """See `ScratchSpace.prepare`."""
        self._renew()
        remove_abandoned(self._parent)

    def create(self) -> tuple[Path, int]:
        """See `ScratchSpace.create`."""
        try:
            return self._create()
        except FileNotFoundError:
            self._renew()
            return self._create()

    def name(self) -> Path:
        """See `ScratchSpace.name`."""
        if not self.path.exists():
            self._renew()
        return self.path / str(next(self._numbers))

    def flush(self, fd: int) -> None:
        """See `ScratchSpace.flush`: the kernel shows it to all processes as it is."""

    def close(self) -> None:
        """See `ScratchSpace.close`."""
        with self._renewing:
            self._closed = True
            if self._lock_fd is not None:
                shutil.rmtree(self.path, ignore_errors=True)
                with suppress(OSError):
                    os.close(self._lock_fd)
                self._lock_fd = None

    def _create(self) -> tuple[Path, int]:
        path = self.path / str(next(self._numbers))
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def _renew(self) -> None:
        with self._renewing:
            if self._closed or self.path.exists():
                return
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            former = self._lock_fd
            self.path, self._lock_fd = _make_locked(self._parent)
            if former is not None:
                os.close(former)


def move(source: Path, target: Path) -> None:
    """Rename a finished file to where it belongs, whose directory may not exist. Raises OSError."""
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            source.rename(target)
            return
        # An eviction may remove the directory just as it has been made.
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    source.rename(target)


def remove_quietly(path: Path) -> None:
    """Remove a file if that is possible."""
    with suppress(OSError):
        path.unlink()


def _make_locked(parent: Path) -> tuple[Path, int]:
    """Make a directory, lock it, and make sure that nobody removed it before it was locked."""
    for _ in range(_TRIES):
        made = Path(tempfile.mkdtemp(dir=parent))
        lock_fd = _lock(made, fcntl.LOCK_EX)
        if lock_fd is not None:
            return made, lock_fd
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(parent))


def remove_abandoned(parent: Path) -> None:
    """Remove the scratch directories of processes that have died. Raises OSError."""
    for directory in parent.iterdir():
        # Anything that cannot be looked into is left alone.
        with suppress(OSError):
            lock_fd = _lock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock_fd is not None:
                shutil.rmtree(directory, ignore_errors=True)
                os.close(lock_fd)


def _lock(directory: Path, how: int) -> int | None:
    """Lock a scratch directory; None if it is gone by the time that the lock is held.

    The lock is a file, as NFS cannot lock a directory. A directory without one belongs to
    a process that is just making it, or was killed then: so it is made here if need be,
    and both sides look whether the file they locked is still there.
    """
    path = directory / _LOCK
    try:
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, how)
        if os.path.samestat(os.fstat(fd), path.stat()):
            return fd
    except FileNotFoundError:
        pass
    except OSError:
        os.close(fd)
        raise
    os.close(fd)
    return None
