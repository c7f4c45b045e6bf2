"""The units of one open object: what the cache holds of them, and how the rest is brought in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from idcfs.cache import UncachedObject, is_small
from idcfs.errors import CacheError, IdcfsError, IntegrityError
from idcfs.fetch.large import PARALLEL_RUNS
from idcfs.fetch.runs import Runs
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.cache import CachedObject
    from idcfs.fetch.units import Filled
    from idcfs.model import ObjectRef

    OpenCached = Callable[[ObjectRef], Awaitable[CachedObject]]
    OpenFilled = Callable[[ObjectRef, Extent], Awaitable[tuple[CachedObject, bool] | None]]
    Fill = Callable[[ObjectRef, CachedObject, Extent, bool], Awaitable[Filled]]

logger = logging.getLogger(__name__)

_PASSES = 3
"""How often the units of an object are brought in before it is given up: when all are there
and the whole has another MD5 than promised, nobody can tell which of them was wrong."""


class Supply:
    """Opens one object in the cache, once for all, and brings in what is missing.

    `open_cached`, `open_filled` and `fill` are the Fetcher's: how to open the object in the
    cache, to do so and have units there in one go, and to bring missing units in; `disk` is its
    limiter of threads for the disk. On the trio thread.
    """

    def __init__(
        self,
        ref: ObjectRef,
        *,
        open_cached: OpenCached,
        open_filled: OpenFilled,
        fill: Fill,
        disk: trio.CapacityLimiter,
    ) -> None:
        self.ref = ref
        self.disk = disk
        self.is_large = not is_small(ref.instance.size_bytes)
        self.cached: CachedObject | None = None
        """What was opened, for others to read."""
        self.is_coming = False
        """Whether it is being opened and brought in one go."""
        self.drops = 0
        """How often what was cached has been discarded."""
        self._open_cached = open_cached
        self._open_filled = open_filled
        self._fill = fill
        self._in_memory = False
        """Whether the last run went to memory, since the cache could not take it."""
        self._runs = Runs(ref.instance.size_bytes, is_large=self.is_large)
        self._changing = trio.Lock()
        """Held while the cached object is opened or discarded, which takes a thread."""

    async def open(self) -> CachedObject:
        """Open the cached object once, however many ask for it at first. Raises no CacheError."""
        if self.cached is not None and not self._changing.locked():
            return self.cached  # without a turn of the loop, which taking the lock costs
        async with self._changing:
            if self.cached is None:
                try:
                    self.cached = await self._open_cached(self.ref)
                except CacheError as exc:
                    return self.go_round(exc)
            return self.cached

    # For a reader, who has the bytes in any case

    async def bring_some(
        self, cached: CachedObject, missing: list[Extent], wanted: Extent
    ) -> tuple[Extent, Filled]:
        """Have a run brought in that has the first of what a read misses; return it and how.

        That is one on its way already, or a new one, of what is `wanted` for the read. Where the
        cache fails, into memory. Raises StoreError.
        """
        run = self._run_for(cached, missing, wanted)
        return run, await self._bring(cached, run, into_memory=True)

    def go_round(self, exc: CacheError) -> CachedObject:
        """Leave the cache alone from now on: each further try would fetch whole units in vain."""
        logger.warning("%s; reading %s without the cache", exc, self.ref.url)
        self.cached = UncachedObject(self.ref.instance.size_bytes, exc)
        self._in_memory = True
        return self.cached

    @property
    def goes_round(self) -> bool:
        """Tell whether the cache failed: a new reader may have better luck."""
        return isinstance(self.cached, UncachedObject)

    async def drop(self, cached: CachedObject, extent: Extent, drops: int, exc: CacheError) -> None:
        """Discard what failed, unless that was done since the failed read began, with `drops`.

        What was fetched anew meanwhile must not be thrown away for the error before it.
        """
        async with self._changing:
            if drops == self.drops:
                logger.warning("%s; fetching %s again", exc, self.ref.url)
                await trio.to_thread.run_sync(cached.discard, extent, limiter=self.disk)
                self.drops += 1

    # For the cache, where nobody waits for the bytes themselves

    async def bring(self, extent: Extent) -> None:
        """Have an extent brought into the cache, or find that it is there or on its way.

        Raises StoreError if it cannot be had, CacheError if it cannot be kept.
        """
        if await self._bring_at_once(extent) is not None:
            return
        cached = await self.open()
        while missing := [unit for unit in cached.missing(extent) if not self._runs.find(unit)]:
            await self._keep(cached, self._runs.first_of(missing))

    async def ensure(self) -> bool:
        """Have the whole object in the cache, checked. Tell whether any of it was fetched.

        Raises StoreError if it cannot be had, CacheError if it cannot be kept.
        """
        if (fetched := await self._bring_at_once(self.ref.whole)) is not None:
            return fetched
        cached = await self.open()
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
        if not self.is_large:
            return True  # checked as it came
        try:
            await trio.to_thread.run_sync(cached.settle, limiter=self.disk)
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
            for _ in range(PARALLEL_RUNS if self.is_large else 1):
                nursery.start_soon(keep_some)
        if errors:
            raise errors[0]

    async def _bring_at_once(self, extent: Extent) -> bool | None:
        """Have a small object that nobody has opened yet opened and brought in one go.

        Tell whether anything was fetched; None if that must be done otherwise.
        """
        if self.is_large or self.cached is not None or self._changing.locked():
            return None
        self.is_coming = True  # before the lock is taken, which lets others go first
        try:
            async with self._changing:
                filled = await self._open_filled(self.ref, extent)
                if filled is None:
                    return None
                self.cached, fetched = filled
                return fetched
        finally:
            self.is_coming = False

    async def _keep(self, cached: CachedObject, run: Extent) -> None:
        filled = await self._bring(cached, run, into_memory=False)
        if filled.failure is not None:
            raise CacheError(*filled.failure.args) from filled.failure

    # For both

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
        first = missing[0]
        if (under_way := self._runs.find(first)) is not None:
            return under_way
        if self._in_memory:
            return self._runs.chunk(first)
        end = max(wanted.end, missing[-1].end)
        wanted = Extent(wanted.offset, end - wanted.offset)
        return self._runs.around(first, cached.missing(wanted))

    def close(self) -> None:
        """Let go of the cached file."""
        if self.cached is not None:
            self.cached.close()
            self.cached = None
