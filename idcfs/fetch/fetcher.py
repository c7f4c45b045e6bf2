"""Listings and objects on demand: the cache first, then the store, once for all who ask."""

from __future__ import annotations

import functools
import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from idcfs.cache import UncachedObject
from idcfs.fetch.aside import Aside
from idcfs.fetch.background import Background
from idcfs.fetch.downloads import Downloads, insist
from idcfs.fetch.figures import FetchFigures
from idcfs.fetch.filler import Filler
from idcfs.fetch.flights import Flights
from idcfs.fetch.idle import IdleReaders
from idcfs.fetch.listings import Listings
from idcfs.fetch.looking import Looks
from idcfs.fetch.readahead import Readaheads
from idcfs.fetch.reader import ObjectReader
from idcfs.fetch.supply import Supply
from idcfs.fetch.units import Filled, Purpose, fill_units
from idcfs.store.protocol import AskOtherwiseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache import Cache, CachedObject
    from idcfs.cache.protocol import FindChecksums
    from idcfs.fetch.aside import UnitsKey
    from idcfs.fetch.carrier import Carrier
    from idcfs.fetch.download import Brought
    from idcfs.fetch.unfinished import StrPath
    from idcfs.model import Extent, Listing, ObjectRef, Series
    from idcfs.store import ObjectStore

logger = logging.getLogger(__name__)

INTEGRITY_TRIES = 3
"""A body that is not what was promised is asked for again; a store that is wrong three
times is wrong."""

_OBJECT_THREADS = 32
_LISTING_THREADS = 16

_BACKGROUND_SLOTS = 24
"""Transfers ahead of readers at once. The other threads are for those who wait."""

MAX_TRANSFERS = _OBJECT_THREADS + _LISTING_THREADS
"""Requests that a Fetcher has under way at most. A store with fewer connections would let
a flood of reads hold up every listing."""


def _limiter(tokens: int) -> trio.CapacityLimiter:
    return trio.CapacityLimiter(tokens)


@dataclass(frozen=True, slots=True)
class Limiters:
    """Threads for each kind of blocking call, apart, so that no flood of one starves another."""

    objects: trio.CapacityLimiter = field(default_factory=lambda: _limiter(_OBJECT_THREADS))
    listings: trio.CapacityLimiter = field(default_factory=lambda: _limiter(_LISTING_THREADS))
    disk: trio.CapacityLimiter = field(default_factory=lambda: _limiter(16))


