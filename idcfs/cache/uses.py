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
    """The series that this process uses, and how often. Thread-safe.

    It joins the others at the first use. Where that cannot be, in a directory that
    cannot be written, uses are counted only: nothing can be stored there either, and a
    file that is removed while it is open stays readable.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._counts: dict[SeriesUUID, int] = {}
        self._lock = threading.Lock()
        self._member: Member | None = None
        self._closed = False
        self.locks = SeriesLocks()

    @property
    def member(self) -> str:
        """Names this process in the books. Only after `join`."""
        assert self._member is not None
        return self._member.name

    def join(self) -> None:
        """Be known to the others, with all uses; anew if our files were removed.

        Raises CacheError.
        """
        try:
            with self._lock:
                if self._closed:
                    raise CacheError("the cache has been closed")
                self._join()
        except OSError as exc:
            raise CacheError(f"cannot keep books in {self._directory}: {exc.strerror}") from exc

    def hold(self, series: SeriesUUID, *, waits: bool = True) -> None:
        """See `Ledger.hold`."""
        end = time.monotonic() + _HOLD_S
        while not self._try_hold(series):
            if not waits:
                raise CacheError(f"series {series} is being removed from the cache")
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
            self._note(series)

    def state_reserved(self, size_bytes: int) -> None:
        """Have books that are made anew know what this process has reserved."""
        with self._lock:
            if self._member is not None:
                self._member.reserve(size_bytes)

    def leave(self) -> None:
        """End in order: nothing of ours needs to be counted again. Never raises."""
        with self._lock:
            if self._member is not None:
                self._member.leave()
        self.close()

    def close(self) -> None:
        """End as the death of the process would. Never raises."""
        with self._lock:
            self._closed = True
            if self._member is not None:
                self._member.close()
            self.locks.close()

    def _try_hold(self, series: SeriesUUID) -> bool:
        with self._lock:
            count = self._counts.get(series, 0)
            if not count:
                with suppress(OSError):
                    if self._member is None and not self._closed:
                        self._join()
                    if not self.locks.share(series):
                        return False
                # Known to the journal before anything of it can be stored.
                self._note(series)
            self._counts[series] = count + 1
            return True

    def _note(self, series: SeriesUUID) -> None:
        if self._member is not None:
            self._member.note(series, {*self._counts, series})

    def _join(self) -> None:
        if self._member is not None:
            if self._member.is_there:
                return
            self._member.close()
            self._member = None
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.locks.open(self._directory / "holds")
        self._member = Member(self._directory / "members")
        for series in self._counts:
            self.locks.share(series)
            self._note(series)
