"""The files of one series that are fetched ahead of its readers."""

from __future__ import annotations

import bisect
import functools
import math
from typing import TYPE_CHECKING

from idcfs.cache import is_small
from idcfs.fetch.siblings import Siblings
from idcfs.fetch.streams import FIRST_BYTES
from idcfs.model import Extent, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.fetch.background import Job
    from idcfs.fetch.reader import ObjectReader
    from idcfs.fetch.siblings import Ahead
    from idcfs.model import Listing


class SeriesReadahead:
    """Tells what `Siblings` decides to the readers of a series. A `background.Source`."""

    def __init__(
        self,
        listing: Listing,
        bucket: str,
        *,
        open_reader: Callable[[ObjectRef], ObjectReader],
        close_reader: Callable[[ObjectReader], None],
    ) -> None:
        self._listing = listing
        self._bucket = bucket
        self._open_reader = open_reader
        self._close_reader = close_reader
        # Functions, since lists over the widest series would hold up the loop.
        self._siblings = Siblings(
            len(listing.instances), size_of=self._size_of, ahead_of=self._ahead_of
        )
        self._readers: set[ObjectReader] = set()
        self._left_at_s = math.inf

    def began(self, reader: ObjectReader, missing: bool) -> bool:
        """Note that a file is being read; tell whether others should come ahead now.

        Files that were in the cache before say nothing of what should be fetched.
        """
        position = self._find(reader)
        if position is None or not (missing or self._siblings.was_sent_for(position)):
            return False
        self._readers.add(reader)
        self._left_at_s = math.inf
        self._siblings.opened(position)
        reader.headers_only = self._siblings.headers_only
        return True

    def ended(self, reader: ObjectReader, now_s: float) -> None:
        """Note that nobody reads a file any more."""
        if reader in self._readers:
            self._readers.remove(reader)
            if (position := self._find(reader)) is not None:
                self._siblings.closed(position, reader.reach_bytes)
            if not self._readers:
                self._left_at_s = now_s

    @property
    def left_at_s(self) -> float:
        """When the last of its readers went away, on trio's clock; infinity if there are any."""
        return self._left_at_s

    def take(self) -> Job | None:
        """See `background.Source`."""
        ahead = self._siblings.take()
        return None if ahead is None else functools.partial(self._bring, ahead)

    def _find(self, reader: ObjectReader) -> int | None:
        """Return the position of what is read; None if it is not in the listing, as it was."""
        instances, name = self._listing.instances, reader.ref.instance.name.encode()
        position = bisect.bisect_left(instances, name, key=lambda each: each.name.encode())
        if position < len(instances) and instances[position] == reader.ref.instance:
            return position
        return None

    def _size_of(self, position: int) -> int:
        return self._listing.instances[position].size_bytes

    def _ahead_of(self, position: int) -> int:
        size = self._size_of(position)
        # The rest of a large one is for who reads it: see `streams`.
        return size if is_small(size) else min(size, FIRST_BYTES)

    async def _bring(self, ahead: Ahead) -> None:
        instance = self._listing.instances[ahead.position]
        reader = self._open_reader(ObjectRef(self._bucket, self._listing.series, instance))
        try:
            await reader.bring(Extent(0, ahead.length))
        finally:
            self._close_reader(reader)
