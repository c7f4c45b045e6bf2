"""Paths that stand for what a process has open already, such as /dev/stdout.

To replace the file behind one, or to empty it, would destroy what `>>` keeps.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_DIRECTORY = re.compile(r"/proc/([0-9]+)(?:/task/[0-9]+)?/fd")

_MOST_LINKS = 40
"""As many as Linux follows."""


def names_descriptor(path: Path) -> bool:
    """Tell whether a path leads to a descriptor of a process, this one or another."""
    return _find(path) is not None


def open_descriptor(path: Path) -> int:
    """Return a new descriptor to write to what such a path stands for. Raises OSError.

    One of this process's shares its place in the file with the old one, so that neither writes
    over the other; another's is appended to.
    """
    found = _find(path)
    if found is not None and found[0] == os.getpid():
        return os.dup(found[1])
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)


def _find(path: Path) -> tuple[int, int] | None:
    """Return process and number."""
    place = path.absolute()
    for _ in range(_MOST_LINKS):
        place = Path(os.path.realpath(place.parent), place.name)
        if (match := _DIRECTORY.fullmatch(str(place.parent))) and place.name.isdecimal():
            return int(match[1]), int(place.name)
        try:
            place = place.parent / place.readlink()
        except OSError:  # it is no link, or there is nothing
            return None
    return None
