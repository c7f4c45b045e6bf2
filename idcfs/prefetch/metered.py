"""Counts the bytes that arrive, so that a file of gigabytes shows progress too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink, StoredObject


class MeteredStore:
    """An `ObjectStore` that passes everything on and counts what is under way. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._under_way: dict[str, int] = {}

    @property
    def bytes_under_way(self) -> int:
        """Return the bytes that have come of objects not yet settled."""
        return sum(list(self._under_way.values()))

    def settle(self, key: str) -> None:
        """Stop counting an object: it is there, or will not be."""
        self._under_way.pop(key, None)

    def list_prefix(self, bucket: str, prefix: str) -> list[StoredObject]:
        """See `ObjectStore.list_prefix`."""
        return self._store.list_prefix(bucket, prefix)

    def get_extent(self, bucket: str, key: str, extent: Extent, sink: Sink, *, etag: str) -> None:
        """See `ObjectStore.get_extent`."""
        # Prefetch asks for the extents of an object in order, so one that starts
        # anew, after a failure, starts counting anew.
        self._under_way[key] = extent.offset

        def counting(chunk: memoryview) -> None:
            sink(chunk)
            self._under_way[key] += len(chunk)

        self._store.get_extent(bucket, key, extent, counting, etag=etag)

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._store.close()
