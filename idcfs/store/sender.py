"""Chooses how a request is sent: directly, or through botocore.

Nearly all go directly, which costs a tenth of the processor's time. What the direct way
cannot send, or has another than the ordinary answer to, is botocore's: proxies, unusual names
of buckets, errors, redirects, what does not speak S3. It asks (again) and succeeds, or raises
what there is to tell. A store that is busy, a network that fails, and a listing that is too
long or has a document type are told of at once: to ask again would only add to the load,
double the time, or bring the same.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, TypeVar

from idcfs.errors import StoreUnavailableError
from idcfs.store.asked import UnusualError
from idcfs.store.direct import DirectWire

if TYPE_CHECKING:
    from collections.abc import Callable

    from idcfs.model import Checksum, Extent
    from idcfs.store.bodies import Body
    from idcfs.store.endpoint import Endpoint
    from idcfs.store.pages import Page
    from idcfs.store.protocol import Multiplexer
    from idcfs.store.wire import Wire

_MOST_DETOURS = 8
"""So many requests in a row that only botocore could make show that the direct way does not
suit this store. Sending each twice would go on for as long as the mount."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class _Kind:
    """How requests of one kind have fared. Threads may lose a count; it does not matter."""

    def __init__(self) -> None:
        self.detours = 0
        """How many of the last ones in a row failed directly and succeeded through botocore."""


class Sender:
    """Sends requests to one endpoint, each tried once. Thread-safe."""

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        max_connections: int,
        connect_timeout_s: float,
        read_timeout_s: float,
    ) -> None:
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._direct = DirectWire(
            endpoint=endpoint,
            max_connections=max_connections,
            connect_timeout_s=connect_timeout_s,
            read_timeout_s=read_timeout_s,
        )
        self._listings, self._bodies = _Kind(), _Kind()
        self._wire: Wire | None = None
        self._wire_lock = threading.Lock()
        self._is_closed = False

    def list_page(
        self, bucket: str, prefix: str, start_after: str | None, token: str | None
    ) -> Page:
        """Return up to 1,000 objects under `prefix`, from `token` on, or after a key.

        Raises StoreError.
        """

        def ask(wire: DirectWire | Wire) -> Page:
            return wire.list_page(bucket, prefix, start_after, token)

        return self._send(ask, self._listings)

    def open_extent(
        self, bucket: str, key: str, extent: Extent, etag: str, is_whole: bool = False
    ) -> Body:
        """Ask for `extent`, which is not empty, and return its body when the headers are right.

        Where it is said to be the whole object, its checksums are asked for.
        Raises StoreError; IntegrityError if the object does not have `etag` any more (an
        empty one goes unchecked: the listing's could not be sent back),
        BodyMismatchError if the headers announce another length.
        """

        def ask(wire: DirectWire | Wire) -> Body:
            return wire.open_extent(bucket, key, extent, etag, is_whole)

        return self._send(ask, self._bodies)

    def find_checksums(self, bucket: str, key: str, etag: str) -> tuple[Checksum, ...]:
        """Return what the store keeps of a whole object besides its ETag. Raises StoreError.

        Asked once for an object of many megabytes, so that botocore is quick enough.
        """
        return self._get_wire().find_checksums(bucket, key, etag)

    def make_multiplexer(
        self, may_ask: Callable[[], bool], answered: Callable[[], None]
    ) -> Multiplexer:
        """Return what sends many requests from one thread, directly or not at all.

        Unlike all others here it takes buckets as the index names them. It asks for nothing
        while it may not, and calls `answered` at each answer that is the ordinary one.
        """
        from idcfs.store.multiplex import DirectMultiplexer

        return DirectMultiplexer(
            self._direct,
            bucket_name=self._endpoint.bucket_name,
            read_timeout_s=self._read_timeout_s,
            may_ask=lambda: may_ask() and self._bodies.detours < _MOST_DETOURS,
            answered=answered,
        )

    def close(self) -> None:
        """Close idle connections, and break off what is under way over the others."""
        self._direct.close()
        with self._wire_lock:
            self._is_closed = True
            if self._wire is not None:
                self._wire.close()

    def _send(self, ask: Callable[[DirectWire | Wire], T], kind: _Kind) -> T:
        if kind.detours < _MOST_DETOURS:
            try:
                answer = ask(self._direct)
            except UnusualError as exc:
                logger.debug("asking through botocore: %s", exc)
            else:
                kind.detours = 0
                return answer
        answer = ask(self._get_wire())
        kind.detours += 1
        return answer

    def _get_wire(self) -> Wire:
        with self._wire_lock:
            if self._is_closed:
                raise StoreUnavailableError("the object store was closed")
            if self._wire is None:
                from idcfs.store.wire import Wire

                self._wire = Wire(
                    endpoint=self._endpoint,
                    max_connections=self._max_connections,
                    connect_timeout_s=self._connect_timeout_s,
                    read_timeout_s=self._read_timeout_s,
                )
            return self._wire
