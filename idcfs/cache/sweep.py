"""Counts and clears out a cache that several hosts share: one process at a time, by a lease.

The longest unused series go first, whole, as their directories' times tell; who uses a
series renews them. Two processes that sweep at once, since one of them stood still and
was taken for dead, remove more than they must, and nothing worse.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache.book import Account
from idcfs.cache.census import (
    Census,
    find_members,
    forget_census,
    occupied_bytes,
    remove_member,
    write_census,
)
from idcfs.cache.eviction import Evicted
from idcfs.cache.inventory import OBJECTS, PARTIAL, remove_series, series_on_disk
from idcfs.cache.lease import Lease
from idcfs.cache.limits import measure_disk
from idcfs.cache.shared_scratch import SHARED
from idcfs.errors import CacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from idcfs.cache.census import Member
    from idcfs.cache.limits import Limits
    from idcfs.cache.pins import Pins
    from idcfs.cache.shared_scratch import SharedScratch
    from idcfs.model import SeriesUUID

logger = logging.getLogger(__name__)

STALE_S = 120.0
"""Who has not shown that he lives for so long is taken for dead, and a series that was not
used for so long may go: a dozen heartbeats, and twice as long as NFS may hold back the time
of a file."""

_SLACK_SHARE = 20
"""A twentieth of the limit is freed beyond what is needed, as each time all files are counted."""


class Sweep:
    """What one process counts and removes. One thread at a time.

    `in_use` tells whether this process has a series open, `now_s` the time by the clock of
    the directory's server.
    """

    def __init__(
        self,
        root: Path,
        *,
        scratch: SharedScratch,
        pins: Pins,
        in_use: Callable[[SeriesUUID], bool],
        now_s: Callable[[], float],
        stale_s: float = STALE_S,
    ) -> None:
        self._root = root
        self._scratch = scratch
        self._pins = pins
        self._in_use = in_use
        self._now_s = now_s
        self._stale_s = stale_s
        self._lease = Lease(root / SHARED / "lease", scratch.process, now_s=now_s, stale_s=stale_s)

    def accounts(self, observe: Callable[[], object] = lambda: None) -> list[Account]:
        """Count what the cache holds of each series, the longest unused first.

        `observe` is called at each.
        """
        found = []
        for series, size_bytes, files in series_on_disk(self._root):
            observe()
            used_s = self._used_s(series)
            found.append(Account(series, size_bytes, files, used_s, used_s, protected=False))
        return sorted(found, key=lambda account: account.last_used_s)

    def held_bytes(self, accounts: list[Account]) -> int:
        """Return what all series occupy, and what is unfinished."""
        return sum(each.bytes for each in accounts) + occupied_bytes(self._root / SHARED)

    def make_room(self, needed_bytes: int, limits: Limits) -> Evicted | None:
        """Count everything, and remove what must go; None if another process is at it.

        Raises CacheError.
        """
        if not self._lease.take():
            return None
        try:
            members = find_members(self._root)
            # What they took and did not write is free; what they wrote is counted.
            dead = [each for each in members if self._is_dead(each)]
            living = [each for each in members if each not in dead]
            accounts = self.accounts(self._lease.renew)
            held_bytes = self.held_bytes(accounts)
            shortage = self._shortage(held_bytes, needed_bytes, living, limits)
            evicted = Evicted()
            if shortage > 0:
                slack = (limits.size_bytes or held_bytes) // _SLACK_SHARE
                self._evict(accounts, shortage + slack, evicted)
            said = {each.name: each.written_bytes for each in living}
            write_census(self._root, Census(held_bytes - evicted.bytes, said), self._scratch)
            for each in dead:
                remove_member(self._root, each.name)
        except OSError as exc:
            raise CacheError(f"cannot count what is in {self._root}: {exc.strerror}") from exc
        finally:
            self._lease.give_up()
        return evicted

    def remove(self, series: Iterable[SeriesUUID], *, spare_pinned: bool) -> Evicted:
        """Remove these series, unless this process uses them: others fetch them anew."""
        evicted = Evicted()
        sizes = {account.series: account.bytes for account in self.accounts()}
        for each in series:
            if each in sizes:
                self._remove(each, sizes[each], evicted, spare_pinned=spare_pinned)
        forget_census(self._root)
        return evicted

    def _shortage(
        self, held_bytes: int, needed_bytes: int, members: list[Member], limits: Limits
    ) -> int:
        shortage = needed_bytes + limits.min_free_bytes - measure_disk(self._root).free_bytes
        if limits.size_bytes is not None:
            unwritten = sum(each.taken_bytes - each.written_bytes for each in members)
            excess = held_bytes + unwritten + needed_bytes - limits.size_bytes
            shortage = max(shortage, excess)
        return shortage

    def _evict(self, accounts: list[Account], wanted_bytes: int, evicted: Evicted) -> None:
        """Remove the longest unused series that nobody uses. The lease is held."""
        for account in accounts:
            if evicted.bytes >= wanted_bytes or not self._lease.renew():
                return
            # Looked at again: while thousands are removed it may have come into use.
            if self._now_s() - self._used_s(account.series) < self._stale_s:
                evicted.in_use += 1
            else:
                self._remove(account.series, account.bytes, evicted, spare_pinned=True)

    def _remove(
        self, series: SeriesUUID, size_bytes: int, evicted: Evicted, *, spare_pinned: bool
    ) -> None:
        if self._in_use(series):
            evicted.in_use += 1
            return
        if spare_pinned and series in self._pins:
            evicted.pinned += 1
            return
        try:
            remove_series(self._root, series)
        except CacheError as exc:
            logger.warning("%s", exc)
            evicted.failures.append(str(exc))
        else:
            evicted.series += 1
            evicted.bytes += size_bytes

    def _is_dead(self, member: Member) -> bool:
        return member.has_left or self._now_s() - member.alive_s >= self._stale_s

    def _used_s(self, series: SeriesUUID) -> float:
        times = [0.0]
        for tree in (OBJECTS, PARTIAL):
            with suppress(OSError):
                times.append((self._root / tree / series[:2] / series).stat().st_mtime)
        return max(times)
