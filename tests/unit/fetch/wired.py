"""A fetcher with the nursery it needs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from idcfs.fetch import Fetcher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from idcfs.cache import Cache
    from idcfs.model import Bytes, Extent, ObjectRef
    from idcfs.store import ObjectStore


@asynccontextmanager
async def fetching(
    store: ObjectStore, cache: Cache, *, fills_together: bool = False
) -> AsyncIterator[Fetcher]:
    """Give a fetcher; afterwards its nursery must still be alive and without a task."""
    async with trio.open_nursery() as services:
        fetcher = Fetcher(store=store, cache=cache, nursery=services, fills_together=fills_together)
        yield fetcher
        assert not services.cancel_scope.cancel_called
        fetcher.close()


async def read(fetcher: Fetcher, ref: ObjectRef, extent: Extent | None = None) -> Bytes:
    """Open, read and close."""
    reader = fetcher.open(ref)
    try:
        return await reader.read(ref.whole if extent is None else extent)
    finally:
        fetcher.close_reader(reader)
