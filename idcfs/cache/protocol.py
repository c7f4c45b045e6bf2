"""What `fetch` may ask of a cache.

The unit is the extent, so that a large object can be stored piece by piece; how
extents are aligned is the cache's own choice, told by `CachedObject.missing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from idcfs.model import Bytes, Checksum, Extent, Listing, ObjectRef, SeriesUUID


FindChecksums = Callable[[], Sequence["Checksum"]]
"""Returns the checksums that the store keeps of a whole object. May raise StoreError."""


class ExtentWriter(Protocol):
    """Takes the bytes of a missing extent. Blocking; one thread at a time."""

    @property
    def extent(self) -> Extent:
        """What it takes: the extent that was asked for, or the first of its units."""
        ...

    def expect(self, offered: tuple[Checksum, ...]) -> None:
        """Check the whole object against one of these, told before its first byte."""
        ...

    def write(self, chunk: memoryview) -> None:
        """Append `chunk`. Raises CacheError when the disk does not take it."""
        ...

    def commit(self) -> None:
        """Check what was written and make the extent readable, to every process.

        Raises IntegrityError when the length is wrong, or the object's checksum, which can
        be told as soon as the whole object is there; what was written is then forgotten.
        Raises CacheError when the disk fails.
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
        end, so that two readers who miss the same unit get equal extents. What
        another process has stored may still be among them: `writer` looks.
        """
        ...

    def writer(
        self,
        extent: Extent,
        given_up: Callable[[], bool] = lambda: False,
        *,
        waits: bool = True,
        waits_for_room: bool = True,
    ) -> ExtentWriter | None:
        """Start writing a missing unit, or adjacent ones; None if all is stored by now.

        All of a small object can be written at once, or any of its units. Waits while
        somebody else, in any process, writes the first of them, but not for ever.
        `given_up` tells, from any thread and also later, whether nobody wants the extent
        any more: waiting then ends with CacheError, and the next writer of the same bytes
        ends this one, which can write and commit no more. Who does not wait meets CacheError
        at once; and so does his `commit` of the last part, which then is stored, since to check
        the whole may take the network: the next who waits does that. Nor does he wait for room
        that others are about to let go of; without `waits_for_room` that alone is not waited
        for, by one who has another place for the bytes. Blocks; raises CacheError when the disk
        fails or has no room, and IntegrityError when others have brought all, and it is not the
        object.
        """
        ...

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """Return the bytes if they are in the page cache; None if a disk must be asked.

        Raises CacheError if they cannot be read or prove damaged.
        """
        ...

    def read(self, extent: Extent) -> Bytes:
        """Return the bytes of a stored extent. Raises as `read_nowait`."""
        ...

    def share(self, fd: int) -> bool:
        """Make an empty file share the blocks of the object, which is stored whole.

        Tells whether the file system can do that; what it then has is not checked. Never
        raises.
        """
        ...

    def discard(self, extent: Extent) -> None:
        """Drop what holds `extent`, because it proved unreadable. Never raises.

        That is the blocks that it touches, or all of a small object that is whole, or what
        cannot be read.
        """
        ...

    def settle(self) -> None:
        """Wait until an object all of which is stored has been checked. Blocks.

        Raises IntegrityError if it is not what was promised, and has been dropped.
        """
        ...

    def close(self) -> None:
        """Let go of the file. What is stored stays."""
        ...


class Cache(Protocol):
    """Listings and objects on disk. Thread-safe."""

    def find_listing(self, series: SeriesUUID) -> Listing | None:
        """Return the kept listing, or None."""
        ...

    def may_have(self, ref: ObjectRef) -> bool:
        """Tell whether an object seems to be stored whole; never raises. `open` says if it is."""
        ...

    def may_have_of(self, series: SeriesUUID) -> bool:
        """Tell whether an object of a series seems to be stored whole; never raises."""
        ...

    def put_listing(self, listing: Listing) -> None:
        """Keep a complete listing for ever."""
        ...

    def open(
        self, ref: ObjectRef, find_checksums: FindChecksums = list, *, waits: bool = True
    ) -> CachedObject:
        """Open what is held of an object; nothing held is not an error.

        `find_checksums` is asked, in any thread, what the whole is held against if it came
        in pieces and its ETag is no MD5. Waits while the series is just being removed; who
        does not wait meets CacheError at once.
        """
        ...
