"""The room that this process has taken from the shared books, and what it has done with it.

`free` + `outstanding` + what was stored since the books were last written is always what
the books say this process has taken; so nothing here can exceed the limit.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache.limits import Disk, Limits
    from idcfs.cache.uses import Uses
    from idcfs.model import SeriesUUID

BLOCK_BYTES = 4096
"""What files are rounded up to, on most file systems."""


PIECE_BYTES = 64 << 20
"""Room is taken in pieces of this size: at 1 GB/s that is 16 transactions a second."""

PIECE_SHARE = 64
"""On a small disk or under a small limit, the piece is this part of it: sixteen idle
processes keep a quarter to themselves, for some seconds."""


def piece_bytes(limits: Limits, disk: Disk) -> int:
    """Return how much room is taken at once."""
    smaller = disk.size_bytes if limits.size_bytes is None else limits.size_bytes
    return min(PIECE_BYTES, smaller // PIECE_SHARE)


def stored_bytes(size_bytes: int) -> int:
    """Return what so many bytes of a file occupy."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def needed_bytes(size_bytes: int) -> int:
    """Return what a file of so many bytes may occupy, with a block for what describes it."""
    return stored_bytes(size_bytes) + BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class Changes:
    """What the books do not know yet, taken out of a `Room` to be written."""

    stored: dict[SeriesUUID, tuple[int, int]]
    """Bytes and files of each series, more or less than before."""
    reserved_bytes: int
    """What this process keeps, after that."""
    given_back_bytes: int


class Room:
    """Bytes that may be written without asking anyone. Thread-safe, never blocks.

    `changed` is called when there is something to write into the books.
    """

    def __init__(self, uses: Uses, changed: Callable[[], None]) -> None:
        self._uses = uses
        self._changed = changed
        self._lock = threading.Lock()
        self._free = 0
        self._outstanding = 0
        self._stored: dict[SeriesUUID, tuple[int, int]] = {}
        self._idle = True

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is kept and nothing is to be written."""
        return not (self._free or self._outstanding or self._stored)

    def take(self, size_bytes: int) -> RoomReservation | None:
        """Take some of the room, if it is there."""
        with self._lock:
            if size_bytes > self._free:
                return None
            self._free -= size_bytes
            return self._reservation(size_bytes)

    def enlarge(self, granted_bytes: int, size_bytes: int) -> RoomReservation:
        """Add what the books have granted, and take some of it in the same instant."""
        with self._lock:
            self._free += granted_bytes - size_bytes
            return self._reservation(size_bytes)

    def take_changes(self, *, give_back: bool = False) -> Changes:
        """Take out what is to be written; with it the free room, if asked or long unused."""
        with self._lock:
            give_back = give_back or (self._idle and not self._outstanding)
            given_back = self._free if give_back else 0
            self._free -= given_back
            stored, self._stored = self._stored, {}
            self._idle = True
            return Changes(stored, max(self._free + self._outstanding, 0), given_back)

    def put_back(self, changes: Changes) -> None:
        """Undo `take_changes`, as the books could not be written."""
        with self._lock:
            self._free += changes.given_back_bytes
            for series, (size_bytes, files) in changes.stored.items():
                if series in self._stored:
                    self._uses.let_go(series)  # each keeps it locked; one is enough
                self._add(series, size_bytes, files)

    def settle(
        self, reserved_bytes: int, series: SeriesUUID, stored_bytes: int, files: int
    ) -> None:
        """End a reservation of which something was stored."""
        with self._lock:
            self._outstanding -= reserved_bytes
            self._free += reserved_bytes - stored_bytes
            self._store(series, stored_bytes, files)
        self._changed()

    def release(self, reserved_bytes: int) -> None:
        """End a reservation of which nothing was stored."""
        with self._lock:
            self._outstanding -= reserved_bytes
            self._free += reserved_bytes
        self._changed()

    def drop(self, series: SeriesUUID, size_bytes: int, files: int) -> None:
        """Note that something stored has gone."""
        with self._lock:
            self._store(series, -size_bytes, -files)
        self._changed()

    def _reservation(self, size_bytes: int) -> RoomReservation:
        self._outstanding += size_bytes
        self._idle = False
        return RoomReservation(self, size_bytes)

    def _store(self, series: SeriesUUID, size_bytes: int, files: int) -> None:
        if series not in self._stored:
            # Whoever has it to himself must find its books right.
            self._uses.hold_on(series)
        self._add(series, size_bytes, files)

    def _add(self, series: SeriesUUID, size_bytes: int, files: int) -> None:
        bytes_before, files_before = self._stored.get(series, (0, 0))
        self._stored[series] = (bytes_before + size_bytes, files_before + files)


class RoomReservation:
    """A `Reservation` out of a `Room`."""

    __slots__ = ("_reserved", "_room")

    def __init__(self, room: Room, size_bytes: int) -> None:
        self._room = room
        self._reserved: int | None = size_bytes

    def settle(self, series: SeriesUUID, stored_bytes: int, new_files: int = 0) -> None:
        """See `Reservation.settle`."""
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            self._room.settle(reserved, series, stored_bytes, new_files)

    def release(self) -> None:
        """See `Reservation.release`."""
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            self._room.release(reserved)
