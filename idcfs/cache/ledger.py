"""What the cache asks of its bookkeeping: room before writing, and who is used and held.

`idcfs.cache.disk_ledger.DiskLedger` keeps the books of a directory that many
processes share; `NoLedger` keeps none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from idcfs.cache.book import Account, Hits, Totals
    from idcfs.cache.eviction import Evicted
    from idcfs.cache.limits import Limits
    from idcfs.cache.pins import Pins
    from idcfs.cache.recount import Drift
    from idcfs.model import SeriesUUID


class Reservation(Protocol):
    """Room for bytes that are about to be written. Any thread; one use."""

    def settle(self, series: SeriesUUID, stored_bytes: int, new_files: int = 0) -> None:
        """Count `stored_bytes`, as the disk holds them, as the series'; give back the rest.

        `new_files` is 1 when a file has got its final name with it. Never blocks for
        long: the books on disk follow within seconds.
        """
        ...

    def release(self) -> None:
        """Give everything back: nothing was stored. Never raises; harmless after `settle`."""
        ...


class Ledger(Protocol):
    """The books of one cache directory. Thread-safe."""

    def reserve(self, size_bytes: int, *, waits: bool = True) -> Reservation:
        """Get room for bytes about to be written; evicts other series if need be.

        Blocks, and `waits` for seconds where others may be about to let go of what they have just
        written: worker threads only. Raises CacheError when the limit or the free space cannot
        be kept, because everything is pinned or open, or the disk is full.
        """
        ...

    def hold(self, series: SeriesUUID, *, waits: bool = True) -> None:
        """Keep the series from being evicted by any process, until `let_go`. Counted.

        May block while the series is just being evicted: worker threads only. Raises
        CacheError if that takes too long; for who does not wait, at once.
        """
        ...

    def let_go(self, series: SeriesUUID) -> None:
        """Undo one `hold`. Never blocks, never raises."""
        ...

    def touch(self, series: SeriesUUID) -> None:
        """Note a use of the series. Never blocks, never touches the disk."""
        ...

    def dropped(self, series: SeriesUUID, size_bytes: int, files: int = 0) -> None:
        """Note that bytes of the series, as the disk held them, have gone. Never blocks."""
        ...

    def close(self) -> None:
        """Write down what is not written yet, and leave. Never raises."""
        ...


class Books(Ledger, Protocol):
    """A ledger that can also be looked into, and told what to keep. Raises CacheError."""

    pins: Pins

    def prepare(self) -> None:
        """Keep the limits that were said, and have the books looked into in the background."""
        ...

    def limits(self) -> Limits:
        """Return the limits that this process keeps to. Blocks."""
        ...

    def totals(self) -> Totals:
        """Return what the cache holds. Blocks."""
        ...

    def accounts(self) -> list[Account]:
        """Return what the cache holds of each series. Blocks."""
        ...

    def hits(self) -> Hits:
        """Return how often the cache had what was opened. Blocks."""
        ...

    def recount(self) -> Drift:
        """Set the books right by counting all files. Blocks."""
        ...

    def evict(self, series: Iterable[SeriesUUID], *, spare_pinned: bool = True) -> Evicted:
        """Remove these series, as far as nobody uses them. Blocks."""
        ...

    def pin(self, series: SeriesUUID) -> bool:
        """Keep a series until it is unpinned; tell whether it was not pinned yet."""
        ...


class NoLedger:
    """A `Ledger` that refuses nothing and keeps no books."""

    def reserve(self, size_bytes: int, *, waits: bool = True) -> Reservation:
        """Give room without asking."""
        return _NoReservation()

    def hold(self, series: SeriesUUID, *, waits: bool = True) -> None:
        """Nothing is ever evicted."""

    def let_go(self, series: SeriesUUID) -> None:
        """Nothing is ever evicted."""

    def touch(self, series: SeriesUUID) -> None:
        """Nobody asks."""

    def dropped(self, series: SeriesUUID, size_bytes: int, files: int = 0) -> None:
        """Nobody asks."""

    def close(self) -> None:
        """Nothing is open."""


class _NoReservation:
    def settle(self, series: SeriesUUID, stored_bytes: int, new_files: int = 0) -> None:
        """Nobody asks."""

    def release(self) -> None:
        """Nothing was taken."""
