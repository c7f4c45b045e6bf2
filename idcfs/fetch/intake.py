"""Has units of objects brought in, once for all who want them: into the cache, else into memory."""

from __future__ import annotations

import functools
import logging
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import trio

from idcfs.cache import UncachedObject
from idcfs.fetch.aside import Aside
from idcfs.fetch.downloads import insist
from idcfs.fetch.filler import Filler
from idcfs.fetch.flights import Flights
from idcfs.fetch.units import Filled, Purpose, fill_units
from idcfs.store.protocol import AskOtherwiseError

if TYPE_CHECKING:
    from idcfs.cache import Cache, CachedObject
    from idcfs.cache.protocol import FindChecksums
    from idcfs.fetch.aside import UnitsKey
    from idcfs.model import Extent, ObjectRef
    from idcfs.store import ObjectStore

logger = logging.getLogger(__name__)


class Intake:
    """Opens objects in the cache, and has the filler or worker threads bring in units of them.

    `objects` limits transfers, `disk` the threads that open objects. `fills_together` tells
    whether there is a filler; `integrity_tries`, how often content is asked for that is not what
    was promised. On the trio thread.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        nursery: trio.Nursery,
        *,
        objects: trio.CapacityLimiter,
        disk: trio.CapacityLimiter,
        integrity_tries: int,
        fills_together: bool,
    ) -> None:
        self.disk = disk
        self.aside = Aside()
        self._store = store
        self._cache = cache
        self._objects = objects
        self._integrity_tries = integrity_tries
        self._filler = Filler(store.find_multiplexer) if fills_together else None
        self._flights: Flights[UnitsKey, Filled] = Flights(nursery)

    def checksum_finder(self, ref: ObjectRef) -> FindChecksums:
        """Return what asks the store, in a thread, for the checksums it keeps of an object."""
        return functools.partial(
            self._store.find_checksums, ref.bucket, ref.key, etag=ref.instance.etag
        )

    async def open_cached(self, ref: ObjectRef) -> CachedObject:
        """Open an object in the cache. Raises CacheError."""
        return await trio.to_thread.run_sync(
            self._cache.open, ref, self.checksum_finder(ref), limiter=self.disk
        )

    async def open_filled(self, ref: ObjectRef, extent: Extent) -> tuple[CachedObject, bool] | None:
        """Open a small object in the cache and have units of it there, all by one thread.

        Return it, and whether anything was fetched; None if that must be done otherwise. Raises
        IntegrityError after the last try.
        """
        if (filler := self._filler) is None:
            return None
        try:
            self._objects.acquire_nowait()
        except trio.WouldBlock:
            return None
        try:
            open_cached = functools.partial(
                self._cache.open, ref, self.checksum_finder(ref), waits=False
            )
            return await insist(
                lambda: filler.open_filled(ref, extent, open_cached), self._integrity_tries
            )
        except AskOtherwiseError as exc:
            logger.debug("%s: asking otherwise: %s", ref.url, exc)
            return None
        finally:
            self._objects.release()

    async def fill(
        self, ref: ObjectRef, cached: CachedObject, extent: Extent, purpose: Purpose
    ) -> Filled:
        """Have adjacent units brought in: to the cache, or where it fails, as `purpose` says."""
        # A reader that goes round the cache must not be handed a unit that went into it.
        key = (ref, extent, isinstance(cached, UncachedObject))
        if not cached.missing(extent):  # brought in while the reader waited for another unit
            return Filled()
        is_read = purpose is Purpose.READ
        if (kept := self.aside.find(key, is_read=is_read)) is not None:
            return kept
        has_room = purpose is Purpose.AHEAD and self.aside.room_bytes >= extent.length
        into_memory = is_read or has_room

        async def bring() -> Filled:
            filled = await self._transfer(ref, cached, extent, purpose, into_memory=into_memory)
            if filled.content is not None:  # before another one may begin
                self.aside.keep(key, filled, is_read=is_read)
            return filled

        with self.aside.coming(key) if has_room else nullcontext():
            while True:
                filled = await self._flights.run(key, bring)
                if not into_memory or filled.failure is None or filled.content is not None:
                    break
                # Whoever began it would do without: begin anew, unless another such one has.
        if is_read:
            self.aside.note_read(key)  # who came first may have had it come ahead
        return filled

    async def _transfer(
        self,
        ref: ObjectRef,
        cached: CachedObject,
        extent: Extent,
        purpose: Purpose,
        *,
        into_memory: bool,
    ) -> Filled:
        given_up = threading.Event()

        def fill() -> Filled:
            return fill_units(
                self._store,
                ref,
                cached,
                extent,
                into_memory,
                given_up.is_set,
                waits_for_room=purpose is Purpose.KEEP,
            )

        async def attempt() -> Filled:
            if await self._fill_together(ref, cached, extent):
                return Filled()
            # A cancelled one does not wait for the thread, which may be stuck in a read until that
            # times out: its writer is fenced off by then.
            return await trio.to_thread.run_sync(
                fill, limiter=self._objects, abandon_on_cancel=True
            )

        try:
            return await insist(attempt, self._integrity_tries)
        finally:
            # A thread that is still at it may be overtaken by the next transfer.
            given_up.set()

    async def _fill_together(self, ref: ObjectRef, cached: CachedObject, extent: Extent) -> bool:
        """Have the filler bring units in; tell whether it could."""
        if self._filler is None or isinstance(cached, UncachedObject):
            return False
        try:
            async with self._objects:
                await self._filler.fill(ref, cached, extent)
        except AskOtherwiseError as exc:
            logger.debug("%s: asking otherwise: %s", ref.url, exc)
            return False
        return True

    def close(self) -> None:
        """End the filler, and with it what it has under way."""
        if self._filler is not None:
            self._filler.close()
