"""Readers that nobody has open, kept a while in case somebody comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from cachetools import LRUCache

if TYPE_CHECKING:
    from idcfs.fetch.reader import ObjectReader
    from idcfs.model import ObjectRef

MOST = 160
"""Closed objects whose file stays open: a viewer closes and opens the same slide, whose
pieces would be lost with it; and what was fetched ahead is about to be opened."""

_MOST_BYTES = 1 << 30
"""The size of these objects together: nobody can evict a series of which a file is open,
and a walk over slides of gigabytes must not fill the cache with what cannot go."""

_KEPT_S = 5.0
"""Nor for longer than this, twice at most: a user may want to evict what was just read."""


class IdleReaders:
    """Closes those that it cannot keep. On the trio thread."""

    def __init__(self) -> None:
        self._readers = _Closing(_MOST_BYTES, getsizeof=_share)
        self._sweeping = False

    def keep(self, reader: ObjectReader) -> None:
        """Take a reader that nobody has open any more."""
        if _share(reader) > _MOST_BYTES:
            reader.close()
            return
        self._readers[reader.ref] = reader
        if not self._sweeping:
            self._sweeping = True
            # Not in a nursery: whoever waits for its end would wait for this.
            trio.lowlevel.spawn_system_task(self._sweep)

    def take(self, ref: ObjectRef) -> ObjectReader | None:
        """Give back the reader of an object, if it is there still."""
        return self._readers.pop(ref, None)

    def close(self) -> None:
        """Close them all."""
        while self._readers:
            self._readers.popitem()

    async def _sweep(self) -> None:
        """Close those that stay; ends when none is left."""
        try:
            while self._readers:
                former = set(self._readers)
                await trio.sleep(_KEPT_S)
                for ref in former & self._readers.keys():
                    self._readers.pop(ref).close()
        finally:
            self._sweeping = False


class _Closing(LRUCache["ObjectRef", "ObjectReader"]):
    def popitem(self) -> tuple[ObjectRef, ObjectReader]:
        ref, reader = super().popitem()
        reader.close()
        return ref, reader


def _share(reader: ObjectReader) -> int:
    """Return how much of the room a reader takes: there must not be too many small ones."""
    return max(reader.ref.instance.size_bytes, _MOST_BYTES // MOST)
