"""Tells whether one thread may wait for a disk on behalf of many, by how quick it was."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_QUICK_FILE_S: Final = 0.001
"""A local disk takes 0.1 to 0.3 ms to make, lock and rename a file. On a network each of these is
a round trip: where one takes 1 ms, the trio thread alone brings 140 files a second, and 16 threads
bring 1,000."""

_QUICK_BYTES_PER_S: Final = 500e6
"""What the system takes in before it writes it down comes to 2 GB a second and more."""

_SAMPLE_FILES: Final = 16

_SLOW_FOR_S: Final = 60.0
"""Then another sample shows whether the disk had only been behind."""


class DiskPace:
    """Tells whether one thread may wait for the disk of each file. For one thread."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files = 0
        self._quickest = math.inf
        self._slow_until_s = -math.inf

    @property
    def is_quick(self) -> bool:
        """Whether nothing else is known."""
        return self._clock() >= self._slow_until_s

    def note(self, waited_s: float, size_bytes: int) -> None:
        """Count a file for which the disk took so long."""
        # The quickest counts: of others it may have been threads that were waited for.
        share = waited_s / (_QUICK_FILE_S + size_bytes / _QUICK_BYTES_PER_S)
        self._quickest = min(self._quickest, share)
        self._files += 1
        if self._files == _SAMPLE_FILES:
            if self._quickest > 1:
                self._slow_until_s = self._clock() + _SLOW_FOR_S
            self._files, self._quickest = 0, math.inf
