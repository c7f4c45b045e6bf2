"""What `fetch` may ask of a cache.

The unit is the extent, so that a large object can be stored piece by piece; how
extents are aligned is the cache's own choice, told by `CachedObject.missing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from idcfs.model import Bytes, Extent, Listing, ObjectRef, SeriesUUID


class ExtentWriter(Protocol):
    """Takes the bytes of one missing extent. Blocking; one thread at a time."""

    def write(self, chunk: memoryview) -> None:
        """Append `chunk`. Raises CacheError when the disk does not take it."""
        ...

    def commit(self) -> None:
        """Check what was written and make the extent readable, atomically.

        Raises IntegrityError when the length is wrong, or the object's MD5, which
        can be told as soon as the whole object is there; what was written is then
        forgotten. Raises CacheError when the disk fails.
        """
        ...

    def abort(self) -> None:
        """Forget what was written. Never raises; harmless after `commit`."""
        ...


class CachedObject(Protocol):
    """What the cache holds of one object: all of it, some of it or nothing yet."""

    def missing(self, extent: Extent) -> list[Extent]:
        """Return what must still be written before `extent` can be read, in order.

        The extents are the cache's own aligned units, clipped to the object's
        end, so that two readers who miss the same unit get equal extents.
        """
        ...

    def writer(self, extent: Extent) -> ExtentWriter:
        """Start writing one of the extents that `missing` named.

        An older writer of the same extent can write and commit no more. Raises
        CacheError when the disk fails, or the extent is stored already.
        """
        ...

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """Return the bytes if they are in the page cache; None if a disk must be asked."""
        ...

    def read(self, extent: Extent) -> Bytes:
        """Return the bytes of a stored extent. Raises CacheError if they cannot be read."""
        ...

    def discard(self) -> None:
        """Drop all that is held of the object, because it proved unreadable. Never raises."""
        ...

    def close(self) -> None:
        """Let go of the file. Complete objects stay; an incomplete one may be dropped."""
        ...


class Cache(Protocol):
    """Listings and objects on disk. Thread-safe."""

    def find_listing(self, series: SeriesUUID) -> Listing | None:
        """Return the kept listing, or None."""
        ...

    def put_listing(self, listing: Listing) -> None:
        """Keep a complete listing for ever."""
        ...

    def open(self, ref: ObjectRef) -> CachedObject:
        """Open what is held of an object; nothing held is not an error."""
        ...
