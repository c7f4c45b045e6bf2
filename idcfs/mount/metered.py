"""Counts what goes to the object store and comes from it."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import TYPE_CHECKING

from idcfs.errors import WAY_ROUND, AccessDeniedError
from idcfs.store.observed import ObservedStore
from idcfs.vfs.figures import Latencies

if TYPE_CHECKING:
    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.observed import Kind

logger = logging.getLogger(__name__)


class MeteredStore(ObservedStore):
    """An `ObjectStore` that passes everything on and counts it. Any thread."""

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self.latencies: dict[Kind, Latencies] = {"list": Latencies(), "get": Latencies()}
        """Of calls that succeeded, their own retries included."""
        self.errors: Counter[str] = Counter()
        """By the name of the error's class."""
        self.received_bytes = 0
        self.under_way = 0

    def note_begun(self) -> None:
        """See `ObservedStore.note_begun`."""
        with self._lock:
            self.under_way += 1

    def note_ended(
        self, kind: Kind, took_s: float | None, error: BaseException | None = None
    ) -> None:
        """See `ObservedStore.note_ended`."""
        is_first = False
        with self._lock:
            self.under_way -= 1
            if took_s is not None:
                self.latencies[kind].record(took_s)
            if isinstance(error, Exception):
                name = type(error).__name__
                is_first = name not in self.errors
                self.errors[name] += 1
        if is_first and isinstance(error, AccessDeniedError):
            logger.warning("%s", WAY_ROUND)

    def observe(self, key: str, extent: Extent, sink: Sink) -> Sink:
        """See `ObservedStore.observe`."""

        def counting(chunk: memoryview) -> None:
            sink(chunk)
            with self._lock:
                self.received_bytes += len(chunk)

        return counting
