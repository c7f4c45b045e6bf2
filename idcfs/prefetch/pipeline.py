"""The flow of a prefetch: series to listings to files, each stage ahead of the next, bounded."""

from __future__ import annotations

import errno
import functools
import itertools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from idcfs.errors import (
    FULL_DISK,
    AccessDeniedError,
    CacheError,
    IdcfsError,
    StoreError,
    StoreUnavailableError,
)
from idcfs.model import Instance, ObjectRef
from idcfs.prefetch.outcome import Ending, Outcome, failed_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from idcfs.fetch import Brought, Fetcher
    from idcfs.model import Checksum, Listing, Series, SeriesUUID
    from idcfs.prefetch.metered import MeteredStore
    from idcfs.prefetch.outcome import Told
    from idcfs.prefetch.patience import Patience
    from idcfs.prefetch.targets import Target

    Placed = Iterator[tuple[Series, str]]

logger = logging.getLogger(__name__)

BATCH_SERIES = 500
"""Series taken from the index at once, where nobody else takes of them."""

HOPELESS_FAILURES = 24
"""So many failures in a row that would meet every file end the job: a store that is gone,
or a full disk."""

_DISK_IS_FULL = FULL_DISK | {errno.EROFS}


@dataclass(slots=True)
class _Listed:
    """A series, its directory, and which of its series each name in there belongs to."""

    series: Series
    directory: str
    owners: dict[str, SeriesUUID]
    before: trio.Event | None
    """Set when the series before it in the directory has its names; None for the first one."""
    named: trio.Event = field(default_factory=trio.Event)
    listing: Listing | None = None
    files_left: int = 0
    """How many of its files are not there yet; never 0 for a series that is not whole."""


