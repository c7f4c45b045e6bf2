"""The `Ledger` of a cache directory that many processes share.

What happens object by object is noted in memory only. Room is taken from the shared
books in large pieces, of which nobody else can have a byte, and what was stored, used or
removed is written down when the next piece is taken, or within seconds by a thread. A
series stays locked, as if it were open, until what happened to it is in the books; so
whoever has a series to himself knows that its books are right.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.cache.accounts import Accounts, locked
from idcfs.cache.book import Hits
from idcfs.cache.bookings import Bookings
from idcfs.cache.census import forget_census
from idcfs.cache.eviction import Evicted, Eviction
from idcfs.cache.inventory import count_series
from idcfs.cache.later import Later
from idcfs.cache.limits import Limits, agree, measure_disk_of, resolve_limits
from idcfs.cache.pins import Pins
from idcfs.cache.recount import Drift, Recount
from idcfs.cache.refusal import Refusal
from idcfs.cache.room import Room, needed_bytes, piece_bytes
from idcfs.cache.uses import Uses
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from idcfs.cache.book import Account, Book, Totals
    from idcfs.cache.ledger import Reservation
    from idcfs.cache.room import RoomReservation
    from idcfs.model import SeriesUUID

logger = logging.getLogger(__name__)

FLUSH_S = 2.0
"""How long a use or a stored object may be unknown to the books."""

_PATIENCE_S = 4.0
"""How long to wait for room while everything is in use: twice what others may keep a
series locked that they have just written."""

BOOKS_PATIENCE_S = 600.0
"""How long to wait for books that are being made anew: a million files take 5 s if their
directories are in memory, and minutes if a slow disk must be asked for each."""

_RETRY_S = 0.05


class DiskLedger:
    """See the protocol, and the module, for the contract.

    `cache_size` and `min_free` are as users write them (`limits.parse_amount`); where they
    are None, what was kept last is used. With `keep_limits` they are kept. `clock` gives
    seconds since the epoch; without `flush_s` nothing is written by itself. Who wants room
    waits for `books_patience_s` at most while somebody counts lost books anew. Nothing is
    touched before the first use.
    """

    def __init__(
        self,
        root: Path,
        *,
        cache_size: str | None = None,
        min_free: str | None = None,
        keep_limits: bool = False,
        clock: Callable[[], float] = time.time,
        flush_s: float | None = FLUSH_S,
        patience_s: float = _PATIENCE_S,
        books_patience_s: float = BOOKS_PATIENCE_S,
    ) -> None:
        self._root = root
        self._directory = root / "ledger"
        self._wanted = (cache_size, min_free)
        self._keep_limits = keep_limits
        self._patience_s = patience_s
        self._books_patience_s = books_patience_s
        self._waited_in_vain = False
        self._refusal = Refusal()
        self._limits: Limits | None = None
        self.pins = Pins(root)
        self._uses = Uses(self._directory)
        self._flushing = Later(self._flush_on, flush_s)
        self._room = Room(self._uses, self._flushing.ask)
        self._recount = Recount(root, self._uses.locks)
        self._accounts = Accounts(self._directory, fill=self._recount.fill)
        self._bookings = Bookings(self._accounts, self._uses, self._room, clock)
        self._eviction = Eviction(
            root,
            accounts=self._accounts,
            locks=self._uses.locks,
            pins=self.pins,
            note=self._uses.note,
        )
        self._books = threading.Lock()
        """Held by the one thread of this process that uses the shared books."""

    def prepare(self) -> None:
        """Keep the limits; look into the books in the background: lost ones take a while to count.

        For who stores nothing, too: what was said is to hold for others from then on.
        """
        agree(self._root, *self._wanted, keep=self._keep_limits)
        self._flushing.ask()

    # What happens object by object.

    def reserve(self, size_bytes: int, *, waits: bool = True) -> Reservation:
        """See `Ledger.reserve`."""
        needed = needed_bytes(size_bytes)
        if (reservation := self._room.take(needed)) is not None:
            return reservation
        if not waits:
            self._refusal.repeat(needed)
        return self._enlarge(needed, waits=waits)

    def hold(self, series: SeriesUUID, *, waits: bool = True) -> None:
        """See `Ledger.hold`."""
        self._uses.hold(series, waits=waits)

    def let_go(self, series: SeriesUUID) -> None:
        """See `Ledger.let_go`."""
        self._uses.let_go(series)

    def touch(self, series: SeriesUUID) -> None:
        """See `Ledger.touch`."""
        self._bookings.touch(series)
        self._flushing.ask()

    def dropped(self, series: SeriesUUID, size_bytes: int, files: int = 0) -> None:
        """See `Ledger.dropped`."""
        self._room.drop(series, size_bytes, files)

    # The shared books.

    def flush(self) -> None:
        """Write down what is not written yet. Blocks; raises CacheError."""
        with self._opened() as book:
            self._recount.count_again(book)

    def _flush_on(self) -> None:
        self.flush()
        if not self._room.is_empty:
            self._flushing.ask()

    def limits(self) -> Limits:
        """Return the limits that this process keeps to. Blocks; raises CacheError."""
        with self._books:
            return self._begin()

    def totals(self) -> Totals:
        """Return what the cache holds by its books. Blocks; raises CacheError."""
        with self._opened() as book:
            return book.totals()

    def accounts(self) -> list[Account]:
        """Return what the books say of each series. Blocks; raises CacheError."""
        with self._opened() as book:
            return list(book.accounts())

    def hits(self) -> Hits:
        """Return how often the cache had what was opened. Blocks; raises CacheError."""
        with self._opened() as book:
            counters = book.counters()
        return Hits(counters.get("opened", 0), counters.get("stored", 0))

    def recount(self) -> Drift:
        """Set the books right by counting all files. Blocks; raises CacheError."""
        with self._opened() as book:
            return self._recount.count_all(book)

    def evict(self, series: Iterable[SeriesUUID], *, spare_pinned: bool = True) -> Evicted:
        """Remove these series, as far as nobody uses them. Blocks; raises CacheError."""
        sizes = {account.series: account.bytes for account in self.accounts()}

        def held() -> Iterator[tuple[SeriesUUID, int]]:
            for each in series:
                # What was stored in these seconds is not in the books yet.
                if size_bytes := sizes.get(each) or count_series(self._root, each)[0]:
                    yield each, size_bytes

        with self._books:
            return self._eviction.remove(held(), spare_pinned=spare_pinned)

    def pin(self, series: SeriesUUID) -> bool:
        """Keep a series until it is unpinned; tell whether it was not pinned yet.

        Raises CacheError.
        """
        self.hold(series)  # an eviction looks for the pin while it keeps all others out
        try:
            return self.pins.add(series)
        finally:
            self.let_go(series)

    def close(self) -> None:
        """See `Ledger.close`."""
        self._flushing.close()
        with self._books:
            try:
                if self._limits is not None or not self._bookings.is_empty:
                    with self._bookings.transaction(give_back=True) as (book, _):
                        book.remove_member(self._uses.member)
            except CacheError as exc:
                logger.debug("leaving the books of the cache as they are: %s", exc)
                self._uses.close()  # so the next process counts what we have used
            else:
                self._uses.leave()
            self._accounts.close()

    @contextmanager
    def _opened(self) -> Iterator[Book]:
        """Use the shared books in a transaction, when they are settled."""
        with self._books:
            self._begin()
            with self._bookings.transaction() as (book, _):
                yield book

    @contextmanager
    def _books_in_time(self) -> Iterator[None]:
        """Hold the books. Raises CacheError rather than wait for long until all is counted."""
        while not self._books.acquire(timeout=self._books_patience_s):
            if self._accounts.is_waiting or self._recount.is_counting:
                raise CacheError(
                    "the books of the cache are being made anew; until then it stores nothing"
                )
        try:
            yield
        finally:
            self._books.release()

    def _enlarge(self, needed: int, *, waits: bool) -> Reservation:
        with self._books_in_time():
            if (reservation := self._room.take(needed)) is not None:
                return reservation  # another thread has enlarged it meanwhile
            limits = self._begin()
            limits.require_possible(needed)
            patience_s = self._patience_s if waits and not self._waited_in_vain else 0.0
            end = time.monotonic() + patience_s
            while (reservation := self._ask(limits, needed)[0]) is None:
                reservation, evicted = self._evict_for(limits, needed)
                if reservation is not None:
                    break
                if not evicted.series:
                    if time.monotonic() >= end:
                        self._waited_in_vain |= waits
                        raise self._refusal.note(needed, evicted.tell_why(needed, limits))
                    time.sleep(_RETRY_S)
            self._waited_in_vain = False
            return reservation

    def _evict_for(self, limits: Limits, needed: int) -> tuple[RoomReservation | None, Evicted]:
        """Make room, unless another process just has. One process at a time."""
        with locked(self._directory / "evicting"):
            self._clear_up()
            reservation, shortage = self._ask(limits, needed)
            if reservation is not None:
                return reservation, Evicted()
            return None, self._eviction.free(shortage)

    def _ask(self, limits: Limits, needed: int) -> tuple[RoomReservation | None, int]:
        """Take a piece of room from the books; else return how much is lacking."""
        disk = measure_disk_of(self._root)
        wanted = max(needed, piece_bytes(limits, disk))
        forget_census(self._root)  # of those who share the cache without these books
        # The remnant goes back first: it may be what is lacking.
        with self._bookings.transaction(give_back=True) as (book, changes):
            reserved = book.reserved_bytes()
            available = disk.free_bytes - limits.min_free_bytes - reserved
            if limits.size_bytes is not None:
                available = min(available, limits.size_bytes - book.totals().bytes - reserved)
            if available < needed:
                return None, wanted - available
            granted = min(wanted, available)
            self._bookings.reserve(book, changes.reserved_bytes + granted)
        return self._room.enlarge(granted, needed), 0

    def _begin(self) -> Limits:
        """At the first use of the books: see what they hold, and settle the limits."""
        if self._limits is None:
            self._clear_up()
            disk = measure_disk_of(self._root)
            with self._bookings.transaction() as (book, _):
                held_bytes = book.totals().bytes
            self._limits = resolve_limits(
                disk, held_bytes, *agree(self._root, *self._wanted, keep=self._keep_limits)
            )
            self._bookings.limit_bytes = self._limits.size_bytes
        return self._limits

    def _clear_up(self) -> None:
        """Take back what dead processes had reserved."""
        dead = self._recount.find_dead()
        try:
            with self._bookings.transaction() as (book, _):
                self._recount.clear_up(book, dead)
            for each in dead:
                each.bury()
        finally:
            for each in dead:
                each.close()
