"""Series that a user wants kept: an empty file each, so that they outlive the books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from idcfs.cache.inventory import is_plain
from idcfs.errors import CacheError
from idcfs.model import SeriesUUID

if TYPE_CHECKING:
    from pathlib import Path


class Pins:
    """The pinned series of one cache directory, the same for all processes."""

    def __init__(self, root: Path) -> None:
        self._directory = root / "pins"

    def add(self, series: SeriesUUID) -> bool:
        """Pin a series; tell whether it was not pinned before. Raises CacheError."""
        path = self._path(series)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        except OSError as exc:
            raise CacheError(f"cannot pin series {series}: {exc.strerror}") from exc
        return True

    def remove(self, series: SeriesUUID) -> bool:
        """Let a series go like any other; tell whether it was pinned. Raises CacheError."""
        try:
            self._path(series).unlink()
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise CacheError(f"cannot unpin series {series}: {exc.strerror}") from exc
        return True

    def __contains__(self, series: SeriesUUID) -> bool:
        return self._path(series).exists()

    def all(self) -> set[SeriesUUID]:
        """Return all pinned series. Raises CacheError."""
        try:
            return {SeriesUUID(path.name) for path in self._directory.iterdir()}
        except FileNotFoundError:
            return set()
        except OSError as exc:
            raise CacheError(f"cannot read {self._directory}: {exc.strerror}") from exc

    def _path(self, series: SeriesUUID) -> Path:
        if not is_plain(series):
            raise CacheError(f"no series is called {series!r}")
        return self._directory / series
