"""Looks into a cache, and frees room in it, without its books: where its disk takes nothing.

On a full disk books can be neither written nor, being a database, read. What the cache holds
is counted from its files then. The locks of the series need no room, so what is in use stays
also here.
"""

from __future__ import annotations

import logging
import os
import tempfile
from typing import TYPE_CHECKING

from idcfs.cache.book import Account, Hits, Totals
from idcfs.cache.eviction import Evicted, Eviction
from idcfs.cache.inventory import count_series, series_on_disk
from idcfs.cache.ledger import NoLedger
from idcfs.cache.limits import Limits, agree, measure_disk_of, resolve_limits
from idcfs.cache.pins import Pins
from idcfs.cache.recount import Drift, want_count
from idcfs.cache.series_locks import SeriesLocks
from idcfs.errors import FULL_DISK, CacheError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from idcfs.cache.ledger import Books
    from idcfs.cache.opening import OpenCache
    from idcfs.model import SeriesUUID

logger = logging.getLogger(__name__)

_TRIAL_BYTES = 1 << 20
"""A disk that takes less than this is as good as full: the books and their log need as much."""


class CountedBooks(NoLedger):
    """`Books` that are counted from the files of `root` each time, and never written.

    `cache_size` and `min_free` are as for `DiskLedger`.
    """

    def __init__(self, root: Path, *, cache_size: str | None, min_free: str | None) -> None:
        self._root = root
        self._wanted = (cache_size, min_free)
        self.pins = Pins(root)

    def prepare(self) -> None:
        """Nothing: there are no books."""

    def limits(self) -> Limits:
        """See `Books.limits`."""
        agreed = agree(self._root, *self._wanted, keep=False)
        return resolve_limits(measure_disk_of(self._root), self.totals().bytes, *agreed)

    def totals(self) -> Totals:
        """See `Books.totals`. What is protected is not known."""
        accounts = self.accounts()
        files, size_bytes = sum(a.files for a in accounts), sum(a.bytes for a in accounts)
        return Totals(len(accounts), files, size_bytes, 0)

    def accounts(self) -> list[Account]:
        """See `Books.accounts`. When they were used is not known."""
        return [
            Account(series, size_bytes, files, 0.0, 0.0, protected=False)
            for series, size_bytes, files in series_on_disk(self._root)
        ]

    def hits(self) -> Hits:
        """Nobody knows."""
        return Hits(0, 0)

    def recount(self) -> Drift:
        """Have the books set right by who next can."""
        want_count(self._root)
        return Drift(0, 0)

    def evict(self, series: Iterable[SeriesUUID], *, spare_pinned: bool = True) -> Evicted:
        """See `Books.evict`."""
        locks = SeriesLocks()
        path = self._root / "ledger" / "holds"
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            locks.open(path)
        except OSError as exc:
            raise CacheError(f"cannot use {path}: {exc.strerror}") from exc
        eviction = Eviction(
            self._root, accounts=None, locks=locks, pins=self.pins, note=lambda _: None
        )
        try:
            return eviction.remove(self._held(series), spare_pinned=spare_pinned)
        finally:
            locks.close()
            want_count(self._root)

    def pin(self, series: SeriesUUID) -> bool:
        """See `Books.pin`. What is being removed at this instant is not saved by it."""
        return self.pins.add(series)

    def _held(self, series: Iterable[SeriesUUID]) -> Iterator[tuple[SeriesUUID, int]]:
        for each in series:
            size_bytes, files = count_series(self._root, each)
            if size_bytes or files:
                yield each, size_bytes


def usable_books(
    opened: OpenCache, *, cache_size: str | None = None, min_free: str | None = None
) -> Books:
    """Return the books of a cache, or what does without where its disk is full or read-only.

    Raises CacheError where they fail for another reason. Blocks.
    """
    cache, books = opened
    if cache.shared is not None:  # it has no books that must be written
        return books
    try:
        books.totals()
    except CacheError as exc:
        refused = _why_unwritable(cache.root)
        if refused is None:
            raise
        if refused.errno in FULL_DISK:  # of a disk that is read-only, the cache tells
            logger.warning("%s; what the cache holds is counted anew", exc)
        return CountedBooks(cache.root, cache_size=cache_size, min_free=min_free)
    return books


def _why_unwritable(root: Path) -> OSError | None:
    """Return why a cache directory takes no new file; None if it does."""
    try:
        with tempfile.TemporaryFile(dir=root, prefix=".idcfs-", buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, _TRIAL_BYTES)
    except OSError as exc:
        return exc
    return None
