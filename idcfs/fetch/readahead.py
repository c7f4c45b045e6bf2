"""The files of series that are fetched ahead of their readers."""

from __future__ import annotations

import bisect
import functools
import math
from typing import TYPE_CHECKING

import trio
from cachetools import LRUCache

from idcfs.cache import is_small
from idcfs.fetch.siblings import Siblings
from idcfs.fetch.streams import FIRST_BYTES
from idcfs.model import Extent, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.fetch.background import Background, Job
    from idcfs.fetch.reader import ObjectReader
    from idcfs.fetch.siblings import Ahead
    from idcfs.model import Listing, SeriesUUID

_SERIES = 64
"""Series whose readers' habits are remembered."""

_GONE_S = 1.0
"""A series that nobody has had open for so long has no reader any more: what is fetched
ahead for it is cancelled."""


class Readaheads:
    """Has the rest of a series fetched ahead of whoever reads it. On the trio thread.

    Only of one whose listing `find_listing` knows. The other two are the Fetcher's.
    """

    def __init__(
        self,
        background: Background,
        *,
        find_listing: Callable[[SeriesUUID], Listing | None],
        open_reader: Callable[[ObjectRef], ObjectReader],
        close_reader: Callable[[ObjectReader], None],
    ) -> None:
        self._background = background
        self._find_listing = find_listing
        self._open_reader = open_reader
        self._close_reader = close_reader
        self._series: LRUCache[SeriesUUID, SeriesReadahead] = LRUCache(_SERIES)
        self._watching = False

    def began(self, reader: ObjectReader, missing: bool) -> None:
        """Note that a file is being read, of which something was `missing` or nothing."""
        series = reader.ref.series
        readahead = self._series.get(series)
        if readahead is None:
            listing = self._find_listing(series)
            if not missing or listing is None:
                return
            readahead = SeriesReadahead(
                listing,
                reader.ref.bucket,
                open_reader=self._open_reader,
                close_reader=self._close_reader,
            )
            self._series[series] = readahead
        if readahead.began(reader, missing):
            self._background.wake(readahead)
            self._watch()

    def ended(self, reader: ObjectReader) -> None:
        """Note that nobody reads a file any more."""
        readahead = self._series.get(reader.ref.series)
        if readahead is not None:
            readahead.ended(reader, trio.current_time())

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            # Not in the nursery: whoever waits for its end would wait for this.
            trio.lowlevel.spawn_system_task(self._drop_left)

    async def _drop_left(self) -> None:
        """Stop fetching ahead for readers that went away; ends when none is left."""
        try:
            while self._series:
                await trio.sleep(_GONE_S / 2)
                for series, readahead in list(self._series.items()):
                    if trio.current_time() - readahead.left_at_s >= _GONE_S:
                        self._background.drop(readahead)
                        del self._series[series]
        finally:
            self._watching = False


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
