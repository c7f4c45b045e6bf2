"""Brings one unit of an object from the store: into the cache, else into memory.

Runs in worker threads. Cancellation is noticed at every chunk that arrives.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from idcfs.cache import ContentCheck
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from idcfs.cache import CachedObject
    from idcfs.model import Bytes, Extent, ObjectRef
    from idcfs.store import ObjectStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Filled:
    """How a unit came in: into the cache, or as `content` because of the cache's `failure`."""

    content: Bytes | None = None
    failure: CacheError | None = None


def fill_unit(store: ObjectStore, ref: ObjectRef, cached: CachedObject, extent: Extent) -> Filled:
    """Fetch and check one unit. A cache that fails costs a second transfer, not the read.

    Raises StoreError.
    """
    if not cached.missing(extent):  # another transfer came first
        return Filled()
    try:
        _fetch_into(store, ref, cached, extent)
    except CacheError as exc:
        # A cache closed at the end of a mount must not start a transfer anew, nor be called broken.
        trio.from_thread.check_cancelled()
        logger.warning("%s; reading %s without the cache", exc, ref.url)
        return Filled(_fetch(store, ref, extent), exc)
    return Filled()


def _fetch_into(store: ObjectStore, ref: ObjectRef, cached: CachedObject, extent: Extent) -> None:
    writer = cached.writer(extent)

    def sink(chunk: memoryview) -> None:
        trio.from_thread.check_cancelled()
        writer.write(chunk)

    try:
        store.get_extent(ref.bucket, ref.key, extent, sink, etag=ref.instance.etag)
        writer.commit()
    except BaseException:
        writer.abort()
        raise


def _fetch(store: ObjectStore, ref: ObjectRef, extent: Extent) -> Bytes:
    check = ContentCheck(ref, extent)
    content = bytearray()

    def sink(chunk: memoryview) -> None:
        trio.from_thread.check_cancelled()
        check.update(chunk)
        content.extend(chunk)

    store.get_extent(ref.bucket, ref.key, extent, sink, etag=ref.instance.etag)
    check.finish()
    return content
