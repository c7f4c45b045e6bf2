"""What the bodies of objects have in common, whoever sends for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from idcfs.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from idcfs.model import Checksum

_LEAST_BYTES_PER_S = 1024
"""A body that comes more slowly has stalled, even if a byte drips in before each timeout."""


class BodyMismatchError(IntegrityError):
    """A body of another length than the extent: cut short on the way, perhaps, so worth
    another attempt before it is believed."""


class Body(Protocol):
    """The body of one answer. Leaving its context hangs up, unless all of it was read."""

    @property
    def checksums(self) -> tuple[Checksum, ...]:
        """Those of the whole object, where they were asked for and came with it."""
        ...

    def __enter__(self) -> Body: ...

    def __exit__(self, *exc_info: object) -> None: ...

    def __iter__(self) -> Iterator[memoryview]:
        """Yield the bytes asked for as they come. Each piece is valid until the next is asked for.

        Raises StoreUnavailableError if the connection breaks or stalls,
        BodyMismatchError if it ends early, and IntegrityError if more comes.
        """
        ...


class Pace:
    """Notices a body that comes too slowly to ever end. Counts only time spent waiting for it."""

    def __init__(self, *, window_s: float) -> None:
        self._window_s = window_s
        self._waited_s = 0.0
        self._bytes = 0

    def note(self, waited_s: float, count: int) -> None:
        """Count one read. Raises TimeoutError if the last window brought too little."""
        self._waited_s += waited_s
        self._bytes += count
        if self._waited_s < self._window_s:
            return
        if self._bytes < self._waited_s * _LEAST_BYTES_PER_S:
            raise TimeoutError(f"less than {_LEAST_BYTES_PER_S} bytes a second")
        self._waited_s, self._bytes = 0.0, 0


def ended_early(action: str, endpoint: str, *, missing: int, length: int) -> BodyMismatchError:
    """Return the error for a body that lacks its last `missing` bytes."""
    return BodyMismatchError(
        f"{action}: {endpoint} ended {missing:,} of {length:,} bytes early; a proxy on the way"
        " may cut transfers"
    )
