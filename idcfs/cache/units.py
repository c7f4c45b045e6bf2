"""How objects are divided into the units in which they are fetched and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.errors import CacheError
from idcfs.model import Extent

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache.protocol import ExtentWriter
    from idcfs.model import Bytes

WHOLE_LIMIT_BYTES = 8 << 20
"""Objects up to here are small: they are asked for whole, unless somebody knows that their
beginnings are all that is wanted, and what comes whole is held against its MD5 before its
first byte is served. Half of all files are under 0.5 MB; one of 8 MiB takes a tenth of a
second at 80 MB/s, so that a reader of a header does not wait long."""

BLOCK_BYTES = 128 << 10
"""What the kernel reads ahead from FUSE, so that most reads are one block: reading and
checking it takes some 30 µs where moving it through FUSE takes 90. At 1 MiB, a 4 KiB read of a
header would cost 0.3 ms; at 16 KiB, a large object's checksums would take eight times the space."""

UNIT_BYTES = 128 << 10
"""The unit of objects that are not small, a multiple of the blocks that have a checksum. A
tile of 256 KiB, anywhere in a slide, touches three of these, and five times its bytes in
units of 1 MiB. Whoever reads in order has adjacent units fetched as one."""


def is_small(size_bytes: int) -> bool:
    """Tell whether an object is asked for whole, unless only a part of it is wanted."""
    return size_bytes <= WHOLE_LIMIT_BYTES


def unit_bytes(size_bytes: int) -> int:
    """Return how long a unit of an object of `size_bytes` is.

    That of a small object is one block. Less could not be checked by itself, and is hardly
    ever asked for, as the kernel reads ahead so much; more would have a reader of headers,
    64 KiB of 528 kB, move many times what it wants.
    """
    return BLOCK_BYTES if is_small(size_bytes) else UNIT_BYTES


def units(size_bytes: int, extent: Extent) -> list[Extent]:
    """Return the units of an object of `size_bytes` that `extent` touches, in order."""
    if not extent.length:
        return []
    unit = unit_bytes(size_bytes)
    first = extent.offset - extent.offset % unit
    return [
        Extent(offset, min(unit, size_bytes - offset)) for offset in range(first, extent.end, unit)
    ]


def adjacent(extents: list[Extent]) -> Extent | None:
    """Return the longest extent that the first ones make up together; None if there are none."""
    if not extents:
        return None
    end = extents[0].end
    for extent in extents[1:]:
        if extent.offset != end:
            break
        end = extent.end
    return Extent(extents[0].offset, end - extents[0].offset)


class UncachedObject:
    """A `CachedObject` that holds nothing and keeps nothing: for when the cache fails."""

    def __init__(self, size_bytes: int, failure: CacheError) -> None:
        self._size = size_bytes
        self._failure = failure

    def missing(self, extent: Extent) -> list[Extent]:
        """Every unit, always."""
        return units(self._size, extent)

    def writer(
        self,
        extent: Extent,
        given_up: Callable[[], bool] = lambda: False,
        *,
        waits: bool = True,
        waits_for_room: bool = True,
    ) -> ExtentWriter | None:
        """Raise the error that made the cache unusable."""
        raise CacheError(*self._failure.args)

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """Nothing is ever there."""
        return None

    def read(self, extent: Extent) -> Bytes:
        """Raise the error that made the cache unusable."""
        raise CacheError(*self._failure.args)

    def share(self, fd: int) -> bool:
        """Nothing is ever there."""
        return False

    def discard(self, extent: Extent) -> None:
        """Nothing to drop."""

    def settle(self) -> None:
        """Nothing is ever stored, so that there is nothing to check."""

    def close(self) -> None:
        """Nothing to close."""
