"""Counts what goes to the object store and comes from it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.errors import WAY_ROUND, AccessDeniedError
from idcfs.store.passing import PassingMultiplexer, PassingStore
from idcfs.vfs.figures import Latencies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink, StoredObject
    from idcfs.store.protocol import Drop, ExtentRequest, Multiplexer, OfferedSink

logger = logging.getLogger(__name__)


class MeteredStore(PassingStore):
    """An `ObjectStore` that passes everything on and counts it. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self.latencies = {"list": Latencies(), "get": Latencies()}
        """Of calls that succeeded, their own retries included."""
        self.errors: Counter[str] = Counter()
        """By the name of the error's class."""
        self.received_bytes = 0
        self.under_way = 0

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """See `ObjectStore.list_prefix`."""
        with self._counted("list"):
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
        came = 0

        def counting(chunk: memoryview) -> None:
            nonlocal came
            sink(chunk)
            came += len(chunk)

        try:
            with self._counted("get"):
                super().get_extent(bucket, key, extent, counting, etag=etag, offered=offered)
        finally:
            with self._lock:
                self.received_bytes += came

    def find_multiplexer(self) -> Multiplexer | None:
        """See `ObjectStore.find_multiplexer`."""
        multiplexer = self._store.find_multiplexer()
        return None if multiplexer is None else _MeteredMultiplexer(multiplexer, self)

    def begin(self) -> None:
        """Count a request of the multiplexer's that begins,"""
        with self._lock:
            self.under_way += 1

    def end(self, came: int, took_s: float | None) -> None:
        """and one that has ended, with how long it took if it ended well."""
        with self._lock:
            self.under_way -= 1
            self.received_bytes += came
            if took_s is not None:
                self.latencies["get"].record(took_s)

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        began = time.monotonic()
        with self._lock:
            self.under_way += 1
        try:
            yield
        except Exception as exc:
            with self._lock:
                self.errors[type(exc).__name__] += 1
                is_first = self.errors[type(exc).__name__] == 1
            if is_first and isinstance(exc, AccessDeniedError):
                logger.warning("%s", WAY_ROUND)
            raise
        else:
            with self._lock:
                self.latencies[kind].record(time.monotonic() - began)
        finally:
            with self._lock:
                self.under_way -= 1


class _MeteredMultiplexer(PassingMultiplexer):
    """A `Multiplexer` whose exchanges count as its store's.

    Of one that fails, the request that follows it counts as an error, or as none.
    """

    def __init__(self, multiplexer: Multiplexer, meter: MeteredStore) -> None:
        super().__init__(multiplexer)
        self._meter = meter

    def begin(self, request: ExtentRequest) -> Drop | None:
        """See `Multiplexer.begin`."""
        meter, came, began_s = self._meter, 0, time.monotonic()

        def counting(chunk: memoryview) -> None:
            nonlocal came
            request.sink(chunk)
            came += len(chunk)

        def ended_too(error: Exception | None) -> None:
            meter.end(came, None if error else time.monotonic() - began_s)
            request.ended(error)

        drop = super().begin(request._replace(sink=counting, ended=ended_too))
        if drop is None:
            return None

        def drop_too() -> None:
            meter.end(came, None)
            drop()

        meter.begin()
        return drop_too
