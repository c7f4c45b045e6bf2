"""A store that passes everything on: for those who count or hold up some of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from idcfs.model import Checksum, Extent
    from idcfs.store.protocol import (
        Drop,
        ExtentRequest,
        Multiplexer,
        ObjectStore,
        OfferedSink,
        Sink,
        StoredObject,
    )


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

    def find_multiplexer(self) -> Multiplexer | None:
        """Return None: what it brought would not be passed on through here."""
        return None

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._store.close()


class PassingMultiplexer:
    """A `Multiplexer` in front of another one."""

    def __init__(self, multiplexer: Multiplexer) -> None:
        self._multiplexer = multiplexer

    def fileno(self) -> int:
        """See `Multiplexer.fileno`."""
        return self._multiplexer.fileno()

    def can_begin(self, bucket: str) -> bool:
        """See `Multiplexer.can_begin`."""
        return self._multiplexer.can_begin(bucket)

    def begin(self, request: ExtentRequest) -> Drop | None:
        """See `Multiplexer.begin`."""
        return self._multiplexer.begin(request)

    def turn(self) -> None:
        """See `Multiplexer.turn`."""
        self._multiplexer.turn()

    def expire(self) -> bool:
        """See `Multiplexer.expire`."""
        return self._multiplexer.expire()

    def close(self) -> None:
        """See `Multiplexer.close`."""
        self._multiplexer.close()
