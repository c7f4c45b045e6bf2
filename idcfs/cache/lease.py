"""A right that one process at a time has, among all hosts: a file made with `O_EXCL`.

Its holder renews the file's time. Who finds it grown old takes it over, by renaming it away
and making a new one. Two who do that in the same instant may both believe to hold it, until
they look again; so a lease must only guard what does no harm when two do it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache.scratch import remove_quietly
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Lease:
    """A lease on the file at `path`, for the process of that name. One thread at a time.

    `now_s` gives the time by the clock of the file's server, `stale_s` is how old an
    unrenewed lease must be to be taken over.
    """

    def __init__(
        self, path: Path, process: str, *, now_s: Callable[[], float], stale_s: float
    ) -> None:
        self._path = path
        self._process = process.encode()
        self._now_s = now_s
        self._stale_s = stale_s
        self._renewed_s = 0.0

    def take(self) -> bool:
        """Take the lease if nobody holds it, or who did is dead. Raises CacheError."""
        try:
            return self._make() or (self._put_aside_stale() and self._make())
        except OSError as exc:
            raise CacheError(f"cannot use {self._path}: {exc.strerror}") from exc

    def renew(self) -> bool:
        """Show that its holder lives, and tell whether that is this process still."""
        now_s = self._now_s()
        if now_s - self._renewed_s < self._stale_s / 10:
            return True
        self._renewed_s = now_s
        try:
            if self._path.read_bytes() != self._process:
                return False
            os.utime(self._path)
        except OSError:
            return False
        return True

    def give_up(self) -> None:
        """Let others have it. Never raises."""
        with suppress(OSError):
            if self._path.read_bytes() == self._process:
                self._path.unlink()

    def _make(self) -> bool:
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return False
        with os.fdopen(fd, "wb") as file:
            file.write(self._process)
        self._renewed_s = self._now_s()
        return True

    def _put_aside_stale(self) -> bool:
        """Take away a lease that its holder does not renew; tell whether it is gone."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        if self._now_s() - found.st_mtime < self._stale_s:
            return False
        aside = self._path.with_name(f"{self._path.name}-{self._process.decode()}")
        try:
            self._path.rename(aside)
        except FileNotFoundError:
            return True
        # Somebody may have taken it over just before: then it is his, and goes back.
        if aside.stat().st_ino != found.st_ino:
            with suppress(OSError):
                os.link(aside, self._path)
            remove_quietly(aside)
            return False
        remove_quietly(aside)
        return True
