"""The processes that share a cache: a locked file each, which tells when one has died.

The file begins with the bytes that the process has reserved, for books that are made
anew, and goes on as a journal: it names the series that the process has used since it
last put its books in order. When it dies, those are the only ones whose books can be wrong.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    from collections.abc import Collection

_TRIES = 100
"""How often a new file may be taken for a dead process's before it is locked."""

_FIRST_LINE_BYTES = 20
"""Enough for any number of bytes; of fixed length, so that it can be written over."""

_JOURNAL_LINES = 4096
"""So many lines are written before the journal is cut back to what still matters."""


class Member:
    """This process's file. Not thread-safe. Raises OSError when it cannot be made."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path, self._fd = _make_locked(directory)
        self._lines = 0
        self._reserved = 0
        os.pwrite(self._fd, _first_line(0), 0)

    def reserve(self, size_bytes: int) -> None:
        """State what the process has reserved."""
        if size_bytes != self._reserved:
            self._reserved = size_bytes
            with suppress(OSError):
                os.pwrite(self._fd, _first_line(size_bytes), 0)

    @property
    def name(self) -> str:
        """Names the process among all that share the cache, now and later."""
        return self._path.name

    @property
    def is_there(self) -> bool:
        """Tell whether the file still lies where others look for it."""
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def note(self, series: SeriesUUID, in_use: Collection[SeriesUUID]) -> None:
        """Add a series to the journal; `in_use` are all that matter, with this one.

        A journal that cannot be written, on a full disk, is not worth a failed read: then
        nothing can be stored either, and the books stay right.
        """
        with suppress(OSError):
            if self._lines < _JOURNAL_LINES:
                os.pwrite(self._fd, _line(series), os.fstat(self._fd).st_size)
                self._lines += 1
                return
            # Killed in between, it still names all that matter, and some that do not.
            content = b"".join(map(_line, in_use))
            os.pwrite(self._fd, content, _FIRST_LINE_BYTES)
            os.ftruncate(self._fd, _FIRST_LINE_BYTES + len(content))
            self._lines = 0

    def leave(self) -> None:
        """Remove the file: the books are in order. Never raises."""
        with suppress(OSError):
            self._path.unlink()
        self.close()

    def close(self) -> None:
        """Let go of the file, as the death of the process would. Never raises."""
        # The number must not stay: the kernel gives it to the next file that is opened.
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(fd)


class DeadMember:
    """A process that died without leaving, and whose file we have locked now."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self.name = path.name

    def is_locked(self) -> bool:
        """Lock the file, and tell whether it is nobody's and still there."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except OSError:
            return False

    def series(self) -> list[SeriesUUID]:
        """Return the series whose books may be wrong."""
        content = os.pread(self._fd, os.fstat(self._fd).st_size, _FIRST_LINE_BYTES)
        return [
            SeriesUUID(line) for line in set(content.decode(errors="replace").split("\n")) if line
        ]

    def bury(self) -> None:
        """Remove its file: the books are in order again. Never raises."""
        with suppress(OSError):
            self._path.unlink()

    def close(self) -> None:
        """Let go of the file. Never raises."""
        with suppress(OSError):
            os.close(self._fd)


def find_dead(directory: Path) -> list[DeadMember]:
    """Find processes that have died. Each is locked, so that one process clears up for it."""
    found: list[DeadMember] = []
    # What cannot be looked into is left alone, and so is what is not a file.
    with suppress(OSError):
        for path in sorted(directory.iterdir()):
            with suppress(OSError):
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                dead = DeadMember(path, fd)
                if dead.is_locked():
                    found.append(dead)
                else:
                    dead.close()
    return found


def find_reserved(directory: Path) -> dict[str, int]:
    """Return what each process, dead or alive, says that it has reserved."""
    reserved: dict[str, int] = {}
    with suppress(OSError):
        for path in directory.iterdir():
            with suppress(OSError, ValueError), path.open("rb") as file:
                reserved[path.name] = int(file.read(_FIRST_LINE_BYTES))
    return reserved


def _first_line(reserved_bytes: int) -> bytes:
    return b"%0*d\n" % (_FIRST_LINE_BYTES - 1, reserved_bytes)


def _make_locked(directory: Path) -> tuple[Path, int]:
    for _ in range(_TRIES):
        fd, name = tempfile.mkstemp(dir=directory)
        path = Path(name)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return path, fd
        os.close(fd)
    raise OSError(f"cannot keep a file in {directory}")


def _line(series: SeriesUUID) -> bytes:
    return series.encode(errors="replace") + b"\n"
