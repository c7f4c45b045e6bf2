"""The files of one series that are fetched ahead of its readers."""

from __future__ import annotations

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
        self._positions = {each.name: place for place, each in enumerate(listing.instances)}
        sizes = [instance.size_bytes for instance in listing.instances]
        # The rest of a large one is for who reads it: see `streams`.
        ahead = [size if is_small(size) else min(size, FIRST_BYTES) for size in sizes]
        self._siblings = Siblings(sizes, ahead)
        self._readers: set[ObjectReader] = set()
        self._left_at_s = math.inf

    def began(self, reader: ObjectReader, missing: bool) -> bool:
        """Note that a file is being read; tell whether others should come ahead now.

        Files that were in the cache before say nothing of what should be fetched.
        """
        position = self._positions.get(reader.ref.instance.name)
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
            position = self._positions[reader.ref.instance.name]
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

    async def _bring(self, ahead: Ahead) -> None:
        instance = self._listing.instances[ahead.position]
        reader = self._open_reader(ObjectRef(self._bucket, self._listing.series, instance))
        try:
            await reader.bring(Extent(0, ahead.length))
        finally:
            self._close_reader(reader)
