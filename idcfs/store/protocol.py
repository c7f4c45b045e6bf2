"""What the rooms above may ask of an object store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from idcfs.model import Checksum

if TYPE_CHECKING:
    from idcfs.model import Extent

Sink = Callable[[memoryview], None]
"""Takes the next bytes of a body, in order. The memory is only valid during the call;
whatever it raises ends the transfer and reaches the caller of `get_extent`."""

OfferedSink = Callable[[tuple[Checksum, ...]], None]
"""Takes the checksums that the store offers of a whole object, before its first byte; is
not called where there are none."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One line of a listing, as the store gives it: nothing in it has been checked."""

    key: str
    size_bytes: int
    mtime_ns: int
    etag: str
    """Without quotes."""


class ObjectStore(Protocol):
    """A store of objects in buckets. Blocking and thread-safe."""

    def list_prefix(
        self, bucket: str, prefix: str, *, expected: int | None = None
    ) -> list[StoredObject]:
        """Return every object whose key starts with `prefix`, all pages, in key order.

        `expected` is how many there should be, if that is known: it may make listing
        faster, and never changes what is found.

        An unknown prefix gives an empty list. Raises ObjectNotFoundError for an
        unknown bucket, AccessDeniedError, StoreUnavailableError or StoreError.
        """
        ...

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
        """Send exactly the bytes of `extent` to `sink`, in order, each byte once.

        A transfer that breaks off is resumed behind the last byte delivered, so
        the sink never sees a byte twice. With `offered`, `extent` must be the whole
        object: the checksums that the store keeps of it are asked for. Raises
        IntegrityError if the object no longer has `etag` or the body has another
        length, ObjectNotFoundError, AccessDeniedError, StoreUnavailableError after
        the last retry, or StoreError.
        """
        ...

    def find_checksums(self, bucket: str, key: str, *, etag: str) -> tuple[Checksum, ...]:
        """Return the checksums that the store keeps of a whole object besides its ETag.

        Often there are none. For objects that come in ranges, with which S3 sends none.
        Raises as `get_extent`.
        """
        ...

    def close(self) -> None:
        """Close idle connections. The store must not be used afterwards."""
        ...