@dataclass(slots=True)
class Pipeline:
    """Brings series to a target. One use; all on the trio thread."""

    fetcher: Fetcher
    target: Target
    meter: MeteredStore
    patience: Patience
    outcome: Outcome
    jobs: int
    """Files brought at once, as far as the fetcher's limiters let them."""
    note: Callable[[Ending], None]
    """Told of each file that ends, and of each series that cannot be listed."""
    listers: int
    """Series listed at once. Listings cost the server more than files, and the files of one
    series keep the others busy for a while."""
    series_at_once: int = BATCH_SERIES
    """Series taken at once of those to be brought."""
    hopeless_failures: int = HOPELESS_FAILURES
    listed: Callable[[Series, int], None] = lambda *_: None
    """Told of each series, and how many files of it will end; before any of them does."""
    finished: Callable[[Series, str, Listing], None] = lambda *_: None
    """Told of each series, and its directory, once all its files are there."""
    _failed_in_a_row: int = 0
    _was_unavailable: bool = False
    _is_stopped: bool = False
    _scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    def stop(self) -> None:
        """End early: what is under way is dropped, what is complete stays.

        The store is closed: a thread that waits for one gone silent would hold up the end, as
        none is left alone with a file of the user's.
        """
        self._is_stopped = True
        self._scope.cancel()
        self.meter.close()

    async def run(self, placed: Placed) -> None:
        """Bring the files of all series, in the order given. Failures are in the outcome.

        No error of one series or file comes out of here, expected or not.

        `placed` are series and their directories, series of one directory next to
        each other; it is only asked in threads, by one at a time.
        """
        with self._scope:
            async with trio.open_nursery() as nursery:
                to_list, listings = trio.open_memory_channel[_Listed](0)
                to_bring, files = trio.open_memory_channel[tuple[_Listed, Instance]](self.jobs)
                nursery.start_soon(self._place, placed, to_list)
                for _ in range(self.listers):
                    nursery.start_soon(self._list, listings.clone(), to_bring.clone())
                for _ in range(self.jobs):
                    nursery.start_soon(self._bring, files.clone())
                # The stages end when the clones of the stage before are closed.
                listings.close()
                to_bring.close()
                files.close()
        # A firewall may refuse without an answer.
        self.outcome.out_of_reach |= self._was_unavailable and not self.outcome.fetched_files

    async def _place(self, placed: Placed, to_list: trio.MemorySendChannel[_Listed]) -> None:
        directory, owners, before = None, dict[str, "SeriesUUID"](), None
        async with to_list:
            take = functools.partial(_take, placed, self.series_at_once)
            while batch := await trio.to_thread.run_sync(take):
                for series, place in batch:
                    if place != directory:
                        directory, owners, before = place, {}, None
                    listed = _Listed(series, place, owners, before)
                    before = listed.named
                    await to_list.send(listed)

    async def _list(
        self,
        listings: trio.MemoryReceiveChannel[_Listed],
        to_bring: trio.MemorySendChannel[tuple[_Listed, Instance]],
    ) -> None:
        async with listings, to_bring:
            async for listed in listings:
                try:
                    instances = await self._instances(listed)
                except Exception as exc:
                    if self._cut_off(exc):
                        return
                    series, instances = listed.series, []
                    self.listed(series, series.instance_count or 0)
                    reason = _explain(exc, series.prefix)
                    self._note(failed_series(series, reason, series.instance_count or 0))
                    self._judge(exc)
                for instance in await self._claim_in_turn(listed, instances):
                    await to_bring.send((listed, instance))

    async def _instances(self, listed: _Listed) -> Sequence[Instance]:
        """List one series and note what of it is missing.

        Raises what the listing raises.
        """
        series, expected = listed.series, listed.series.instance_count
        listing = await self.patience.insist(lambda: self.fetcher.listing(series))
        self._failed_in_a_row = 0
        count = len(listing.instances)
        listed.listing, listed.files_left = listing, max(count, expected or 0)
        self.listed(series, listed.files_left)
        if expected is not None and count < expected:
            reason = f"the store lists {count:,} files, the index expects {expected:,}"
            self._note(failed_series(series, reason, expected - count))
        self.outcome.total_files += listed.files_left - (expected or 0)
        size_bytes = sum(instance.size_bytes for instance in listing.instances)
        self.outcome.total_bytes += size_bytes - series.size_bytes
        return listing.instances

    async def _claim_in_turn(
        self, listed: _Listed, instances: Sequence[Instance]
    ) -> list[Instance]:
        """Return those whose names no earlier series of the directory has."""
        # In path order, whichever was listed first: the next run must decide likewise.
        if listed.before is not None:
            await listed.before.wait()
        try:
            return [instance for instance in instances if self._claim(listed, instance)]
        finally:
            listed.named.set()

    def _claim(self, listed: _Listed, instance: Instance) -> bool:
        """Give a name in a directory to the first series that has it."""
        owner = listed.owners.setdefault(instance.name, listed.series.uuid)
        if owner == listed.series.uuid:
            return True
        reason = (
            f"series {owner} has a file of that name there, {listed.series.uuid} too: "
            "add %crdc_series_uuid to --dir-template"
        )
        self._end(listed, instance, "failed", reason=reason)
        return False

    async def _bring(self, files: trio.MemoryReceiveChannel[tuple[_Listed, Instance]]) -> None:
        async with files:
            async for listed, instance in files:
                ref = _ref(listed, instance)
                try:
                    bring = functools.partial(
                        self.target.bring, self.fetcher, ref, listed.directory
                    )
                    brought = await self.patience.insist(bring)
                except Exception as exc:
                    if self._cut_off(exc):
                        return
                    self._end(listed, instance, "failed", reason=_explain(exc, ref.url))
                    self._judge(exc)
                else:
                    self._failed_in_a_row = 0
                    self._end(listed, instance, _tell(brought), brought.checksum)
                    self._tick_off(listed)
                finally:
                    self.meter.settle(ref.key)

    def _end(
        self,
        listed: _Listed,
        instance: Instance,
        told: Told,
        checksum: Checksum | None = None,
        reason: str | None = None,
    ) -> None:
        ref = _ref(listed, instance)
        place = self.target.place(ref, listed.directory)
        size_bytes = instance.size_bytes
        self._note(Ending(ref.series, ref.url, place, told, size_bytes, checksum, reason))

    def _tick_off(self, listed: _Listed) -> None:
        listed.files_left -= 1
        if not listed.files_left and listed.listing is not None:
            self.finished(listed.series, listed.directory, listed.listing)

    def _note(self, ending: Ending) -> None:
        self.outcome.count(ending)
        self.note(ending)

    def _cut_off(self, exc: Exception) -> bool:
        """Tell whether it failed because all was stopped: then it has not been tried."""
        return self._is_stopped and isinstance(exc, StoreError)

    def _judge(self, exc: Exception) -> None:
        """Give up if an error, or the last ones together, would meet every file."""
        if isinstance(exc, (StoreUnavailableError, AccessDeniedError, CacheError)):
            self._failed_in_a_row += 1
        self.outcome.out_of_reach |= isinstance(exc, AccessDeniedError)
        self._was_unavailable |= isinstance(exc, StoreUnavailableError)
        if self._failed_in_a_row >= self.hopeless_failures or _is_full(exc):
            self.outcome.gave_up = _reason(exc)
            self.outcome.out_of_reach |= isinstance(exc, StoreUnavailableError)
            self._scope.cancel()


def _take(placed: Placed, count: int) -> list[tuple[Series, str]]:
    return list(itertools.islice(placed, count))


def _ref(listed: _Listed, instance: Instance) -> ObjectRef:
    return ObjectRef(listed.series.bucket, listed.series.uuid, instance)


def _tell(brought: Brought) -> Told:
    if brought.replaced:
        return "replaced"
    if brought.copied:
        return "copied"
    return "fetched" if brought.fetched else "present"


def _explain(exc: Exception, what: str) -> str:
    """Return the reason; the traceback goes to the log, for what is a bug."""
    reason = _reason(exc)
    logger.debug("%s: %s", what, reason, exc_info=exc)
    return reason


def _reason(exc: Exception) -> str:
    """Say in one line why something could not be had."""
    if isinstance(exc, OSError):
        return exc.strerror or str(exc)
    if isinstance(exc, IdcfsError):
        return str(exc)
    words = " ".join(str(exc).split()) or "no explanation"
    return f"unexpected {type(exc).__name__}: {words}; this is a bug in idcfs"


def _is_full(exc: BaseException | None) -> bool:
    """Tell whether the disk's end is at the root of an error."""
    while exc is not None:
        if isinstance(exc, OSError) and exc.errno in _DISK_IS_FULL:
            return True
        exc = exc.__cause__
    return False
