"""Listings and objects on demand: the cache first, then the store, once for all who ask."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from idcfs.fetch.background import Background
from idcfs.fetch.downloads import Downloads
from idcfs.fetch.figures import FetchFigures
from idcfs.fetch.idle import IdleReaders
from idcfs.fetch.intake import Intake
from idcfs.fetch.listings import Listings
from idcfs.fetch.looking import Looks
from idcfs.fetch.readahead import Readaheads
from idcfs.fetch.reader import ObjectReader
from idcfs.fetch.supply import Supply

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache import Cache
    from idcfs.cache.protocol import FindChecksums
    from idcfs.fetch.carrier import Carrier
    from idcfs.fetch.download import Brought
    from idcfs.fetch.unfinished import StrPath
    from idcfs.model import Listing, ObjectRef, Series
    from idcfs.store import ObjectStore

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
        limiters = limiters or Limiters()
        self._extra_bytes = extra_bytes
        self._intake = Intake(
            store,
            cache,
            nursery,
            objects=limiters.objects,
            disk=limiters.disk,
            integrity_tries=integrity_tries,
            fills_together=fills_together,
        )
        self._downloads = Downloads(
            store,
            objects=limiters.objects,
            disk=limiters.disk,
            carrier=carrier,
            integrity_tries=integrity_tries,
        )
        self._listings = Listings(
            store, cache, nursery, transfers=limiters.listings, disk=limiters.disk
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
            reader = ObjectReader(
                Supply(ref, self._intake),
                looks=self._looks,
                background=self._background,
                aside=self._intake.aside,
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
        """See `Intake.checksum_finder`."""
        return self._intake.checksum_finder(ref)

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
        self._intake.close()
        for reader in self._readers.values():
            reader.close()
        self._idle.close()
