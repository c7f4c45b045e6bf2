"""Whether the disk can hold what is to be fetched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_OVERHEAD_BYTES = 4096
"""A file takes whole blocks, and a directory entry: so much more than its length."""


@dataclass(frozen=True, slots=True)
class Space:
    """What a prefetch needs and what there is, in bytes."""

    needed_bytes: int
    free_bytes: int

    @property
    def suffices(self) -> bool:
        """Tell whether it fits."""
        return self.needed_bytes <= self.free_bytes


def measure(
    place: Path, *, size_bytes: int, file_count: int, present: Callable[[], Iterator[int]]
) -> Space:
    """Compare a selection's size with the free space at `place`, which may not exist yet.

    What is there already, which `present` tells roughly, series by series, is only
    asked for if it decides: that touches every directory. Blocks; raises OSError.
    """
    existing = next(each for each in (place, *place.parents) if each.exists())
    free = shutil.disk_usage(existing).free
    needed = size_bytes + file_count * _OVERHEAD_BYTES
    if needed > free:
        for present_bytes in present():
            needed -= present_bytes
            if needed <= free:
                break
    return Space(max(needed, 0), free)
