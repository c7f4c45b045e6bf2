"""Counts the bytes that arrive, so that a file of gigabytes shows progress too, and silence."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from idcfs.store.observed import ObservedStore

if TYPE_CHECKING:
    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.observed import Kind


class MeteredStore(ObservedStore):
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

    def note_begun(self) -> None:
        """See `ObservedStore.note_begun`."""
        with self._lock:
            self.requests_under_way += 1

    def note_ended(
        self, kind: Kind, took_s: float | None, error: BaseException | None = None
    ) -> None:
        """See `ObservedStore.note_ended`."""
        with self._lock:
            self.requests_under_way -= 1
        if kind == "list" and took_s is not None:
            self.moved_at_s = time.monotonic()

    def observe(self, key: str, extent: Extent, sink: Sink) -> Sink:
        """See `ObservedStore.observe`."""
        counts = self._under_way.setdefault(key, {})
        # An extent that is asked for again, after a failure, starts counting anew.
        counts[extent.offset] = 0

        def counting(chunk: memoryview) -> None:
            sink(chunk)
            counts[extent.offset] += len(chunk)
            self.moved_at_s = time.monotonic()

        return counting
