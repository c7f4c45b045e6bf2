"""Counts the bytes that arrive, so that a file of gigabytes shows progress too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.model import Checksum, Extent
    from idcfs.store import ObjectStore, Sink, StoredObject
    from idcfs.store.protocol import OfferedSink


class MeteredStore:
    """An `ObjectStore` that passes everything on and counts what is under way. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
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

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """See `ObjectStore.list_prefix`."""
        return self._store.list_prefix(bucket, prefix, expected=expected)

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

        self._store.get_extent(bucket, key, extent, counting, etag=etag, offered=offered)

    def find_checksums(self, bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        """See `ObjectStore.find_checksums`."""
        return self._store.find_checksums(bucket, key, etag=etag)

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._store.close()
