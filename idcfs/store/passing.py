"""A store that passes everything on: for those who count or hold up some of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.model import Checksum, Extent
    from idcfs.store.protocol import ObjectStore, OfferedSink, Sink, StoredObject


class PassingStore:
    """An `ObjectStore` in front of another one. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

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
        self._store.get_extent(bucket, key, extent, sink, etag=etag, offered=offered)

    def find_checksums(self, bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        """See `ObjectStore.find_checksums`."""
        return self._store.find_checksums(bucket, key, etag=etag)

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._store.close()
