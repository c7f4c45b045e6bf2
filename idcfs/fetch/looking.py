"""Waits on the loop for bytes that a quick disk is about to bring into the page cache."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import Bytes

_LOOKING_S = 300e-6
"""What is not there by then is left to a thread. A disk without moving parts takes 50 to 150 µs
for a page, and changing to a thread and back as long again; a disk with them takes milliseconds."""

_AT_ONCE = 8
"""So many may look at once: each turn of the loop, which others wait for, looks for all of them,
and a look takes some 5 µs."""

_MOST_HOPE = 16
_REST = 64
"""When looking has been in vain too often, one read in so many still tries."""


class Looks:
    """Looks for bytes again and again while other tasks run, where that pays.

    Whoever looked for them with `preadv2(RWF_NOWAIT)` has thereby begun to have them read, since
    Linux 5.12. One for each disk. On the trio thread.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._hope = _MOST_HOPE
        """Rises with each success and sinks with each failure: at zero most of them have failed,
        because the disk is slow, busy or far away, or its file system cannot be asked so."""
        self._looking = 0
        self._rested = 0

    async def find(self, look: Callable[[], Bytes | None]) -> Bytes | None:
        """Return what `look` returns, or None soon, if it goes on to return None.

        It is called once at least. Raises what it raises.
        """
        if self._looking >= _AT_ONCE or not self._is_worth_it():
            return look()
        end_s = self._clock() + _LOOKING_S
        self._looking += 1
        try:
            while True:
                await trio.lowlevel.cancel_shielded_checkpoint()
                if (found := look()) is not None:
                    self._hope = min(self._hope + 1, _MOST_HOPE)
                    return found
                if self._clock() >= end_s:
                    self._hope = max(self._hope - 1, 0)
                    return None
        finally:
            self._looking -= 1

    def _is_worth_it(self) -> bool:
        if self._hope:
            return True
        self._rested = (self._rested + 1) % _REST
        return not self._rested
