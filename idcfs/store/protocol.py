"""What the rooms above may ask of an object store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

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

    def find_multiplexer(self) -> Multiplexer | None:
        """Return what brings many objects at once in one thread, if this store has that."""
        ...

    def close(self) -> None:
        """Hang up, and have what is under way, in any thread, end soon by StoreUnavailableError.

        The store must not be used afterwards. Harmless when done twice.
        """
        ...


class AskOtherwiseError(Exception):
    """It cannot be had from a `Multiplexer`; what comes of `get_extent` is not known."""


Ended = Callable[[Exception | None], None]
"""Told, once, how an exchange ended: None for well."""

Drop = Callable[[], None]
"""Hangs up within an exchange, of which nobody is told then."""


class ExtentRequest(NamedTuple):
    """What a `Multiplexer` is asked for, as `get_extent` is, and who takes it.

    A tuple, since one is made for each small object and one more by whoever counts what comes:
    both take 0.8 µs, and 2.1 µs as frozen dataclasses.
    """

    bucket: str
    key: str
    extent: Extent
    """Not empty."""
    etag: str
    sink: Sink
    ended: Ended
    offered: OfferedSink | None = None


class Multiplexer(Protocol):
    """Brings many objects at once in the one thread that uses it. Nothing in here blocks."""

    def fileno(self) -> int:
        """Return a descriptor that can be read whenever there is something to do in `turn`."""
        ...

    def can_begin(self, bucket: str) -> bool:
        """Tell whether `begin` would ask for an object of a bucket now, unless it is unusual."""
        ...

    def begin(self, request: ExtentRequest) -> Drop | None:
        """Ask for an extent, and return what hangs up before that has ended.

        In later `turn`s its bytes go to `sink` as in `ObjectStore.get_extent`, and then
        `ended` is told AskOtherwiseError, what the sink raised, or None. Returns None, and
        tells nobody, if nothing can be asked for now: then `get_extent` can.
        """
        ...

    def turn(self) -> None:
        """Take what has come."""
        ...

    def expire(self) -> bool:
        """End exchanges of which nothing has come for too long, and hang up what is not used.

        To be called every second or so while there is anything: tells whether there is.
        """
        ...

    def close(self) -> None:
        """Hang up, of which nobody is told. Nothing can be asked for afterwards."""
        ...
