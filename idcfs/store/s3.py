"""Lists and reads any S3 endpoint, unsigned: Amazon's, Google's or one of the user's own.

This module decides: what is tried again, where a body that broke off is
resumed, when a listing is refused. `wire` does the requests; it is loaded, and TLS
with it, when the first one is due.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

from idcfs.errors import StoreError, StoreUnavailableError
from idcfs.model import Extent
from idcfs.store.endpoint import Source, get_endpoint, object_url
from idcfs.store.retry import DEFAULT_POLICY, Attempts, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Generator

    from idcfs.store.pages import Page
    from idcfs.store.protocol import Sink, StoredObject
    from idcfs.store.wire import Wire

__all__ = ["S3Store", "Source"]

_MOST_PAGES = 1000
"""A listing of a million objects is refused: the widest series of IDC has 91,980, so a
server which goes on is broken or hostile."""


class S3Store:
    """An `ObjectStore` (see there for what the methods promise) behind one S3 endpoint.

    At most `max_connections` requests run at once; further callers wait for
    their turn. A request that cannot succeed ends within about a minute: each
    wait for the network is bounded by the two timeouts, as are the headers as a whole,
    and the number of tries and the time without progress by `retry`. A server that uses
    up several timeouts in its last try, to connect, to answer and twice for the body,
    takes nearly two minutes in all. An object's bytes that come at 1 KiB a second or more
    are let come; a page of a listing must be there within a minute.
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
    ) -> None:
        """Raises UsageError for an endpoint that is no URL. Asks nothing of the network."""
        self._endpoint = get_endpoint(endpoint_url, source)
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._retry = retry
        self._slots = threading.BoundedSemaphore(max_connections)
        self._wire: Wire | None = None
        self._wire_lock = threading.Lock()
        self._closed = threading.Event()

    def list_prefix(self, bucket: str, prefix: str) -> list[StoredObject]:
        """Return every object under `prefix`, all pages, in key order."""
        bucket = self._endpoint.bucket_name(bucket)
        objects: list[StoredObject] = []
        seen_tokens: set[str] = set()
        token: str | None = None
        for _ in range(_MOST_PAGES):
            page = self._list_page(bucket, prefix, token)
            objects += page.objects
            token = page.next_token
            if token is None:
                return self._checked(bucket, prefix, objects)
            if token in seen_tokens:
                raise self._bad_listing(bucket, prefix, "repeats a page for ever")
            seen_tokens.add(token)
        raise self._bad_listing(bucket, prefix, f"does not end after {_MOST_PAGES} pages")

    def get_extent(self, bucket: str, key: str, extent: Extent, sink: Sink, *, etag: str) -> None:
        """Send exactly the bytes of `extent` to `sink`, in order, each byte once."""
        # The generator, not this loop, handles errors: those of the sink stay apart.
        with closing(self._chunks(self._endpoint.bucket_name(bucket), key, extent, etag)) as chunks:
            for chunk in chunks:
                sink(chunk)

    def close(self) -> None:
        """Close idle connections, and end pauses between attempts."""
        self._closed.set()
        with self._wire_lock:
            if self._wire is not None:
                self._wire.close()

    def _list_page(self, bucket: str, prefix: str, token: str | None) -> Page:
        attempts = self._attempts()
        while True:
            try:
                with self._slots:
                    return self._get_wire().list_page(bucket, prefix, token)
            except StoreUnavailableError as exc:
                attempts.wait_or_raise(exc)

    def _chunks(
        self, bucket: str, key: str, extent: Extent, etag: str
    ) -> Generator[memoryview, None, None]:
        """Yield the bytes of `extent`, resuming behind the last one after a break."""
        from idcfs.store.wire import BodyMismatchError

        attempts = self._attempts()
        offset = extent.offset
        while offset < extent.end:
            rest = Extent(offset, extent.end - offset)
            try:
                with self._slots, self._get_wire().open_extent(bucket, key, rest, etag) as body:
                    for chunk in body:
                        offset += len(chunk)
                        attempts.progressed(len(chunk))
                        yield chunk
            except (StoreUnavailableError, BodyMismatchError) as exc:
                attempts.wait_or_raise(exc)

    def _attempts(self) -> Attempts:
        return Attempts(policy=self._retry, sleep=self._closed.wait)

    def _get_wire(self) -> Wire:
        # Quick once the wire is there, so the lock is never held for long by two.
        with self._wire_lock:
            if self._closed.is_set():
                raise StoreError("the object store was closed")
            if self._wire is None:
                from idcfs.store.wire import Wire

                self._wire = Wire(
                    endpoint=self._endpoint,
                    max_connections=self._max_connections,
                    connect_timeout_s=self._connect_timeout_s,
                    read_timeout_s=self._read_timeout_s,
                )
            return self._wire

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
