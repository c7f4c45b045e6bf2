"""What is known of directories and series, so that it is not asked of the disk for each file.

Of a small file each call to the system costs about as much as what it does, since other threads
wait for it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import SeriesUUID

_REMEMBERED = 1000
"""Series, and directories, of which something is known: more than are under way at once."""


class Remembered:
    """Remembers what was found of the last series asked about. Any thread.

    May be wrong by then, so only for what does no harm.
    """

    def __init__(self, find: Callable[[SeriesUUID], bool]) -> None:
        self._find = find
        self._known: dict[SeriesUUID, bool] = {}

    def __call__(self, series: SeriesUUID) -> bool:
        """Return what was found of it, or find it now."""
        if (known := self._known.get(series)) is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[series] = self._find(series)
        return known


class Directories:
    """Makes directories, each once, and remembers those in which nothing was. Any thread."""

    def __init__(self) -> None:
        self._are_new: dict[str, bool] = {}

    def make(self, path: str) -> bool:
        """Have a directory, and tell whether it was made here. Raises OSError."""
        is_new = self._are_new.get(path)
        if is_new is None:
            if len(self._are_new) >= _REMEMBERED:
                self._are_new.clear()
            is_new = _make(path)
            # Of two threads the one that made it is right, whoever is first here.
            is_new = self._are_new[path] = is_new or self._are_new.get(path, False)
        return is_new

    def forget(self, path: str) -> None:
        """Make it anew the next time."""
        self._are_new.pop(path, None)


def _make(path: str) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(path, exist_ok=True)
    return True
