"""What series hold: kept on disk, or else listed by the store."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
from cachetools import LRUCache, TTLCache

from idcfs.errors import CacheError, ObjectNotFoundError
from idcfs.fetch.flights import Flights
from idcfs.model import Instance, Listing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idcfs.cache import Cache
    from idcfs.model import Series, SeriesUUID
    from idcfs.store import ObjectStore, StoredObject

logger = logging.getLogger(__name__)

_LISTED_INSTANCES = 200_000
"""Instances whose listing stays in memory: some 60 MB at most, and more than the widest
series has (91,980), so that a walk over it lists it once."""

_INCOMPLETE_TTL_S = 30.0
"""How long an incomplete listing is believed: a mirror may still be filling."""

_NAME_LIMIT_BYTES = 255
"""NAME_MAX of Linux."""

_SIZE_LIMIT_BYTES = 1 << 46
"""64 TiB. S3's largest object has 50 TB, and the kernel takes no more than 63 bits."""


class Listings:
    """The listings that a Fetcher gives. On the trio thread.

    `nursery` runs the requests; `transfers` limits the threads for these, and `disk` those
    for the cache.
    """

    def __init__(
        self,
        store: ObjectStore,
        cache: Cache,
        nursery: trio.Nursery,
        *,
        transfers: trio.CapacityLimiter,
        disk: trio.CapacityLimiter,
    ) -> None:
        self._store = store
        self._cache = cache
        self._transfers = transfers
        self._disk = disk
        self._flights: Flights[SeriesUUID, Listing] = Flights(nursery)
        self._complete: LRUCache[SeriesUUID, Listing] = LRUCache(
            _LISTED_INSTANCES, getsizeof=lambda listing: len(listing.instances) + 1
        )
        self._incomplete: TTLCache[SeriesUUID, Listing] = TTLCache(
            1000, _INCOMPLETE_TTL_S, timer=trio.current_time
        )

    def find(self, series: SeriesUUID) -> Listing | None:
        """Return a complete listing that is in memory."""
        return self._complete.get(series)

    async def get(self, series: Series) -> Listing:
        """See `Fetcher.listing`."""
        known = self._complete.get(series.uuid) or self._incomplete.get(series.uuid)
        if known is not None:
            return known
        return await self._flights.run(series.uuid, lambda: self._fetch(series))

    async def _fetch(self, series: Series) -> Listing:
        listing = await self._find_kept(series)
        if listing is None:
            listing = await trio.to_thread.run_sync(
                self._list, series, limiter=self._transfers, abandon_on_cancel=True
            )
            if not is_complete(series, listing):
                logger.warning(
                    "series %s: the store lists %d instances, the index expects %d",
                    series.uuid,
                    len(listing.instances),
                    series.instance_count,
                )
                self._incomplete[series.uuid] = listing
                return listing
            await self._keep(listing)
        if len(listing.instances) < _LISTED_INSTANCES:
            self._complete[series.uuid] = listing
        return listing

    def _list(self, series: Series) -> Listing:
        # The widest series takes the processor longer than the loop can wait.
        objects = self._store.list_prefix(
            series.bucket, series.prefix, expected=series.instance_count
        )
        return make_listing(series, objects)

    async def _find_kept(self, series: Series) -> Listing | None:
        try:
            return await trio.to_thread.run_sync(
                self._cache.find_listing, series.uuid, limiter=self._disk
            )
        except CacheError as exc:
            logger.warning("%s", exc)
            return None

    async def _keep(self, listing: Listing) -> None:
        try:
            await trio.to_thread.run_sync(self._cache.put_listing, listing, limiter=self._disk)
        except CacheError as exc:
            logger.warning("%s", exc)


def make_listing(series: Series, objects: Iterable[StoredObject]) -> Listing:
    """Return the series' listing, sorted by name.

    Names come from the network and are not trusted: whatever could not be a file
    name in one directory is left out, with a line in the log. Raises
    ObjectNotFoundError when nothing is left, since no series is empty.
    """
    instances: dict[str, Instance] = {}
    for stored in objects:
        name = stored.key.removeprefix(series.prefix)
        if (
            not stored.key.startswith(series.prefix)
            or not is_file_name(name)
            or name in instances
            or not 0 <= stored.size_bytes <= _SIZE_LIMIT_BYTES
        ):
            logger.warning("series %s: passing over the object %r", series.uuid, stored.key)
            continue
        etag = stored.etag if _is_etag(stored.etag) else ""
        instances[name] = Instance(name, stored.size_bytes, stored.mtime_ns, etag)
    if not instances:
        raise ObjectNotFoundError(
            f"the store has no objects of series {series.uuid} in bucket {series.bucket}, "
            f"where the index expects {series.instance_count or 'some'}"
        )
    in_order = sorted(instances.values(), key=lambda instance: instance.name.encode())
    return Listing(series.uuid, tuple(in_order))


def is_file_name(name: str) -> bool:
    """Tell whether `name` can stand in a directory, and on one line of a listing."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return False
    return (
        0 < len(encoded) <= _NAME_LIMIT_BYTES
        and name not in {".", ".."}
        and "/" not in name
        and not any(ord(character) < 32 or ord(character) == 127 for character in name)
    )


def is_complete(series: Series, listing: Listing) -> bool:
    """Tell whether the listing has as many instances as the index expects."""
    return series.instance_count in {None, len(listing.instances)}


def _is_etag(etag: str) -> bool:
    """Tell whether an ETag can be sent back in a header: Google's have `/` and `=` in them."""
    return etag.isascii() and etag.isprintable() and not set(' "\\') & set(etag)
