"""Tells the shared books what this process has done, a transaction at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from idcfs.cache.book import PROTECTED_SHARE
from idcfs.cache.recount import boot_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from idcfs.cache.accounts import Accounts
    from idcfs.cache.book import Book
    from idcfs.cache.room import Changes, Room
    from idcfs.cache.uses import Uses
    from idcfs.model import SeriesUUID


class Bookings:
    """What this process has done and the books do not know yet, and the way into them.

    One thread at a time, apart from `touch`, which any may call. `clock` gives seconds since
    the epoch.
    """

    def __init__(
        self, accounts: Accounts, uses: Uses, room: Room, clock: Callable[[], float]
    ) -> None:
        self._accounts = accounts
        self._uses = uses
        self._room = room
        self._clock = clock
        self._touched: dict[SeriesUUID, float] = {}
        self._opened = 0
        self._boot = boot_id()
        self._reserved_bytes = 0
        self.limit_bytes: int | None = None
        """What the cache may get, a share of which may be protected; None if nobody knows."""

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to write down."""
        return not self._touched and self._room.is_empty

    def touch(self, series: SeriesUUID) -> None:
        """Note a use of a series. Never blocks."""
        self._touched[series] = self._clock()
        self._opened += 1  # threads may lose one now and then: it is for a ratio

    @contextmanager
    def transaction(self, *, give_back: bool = False) -> Iterator[tuple[Book, Changes]]:
        """Write down all that is not written yet, and do more in the same transaction.

        With `give_back`, also the room that is free. Raises CacheError, and then nothing has
        been written.
        """
        self._uses.join()
        changes = self._room.take_changes(give_back=give_back)
        touched, self._touched = self._touched, {}
        try:
            with self._accounts.transaction() as book:
                self._write(book, changes, touched)
                yield book, changes
        except BaseException:
            self._room.put_back(changes)
            self._touched = {**touched, **self._touched}
            raise
        self._uses.state_reserved(self._reserved_bytes)
        for series in changes.stored:
            self._uses.let_go(series)

    def reserve(self, book: Book, size_bytes: int) -> None:
        """Reserve in the books; in our own file never less than they say, whenever we die."""
        self._uses.state_reserved(max(size_bytes, self._reserved_bytes))
        book.set_reserved(self._uses.member, size_bytes, self._boot)
        self._reserved_bytes = size_bytes

    def _write(self, book: Book, changes: Changes, touched: dict[SeriesUUID, float]) -> None:
        now_s = self._clock()
        for series, (size_bytes, files) in changes.stored.items():
            book.add(series, size_bytes, files, now_s)
        for series, at_s in list(touched.items()):
            book.touch(series, at_s)
        opened, self._opened = self._opened, 0
        book.count("opened", opened)
        book.count("stored", sum(max(files, 0) for _, files in changes.stored.values()))
        self.reserve(book, changes.reserved_bytes)
        if touched and self.limit_bytes is not None:
            book.demote(round(self.limit_bytes * PROTECTED_SHARE), now_s)
