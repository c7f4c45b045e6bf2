"""One object in the cache: who reads it, who may write what is missing, and when it is whole.

What is held of it, as files, is `cache.holding`'s affair.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache import units as sizes
from idcfs.cache.completion import Completion
from idcfs.cache.files import Descriptor, cannot_write, share_blocks
from idcfs.cache.holding import Holding
from idcfs.cache.transfers import Transfers
from idcfs.cache.units import adjacent, is_small
from idcfs.cache.writers import UnitWriter
from idcfs.errors import CacheError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache.held import Services
    from idcfs.cache.ledger import Reservation
    from idcfs.cache.paths import Paths
    from idcfs.cache.protocol import FindChecksums
    from idcfs.model import Bytes, Extent, ObjectRef

_PATIENCE_S = 30.0
"""How long another's transfer of the same bytes is waited for: one that stalls must not hold
up all others; to fetch the same twice does no harm."""

_POLL_S = (0.002, 0.05)
"""The first and the longest pause between looks whether the other has finished."""


class DiskObject:
    """A `CachedObject` on a local file system. See the protocol for the contract.

    Writers run in worker threads while the event loop asks `missing`: what they share is
    changed under the lock, of which see `Holding`.
    """

    def __init__(
        self,
        ref: ObjectRef,
        paths: Paths,
        services: Services,
        find_checksums: FindChecksums,
        *,
        waits: bool = True,
    ) -> None:
        self._ref = ref
        self._paths = paths
        self._services = services
        self._lock = threading.RLock()
        self._transfers = Transfers(ref, services.claims, self._lock)
        services.ledger.hold(ref.series, waits=waits)
        try:
            self._holding = Holding(ref, paths, services, self._lock, self._transfers)
            self._completion = Completion(
                ref, paths, services, self._lock, self._holding, find_checksums
            )
            self._complete_leavings()
        except BaseException:
            services.ledger.let_go(ref.series)
            raise
        services.ledger.touch(ref.series)

    def _complete_leavings(self) -> None:
        """Do what a process was killed before: all parts are there, but not the final name."""
        held = self._holding.held
        if held is not None and held.partial is not None:
            with suppress(IntegrityError):
                self._completion.complete_leavings()

    def missing(self, extent: Extent) -> list[Extent]:
        """See `CachedObject.missing`."""
        return self._holding.missing(extent)

    # Reading

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """See `CachedObject.read_nowait`."""
        if (held := self._holding.held) is None:
            return None
        return held.read_nowait(extent, verify=self._services.verify_reads)

    def read(self, extent: Extent) -> Bytes:
        """See `CachedObject.read`."""
        if (held := self._holding.held) is None:
            raise CacheError(f"{self._paths.whole} is not in the cache")
        return held.read(extent, verify=self._services.verify_reads)

    def share(self, fd: int) -> bool:
        """See `CachedObject.share`."""
        held = self._holding.held
        return held is not None and held.partial is None and share_blocks(held.file.number, fd)

    # Writing

    def writer(
        self,
        extent: Extent,
        given_up: Callable[[], bool] = lambda: False,
        *,
        waits: bool = True,
        waits_for_room: bool = True,
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
                writer = self._start(
                    run,
                    claimed,
                    given_up,
                    waits=waits,
                    waits_for_room=waits and waits_for_room,
                )
                if writer is not None:
                    return writer
                continue
            if not waits:
                raise CacheError(f"somebody else writes {self._ref.url}")
            if given_up():
                raise CacheError(f"nobody waits for {self._ref.url} any more")
            time.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _POLL_S[1])
            self._holding.refresh(extent)

    def _start(
        self,
        run: Extent,
        claimed: int,
        given_up: Callable[[], bool],
        *,
        waits: bool,
        waits_for_room: bool,
    ) -> UnitWriter | None:
        """Begin to write the claimed units, unless they have been stored by now."""
        reservation: Reservation | None = None
        try:
            self._holding.refresh(run)
            found = adjacent(self.missing(self._transfers.claimed(run, claimed)))
            if found is None or found.offset != run.offset:
                self._transfers.unclaim(run.offset, claimed)
                return None
            if not self._comes_whole(found):
                self._holding.begin_partial(waits_for_room=waits_for_room)
            reservation = self._services.ledger.reserve(found.length, waits=waits_for_room)
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
        return extent == self._ref.whole and is_small(extent.length) and self._holding.held is None

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
        held = self._holding.held
        if self._comes_whole(extent):
            try:
                own_path, fd = self._services.scratch.create()
            except (OSError, ValueError) as exc:
                raise cannot_write(exc) from exc
            file = Descriptor(fd)
        elif held is not None:
            file, partial, block_bytes = held.file, held.partial, held.blocks.block_bytes
        else:
            raise CacheError(f"{self._paths.whole} was dropped before it could be written")
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
            stored_bytes = self._holding.store(writer)
            new_files = 0 if writer.own_path is None else 1
            writer.reservation.settle(self._ref.series, stored_bytes, new_files)
        except OSError as exc:
            raise CacheError(f"cannot keep {self._paths.whole}: {exc.strerror}") from exc
        if writer.own_path is None:
            self._complete(checked=writer.covers_whole, waits=writer.waits)

    def _complete(self, *, checked: bool, waits: bool) -> None:
        """Complete the object if all its parts are there. Raises IntegrityError.

        Raises CacheError instead of checking it now, where nobody `waits`: that may take the
        network, and a thread that fills for many would hold up all of them.
        """
        if not (checked or waits) and self._completion.takes_long():
            raise CacheError(f"{self._ref.url} is all there, and must be checked as a whole")
        self._completion.complete(checked=checked)

    def settle(self) -> None:
        """See `CachedObject.settle`."""
        if self._completion.takes_long():  # whoever brought the last part did not wait
            self._completion.complete(checked=False)
        self._completion.settle()

    # Letting go

    def discard(self, extent: Extent) -> None:
        """See `CachedObject.discard`."""
        self._holding.discard(extent)

    def close(self) -> None:
        """See `CachedObject.close`."""
        if self._holding.close():
            self._services.ledger.let_go(self._ref.series)

    def forget_writer(self, writer: UnitWriter) -> None:
        """See `WriterTarget.forget_writer`."""
        self._transfers.forget(writer)
