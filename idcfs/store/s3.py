"""Lists and reads any S3 endpoint, unsigned: Amazon's, Google's or one of the user's own.

This module decides: what is tried again, where a body that broke off is
resumed, when a listing is refused. `sender` does the requests; it is loaded, and TLS
with it, when the first one is due, and botocore when one is unusual.
"""

from __future__ import annotations

import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from idcfs.errors import StoreError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.bodies import BodyMismatchError
from idcfs.store.endpoint import Source, get_endpoint, object_url
from idcfs.store.outage import Outage
from idcfs.store.retry import DEFAULT_POLICY, Attempts, RetryPolicy
from idcfs.store.slices import EndlessError, Slice, UnorderedError, Walking, cut, walk

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from idcfs.model import Checksum
    from idcfs.store.pages import Page
    from idcfs.store.protocol import Multiplexer, OfferedSink, Sink, StoredObject
    from idcfs.store.sender import Sender
    from idcfs.store.slices import Ask

__all__ = ["S3Store", "Source"]


class S3Store:
    """An `ObjectStore` (see there for what the methods promise) behind one S3 endpoint.

    At most `max_connections` requests run at once; further callers wait for
    their turn. A request that cannot succeed ends within about a minute: each
    wait for the network is bounded by the two timeouts, as are the headers as a whole,
    and the number of tries and the time without progress by `retry`. A server that uses
    up several timeouts in its last try, to connect, to answer and twice for the body,
    takes nearly two minutes in all. An object's bytes that come at 1 KiB a second or more
    are let come; a page of a listing must be there within a minute, and is not read beyond
    16 MiB. What is asked through botocore is bounded likewise, but for headers that drip in.
    """

    def __init__(
        self,
        *,
        endpoint_url: str | None = None,
        source: Source = "aws",
        max_connections: int = 32,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 20.0,
        retry: RetryPolicy = DEFAULT_POLICY,
        outage: Outage | None = None,
        pushed_back: Callable[[], None] = lambda: None,
    ) -> None:
        """Asks nothing of the network. Raises UsageError for an endpoint that is no URL.

        During an `outage` requests fail at once; without one, each tries for itself.
        `pushed_back` is called, in any thread, when the store asks for fewer requests.
        """
        self._endpoint = get_endpoint(endpoint_url, source)
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._retry = retry
        self._outage = outage or Outage(None)
        self._pushed_back = pushed_back
        self._slots = threading.BoundedSemaphore(max_connections)
        # Listings leave two thirds of the connections to objects, and a wide one takes no
        # more threads than connections.
        self._listing_slots = threading.BoundedSemaphore(max(1, max_connections // 3))
        self._spare_threads = threading.BoundedSemaphore(max(1, max_connections // 3))
        self._sender: Sender | None = None
        self._sender_lock = threading.Lock()
        self._closed = threading.Event()

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """Return every object under `prefix`, in key order; a wide one in slices at once."""
        bucket = self._endpoint.bucket_name(bucket)

        def ask(start_after: str | None, token: str | None) -> Page:
            return self._list_page(bucket, prefix, start_after, token)

        try:
            try:
                objects = self._walk_all(cut(prefix, expected), ask)
            except UnorderedError:
                objects = list(walk(Slice(), ask))
        except EndlessError as exc:
            raise self._bad_listing(bucket, prefix, str(exc)) from exc
        return self._checked(bucket, prefix, objects)

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
        """Send exactly the bytes of `extent` to `sink`, in order, each byte once."""
        # The generator, not this loop, handles errors: those of the sink stay apart.
        bucket = self._endpoint.bucket_name(bucket)
        with closing(self._chunks(bucket, key, extent, etag, offered)) as chunks:
            for chunk in chunks:
                sink(chunk)

    def find_checksums(self, bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        """Return the checksums that the store keeps of a whole object besides its ETag."""
        bucket = self._endpoint.bucket_name(bucket)
        action = f"cannot read {object_url(bucket, key)}"
        attempts = self._attempts()
        while True:
            sender = self._get_sender()
            try:
                with self._outage.admit(action), self._slots:
                    checksums = sender.find_checksums(bucket, key, etag)
                self._outage.end()
                return checksums
            except StoreUnavailableError as exc:
                attempts.wait_or_raise(exc)

    def find_multiplexer(self) -> Multiplexer:
        """Return what sends requests over connections that `get_extent` has left idle.

        They do not count among `max_connections`.
        """
        return self._get_sender().make_multiplexer(lambda: not self._outage.is_on, self._outage.end)

    def close(self) -> None:
        """See `ObjectStore.close`. Pauses between attempts end too."""
        self._closed.set()
        with self._sender_lock:
            if self._sender is not None:
                self._sender.close()

    def _walk_all(self, slices: list[Slice], ask: Ask) -> list[StoredObject]:
        """Walk slices in as many threads as can be spared, this one included.

        Raises the first error without waiting for the others, whose requests end by themselves.
        """
        walking = Walking(slices, ask)
        for _ in slices[1:]:
            if not self._spare_threads.acquire(blocking=False):
                break
            if not walking.start_thread(self._spare_threads.release):
                self._spare_threads.release()
                break
        return walking.finish()

    def _list_page(
        self, bucket: str, prefix: str, start_after: str | None, token: str | None
    ) -> Page:
        action = f"cannot list {object_url(bucket, prefix)}"
        attempts = self._attempts()
        while True:
            sender = self._get_sender()
            try:
                with self._outage.admit(action), self._listing_slots, self._slots:
                    page = sender.list_page(bucket, prefix, start_after, token)
                self._outage.end()
                return page
            except StoreUnavailableError as exc:
                attempts.wait_or_raise(exc)

    def _chunks(
        self, bucket: str, key: str, extent: Extent, etag: str, offered: OfferedSink | None
    ) -> Generator[memoryview, None, None]:
        """Yield the bytes of `extent`, resuming behind the last one after a break."""
        action = f"cannot read {object_url(bucket, key)}"
        attempts = self._attempts()
        offset = extent.offset
        while offset < extent.end:
            rest = Extent(offset, extent.end - offset)
            try:
                is_whole = offered is not None and rest == extent
                sender = self._get_sender()
                with (
                    self._outage.admit(action),
                    self._slots,
                    sender.open_extent(bucket, key, rest, etag, is_whole) as body,
                ):
                    self._outage.end()
                    if offered is not None and body.checksums:
                        offered(body.checksums)
                    for chunk in body:
                        offset += len(chunk)
                        attempts.progressed(len(chunk))
                        taken_at_s = time.monotonic()
                        yield chunk
                        attempts.excuse(time.monotonic() - taken_at_s)
            except (StoreUnavailableError, BodyMismatchError) as exc:
                attempts.wait_or_raise(exc)

    def _attempts(self) -> Attempts:
        return Attempts(
            policy=self._retry,
            sleep=self._closed.wait,
            outage=self._outage,
            pushed_back=self._pushed_back,
        )

    def _get_sender(self) -> Sender:
        # Quick once the sender is there, so the lock is never held for long by two.
        with self._sender_lock:
            if self._closed.is_set():
                # What had come is as good as before: who keeps some of it shall do so.
                raise StoreUnavailableError("the object store was closed")
            if self._sender is None:
                from idcfs.store.sender import Sender

                self._sender = Sender(
                    endpoint=self._endpoint,
                    max_connections=self._max_connections,
                    connect_timeout_s=self._connect_timeout_s,
                    read_timeout_s=self._read_timeout_s,
                )
            return self._sender

    def _checked(self, bucket: str, prefix: str, objects: list[StoredObject]) -> list[StoredObject]:
        """Return `objects` in key order. Raises StoreError if they cannot be a listing."""
        objects.sort(key=lambda stored: stored.key)
        if not all(stored.key.startswith(prefix) for stored in objects):
            raise self._bad_listing(bucket, prefix, "holds keys outside of it")
        if len({stored.key for stored in objects}) < len(objects):
            raise self._bad_listing(bucket, prefix, "holds a key twice")
        return objects

    def _bad_listing(self, bucket: str, prefix: str, fault: str) -> StoreError:
        return StoreError(
            f"cannot list {object_url(bucket, prefix)}: the listing of {self._endpoint.url}"
            f" {fault}; check --endpoint-url"
        )
