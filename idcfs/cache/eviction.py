"""Removes series from the cache: whole ones, the longest unused first, never one in use."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from idcfs.cache.inventory import remove_series
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from idcfs.cache.accounts import Accounts
    from idcfs.cache.book import Victim
    from idcfs.cache.limits import Limits
    from idcfs.cache.pins import Pins
    from idcfs.cache.series_locks import SeriesLocks
    from idcfs.model import SeriesUUID

logger = logging.getLogger(__name__)

_PAGE = 256
"""Candidates looked at in one transaction."""

_BATCH = 64
"""Series removed before the books are told: so many stay locked meanwhile."""


@dataclass(slots=True)
class Evicted:
    """What came of an eviction."""

    series: int = 0
    bytes: int = 0
    pinned: int = 0
    """Series that stay because they are pinned."""
    in_use: int = 0
    """Series that stay because somebody has them open."""
    failures: list[str] = field(default_factory=list)
    """A line for each series that could not be removed."""

    def tell_why(self, needed_bytes: int, limits: Limits) -> str:
        """Say why there is no room, although this was tried."""
        reasons = ((self.pinned, "are pinned"), (self.in_use, "are in use"))
        kept = ", ".join(f"{count:,} series {why}" for count, why in reasons if count)
        size = "no limit"
        if limits.size_bytes is not None:
            size = f"a limit of {limits.size_bytes:,} bytes"
        return (
            f"no room for {needed_bytes:,} bytes in the cache: it has {size}, leaves "
            f"{limits.min_free_bytes:,} bytes of the disk free, and nothing can be evicted"
            + (f" ({kept})" if kept else "")
        )


class Eviction:
    """Removes series of one cache directory. One thread at a time.

    `note` is told of each series before any of its files is removed, so that the books
    are set right for it should this process be killed on the way. `accounts` is None where
    there are no books to be told.
    """

    def __init__(
        self,
        root: Path,
        *,
        accounts: Accounts | None,
        locks: SeriesLocks,
        pins: Pins,
        note: Callable[[SeriesUUID], None],
    ) -> None:
        self._root = root
        self._accounts = accounts
        self._locks = locks
        self._pins = pins
        self._note = note

    def free(self, wanted_bytes: int) -> Evicted:
        """Remove series in their order until so many bytes are free, or none can go.

        Raises CacheError if the books cannot be used.
        """
        assert self._accounts is not None
        evicted = Evicted()
        pinned = self._pins.all()
        last: Victim | None = None
        while evicted.bytes < wanted_bytes:
            with self._accounts.transaction() as book:
                page = book.victims(_PAGE, last)
            if not page:
                break
            last = page[-1]
            candidates = [each for each in page if each.series not in pinned]
            evicted.pinned += len(page) - len(candidates)
            sizes = ((each.series, each.bytes) for each in candidates)
            self._remove(sizes, evicted, wanted_bytes, spare_pinned=True)
        return evicted

    def remove(self, series: Iterable[tuple[SeriesUUID, int]], *, spare_pinned: bool) -> Evicted:
        """Remove these series, with their bytes, as far as nobody uses them. Raises CacheError."""
        evicted = Evicted()
        self._remove(series, evicted, None, spare_pinned=spare_pinned)
        return evicted

    def _remove(
        self,
        series: Iterable[tuple[SeriesUUID, int]],
        evicted: Evicted,
        wanted_bytes: int | None,
        *,
        spare_pinned: bool,
    ) -> None:
        gone: list[SeriesUUID] = []
        try:
            for uuid, size_bytes in series:
                if wanted_bytes is not None and evicted.bytes >= wanted_bytes:
                    break
                if self._remove_one(uuid, evicted, spare_pinned=spare_pinned):
                    gone.append(uuid)
                    evicted.series += 1
                    evicted.bytes += size_bytes
                if len(gone) >= _BATCH:
                    self._strike_out(gone)
        finally:
            self._strike_out(gone)

    def _remove_one(self, series: SeriesUUID, evicted: Evicted, *, spare_pinned: bool) -> bool:
        """Remove one series; if that worked, it stays locked until it is off the books."""
        if not self._locks.exclude(series):
            evicted.in_use += 1
            return False
        try:
            # Asked again under the lock, which pinning takes too.
            if spare_pinned and series in self._pins:
                evicted.pinned += 1
            else:
                self._note(series)
                remove_series(self._root, series)
                return True
        except CacheError as exc:
            logger.warning("%s", exc)
            evicted.failures.append(str(exc))
        self._locks.readmit(series)
        return False

    def _strike_out(self, gone: list[SeriesUUID]) -> None:
        if not gone:
            return
        try:
            if self._accounts is not None:
                with self._accounts.transaction() as book:
                    book.remove(gone)
        finally:
            for series in gone:
                self._locks.readmit(series)
            gone.clear()
