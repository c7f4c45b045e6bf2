"""The `Ledger` of a cache directory that several hosts share, without locks or a database.

Room is taken in pieces, as from shared books, but each process writes into a file of its
own what it has taken. Together with the last count of all files (`idcfs.cache.census`) that
tells how full the cache is. Who finds it full counts it, and makes room (`idcfs.cache.sweep`).
"""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache.book import Account, Hits, Totals
from idcfs.cache.census import find_members, forget_census, occupied_bytes, read_census
from idcfs.cache.eviction import Evicted
from idcfs.cache.later import Later
from idcfs.cache.limits import Limits, agree, measure_disk, measure_disk_of, resolve_limits
from idcfs.cache.pins import Pins
from idcfs.cache.recount import Drift, want_count
from idcfs.cache.room import needed_bytes, piece_bytes
from idcfs.cache.shared_room import SharedRoom
from idcfs.cache.shared_scratch import ALIVE
from idcfs.cache.shared_uses import SharedUses
from idcfs.cache.sweep import STALE_S, Sweep
from idcfs.errors import CacheError
from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from idcfs.cache.ledger import Reservation
    from idcfs.cache.shared_scratch import SharedScratch

HEARTBEAT_S = 10.0

_PATIENCE_S = 30.0
"""How long to wait for room while another process makes some."""

_VAIN_S = 30.0
"""How long nothing is stored once no room could be made: each try counts all files."""

_POLL_S = 0.2

_PARTS_SHARE = 8
"""What part of the limit the pieces of closed objects may take, for each process: nobody else
can remove them."""


