"""A cache that fails where a test wants it to, over a real one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache import Cache, CachedObject, ExtentWriter
    from idcfs.cache.protocol import FindChecksums
    from idcfs.model import Bytes, Checksum, Extent, Listing, ObjectRef, SeriesUUID


class FaultyCache:
    """Passes on to `inner` unless `fails` says, of the step at hand, that it fails.

    Steps: find_listing, put_listing, open, writer, write, commit, read, read_nowait.
    """

    def __init__(self, inner: Cache, fails: Callable[[str], bool]) -> None:
        self._inner = inner
        self._fails = fails
        self._lock = threading.Lock()

    def check(self, step: str) -> None:
        with self._lock:
            failed = self._fails(step)
        if failed:
            raise CacheError(f"{step} fails")

    def find_listing(self, series: SeriesUUID) -> Listing | None:
        self.check("find_listing")
        return self._inner.find_listing(series)

    def put_listing(self, listing: Listing) -> None:
        self.check("put_listing")
        self._inner.put_listing(listing)

    def may_have_of(self, series: SeriesUUID) -> bool:
        return self._inner.may_have_of(series)

    def may_have(self, ref: ObjectRef) -> bool:
        return self._inner.may_have(ref)

    def open(
        self, ref: ObjectRef, find_checksums: FindChecksums = list, *, waits: bool = True
    ) -> CachedObject:
        self.check("open")
        return _FaultyObject(self, self._inner.open(ref, find_checksums, waits=waits))


class _FaultyObject:
    def __init__(self, cache: FaultyCache, inner: CachedObject) -> None:
        self._cache = cache
        self._inner = inner

    def missing(self, extent: Extent) -> list[Extent]:
        return self._inner.missing(extent)

    def writer(
        self,
        extent: Extent,
        given_up: Callable[[], bool] = lambda: False,
        *,
        waits: bool = True,
        waits_for_room: bool = True,
    ) -> ExtentWriter | None:
        self._cache.check("writer")
        writer = self._inner.writer(extent, given_up, waits=waits, waits_for_room=waits_for_room)
        return None if writer is None else _FaultyWriter(self._cache, writer)

    def read_nowait(self, extent: Extent) -> Bytes | None:
        self._cache.check("read_nowait")
        return self._inner.read_nowait(extent)

    def read(self, extent: Extent) -> Bytes:
        self._cache.check("read")
        return self._inner.read(extent)

    def share(self, fd: int) -> bool:
        return self._inner.share(fd)

    def discard(self, extent: Extent) -> None:
        self._inner.discard(extent)

    def settle(self) -> None:
        self._inner.settle()

    def close(self) -> None:
        self._inner.close()


class _FaultyWriter:
    def __init__(self, cache: FaultyCache, inner: ExtentWriter) -> None:
        self._cache = cache
        self._inner = inner

    @property
    def extent(self) -> Extent:
        return self._inner.extent

    def expect(self, offered: tuple[Checksum, ...]) -> None:
        self._inner.expect(offered)

    def write(self, chunk: memoryview) -> None:
        self._cache.check("write")
        self._inner.write(chunk)

    def commit(self) -> None:
        self._cache.check("commit")
        self._inner.commit()

    def abort(self) -> None:
        self._inner.abort()
