"""Counts the bytes that arrive, so that a file of gigabytes shows progress too, and silence."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.store.passing import PassingStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.protocol import OfferedSink, StoredObject


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
        with self._lock:
            self.requests_under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self.requests_under_way -= 1

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
        counts = self._under_way.setdefault(key, {})
        # An extent that is asked for again, after a failure, starts counting anew.
        counts[extent.offset] = 0

        def counting(chunk: memoryview) -> None:
            sink(chunk)
            counts[extent.offset] += len(chunk)
            self.moved_at_s = time.monotonic()

        with self._asking():
            super().get_extent(bucket, key, extent, counting, etag=etag, offered=offered)
