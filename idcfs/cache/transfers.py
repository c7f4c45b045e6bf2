"""Who writes to one object now: this process's writers, and the claims that they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.cache.scratch import remove_quietly
from idcfs.cache.units import unit_bytes
from idcfs.model import Extent

if TYPE_CHECKING:
    import threading

    from idcfs.cache.claims import Claims
    from idcfs.cache.writers import UnitWriter
    from idcfs.model import ObjectRef


class Transfers:
    """The writers of one object. Any thread; `lock` guards what the object's threads share."""

    def __init__(self, ref: ObjectRef, claims: Claims, lock: threading.RLock) -> None:
        self._key = ref.key
        self._unit_bytes = unit_bytes(ref.instance.size_bytes)
        self._claims = claims
        self._lock = lock
        self._writers: list[UnitWriter] = []

    def __contains__(self, writer: UnitWriter) -> bool:
        return writer in self._writers

    def claim(self, run: Extent) -> int:
        """Claim the first units of `run`; return how many. Ends transfers that were given up."""
        with self._lock:
            abandoned = [
                writer
                for writer in self._writers
                if overlap(writer.extent, run) and writer.given_up()
            ]
        for writer in abandoned:
            writer.abort()
        first, count = run.offset // self._unit_bytes, -(-run.length // self._unit_bytes)
        return self._claims.claim(self._key, first, count)

    def unclaim(self, offset: int, count: int) -> None:
        """Give up what was claimed from an offset on. Never raises."""
        self._claims.release(self._key, offset // self._unit_bytes, count)

    def claimed(self, run: Extent, count: int) -> Extent:
        """Return what so many units of `run` are; at least one."""
        return Extent(run.offset, min(run.length, max(count, 1) * self._unit_bytes))

    def add(self, writer: UnitWriter) -> None:
        """Expect something of a writer. The lock is held."""
        self._writers.append(writer)

    def forget(self, writer: UnitWriter) -> None:
        """Expect nothing of a writer any more. Never raises."""
        with self._lock:
            if writer in self._writers:
                self._writers.remove(writer)
                self._let_go_of(writer)

    def forget_all(self) -> None:
        """Expect nothing of anyone any more. The lock is held."""
        writers, self._writers = self._writers, []
        for writer in writers:
            self._let_go_of(writer)

    def _let_go_of(self, writer: UnitWriter) -> None:
        writer.reservation.release()
        self.unclaim(writer.extent.offset, writer.claimed_units)
        if writer.own_path is not None and not writer.is_moved:
            remove_quietly(writer.own_path)


def overlap(one: Extent, other: Extent) -> bool:
    """Tell whether two extents have a byte in common."""
    return one.offset < other.end and other.offset < one.end
