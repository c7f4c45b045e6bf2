"""One open object: reads come from the cache, and what it lacks is brought in first."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING

import trio

from idcfs.cache import UncachedObject, is_small
from idcfs.errors import CacheError, IdcfsError, IntegrityError
from idcfs.fetch.large import PARALLEL_RUNS
from idcfs.fetch.runs import Runs
from idcfs.fetch.siblings import HEAD_BYTES
from idcfs.fetch.streams import Streams
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.cache import CachedObject
    from idcfs.fetch.background import Background, Job
    from idcfs.fetch.figures import FetchFigures
    from idcfs.fetch.looking import Looks
    from idcfs.fetch.units import Filled
    from idcfs.model import Bytes, ObjectRef

    OpenCached = Callable[[ObjectRef], Awaitable[CachedObject]]
    OpenFilled = Callable[[ObjectRef, Extent], Awaitable[tuple[CachedObject, bool] | None]]
    Fill = Callable[[ObjectRef, CachedObject, Extent, bool], Awaitable[Filled]]
    Began = Callable[["ObjectReader", bool], None]

logger = logging.getLogger(__name__)

_PASSES = 3
"""How often the units of an object are brought in before it is given up: when all are there
and the whole has another MD5 than promised, nobody can tell which of them was wrong."""


class ObjectReader:
    """Reads extents of one object, for any number of handles. On the trio thread.

    `open_cached`, `open_filled`, `fill`, `disk` and `looks` are the Fetcher's: how to open the
    object in the cache, to do so and have units there in one go, and to bring missing units in,
    the limiter of threads for the disk, and what is tried before one of these is taken. `began`
    is called at the first read, with whether anything had to be fetched for it; `figures` are
    the Fetcher's. Of a large object, `extra_bytes` are fetched beyond a read that is not known
    to go on.
    """

    def __init__(
        self,
        ref: ObjectRef,
        *,
        open_cached: OpenCached,
        open_filled: OpenFilled,
        fill: Fill,
        disk: trio.CapacityLimiter,
        looks: Looks,
        background: Background,
        began: Began,
        figures: FetchFigures,
        extra_bytes: int,
    ) -> None:
        self.ref = ref
        self.handles = 0
        """How many have opened the object and not closed it; kept by the Fetcher."""
        self.reach_bytes = 0
        """How far from its start the object has been read."""
        self.headers_only = False
        """Whether no more than a header will be read, as far as can be foreseen."""
        self._open_cached = open_cached
        self._open_filled = open_filled
        self._fill = fill
        self._disk = disk
        self._looks = looks
        self._background = background
        self._began = began
        self._figures = figures
        self._was_there = False
        """Whether nothing was missing when the object began to be read."""
        self._streams = Streams(ref.instance.size_bytes, extra_bytes=extra_bytes)
        self._is_large = not is_small(ref.instance.size_bytes)
        self._cached: CachedObject | None = None
        self._in_memory = False
        """Whether the last run went to memory, since the cache could not take it."""
        self._drops = 0
        """How often the cached object was discarded."""
        self._runs = Runs(ref.instance.size_bytes, is_large=self._is_large)
        self._changing = trio.Lock()
        """Held while the cached object is opened or discarded, which takes a thread."""
        self._is_coming = False
        """Whether it is being opened and brought in one go."""

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """Return the bytes if they are in memory already; else None, and `read` must be asked.

        `extent` must lie within the object. Never blocks, never raises.
        """
        if not extent.length:
            return b""
        if self._cached is None or self._cached.missing(extent):
            return None
        try:
            content = self._cached.read_nowait(extent)
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
        wanted = self._note(extent, missing=True) if self._is_coming else None
        cached, drops = await self._get_cached(), self._drops
        missing = wanted is not None or bool(cached.missing(extent))
        if wanted is None:
            wanted = self._note(extent, missing=missing)
        content = await self._read_patiently(cached, drops, extent, wanted)
        self._count(extent, missing=missing)
        return content

    async def _read_patiently(
        self, cached: CachedObject, drops: int, extent: Extent, wanted: Extent
    ) -> Bytes:
        """Read, once more where the cache fails, and then round it."""
        try:
            return await self._read_through(cached, extent, wanted)
        except CacheError as exc:
            await self._drop(cached, extent, drops, exc)
        drops = self._drops
        try:
            return await self._read_through(cached, extent, wanted)
        except CacheError as exc:
            await self._drop(cached, extent, drops, exc)
            await trio.to_thread.run_sync(cached.close, limiter=self._disk)
            return await self._read_through(self._go_round(exc), extent, wanted)

    async def ensure(self) -> bool:
        """Have the whole object in the cache, checked. Tell whether any of it was fetched.

        Raises StoreError if it cannot be had, CacheError if it cannot be kept.
        """
        if (fetched := await self._bring_at_once(self.ref.whole)) is not None:
            return fetched
        cached = await self._get_cached()
        for number in range(_PASSES + 1):
            missing = cached.missing(self.ref.whole)
            if not missing and await self._is_as_promised(cached):
                return number > 0
            if missing and number < _PASSES:
                await self._keep_all(cached, missing)
        raise IntegrityError(
            f"{self.ref.url}: the store's pieces do not make up the whole it promised"
        )

    async def _is_as_promised(self, cached: CachedObject) -> bool:
        if not self._is_large:
            return True  # checked as it came
        try:
            await trio.to_thread.run_sync(cached.settle, limiter=self._disk)
        except IntegrityError:
            return False
        return not cached.missing(self.ref.whole)  # a block may have been damaged meanwhile

    async def _keep_all(self, cached: CachedObject, missing: list[Extent]) -> None:
        """Bring in all missing units, runs of a large object side by side."""
        errors: list[IdcfsError] = []

        async def keep_some() -> None:
            while missing:
                run = self._runs.find(missing[0]) or self._runs.first_of(missing)
                missing[:] = [unit for unit in missing if unit.offset >= run.end]
                try:
                    await self._keep(cached, run)
                except IdcfsError as exc:
                    errors.append(exc)
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for _ in range(PARALLEL_RUNS if self._is_large else 1):
                nursery.start_soon(keep_some)
        if errors:
            raise errors[0]

    def _note(self, extent: Extent, *, missing: bool) -> Extent:
        """Note a read, and have fetched what should come ahead of the next ones.

        Return what should be fetched for this one if any of it is missing.
        """
        if not self.reach_bytes:
            self._was_there = not missing
            self._began(self, missing)
        self.reach_bytes = max(self.reach_bytes, extent.end)
        if not self._is_large:
            return extent if self.headers_only and extent.end <= HEAD_BYTES else self.ref.whole
        wanted = self._streams.note(extent)
        self._background.wake(self)
        return wanted

    def _count(self, extent: Extent, *, missing: bool) -> None:
        """Count a read that was answered; a small object comes whole for the first that misses."""
        if missing or not (self._was_there or self._is_large):
            self._figures.store_bytes += extent.length
        else:
            self._figures.cache_bytes += extent.length

    def take(self) -> Job | None:
        """See `background.Source`."""
        while (extent := self._streams.take()) is not None:
            if self._cached is None:
                continue
            if self._cached.missing(extent):
                return functools.partial(self.bring, extent)
            return functools.partial(self._expect, self._cached, extent)
        return None

    async def _expect(self, cached: CachedObject, extent: Extent) -> None:
        """Have the disk read ahead, so that reads are answered without a thread.

        In one itself: first the kernel finds pages for it, which takes a millisecond for 4 MiB.
        """
        await trio.to_thread.run_sync(cached.expect, extent, limiter=self._disk)

    async def bring(self, extent: Extent) -> None:
        """Have an extent brought into the cache, or find that it is there or on its way.

        Raises StoreError if it cannot be had, CacheError if it cannot be kept.
        """
        if await self._bring_at_once(extent) is not None:
            return
        cached = await self._get_cached()
        while missing := [unit for unit in cached.missing(extent) if not self._runs.find(unit)]:
            await self._keep(cached, self._runs.first_of(missing))

    async def _bring_at_once(self, extent: Extent) -> bool | None:
        """Have a small object that nobody has opened yet opened and brought in one go.

        Tell whether anything was fetched; None if that must be done otherwise.
        """
        if self._is_large or self._cached is not None or self._changing.locked():
            return None
        self._is_coming = True  # before the lock is taken, which lets others go first
        try:
            async with self._changing:
                filled = await self._open_filled(self.ref, extent)
                if filled is None:
                    return None
                self._cached, fetched = filled
                return fetched
        finally:
            self._is_coming = False

    async def _keep(self, cached: CachedObject, run: Extent) -> None:
        filled = await self._bring(cached, run, into_memory=False)
        if filled.failure is not None:
            raise CacheError(*filled.failure.args) from filled.failure

    async def _read_through(self, cached: CachedObject, extent: Extent, wanted: Extent) -> Bytes:
        in_memory: list[tuple[Extent, Bytes]] = []
        done = extent.offset
        # Asked each time, since others bring in some of it too.
        while missing := [unit for unit in cached.missing(extent) if unit.end > done]:
            run = self._run_for(cached, missing, wanted)
            filled = await self._bring(cached, run, into_memory=True)
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

    async def _bring(self, cached: CachedObject, run: Extent, *, into_memory: bool) -> Filled:
        """Have a run of units brought in, together with whoever waits for it already.

        Where the cache fails, into memory, or not at all.
        """
        with self._runs.under_way(run):
            filled = await self._fill(self.ref, cached, run, into_memory)
        if into_memory:
            self._in_memory = filled.content is not None
        return filled

    def _run_for(self, cached: CachedObject, missing: list[Extent], wanted: Extent) -> Extent:
        """Return the run that is fetched to get the first of what a read misses.

        That is one on its way already, or a new one, of what is `wanted` for the read.
        """
        first = missing[0]
        if (under_way := self._runs.find(first)) is not None:
            return under_way
        if self._in_memory:
            return self._runs.chunk(first)
        end = max(wanted.end, missing[-1].end)
        wanted = Extent(wanted.offset, end - wanted.offset)
        return self._runs.around(first, cached.missing(wanted))

    async def _read_stored(self, cached: CachedObject, extent: Extent) -> Bytes:
        content = await self._looks.find(functools.partial(cached.read_nowait, extent))
        if content is None:
            content = await trio.to_thread.run_sync(cached.read, extent, limiter=self._disk)
        return content

    async def _get_cached(self) -> CachedObject:
        """Open the cached object once, however many reads come at first."""
        if self._cached is not None and not self._changing.locked():
            return self._cached  # without a turn of the loop, which taking the lock costs
        async with self._changing:
            if self._cached is None:
                try:
                    self._cached = await self._open_cached(self.ref)
                except CacheError as exc:
                    return self._go_round(exc)
            return self._cached

    def _go_round(self, exc: CacheError) -> CachedObject:
        """Leave the cache alone from now on: each further try would fetch whole units in vain."""
        logger.warning("%s; reading %s without the cache", exc, self.ref.url)
        self._cached = UncachedObject(self.ref.instance.size_bytes, exc)
        self._in_memory = True
        return self._cached

    async def _drop(
        self, cached: CachedObject, extent: Extent, drops: int, exc: CacheError
    ) -> None:
        """Discard what failed, unless that was done since the failed read began.

        What was fetched anew meanwhile must not be thrown away for the error before it.
        """
        async with self._changing:
            if drops == self._drops:
                logger.warning("%s; fetching %s again", exc, self.ref.url)
                await trio.to_thread.run_sync(cached.discard, extent, limiter=self._disk)
                self._drops += 1

    @property
    def goes_round(self) -> bool:
        """Tell whether the cache failed: a new reader may have better luck."""
        return isinstance(self._cached, UncachedObject)

    def close(self) -> None:
        """Let go of the cached file. For the Fetcher: users call `Fetcher.close_reader`."""
        if self._cached is not None:
            self._cached.close()
            self._cached = None
