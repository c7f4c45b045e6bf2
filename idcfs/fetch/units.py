"""Brings adjacent units of an object from the store: into the cache, else into memory.

Runs in worker threads. Cancellation is noticed at every chunk that arrives.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from idcfs.cache import ContentCheck
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.cache import CachedObject, ExtentWriter
    from idcfs.model import Bytes, Extent, ObjectRef
    from idcfs.store import ObjectStore

_QUIET_S = 60.0
"""How long a failure of the cache is not told again: a full disk fails a thousand times a
minute."""

_REASONS = 1000
"""How many different failures are remembered."""

_quiet_until_s: dict[str, float] = {}

logger = logging.getLogger(__name__)


class Purpose(Enum):
    """What units are brought in for, which tells where they go if the cache cannot take them."""

    READ = "a reader waits for them, who gets them in any case"
    AHEAD = "a reader may ask for them, and there may be room in memory"
    CACHE_AHEAD = "a reader may ask for them, who would not find them in memory"
    KEEP = "the cache is to have them, for which it may wait until it has room"


@dataclass(frozen=True, slots=True)
class Filled:
    """How units came in: into the cache, or as `content` because of the cache's `failure`."""

    content: Bytes | None = None
    failure: str | None = None
    """What it says. The error itself knows the frames it went through, and whoever called them,
    one of which has this as its result: so it would stay in memory until all is looked through."""


def fill_units(
    store: ObjectStore,
    ref: ObjectRef,
    cached: CachedObject,
    extent: Extent,
    into_memory: bool,
    given_up: Callable[[], bool],
    *,
    waits_for_room: bool,
) -> Filled:
    """Fetch and check adjacent units that the cache lacks, or wait for who does it already.

    A cache that fails costs a second transfer, `into_memory`, and not the read; or else
    they are not had. Room that others are about to let go of is waited for only if that is said.
    `given_up` tells whether nobody wants them any more. Raises StoreError.
    """
    try:
        while (
            writer := cached.writer(extent, given_up, waits_for_room=waits_for_room)
        ) is not None:
            _fetch_into(store, ref, writer)
    except CacheError as exc:
        # A cache closed at the end of a mount must not start a transfer anew, nor be called broken.
        trio.from_thread.check_cancelled()
        if not into_memory:
            return Filled(None, str(exc))
        _warn(exc, ref)
        return Filled(_fetch(store, ref, extent), str(exc))
    return Filled()


def _fetch_into(store: ObjectStore, ref: ObjectRef, writer: ExtentWriter) -> None:
    def sink(chunk: memoryview) -> None:
        trio.from_thread.check_cancelled()
        writer.write(chunk)

    try:
        offered = writer.expect if writer.extent == ref.whole else None
        store.get_extent(
            ref.bucket, ref.key, writer.extent, sink, etag=ref.instance.etag, offered=offered
        )
        writer.commit()
    except BaseException:
        writer.abort()
        raise


def _fetch(store: ObjectStore, ref: ObjectRef, extent: Extent) -> Bytes:
    check = ContentCheck(ref, extent)
    # All at once: what grows leaves holes in the memory behind it that nothing fits into.
    content = bytearray(extent.length)
    view, end = memoryview(content), 0

    def sink(chunk: memoryview) -> None:
        nonlocal end
        trio.from_thread.check_cancelled()
        check.update(chunk)
        start, end = end, end + len(chunk)
        view[start:end] = chunk

    offered = check.expect if check.covers_whole else None
    store.get_extent(ref.bucket, ref.key, extent, sink, etag=ref.instance.etag, offered=offered)
    check.finish()
    return content


def _warn(exc: CacheError, ref: ObjectRef) -> None:
    """Log what is wrong with the cache; the same again only after a while."""
    reason, now_s = str(exc), time.monotonic()
    if now_s >= _quiet_until_s.get(reason, now_s):
        if len(_quiet_until_s) >= _REASONS:
            _quiet_until_s.clear()
        _quiet_until_s[reason] = now_s + _QUIET_S
        logger.warning("%s; reading %s without the cache", exc, ref.url)
    else:
        logger.debug("%s; reading %s without the cache", exc, ref.url)
