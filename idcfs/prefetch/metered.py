"""Counts the bytes that arrive, so that a file of gigabytes shows progress too, and silence."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.store.passing import PassingMultiplexer, PassingStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.protocol import (
        Drop,
        ExtentRequest,
        Multiplexer,
        OfferedSink,
        StoredObject,
    )


class MeteredStore(PassingStore):
    """An `ObjectStore` that passes everything on and counts what is under way. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._under_way: dict[str, dict[int, int]] = {}
        """By key, the bytes that have come of each extent, by its offset."""
        self.moved_at_s: float | None = None
        """When anything came last, by the monotonic clock."""
        self._lock = threading.Lock()
        self.requests_under_way = 0

    @property
    def bytes_under_way(self) -> int:
        """Return the bytes that have come of objects not yet settled."""
        extents = list(self._under_way.values())
        return sum(sum(list(counts.values())) for counts in extents)

    def settle(self, key: str) -> None:
        """Stop counting an object: it is there, or will not be."""
        self._under_way.pop(key, None)

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """See `ObjectStore.list_prefix`."""
        with self._asking():
            objects = super().list_prefix(bucket, prefix, expected=expected)
        self.moved_at_s = time.monotonic()
        return objects

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self.note_asked(1)
        try:
            yield
        finally:
            self.note_asked(-1)

    def note_asked(self, count: int) -> None:
        """Count requests that begin, or end where `count` is negative."""
        with self._lock:
            self.requests_under_way += count

    def get_extent(
        self,
        bucket: str,
        key: str,
        extent: Extent,
        sink: Sink,
        *,
        etag: str,
        offered: OfferedSink | None = None,
    ) -> None:
        """See `ObjectStore.get_extent`."""
        counting = self.counting(key, extent, sink)
        with self._asking():
            super().get_extent(bucket, key, extent, counting, etag=etag, offered=offered)

    def counting(self, key: str, extent: Extent, sink: Sink) -> Sink:
        """Return a sink that counts what it passes on to `sink`."""
        counts = self._under_way.setdefault(key, {})
        # An extent that is asked for again, after a failure, starts counting anew.
        counts[extent.offset] = 0

        def counting(chunk: memoryview) -> None:
            sink(chunk)
            counts[extent.offset] += len(chunk)
            self.moved_at_s = time.monotonic()

        return counting

    def find_multiplexer(self) -> Multiplexer | None:
        """See `ObjectStore.find_multiplexer`."""
        multiplexer = self._store.find_multiplexer()
        return None if multiplexer is None else _MeteredMultiplexer(multiplexer, self)


class _MeteredMultiplexer(PassingMultiplexer):
    """A `Multiplexer` whose exchanges count as its store's."""

    def __init__(self, multiplexer: Multiplexer, meter: MeteredStore) -> None:
        super().__init__(multiplexer)
        self._meter = meter

    def begin(self, request: ExtentRequest) -> Drop | None:
        """See `Multiplexer.begin`."""
        meter = self._meter

        def ended_too(error: Exception | None) -> None:
            meter.note_asked(-1)
            request.ended(error)

        counting = meter.counting(request.key, request.extent, request.sink)
        drop = super().begin(request._replace(sink=counting, ended=ended_too))
        if drop is None:
            return None

        def drop_too() -> None:
            meter.note_asked(-1)
            drop()

        meter.note_asked(1)
        return drop_too
