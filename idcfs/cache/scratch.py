"""Where files live until they are whole.

Every process has a scratch directory of its own and holds a lock on it. Whoever
opens the cache removes scratch directories whose lock nobody holds any more: the
leavings of processes that were killed.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from pathlib import Path

_LOCK = "lock"
_UNLOCKED = ".new-"


class Scratch:
    """A directory for unfinished files, removed with its process.

    Raises OSError when the directory cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_abandoned(parent)
        # Made under a name that the clean-up of another process passes over, and
        # renamed once the lock is held: never seen without its lock.
        made = Path(tempfile.mkdtemp(prefix=_UNLOCKED, dir=parent))
        self._lock_fd = os.open(made / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        self.path = made.rename(parent / made.name.removeprefix(_UNLOCKED))
        self._numbers = itertools.count()

    def new_path(self) -> Path:
        """Return a path in the scratch directory that no file has yet."""
        return self.path / str(next(self._numbers))

    def close(self) -> None:
        """Remove the directory and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def _remove_abandoned(parent: Path) -> None:
    for directory in parent.iterdir():
        if directory.name.startswith(_UNLOCKED):
            continue
        try:
            fd = os.open(directory / _LOCK, os.O_RDWR)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(fd)
