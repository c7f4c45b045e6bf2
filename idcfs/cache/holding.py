"""What this process holds of one object now: how it is found, added to, and let go of.

A small object that comes in one piece is written to a scratch file. What comes in several,
in aligned units, goes into a partial file that every process shares and that survives them
all; it moves under the object's name when the last unit is there and the content has been
checked.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache import units as sizes
from idcfs.cache.blocks import Blocks
from idcfs.cache.files import cannot_write, read_exactly, remove_same
from idcfs.cache.held import Held, find_held, held_part
from idcfs.cache.inventory import ST_BLOCK_BYTES
from idcfs.cache.partial import begin_partial, table_bytes, take_apart
from idcfs.cache.room import stored_bytes
from idcfs.cache.scratch import move
from idcfs.cache.sums import keep_sums
from idcfs.cache.units import is_small, units
from idcfs.errors import CacheError

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from idcfs.cache.held import Services
    from idcfs.cache.paths import Paths
    from idcfs.cache.transfers import Transfers
    from idcfs.cache.writers import UnitWriter
    from idcfs.model import Extent, ObjectRef


class Holding:
    """What is held of one object, which other processes may add to. Any thread.

    `lock` is held while that changes, but never while waiting for another process or for more
    of the disk than it takes to open, rename or unlink a file and to write a table: the event
    loop may wait for it. Whoever lets go of the file lets go of all `transfers` into it.
    """

    def __init__(
        self,
        ref: ObjectRef,
        paths: Paths,
        services: Services,
        lock: threading.RLock,
        transfers: Transfers,
    ) -> None:
        """See what there is. Raises CacheError."""
        self._ref = ref
        self._size = ref.instance.size_bytes
        self._paths = paths
        self._path = paths.whole
        self._services = services
        self._lock = lock
        self._transfers = transfers
        self._is_open = True
        self.held: Held | None = find_held(ref, paths, services)
        """For others to read; it may be another one the next time."""

    def missing(self, extent: Extent) -> list[Extent]:
        """See `CachedObject.missing`."""
        held = self.held
        if held is None:
            return units(self._size, extent)
        if held.partial is None or held.blocks.has(extent):
            return []
        return [unit for unit in units(self._size, extent) if not held.blocks.has(unit)]

    def refresh(self, extent: Extent) -> None:
        """See what other processes have stored meanwhile. Raises CacheError."""
        with self._lock:
            if not self._is_open:
                raise CacheError(f"{self._path} has been closed")
            held = self.held
            if held is None:
                self.held = find_held(self._ref, self._paths, self._services)
            elif held.partial is not None:
                try:
                    if not held.partial.refresh(held.blocks.numbers(extent)):
                        self.held = find_held(self._ref, self._paths, self._services)
                except OSError as exc:
                    raise CacheError(f"cannot read {self._path}: {exc.strerror}") from exc

    # Adding to it

    def begin_partial(self, *, waits_for_room: bool) -> None:
        """Have a partial file to write to, if nothing is held. Raises CacheError."""
        if self.held is not None:
            return
        reservation = self._services.ledger.reserve(table_bytes(self._size), waits=waits_for_room)
        try:
            with self._lock:
                if self.held is None:
                    self.held = held_part(self._paths, begin_partial(self._paths, self._size))
                    reservation.settle(self._ref.series, table_bytes(self._size), 1)
        except (OSError, ValueError) as exc:
            raise cannot_write(exc) from exc
        finally:
            reservation.release()

    def store(self, writer: UnitWriter) -> int:
        """Count what a writer wrote as stored; return what that takes of the disk.

        Raises CacheError when a discard came between, and OSError.
        """
        with self._lock:
            if writer not in self._transfers:
                raise CacheError(f"{self._path} was dropped while it was being written")
            kept_bytes = 0
            if writer.own_path is not None:
                kept_bytes = self._store_whole(writer, writer.own_path)
            else:
                self._store_part(writer)
        return stored_bytes(writer.extent.length) + kept_bytes

    def _store_whole(self, writer: UnitWriter, unfinished: Path) -> int:
        """Give a file its final name; return what its checksums take of the disk."""
        blocks = Blocks(self._size, sizes.BLOCK_BYTES)
        for number, checksum in enumerate(writer.sums):
            blocks.note_stored(number, checksum, verified=True)
        kept_bytes = keep_sums(writer.file, blocks, self._paths, self._services.scratch)
        self._services.scratch.flush(writer.file.number)
        move(unfinished, self._path)
        writer.is_moved = True
        former, self.held = self.held, Held(self._path, writer.file, blocks)
        if former is not None and former.partial is not None:
            # Begun by somebody who had waited for us for too long.
            self._remove(former)
        return kept_bytes

    def _store_part(self, writer: UnitWriter) -> None:
        held = self.held
        try:
            if held is None or held.partial is None or held.file is not writer.file:
                raise CacheError(f"{self._path} was dropped while it was being written")
            first = held.blocks.numbers(writer.extent).start
            held.partial.record(first, writer.sums, verified=writer.claimed_units > 0)
        except CacheError:
            # Another process may have stored the same and completed the object with it.
            self.held = find_held(self._ref, self._paths, self._services)
            if self.missing(writer.extent):
                raise

    def replace(self, former: Held, held: Held | None) -> None:
        """Have `held` take the place of what was; None has its file removed. The lock is held."""
        is_current = self.held is former  # neither closed nor begun anew meanwhile
        if held is None:
            self._remove(former)
            if is_current:
                self._forget()
        elif is_current:
            self.held = held

    # Letting go

    def discard(self, extent: Extent) -> None:
        """See `CachedObject.discard`."""
        with self._lock:
            held = self.held
            if held is None:
                return
            if held.partial is None:
                if not self._take_apart(held, extent):
                    self._drop(held)
                return
            try:
                held.partial.clear(held.blocks.numbers(extent))
            except (OSError, CacheError):
                self._drop(held)

    def close(self) -> bool:
        """Let go of the file for good. Tell whether that had not been done before."""
        with self._lock:
            self._forget()
            was_open, self._is_open = self._is_open, False
        return was_open

    def _take_apart(self, held: Held, extent: Extent) -> bool:
        """Keep the good blocks of a whole object that is not small; tell whether that worked.

        Not where other hosts look on, and not if the disk cannot read what was stored.
        """
        if is_small(self._size) or self._paths.shared is not None:
            return False
        numbers = held.blocks.numbers(extent)
        span = held.blocks.extent_of(numbers)
        try:
            bad = held.blocks.check(span, read_exactly(held.file, span, self._path))
            partial = take_apart(self._paths, held.blocks, bad or numbers)
        except (OSError, CacheError):
            return False
        if partial is None:
            return False
        self.held = held_part(self._paths, partial)
        self._services.ledger.dropped(self._ref.series, -table_bytes(self._size))
        return True

    def _drop(self, held: Held) -> None:
        """Remove a file's name, and forget the file. The lock is held."""
        self._remove(held)
        self._forget()

    def _remove(self, held: Held) -> None:
        """Remove a file's name and take it off the books, unless another process has.

        That one has told its books; or the file goes on under its other name.
        """
        with suppress(OSError):
            status = os.fstat(held.file.number)
            path = self._path if held.partial is None else held.partial.path
            if remove_same(path, status):
                occupied_bytes = status.st_blocks * ST_BLOCK_BYTES
                self._services.ledger.dropped(self._ref.series, occupied_bytes, 1)

    def _forget(self) -> None:
        """Let go of the file, and of those who write to it. The lock is held."""
        self.held = None
        self._transfers.forget_all()
