"""Counts what goes to the object store and comes from it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.errors import WAY_ROUND, AccessDeniedError
from idcfs.store.passing import PassingStore
from idcfs.vfs.figures import Latencies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink, StoredObject
    from idcfs.store.protocol import OfferedSink

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