class Fetcher:
    """What the file system and prefetch ask for content. All methods belong on the trio thread.

    `nursery` runs the transfers; it must outlive every call. Cancelling a call
    does not abort a transfer that others wait for.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        cache: Cache,
        nursery: trio.Nursery,
        limiters: Limiters | None = None,
        extra_bytes: int = 0,
        integrity_tries: int = INTEGRITY_TRIES,
        carrier: Carrier | None = None,
        fills_together: bool = False,
    ) -> None:
        """`extra_bytes` are fetched beyond reads that come one after another: see `streams`.

        `integrity_tries` is how often content is asked for that is not what was promised.
        `carrier`, which somebody else runs, brings small objects into files of the user's.
        `fills_together` tells whether one thread brings what goes into the cache, as suits one
        that is on a disk of this machine.
        """
        self._filler = Filler(store.find_multiplexer) if fills_together else None
        self._integrity_tries = integrity_tries
        self._store = store
        self._cache = cache
        self._extra_bytes = extra_bytes
        self._limiters = limiters or Limiters()
        self._downloads = Downloads(
            store,
            objects=self._limiters.objects,
            disk=self._limiters.disk,
            carrier=carrier,
            integrity_tries=integrity_tries,
        )
        self._unit_flights: Flights[UnitsKey, Filled] = Flights(nursery)
        self._listings = Listings(
            store, cache, nursery, transfers=self._limiters.listings, disk=self._limiters.disk
        )
        self._looks = Looks()
        self._background = Background(nursery, slots=_BACKGROUND_SLOTS)
        self._readaheads = Readaheads(
            self._background,
            find_listing=self._listings.find,
            open_reader=self.open,
            close_reader=self.close_reader,
        )
        self.figures = FetchFigures()
        self._readers: dict[ObjectRef, ObjectReader] = {}
        self._idle = IdleReaders()
        self._aside = Aside()

    async def listing(self, series: Series) -> Listing:
        """Return the instances of a series.

        Complete listings are kept on disk for ever; one that has not as many
        instances as the index expects is asked for again after a while. Raises
        StoreError when the store must be asked and cannot answer.
        """
        return await self._listings.get(series)

    def open(self, ref: ObjectRef) -> ObjectReader:
        """Return the object's reader, one for all who have it open. Nothing is fetched yet.

        Every `open` must be matched by a `close_reader`.
        """
        reader = self._readers.get(ref) or self._idle.take(ref)
        if reader is None:
            supply = Supply(
                ref,
                open_cached=self._open_cached,
                open_filled=self._open_filled,
                fill=self._fill,
                disk=self._limiters.disk,
            )
            reader = ObjectReader(
                supply,
                looks=self._looks,
                background=self._background,
                aside=self._aside,
                began=self._began,
                figures=self.figures,
                extra_bytes=self._extra_bytes,
            )
        self._readers[ref] = reader
        reader.handles += 1
        return reader

    def close_reader(self, reader: ObjectReader) -> None:
        """Let go of a reader. The last one's file stays open a while, in case it comes back."""
        reader.handles -= 1
        if reader.handles:
            return
        del self._readers[reader.ref]
        self._background.drop(reader)
        if reader.reach_bytes:
            self._readaheads.ended(reader)
            reader.reach_bytes, reader.headers_only = 0, False
        if not reader.goes_round:
            self._idle.keep(reader)

    def _began(self, reader: ObjectReader, missing: bool) -> None:
        """Have the rest of the series fetched ahead of whoever reads it."""
        self.figures.objects_read += 1
        self.figures.objects_missed += missing
        self._readaheads.began(reader, missing)

    async def ensure(self, ref: ObjectRef) -> bool:
        """Have the whole object in the cache, checked. Tell whether any of it was fetched.

        Raises StoreError if it cannot be had, CacheError if it cannot be kept.
        """
        reader = self.open(ref)
        try:
            return await reader.ensure()
        finally:
            self.close_reader(reader)

    def checksum_finder(self, ref: ObjectRef) -> FindChecksums:
        """Return what asks the store, in a thread, for the checksums it keeps of an object."""
        return functools.partial(
            self._store.find_checksums, ref.bucket, ref.key, etag=ref.instance.etag
        )

    async def download(
        self,
        ref: ObjectRef,
        destination: StrPath,
        *,
        find_present: Callable[[], Brought | None] = lambda: None,
        is_absent: Callable[[], bool] = lambda: False,
        verify_content: bool = True,
    ) -> Brought:
        """Fetch the object into a file of the user's, which appears when whole and checked.

        `find_present` is asked first, in a thread, unless `is_absent`, which must be quick, says
        that it would find nothing; nothing is fetched if it finds that the file is there. Raises
        StoreError if the object cannot be had, OSError if it cannot be written. Of a large object
        that is cut off, what came is left beside `destination` for the next call, under a hidden
        name; of others nothing is.
        """

        return await self._downloads.bring(
            ref,
            destination,
            find_present=find_present,
            is_absent=is_absent,
            verify_content=verify_content,
        )

    def close(self) -> None:
        """Close all files. Nothing may be asked afterwards."""
        if self._filler is not None:
            self._filler.close()
        for reader in self._readers.values():
            reader.close()
        self._idle.close()

    async def _open_cached(self, ref: ObjectRef) -> CachedObject:
        return await trio.to_thread.run_sync(
            self._cache.open, ref, self.checksum_finder(ref), limiter=self._limiters.disk
        )

    async def _open_filled(
        self, ref: ObjectRef, extent: Extent
    ) -> tuple[CachedObject, bool] | None:
        """Open a small object in the cache and have units of it there, all by one thread.

        Return it, and whether anything was fetched; None if that must be done otherwise. Raises
        IntegrityError after the last try.
        """
        if (filler := self._filler) is None:
            return None
        try:
            self._limiters.objects.acquire_nowait()
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
            self._limiters.objects.release()

    async def _fill(
        self, ref: ObjectRef, cached: CachedObject, extent: Extent, purpose: Purpose
    ) -> Filled:
        """Have adjacent units brought in: to the cache, or where it fails, as `purpose` says."""
        # A reader that goes round the cache must not be handed a unit that went into it.
        key = (ref, extent, isinstance(cached, UncachedObject))
        if not cached.missing(extent):  # brought in while the reader waited for another unit
            return Filled()
        is_read = purpose is Purpose.READ
        if (kept := self._aside.find(key, is_read=is_read)) is not None:
            return kept
        into_memory = is_read or (
            purpose is Purpose.AHEAD and self._aside.room_bytes >= extent.length
        )

        async def bring() -> Filled:
            filled = await self._transfer(ref, cached, extent, purpose, into_memory=into_memory)
            if filled.content is not None:  # before another one may begin
                self._aside.keep(key, filled, is_read=is_read)
            return filled

        with self._aside.coming(key, 0 if is_read or not into_memory else extent.length):
            while True:
                filled = await self._unit_flights.run(key, bring)
                if not into_memory or filled.failure is None or filled.content is not None:
                    break
                # Whoever began it would do without: begin anew, unless another such one has.
        if is_read:
            self._aside.note_read(key)  # who came first may have had it come ahead
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
                fill, limiter=self._limiters.objects, abandon_on_cancel=True
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
            async with self._limiters.objects:
                await self._filler.fill(ref, cached, extent)
        except AskOtherwiseError as exc:
            logger.debug("%s: asking otherwise: %s", ref.url, exc)
            return False
        return True