class SharedLedger:
    """See the protocols `Ledger` and `Books`, and the module, for the contract.

    `scratch` is this process's place. `cache_size`, `min_free` and `keep_limits` are as for
    `DiskLedger`. Without `heartbeat_s` nothing is written by itself: others then take this
    process for dead after `stale_s`. `clock` gives seconds since the epoch.
    """

    def __init__(
        self,
        root: Path,
        *,
        scratch: SharedScratch,
        cache_size: str | None = None,
        min_free: str | None = None,
        keep_limits: bool = False,
        heartbeat_s: float | None = HEARTBEAT_S,
        patience_s: float = _PATIENCE_S,
        stale_s: float = STALE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._scratch = scratch
        self._wanted = (cache_size, min_free)
        self._keep_limits = keep_limits
        self._patience_s = patience_s
        self._clock = clock
        self._skew_s = 0.0
        self._limits: Limits | None = None
        self.pins = Pins(root)
        self._room = SharedRoom()
        self._wished = 0
        self._uses = SharedUses(root)
        self._stating = threading.Lock()
        """Held from looking to telling, so that nothing older is told later."""
        self._asking = threading.Lock()
        """Held by the one thread of this process that asks for room."""
        self._sweep = Sweep(
            root,
            scratch=scratch,
            pins=self.pins,
            in_use=self._uses.__contains__,
            now_s=self._now_s,
            stale_s=stale_s,
        )
        self._in_vain_until_s = 0.0
        self._heartbeat = Later(self._beat_on, heartbeat_s)
        self._heartbeat.ask()

    def prepare(self) -> None:
        """Keep the limits. There are no books that could be lost."""
        agree(self._root, *self._wanted, keep=self._keep_limits)

    # What happens object by object.

    def reserve(self, size_bytes: int, *, waits: bool = True) -> Reservation:
        """See `Ledger.reserve`."""
        needed = needed_bytes(size_bytes)
        if (reservation := self._room.take(needed)) is not None:
            return reservation
        with self._asking:
            return self._room.take(needed) or self._enlarge(needed, waits=waits)

    def hold(self, series: SeriesUUID, *, waits: bool = True) -> None:
        """Spare the series here, and soon show the others that it is in use."""
        self._uses.hold(series)

    def let_go(self, series: SeriesUUID) -> None:
        """See `Ledger.let_go`."""
        self._uses.let_go(series)

    def touch(self, series: SeriesUUID) -> None:
        """See `Ledger.touch`."""
        self._uses.touch(series)

    def dropped(self, series: SeriesUUID, size_bytes: int, files: int = 0) -> None:
        """Nothing: somebody else may have removed it too, and the next count will tell."""

    # Looking in, and telling.

    def limits(self) -> Limits:
        """See `Books.limits`."""
        if self._limits is None:
            disk = measure_disk_of(self._root)
            census = read_census(self._root)
            held_bytes = census.with_all(find_members(self._root)) if census else 0
            self._limits = resolve_limits(
                disk, held_bytes, *agree(self._root, *self._wanted, keep=self._keep_limits)
            )
        return self._limits

    def totals(self) -> Totals:
        """Count what the cache holds. Blocks for as long as that takes."""
        accounts = self._sweep.accounts()
        files = sum(each.files for each in accounts)
        return Totals(len(accounts), files, self._sweep.held_bytes(accounts), 0)

    def accounts(self) -> list[Account]:
        """Count what the cache holds of each series. Blocks for as long as that takes."""
        return self._sweep.accounts()

    def hits(self) -> Hits:
        """Nobody counts them in this mode."""
        return Hits(0, 0)

    def recount(self) -> Drift:
        """Have the next who needs to know count anew."""
        forget_census(self._root)
        return Drift(0, 0)

    def evict(self, series: Iterable[SeriesUUID], *, spare_pinned: bool = True) -> Evicted:
        """Remove these series, unless this process uses them: others fetch them anew."""
        return self._sweep.remove(series, spare_pinned=spare_pinned)

    def pin(self, series: SeriesUUID) -> bool:
        """See `Books.pin`. What is being removed at this instant is not saved by it."""
        return self.pins.add(series)

    def close(self) -> None:
        """See `Ledger.close`."""
        self._heartbeat.close()
        self._uses.show()

    # Room.

    def _enlarge(self, needed: int, *, waits: bool) -> Reservation:
        limits = self.limits()
        limits.require_possible(needed)
        self._room.give_back()  # the remnant may be what is lacking
        end_s = time.monotonic() + (self._patience_s if waits else 0.0)
        try:
            while (reservation := self._take(needed, limits)) is None:
                if time.monotonic() < self._in_vain_until_s:
                    raise CacheError(Evicted().tell_why(needed, limits))
                evicted = self._sweep.make_room(needed, limits)
                if evicted is None and time.monotonic() < end_s:
                    time.sleep(_POLL_S)  # another process is at it
                elif evicted is None or not (evicted.series or self._fits(needed, limits)):
                    if evicted is not None or waits:
                        self._in_vain_until_s = time.monotonic() + _VAIN_S
                    raise CacheError((evicted or Evicted()).tell_why(needed, limits))
            return reservation
        except OSError as exc:
            raise CacheError(f"cannot examine {self._root}: {exc.strerror}") from exc

    def _take(self, needed: int, limits: Limits) -> Reservation | None:
        """Take a piece of room, or only what is needed, if it can be had."""
        try:
            for wanted in (max(needed, piece_bytes(limits, measure_disk(self._root))), needed):
                self._wished = wanted
                self._state()  # before looking: of two who do so at once, one sees the other
                if self._fits(wanted, limits, said_bytes=wanted):
                    reservation = self._room.enlarge(wanted, needed)
                    want_count(self._root)
                    return reservation
            return None
        finally:
            self._wished = 0
            self._state()

    def _fits(self, more_bytes: int, limits: Limits, *, said_bytes: int = 0) -> bool:
        """Tell whether so much more keeps to the limits, of which we have said so much."""
        if measure_disk(self._root).free_bytes - more_bytes < limits.min_free_bytes:
            return False
        if limits.size_bytes is None:
            return True
        census = read_census(self._root)
        if census is None:
            return False
        held_bytes = census.with_all(find_members(self._root))
        return held_bytes + more_bytes - said_bytes <= limits.size_bytes

    def _state(self) -> None:
        """Tell the others what is taken, and what is wanted. Raises CacheError."""
        with self._stating:
            wished = self._wished  # first: once it has been taken, it is wished no more
            taken, written = self._room.figures()
            try:
                self._scratch.state(taken + wished, written)
                self._skew_s = (self._scratch.path / ALIVE).stat().st_mtime - self._clock()
            except OSError as exc:
                message = f"cannot write to {self._scratch.path}: {exc.strerror}"
                raise CacheError(message) from exc

    def _now_s(self) -> float:
        """Return the time by the server's clock, as our last sign of life told it."""
        return self._clock() + self._skew_s

    # Signs of life.

    def _beat_on(self) -> None:
        self.beat()
        self._heartbeat.ask()

    def beat(self) -> None:
        """Show that this process lives, and what it uses. Blocks; raises CacheError."""
        self._room.give_back_if_idle()
        self._state()
        self._uses.show()
        self._trim_parts()

    def _trim_parts(self) -> None:
        """Remove pieces of objects that are not open, the oldest first, if they are too many."""
        limit = self.limits().size_bytes
        with suppress(OSError):
            excess = occupied_bytes(self._scratch.parts) - (limit or 0) // _PARTS_SHARE
            if limit is None or excess <= 0:
                return
            series = sorted(self._scratch.parts.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in series:
                if excess > 0 and SeriesUUID(path.name) not in self._uses:
                    excess -= occupied_bytes(path)
                    shutil.rmtree(path, ignore_errors=True)
