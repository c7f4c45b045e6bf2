"""What this process uses of a cache that several hosts share: shown by times of directories."""

from __future__ import annotations

import os
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

from idcfs.cache.inventory import OBJECTS, PARTIAL

if TYPE_CHECKING:
    from pathlib import Path

    from idcfs.model import SeriesUUID


class SharedUses:
    """The series that this process has open, and those it has used lately. Thread-safe."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._in_use: Counter[SeriesUUID] = Counter()
        self._touched: set[SeriesUUID] = set()

    def __contains__(self, series: SeriesUUID) -> bool:
        with self._lock:
            return series in self._in_use

    def hold(self, series: SeriesUUID) -> None:
        """Count a use that goes on until `let_go`."""
        with self._lock:
            self._in_use[series] += 1

    def let_go(self, series: SeriesUUID) -> None:
        """Undo one `hold`."""
        with self._lock:
            self._in_use[series] -= 1
            if self._in_use[series] <= 0:
                del self._in_use[series]

    def touch(self, series: SeriesUUID) -> None:
        """Note a use."""
        with self._lock:
            self._touched.add(series)

    def show(self) -> None:
        """Renew the times of the series that were used. Never raises."""
        with self._lock:
            used = self._touched | set(self._in_use)
            self._touched = set()
        for series in used:
            for tree in (OBJECTS, PARTIAL):
                with suppress(OSError, ValueError):
                    os.utime(self._root / tree / series[:2] / series)
