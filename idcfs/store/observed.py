"""A store that passes everything on and tells a subclass of each request: for those who count."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from idcfs.store.passing import PassingMultiplexer, PassingStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Extent
    from idcfs.store.protocol import (
        Drop,
        ExtentRequest,
        Multiplexer,
        OfferedSink,
        Sink,
        StoredObject,
    )

Kind = Literal["list", "get"]


class ObservedStore(PassingStore):
    """An `ObjectStore` in front of another one. A subclass says what `note_…` do. Any thread."""

    def note_begun(self) -> None:
        """Hear of a request that begins."""
        raise NotImplementedError

    def note_ended(
        self, kind: Kind, took_s: float | None, error: BaseException | None = None
    ) -> None:
        """Hear of one that has ended, and how long it took if it ended well.

        There is no `error` where an exchange of a multiplexer is dropped or fails: the request
        that follows has one, or none.
        """
        raise NotImplementedError

    def observe(self, key: str, extent: Extent, sink: Sink) -> Sink:
        """Return what takes the bytes of an extent and passes them on to `sink`."""
        raise NotImplementedError

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """See `ObjectStore.list_prefix`."""
        with self._noted("list"):
            return super().list_prefix(bucket, prefix, expected=expected)

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
        observed = self.observe(key, extent, sink)
        with self._noted("get"):
            super().get_extent(bucket, key, extent, observed, etag=etag, offered=offered)

    def find_multiplexer(self) -> Multiplexer | None:
        """See `ObjectStore.find_multiplexer`."""
        multiplexer = self._store.find_multiplexer()
        return None if multiplexer is None else _ObservedMultiplexer(multiplexer, self)

    @contextmanager
    def _noted(self, kind: Kind) -> Iterator[None]:
        began_s = time.monotonic()
        self.note_begun()
        try:
            yield
        except BaseException as exc:
            self.note_ended(kind, None, exc)
            raise
        self.note_ended(kind, time.monotonic() - began_s)


class _ObservedMultiplexer(PassingMultiplexer):
    """A `Multiplexer` whose exchanges its store hears of."""

    def __init__(self, multiplexer: Multiplexer, store: ObservedStore) -> None:
        super().__init__(multiplexer)
        self._store = store

    def begin(self, request: ExtentRequest) -> Drop | None:
        """See `Multiplexer.begin`."""
        store, began_s = self._store, time.monotonic()

        def ended_too(error: Exception | None) -> None:
            store.note_ended("get", None if error else time.monotonic() - began_s)
            request.ended(error)

        sink = store.observe(request.key, request.extent, request.sink)
        drop = super().begin(request._replace(sink=sink, ended=ended_too))
        if drop is None:
            return None

        def drop_too() -> None:
            store.note_ended("get", None)
            drop()

        store.note_begun()
        return drop_too
