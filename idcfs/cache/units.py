"""How objects are divided into the units in which they are fetched and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.errors import CacheError
from idcfs.model import Extent

if TYPE_CHECKING:
    from idcfs.cache.protocol import ExtentWriter
    from idcfs.model import Bytes

WHOLE_LIMIT_BYTES = 32 << 20
"""Objects up to here are one unit and are checked before their first byte is served: half
of all files are under 0.5 MB, and a whole object can be held against its MD5."""

UNIT_BYTES = 8 << 20
"""The unit of larger objects: a tenth of a second at 80 MB/s, so that a random read does
not wait long, while the requests of a sequential one stay few."""


def units(size_bytes: int, extent: Extent) -> list[Extent]:
    """Return the units of an object of `size_bytes` that `extent` touches, in order."""
    if not extent.length:
        return []
    unit = max(size_bytes, 1) if size_bytes <= WHOLE_LIMIT_BYTES else UNIT_BYTES
    first = extent.offset - extent.offset % unit
    return [
        Extent(offset, min(unit, size_bytes - offset)) for offset in range(first, extent.end, unit)
    ]


class UncachedObject:
    """A `CachedObject` that holds nothing and keeps nothing: for when the cache fails."""

    def __init__(self, size_bytes: int, failure: CacheError) -> None:
        self._size = size_bytes
        self._failure = failure

    def missing(self, extent: Extent) -> list[Extent]:
        """Every unit, always."""
        return units(self._size, extent)

    def writer(self, extent: Extent) -> ExtentWriter:
        """Raise the error that made the cache unusable."""
        raise CacheError(*self._failure.args)

    def read_nowait(self, extent: Extent) -> Bytes | None:
        """Nothing is ever there."""
        return None

    def read(self, extent: Extent) -> Bytes:
        """Raise the error that made the cache unusable."""
        raise CacheError(*self._failure.args)

    def discard(self) -> None:
        """Nothing to drop."""

    def close(self) -> None:
        """Nothing to close."""
