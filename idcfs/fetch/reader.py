"""One open object: reads come from the cache, and what it lacks is brought in first."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import trio

from idcfs.errors import CacheError
from idcfs.fetch import streams
from idcfs.fetch.siblings import HEAD_BYTES
from idcfs.fetch.streams import Streams
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache import CachedObject
    from idcfs.fetch.aside import Aside
    from idcfs.fetch.background import Background, Job
    from idcfs.fetch.figures import FetchFigures
    from idcfs.fetch.looking import Looks
    from idcfs.fetch.supply import Supply
    from idcfs.model import Bytes

    Began = Callable[["ObjectReader", bool], None]


class ObjectReader:
    """Reads extents of one object, for any number of handles. On the trio thread.

    `supply` is the object's own; the rest is the Fetcher's: what is tried before a thread is
    taken for the disk, what runs jobs ahead of readers, the memory for what the cache cannot take,
    the figures, and what is called at the first read, with whether anything had to be fetched for
    it. Of a large object, `extra_bytes` are fetched beyond a read that is not known to go on.
    """

    def __init__(
        self,
        supply: Supply,
        *,
        looks: Looks,
        background: Background,
        aside: Aside,
        began: Began,
        figures: FetchFigures,
        extra_bytes: int,
    ) -> None:
        self.ref = supply.ref
        self.handles = 0
        """How many have opened the object and not closed it; kept by the Fetcher."""
        self.reach_bytes = 0
        """How far from its start the object has been read."""
        self.headers_only = False
        """Whether no more than a header will be read, as far as can be foreseen."""
        self._supply = supply
        self._looks = looks
        self._background = background
        self._aside = aside
        self._began = began
        self._figures = figures
        self._was_there = False
        """Whether nothing was missing when the object began to be read."""
        self._was_in_memory = False
        self._streams = Streams(self.ref.instance.size_bytes, extra_bytes=extra_bytes)

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """Return the bytes if they are in memory already; else None, and `read` must be asked.

        `extent` must lie within the object. Never blocks, never raises.
        """
        if not extent.length:
            return b""
        cached = self._supply.cached
        if cached is None or cached.missing(extent):
            return None
        try:
            content = cached.read_nowait(extent)
        except CacheError:
            return None  # `read` will meet the error too, and may wait
        if content is not None:
            self._note(extent, missing=False)
            self._count(extent, missing=False)
        return content

    async def read(self, extent: Extent) -> Bytes:
        """Return exactly the bytes of `extent`, which must lie within the object.

        Raises StoreError after the last retry. A cache that fails costs time only.
        """
        if not extent.length:
            return b""
        # Noted before it is waited for: else its series would seem to be left by all readers.
        wanted = self._note(extent, missing=True) if self._supply.is_coming else None
        cached, drops = await self._supply.open(), self._supply.drops
        missing = wanted is not None or bool(cached.missing(extent))
        if wanted is None:
            wanted = self._note(extent, missing=missing)
        content = await self._read_patiently(cached, drops, extent, wanted)
        self._count(extent, missing=missing)
        return content

    async def ensure(self) -> bool:
        """See `Supply.ensure`."""
        return await self._supply.ensure()

    async def bring(self, extent: Extent) -> None:
        """See `Supply.bring`."""
        await self._supply.bring(extent)

    async def _read_patiently(
        self, cached: CachedObject, drops: int, extent: Extent, wanted: Extent
    ) -> Bytes:
        """Read, once more where the cache fails, and then round it."""
        supply = self._supply
        try:
            return await self._read_through(cached, extent, wanted)
        except CacheError as exc:
            await supply.drop(cached, extent, drops, exc)
        drops = supply.drops
        try:
            return await self._read_through(cached, extent, wanted)
        except CacheError as exc:
            await supply.drop(cached, extent, drops, exc)
            await trio.to_thread.run_sync(cached.close, limiter=supply.disk)
            return await self._read_through(supply.go_round(exc), extent, wanted)

    def _note(self, extent: Extent, *, missing: bool) -> Extent:
        """Note a read, and have fetched what should come ahead of the next ones.

        Return what should be fetched for this one if any of it is missing.
        """
        if not self.reach_bytes:
            self._was_there = not missing
            self._began(self, missing)
        self.reach_bytes = max(self.reach_bytes, extent.end)
        if not self._supply.is_large:
            return extent if self.headers_only and extent.end <= HEAD_BYTES else self.ref.whole
        wanted = self._streams.note(extent)
        self._background.wake(self)
        return wanted

    def _count(self, extent: Extent, *, missing: bool) -> None:
        """Count a read that was answered; a small object comes whole for the first that misses."""
        if missing or not (self._was_there or self._supply.is_large):
            self._figures.store_bytes += extent.length
        else:
            self._figures.cache_bytes += extent.length

    def take(self) -> Job | None:
        """See `background.Source`."""
        while (extent := self._streams.take(self._most_ahead_bytes())) is not None:
            cached = self._supply.cached
            if cached is not None and cached.missing(extent):
                return functools.partial(self._supply.bring, extent)
        return None

    def _most_ahead_bytes(self) -> int:
        """Return how far ahead of a reader the object may be fetched now."""
        in_memory = self._supply.in_memory
        if in_memory and not self._was_in_memory:
            self._streams.rewind()  # what was to come into the cache has not, or not all
        self._was_in_memory = in_memory
        if not in_memory:
            return streams.WINDOW_BYTES
        return min(streams.IN_MEMORY_BYTES, self._aside.room_bytes)

    async def _read_through(self, cached: CachedObject, extent: Extent, wanted: Extent) -> Bytes:
        in_memory: list[tuple[Extent, Bytes]] = []
        done = extent.offset
        # Asked each time, since others bring in some of it too.
        while missing := [unit for unit in cached.missing(extent) if unit.end > done]:
            run, filled = await self._supply.bring_some(cached, missing, wanted)
            if filled.content is not None:
                in_memory.append((run, filled.content))
            done = run.end
        if not in_memory:
            return await self._read_stored(cached, extent)
        content = bytearray()
        position = extent.offset
        for unit, unit_content in in_memory:
            start = max(position, unit.offset)
            if position < unit.offset:
                content += await self._read_stored(cached, Extent(position, unit.offset - position))
            content += unit_content[start - unit.offset : extent.end - unit.offset]
            position = min(unit.end, extent.end)
        if position < extent.end:
            content += await self._read_stored(cached, Extent(position, extent.end - position))
        return content

    async def _read_stored(self, cached: CachedObject, extent: Extent) -> Bytes:
        content = await self._looks.find(functools.partial(cached.read_nowait, extent))
        if content is None:
            content = await trio.to_thread.run_sync(cached.read, extent, limiter=self._supply.disk)
        return content

    @property
    def goes_round(self) -> bool:
        """Tell whether the cache failed: a new reader may have better luck."""
        return self._supply.goes_round

    def close(self) -> None:
        """Let go of the cached file. For the Fetcher: users call `Fetcher.close_reader`."""
        self._supply.close()
