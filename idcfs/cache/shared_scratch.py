"""One process's place in a cache directory that several hosts share: `shared/<its name>/`.

Where locks cannot be trusted, a process shows that it lives by the time stamp of a file
that it renews. All its unfinished files lie in a directory of its own, parts of large
objects too, which nobody else opens; what is whole gets its name by a rename. Who finds
a directory whose time stamp has grown old removes it. Should its owner live after all, on a
host that stood still, he fails to write, goes round the cache, and makes it anew.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
import shutil
import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from idcfs.cache.scratch import remove_quietly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARED = "shared"
"""The directory in the cache's, with one directory a process in it."""

ALIVE = "alive"
"""The file that shows by its time that a process lives, and says what it has taken."""

LEFT = "left"
"""The file that shows that a process has ended in order."""

_ODD_CHARACTERS = re.compile(r"[^A-Za-z0-9.]")
_HOST_CHARACTERS = 64


class SharedScratch:
    """A `ScratchSpace` for one process among those of several hosts. Thread-safe."""

    def __init__(self, root: Path) -> None:
        host = _ODD_CHARACTERS.sub("_", socket.gethostname())[:_HOST_CHARACTERS]
        self.process = f"{host}-{os.getpid()}-{secrets.token_hex(8)}"
        """Names this process among all that share the cache."""
        self.path = root / SHARED / self.process
        self.parts = self.path / "parts"
        """Where the parts of objects lie that are not whole yet, one directory a series."""
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        self._writing = threading.RLock()
        """Held for a partial file, apart: to sync one can take longer than a sign of life may."""
        self._taken_bytes = 0
        self._closed = False

    @contextmanager
    def locked(self, fd: int) -> Iterator[None]:
        """Keep other threads out of a partial file: no other process opens what is ours."""
        with self._writing:
            yield

    def prepare(self) -> None:
        """Join those who share the directory. Raises OSError."""
        self.state(0, 0)

    def state(self, taken_bytes: int, written_bytes: int) -> None:
        """Tell the others that this process lives, what it has taken, and written of that.

        Raises OSError.
        """
        with self._lock:
            if self._closed:
                return
            self._taken_bytes = taken_bytes
            unfinished, fd = self.create()
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(b"%d %d\n" % (taken_bytes, written_bytes))
                unfinished.rename(self.path / ALIVE)
            except OSError:
                remove_quietly(unfinished)
                raise

    def create(self) -> tuple[Path, int]:
        """See `ScratchSpace.create`."""
        path = self.name()
        return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def name(self) -> Path:
        """See `ScratchSpace.name`."""
        if not self._closed:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.path / str(next(self._numbers))

    def flush(self, fd: int) -> None:
        """See `ScratchSpace.flush`: other hosts see what the server has."""
        os.fsync(fd)

    def close(self) -> None:
        """Remove what is unfinished. What was taken stays said, until it is counted."""
        with self._lock:
            self._closed = True
            if not self._taken_bytes:
                shutil.rmtree(self.path, ignore_errors=True)
                return
            shutil.rmtree(self.parts, ignore_errors=True)
            with suppress(OSError):
                for path in self.path.iterdir():
                    if path.name != ALIVE:
                        remove_quietly(path)
                (self.path / LEFT).touch(mode=0o600)
