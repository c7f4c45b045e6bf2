"""Units that the cache could not take, kept in memory for a while. On the trio thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio
from cachetools import TTLCache

from idcfs.model import Extent, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.fetch.units import Filled

UnitsKey = tuple[ObjectRef, Extent, bool]
"""Object, extent, and whether it goes round the cache."""

_MOST_BYTES = 96 << 20
"""All that is kept: twelve of the largest units."""

_AHEAD_BYTES = 48 << 20
"""What comes ahead of readers and has not been read yet. What readers wait for needs room too, or
each would push out what the other one is about to read."""

KEPT_S = 60.0
"""Afterwards the cache is tried again."""


class Aside:
    """Keeps units that were read, which others may read too, and those that are about to be."""

    def __init__(self) -> None:
        self._kept: TTLCache[UnitsKey, Filled] = TTLCache(
            _MOST_BYTES,
            KEPT_S,
            timer=trio.current_time,
            getsizeof=lambda filled: len(filled.content or b""),
        )
        self._coming: set[UnitsKey] = set()
        """What comes ahead of readers."""
        self._unread: set[UnitsKey] = set()
        """What has come ahead of them."""

    @property
    def room_bytes(self) -> int:
        """How much more may come ahead of readers now."""
        self._unread = {key for key in self._unread if key in self._kept}
        ahead_bytes = sum(extent.length for _, extent, _ in self._unread | self._coming)
        return max(_AHEAD_BYTES - ahead_bytes, 0)

    @contextmanager
    def coming(self, key: UnitsKey) -> Iterator[None]:
        """Count what is on its way ahead of readers."""
        self._coming.add(key)
        try:
            yield
        finally:
            self._coming.discard(key)

    def keep(self, key: UnitsKey, filled: Filled, *, is_read: bool) -> None:
        """Keep units that came for a reader, or ahead of one."""
        self._kept[key] = filled
        if not is_read:
            self._unread.add(key)

    def find(self, key: UnitsKey, *, is_read: bool) -> Filled | None:
        """Return what is kept, for a reader or to see whether it is there."""
        if is_read:
            self.note_read(key)
        return self._kept.get(key)

    def note_read(self, key: UnitsKey) -> None:
        """Note that a reader has what may have come ahead of it."""
        self._unread.discard(key)
