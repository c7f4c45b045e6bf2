"""One object in the cache: a plain file when whole, a sparse one while it fills.

A small object that comes in one piece is written to a scratch file. What comes in several,
in aligned units, goes into a partial file that every process shares and that survives them
all; it moves under the object's name when the last unit is there and the content has been
checked.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache import units as sizes
from idcfs.cache.blocks import Blocks
from idcfs.cache.completion import Completion
from idcfs.cache.files import Descriptor, read_exactly, remove_same, share_blocks
from idcfs.cache.held import Held, Services, find_held, held_part
from idcfs.cache.inventory import ST_BLOCK_BYTES
from idcfs.cache.partial import begin_partial, table_bytes, take_apart
from idcfs.cache.scratch import move
from idcfs.cache.sums import keep_sums
from idcfs.cache.transfers import Transfers
from idcfs.cache.units import adjacent, is_small, units
from idcfs.cache.writers import UnitWriter
from idcfs.errors import CacheError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from idcfs.cache.ledger import Reservation
    from idcfs.cache.paths import Paths
    from idcfs.cache.protocol import FindChecksums
    from idcfs.model import Bytes, Extent, ObjectRef

_PATIENCE_S = 30.0
"""How long another's transfer of the same bytes is waited for: one that stalls must not hold
up all others; to fetch the same twice does no harm."""

_POLL_S = (0.002, 0.05)
"""The first and the longest pause between looks whether the other has finished."""

_PAGE_BYTES = 4096


class DiskObject:
    """A `CachedObject` on a local file system. See the protocol for the contract.

    Writers run in worker threads while the event loop asks `missing`: what they share is
    changed under the lock, which is never held while waiting for another process or for
    more of the disk than it takes to open, rename or unlink a file and to write a table.
    """

    def __init__(
        self, ref: ObjectRef, paths: Paths, services: Services, find_checksums: FindChecksums
    ) -> None:
        self._ref = ref
        self._size = ref.instance.size_bytes
        self._paths = paths
        self._path = paths.whole
        self._services = services
        self._lock = threading.RLock()
        self._transfers = Transfers(ref, services.claims, self._lock)
        self._open = True
        self._completion = Completion(ref, paths, services, self._lock, find_checksums)
        services.ledger.hold(ref.series)
        self._held: Held | None = None
        try:
            self._held = find_held(ref, paths, services)
            self._complete_leavings()
        except BaseException:
            services.ledger.let_go(ref.series)
            raise
        services.ledger.touch(ref.series)

    def _complete_leavings(self) -> None:
        """Do what a process was killed before: all parts are there, but not the final name."""
        if self._held is not None and self._held.partial is not None:
            with suppress(IntegrityError):
                self._completion.complete_leavings(self)

    def missing(self, extent: Extent) -> list[Extent]:
        """See `CachedObject.missing`."""
        held = self._held
        if held is None:
            return units(self._size, extent)
        if held.partial is None or held.blocks.has(extent):
            return []
        return [unit for unit in units(self._size, extent) if not held.blocks.has(unit)]

    def _refresh(self, extent: Extent) -> None:
        """See what other processes have stored meanwhile. Raises CacheError."""
        with self._lock:
            if not self._open:
                raise CacheError(f"{self._path} has been closed")
            held = self._held
            if held is None:
                self._held = find_held(self._ref, self._paths, self._services)
            elif held.partial is not None:
                try:
                    if not held.partial.refresh(held.blocks.numbers(extent)):
                        self._held = find_held(self._ref, self._paths, self._services)
                except OSError as exc:
                    raise CacheError(f"cannot read {self._path}: {exc.strerror}") from exc

    # Reading

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """See `CachedObject.read_nowait`."""
        if (held := self._held) is None:
            return None
        return held.read_nowait(extent, verify=self._services.verify_reads)

    def read(self, extent: Extent) -> Bytes:
        """See `CachedObject.read`."""
        if (held := self._held) is None:
            raise CacheError(f"{self._path} is not in the cache")
        return held.read(extent, verify=self._services.verify_reads)

    def expect(self, extent: Extent) -> None:
        """See `CachedObject.expect`."""
        if (held := self._held) is not None:
            with suppress(OSError):  # a hint, and reading tells what is wrong
                os.posix_fadvise(
                    held.file.number, extent.offset, extent.length, os.POSIX_FADV_WILLNEED
                )

    def share(self, fd: int) -> bool:
        """See `CachedObject.share`."""
        held = self._held
        return held is not None and held.partial is None and share_blocks(held.file.number, fd)

    # Writing

    def writer(
        self,
        extent: Extent,
        given_up: Callable[[], bool] = lambda: False,
        *,
        waits: bool = True,
    ) -> UnitWriter | None:
        """See `CachedObject.writer`."""
        end_s = time.monotonic() + _PATIENCE_S
        pause_s = _POLL_S[0]
        while True:
            run = adjacent(self.missing(extent))
            if run is None:
                # Others have brought the rest, who did not know what we brought.
                self._complete(checked=False, waits=waits)
                return None
            claimed = self._transfers.claim(run)
            if claimed or time.monotonic() >= end_s:
                writer = self._start(run, claimed, given_up, waits=waits)
                if writer is not None:
                    return writer
                continue
            if not waits:
                raise CacheError(f"somebody else writes {self._ref.url}")
            if given_up():
                raise CacheError(f"nobody waits for {self._ref.url} any more")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_S[1])
            self._refresh(extent)

    def _start(
        self, run: Extent, claimed: int, given_up: Callable[[], bool], *, waits: bool
    ) -> UnitWriter | None:
        """Begin to write the claimed units, unless they have been stored by now."""
        reservation: Reservation | None = None
        try:
            self._refresh(run)
            found = adjacent(self.missing(self._transfers.claimed(run, claimed)))
            if found is None or found.offset != run.offset:
                self._transfers.unclaim(run.offset, claimed)
                return None
            if not self._comes_whole(found):
                self._begin_partial()
            reservation = self._services.ledger.reserve(found.length)
            with self._lock:
                if adjacent(self.missing(found)) == found:
                    writer = self._make_writer(found, reservation, claimed, given_up, waits=waits)
                    self._transfers.add(writer)
                    return writer
            # Another process has completed it in this instant, and its file is not to be touched.
            reservation.release()
            self._transfers.unclaim(run.offset, claimed)
            return None
        except BaseException:
            if reservation is not None:
                reservation.release()
            self._transfers.unclaim(run.offset, claimed)
            raise

    def _comes_whole(self, extent: Extent) -> bool:
        """Tell whether an extent is a small object, of which nothing is held.

        Then it needs no partial file, of which a million would cost twice the calls.
        """
        return extent == self._ref.whole and is_small(self._size) and self._held is None

    def _begin_partial(self) -> None:
        """Have a partial file to write to. Raises CacheError."""
        if self._held is not None:
            return
        reservation = self._services.ledger.reserve(table_bytes(self._size))
        try:
            with self._lock:
                if self._held is None:
                    self._held = held_part(self._paths, begin_partial(self._paths, self._size))
                    reservation.settle(self._ref.series, table_bytes(self._size), 1)
        except (OSError, ValueError) as exc:
            raise _cannot_write(exc) from exc
        finally:
            reservation.release()

    def _make_writer(
        self,
        extent: Extent,
        reservation: Reservation,
        claimed: int,
        given_up: Callable[[], bool],
        *,
        waits: bool,
    ) -> UnitWriter:
        own_path, partial, block_bytes = None, None, sizes.BLOCK_BYTES
        held = self._held
        if self._comes_whole(extent):
            try:
                own_path, fd = self._services.scratch.create()
            except (OSError, ValueError) as exc:
                raise _cannot_write(exc) from exc
            file = Descriptor(fd)
        elif held is not None:
            file, partial, block_bytes = held.file, held.partial, held.blocks.block_bytes
        else:
            raise CacheError(f"{self._path} was dropped before it could be written")
        return UnitWriter(
            self,
            self._ref,
            extent,
            file=file,
            block_bytes=block_bytes,
            partial=partial,
            own_path=own_path,
            reservation=reservation,
            claimed_units=claimed,
            given_up=given_up,
            waits=waits,
        )

    def store(self, writer: UnitWriter) -> None:
        """Count what a writer wrote as stored; all of it together makes the whole.

        Raises IntegrityError when the whole has another MD5 than promised, CacheError
        when the disk fails or a discard came between.
        """
        try:
            with self._lock:
                if writer not in self._transfers:
                    raise CacheError(f"{self._path} was dropped while it was being written")
                stored_bytes = -(-writer.extent.length // _PAGE_BYTES) * _PAGE_BYTES
                if writer.own_path is not None:
                    stored_bytes += self._store_whole(writer, writer.own_path)
                else:
                    self._store_part(writer)
            new_files = 0 if writer.own_path is None else 1
            writer.reservation.settle(self._ref.series, stored_bytes, new_files)
        except OSError as exc:
            raise CacheError(f"cannot keep {self._path}: {exc.strerror}") from exc
        if writer.own_path is None:
            self._complete(checked=writer.covers_whole, waits=writer.waits)

    def _complete(self, *, checked: bool, waits: bool) -> None:
        """Complete the object if all its parts are there. Raises IntegrityError.

        Raises CacheError instead of checking it now, where nobody `waits`: that may take the
        network, and a thread that fills for many would hold up all of them.
        """
        if not (checked or waits) and self._completion.takes_long(self):
            raise CacheError(f"{self._ref.url} is all there, and must be checked as a whole")
        self._completion.complete(self, checked=checked)

    def settle(self) -> None:
        """See `CachedObject.settle`."""
        if self._completion.takes_long(self):  # whoever brought the last part did not wait
            self._completion.complete(self, checked=False)
        self._completion.settle()

    def _store_whole(self, writer: UnitWriter, unfinished: Path) -> int:
        """Give a file its final name; return what its checksums take of the disk."""
        blocks = Blocks(self._size, sizes.BLOCK_BYTES)
        for number, checksum in enumerate(writer.sums):
            blocks.note_stored(number, checksum, verified=True)
        kept_bytes = keep_sums(writer.file, blocks, self._paths, self._services.scratch)
        self._services.scratch.flush(writer.file.number)
        move(unfinished, self._path)
        writer.is_moved = True
        former, self._held = self._held, Held(self._path, writer.file, blocks)
        if former is not None and former.partial is not None:
            # Begun by somebody who had waited for us for too long.
            self._remove(former)
        return kept_bytes

    def _store_part(self, writer: UnitWriter) -> None:
        held = self._held
        try:
            if held is None or held.partial is None or held.file is not writer.file:
                raise CacheError(f"{self._path} was dropped while it was being written")
            first = held.blocks.numbers(writer.extent).start
            held.partial.record(first, writer.sums, verified=writer.claimed_units > 0)
        except CacheError:
            # Another process may have stored the same and completed the object with it.
            self._held = find_held(self._ref, self._paths, self._services)
            if self.missing(writer.extent):
                raise

    @property
    def held(self) -> Held | None:
        """What is held of the object now."""
        return self._held

    def replace(self, former: Held, held: Held | None) -> None:
        """See `CompletionTarget.replace`."""
        is_current = self._held is former  # neither closed nor begun anew meanwhile
        if held is None:
            self._remove(former)
            if is_current:
                self._forget()
        elif is_current:
            self._held = held

    # Letting go

    def discard(self, extent: Extent) -> None:
        """See `CachedObject.discard`."""
        with self._lock:
            held = self._held
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
        self._held = held_part(self._paths, partial)
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

    def close(self) -> None:
        """See `CachedObject.close`."""
        with self._lock:
            self._forget()
            was_open, self._open = self._open, False
        if was_open:
            self._services.ledger.let_go(self._ref.series)

    def forget_writer(self, writer: UnitWriter) -> None:
        """See `WriterTarget.forget_writer`."""
        self._transfers.forget(writer)

    def _forget(self) -> None:
        """Let go of the file, and of those who write to it. The lock is held."""
        self._held = None
        self._transfers.forget_all()


def _cannot_write(exc: OSError | ValueError) -> CacheError:
    reason = exc.strerror if isinstance(exc, OSError) else exc
    return CacheError(f"cannot write to the cache: {reason}")
