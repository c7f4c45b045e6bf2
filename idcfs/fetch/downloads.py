"""Brings objects into files of the user's, each the way that suits it. On the trio thread."""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, TypeVar

import trio

from idcfs.cache import is_small
from idcfs.errors import IntegrityError
from idcfs.fetch.download import Brought, download_object, receiving
from idcfs.fetch.large import LargeDownload
from idcfs.store.protocol import AskOtherwiseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from idcfs.fetch.carrier import Carrier
    from idcfs.fetch.unfinished import StrPath
    from idcfs.model import ObjectRef
    from idcfs.store import ObjectStore

T = TypeVar("T")

logger = logging.getLogger(__name__)


async def insist(attempt: Callable[[], Awaitable[T]], tries: int) -> T:
    """Try again if what came is not what was promised, so many times in all."""
    while True:
        tries -= 1
        try:
            return await attempt()
        except IntegrityError as exc:
            if not tries:
                raise
            logger.warning("%s; fetching it again", exc)


class Downloads:
    """What `Fetcher.download` is made of: large objects, small ones, and those of the carrier."""

    def __init__(
        self,
        store: ObjectStore,
        *,
        objects: trio.CapacityLimiter,
        disk: trio.CapacityLimiter,
        carrier: Carrier | None,
        integrity_tries: int,
    ) -> None:
        self._store = store
        self._objects = objects
        self._disk = disk
        self._carrier = carrier
        self._integrity_tries = integrity_tries

    async def bring(
        self,
        ref: ObjectRef,
        destination: StrPath,
        *,
        find_present: Callable[[], Brought | None],
        is_absent: Callable[[], bool],
        verify_content: bool,
    ) -> Brought:
        """See `Fetcher.download`."""
        if is_small(ref.instance.size_bytes):

            async def attempt() -> Brought:
                if (carrier := self._carrier) and carrier.can_bring(ref) and is_absent():
                    try:
                        return await self._carry(carrier, ref, destination, verify_content)
                    except AskOtherwiseError as exc:
                        logger.debug("%s: asking otherwise: %s", ref.url, exc)
                return await self._bring_small(ref, destination, find_present, verify_content)

            return await insist(attempt, self._integrity_tries)
        if present := await trio.to_thread.run_sync(find_present, limiter=self._disk):
            return present
        large = functools.partial(
            LargeDownload,
            store=self._store,
            ref=ref,
            objects=self._objects,
            disk=self._disk,
            find_checksums=functools.partial(
                self._store.find_checksums, ref.bucket, ref.key, etag=ref.instance.etag
            ),
            verify_content=verify_content,
        )
        return await insist(lambda: large().run(destination), self._integrity_tries)

    async def _bring_small(
        self,
        ref: ObjectRef,
        destination: StrPath,
        find_present: Callable[[], Brought | None],
        verify_content: bool,
    ) -> Brought:
        def bring() -> Brought:
            return find_present() or download_object(
                self._store, ref, destination, verify_content=verify_content
            )

        # Never abandoned: the thread must have removed its temporary file when this ends.
        return await trio.to_thread.run_sync(bring, limiter=self._objects)

    async def _carry(
        self, carrier: Carrier, ref: ObjectRef, destination: StrPath, verify_content: bool
    ) -> Brought:
        """Do what `download_object` does, on this thread. Raises AskOtherwiseError too."""
        try:
            self._objects.acquire_nowait()  # `acquire` would let all others go first, each time
        except trio.WouldBlock:
            await self._objects.acquire()
        try:
            with receiving(ref, destination, verify_content=verify_content) as received:
                await carrier.bring(ref, received.take, received.offered)
            carrier.disk.note(received.waited_s, ref.instance.size_bytes)
            return received.brought
        finally:
            self._objects.release()
