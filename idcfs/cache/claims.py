"""Who fetches what, among all processes that share a cache.

A claim is a lock on bytes of one file that never holds any: each object has a range of
byte numbers, derived from its name, and in it one byte for each unit. The kernel drops a
process's locks when it dies, so no claim outlives its holder and nothing is left to clean.
"""

from __future__ import annotations

import hashlib
import os
import threading
from typing import TYPE_CHECKING

from idcfs.cache.files import try_lock, unlock

if TYPE_CHECKING:
    from pathlib import Path

_UNIT_BITS = 24
"""16 million units of 1 MiB are 16 TiB: more than any object has."""

_OBJECT_BITS = 62 - _UNIT_BITS
"""A file offset has 63 bits. Two objects that share a number wait for one another now and
then: with a thousand transfers at once, one time in 500,000."""


class Claims:
    """The claims of one process on the units of objects. Thread-safe.

    Where the directory takes no locks, or there is no path for them, only this process is
    asked: two may then fetch the same bytes, which costs time only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._mutex = threading.Lock()
        self._held: set[tuple[int, int]] = set()
        self._fd: int | None = None

    def claim(self, name: str, first: int, count: int) -> int:
        """Claim `count` units of an object from `first` on, or as many as are free there.

        Return how many that are: 0 when somebody has the first. All that one call
        claimed must be released together.
        """
        base = _base(name)
        with self._mutex:
            free = 0
            while free < count and (base, first + free) not in self._held:
                free += 1
            if not free:
                return 0
            granted = self._lock(base + first, free)
            self._held.update((base, first + number) for number in range(granted))
            return granted

    def release(self, name: str, first: int, count: int) -> None:
        """Give up what `claim` granted. Never raises."""
        base = _base(name)
        with self._mutex:
            self._held.difference_update((base, first + number) for number in range(count))
            if self._fd is not None:
                unlock(self._fd, base + first, count)

    def close(self) -> None:
        """Give up everything. Never raises."""
        with self._mutex:
            fd, self._fd = self._fd, None
            self._held.clear()
            if fd is not None:
                os.close(fd)

    def _lock(self, start: int, count: int) -> int:
        """Lock `count` bytes, or the first alone; return how many that are."""
        if self._path is None:
            return count
        try:
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if try_lock(self._fd, start, count):
                return count
            return 1 if count > 1 and try_lock(self._fd, start, 1) else 0
        except OSError:
            return count


def _base(name: str) -> int:
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return (int.from_bytes(digest, "big") & ((1 << _OBJECT_BITS) - 1)) << _UNIT_BITS
