"""Fetches one large object into a file of the user's by several requests at once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import trio

from idcfs.cache import ContentCheck
from idcfs.fetch.download import Brought, FollowingCheck, download_extent
from idcfs.fetch.streams import runs_of
from idcfs.fetch.unfinished import partial_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache.protocol import FindChecksums
    from idcfs.fetch.run_record import RunRecord
    from idcfs.fetch.unfinished import StrPath
    from idcfs.model import Extent, ObjectRef
    from idcfs.store import ObjectStore

PARALLEL_RUNS = 8
"""Requests under way for one large object that is wanted whole: at 80 MB/s a connection,
as of the link in `make bench`, more than 5 Gbit/s."""


class LargeDownload:
    """One download of one object, hashed as its runs join up. One use; on the trio thread.

    The runs that a download cut off has left behind are not fetched again.
    """

    def __init__(
        self,
        *,
        store: ObjectStore,
        ref: ObjectRef,
        objects: trio.CapacityLimiter,
        disk: trio.CapacityLimiter,
        find_checksums: FindChecksums,
        verify_content: bool,
    ) -> None:
        """`objects` and `disk` limit the threads for transfers, and for hashing."""
        self._store = store
        self._ref = ref
        self._objects = objects
        self._disk = disk
        self._find_checksums = find_checksums
        self._verifies = verify_content
        self._waiting = runs_of(ref.instance.size_bytes)
        self._arrived: dict[int, int] = {}
        """End of each run that is there, by its offset, as far as it does not join up."""
        self._joined_bytes = 0
        self._hashing = trio.Lock()
        self._errors: list[Exception] = []

    async def run(self, destination: StrPath) -> Brought:
        """Have the object at `destination`. Raises as `download_object`.

        What came is left for the next one if the store is out of reach, or when cancelled.
        """
        with partial_file(self._ref, destination) as (fd, record):
            bring = functools.partial(self._bring, fd=fd, record=record)
            check = await self._begin_check()
            following = FollowingCheck(self._ref, fd, check) if check.knows_content else None
            async with trio.open_nursery() as nursery:
                for _ in range(PARALLEL_RUNS):
                    nursery.start_soon(self._bring_some, bring, following, nursery.cancel_scope)
            if self._errors:
                raise self._errors[0]
            if following is not None:
                await trio.to_thread.run_sync(following.finish, limiter=self._disk)
        return Brought(True, check.checksum)

    async def _begin_check(self) -> ContentCheck:
        ref = self._ref
        check = ContentCheck(ref, ref.whole, verify_content=self._verifies)
        await trio.to_thread.run_sync(check.ask, self._find_checksums, limiter=self._objects)
        return check

    async def _bring_some(
        self,
        bring: Callable[[Extent], None],
        following: FollowingCheck | None,
        scope: trio.CancelScope,
    ) -> None:
        try:
            for run in self._waiting:
                # Never abandoned: the file is closed when this ends.
                await trio.to_thread.run_sync(bring, run, limiter=self._objects)
                self._note(run)
                if following is not None:
                    async with self._hashing:
                        await trio.to_thread.run_sync(
                            following.follow, self._joined_bytes, limiter=self._disk
                        )
        except Exception as exc:  # told by `run`, without the group of a nursery
            self._errors.append(exc)
            scope.cancel()

    def _bring(self, run: Extent, *, fd: int, record: RunRecord | None) -> None:
        """Have one run in the file; in a thread."""
        if record is None:
            download_extent(self._store, self._ref, run, fd)
        elif not record.has(run, fd):
            record.note(run, download_extent(self._store, self._ref, run, fd))

    def _note(self, run: Extent) -> None:
        self._arrived[run.offset] = run.end
        while self._joined_bytes in self._arrived:
            self._joined_bytes = self._arrived.pop(self._joined_bytes)
