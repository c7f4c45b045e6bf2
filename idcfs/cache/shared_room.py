"""The room that this process has taken in a cache that several hosts share."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.model import SeriesUUID


class SharedRoom:
    """Bytes that this process has said it takes, and may write. Thread-safe, never blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free = self._outstanding = self._taken = 0
        self._idle = True

    def take(self, size_bytes: int) -> SharedReservation | None:
        """Take some of the room, if it is there."""
        with self._lock:
            self._idle = False
            if size_bytes > self._free:
                return None
            self._free -= size_bytes
            self._outstanding += size_bytes
            return SharedReservation(self, size_bytes)

    def enlarge(self, granted_bytes: int, size_bytes: int) -> SharedReservation:
        """Add what was found to fit, and take some of it in the same instant."""
        with self._lock:
            self._taken += granted_bytes
            self._free += granted_bytes - size_bytes
            self._outstanding += size_bytes
            return SharedReservation(self, size_bytes)

    def give_back(self) -> None:
        """Take no more than what is written, or being written."""
        with self._lock:
            self._give_back()

    def give_back_if_idle(self) -> None:
        """The same, if nobody has wanted room since this was last called."""
        with self._lock:
            if self._idle and not self._outstanding:
                self._give_back()
            self._idle = True

    def figures(self) -> tuple[int, int]:
        """Return the bytes that are taken, and those of them that are certainly written."""
        with self._lock:
            return self._taken, self._taken - self._free - self._outstanding

    def settle(self, reserved_bytes: int, stored_bytes: int) -> None:
        """End a reservation of which so much was stored."""
        with self._lock:
            self._outstanding -= reserved_bytes
            self._free += reserved_bytes - stored_bytes

    def _give_back(self) -> None:
        self._taken -= self._free
        self._free = 0


class SharedReservation:
    """A `Reservation` out of a `SharedRoom`."""

    __slots__ = ("_reserved", "_room")

    def __init__(self, room: SharedRoom, size_bytes: int) -> None:
        self._room = room
        self._reserved: int | None = size_bytes

    def settle(self, series: SeriesUUID, stored_bytes: int, new_files: int = 0) -> None:
        """See `Reservation.settle`."""
        self._end(stored_bytes)

    def release(self) -> None:
        """See `Reservation.release`."""
        self._end(0)

    def _end(self, stored_bytes: int) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            self._room.settle(reserved, stored_bytes)
