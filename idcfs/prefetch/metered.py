"""Counts the bytes that arrive, so that a file of gigabytes shows progress too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.store.passing import PassingStore

if TYPE_CHECKING:
    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.protocol import OfferedSink


class MeteredStore(PassingStore):
    """An `ObjectStore` that passes everything on and counts what is under way. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._under_way: dict[str, dict[int, int]] = {}
        """By key, the bytes that have come of each extent, by its offset."""

    @property
    def bytes_under_way(self) -> int:
        """Return the bytes that have come of objects not yet settled."""
        extents = list(self._under_way.values())
        return sum(sum(list(counts.values())) for counts in extents)

    def settle(self, key: str) -> None:
        """Stop counting an object: it is there, or will not be."""
        self._under_way.pop(key, None)

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

        super().get_extent(bucket, key, extent, counting, etag=etag, offered=offered)
