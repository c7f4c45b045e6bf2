"""What is in a cache that several hosts share, as far as it was counted, and what came since.

Each process says how many bytes it has taken in all its life (`shared/<process>/alive`). Who
counts the files of the cache writes down (`shared/census`) how much there was, and what
each process had said to have written before he began. The sum of the count and of what was
taken since is never less than what is there, but for what a file system is slow to show.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idcfs.cache.inventory import ST_BLOCK_BYTES
from idcfs.cache.scratch import move
from idcfs.cache.shared_scratch import ALIVE, LEFT, SHARED

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.cache.shared_scratch import SharedScratch

CENSUS = "census"
_NOTES = frozenset({CENSUS, ALIVE, LEFT})

_LIMIT_BYTES = 1 << 24
"""What is read at most of a file that claims to be a census."""


@dataclass(frozen=True, slots=True)
class Member:
    """A process that shares the cache, or did."""

    name: str
    taken_bytes: int
    """What it may have written in all its life, at most."""
    written_bytes: int
    """What it had certainly written of that."""
    alive_s: float
    """When it last showed that it lives, by the clock of the file's server."""
    has_left: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """What was counted."""

    size_bytes: int
    said: dict[str, int] = field(default_factory=dict)
    """What each process had written when the count began."""

    def with_all(self, members: list[Member]) -> int:
        """Return what may be there by now."""
        return self.size_bytes + sum(
            each.taken_bytes - self.said.get(each.name, 0) for each in members
        )


def read_census(root: Path) -> Census | None:
    """Return the last count; None if there is none of use."""
    try:
        with (root / SHARED / CENSUS).open("rb") as file:
            found = json.loads(file.read(_LIMIT_BYTES))
        said = {str(name): int(taken) for name, taken in found["said"].items()}
        return Census(int(found["bytes"]), said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_census(root: Path, census: Census, scratch: SharedScratch) -> None:
    """Let everybody know of a count. Raises OSError."""
    path, fd = scratch.create()
    with os.fdopen(fd, "w", encoding="ascii") as file:
        json.dump({"bytes": census.size_bytes, "said": census.said}, file)
        file.flush()
        scratch.flush(fd)
    move(path, root / SHARED / CENSUS)


def forget_census(root: Path) -> None:
    """Have the next who needs a count make one. Never raises."""
    with suppress(OSError):
        (root / SHARED / CENSUS).unlink()


def find_members(root: Path) -> list[Member]:
    """Find the processes that share the cache, or did until they were last counted."""
    found: list[Member] = []
    with suppress(OSError):
        for path in (root / SHARED).iterdir():
            with suppress(OSError, ValueError):
                alive = path / ALIVE
                taken, written = map(int, alive.read_text("ascii").split())
                left = (path / LEFT).exists()
                found.append(Member(path.name, taken, written, alive.stat().st_mtime, left))
    return found


def occupied_bytes(directory: Path) -> int:
    """Return what the files below a directory occupy, but for what this module writes."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and path.name not in _NOTES:
                total += status.st_blocks * ST_BLOCK_BYTES
    return total


def remove_member(root: Path, name: str) -> None:
    """Remove the directory of a process that has gone. Never raises."""
    shutil.rmtree(root / SHARED / name, ignore_errors=True)
