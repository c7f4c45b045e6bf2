"""That there was no room just now, for those who will not wait for any."""

from __future__ import annotations

import time

from idcfs.errors import CacheError

_VALID_S = 0.5
"""To find out again takes milliseconds, and readers of a full cache ask for each file."""


class Refusal:
    """The last refusal of room. In any thread: at worst, one is overlooked."""

    def __init__(self) -> None:
        self._last = (0.0, 0, "")
        """Until when it is valid, on the monotonic clock, for how many bytes, and why."""

    def note(self, needed: int, why: str) -> CacheError:
        """Return what to raise, and remember it."""
        self._last = (time.monotonic() + _VALID_S, needed, why)
        return CacheError(why)

    def repeat(self, needed: int) -> None:
        """Raise CacheError if so much was refused just now."""
        until_s, refused_bytes, why = self._last
        if needed >= refused_bytes and time.monotonic() < until_s:
            raise CacheError(why)
