"""Holds the bytes of objects to a rate, over all connections together."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from idcfs.cache.limits import parse_amount
from idcfs.errors import UsageError
from idcfs.store.passing import PassingStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import Extent
    from idcfs.store import ObjectStore, Sink
    from idcfs.store.protocol import OfferedSink

_SLICES_A_SECOND = 4
"""What came at once is passed on in slices, so that it moves and can be cancelled."""


def parse_rate(text: str) -> int:
    """Return the bytes a second that "10MB", "1.5MiB" or "500k/s" mean. Raises UsageError."""
    try:
        rate = parse_amount(text.strip().removesuffix("/s"), 0)
    except UsageError:
        rate = None
    if not rate:
        raise UsageError(
            f"{text!r} is not a rate: write bytes a second, for example 10MB, 1.5MiB or 500k"
        )
    return rate


class RateLimit:
    """Lets so many bytes pass each second; what was not used is not saved up. Any thread."""

    def __init__(
        self,
        bytes_per_s: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.slice_bytes = max(bytes_per_s // _SLICES_A_SECOND, 1)
        self._bytes_per_s = bytes_per_s
        self._clock = clock
        self._ended = threading.Event()
        self._sleep = sleep or self._ended.wait
        self._lock = threading.Lock()
        self._free_at_s = clock()

    def take(self, count: int) -> None:
        """Return when `count` more bytes may have passed: behind those of others, in turn."""
        with self._lock:
            now_s = self._clock()
            self._free_at_s = max(self._free_at_s, now_s) + count / self._bytes_per_s
            wait_s = self._free_at_s - now_s
        self._sleep(wait_s)

    def end(self) -> None:
        """Hold nobody up any more."""
        self._ended.set()


class LimitedStore(PassingStore):
    """An `ObjectStore` whose objects come no faster than a limit; listings do. Any thread.

    Whoever is held up does not read on, and so the server holds back what it sends.
    """

    def __init__(self, store: ObjectStore, limit: RateLimit) -> None:
        super().__init__(store)
        self._limit = limit

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
        limit = self._limit

        def limited(chunk: memoryview) -> None:
            while chunk:
                piece, chunk = chunk[: limit.slice_bytes], chunk[limit.slice_bytes :]
                limit.take(len(piece))
                sink(piece)

        super().get_extent(bucket, key, extent, limited, etag=etag, offered=offered)

    def close(self) -> None:
        """See `ObjectStore.close`."""
        self._limit.end()
        super().close()
