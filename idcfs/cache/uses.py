"""What this process uses of a shared cache: counted here, locked and noted for the others."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache.members import Member
from idcfs.cache.series_locks import SeriesLocks
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.model import SeriesUUID

_HOLD_S = 10.0
"""How long to wait for the removal of a series that is wanted: 90,000 files take some
seconds."""

_POLL_S = 0.005


class Uses:
    """The series that this process uses, and how often. Thread-safe. Raises OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._counts: dict[SeriesUUID, int] = {}
        self._lock = threading.Lock()
        self._member = Member(directory / "members")
        try:
            self.locks = SeriesLocks(directory / "holds")
        except OSError:
            self._member.leave()
            raise

    @property
    def member(self) -> str:
        """Names this process in the books."""
        return self._member.name

    def hold(self, series: SeriesUUID) -> None:
        """See `Ledger.hold`."""
        end = time.monotonic() + _HOLD_S
        while not self._try_hold(series):
            if time.monotonic() > end:
                raise CacheError(f"series {series} is being removed from the cache, for too long")
            time.sleep(_POLL_S)

    def hold_on(self, series: SeriesUUID) -> None:
        """Count one use more of a series that should be held already. Never blocks or raises."""
        with self._lock:
            count = self._counts.get(series, 0)
            if not count:
                with suppress(OSError):
                    self.locks.share(series)
            self._counts[series] = count + 1

    def let_go(self, series: SeriesUUID) -> None:
        """See `Ledger.let_go`."""
        with self._lock:
            count = self._counts.get(series, 0) - 1
            if count > 0:
                self._counts[series] = count
            elif count == 0:
                del self._counts[series]
                self.locks.unshare(series)

    def note(self, series: SeriesUUID) -> None:
        """Have a series counted again, should this process die now."""
        with self._lock:
            self._member.note(series, {*self._counts, series})

    def rejoin_if_lost(self) -> None:
        """Start again, with the same uses, if somebody has removed our files. Raises CacheError."""
        if self._member.is_there:
            return
        try:
            with self._lock:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                former, self._member = self._member, Member(self._directory / "members")
                former.close()
                self.locks.reopen(self._directory / "holds")
                for series in self._counts:
                    self.locks.share(series)
                    self._member.note(series, self._counts)
        except OSError as exc:
            raise CacheError(f"cannot keep books in {self._directory}: {exc.strerror}") from exc

    def leave(self) -> None:
        """End in order: nothing of ours needs to be counted again. Never raises."""
        with self._lock:
            self._member.leave()
            self.locks.close()

    def close(self) -> None:
        """End as the death of the process would. Never raises."""
        with self._lock:
            self._member.close()
            self.locks.close()

    def _try_hold(self, series: SeriesUUID) -> bool:
        with self._lock:
            count = self._counts.get(series, 0)
            if not count:
                try:
                    if not self.locks.share(series):
                        return False
                except OSError as exc:
                    raise CacheError(f"cannot lock series {series}: {exc.strerror}") from exc
                # Known to the journal before anything of it can be stored.
                self._member.note(series, {*self._counts, series})
            self._counts[series] = count + 1
            return True
