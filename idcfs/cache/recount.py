"""Sets the books right by counting files: one series, what a dead process used, or all."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from idcfs.cache.inventory import OBJECTS, PARTIAL, count_series, is_plain, series_on_disk
from idcfs.cache.members import find_dead, find_reserved
from idcfs.cache.scratch import remove_abandoned

if TYPE_CHECKING:
    from idcfs.cache.book import Book
    from idcfs.cache.members import DeadMember
    from idcfs.cache.series_locks import SeriesLocks
    from idcfs.model import SeriesUUID

logger = logging.getLogger(__name__)

_WANTED = "count"
"""The file that says that the books are not right."""

_PAGE = 8
"""Series that are counted again in one transaction, which others wait for."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far the books were from what is on disk."""

    series: int
    """Series whose figures were wrong."""
    bytes: int
    """On disk, beyond the books; negative if there was less."""


def boot_id() -> str:
    """Return what names this run of the machine; empty if nothing does."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def want_count(root: Path) -> None:
    """Have the books of a cache set right by who next uses them, if there are any.

    By those who store and remove without writing into them. Never raises.
    """
    with suppress(OSError):
        (root / "ledger" / _WANTED).touch(mode=0o600)


class Recount:
    """Counts files of one cache directory. Inside a transaction of the books."""

    def __init__(self, root: Path, locks: SeriesLocks) -> None:
        self._root = root
        self._locks = locks
        self._members = root / "ledger" / "members"
        self._counted_again: SeriesUUID | None = None
        """The last series that was looked at whether it can be counted again."""
        self.is_counting = False
        """Whether everything is being counted, and there is something to count."""

    def count_all(self, book: Book) -> Drift:
        """Count everything. What is in use meanwhile is noted down, to be counted again."""
        try:
            return self._count_all(book)
        finally:
            self.is_counting = False

    def _count_all(self, book: Book) -> Drift:
        started = time.monotonic()
        known = {account.series: account for account in book.accounts()}
        found: set[SeriesUUID] = set()
        wrong, excess = 0, 0
        for series, size_bytes, files in series_on_disk(self._root):
            self.is_counting = True
            found.add(series)
            account = known.get(series)
            if account is None or (account.bytes, account.files) != (size_bytes, files):
                wrong += 1
                excess += size_bytes - (account.bytes if account else 0)
                book.set_count(series, size_bytes, files, self._used_s(series))
        for series in known.keys() - found:
            wrong += 1
            excess -= known[series].bytes
            book.remove([series])
        # At the end: what somebody wrote while we counted is not in the books before the
        # transaction is over, and until then that process keeps the series locked.
        for series in found:
            with self._locks.excluding(series) as unused:
                if not unused:
                    book.want_recount(series, time.time())
        elapsed_s = time.monotonic() - started
        logger.info("counted %d series of the cache in %.1f s", len(found), elapsed_s)
        return Drift(wrong, excess)

    def fill(self, book: Book) -> None:
        """Count everything into empty books, reservations too."""
        for member, reserved_bytes in find_reserved(self._members).items():
            book.set_reserved(member, reserved_bytes, boot_id())
        self.count_all(book)

    def count_again(self, book: Book) -> None:
        """Count some of the series that are to be counted again, if nobody uses them now."""
        page = book.to_recount(_PAGE, self._counted_again)
        for series in page:
            with self._locks.excluding(series) as unused:
                if unused:
                    self._count(book, series)
        # Some may stay in use for long, and the others are not to wait for them.
        self._counted_again = page[-1] if len(page) == _PAGE else None

    def _count_at_once(self, book: Book, series: SeriesUUID) -> None:
        """Count one series, also in use, as there may be what nobody else will tell of.

        Then it holds no more than that and what its users have yet to tell, from room of theirs.
        """
        with self._locks.excluding(series) as unused:
            self._count(book, series)
            if not unused:
                book.want_recount(series, time.time())

    def _count(self, book: Book, series: SeriesUUID) -> None:
        size_bytes, files = count_series(self._root, series)
        book.set_count(series, size_bytes, files, self._used_s(series))

    def find_dead(self) -> list[DeadMember]:
        """Find the processes that died without leaving; see `members.find_dead`."""
        return find_dead(self._members)

    def clear_up(self, book: Book, dead: list[DeadMember]) -> None:
        """Take back what dead processes had reserved, and count what they used."""
        if dead:
            # What they were writing lies there, and nobody has reserved it any more.
            with suppress(OSError):
                remove_abandoned(self._root / "scratch")
        boots, here = book.members(), boot_id()
        # Somebody has removed their files, or after a power cut these may be incomplete.
        lost = boots.keys() - self._present()
        lost |= {each.name for each in dead if boots.get(each.name, here) != here}
        for name in lost | {each.name for each in dead}:
            book.remove_member(name)
        if lost or self._is_count_wanted():
            self.count_all(book)
            return
        for each in dead:
            for series in filter(is_plain, each.series()):
                self._count_at_once(book, series)

    def _is_count_wanted(self) -> bool:
        try:
            (self._root / "ledger" / _WANTED).unlink()
        except OSError:
            return False
        return True

    def _present(self) -> set[str]:
        with suppress(FileNotFoundError):
            return {path.name for path in self._members.iterdir()}
        return set()

    def _used_s(self, series: SeriesUUID) -> float:
        """Return when a series was last used, as far as its directories tell."""
        times = [0.0]
        for tree in (OBJECTS, PARTIAL):
            with suppress(OSError):
                status = (self._root / tree / series[:2] / series).stat()
                times.append(max(status.st_mtime, status.st_atime))
        return max(times)
