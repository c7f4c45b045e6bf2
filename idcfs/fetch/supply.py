"""The units of one open object: what the cache holds of them, and how the rest is brought in."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from idcfs.cache import UncachedObject, is_small
from idcfs.errors import CacheError, IdcfsError, IntegrityError
from idcfs.fetch.large import PARALLEL_RUNS
from idcfs.fetch.runs import Runs
from idcfs.fetch.units import Purpose
from idcfs.model import Extent

if TYPE_CHECKING:
    from idcfs.cache import CachedObject
    from idcfs.fetch.intake import Intake
    from idcfs.fetch.units import Filled
    from idcfs.model import ObjectRef

logger = logging.getLogger(__name__)

_PASSES = 3
"""How often the units of an object are brought in before it is given up: when all are there
and the whole has another MD5 than promised, nobody can tell which of them was wrong."""


class Supply:
    """Opens one object in the cache, once for all, and brings in what is missing.

    On the trio thread.
    """

    def __init__(self, ref: ObjectRef, intake: Intake) -> None:
        self.ref = ref
        self.disk = intake.disk
        """The limiter of threads for the disk."""
        self.is_large = not is_small(ref.instance.size_bytes)
        self.cached: CachedObject | None = None
        """What was opened, for others to read."""
        self.is_coming = False
        """Whether it is being opened and brought in one go."""
        self.drops = 0
        """How often what was cached has been discarded."""
        self.in_memory = False
        """Whether the cache could not take the last run."""
        self._intake = intake
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
                    self.cached = await self._intake.open_cached(self.ref)
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
        return run, await self._bring(cached, run, Purpose.READ)

    def go_round(self, exc: CacheError) -> CachedObject:
        """Leave the cache alone from now on: each further try would fetch whole units in vain."""
        logger.warning("%s; reading %s without the cache", exc, self.ref.url)
        self.cached = UncachedObject(self.ref.instance.size_bytes, exc)
        self.in_memory = True
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

    # Where nobody waits for the bytes themselves

    async def bring(self, extent: Extent) -> None:
        """Have an extent there for whoever may read it, or find that it is or on its way.

        That is in the cache, or in memory where that fails and there is room. Raises StoreError
        if it cannot be had, CacheError if it cannot be kept.
        """
        if await self._bring_at_once(extent) is not None:
            return
        cached, done = await self.open(), extent.offset
        # What is in memory is missing in the cache all the time.
        while missing := [
            unit for unit in cached.missing(extent) if unit.end > done and not self._runs.find(unit)
        ]:
            chunk = self._chunk_of(missing[0])
            run = chunk or self._runs.first_of(missing)
            # Only what is asked for in the same way will be found in memory.
            is_found = chunk is not None or not self.is_large
            await self._bring_well(cached, run, Purpose.AHEAD if is_found else Purpose.CACHE_AHEAD)
            done = run.end

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
                    await self._bring_well(cached, run, Purpose.KEEP)
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
                filled = await self._intake.open_filled(self.ref, extent)
                if filled is None:
                    return None
                self.cached, fetched = filled
                return fetched
        finally:
            self.is_coming = False

    async def _bring_well(self, cached: CachedObject, run: Extent, purpose: Purpose) -> None:
        filled = await self._bring(cached, run, purpose)
        if filled.failure is not None and (filled.content is None or purpose is not Purpose.AHEAD):
            raise CacheError(filled.failure)

    # For both

    async def _bring(self, cached: CachedObject, run: Extent, purpose: Purpose) -> Filled:
        """Have a run of units brought in, together with whoever waits for it already."""
        with self._runs.under_way(run):
            filled = await self._intake.fill(self.ref, cached, run, purpose)
        self.in_memory = filled.failure is not None
        return filled

    def _run_for(self, cached: CachedObject, missing: list[Extent], wanted: Extent) -> Extent:
        first = missing[0]
        if (run := self._runs.find(first) or self._chunk_of(first)) is not None:
            return run
        end = max(wanted.end, missing[-1].end)
        wanted = Extent(wanted.offset, end - wanted.offset)
        return self._runs.around(first, cached.missing(wanted))

    def _chunk_of(self, unit: Extent) -> Extent | None:
        """Return what is fetched to get a unit into memory, where it is found as this only.

        None if the cache is to have it; and of a small object, which is asked for in one way.
        """
        return self._runs.chunk(unit) if self.in_memory and self.is_large else None

    def close(self) -> None:
        """Let go of the cached file."""
        if self.cached is not None:
            self.cached.close()
            self.cached = None
